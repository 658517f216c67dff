//! The program: the process it runs in, its arguments, its exit code.

use std::process::ExitCode;

use imglife::process::Process;

fn main() -> ExitCode {
    imglife::run(std::env::args_os(), &Process::current())
}
