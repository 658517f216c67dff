//! A buildx builder that is made where docker's own is all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::EngineError;
use super::program::Session;
use crate::model::env;
use crate::model::{Host, Platform};

/// The name of a builder that stays.
const KEPT: &str = "imglife";
/// The driver whose builders are containers of a docker engine.
const CONTAINER: &str = "docker-container";
/// The context that leads to the engine of the environment, where that needs certificates. No
/// builder may be named like one.
const CONTEXT: &str = "imglife-engine";

/// How a builder is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnBuilder {
    /// The image of BuildKit, instead of buildx's own choice.
    pub image: Option<String>,
    /// Machines that build some of the platforms.
    pub nodes: Vec<Node>,
    /// The image that registers emulators for other platforms; none are when `None`.
    pub emulators: Option<String>,
    /// Whether it stays for the next run.
    pub keep: bool,
    /// Certificate authorities that hosts are known by, besides those that everybody knows.
    pub authorities: BTreeMap<Host, PathBuf>,
}

impl OwnBuilder {
    /// Makes the builder among those of the user, or takes the one that an earlier run left there,
    /// and returns its name.
    pub(super) async fn make(
        &self,
        session: &Session<'_>,
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
        self.connect(session).await?;
        let name = if self.keep {
            KEPT.to_owned()
        } else {
            format!("{KEPT}-{}", random())
        };
        if self.keep
            && session
                .ask("docker", &["buildx", "inspect", "--bootstrap", &name])
                .await
                .is_ok()
        {
            return Ok(name);
        }
        let rules = session.write("buildkitd.toml", &self.rules(insecure))?;
        // It finds registries where the docker engine does.
        let mut options = vec![
            "--driver-opt=network=host".to_owned(),
            format!("--config={}", session.argument(&rules)?),
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
            CONTAINER,
            "--name",
            &name,
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(options.iter().cloned());
        arguments.extend(certificates(session).map(|_| CONTEXT.to_owned()));
        let made = async {
            session.run("docker", &arguments).await?;
            for node in &self.nodes {
                session
                    .run("docker", &node.appended(&name, CONTAINER, &options))
                    .await?;
            }
            Ok(())
        };
        match made.await {
            Ok(()) => Ok(name),
            Err(error) => {
                // What was made of it is of no use.
                let _gone = session
                    .ask("docker", &["buildx", "rm", "--force", &name])
                    .await;
                let error: EngineError = error;
                Err(match error.hint {
                    Some(_) => error,
                    None => error.hint(
                        "a builder of the driver `docker-container` is made of an image of BuildKit: see that the docker engine can pull \
                         `moby/buildkit:buildx-stable-1`, or name another by `--builder-image`, or a builder by IMGLIFE_BUILDER",
                    ),
                })
            }
        }
    }

    /// Makes the context that the builder is reached by, in the session's own configuration. Buildx
    /// takes no certificates from the environment.
    pub(super) async fn connect(&self, session: &Session<'_>) -> Result<(), EngineError> {
        let Some((host, directory)) = certificates(session) else {
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
            .ask("docker", &["context", "inspect", CONTEXT])
            .await
            .is_ok()
        {
            return Ok(());
        }
        session
            .ask(
                "docker",
                &["context", "create", CONTEXT, "--docker", &endpoint],
            )
            .await
            .map(drop)
    }

    /// Returns what BuildKit is to know of registries (its `buildkitd.toml`).
    fn rules(&self, insecure: &BTreeSet<Host>) -> String {
        let mut rules = String::new();
        for host in insecure
            .iter()
            .chain(self.authorities.keys())
            .collect::<BTreeSet<&Host>>()
        {
            // Writing to a string does not fail.
            let _done = writeln!(rules, "[registry.\"{host}\"]");
            if insecure.contains(host) {
                rules += "  http = true\n";
            }
            if let Some(file) = self.authorities.get(host) {
                let _done = writeln!(
                    rules,
                    "  ca = [{}]",
                    serde_json::Value::from(file.to_string_lossy())
                );
            }
        }
        rules
    }
}

/// Returns the address of the docker engine and the directory of the certificates that it asks for,
/// where it does.
fn certificates<'a>(session: &'a Session<'_>) -> Option<(&'a str, &'a str)> {
    let get = |name| session.environment.get_filled(name);
    get(env::DOCKER_TLS_VERIFY).and(get(env::DOCKER_HOST).zip(get(env::DOCKER_CERT_PATH)))
}

fn random() -> String {
    std::iter::repeat_with(fastrand::lowercase)
        .take(12)
        .collect()
}

/// Another machine of a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub platforms: Vec<Platform>,
    /// A docker context, or the address of a docker engine or BuildKit.
    pub endpoint: String,
}

impl Node {
    /// Returns the arguments that add the machine to a builder.
    pub(super) fn appended(&self, builder: &str, driver: &str, options: &[String]) -> Vec<String> {
        let mut arguments = [
            "buildx", "create", "--append", "--name", builder, "--driver", driver,
        ]
        .map(str::to_owned)
        .to_vec();
        if driver == CONTAINER {
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

#[derive(Debug, Error, PartialEq, Eq)]
#[error("write it as `linux/arm64=ssh://user@host`, with commas between platforms")]
pub struct NodeError;

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Node, NodeError> {
        let (platforms, endpoint) = text.split_once('=').ok_or(NodeError)?;
        let platforms = platforms
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<Platform>, _>>()
            .map_err(|_| NodeError)?;
        // What begins with a dash would be taken for an option.
        if endpoint.is_empty()
            || endpoint.starts_with('-')
            || endpoint
                .chars()
                .any(|character| character.is_whitespace() || character.is_control())
        {
            return Err(NodeError);
        }
        Ok(Node {
            platforms,
            endpoint: endpoint.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_platforms_and_an_endpoint() {
        let node: Node = "linux/arm64,linux/arm/v7=tcp://10.0.0.7:2376?a=b"
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
            assert_eq!(text.parse::<Node>(), Err(NodeError), "{text}");
        }
    }

    #[test]
    fn fuzzing_nodes() {
        crate::model::fuzz_tests::fuzz(
            "nodes",
            &[
                "linux/arm64,linux/arm/v7=ssh://user@host",
                "linux/s390x=tcp://10.0.0.7:2376?a=b",
            ],
            |input| {
                let node = crate::model::fuzz_tests::text(input).parse::<Node>();
                assert!(
                    !node.is_ok_and(|node| node.endpoint.starts_with('-')),
                    "it would be an option"
                );
            },
        );
    }
}
