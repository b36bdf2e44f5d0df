//! Writes what is generated from the code: the OpenAPI document.

use std::process::Command;

use anyhow::{Result, bail};

const DOCUMENT: &str = "openapi.json";

pub fn run(check: bool) -> Result<bool> {
    let printed = Command::new("cargo")
        .args(["run", "-q", "-p", "keyward-server", "--bin", "keyward", "--", "openapi"])
        .output()?;
    if !printed.status.success() {
        bail!("keyward openapi failed: {}", String::from_utf8_lossy(&printed.stderr));
    }
    if !check {
        std::fs::write(DOCUMENT, printed.stdout)?;
        return Ok(true);
    }
    let current = std::fs::read(DOCUMENT)? == printed.stdout;
    if !current {
        eprintln!("{DOCUMENT} is not up to date: run make gen");
    }
    Ok(current)
}
