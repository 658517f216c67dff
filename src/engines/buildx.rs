//! The engine `buildx`: BuildKit in the docker engine, in a container or on another machine.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::buildx_builder::BuildxBuilder;
use super::emulation::{EMULATOR_HINT, runs_commands};
use super::engine::{
    Attestations, BuildOutcome, BuildRequest, Engine, EngineError, EngineName, Provenance,
};
use super::program::{EngineSession, MAX_VERSION_LENGTH, ProgramTools, pairs};
use crate::error::chain;
use crate::model::env;
use crate::model::text::excerpt;
use crate::model::{ImageReference, Platform};

/// First version that supports annotations.
const MIN_VERSION: (u32, u32) = (0, 12);

const INSTALL_HINT: &str = "install the docker plugin buildx (Debian: docker-buildx; elsewhere docker-buildx-plugin), or choose another engine";

/// Name of a builder that exists only for one session.
const SESSION_BUILDER: &str = "imglife";

/// File in the session directory to which buildx writes the result.
const METADATA_FILE: &str = "metadata.json";

/// Builds with `docker buildx`.
pub(super) struct Buildx {
    tools: Arc<ProgramTools>,
    builder: Option<String>,
    own: Option<BuildxBuilder>,
    /// Builder that the first build selected; `None` before the first build.
    selected: Mutex<Option<SelectedBuilder>>,
}

/// The builder to use if the user names none.
#[derive(Clone)]
enum SelectedBuilder {
    /// The current builder of docker.
    Current,
    /// The builder with this name, which imglife created.
    Created(String),
}

/// A session with the builder to use.
struct OpenSession<'a> {
    session: EngineSession<'a>,
    builder: Option<String>,
    version: String,
}

/// Content of the file that `--metadata-file` writes.
#[derive(Default, Deserialize)]
struct BuildMetadata {
    #[serde(rename = "containerimage.digest", default)]
    digest: String,
}

impl Buildx {
    pub(super) fn new(
        tools: Arc<ProgramTools>,
        builder: Option<String>,
        own: Option<BuildxBuilder>,
    ) -> Buildx {
        Buildx {
            tools,
            builder,
            own,
            selected: Mutex::default(),
        }
    }

    /// Returns the builder to use if the user names none, or `None` for the current builder.
    ///
    /// Creates a builder at the first build if docker has only its built-in builder.
    async fn select_builder(
        &self,
        session: &EngineSession<'_>,
    ) -> Result<Option<String>, EngineError> {
        let Some(own) = &self.own else {
            return Ok(None);
        };
        let mut selected = self.selected.lock().await;
        let selected = match &*selected {
            Some(selected) => selected.clone(),
            None if driver(&session.query("docker", &["buildx", "inspect"]).await?)
                != Some("docker") =>
            {
                selected.insert(SelectedBuilder::Current).clone()
            }
            None => selected
                .insert(SelectedBuilder::Created(
                    own.create(session, &self.tools.insecure).await?,
                ))
                .clone(),
        };
        match selected {
            SelectedBuilder::Current => Ok(None),
            SelectedBuilder::Created(name) => {
                own.create_context(session).await?;
                Ok(Some(name))
            }
        }
    }

    /// Fails if the builder cannot run programs of a requested platform.
    async fn check_platforms(
        &self,
        session: &EngineSession<'_>,
        builder: Option<&str>,
        request: &BuildRequest,
    ) -> Result<(), EngineError> {
        if !runs_commands(request) {
            return Ok(());
        }
        let arguments: Vec<&str> = ["buildx", "inspect"].into_iter().chain(builder).collect();
        let output = session.query("docker", &arguments).await?;
        let supported: Vec<Platform> = platforms(&output).collect();
        match request
            .platforms
            .iter()
            .find(|wanted| !supported.iter().any(|platform| platform.matches(wanted)))
        {
            // A builder that is not started lists no platforms.
            Some(wanted) if !supported.is_empty() => Err(session
                .error(format!("the builder cannot run programs of {wanted}"))
                .hint(EMULATOR_HINT)),
            _ => Ok(()),
        }
    }

