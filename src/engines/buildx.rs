//! Docker's buildx: BuildKit, inside the docker engine, in a container, or anywhere.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::emulation::{NO_EMULATOR, runs_commands};
use super::program::{LONGEST_VERSION, Session, Tools, pairs};
use super::{
    Attestations, BuildRequest, Built, Engine, EngineError, EngineName, OwnBuilder, Provenance,
};
use crate::error::chain;
use crate::model::env;
use crate::model::text::excerpt;
use crate::model::{ImageReference, Platform};

/// The first version that writes annotations.
const OLDEST: (u32, u32) = (0, 12);

const INSTALL: &str = "install docker's plugin buildx (Debian: docker-buildx; elsewhere docker-buildx-plugin), or choose another engine";

/// The name of a builder that is made for one session only.
const OWN_BUILDER: &str = "imglife";

/// The file of the session that tells what was built.
const METADATA: &str = "metadata.json";

/// Builds with `docker buildx`.
pub(super) struct Buildx {
    tools: Arc<Tools>,
    builder: Option<String>,
    own: Option<OwnBuilder>,
    /// What was decided at the first build; `None` before.
    made: Mutex<Option<Made>>,
}

/// The builder where none was named.
#[derive(Clone)]
enum Made {
    /// The one at hand will do.
    AtHand,
    Own(String),
}

/// A session, with the builder to name.
struct Opened<'a> {
    session: Session<'a>,
    builder: Option<String>,
    version: String,
}

/// What `--metadata-file` tells.
#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "containerimage.digest", default)]
    digest: String,
}

impl Buildx {
    pub(super) fn new(
        tools: Arc<Tools>,
        builder: Option<String>,
        own: Option<OwnBuilder>,
    ) -> Buildx {
        Buildx {
            tools,
            builder,
            own,
            made: Mutex::default(),
        }
    }

    /// Returns the builder to name where none was: one that is made at the first build, where
    /// docker has only its own.
    async fn made(&self, session: &Session<'_>) -> Result<Option<String>, EngineError> {
        let Some(own) = &self.own else {
            return Ok(None);
        };
        let mut made = self.made.lock().await;
        let made = match &*made {
            Some(known) => known.clone(),
            None if driver(&session.ask("docker", &["buildx", "inspect"]).await?)
                != Some("docker") =>
            {
                made.insert(Made::AtHand).clone()
            }
            None => made
                .insert(Made::Own(own.make(session, &self.tools.insecure).await?))
                .clone(),
        };
        match made {
            Made::AtHand => Ok(None),
            Made::Own(name) => {
                own.connect(session).await?;
                Ok(Some(name))
            }
        }
    }

    /// Refuses platforms whose programs nothing can run, before anything is built.
    async fn runs_all(
        &self,
        session: &Session<'_>,
        builder: Option<&str>,
        request: &BuildRequest,
    ) -> Result<(), EngineError> {
        if !runs_commands(request) {
            return Ok(());
        }
        let arguments: Vec<&str> = ["buildx", "inspect"].into_iter().chain(builder).collect();
        let told = session.ask("docker", &arguments).await?;
        let known: Vec<Platform> = platforms(&told).collect();
        match request
            .platforms
            .iter()
            .find(|wanted| !known.iter().any(|known| known.matches(wanted)))
        {
            // A builder that was not started yet tells none.
            Some(wanted) if !known.is_empty() => Err(session
                .error(format!("its builder cannot run programs of {wanted}"))
                .hint(NO_EMULATOR)),
            _ => Ok(()),
        }
    }

