//! Runs the whole suite: what it starts is installed first, and one PostgreSQL serves all its tests.

use std::process::Command;

use anyhow::Result;
use xtask::{packages, postgres};

pub fn run(arguments: &[String]) -> Result<bool> {
    packages::ensure()?;
    let server = postgres::Server::start()?;
    let has_nextest =
        Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    let runner: &[&str] = if has_nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    let status =
        Command::new("cargo").args(runner).args(arguments).env("KEYWARD_TEST_POSTGRES", server.url()).status()?;
    Ok(status.success())
}
