//! The `neurohorizon` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    neurohorizon::cli::main()
}
