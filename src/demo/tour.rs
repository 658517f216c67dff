//! The tour through the sample world: the real commands, driven through `app`, with a word before each.

use std::path::{Path, PathBuf};

use super::{DemoError, write_world};
use crate::app::{self, BuildForm, BuildOptions, Command, Global, Invocation, Mode, Output, Surroundings, SyncOptions};
use crate::error::{Exit, Failure};
use crate::model::text::printable;

/// What a demo was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Where the sample world is written; relative to the working directory. `None`: a temporary directory.
    pub directory: Option<PathBuf>,
    /// Keep the temporary directory afterwards. A directory that was named is kept in any case.
    pub keep: bool,
}

/// Runs the demo: writes the sample world, mirrors it and builds on the mirrors, each twice to show that nothing is left to do.
pub fn run(options: &DemoOptions, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let place = Place::new(options, surroundings)?;
    let directory = place.path();
    let layouts = app::layouts();
    let mut configuration = None;
    let written = app::run_async(surroundings.deadline, |cancel| {
        let (configuration, layouts) = (&mut configuration, &layouts);
        async move {
            tokio::select! {
                written = write_world(&**layouts, directory) => {
                    *configuration = Some(written.map_err(failure)?);
                    Ok(Exit::Done)
                }
                () = cancel.cancelled() => Ok(Exit::Interrupted),
            }
        }
    })?;
    let Some(configuration) = configuration else { return Ok(written) };
    let say = |text: &str| surroundings.print(text);
    say(&format!(
        "A sample world was written to {}: three upstream repositories with images for\nseveral platforms below upstream/, templates of base images below images/, and an imglife.yaml.\n\n\
         $ imglife sync\n",
        shown(directory)
    ))?;
    let command = |command| {
        let invocation = Invocation { command, global: Global { configuration: Some(configuration.clone()) } };
        app::run(invocation, surroundings)
    };
    let sync = || {
        command(Command::Sync(SyncOptions {
            mode: Mode::Apply,
            only: Vec::new(),
            shard: None,
            verify: false,
            output: Output::Text,
            report_junit: None,
            report_metrics: None,
        }))
    };
    let build = || {
        command(Command::Build(BuildOptions {
            mode: Mode::Apply,
            only: Vec::new(),
            shard: None,
            force: false,
            form: BuildForm::Report(Output::Text),
            report_junit: None,
        }))
    };
    let first = sync()?;
    if first != Exit::Done {
        return Ok(first);
    }
    say(
        "\nThe images are there now, with the digests they have upstream where all platforms are kept. A second run has nothing left to do:\n\n$ imglife sync\n",
    )?;
    let second = sync()?;
    if second != Exit::Done {
        return Ok(second);
    }
    say(
        "\nOn the mirrors, the organisation's base images are built. These templates run nothing, so no engine and no daemon is needed:\n\n$ imglife build\n",
    )?;
    let third = build()?;
    if third != Exit::Done {
        return Ok(third);
    }
    say("\nA tag that is published is never overwritten, so here too a second run has nothing to do:\n\n$ imglife build\n")?;
    let fourth = build()?;
    say(&next_steps(place.keep(), surroundings))?;
    Ok(fourth)
}

fn next_steps(kept: Option<PathBuf>, surroundings: &Surroundings) -> String {
    match kept {
        Some(directory) => {
            let directory = directory.strip_prefix(&surroundings.process.directory).map_or(directory.clone(), Path::to_owned);
            format!(
                "\nWhat to look at next:\n  \
                 cd {}\n  \
                 less imglife.yaml              what is mirrored, and why\n  \
                 imglife sync --list            every tag that is selected, and how many each rule left out\n  \
                 imglife build --dry-run        the base images, and what they would be made of\n  \
                 less images/alpine/Dockerfile.tmpl\n  \
                 skopeo inspect oci:bases/alpine:latest   what a base says of itself; every OCI tool reads these directories\n",
                shown(&directory)
            )
        }
        None => "\nThe world was removed again. `imglife demo world` writes it to ./world and leaves it there to look around.\n".to_owned(),
    }
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn failure(error: DemoError) -> Failure {
    match error {
        DemoError::Occupied { .. } => Failure::usage(error).hint("name another directory, or an empty one"),
        _ => Failure::failed(error),
    }
}

/// Where the world is.
enum Place {
    Named(PathBuf),
    Temporary { directory: tempfile::TempDir, keep: bool },
}

impl Place {
    fn new(options: &DemoOptions, surroundings: &Surroundings) -> Result<Place, Failure> {
        let cannot = |path: &Path, source| Failure::failed(DemoError::Write { path: path.to_owned(), source });
        let process = &surroundings.process;
        match &options.directory {
            Some(directory) => {
                let directory = process.directory.join(directory);
                std::fs::create_dir_all(&directory).map_err(|error| cannot(&directory, error))?;
                Ok(Place::Named(directory))
            }
            None => {
                let base = process.directory.join(process.variables.get_filled("TMPDIR").unwrap_or("/tmp"));
                let directory = tempfile::Builder::new().prefix("imglife-demo-").tempdir_in(&base).map_err(|error| cannot(&base, error))?;
                Ok(Place::Temporary { directory, keep: options.keep })
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Place::Named(path) => path,
            Place::Temporary { directory, .. } => directory.path(),
        }
    }

    /// Removes what is not to be kept, and returns where the rest is.
    fn keep(self) -> Option<PathBuf> {
        match self {
            Place::Named(path) => Some(path),
            Place::Temporary { directory, keep: true } => Some(directory.keep()),
            Place::Temporary { keep: false, .. } => None,
        }
    }
}