    /// Opens a session. A builder for `BUILDKITD_ADDR` is made in the session's own directory,
    /// so that the user's list of builders stays as it is.
    async fn session(&self, request: Option<&BuildRequest>) -> Result<Opened<'_>, EngineError> {
        let mut session = Session::open(EngineName::Buildx, &self.tools, request)?;
        let version = session
            .ask("docker", &["buildx", "version"])
            .await
            .map_err(|error| error.hint(INSTALL))?;
        match parse_version(&version) {
            None => {
                return Err(session
                    .error("`docker buildx` is not there, or not what docker calls so")
                    .hint(INSTALL));
            }
            Some(found) if found < OLDEST => {
                let (major, minor) = OLDEST;
                return Err(session
                    .error(format!("`docker buildx` is older than {major}.{minor}"))
                    .hint(INSTALL));
            }
            Some(_) => {}
        }
        let version = excerpt(
            version
                .split_whitespace()
                .nth(1)
                .unwrap_or_default()
                .trim_start_matches('v'),
            LONGEST_VERSION,
        );
        if self.builder.is_some() {
            return Ok(Opened {
                session,
                builder: self.builder.clone(),
                version,
            });
        }
        let Some(address) = self.tools.variables.get_filled(env::BUILDKITD_ADDR) else {
            return Ok(Opened {
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
            .ask(
                "docker",
                &[
                    "buildx",
                    "create",
                    "--name",
                    OWN_BUILDER,
                    "--driver",
                    "remote",
                    address,
                ],
            )
            .await?;
        for node in self.own.iter().flat_map(|own| &own.nodes) {
            session
                .ask("docker", &node.appended(OWN_BUILDER, "remote", &[]))
                .await?;
        }
        Ok(Opened {
            session,
            builder: Some(OWN_BUILDER.to_owned()),
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
        let Opened {
            session,
            builder,
            version,
        } = self.session(None).await?;
        let arguments = ["buildx", "inspect"].into_iter().chain(builder.as_deref());
        let told = session
            .ask("docker", &arguments.collect::<Vec<_>>())
            .await?;
        // It ends well when a builder cannot be reached, and says so in one of its lines.
        match told.lines().find_map(|line| line.strip_prefix("Error:")) {
            None => Ok(version),
            Some(problem) => {
                let error = session.error(format!(
                    "its builder cannot be used: {}",
                    excerpt(problem, 300)
                ));
                Err(error.hint("start the docker engine (DOCKER_HOST), or name another builder by `builder` or IMGLIFE_BUILDER"))
            }
        }
    }

    async fn build(&self, request: &BuildRequest) -> Result<Built, EngineError> {
        let Opened {
            mut session,
            builder,
            ..
        } = self.session(Some(request)).await?;
        let builder = match builder {
            Some(builder) => Some(builder),
            None => self.made(&session).await?,
        };
        self.runs_all(&session, builder.as_deref(), request).await?;
        session.environment.set(
            env::SOURCE_DATE_EPOCH,
            request.created.timestamp().to_string(),
        );
        let dockerfile = session.write("Dockerfile", &request.dockerfile)?;
        let metadata = session.path(METADATA);
        let arguments = Arguments {
            builder: builder.as_deref(),
            dockerfile: session.argument(&dockerfile)?,
            metadata: session.argument(&metadata)?,
            folder: session.folder(request)?,
            is_insecure: self.tools.is_insecure(&request.repository),
        };
        session.run("docker", &arguments.of(request)).await?;
        let metadata: Metadata = serde_json::from_str(&session.read(METADATA)?).unwrap_or_default();
        Ok(Built {
            digest: session.digest(&metadata.digest)?,
            warnings: Vec::new(),
        })
    }

    async fn close(&self) {
        let (Some(own), Some(Made::Own(name))) = (&self.own, self.made.lock().await.take()) else {
            return;
        };
        if own.keep {
            return;
        }
        let removed = async {
            let Opened { session, .. } = self.session(None).await?;
            own.connect(&session).await?;
            session.ask("docker", &["buildx", "rm", &name]).await
        };
        if let Err(error) = removed.await {
            tracing::warn!("the builder {name} is left behind: {}", chain(&error));
        }
    }
}

impl Drop for Buildx {
    fn drop(&mut self) {
        // Only where the run was ended at once.
        if let (Some(own), Some(Made::Own(name))) = (&self.own, self.made.get_mut().take())
            && !own.keep
        {
            self.tools.leave("docker", &["buildx", "rm", &name]);
        }
    }
}

struct Arguments<'a> {
    builder: Option<&'a str>,
    dockerfile: String,
    metadata: String,
    folder: String,
    is_insecure: bool,
}

impl Arguments<'_> {
    fn of(self, request: &BuildRequest) -> Vec<String> {
        let Attestations { sbom, provenance } = request.attestations;
        let provenance = match provenance {
            Provenance::Off => "false",
            Provenance::Min => "mode=min",
            Provenance::Max => "mode=max",
        };
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        // BuildKit refuses annotations for an index where it writes none.
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
        // Nothing of it stays with the engine; and only what is not unpacked there can have the
        // times of its files rewritten.
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
        arguments.push(self.folder);
        arguments
    }
}

/// Returns the driver of a builder, as `docker buildx inspect` tells it.
fn driver(told: &str) -> Option<&str> {
    told.lines()
        .find_map(|line| line.strip_prefix("Driver:"))
        .map(str::trim)
}

/// Returns the platforms that the nodes of a builder run programs of, as `docker buildx inspect`
/// tells them.
fn platforms(told: &str) -> impl Iterator<Item = Platform> {
    let lists = told
        .lines()
        .filter_map(|line| line.strip_prefix("Platforms:"));
    lists
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().trim_end_matches('*').parse().ok())
}

/// Returns major and minor version, or `None` when the text is not of buildx: podman answers to the
/// same command.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text
        .strip_prefix("github.com/docker/buildx ")?
        .split_whitespace()
        .next()?;
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
