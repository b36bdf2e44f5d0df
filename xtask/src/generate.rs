//! Writes what is generated from the code: the OpenAPI document.

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

const DOCUMENT: &str = "openapi.json";

/// Writes the document.
pub fn write() -> Result<ExitCode> {
    fs::write(DOCUMENT, printed()?).context(DOCUMENT)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails when the file is not what the code would write.
pub fn check() -> Result<ExitCode> {
    if fs::read(DOCUMENT).ok() == Some(printed()?) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{DOCUMENT} is not what the code says: run make gen");
    Ok(ExitCode::FAILURE)
}

fn printed() -> Result<Vec<u8>> {
    let output = Command::new("cargo")
        .args(["run", "--quiet", "-p", "keyward-server", "--bin", "keyward", "--", "openapi"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo run")?;
    ensure!(output.status.success(), "keyward openapi failed");
    Ok(output.stdout)
}
