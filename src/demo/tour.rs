//! The tour through the sample world: the real commands, driven through `app`, with a word before
//! each.

use std::path::{Path, PathBuf};

use super::history::{self, alone};
use super::{DemoError, write_world};
use crate::app::{
    self, BuildForm, BuildOptions, CheckOptions, CheckOutput, CleanupOptions, Command,
    EolUpdateOptions, Global, Invocation, Mode, Output, Policy, RegisterOptions, SourceOptions,
    StatusForm, StatusOptions, Surroundings, SyncOptions,
};
use crate::error::{Exit, Failure};
use crate::model::reference::normalized;
use crate::model::text::printable;
use crate::process::Process;

/// What a demo was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Where the sample world is written; relative to the working directory. `None`: a temporary
    /// directory.
    pub directory: Option<PathBuf>,
    /// Keep the temporary directory afterwards. A directory that was named is kept in any case.
    pub keep: bool,
}

/// Runs the demo: writes the sample world, and leads through an image's life in it.
pub fn run(options: &DemoOptions, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let place = Place::new(options, surroundings)?;
    let directory = place.path().to_owned();
    let process = Process {
        directory: directory.clone(),
        ..alone(&surroundings.process)
    };
    let tour = Tour {
        surroundings: Surroundings {
            process,
            ..surroundings.clone()
        },
        directory,
    };
    let exit = tour.lead()?;
    if exit == Exit::Done {
        surroundings.print(&next_steps(place.keep(), surroundings))?;
    }
    Ok(exit)
}

struct Tour {
    surroundings: Surroundings,
    directory: PathBuf,
}

impl Tour {
    /// Leads through the world, up to the first command that does not end well.
    fn lead(&self) -> Result<Exit, Failure> {
        let written = self.write_world()?;
        if written != Exit::Done {
            return Ok(written);
        }
        let made = history::make(&self.directory, &self.surroundings)?;
        if made != Exit::Done {
            return Ok(made);
        }
        self.say(&format!(
            "A sample world is in {}: upstream repositories, templates of base images, an\nimglife.yaml, and what was \
             mirrored, built and recorded half a year ago. Directories stand for all servers.\n",
            shown(&self.directory)
        ))?;
        for stop in self.stops()? {
            self.say(&format!("\n{}\n\n$ imglife {}\n", stop.words, stop.typed))?;
            let exit = app::run(
                Invocation {
                    command: stop.command,
                    global: Global::default(),
                },
                &self.surroundings,
            )?;
            if exit != Exit::Done {
                return Ok(exit);
            }
        }
        self.say(&format!(
            "\nThe report, without its diagrams:\n\n{}",
            self.tables()?
        ))?;
        Ok(Exit::Done)
    }

    fn write_world(&self) -> Result<Exit, Failure> {
        let layouts = app::layouts();
        let today = self.surroundings.process.clock.now().date_naive();
        app::run_async(self.surroundings.deadline, |cancel| async move {
            tokio::select! {
                written = write_world(&*layouts, &self.directory, today) => written.map(|_| Exit::Done).map_err(failure),
                () = cancel.cancelled() => Ok(Exit::Interrupted),
            }
        })
    }

    fn stops(&self) -> Result<Vec<Stop>, Failure> {
        let application = history::image(&self.directory, "apps", "web", "1.0.0")?;
        let outdated = history::image(&self.directory, "bases", "debian", "12.11-core0.9.0")?;
        let stop = |words, typed: &str, command| Stop {
            words,
            typed: typed.to_owned(),
            command,
        };
        Ok(vec![
            stop("Mirror: copy what is new upstream.", "sync", sync()),
            stop("A second run has nothing left to do.", "sync", sync()),
            stop(
                "Build: put the organisation's templates on the mirrors. They run nothing, so no engine and no\ndaemon is needed. \
                 A published tag is never overwritten.",
                "build",
                build(),
            ),
            stop(
                "Record: a team pushed an application, and its pipeline says so. What it was built on is found in the image.",
                "register --image ocidir://apps/web:1.0.0 --project shop/web --revision 4f2a9c1",
                Command::Register(RegisterOptions {
                    image: application,
                    base: None,
                    platforms: Vec::new(),
                    revision: Some("4f2a9c1".to_owned()),
                    project: Some("shop/web".to_owned()),
                    fields: Vec::new(),
                    built_at: None,
                    output: Output::Text,
                }),
            ),
            stop(
                "Watch: when does what end? Here the dates come with the world; otherwise from endoflife.date.",
                "eol update",
                Command::EolUpdate(EolUpdateOptions {
                    mode: Mode::Apply,
                    data_file: None,
                    output: Output::Text,
                }),
            ),
            stop(
                "Report: everything on one page, which is committed when it changed, and published for the next step.",
                "status --output README.md --publish",
                status(true),
            ),
            stop(
                "Check: another team asks, in its own pipeline, whether its base is still good.",
                "check --base ocidir://bases/debian:12.11-core0.9.0",
                Command::Check(CheckOptions {
                    base: Some(outdated),
                    dockerfile: None,
                    build_arguments: Vec::new(),
                    project: Some("shop/search".to_owned()),
                    policy: Policy::default(),
                    sources: SourceOptions::default(),
                    output: CheckOutput::Text,
                    report_codequality: None,
                    report_dotenv: None,
                }),
            ),
            stop(
                "Clean up: delete what is old, and nothing that anybody needs. The end of alpine:3.20.6-core0.9.0 has passed, and yet\nit stays: billing stands on it.",
                "cleanup",
                Command::Cleanup(CleanupOptions {
                    mode: Mode::Apply,
                    only: Vec::new(),
                    shard: None,
                    force: false,
                    now: None,
                    max_delete_percent: None,
                    output: Output::Text,
                    report: None,
                }),
            ),
            stop(
                "Report again: what was deleted is gone from the page.",
                "status --output README.md",
                status(false),
            ),
        ])
    }