    /// Opens a session.
    ///
    /// If `BUILDKITD_ADDR` is set, creates a builder for it in the session directory, so that the
    /// user's list of builders does not change.
    async fn session(
        &self,
        request: Option<&BuildRequest>,
    ) -> Result<OpenSession<'_>, EngineError> {
        let mut session = EngineSession::open(EngineName::Buildx, &self.tools, request)?;
        let version = session
            .query("docker", &["buildx", "version"])
            .await
            .map_err(|error| error.hint(INSTALL_HINT))?;
        match parse_version(&version) {
            None => {
                return Err(session
                    .error("`docker buildx` is not installed, or is not the docker plugin")
                    .hint(INSTALL_HINT));
            }
            Some(found) if found < MIN_VERSION => {
                let (major, minor) = MIN_VERSION;
                return Err(session
                    .error(format!("`docker buildx` is older than {major}.{minor}"))
                    .hint(INSTALL_HINT));
            }
            Some(_) => {}
        }
        let version = excerpt(
            version
                .split_whitespace()
                .nth(1)
                .unwrap_or_default()
                .trim_start_matches('v'),
            MAX_VERSION_LENGTH,
        );
        if self.builder.is_some() {
            return Ok(OpenSession {
                session,
                builder: self.builder.clone(),
                version,
            });
        }
        let Some(address) = self.tools.variables.get_filled(env::BUILDKITD_ADDR) else {
            return Ok(OpenSession {
                session,
                builder: None,
                version,
            });
        };
        let own = session.path("buildx");
        session
            .environment
            .set(env::BUILDX_CONFIG, session.argument(&own)?);
        session
            .query(
                "docker",
                &[
                    "buildx",
                    "create",
                    "--name",
                    SESSION_BUILDER,
                    "--driver",
                    "remote",
                    address,
                ],
            )
            .await?;
        for node in self.own.iter().flat_map(|own| &own.nodes) {
            session
                .query(
                    "docker",
                    &node.create_arguments(SESSION_BUILDER, "remote", &[]),
                )
                .await?;
        }
        Ok(OpenSession {
            session,
            builder: Some(SESSION_BUILDER.to_owned()),
            version,
        })
    }
}

#[async_trait]
impl Engine for Buildx {
    fn name(&self) -> EngineName {
        EngineName::Buildx
    }

    async fn available(&self) -> Result<String, EngineError> {
        let OpenSession {
            session,
            builder,
            version,
        } = self.session(None).await?;
        let arguments = ["buildx", "inspect"].into_iter().chain(builder.as_deref());
        let output = session
            .query("docker", &arguments.collect::<Vec<_>>())
            .await?;
        // `inspect` exits with 0 if the builder is unreachable, and prints the error.
        match output.lines().find_map(|line| line.strip_prefix("Error:")) {
            None => Ok(version),
            Some(problem) => {
                let error = session.error(format!(
                    "the builder cannot be used: {}",
                    excerpt(problem, 300)
                ));
                Err(error.hint("start the docker engine (DOCKER_HOST), or set another builder with `builder` or IMGLIFE_BUILDER"))
            }
        }
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome, EngineError> {
        let OpenSession {
            mut session,
            builder,
            ..
        } = self.session(Some(request)).await?;
        let builder = match builder {
            Some(builder) => Some(builder),
            None => self.select_builder(&session).await?,
        };
        self.check_platforms(&session, builder.as_deref(), request)
            .await?;
        session.environment.set(
            env::SOURCE_DATE_EPOCH,
            request.created.timestamp().to_string(),
        );
        let dockerfile = session.write("Dockerfile", &request.dockerfile)?;
        let metadata = session.path(METADATA_FILE);
        let arguments = BuildxArguments {
            builder: builder.as_deref(),
            dockerfile: session.argument(&dockerfile)?,
            metadata: session.argument(&metadata)?,
            context: session.context(request)?,
            is_insecure: self.tools.is_insecure(&request.repository),
        };
        session.run("docker", &arguments.list(request)).await?;
        let metadata: BuildMetadata =
            serde_json::from_str(&session.read(METADATA_FILE)?).unwrap_or_default();
        Ok(BuildOutcome {
            digest: session.digest(&metadata.digest)?,
            warnings: Vec::new(),
        })
    }

    async fn close(&self) {
        let (Some(own), Some(SelectedBuilder::Created(name))) =
            (&self.own, self.selected.lock().await.take())
        else {
            return;
        };
        if own.keep {
            return;
        }
        let removed = async {
            let OpenSession { session, .. } = self.session(None).await?;
            own.create_context(&session).await?;
            session.query("docker", &["buildx", "rm", &name]).await
        };
        if let Err(error) = removed.await {
            tracing::warn!("cannot remove the builder {name}: {}", chain(&error));
        }
    }
}

impl Drop for Buildx {
    fn drop(&mut self) {
        // `close` was not called, because the run was interrupted.
        if let (Some(own), Some(SelectedBuilder::Created(name))) =
            (&self.own, self.selected.get_mut().take())
            && !own.keep
        {
            self.tools
                .start_detached("docker", &["buildx", "rm", &name]);
        }
    }
}

/// Arguments of `docker buildx build` that do not depend on the request.
struct BuildxArguments<'a> {
    builder: Option<&'a str>,
    dockerfile: String,
    metadata: String,
    context: String,
    is_insecure: bool,
}

