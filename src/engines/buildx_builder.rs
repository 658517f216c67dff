//! A buildx builder that imglife creates if docker has only its built-in builder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::engine::EngineError;
use super::program::EngineSession;
use crate::model::{Host, Platform, env};

/// Name of a builder that is kept for later runs.
const KEPT_BUILDER: &str = "imglife";

/// Driver whose builders run as containers in a docker engine.
const CONTAINER_DRIVER: &str = "docker-container";

/// Docker context for an engine that requires client certificates. Its name must differ from those
/// of builders.
const CONTEXT: &str = "imglife-engine";

/// Settings of a builder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildxBuilder {
    /// Image of BuildKit; `None` for the default of buildx.
    pub image: Option<String>,
    /// Additional machines, each for some of the platforms.
    pub nodes: Vec<BuilderNode>,
    /// Image that installs emulators for other platforms; `None` to install none.
    pub emulators: Option<String>,
    /// If true, the builder is kept for later runs.
    pub keep: bool,
    /// PEM files of additional certificate authorities by host.
    pub authorities: BTreeMap<Host, PathBuf>,
}

impl BuildxBuilder {
    /// Creates the builder and returns its name. A kept builder of an earlier run is used again.
    pub(super) async fn create(
        &self,
        session: &EngineSession<'_>,
        insecure: &BTreeSet<Host>,
    ) -> Result<String, EngineError> {
        if let Some(image) = &self.emulators {
            session
                .run(
                    "docker",
                    &["run", "--privileged", "--rm", image, "--install", "all"],
                )
                .await?;
        }
        self.create_context(session).await?;
        let name = if self.keep {
            KEPT_BUILDER.to_owned()
        } else {
            format!("{KEPT_BUILDER}-{}", random_suffix())
        };
        if self.keep
            && session
                .query("docker", &["buildx", "inspect", "--bootstrap", &name])
                .await
                .is_ok()
        {
            return Ok(name);
        }
        let config = session.write("buildkitd.toml", &self.buildkitd_config(insecure))?;
        // With the host network, the builder reaches the same registries as the docker engine.
        let mut options = vec![
            "--driver-opt=network=host".to_owned(),
            format!("--config={}", session.argument(&config)?),
        ];
        options.extend(
            self.image
                .iter()
                .map(|image| format!("--driver-opt=image={image}")),
        );
        let mut arguments = [
            "buildx",
            "create",
            "--bootstrap",
            "--driver",
            CONTAINER_DRIVER,
            "--name",
            &name,
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(options.iter().cloned());
        arguments.extend(client_certificates(session).map(|_| CONTEXT.to_owned()));
        let created = async {
            session.run("docker", &arguments).await?;
            for node in &self.nodes {
                session
                    .run(
                        "docker",
                        &node.create_arguments(&name, CONTAINER_DRIVER, &options),
                    )
                    .await?;
            }
            Ok(())
        };
        match created.await {
            Ok(()) => Ok(name),
            Err(error) => {
                // Remove the incomplete builder.
                let _removed = session
                    .query("docker", &["buildx", "rm", "--force", &name])
                    .await;
                let error: EngineError = error;
                Err(match error.hint {
                    Some(_) => error,
                    None => error.hint(
                        "check that the docker engine can pull the BuildKit image `moby/buildkit:buildx-stable-1`, set another image \
                         with `--builder-image`, or set an existing builder with IMGLIFE_BUILDER",
                    ),
                })
            }
        }
    }

    /// Creates the docker context for the builder in the configuration of the session.
    ///
    /// Needed because buildx does not use client certificates from the environment.
    pub(super) async fn create_context(
        &self,
        session: &EngineSession<'_>,
    ) -> Result<(), EngineError> {
        let Some((host, directory)) = client_certificates(session) else {
            return Ok(());
        };
        let file = |name: &str| session.argument(&Path::new(directory).join(name));
        let endpoint = format!(
            "host={host},ca={},cert={},key={}",
            file("ca.pem")?,
            file("cert.pem")?,
            file("key.pem")?
        );
        if session
            .query("docker", &["context", "inspect", CONTEXT])
            .await
            .is_ok()
        {
            return Ok(());
        }
        session
            .query(
                "docker",
                &["context", "create", CONTEXT, "--docker", &endpoint],
            )
            .await
            .map(drop)
    }

    /// Returns the `buildkitd.toml` with the settings of registries.
    fn buildkitd_config(&self, insecure: &BTreeSet<Host>) -> String {
        let mut config = String::new();
        for host in insecure
            .iter()
            .chain(self.authorities.keys())
            .collect::<BTreeSet<&Host>>()
        {
            // Writing to a `String` cannot fail.
            let _done = writeln!(config, "[registry.\"{host}\"]");
            if insecure.contains(host) {
                config += "  http = true\n";
            }
            if let Some(file) = self.authorities.get(host) {
                let _done = writeln!(
                    config,
                    "  ca = [{}]",
                    serde_json::Value::from(file.to_string_lossy())
                );
            }
        }
        config
    }
}

/// Returns the address of the docker engine and the directory of the client certificates, or `None`
/// if the engine requires none.
fn client_certificates<'a>(session: &'a EngineSession<'_>) -> Option<(&'a str, &'a str)> {
    let get = |name| session.environment.get_filled(name);
    get(env::DOCKER_TLS_VERIFY).and(get(env::DOCKER_HOST).zip(get(env::DOCKER_CERT_PATH)))
}