    /// Returns the tables of the report that was written.
    fn tables(&self) -> Result<String, Failure> {
        let path = self.directory.join("README.md");
        let page = std::fs::read_to_string(&path)
            .map_err(|source| failure(DemoError::Read { path, source }))?;
        let is_table = |line: &&str| line.starts_with("### ") || line.starts_with('|');
        let end = page.find("### Lineage").unwrap_or(page.len());
        Ok(page
            .get(..end)
            .unwrap_or_default()
            .lines()
            .filter(is_table)
            .map(|line| format!("{line}\n"))
            .collect())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.surroundings.print(text)
    }
}

/// A command of the tour, and what is said before it.
struct Stop {
    words: &'static str,
    /// What one would type, after the program's name.
    typed: String,
    command: Command,
}

pub(super) fn sync() -> Command {
    Command::Sync(SyncOptions {
        mode: Mode::Apply,
        only: Vec::new(),
        shard: None,
        verify: false,
        output: Output::Text,
        report_junit: None,
        report_metrics: None,
    })
}

pub(super) fn build() -> Command {
    Command::Build(BuildOptions {
        mode: Mode::Apply,
        only: Vec::new(),
        shard: None,
        force: false,
        form: BuildForm::Report(Output::Text),
        report_junit: None,
    })
}

fn status(publish: bool) -> Command {
    Command::Status(StatusOptions {
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

fn next_steps(kept: Option<PathBuf>, surroundings: &Surroundings) -> String {
    match kept {
        Some(directory) => {
            let directory = directory.strip_prefix(&surroundings.process.directory).map_or(directory.clone(), Path::to_owned);
            let enter = if directory.as_os_str().is_empty() { String::new() } else { format!("  cd {}\n", shown(&directory)) };
            format!(
                "\nWhat to look at next:\n{enter}  \
                 less README.md                 the report, as GitLab and Gitea draw it, with lineage and timeline\n  \
                 less imglife.yaml              what is mirrored, built and kept, and why\n  \
                 imglife sync --list            every tag that is selected, and how many each rule left out\n  \
                 imglife build --dry-run        the base images, and what they would be made of\n  \
                 imglife cleanup --dry-run      why each tag stays\n  \
                 imglife eol list --apps        what ends when, and who stands on it\n  \
                 skopeo inspect oci:bases/alpine:latest   what a base says of itself; every OCI tool reads these directories\n"
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
        DemoError::Occupied { .. } => {
            Failure::usage(error).hint("name another directory, or an empty one")
        }
        _ => Failure::failed(error),
    }
}

/// Where the world is.
enum Place {
    Named(PathBuf),
    Temporary {
        directory: tempfile::TempDir,
        keep: bool,
    },
}

impl Place {
    fn new(options: &DemoOptions, surroundings: &Surroundings) -> Result<Place, Failure> {
        let cannot = |path: &Path, source| {
            Failure::failed(DemoError::Write {
                path: path.to_owned(),
                source,
            })
        };
        let process = &surroundings.process;
        if let Some(directory) = &options.directory {
            // Images have one name each, however the directory is spelt.
            let directory = normalized(&process.directory.join(directory));
            std::fs::create_dir_all(&directory).map_err(|error| cannot(&directory, error))?;
            Ok(Place::Named(directory))
        } else {
            let base = process
                .directory
                .join(process.variables.get_filled("TMPDIR").unwrap_or("/tmp"));
            let directory = tempfile::Builder::new()
                .prefix("imglife-demo-")
                .tempdir_in(&base)
                .map_err(|error| cannot(&base, error))?;
            Ok(Place::Temporary {
                directory,
                keep: options.keep,
            })
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
            Place::Temporary {
                directory,
                keep: true,
            } => Some(directory.keep()),
            Place::Temporary { keep: false, .. } => None,
        }
    }
}
