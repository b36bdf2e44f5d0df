//! The binary `keyward`: reads the command line and runs one command.

mod memory;

fn main() -> std::process::ExitCode {
    memory::keep_freed();
    keyward_server::cli::main()
}
