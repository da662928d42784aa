//! Arguments to one command to one exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    inspectd::cli::main()
}
