//! The engine `docker`: builds for one platform, without annotations.

use std::sync::Arc;

use async_trait::async_trait;

use super::engine::{BuildOutcome, BuildRequest, Engine, EngineError, EngineName};
use super::program::{EngineSession, MAX_VERSION_LENGTH, ProgramTools, pairs};
use crate::model::ImageReference;
use crate::model::env;
use crate::model::text::excerpt;

/// First major version of the client whose `build` command uses buildx if that is installed, and
/// fails if BuildKit is requested without it.
const FIRST_VERSION_WITH_BUILDX: u32 = 23;

/// Builds with `docker build` and `docker push`.
pub(super) struct Docker {
    tools: Arc<ProgramTools>,
}

impl Docker {
    pub(super) fn new(tools: Arc<ProgramTools>) -> Docker {
        Docker { tools }
    }
}

#[async_trait]
impl Engine for Docker {
    fn name(&self) -> EngineName {
        EngineName::Docker
    }

    async fn available(&self) -> Result<String, EngineError> {
        let session = EngineSession::open(EngineName::Docker, &self.tools, None)?;
        let version = session
            .query("docker", &["version", "--format", "{{.Server.Version}}"])
            .await;
        version.map(|version| excerpt(&version, MAX_VERSION_LENGTH)).map_err(|error| match error.hint {
            Some(_) => error,
            None => error.hint("install the docker command line and start the docker engine (DOCKER_HOST), or choose another engine"),
        })
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome, EngineError> {
        let mut session = EngineSession::open(EngineName::Docker, &self.tools, Some(request))?;
        session.reject_attestations(request.attestations)?;
        let [platform] = request.platforms.as_slice() else {
            let error = session.error("the engine builds for only one platform");
            return Err(error.hint(
                "set `engine` to `buildx`, `buildah` or `podman`, or keep one of the `platforms`",
            ));
        };
        let client = session
            .query("docker", &["version", "--format", "{{.Client.Version}}"])
            .await?;
        let major = client
            .split('.')
            .next()
            .and_then(|major| major.trim().parse().ok());
        if major.is_none_or(|major: u32| major < FIRST_VERSION_WITH_BUILDX)
            && session
                .environment
                .get_filled(env::DOCKER_BUILDKIT)
                .is_none()
        {
            session.environment.set(env::DOCKER_BUILDKIT, "1");
        }
        session
            .environment
            .set(env::BUILDX_NO_DEFAULT_ATTESTATIONS, "1");
        session.environment.set(
            env::SOURCE_DATE_EPOCH,
            request.created.timestamp().to_string(),
        );
        let image =
            ImageReference::tagged(request.repository.clone(), request.tag.clone()).to_string();
        let dockerfile = session.write("Dockerfile", &request.dockerfile)?;
        let mut arguments = vec![
            "build".to_owned(),
            "--no-cache".to_owned(),
            format!("--platform={platform}"),
            format!("--file={}", session.argument(&dockerfile)?),
            format!("--tag={image}"),
        ];
        arguments.extend(pairs("--build-arg", &request.arguments));
        arguments.extend(pairs("--label", &request.labels));
        arguments.push(session.context(request)?);
        let mut disposals = session.disposals();
        disposals.add(&session, "docker", &["image", "rm", &image]);
        let pushed = async {
            session.run("docker", &arguments).await?;
            let output = session.run("docker", &["push", &image]).await?;
            session.digest(
                output
                    .iter()
                    .find_map(|line| pushed_digest(line, request.tag.as_str()))
                    .unwrap_or_default(),
            )
        };
        let pushed = pushed.await;
        disposals.run().await;
        Ok(BuildOutcome {
            digest: pushed?,
            warnings: Vec::new(),
        })
    }
}

/// Returns the digest in the output `TAG: digest: sha256:... size: 943` of `docker push`.
fn pushed_digest<'a>(line: &'a str, tag: &str) -> Option<&'a str> {
    line.strip_prefix(tag)?
        .strip_prefix(": digest: ")?
        .split(' ')
        .next()
}
