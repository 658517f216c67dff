//! The tour: runs the real commands in the sample world, each with an explanation before it.

use std::path::{Path, PathBuf};

use super::commands::{build, image, isolated, status, sync};
use super::error::DemoError;
use super::history;
use super::world::write_world;
use crate::app::{
    self, CheckOptions, CheckOutput, CleanupOptions, CommandContext, CommandOptions,
    EolUpdateOptions, GlobalOptions, Invocation, Mode, OutputForm, Policy, RegisterOptions,
    SourceOptions,
};
use crate::error::{Exit, Failure};
use crate::model::env;
use crate::model::reference::normalized;
use crate::model::text::printable;
use crate::process::Process;

/// Options of `imglife demo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Directory of the sample world, relative to the working directory; `None` for a temporary
    /// one.
    pub directory: Option<PathBuf>,
    /// True if the temporary directory is kept. A named directory always is.
    pub keep: bool,
}

/// Writes the sample world and runs the tour in it.
pub fn run(options: &DemoOptions, context: &CommandContext) -> Result<Exit, Failure> {
    let world = WorldDirectory::new(options, context)?;
    let directory = world.path().to_owned();
    let process = Process {
        directory: directory.clone(),
        ..isolated(&context.process)
    };
    let tour = Tour {
        context: CommandContext {
            process,
            ..context.clone()
        },
        directory,
    };
    let exit = tour.run()?;
    if exit == Exit::Done {
        context.print(&next_steps(world.keep(), context))?;
    }
    Ok(exit)
}

struct Tour {
    context: CommandContext,
    directory: PathBuf,
}

impl Tour {
    /// Runs the commands, up to the first that fails.
    fn run(&self) -> Result<Exit, Failure> {
        let written = self.write_world()?;
        if written != Exit::Done {
            return Ok(written);
        }
        let created = history::create(&self.directory, &self.context)?;
        if created != Exit::Done {
            return Ok(created);
        }
        self.print(&format!(
            "The sample world is in {}: upstream repositories, templates of base images, an\nimglife.yaml, and \
             the mirrors, base images and records of half a year ago. Directories stand in for servers.\n",
            printable_path(&self.directory)
        ))?;
        for stop in self.stops()? {
            self.print(&format!(
                "\n{}\n\n$ imglife {}\n",
                stop.text, stop.arguments
            ))?;
            let exit = app::run(
                Invocation {
                    command: stop.command,
                    global: GlobalOptions::default(),
                },
                &self.context,
            )?;
            if exit != Exit::Done {
                return Ok(exit);
            }
        }
        self.print(&format!(
            "\nThe report without its diagrams:\n\n{}",
            self.tables()?
        ))?;
        Ok(Exit::Done)
    }

    fn write_world(&self) -> Result<Exit, Failure> {
        let layouts = app::layouts();
        let today = self.context.process.clock.now().date_naive();
        app::run_async(self.context.deadline, |cancel| async move {
            tokio::select! {
                written = write_world(&*layouts, &self.directory, today) => written.map(|_| Exit::Done).map_err(failure),
                () = cancel.cancelled() => Ok(Exit::Interrupted),
            }
        })
    }