impl BuildxArguments<'_> {
    /// Returns all arguments for a request.
    fn list(self, request: &BuildRequest) -> Vec<String> {
        let Attestations { sbom, provenance } = request.attestations;
        let provenance = match provenance {
            Provenance::Off => "false",
            Provenance::Min => "mode=min",
            Provenance::Max => "mode=max",
        };
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        // BuildKit rejects annotations of an index if it writes no index.
        let level = if platforms.len() > 1 || request.attestations.any() {
            "index,manifest"
        } else {
            "manifest"
        };
        let annotations = request
            .annotations
            .iter()
            .map(|(name, value)| (format!("{level}:{name}"), value.clone()))
            .collect();
        let image = ImageReference::tagged(request.repository.clone(), request.tag.clone());
        // The image is not kept in the engine. `rewrite-timestamp` requires `unpack=false`.
        let mut output = format!(
            "type=image,name={image},push=true,oci-mediatypes=true,rewrite-timestamp=true,unpack=false,store=false"
        );
        if self.is_insecure {
            output += ",registry.insecure=true";
        }
        let mut arguments: Vec<String> = ["buildx", "build", "--progress=plain", "--no-cache"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(self.builder.map(|builder| format!("--builder={builder}")));
        arguments.extend([
            format!("--platform={}", platforms.join(",")),
            format!("--file={}", self.dockerfile),
            format!("--provenance={provenance}"),
            format!("--sbom={sbom}"),
            format!("--metadata-file={}", self.metadata),
            format!("--output={output}"),
        ]);
        arguments.extend(pairs("--build-arg", &request.arguments));
        arguments.extend(pairs("--label", &request.labels));
        arguments.extend(pairs("--annotation", &annotations));
        arguments.push(self.context);
        arguments
    }
}

/// Returns the driver of a builder from the output of `docker buildx inspect`.
fn driver(output: &str) -> Option<&str> {
    output
        .lines()
        .find_map(|line| line.strip_prefix("Driver:"))
        .map(str::trim)
}

/// Returns the platforms that a builder supports from the output of `docker buildx inspect`.
fn platforms(output: &str) -> impl Iterator<Item = Platform> {
    let lists = output
        .lines()
        .filter_map(|line| line.strip_prefix("Platforms:"));
    lists
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().trim_end_matches('*').parse().ok())
}

/// Returns the major and minor version of buildx. `None` if the output is not that of buildx,
/// because podman also supports the command.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text
        .strip_prefix("github.com/docker/buildx ")?
        .split_whitespace()
        .next()?;
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
