//! Commands that the demo runs, and the process that they run in.

use std::path::{Path, PathBuf};

use super::error::DemoError;
use crate::app::{
    BuildForm, BuildOptions, CommandOptions, Mode, OutputForm, StatusForm, StatusOptions,
    SyncOptions,
};
use crate::error::Failure;
use crate::model::env;
use crate::model::{ImageReference, Repository, Tag, Variables};
use crate::process::Process;

pub(super) fn sync() -> CommandOptions {
    CommandOptions::Sync(SyncOptions {
        mode: Mode::Apply,
        only: Vec::new(),
        shard: None,
        verify: false,
        fail_on_drift: false,
        output: OutputForm::Text,
        report_junit: None,
        report_metrics: None,
    })
}

pub(super) fn build() -> CommandOptions {
    CommandOptions::Build(BuildOptions {
        mode: Mode::Apply,
        only: Vec::new(),
        shard: None,
        force: false,
        form: BuildForm::Report(OutputForm::Text),
        report_junit: None,
        own_builder: None,
    })
}

pub(super) fn status(publish: bool) -> CommandOptions {
    CommandOptions::Status(StatusOptions {
        file: Some(PathBuf::from("README.md")),
        overwrite: false,
        form: StatusForm::Markdown,
        offline: false,
        publish,
        fail_on: None,
        report_junit: None,
        report_metrics: None,
    })
}

/// Returns the reference of a sample image in the directory `below` of the world.
pub(super) fn image(
    world: &Path,
    below: &str,
    name: &str,
    tag: &str,
) -> Result<ImageReference, Failure> {
    let tag: Tag = tag
        .parse()
        .map_err(|error| Failure::failed(DemoError::Name(error)))?;
    Ok(ImageReference::tagged(
        Repository::Layout {
            directory: world.join(below).join(name),
        },
        tag,
    ))
}

/// Returns `process` without the variables of a CI server and of the user's configuration, because
/// the sample world does not belong to the project in whose job the demo may run.
pub(super) fn isolated(process: &Process) -> Process {
    let kept = [env::HOME, env::TMPDIR, env::XDG_CACHE_HOME];
    let variables: Variables = kept
        .iter()
        .filter_map(|name| Some((*name, process.variables.get_filled(name)?)))
        .collect();
    Process {
        variables,
        ..process.clone()
    }
}
