//! The records of a run.

use std::sync::Arc;

use super::Mode;
use crate::cache::Cache;
use crate::config::{Config, Provider};
use crate::error::Failure;
use crate::packages::directory::DirectoryFiles;
use crate::packages::{PackageFiles, Prefix, ReadOnlyFiles, Records};
use crate::process::Process;

/// Returns the records where the configuration says they live. In a mode that changes nothing, every write is refused.
pub(super) fn records(config: &Config, process: &Process, mode: Mode) -> Result<Records, Failure> {
    let registry = config.registry.as_ref().ok_or_else(|| Failure::usage("there is no `registry`"))?;
    let Provider::File { directory } = &registry.provider else { return Err(Failure::usage("this provider is not there yet")) };
    let files: Arc<dyn PackageFiles> = Arc::new(DirectoryFiles::new(directory.clone()));
    let files = if mode == Mode::Apply { files } else { Arc::new(ReadOnlyFiles::new(files)) };
    let prefix: Prefix = registry.prefix.as_deref().map_or(Ok(Prefix::none()), str::parse).map_err(Failure::usage)?;
    Ok(Records::new(files, prefix, Cache::of_user(&process.variables, mode == Mode::Apply), process.clock.clone()))
}
