//! The latency regression suite of the runtime; see [`rt_tests::latency`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rt_tests::latency::cli::main()
}
