//! `cargo xtask`: run the suite, keep the house rules, generate what is generated.

mod generate;
mod suite;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "usage: cargo xtask <command>
  test [-- arguments]  run the whole suite, with what it needs installed and started
  tidy                 check the house rules
  gen [--check]        write openapi.json, or check that it is up to date";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = enter_workspace().and_then(|()| match arguments.as_slice() {
        ["test", "--", rest @ ..] | ["test", rest @ ..] => suite::run(rest),
        ["tidy"] => tidy::run(),
        ["gen"] => generate::write(),
        ["gen", "--check"] => generate::check(),
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    });
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// Every path of the chores is relative to the root of the workspace.
fn enter_workspace() -> Result<()> {
    let package = std::env::var("CARGO_MANIFEST_DIR").context("start the chores with cargo xtask")?;
    std::env::set_current_dir(Path::new(&package).join("..")).context("the workspace")
}
