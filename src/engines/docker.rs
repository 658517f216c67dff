//! The docker engine by itself: one platform, and no annotations.

use std::sync::Arc;

use async_trait::async_trait;

use super::program::{LONGEST_VERSION, Session, Tools, pairs};
use super::{BuildRequest, Built, Engine, EngineError, EngineName};
use crate::model::ImageReference;
use crate::model::env;
use crate::model::text::excerpt;

/// The first version of the client whose `build` is buildx where that is installed, and an error
/// where BuildKit is asked for without it.
const BUILDX_WITHIN: u32 = 23;

/// Builds with `docker build` and `docker push`.
pub(super) struct Docker {
    tools: Arc<Tools>,
}

impl Docker {
    pub(super) fn new(tools: Arc<Tools>) -> Docker {
        Docker { tools }
    }
}

#[async_trait]
impl Engine for Docker {
    fn name(&self) -> EngineName {
        EngineName::Docker
    }

    async fn available(&self) -> Result<String, EngineError> {
        let session = Session::open(EngineName::Docker, &self.tools, None)?;
        let asked = session
            .ask("docker", &["version", "--format", "{{.Server.Version}}"])
            .await;
        asked.map(|version| excerpt(&version, LONGEST_VERSION)).map_err(|error| match error.hint {
            Some(_) => error,
            None => error.hint("install docker's command line and start its engine (DOCKER_HOST), or choose another engine"),
        })
    }

    async fn build(&self, request: &BuildRequest) -> Result<Built, EngineError> {
        let mut session = Session::open(EngineName::Docker, &self.tools, Some(request))?;
        session.attests_nothing(request.attestations)?;
        let [platform] = request.platforms.as_slice() else {
            let error = session.error("builds for one platform only");
            return Err(
                error.hint("set `engine: buildx`, `buildah` or `podman`, or one of `platforms`")
            );
        };
        let client = session
            .ask("docker", &["version", "--format", "{{.Client.Version}}"])
            .await?;
        let major = client
            .split('.')
            .next()
            .and_then(|major| major.trim().parse().ok());
        if major.is_none_or(|major: u32| major < BUILDX_WITHIN)
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
        arguments.push(session.folder(request)?);
        let mut leftovers = session.leftovers();
        leftovers.add(&session, "docker", &["image", "rm", &image]);
        let pushed = async {
            session.run("docker", &arguments).await?;
            let said = session.run("docker", &["push", &image]).await?;
            session.digest(
                said.iter()
                    .find_map(|line| pushed_digest(line, request.tag.as_str()))
                    .unwrap_or_default(),
            )
        };
        let pushed = pushed.await;
        leftovers.put_away().await;
        Ok(Built {
            digest: pushed?,
            warnings: Vec::new(),
        })
    }
}

/// Returns the digest in docker's `TAG: digest: sha256:... size: 943`.
fn pushed_digest<'a>(line: &'a str, tag: &str) -> Option<&'a str> {
    line.strip_prefix(tag)?
        .strip_prefix(": digest: ")?
        .split(' ')
        .next()
}
