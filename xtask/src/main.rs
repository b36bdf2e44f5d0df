//! `cargo xtask`: run the suite, keep the house rules, generate what is generated.

mod generate;
mod suite;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>
  test [arguments]  run the whole suite, with what it needs installed and started
  tidy              check the house rules
  gen [--check]     write openapi.json, or check that it is up to date";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "test" => suite::run(&rest),
        "tidy" => tidy::run(),
        "gen" => generate::run(rest.iter().any(|argument| argument == "--check")),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
