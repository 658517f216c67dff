//! Buildah and podman: no daemon. Podman builds by buildah's code and takes the same arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::emulation::{NO_EMULATOR, foreign, runs_commands};
use super::program::{LONGEST_VERSION, Leftovers, Session, Tools, pairs};
use super::{BuildRequest, Built, Engine, EngineError, EngineName};
use crate::model::ImageReference;
use crate::model::env;
use crate::model::text::excerpt;

/// The file of the session that tells what was pushed.
const DIGEST: &str = "digest";

/// Builds with `buildah` or `podman`.
pub(super) struct Containers {
    tools: Arc<Tools>,
    name: EngineName,
    program: &'static str,
}

impl Containers {
    pub(super) fn buildah(tools: Arc<Tools>) -> Containers {
        Containers {
            tools,
            name: EngineName::Buildah,
            program: "buildah",
        }
    }

    pub(super) fn podman(tools: Arc<Tools>) -> Containers {
        Containers {
            tools,
            name: EngineName::Podman,
            program: "podman",
        }
    }

    fn session(&self, request: Option<&BuildRequest>) -> Result<Session<'_>, EngineError> {
        let mut session = Session::open(self.name, &self.tools, request)?;
        if let Some(host) = self.tools.host_with_bearer_token() {
            let error = session.error(format!(
                "it cannot be given the bearer token that is set for {host}"
            ));
            return Err(error.hint("set user name and password, or a token that can be exchanged, or choose another engine"));
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

    /// Returns the user's list of registries with those that are spoken to over plain HTTP: more
    /// than `--tls-verify=false` this leaves the others as they are.
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
            // What the user says of a host is not said twice.
            if !text.contains(&format!("\"{host}\"")) {
                text += &format!("\n[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
            }
        }
        text
    }
}

#[async_trait]
impl Engine for Containers {
    fn name(&self) -> EngineName {
        self.name
    }

    async fn available(&self) -> Result<String, EngineError> {
        let session = self.session(None)?;
        let hint = format!(
            "see that it is installed (Debian: {}) and works, or choose another engine",
            self.program
        );
        let told = session
            .ask(self.program, &["--version"])
            .await
            .map_err(|error| error.hint(hint))?;
        // `buildah version 1.39.3 (image-spec 1.1.1, ...)`
        let version = told
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(excerpt(version.unwrap_or_default(), LONGEST_VERSION))
    }

    async fn build(&self, request: &BuildRequest) -> Result<Built, EngineError> {
        let session = self.session(Some(request))?;
        session.attests_nothing(request.attestations)?;
        if let Some(platform) = foreign(&request.platforms).filter(|_| runs_commands(request)) {
            return Err(session
                .error(format!("it cannot run programs of {platform}"))
                .hint(NO_EMULATOR));
        }
        let mut leftovers = session.leftovers();
        let pushed = self.push(&session, &mut leftovers, request).await;
        leftovers.put_away().await;
        let digest = session.digest(&pushed?)?;
        Ok(Built {
            digest,
            warnings: Vec::new(),
        })
    }
}

impl Containers {
    /// Builds the image of each platform under a name of its own, binds several into an index,
    /// pushes, and returns the digest.
    async fn push(
        &self,
        session: &Session<'_>,
        leftovers: &mut Leftovers<'_>,
        request: &BuildRequest,
    ) -> Result<String, EngineError> {
        let dockerfile = session.write("Dockerfile", &request.dockerfile)?;
        let dockerfile = session.argument(&dockerfile)?;
        let folder = session.folder(request)?;
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
                // A layer of its own for each instruction would stay in the store, and needs a base
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
            arguments.push(folder.clone());
            leftovers.add(session, self.program, &["rmi", "--force", &image]);
            session.run(self.program, &arguments).await?;
            images.push(image);
        }
        let target = format!(
            "docker://{}",
            ImageReference::tagged(request.repository.clone(), request.tag.clone())
        );
        let digest_file = session.argument(&session.path(DIGEST))?;
        let mut arguments = match images.as_slice() {
            [_] => vec!["push".to_owned()],
            _ => ["manifest", "push", "--all", "--format=oci"]
                .map(str::to_owned)
                .to_vec(),
        };
        arguments.push(format!("--digestfile={digest_file}"));
        if self.tools.is_insecure(&request.repository) {
            // `manifest push` of older versions looks at no list of registries.
            arguments.push("--tls-verify=false".to_owned());
        }
        let pushed = match images.as_slice() {
            [image] => image.clone(),
            images => {
                self.bind(session, leftovers, (&name, images), request)
                    .await?
            }
        };
        arguments.extend([pushed, target]);
        session.run(self.program, &arguments).await?;
        // Older versions end well when `manifest push` failed; they write no digest then.
        session.read(DIGEST)
    }

    /// Makes an index of images, in their order, and returns its name.
    async fn bind(
        &self,
        session: &Session<'_>,
        leftovers: &mut Leftovers<'_>,
        (name, images): (&str, &[String]),
        request: &BuildRequest,
    ) -> Result<String, EngineError> {
        let index = format!("{name}:index");
        leftovers.add(session, self.program, &["manifest", "rm", &index]);
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
        // Only newer versions can annotate the index itself.
        if session
            .ask(self.program, &["manifest", "annotate", "--help"])
            .await?
            .contains("--index")
        {
            let mut arguments = ["manifest", "annotate", "--index"]
                .map(str::to_owned)
                .to_vec();
            // Other than that of `build`, this flag takes a line of comma-separated values.
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

/// Returns whether this runs in a container, where the usual isolation of `RUN` is mostly not
/// allowed.
fn is_in_container(session: &Session<'_>) -> bool {
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|file| Path::new(file).exists())
        || session
            .environment
            .get_filled(env::KUBERNETES_SERVICE_HOST)
            .is_some()
}