    fn stops(&self) -> Result<Vec<TourStop>, Failure> {
        let application = image(&self.directory, "apps", "web", "1.0.0")?;
        let outdated = image(&self.directory, "bases", "debian", "12.11-core0.9.0")?;
        let stop = |text, arguments: &str, command| TourStop {
            text,
            arguments: arguments.to_owned(),
            command,
        };
        Ok(vec![
            stop("Mirror: copy new upstream images.", "sync", sync()),
            stop("A second run finds nothing to copy.", "sync", sync()),
            stop(
                "Build: apply the organisation's templates to the mirrors. The templates have no RUN instruction,\nso no \
                 engine or daemon is needed. A published tag is never overwritten.",
                "build",
                build(),
            ),
            stop(
                "Register: a team pushed an application, and its pipeline records it. The base image is read from its\nlabels.",
                "register --image ocidir://apps/web:1.0.0 --project shop/web --revision 4f2a9c1",
                CommandOptions::Register(RegisterOptions {
                    strict: false,
                    image: application,
                    base: None,
                    platforms: Vec::new(),
                    revision: Some("4f2a9c1".to_owned()),
                    project: Some("shop/web".to_owned()),
                    fields: Vec::new(),
                    built_at: None,
                    output: OutputForm::Text,
                }),
            ),
            stop(
                "End of life: update the end-of-life dates. The sample world has its own; by default they come from\nendoflife.date.",
                "eol update",
                CommandOptions::EolUpdate(EolUpdateOptions {
                    mode: Mode::Apply,
                    data_file: None,
                    output: OutputForm::Text,
                }),
            ),
            stop(
                "Status: write everything to one page, which is committed when it changes, and publish the inventory\nthat the next command reads.",
                "status --output README.md --publish",
                status(true),
            ),
            stop(
                "Check: another team checks in its own pipeline whether its base image is current and supported.",
                "check --base ocidir://bases/debian:12.11-core0.9.0",
                CommandOptions::Check(CheckOptions {
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
                "Clean up: delete old tags that nothing uses. alpine:3.20.6-core0.9.0 is past its end of life and is\nkept, because the application billing is built on it.",
                "cleanup",
                CommandOptions::Cleanup(CleanupOptions {
                    mode: Mode::Apply,
                    only: Vec::new(),
                    shard: None,
                    force: false,
                    now: None,
                    max_delete_percent: None,
                    max_requests: None,
                    undo: None,
                    release: None,
                    output: OutputForm::Text,
                    report: None,
                }),
            ),
            stop(
                "Status again: the deleted tags are no longer on the page.",
                "status --output README.md",
                status(false),
            ),
        ])
    }

    /// Returns the tables of the written report.
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

    fn print(&self, text: &str) -> Result<(), Failure> {
        self.context.print(text)
    }
}

/// A command of the tour and the explanation before it.
struct TourStop {
    text: &'static str,
    /// Arguments of the command as they are shown, without the program's name.
    arguments: String,
    command: CommandOptions,
}

fn next_steps(kept: Option<PathBuf>, context: &CommandContext) -> String {
    match kept {
        Some(directory) => {
            let directory = directory.strip_prefix(&context.process.directory).map_or(directory.clone(), Path::to_owned);
            let enter = if directory.as_os_str().is_empty() { String::new() } else { format!("  cd {}\n", printable_path(&directory)) };
            format!(
                "\nNext steps:\n{enter}  \
                 less README.md                 read the report; GitLab and Gitea also draw its diagrams\n  \
                 less imglife.yaml              read the configuration\n  \
                 imglife sync --list            list the selected tags, and the number that each rule excludes\n  \
                 imglife build --dry-run        show the Dockerfiles of the base images\n  \
                 imglife cleanup --dry-run      show why each tag is kept\n  \
                 imglife eol list --apps        list end-of-life dates and the applications that they affect\n  \
                 skopeo inspect oci:bases/alpine:latest   show the labels of a base; any OCI tool reads these directories\n"
            )
        }
        None => "\nThe sample world was removed. `imglife demo world` writes it to ./world and keeps it.\n".to_owned(),
    }
}

fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn failure(error: DemoError) -> Failure {
    match error {
        DemoError::Occupied { .. } => {
            Failure::usage(error).hint("pass an empty directory, or one that does not exist")
        }
        _ => Failure::failed(error),
    }
}

/// Directory of the world.
enum WorldDirectory {
    Named(PathBuf),
    Temporary {
        directory: tempfile::TempDir,
        keep: bool,
    },
}

impl WorldDirectory {
    fn new(options: &DemoOptions, context: &CommandContext) -> Result<WorldDirectory, Failure> {
        let cannot = |path: &Path, source| {
            Failure::failed(DemoError::Write {
                path: path.to_owned(),
                source,
            })
        };
        let process = &context.process;
        if let Some(directory) = &options.directory {
            // Each image needs one name, however the directory is spelt.
            let directory = normalized(&process.directory.join(directory));
            std::fs::create_dir_all(&directory).map_err(|error| cannot(&directory, error))?;
            Ok(WorldDirectory::Named(directory))
        } else {
            let base = process
                .directory
                .join(process.variables.get_filled(env::TMPDIR).unwrap_or("/tmp"));
            let directory = tempfile::Builder::new()
                .prefix("imglife-demo-")
                .tempdir_in(&base)
                .map_err(|error| cannot(&base, error))?;
            Ok(WorldDirectory::Temporary {
                directory,
                keep: options.keep,
            })
        }
    }

    fn path(&self) -> &Path {
        match self {
            WorldDirectory::Named(path) => path,
            WorldDirectory::Temporary { directory, .. } => directory.path(),
        }
    }

    /// Removes a temporary directory unless it is kept. Returns the directory that is kept.
    fn keep(self) -> Option<PathBuf> {
        match self {
            WorldDirectory::Named(path) => Some(path),
            WorldDirectory::Temporary {
                directory,
                keep: true,
            } => Some(directory.keep()),
            WorldDirectory::Temporary { keep: false, .. } => None,
        }
    }
}
