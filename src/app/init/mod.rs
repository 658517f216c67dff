//! `imglife init`: the files of a new base image repository, from templates in the program.
//!
//! Owns the list of files and the next steps that it prints. Contacts no server; runs git to read
//! the URL of the remote.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::result::CommandResult;
use super::{CommandContext, runtime};
use crate::command::SystemRunner;
use crate::error::{Exit, Failure};
use crate::files;
use crate::model::Repository;
use crate::model::text::excerpt;
use crate::report::{Block, Document};
use crate::template;
pub use remote::InitForge;
use remote::{GitCheckout, GitRemote};

mod remote;

/// Options of `imglife init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitOptions {
    /// `None`: detected from the remote.
    pub forge: Option<InitForge>,
    /// Directory for the files, relative to the working directory.
    pub directory: PathBuf,
    /// Prefix of the names of mirrors and bases; `None`: derived from the remote.
    pub registry: Option<String>,
}

#[derive(Debug, Error)]
enum InitError {
    #[error("{} already {}", list(.0), if .0.len() == 1 { "exists" } else { "exist" })]
    Exists(Vec<PathBuf>),
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{0}` is not a valid prefix for image names")]
    Registry(String),
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// File to create: its path and its text.
type InitFile = (&'static str, String);

/// Values for the templates.
#[derive(Debug, Serialize)]
struct InitValues {
    forge: InitForge,
    /// URL of the forge, without a trailing slash.
    server: String,
    /// `owner/repository`, or the path of a GitLab project.
    project: String,
    owner: String,
    repository: String,
    branch: String,
    /// Prefix of the names of mirrors and bases in the configuration.
    images: String,
    /// The same prefix for Renovate, which does not expand variables.
    package: String,
    /// URL of the repository with the actions.
    actions: String,
    /// Path of the workflow in a repository on Gitea or Forgejo.
    #[serde(skip)]
    workflow: &'static str,
    version: &'static str,
}

/// Writes the files and returns the next steps.
pub(super) fn run(
    options: &InitOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let directory = context.process.directory.join(&options.directory);
    runtime::run(context.deadline, |_| async {
        let checkout =
            GitCheckout::read(&SystemRunner, &context.process.variables, &directory).await;
        let values = values(options, checkout, &directory)?;
        let written = write(&directory, files(&values)?)?;
        let document = Document {
            blocks: next_steps(&values, &written, &options.directory),
        };
        Ok(CommandResult::new(Exit::Done).and_document(document))
    })
}

fn values(
    options: &InitOptions,
    checkout: GitCheckout,
    directory: &Path,
) -> Result<InitValues, Failure> {
    let GitCheckout { remote, branch } = checkout;
    let forge = options
        .forge
        .or_else(|| remote.as_ref().and_then(GitRemote::forge))
        .or_else(|| forge_of_files(directory));
    let forge = forge.ok_or_else(|| {
        let remote_host = remote
            .as_ref()
            .map(|remote| format!(" from the remote host {}", remote.host))
            .unwrap_or_default();
        Failure::usage(format!(
            "cannot detect the forge of this repository{remote_host}"
        ))
        .hint("set `--forge gitlab`, or `--forge gitea` for Gitea and Forgejo")
    })?;
    let remote = remote.unwrap_or_else(|| GitRemote::example(forge));
    let remote = match forge {
        InitForge::Gitlab => remote,
        InitForge::Gitea => remote.with_server_path(),
    };
    // On a public server, the name of the platform team belongs to somebody else.
    let actions_owner = if remote.is_public() {
        remote.owner()
    } else {
        "platform"
    };
    let (images, package) = match (&options.registry, forge) {
        (Some(registry), _) => {
            let registry = registry.trim_end_matches('/').to_owned();
            (registry.clone(), registry)
        }
        (None, InitForge::Gitlab) => {
            let prefix = format!(
                "registry.{}/{}",
                remote.host_name(),
                remote.project.to_lowercase()
            );
            (format!("${{CI_REGISTRY_IMAGE:-{prefix}}}"), prefix)
        }
        (None, InitForge::Gitea) => {
            let prefix = format!("{}/{}", remote.host, remote.owner().to_lowercase());
            (prefix.clone(), prefix)
        }
    };
    // The prefix from the command line must be valid in a configuration.
    let base = format!("{package}/bases/alpine");
    if !base
        .parse::<Repository>()
        .is_ok_and(|repository| repository.host().is_some() && repository.to_string() == base)
    {
        return Err(Failure::usage(InitError::Registry(excerpt(&package, 200)))
            .hint("use a host and a path in lower case, as in `--registry registry.example.com/platform`"));
    }
    Ok(InitValues {
        forge,
        owner: remote.owner().to_owned(),
        repository: remote.repository().to_owned(),
        actions: format!("{}/{actions_owner}/imglife/gitea-actions", remote.server),
        // Forgejo reads only one of the directories, `.forgejo` first.
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

/// Detects the forge from directories in the repository. Returns `None` if there are none.
fn forge_of_files(directory: &Path) -> Option<InitForge> {
    let is_there = |name: &str| directory.join(name).is_dir();
    (is_there(".gitea") || is_there(".forgejo"))
        .then_some(InitForge::Gitea)
        .or_else(|| is_there(".gitlab").then_some(InitForge::Gitlab))
}

/// Renders the files.
fn files(values: &InitValues) -> Result<Vec<InitFile>, Failure> {
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
        // A template for `imglife build`, which is not rendered here.
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
            GITIGNORE,
            include_str!("../../../templates/init/gitignore").to_owned(),
        ),
    ])
}

/// File that forges create in a new repository. An existing one is kept.
const GITIGNORE: &str = ".gitignore";

/// Writes all files or none, and returns the paths of the written ones.
fn write(directory: &Path, files: Vec<InitFile>) -> Result<Vec<&'static str>, Failure> {
    let exists = |path: &str| fs::symlink_metadata(directory.join(path)).is_ok();
    let files: Vec<InitFile> = files
        .into_iter()
        .filter(|(path, _)| *path != GITIGNORE || !exists(path))
        .collect();
    let existing: Vec<PathBuf> = files
        .iter()
        .filter(|(path, _)| exists(path))
        .map(|(path, _)| PathBuf::from(path))
        .collect();
    if !existing.is_empty() {
        return Err(Failure::usage(InitError::Exists(existing))
            .hint("choose another directory with `--dir`, or delete the existing files; nothing was written"));
    }
    let mut created = CreatedFiles::default();
    for (path, text) in &files {
        if let Err(source) = created.create(&directory.join(path), text) {
            created.undo();
            return Err(Failure::failed(InitError::Write {
                path: PathBuf::from(path),
                source,
            }));
        }
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Files and directories created so far.
#[derive(Default)]
struct CreatedFiles {
    files: Vec<PathBuf>,
    /// Sorted, so that parents precede their children.
    directories: BTreeSet<PathBuf>,
}

impl CreatedFiles {
    fn create(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let parent = path.parent().unwrap_or(path);
        files::refuse_link_out(parent, path)?;
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

    /// Removes everything again. Ignores errors: the error that caused this is reported.
    fn undo(self) {
        for file in &self.files {
            drop(fs::remove_file(file));
        }
        for directory in self.directories.iter().rev() {
            drop(fs::remove_dir(directory));
        }
    }
}

fn next_steps(values: &InitValues, written: &[&str], directory: &Path) -> Vec<Block> {
    let mut lines = vec![format!("Written to {}:", directory.display())];
    lines.extend(written.iter().map(|path| format!("  {path}")));
    let images = &values.package;
    let mut next = vec![
        "Next steps:".to_owned(),
        format!("  1. Review imglife.yaml: mirrors and bases are pushed to {images}/mirrors and {images}/bases."),
        "  2. Run `imglife eol update`, which writes eol-data.yaml with the end-of-life dates for the first images.".to_owned(),
    ];
    next.extend(match values.forge {
        InitForge::Gitlab => vec![
            "  3. Allow the pipeline to push its report: Settings > CI/CD > Job token permissions > Allow Git push requests to the"
                .to_owned(),
            "     repository. On servers before 18.4, store a token with the scope `api` as the masked variable GITLAB_TOKEN instead."
                .to_owned(),
            "     `.gitlab-ci.yml` includes platform/imglife-components: correct the path if it differs on your server.".to_owned(),
            "  4. Commit, and push without a pipeline, since nothing is mirrored yet: `git push -o ci.skip`.".to_owned(),
            "  5. Start a pipeline (Build > Pipelines > New pipeline): it mirrors, builds and commits README.md; `git pull` fetches it."
                .to_owned(),
            "     Then add a schedule (Build > Pipeline schedules).".to_owned(),
        ],
        InitForge::Gitea => vec![
            "  3. Create a token with the scopes write:package and write:repository (your settings > Applications), and store it as the"
                .to_owned(),
            "     secret IMGLIFE_GITEA_TOKEN (the repository's settings > Actions > Secrets).".to_owned(),
            "  4. Install imglife on the runner, or set the variables IMGLIFE_URL and IMGLIFE_SHA256 (settings > Actions > Variables)"
                .to_owned(),
            "     to the URL and the checksum of the program in a release.".to_owned(),
            format!("     The workflow uses the actions in {}: push the repository of imglife with its tag v{} there,", values.actions, values.version),
            "     readable for everybody on the server, or correct the path if it differs.".to_owned(),
            "  5. Commit with `[skip ci]` in the message, since nothing is mirrored yet, and push.".to_owned(),
            "  6. Start the workflow `lifecycle` (Actions): it mirrors, builds and commits README.md; `git pull` fetches it.".to_owned(),
            "     Then it runs every morning.".to_owned(),
        ],
    });
    next.push("  Docker Hub limits anonymous pulls: set IMGLIFE_DOCKER_IO_USERNAME and IMGLIFE_DOCKER_IO_PASSWORD for a higher limit.".to_owned());
    next.push(
        "  Run `imglife sync --list` and `imglife build --dry-run` to see what would be done."
            .to_owned(),
    );
    vec![Block::Lines(lines), Block::Lines(next)]
}

#[cfg(test)]
mod tests;
