//! The interface of build engines: requests, results, errors.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::credentials::Credential;
use crate::model::{Digest, Host, ImageReference, Platform, Repository, RepositoryPath, Tag};

/// Name of an engine, as in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineName {
    /// The built-in engine, which writes layers itself and does not support `RUN`.
    Native,
    Buildx,
    Buildah,
    Podman,
    Docker,
}

impl EngineName {
    /// Engines that are external programs, in the order in which `auto` tries them.
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

/// A credential for a registry host or for one repository on it.
#[derive(Clone, Debug)]
pub struct HostCredential {
    pub host: Host,
    /// Repository that the credential is for; `None` for all repositories without a credential of
    /// their own.
    pub path: Option<RepositoryPath>,
    pub credential: Credential,
}

/// An image to build and push.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Repository to push to.
    pub repository: Repository,
    /// Tag to push.
    pub tag: Tag,
    /// Text of the rendered Dockerfile.
    pub dockerfile: String,
    /// Name of the Dockerfile in messages: the file name of its template.
    pub dockerfile_name: String,
    /// Build context: the directory that `COPY` and `ADD` read from.
    pub context: PathBuf,
    /// Base image in `FROM`, with tag and digest.
    pub base: ImageReference,
    /// Platforms to build for. At least one.
    pub platforms: Vec<Platform>,
    /// Build arguments.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the index and of each manifest, if the engine supports them.
    pub annotations: BTreeMap<String, String>,
    /// Attestations that the engine attaches.
    pub attestations: Attestations,
    /// Creation time of the image, and modification time of the files in its layers.
    pub created: DateTime<Utc>,
}

/// Attestations that an engine attaches to an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attestations {
    pub sbom: bool,
    pub provenance: Provenance,
}

impl Attestations {
    /// Returns true if at least one attestation is requested.
    pub fn any(self) -> bool {
        self.sbom || self.provenance != Provenance::Off
    }
}

/// Amount of provenance in the attestation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    #[default]
    Off,
    Min,
    Max,
}

/// Result of a build: an image that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOutcome {
    /// Digest of the tag: of an index if there are several platforms or attestations.
    pub digest: Digest,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// A build engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns the name of the engine.
    fn name(&self) -> EngineName;

    /// Checks that the engine can be used on this machine and returns its version. Changes nothing.
    async fn available(&self) -> Result<String, EngineError>;

    /// Builds the image for all platforms and pushes it. The tag is pushed last.
    ///
    /// Dropping the future stops the build. The registry may then contain untagged content.
    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome, EngineError>;

    /// Removes resources that are shared by all builds, such as a builder.
    async fn close(&self) {}
}

/// Error of a build.
#[derive(Debug, thiserror::Error)]
#[error("{engine}: {problem}")]
pub struct EngineError {
    pub engine: EngineName,
    /// Description of the error.
    pub problem: String,
    /// Last lines of the output of the engine, with secrets masked; empty if there was no output.
    pub log: String,
    /// Suggestion for the user.
    pub hint: Option<String>,
    /// True if the build needs an engine that can run commands, which this engine cannot.
    pub requires_execution: bool,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// Returns an error without a log.
    pub fn new(engine: EngineName, problem: impl Into<String>) -> EngineError {
        EngineError {
            engine,
            problem: problem.into(),
            log: String::new(),
            hint: None,
            requires_execution: false,
            source: None,
        }
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> EngineError {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> EngineError {
        self.source = Some(source.into());
        self
    }
}
