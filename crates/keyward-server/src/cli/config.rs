//! `keyward config`: what is set, where it came from, and whether it holds.

use clap::Subcommand;
use keyward::config::Settings;
use serde_json::json;

use super::serve::is_for_people;
use super::{SettingFlags, output};
use crate::app::Front;
use crate::tls::Tls;

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Show every setting; secrets are hidden.
    #[command(after_help = "Example: keyward config show --origin")]
    Show {
        #[command(flatten)]
        settings: SettingFlags,
        /// Tell where each value comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Check the settings and say nothing when they hold.
    #[command(after_help = "Example: keyward config check --config /etc/keyward.toml")]
    Check {
        #[command(flatten)]
        settings: SettingFlags,
    },
}

/// Whether the settings hold, as far as they tell by themselves; what they name is not looked at.
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    is_for_people(settings, false)?;
    Front::read(settings)?;
    keyward::oidc::check(settings)?;
    keyward::keys::peppers::check(&settings.keys.peppers)?;
    Ok(())
}

pub fn run(command: ConfigCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { settings } => {
            let settings = settings.settings()?;
            Tls::read(&settings.server)?;
            check(&settings)
        }
        ConfigCommand::Show { settings, origin } => {
            let described = settings.layers()?.describe();
            if json {
                let rows = described.iter().map(|(setting, value, origin)| {
                    json!({ "setting": setting, "value": value, "origin": origin.to_string() })
                });
                output::line(format_args!("{:#}", serde_json::Value::from_iter(rows)));
                return Ok(());
            }
            let mut table = output::table();
            for (setting, value, from) in described {
                let from = if origin { from.to_string() } else { String::new() };
                table.add_row([setting, value, from]);
            }
            output::line(format_args!("{table}"));
            Ok(())
        }
    }
}
