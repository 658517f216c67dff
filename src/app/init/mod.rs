//! `init`: the files of a new repository of base images, written from templates that the program
//! brings.
//!
//! Owns which files there are and what is said about them. Asks nobody but git, for the address of
//! the remote.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::{Surroundings, runtime};
use crate::command::SystemRunner;
use crate::error::{Exit, Failure};
use crate::files;
use crate::model::Repository;
use crate::model::text::excerpt;
use crate::report::text::{Style, draw};
use crate::report::{Block, Document};
use crate::template;
use remote::{Checkout, Remote};

mod remote;

/// What an init was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitOptions {
    /// Guessed from the remote when `None`.
    pub forge: Option<InitForge>,
    /// Where the files go; relative to the working directory.
    pub directory: PathBuf,
    /// What the names of mirrors and bases begin with; follows from the remote when `None`.
    pub registry: Option<String>,
}

/// Whose CI runs the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InitForge {
    Gitlab,
    /// Gitea or Forgejo.
    Gitea,
}

#[derive(Debug, Error)]
enum InitError {
    #[error("{} {} there already", list(.0), if .0.len() == 1 { "is" } else { "are" })]
    Occupied(Vec<PathBuf>),
    #[error("{} cannot be written", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{0}` is not the beginning of an image's name")]
    Registry(String),
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// A file to be: its path, and its text.
type NewFile = (&'static str, String);

/// What templates are rendered with.
#[derive(Debug, Serialize)]
struct Values {
    forge: InitForge,
    /// The address of the forge, without a slash at its end.
    server: String,
    /// `owner/repository`, or the path of a project.
    project: String,
    owner: String,
    repository: String,
    branch: String,
    /// What the names of mirrors and bases begin with, as the configuration says it.
    images: String,
    /// The same as Renovate sees it, which knows no variables.
    package: String,
    /// Where the actions are.
    actions: String,
    /// Where the workflow goes, in a repository for Gitea or Forgejo.
    #[serde(skip)]
    workflow: &'static str,
    version: &'static str,
}

/// Writes the files and says what comes next.
pub(super) fn run(options: &InitOptions, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let directory = surroundings.process.directory.join(&options.directory);
    runtime::run(surroundings.deadline, |_| async {
        let checkout =
            Checkout::look(&SystemRunner, &surroundings.process.variables, &directory).await;
        let values = values(options, checkout, &directory)?;
        let written = write(&directory, files(&values)?)?;
        let document = Document {
            blocks: told(&values, &written, &options.directory),
        };
        surroundings.print(&draw(
            &document,
            Style {
                color: surroundings.report_color,
            },
        ))?;
        Ok(Exit::Done)
    })
}

fn values(options: &InitOptions, checkout: Checkout, directory: &Path) -> Result<Values, Failure> {
    let Checkout { remote, branch } = checkout;
    let forge = options
        .forge
        .or_else(|| remote.as_ref().and_then(Remote::forge))
        .or_else(|| forge_of_files(directory));
    let forge = forge.ok_or_else(|| {
        let known = remote
            .as_ref()
            .map(|remote| format!(": the remote is at {}", remote.host))
            .unwrap_or_default();
        Failure::usage(format!(
            "it cannot be told which forge this repository is for{known}"
        ))
        .hint("say `--forge gitlab`, or `--forge gitea` for Gitea and Forgejo")
    })?;
    let remote = remote.unwrap_or_else(|| Remote::example(forge));
    let (images, package) = match (&options.registry, forge) {
        (Some(registry), _) => {
            let registry = registry.trim_end_matches('/').to_owned();
            (registry.clone(), registry)
        }
        (None, InitForge::Gitlab) => {
            let usual = format!(
                "registry.{}/{}",
                remote.host_name(),
                remote.project.to_lowercase()
            );
            (format!("${{CI_REGISTRY_IMAGE:-{usual}}}"), usual)
        }
        (None, InitForge::Gitea) => {
            let usual = format!("{}/{}", remote.host, remote.owner().to_lowercase());
            (usual.clone(), usual)
        }
    };
    // A name that can be written into a configuration, whatever stood on the command line.
    let base = format!("{package}/bases/alpine");
    if !base
        .parse::<Repository>()
        .is_ok_and(|repository| repository.host().is_some() && repository.to_string() == base)
    {
        return Err(Failure::usage(InitError::Registry(excerpt(&package, 200)))
            .hint("name host and path in lower case, as in `--registry registry.example.com/platform`"));
    }
    Ok(Values {
        forge,
        owner: remote.owner().to_owned(),
        repository: remote.repository().to_owned(),
        actions: format!("{}/platform/imglife/gitea-actions", remote.server),
        // Forgejo reads one directory, and this before the other.
        workflow: if directory.join(".forgejo/workflows").is_dir() {
            ".forgejo/workflows/lifecycle.yml"
        } else {
            ".gitea/workflows/lifecycle.yml"
        },
        server: remote.server,
        project: remote.project,
        branch: branch.unwrap_or_else(|| "main".to_owned()),
        images,
        package,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Returns the forge that a repository without a telling remote has files of.
fn forge_of_files(directory: &Path) -> Option<InitForge> {
    let is_there = |name: &str| directory.join(name).is_dir();
    (is_there(".gitea") || is_there(".forgejo"))
        .then_some(InitForge::Gitea)
        .or_else(|| is_there(".gitlab").then_some(InitForge::Gitlab))
}

fn files(values: &Values) -> Result<Vec<NewFile>, Failure> {
    let page = |name, text| template::page(name, text, values).map_err(Failure::failed);
    let pipeline = match values.forge {
        InitForge::Gitlab => (
            ".gitlab-ci.yml",
            page(
                ".gitlab-ci.yml",
                include_str!("../../../templates/init/gitlab-ci.yml"),
            )?,
        ),
        InitForge::Gitea => (
            values.workflow,
            page(
                "lifecycle.yml",
                include_str!("../../../templates/init/gitea-workflow.yml"),
            )?,
        ),
    };
    Ok(vec![
        (
            "imglife.yaml",
            page(
                "imglife.yaml",
                include_str!("../../../templates/init/imglife.yaml"),
            )?,
        ),
        // A template of the user's, not one of ours.
        (
            "images/alpine/Dockerfile.tmpl",
            include_str!("../../../templates/init/Dockerfile.tmpl").to_owned(),
        ),
        pipeline,
        (
            "renovate-bases.json",
            page(
                "renovate-bases.json",
                include_str!("../../../templates/init/renovate-bases.json"),
            )?,
        ),
        (
            IGNORED,
            include_str!("../../../templates/init/gitignore").to_owned(),
        ),
    ])
}

/// Forges make one with a new repository; what stands in it is kept then.
const IGNORED: &str = ".gitignore";

/// Writes all files or none, each whole, and returns what was written.
fn write(directory: &Path, files: Vec<NewFile>) -> Result<Vec<&'static str>, Failure> {
    let is_there = |path: &str| fs::symlink_metadata(directory.join(path)).is_ok();
    let files: Vec<NewFile> = files
        .into_iter()
        .filter(|(path, _)| *path != IGNORED || !is_there(path))
        .collect();
    let occupied: Vec<PathBuf> = files
        .iter()
        .filter(|(path, _)| is_there(path))
        .map(|(path, _)| PathBuf::from(path))
        .collect();
    if !occupied.is_empty() {
        return Err(Failure::usage(InitError::Occupied(occupied))
            .hint("nothing was written; choose another directory with `--dir`, or remove what is not needed"));
    }
    let mut made = Made::default();
    for (path, text) in &files {
        if let Err(source) = made.file(&directory.join(path), text) {
            made.undo();
            return Err(Failure::failed(InitError::Write {
                path: PathBuf::from(path),
                source,
            }));
        }
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// What was made so far.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    /// Longer paths come later.
    directories: BTreeSet<PathBuf>,
}

impl Made {
    fn file(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let parent = path.parent().unwrap_or(path);
        self.directories.extend(
            parent
                .ancestors()
                .take_while(|directory| !directory.exists())
                .map(Path::to_owned),
        );
        fs::create_dir_all(parent)?;
        files::create(path, 0o666, text.as_bytes())?;
        self.files.push(path.to_owned());
        Ok(())
    }

    /// Removes it again, as far as that goes: the error that led here is the one to tell.
    fn undo(self) {
        for file in &self.files {
            drop(fs::remove_file(file));
        }
        for directory in self.directories.iter().rev() {
            drop(fs::remove_dir(directory));
        }
    }
}

fn told(values: &Values, written: &[&str], directory: &Path) -> Vec<Block> {
    let mut lines = vec![format!("Written to {}:", directory.display())];
    lines.extend(written.iter().map(|path| format!("  {path}")));
    let images = &values.package;
    let mut next = vec![
        "What to do first:".to_owned(),
        format!("  1. Look at imglife.yaml: mirrors and bases go to {images}/mirrors and {images}/bases."),
        "  2. `imglife eol update` writes eol-data.yaml, so that the first images say already when their support ends.".to_owned(),
    ];
    next.extend(match values.forge {
        InitForge::Gitlab => vec![
            "  3. Allow the pipeline to push its report: Settings > CI/CD > Job token permissions > Allow Git push requests to the"
                .to_owned(),
            "     repository. On servers before 18.4 store a token with the scope `api` as the masked variable GITLAB_TOKEN instead."
                .to_owned(),
            "     `.gitlab-ci.yml` includes platform/imglife-components: correct the path if yours is another.".to_owned(),
            "  4. Commit, and push without a pipeline, since nothing is mirrored yet: `git push -o ci.skip`.".to_owned(),
            "  5. Run a pipeline by hand (Build > Pipelines > New pipeline): it mirrors, builds and commits README.md; `git pull` fetches it."
                .to_owned(),
            "     Then give it a schedule (Build > Pipeline schedules).".to_owned(),
        ],
        InitForge::Gitea => vec![
            "  3. Make a token with the scopes write:package and write:repository (your settings > Applications), and store it as the"
                .to_owned(),
            "     secret IMGLIFE_GITEA_TOKEN (the repository's settings > Actions > Secrets).".to_owned(),
            "  4. Let the runner have imglife: install it there, or set the variables IMGLIFE_URL and IMGLIFE_SHA256 (settings > Actions >"
                .to_owned(),
            "     Variables) to the address and the checksum of the program of a release.".to_owned(),
            format!("     The workflow uses the actions of {}: correct the path if yours is another.", values.actions),
            "  5. Commit with `[skip ci]` in the message, since nothing is mirrored yet, and push.".to_owned(),
            "  6. Run the workflow `lifecycle` by hand (Actions): it mirrors, builds and commits README.md; `git pull` fetches it.".to_owned(),
            "     From then on it runs every morning.".to_owned(),
        ],
    });
    next.push("  Docker Hub limits anonymous pulls: IMGLIFE_DOCKER_IO_USERNAME and IMGLIFE_DOCKER_IO_PASSWORD raise the limit.".to_owned());
    next.push(
        "  `imglife sync --list` and `imglife build --dry-run` show here what would be done."
            .to_owned(),
    );
    vec![Block::Lines(lines), Block::Lines(next)]
}

#[cfg(test)]
mod tests;
