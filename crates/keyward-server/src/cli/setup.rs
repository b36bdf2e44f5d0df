//! `keyward setup`: the first organization, owner and service key, on the database directly.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use keyward::Keyward;
use keyward::accounts::setup::SetupRequest;
use keyward::context::Context;
use keyward_core::secret::Secret;
use keyward_core::time::Clock;
use serde_json::json;

use super::{SettingFlags, output};

#[derive(Args)]
pub struct SetupArgs {
    #[command(flatten)]
    settings: SettingFlags,
    /// E-mail address of the owner, and of the organization.
    #[arg(long)]
    email: String,
    /// Name of the first organization.
    #[arg(long)]
    organization: String,
    /// A file whose first line is the owner's password (15 characters or more).
    #[arg(long)]
    password_file: Option<PathBuf>,
}

/// Prints the service key once, as JSON: the same for people and machines, so that it can be piped on.
pub async fn run(args: SetupArgs, _json: bool) -> anyhow::Result<()> {
    let password = args.password_file.map(|path| {
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        anyhow::Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
    });
    let request = SetupRequest { email: args.email, organization: args.organization, password: password.transpose()? };
    let keyward = Keyward::open(args.settings.settings()?, Clock::System).await?;
    let context = Context::system("command line");
    let issued = keyward
        .keys
        .set_up(&keyward.setup, &context, &request, None)
        .await
        .map_err(|error| anyhow::anyhow!(error.detail))?;
    let told = json!({
        "organization_id": issued.key.organization_id,
        "user_id": issued.key.owner_id,
        "service_key": issued.secret.expose(),
    });
    output::line(format_args!("{told:#}"));
    keyward.close().await;
    Ok(())
}