/// Returns 12 random letters.
fn random_suffix() -> String {
    std::iter::repeat_with(fastrand::lowercase)
        .take(12)
        .collect()
}

/// An additional machine of a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderNode {
    /// Platforms that the machine builds.
    pub platforms: Vec<Platform>,
    /// Docker context, or address of a docker engine or of BuildKit.
    pub endpoint: String,
}

impl BuilderNode {
    /// Returns the arguments of docker that add the machine to a builder.
    pub(super) fn create_arguments(
        &self,
        builder: &str,
        driver: &str,
        options: &[String],
    ) -> Vec<String> {
        let mut arguments = [
            "buildx", "create", "--append", "--name", builder, "--driver", driver,
        ]
        .map(str::to_owned)
        .to_vec();
        if driver == CONTAINER_DRIVER {
            arguments.push("--bootstrap".to_owned());
        }
        arguments.extend(options.iter().cloned());
        let platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
        arguments.extend([
            format!("--platform={}", platforms.join(",")),
            self.endpoint.clone(),
        ]);
        arguments
    }
}

/// Error for text that is not a builder node.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("write it as `linux/arm64=ssh://user@host`, with commas between platforms")]
pub struct BuilderNodeError;

impl FromStr for BuilderNode {
    type Err = BuilderNodeError;

    fn from_str(text: &str) -> Result<BuilderNode, BuilderNodeError> {
        let (platforms, endpoint) = text.split_once('=').ok_or(BuilderNodeError)?;
        let platforms = platforms
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<Platform>, _>>()
            .map_err(|_| BuilderNodeError)?;
        // An endpoint that starts with a dash would be read as an option.
        if endpoint.is_empty()
            || endpoint.starts_with('-')
            || endpoint
                .chars()
                .any(|character| character.is_whitespace() || character.is_control())
        {
            return Err(BuilderNodeError);
        }
        Ok(BuilderNode {
            platforms,
            endpoint: endpoint.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_node_has_platforms_and_an_endpoint() {
        let node: BuilderNode = "linux/arm64,linux/arm/v7=tcp://10.0.0.7:2376?a=b"
            .parse()
            .expect("a node");
        assert_eq!(
            node.platforms
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["linux/arm64", "linux/arm/v7"]
        );
        assert_eq!(node.endpoint, "tcp://10.0.0.7:2376?a=b");
        for text in [
            "",
            "linux/arm64",
            "linux/arm64=",
            "=tcp://a",
            "linux/arm64=--append",
            "linux/arm64=a b",
            "nonsense=tcp://a",
        ] {
            assert_eq!(text.parse::<BuilderNode>(), Err(BuilderNodeError), "{text}");
        }
    }

    #[test]
    fn fuzzing_builder_nodes() {
        crate::model::fuzz_tests::fuzz(
            "builder nodes",
            &[
                "linux/arm64,linux/arm/v7=ssh://user@host",
                "linux/s390x=tcp://10.0.0.7:2376?a=b",
            ],
            |input| {
                let node = crate::model::fuzz_tests::text(input).parse::<BuilderNode>();
                assert!(
                    !node.is_ok_and(|node| node.endpoint.starts_with('-')),
                    "the endpoint would be read as an option"
                );
            },
        );
    }
}
