//! `keyward serve`: opens the platform, says what to do next, and serves until it is told to stop.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use clap::Args;
use keyward::Keyward;
use keyward::config::Settings;
use keyward::context::Context;
use keyward_core::time::Clock;
use tracing_subscriber::EnvFilter;

use super::SettingFlags;
use crate::app::App;
use crate::serve::{Listeners, serve};

#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingFlags,
    /// Address and port to listen on.
    #[arg(long, env = "KEYWARD_LISTEN")]
    listen: Option<String>,
    /// Redis through which nodes share limits, e.g. redis://localhost:6379.
    #[arg(long)]
    redis_url: Option<String>,
}

impl ServeArgs {
    /// The settings that a node would run with.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let mut layers = self.settings.layers()?;
        if let Some(listen) = &self.listen {
            layers.flag("server.listen", listen.as_str());
        }
        if let Some(url) = &self.redis_url {
            layers.flag("redis.url", url.as_str());
        }
        Ok(layers.resolve()?)
    }
}

pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let (settings, flags) = (args.settings()?, args.settings.again());
    start_log(&settings)?;
    let listeners = Listeners::bind(&settings.server).await?;
    let app = Arc::new(App::new(Keyward::open(settings, Clock::System).await?)?);
    let address = listeners.main.local_addr()?;
    tracing::info!(%address, database = app.keyward.database_kind(), "listening");
    let scheme = if listeners.tls.is_some() { "https" } else { "http" };
    tell_next_steps(&app, &format!("{scheme}://{address}"), &flags).await?;
    serve(app, listeners, stop_signal()).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Lines for people on a terminal, JSON lines for machines, to standard error.
fn start_log(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("KEYWARD_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let terminal = std::io::stderr().is_terminal();
    let people = is_for_people(settings, terminal)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if people {
        log.with_target(false).with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).init();
    } else {
        log.json().flatten_event(true).init();
    }
    Ok(())
}

/// Whether log lines are for people rather than for machines.
pub fn is_for_people(settings: &Settings, terminal: bool) -> anyhow::Result<bool> {
    Ok(match settings.server.log_format.as_str() {
        "text" => true,
        "json" => false,
        "auto" => terminal,
        other => anyhow::bail!("server.log_format is {other:?}; it must be auto, json or text"),
    })
}

/// Says what a person does next: set up, with the `flags` that lead to the same database, or where to look. A closed standard output
/// does not end the server.
async fn tell_next_steps(app: &App, address: &str, flags: &str) -> anyhow::Result<()> {
    let public = if app.public_url.is_empty() { address } else { &app.public_url };
    let text = if app.keyward.setup.is_done().await? {
        format!("\nKeyward is running at {public}\n  reference   {public}/docs\n")
    } else {
        let token = app.keyward.setup.new_token(&Context::system("serve")).await?;
        format!(
            "\nKeyward is running at {public} and waits for its set-up. Do one of these:\n\
             \n  in a browser   {public}/setup?token={}\n                 (one use, 15 minutes)\n\
             \n  in a terminal  keyward setup --email you@example.com --organization Acme{flags}\n\
             \nThen verify your first key:\n\
             \n  curl {public}/v1/api-keys/verify -H \"Authorization: Bearer $SERVICE_KEY\" \\\n       \
             -H 'Content-Type: application/json' -d \"{{\\\"key\\\":\\\"$SERVICE_KEY\\\"}}\"\n",
            token.expose()
        )
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

/// SIGINT or SIGTERM.
async fn stop_signal() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                () = interrupt => {}
                _ = terminate.recv() => {}
            },
            Err(_) => interrupt.await,
        }
    }
    #[cfg(not(unix))]
    interrupt.await;
}
