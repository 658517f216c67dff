//! imglife keeps an organisation's container images alive. See `docs/ARCHITECTURE.md` for who may
//! import whom.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod app;
pub mod cache;
pub mod ci;
pub mod cli;
pub mod command;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod dockerfile;
pub mod engines;
pub mod eol;
pub mod error;
pub mod files;
pub mod forge;
pub mod git;
pub mod hooks;
pub mod http;
pub mod model;
pub mod notify;
pub mod packages;
pub mod probe;
pub mod process;
pub mod progress;
pub mod registry;
pub mod report;
pub mod steps;
pub mod template;
pub mod transfer;

/// Runs the program with `arguments`, the first of which is its own name, and returns the code that
/// the process ends with.
pub fn run(arguments: impl IntoIterator<Item = OsString>, process: &process::Process) -> ExitCode {
    ExitCode::from(cli::main(arguments, process).code())
}
