//! The engines `buildah` and `podman`, which need no daemon. Podman uses the code of buildah and
//! accepts the same arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::emulation::{EMULATOR_HINT, first_unsupported_platform, runs_commands};
use super::engine::{BuildOutcome, BuildRequest, Engine, EngineError, EngineName};
use super::program::{Disposals, EngineSession, MAX_VERSION_LENGTH, ProgramTools, pairs};
use crate::model::ImageReference;
use crate::model::env;
use crate::model::text::excerpt;

/// File in the session directory to which the program writes the pushed digest.
const DIGEST_FILE: &str = "digest";

/// Builds with `buildah` or `podman`.
pub(super) struct Buildah {
    tools: Arc<ProgramTools>,
    name: EngineName,
    program: &'static str,
}

impl Buildah {
    /// Returns the engine `buildah`.
    pub(super) fn new(tools: Arc<ProgramTools>) -> Buildah {
        Buildah {
            tools,
            name: EngineName::Buildah,
            program: "buildah",
        }
    }

    /// Returns the engine `podman`.
    pub(super) fn podman(tools: Arc<ProgramTools>) -> Buildah {
        Buildah {
            tools,
            name: EngineName::Podman,
            program: "podman",
        }
    }

    /// Opens a session.
    fn session(&self, request: Option<&BuildRequest>) -> Result<EngineSession<'_>, EngineError> {
        let mut session = EngineSession::open(self.name, &self.tools, request)?;
        if let Some(host) = self.tools.host_with_bearer_token() {
            let error = session.error(format!(
                "the engine does not support the bearer token that is configured for {host}"
            ));
            return Err(error.hint(
                "set a user name and a password or a refresh token, or choose another engine",
            ));
        }
        if !self.tools.insecure.is_empty() {
            let file = session.write("registries.conf", &self.registries())?;
            session
                .environment
                .set(env::CONTAINERS_REGISTRIES_CONF, session.argument(&file)?);
        }
        if session
            .environment
            .get_filled(env::BUILDAH_ISOLATION)
            .is_none()
            && is_in_container(&session)
        {
            session.environment.set(env::BUILDAH_ISOLATION, "chroot");
        }
        Ok(session)
    }

    /// Returns the user's `registries.conf` with the hosts that are contacted over plain HTTP.
    ///
    /// Unlike `--tls-verify=false`, this does not affect other hosts.
    fn registries(&self) -> String {
        let variables = &self.tools.variables;
        let set = |name| variables.get_filled(name).map(PathBuf::from);
        let in_home = set(env::XDG_CONFIG_HOME).or_else(|| Some(set(env::HOME)?.join(".config")));
        let files = [
            set(env::CONTAINERS_REGISTRIES_CONF),
            in_home.map(|directory| directory.join("containers/registries.conf")),
            Some(PathBuf::from("/etc/containers/registries.conf")),
        ];
        let mut text = files
            .into_iter()
            .flatten()
            .find_map(|file| std::fs::read_to_string(file).ok())
            .unwrap_or_default();
        for host in &self.tools.insecure {
            // The user's own settings for a host take precedence.
            if !text.contains(&format!("\"{host}\"")) {
                text += &format!("\n[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
            }
        }
        text
    }
}

#[async_trait]
impl Engine for Buildah {
    fn name(&self) -> EngineName {
        self.name
    }

