//! The program: passes the arguments to `cli` and exits with its exit code.

use std::process::ExitCode;

use imglife::cli;
use imglife::process::Process;

fn main() -> ExitCode {
    let exit = cli::main(std::env::args_os(), &Process::current());
    ExitCode::from(exit.code())
}
