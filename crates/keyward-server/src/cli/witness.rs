//! `keyward witness`: signs the checkpoints of other instances as long as their audit logs only grow.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use keyward_core::note::NoteKey;
use keyward_core::time::Clock;

use crate::witness::Witness;

#[derive(Args)]
pub struct WitnessArgs {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Folder of the witness's key and memory.
    #[arg(long, default_value = "./keyward-witness")]
    folder: PathBuf,
    /// The witness's name, e.g. witness.example.com.
    #[arg(long, default_value = "keyward-witness")]
    name: String,
    /// The public key of a log, as /v1/audit-log/checkpoint tells it; once for each log.
    #[arg(long = "log", required = true)]
    logs: Vec<String>,
}

pub async fn run(args: WitnessArgs) -> Result<()> {
    let read = |text: &String| NoteKey::parse(text).with_context(|| format!("{text} is not the public key of a log"));
    let logs = args.logs.iter().map(read).collect::<Result<Vec<_>>>()?;
    let witness = Witness::open(&args.folder, &args.name, logs, Clock::System);
    let witness = Arc::new(witness.with_context(|| args.folder.display().to_string())?);
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    eprintln!("Witness on http://{address}. In the settings of the instance:");
    eprintln!("[audit]\nwitnesses = [\"{} http://{address}\"]", witness.key.text());
    axum::serve(listener, witness.router()).await?;
    Ok(())
}
