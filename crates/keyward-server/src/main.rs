//! The binary `keyward`: reads the command line and runs one command.

fn main() -> std::process::ExitCode {
    keyward_server::cli::main()
}
