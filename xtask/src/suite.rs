//! Runs the whole suite: what it starts is installed first, and one PostgreSQL serves all its tests.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use xtask::{packages, postgres};

/// `arguments` go to the runner as they are: cargo-nextest where it is installed, else `cargo test`. Answers with the
/// runner's exit code.
pub fn run(arguments: &[&str]) -> Result<ExitCode> {
    packages::ensure()?;
    let server = postgres::Server::start()?;
    let cargo = |subcommand: &[&str]| -> Result<u8> {
        let mut command = Command::new("cargo");
        command.args(subcommand).args(arguments).env("KEYWARD_TEST_POSTGRES", server.url());
        let code = command.status().context("cargo")?.code();
        Ok(code.and_then(|code| code.try_into().ok()).unwrap_or(1))
    };
    if !has_nextest() {
        return Ok(cargo(&["test", "--workspace"])?.into());
    }
    let tests = cargo(&["nextest", "run", "--workspace"])?;
    if tests != 0 || !arguments.is_empty() {
        return Ok(tests.into());
    }
    // cargo-nextest leaves out the examples in the documentation.
    Ok(cargo(&["test", "--workspace", "--doc", "--quiet"])?.into())
}

fn has_nextest() -> bool {
    let mut version = Command::new("cargo");
    version.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
