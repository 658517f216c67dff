//! Stands where committing will be.
use std::path::PathBuf;

use crate::app::{Global, Surroundings};
use crate::error::{Exit, Failure};

pub(super) struct CommitPushOptions {
    pub message: String,
    pub paths: Vec<PathBuf>,
    pub branch: Option<String>,
    pub remote: Option<String>,
    pub author: Option<String>,
    pub sign_off: bool,
    pub skip_ci: bool,
    pub merge_request: bool,
}

pub(super) fn run(options: &CommitPushOptions, _: &Global, _: &Surroundings) -> Result<Exit, Failure> {
    let CommitPushOptions { message, paths, .. } = options;
    let _ = (&options.branch, &options.remote, &options.author, options.sign_off, options.skip_ci, options.merge_request);
    Err(Failure::failed(format!("cannot commit yet: {message} {paths:?}")))
}
