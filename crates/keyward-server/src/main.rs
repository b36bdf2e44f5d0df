//! The binary `keyward`: reads the command line and runs one command.

use mimalloc::MiMalloc;

/// Its memory lies in large pages (`docs/decisions/0017`).
#[global_allocator]
static MEMORY: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    keyward_server::cli::main()
}