    async fn available(&self) -> Result<String, EngineError> {
        let session = self.session(None)?;
        let hint = format!(
            "check that it is installed (Debian: {}) and works, or choose another engine",
            self.program
        );
        let output = session
            .query(self.program, &["--version"])
            .await
            .map_err(|error| error.hint(hint))?;
        // `buildah version 1.39.3 (image-spec 1.1.1, ...)`
        let version = output
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(excerpt(version.unwrap_or_default(), MAX_VERSION_LENGTH))
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome, EngineError> {
        let session = self.session(Some(request))?;
        session.reject_attestations(request.attestations)?;
        if let Some(platform) =
            first_unsupported_platform(&request.platforms).filter(|_| runs_commands(request))
        {
            return Err(session
                .error(format!("this machine cannot run programs of {platform}"))
                .hint(EMULATOR_HINT));
        }
        let mut disposals = session.disposals();
        let pushed = self.push(&session, &mut disposals, request).await;
        disposals.run().await;
        let digest = session.digest(&pushed?)?;
        Ok(BuildOutcome {
            digest,
            warnings: Vec::new(),
        })
    }
}

impl Buildah {
    /// Builds the image of each platform under a temporary name, combines several images into an
    /// index, pushes the result, and returns the digest.
    async fn push(
        &self,
        session: &EngineSession<'_>,
        disposals: &mut Disposals<'_>,
        request: &BuildRequest,
    ) -> Result<String, EngineError> {
        let dockerfile = session.write("Dockerfile", &request.dockerfile)?;
        let dockerfile = session.argument(&dockerfile)?;
        let context = session.context(request)?;
        let name = format!(
            "localhost/imglife-{}",
            std::iter::repeat_with(fastrand::lowercase)
                .take(16)
                .collect::<String>()
        );
        let mut images = Vec::new();
        for platform in &request.platforms {
            let image = format!("{name}:{}", platform.to_string().replace('/', "-"));
            let mut arguments = vec![
                "build".to_owned(),
                "--format=oci".to_owned(),
                // A layer per instruction would stay in local storage, and requires a base image
                // with a history.
                "--layers=false".to_owned(),
                "--no-cache".to_owned(),
                format!("--timestamp={}", request.created.timestamp()),
                format!("--platform={platform}"),
                format!("--file={dockerfile}"),
                format!("--tag={image}"),
            ];
            arguments.extend(pairs("--build-arg", &request.arguments));
            arguments.extend(pairs("--label", &request.labels));
            arguments.extend(pairs("--annotation", &request.annotations));
            arguments.push(context.clone());
            disposals.add(session, self.program, &["rmi", "--force", &image]);
            session.run(self.program, &arguments).await?;
            images.push(image);
        }
        let target = format!(
            "docker://{}",
            ImageReference::tagged(request.repository.clone(), request.tag.clone())
        );
        let digest_file = session.argument(&session.path(DIGEST_FILE))?;
        let mut arguments = match images.as_slice() {
            [_] => vec!["push".to_owned()],
            _ => ["manifest", "push", "--all", "--format=oci"]
                .map(str::to_owned)
                .to_vec(),
        };
        arguments.push(format!("--digestfile={digest_file}"));
        if self.tools.is_insecure(&request.repository) {
            // `manifest push` of older versions does not read `registries.conf`.
            arguments.push("--tls-verify=false".to_owned());
        }
        let pushed = match images.as_slice() {
            [image] => image.clone(),
            images => {
                self.create_index(session, disposals, (&name, images), request)
                    .await?
            }
        };
        arguments.extend([pushed, target]);
        session.run(self.program, &arguments).await?;
        // Older versions exit with 0 if `manifest push` fails, but then write no digest.
        session.read(DIGEST_FILE)
    }

    /// Creates an index of images, in their order, and returns its name.
    async fn create_index(
        &self,
        session: &EngineSession<'_>,
        disposals: &mut Disposals<'_>,
        (name, images): (&str, &[String]),
        request: &BuildRequest,
    ) -> Result<String, EngineError> {
        let index = format!("{name}:index");
        disposals.add(session, self.program, &["manifest", "rm", &index]);
        session
            .run(self.program, &["manifest", "create", &index])
            .await?;
        for image in images {
            session
                .run(
                    self.program,
                    &[
                        "manifest",
                        "add",
                        &index,
                        &format!("containers-storage:{image}"),
                    ],
                )
                .await?;
        }
        // Only newer versions can annotate the index.
        if session
            .query(self.program, &["manifest", "annotate", "--help"])
            .await?
            .contains("--index")
        {
            let mut arguments = ["manifest", "annotate", "--index"]
                .map(str::to_owned)
                .to_vec();
            // Unlike the flag of `build`, this one takes comma-separated values.
            let quoted = |(name, value): (&String, &String)| {
                format!("\"{}\"", format!("{name}={value}").replace('"', "\"\""))
            };
            arguments.extend(
                request
                    .annotations
                    .iter()
                    .flat_map(|pair| ["--annotation".to_owned(), quoted(pair)]),
            );
            arguments.push(index.clone());
            session.run(self.program, &arguments).await?;
        }
        Ok(index)
    }
}

/// Returns true if imglife runs in a container, in which the default isolation of `RUN` is usually
/// not permitted.
fn is_in_container(session: &EngineSession<'_>) -> bool {
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|file| Path::new(file).exists())
        || session
            .environment
            .get_filled(env::KUBERNETES_SERVICE_HOST)
            .is_some()
}
