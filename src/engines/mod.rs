//! Build engines: what makes an image of a Dockerfile with its folder, and pushes it.
//!
//! Owns how each engine is found, called and understood. What is built, in which order, and whether
//! at all, is decided by the step.

mod buildx;
mod containers;
mod docker;
mod emulation;
mod emulators;
mod own_builder;
mod private;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::command::Runner;
use crate::credentials::Credential;
use crate::model::{
    Digest, Host, ImageReference, Platform, Repository, RepositoryPath, Tag, Variables,
};

pub use emulators::Emulators;
pub use own_builder::{Node, NodeError, OwnBuilder};
pub use private::{PrivateConfig, PrivateConfigError};

pub mod native;

/// An engine, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineName {
    /// Writes layers by itself; builds what needs no execution.
    Native,
    Buildx,
    Buildah,
    Podman,
    Docker,
}

impl EngineName {
    /// The programs in the order in which one is chosen where nothing names one.
    pub const PROGRAMS: [EngineName; 4] = [
        EngineName::Buildx,
        EngineName::Buildah,
        EngineName::Podman,
        EngineName::Docker,
    ];
}

impl fmt::Display for EngineName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            EngineName::Native => "native",
            EngineName::Buildx => "buildx",
            EngineName::Buildah => "buildah",
            EngineName::Podman => "podman",
            EngineName::Docker => "docker",
        })
    }
}

/// What engines that are programs need to know of the run.
pub struct Programs {
    pub runner: Arc<dyn Runner>,
    /// The environment of the run; programs get it without what is meant for imglife alone.
    pub variables: Variables,
    /// What to log in with, for each host that images are read from or pushed to. A program sees
    /// those of no other host, unless its own credential helpers know them.
    pub logins: Vec<Login>,
    /// Hosts that are spoken to over plain HTTP.
    pub insecure: BTreeSet<Host>,
    /// The buildx builder to use, if not docker's default.
    pub builder: Option<String>,
    /// How one is made where only docker's own is there; `None`: docker's own is used then.
    pub own_builder: Option<OwnBuilder>,
}

/// What to log in with.
#[derive(Clone, Debug)]
pub struct Login {
    pub host: Host,
    /// The repository on the host that it is for; `None`: all without a login of their own.
    pub path: Option<RepositoryPath>,
    pub credential: Credential,
}

impl Programs {
    /// Returns the engines in the order of [`EngineName::PROGRAMS`]; whether each is there is not
    /// looked at.
    pub fn engines(self) -> Vec<Arc<dyn Engine>> {
        let tools = Arc::new(program::Tools::new(
            self.runner,
            self.variables,
            self.logins,
            self.insecure,
        ));
        let engine = |name| -> Option<Arc<dyn Engine>> {
            Some(match name {
                EngineName::Native => return None,
                EngineName::Buildx => Arc::new(buildx::Buildx::new(
                    Arc::clone(&tools),
                    self.builder.clone(),
                    self.own_builder.clone(),
                )),
                EngineName::Buildah => {
                    Arc::new(containers::Containers::buildah(Arc::clone(&tools)))
                }
                EngineName::Podman => Arc::new(containers::Containers::podman(Arc::clone(&tools))),
                EngineName::Docker => Arc::new(docker::Docker::new(Arc::clone(&tools))),
            })
        };
        EngineName::PROGRAMS
            .into_iter()
            .filter_map(engine)
            .collect()
    }
}

/// One image to build and to push.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Where it is pushed to.
    pub repository: Repository,
    pub tag: Tag,
    /// The rendered Dockerfile.
    pub dockerfile: String,
    /// What messages call the Dockerfile: the file of its template.
    pub dockerfile_name: String,
    /// The directory that `COPY` and `ADD` read from.
    pub context: PathBuf,
    /// What `FROM` names, by tag and digest.
    pub base: ImageReference,
    /// At least one.
    pub platforms: Vec<Platform>,
    pub arguments: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// For the index and for each manifest, where the engine can write them.
    pub annotations: BTreeMap<String, String>,
    pub attestations: Attestations,
    /// The time that image and layers are of.
    pub created: DateTime<Utc>,
}

/// What an engine attaches to the image by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attestations {
    pub sbom: bool,
    pub provenance: Provenance,
}

impl Attestations {
    /// Returns whether there is anything to attach.
    pub fn any(self) -> bool {
        self.sbom || self.provenance != Provenance::Off
    }
}

/// How much is told of how an image was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    #[default]
    Off,
    Min,
    Max,
}

/// An image that was built and pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// What the tag names: of an index where there are several platforms or attestations.
    pub digest: Digest,
    pub warnings: Vec<String>,
}

/// Makes images.
#[async_trait]
pub trait Engine: Send + Sync {
    fn name(&self) -> EngineName;

    /// Returns the engine's version where it can be used here, else the reason and what to do.
    /// Changes nothing.
    async fn available(&self) -> Result<String, EngineError>;

    /// Builds the image for all platforms and pushes it; its tag is written last. When the future
    /// is dropped, what was started is ended, and at most something without a tag is left behind.
    async fn build(&self, request: &BuildRequest) -> Result<Built, EngineError>;

    /// Puts away what was made for all builds together.
    async fn close(&self) {}
}

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
#[error("{engine}: {problem}")]
pub struct EngineError {
    pub engine: EngineName,
    pub problem: String,
    /// The end of what the engine wrote, secrets masked; empty when it wrote nothing.
    pub log: String,
    pub hint: Option<String>,
    /// Whether an engine that executes could build it: only this one does not.
    pub takes_execution: bool,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// Returns an error that nothing was written about.
    pub fn new(engine: EngineName, problem: impl Into<String>) -> EngineError {
        EngineError {
            engine,
            problem: problem.into(),
            log: String::new(),
            hint: None,
            takes_execution: false,
            source: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> EngineError {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error with its cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> EngineError {
        self.source = Some(source.into());
        self
    }
}

#[cfg(test)]
mod tests;
