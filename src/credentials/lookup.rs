//! Lookup order of credentials.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use super::auth_file::AuthFile;
use super::forge::{ForgeCredentials, ForgeKind};
use super::{Credential, CredentialError, Credentials, helper};
use crate::command::Runner;
use crate::model::env;
use crate::model::lock::lock;
use crate::model::{Host, RepositoryPath, Secret, Variables};

/// Maximum size of a credential file, in bytes.
const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// Name of Docker Hub in docker's files and helpers.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Credentials from the environment. The first one found is used, in this order:
///
/// 1. imglife's own variables
/// 2. the GitLab CI job
/// 3. docker's configuration: variable, file, helpers
/// 4. podman's file
/// 5. the token of a Gitea job
///
/// Files are read once, and each helper is called once for a server.
pub struct StandardCredentials {
    variables: Variables,
    runner: Arc<dyn Runner>,
    files: OnceCell<Vec<Sourced<Result<AuthFile, String>>>>,
    helpers: Mutex<HashMap<HelperKey, HelperResult>>,
}

/// Name of a helper, and the server that a credential is needed for.
type HelperKey = (String, String);
type HelperResult = Arc<OnceCell<Result<Option<Credential>, String>>>;

/// Value with its source: variables, a file or a helper.
struct Sourced<T> {
    source: String,
    value: T,
}

impl StandardCredentials {
    /// Returns the credentials that `variables` lead to. `runner` calls the helpers. That only
    /// reads, so dry modes need a real runner too.
    pub fn new(variables: Variables, runner: Arc<dyn Runner>) -> StandardCredentials {
        StandardCredentials {
            variables,
            runner,
            files: OnceCell::new(),
            helpers: Mutex::default(),
        }
    }

    async fn find(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        if let Some(found) = self.in_own_variables(host)? {
            return Ok(Some(found));
        }
        if let Some(found) = self.in_gitlab_job(host) {
            return Ok(Some(found));
        }
        Ok(self
            .in_files(host, path)
            .await?
            .or_else(|| self.in_gitea_job(host)))
    }

    fn in_own_variables(
        &self,
        host: &Host,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        let prefix = variable_prefix(host);
        let pair = |second: &str| format!("{prefix}_USERNAME and {prefix}_{second}");
        let get = |name: &str| self.variables.get_filled(&format!("{prefix}_{name}"));
        match (get("USERNAME"), get("PASSWORD"), get("TOKEN")) {
            (Some(username), Some(password), _) => {
                let value = Credential::Basic {
                    username: username.to_owned(),
                    password: Secret::new(password),
                };
                Ok(Some(Sourced {
                    source: pair("PASSWORD"),
                    value,
                }))
            }
            (None, Some(_), _) => Err(problem(
                host,
                format!("{prefix}_PASSWORD is set, {prefix}_USERNAME is not"),
                None,
            )),
            (_, None, Some(token)) if is_access_token(token) => Ok(Some(Sourced {
                source: format!("{prefix}_TOKEN"),
                value: Credential::Bearer {
                    token: Secret::new(token),
                },
            })),
            (username, None, Some(token)) => {
                let source = if username.is_some() {
                    pair("TOKEN")
                } else {
                    format!("{prefix}_TOKEN")
                };
                let username = username.unwrap_or("token").to_owned();
                Ok(Some(Sourced {
                    source,
                    value: Credential::RefreshTokenOrPassword {
                        username,
                        token: Secret::new(token),
                    },
                }))
            }
            (Some(_), None, None) => Err(problem(
                host,
                format!("{prefix}_USERNAME is set, {prefix}_PASSWORD is not"),
                Some(
                    "a protected or masked CI variable is empty in jobs without access to it"
                        .to_owned(),
                ),
            )),
            (None, None, None) => Ok(None),
        }
    }

    /// Returns the credential of a GitLab job. It is sent only to the registry of the job's server.
    fn in_gitlab_job(&self, host: &Host) -> Option<Sourced<Credential>> {
        let get = |name| self.variables.get_filled(name);
        if get(env::GITLAB_CI) != Some("true")
            || get(env::CI_REGISTRY)?.parse::<Host>().ok()? != *host
        {
            return None;
        }
        let (username, password, source) =
            match (get(env::CI_REGISTRY_USER), get(env::CI_REGISTRY_PASSWORD)) {
                (Some(username), Some(password)) => (
                    username,
                    password,
                    "CI_REGISTRY_USER and CI_REGISTRY_PASSWORD",
                ),
                _ => (
                    "gitlab-ci-token",
                    get(env::CI_JOB_TOKEN)?,
                    env::CI_JOB_TOKEN,
                ),
            };
        let value = Credential::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        };
        Some(Sourced {
            source: source.to_owned(),
            value,
        })
    }

    /// Returns the token of a Gitea job as a credential. At Gitea the registry is the server
    /// itself, and accepts the token of its actions as a password. It comes last: a credential that
    /// was set for the registry takes precedence over a token that may be meant for packages only.
    fn in_gitea_job(&self, host: &Host) -> Option<Sourced<Credential>> {
        let is_job = [env::GITEA_ACTIONS, env::FORGEJO_ACTIONS]
            .iter()
            .any(|name| self.variables.get_filled(name).is_some());
        let value = is_job
            .then(|| {
                ForgeCredentials::new(ForgeKind::Gitea, self.variables.clone())
                    .registry_credential(host)
            })
            .flatten()?;
        Some(Sourced {
            source: env::GITEA_TOKEN.to_owned(),
            value,
        })
    }

    async fn in_files(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        for Sourced {
            source,
            value: file,
        } in self.files.get_or_init(|| self.read_files()).await
        {
            let invalid = |what: &String| problem(host, format!("{source}: {what}"), None);
            let file = file.as_ref().map_err(invalid)?;
            if let Some(name) = file.helper(host, path) {
                if let Some(value) = self
                    .in_helper(name, host)
                    .await
                    .map_err(|what| invalid(&what))?
                {
                    return Ok(Some(Sourced {
                        source: helper_source(name, source),
                        value,
                    }));
                }
                continue;
            }
            if let Some(value) = file.credential(host, path).map_err(|what| invalid(&what))? {
                return Ok(Some(Sourced {
                    source: source.clone(),
                    value,
                }));
            }
            if let Some(name) = file.store()
                && let Some(value) = self
                    .in_helper(name, host)
                    .await
                    .map_err(|what| invalid(&what))?
            {
                return Ok(Some(Sourced {
                    source: helper_source(name, source),
                    value,
                }));
            }
        }
        Ok(None)
    }

    async fn in_helper(&self, name: &str, host: &Host) -> Result<Option<Credential>, String> {
        let server = if host.is_docker_hub() {
            DOCKER_HUB_SERVER
        } else {
            host.as_str()
        };
        let answer = {
            let mut helpers = lock(&self.helpers);
            helpers
                .entry((name.to_owned(), server.to_owned()))
                .or_default()
                .clone()
        };
        answer
            .get_or_init(|| helper::credential(&*self.runner, &self.variables, name, server))
            .await
            .clone()
    }

    async fn read_files(&self) -> Vec<Sourced<Result<AuthFile, String>>> {
        let mut files = Vec::new();
        if let Some(text) = self.variables.get_filled(env::DOCKER_AUTH_CONFIG) {
            files.push(Sourced {
                source: "$DOCKER_AUTH_CONFIG".to_owned(),
                value: AuthFile::parse(text.as_bytes()),
            });
        }
        for path in self.file_paths() {
            match read(&path).await {
                Ok(bytes) => files.push(Sourced {
                    source: path.display().to_string(),
                    value: AuthFile::parse(&bytes),
                }),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => {
                    files.push(Sourced {
                        source: path.display().to_string(),
                        value: Err(format!("cannot be read: {error}")),
                    });
                }
            }
        }
        files
    }

    fn file_paths(&self) -> Vec<PathBuf> {
        let directory = |name| self.variables.get_filled(name).map(PathBuf::from);
        let docker = directory(env::DOCKER_CONFIG)
            .or_else(|| directory(env::HOME).map(|home| home.join(".docker")));
        let podman = match directory(env::REGISTRY_AUTH_FILE) {
            Some(file) => vec![file],
            None => [
                directory(env::XDG_RUNTIME_DIR),
                directory(env::HOME).map(|home| home.join(".config")),
            ]
            .into_iter()
            .flatten()
            .map(|directory| directory.join("containers/auth.json"))
            .collect(),
        };
        docker
            .map(|directory| directory.join("config.json"))
            .into_iter()
            .chain(podman)
            .collect()
    }
}

#[async_trait]
impl Credentials for StandardCredentials {
    async fn credential(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(self
            .find(host, path)
            .await?
            .map_or(Credential::Anonymous, |found| found.value))
    }

    async fn source(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(self.find(host, path).await?.map(|found| found.source))
    }
}

/// Returns the source of a credential that a helper returned.
fn helper_source(name: &str, file: &str) -> String {
    format!("docker-credential-{name} (set in {file})")
}

/// Returns the prefix of the variables that hold a host's credential: `IMGLIFE_REGISTRY_5000` for
/// `registry:5000`.
pub fn variable_prefix(host: &Host) -> String {
    let name: String = host
        .as_str()
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    format!("{}{name}", env::PREFIX)
}

/// Checks that no variable that is set applies to two of `hosts`: its secret would be sent to a
/// host that it was not meant for.
pub fn check_collisions<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    variables: &Variables,
) -> Result<(), CredentialError> {
    let mut prefixes: HashMap<String, &Host> = HashMap::new();
    for host in hosts {
        let prefix = variable_prefix(host);
        let other = *prefixes.entry(prefix.clone()).or_insert(host);
        if other == host {
            continue;
        }
        let set = ["USERNAME", "PASSWORD", "TOKEN"].map(|name| format!("{prefix}_{name}"));
        if let Some(variable) = set.iter().find(|name| variables.get_filled(name).is_some()) {
            return Err(problem(
                host,
                format!("{variable} also applies to {other}"),
                Some("use docker's configuration file for hosts whose names differ only in punctuation".to_owned()),
            ));
        }
    }
    Ok(())
}

/// Returns true if `token` is an access token of a registry's token server: a JSON Web Token with
/// the claim `access` (token authentication specification of CNCF distribution). Refresh tokens can
/// be JSON Web Tokens too (Azure's are), without that claim.
fn is_access_token(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let object = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).ok()
    };
    object(header).is_some() && object(claims).is_some_and(|claims| claims.contains_key("access"))
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path)
        .await?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {MAX_FILE_SIZE} bytes"),
        ));
    }
    Ok(bytes)
}

fn problem(host: &Host, problem: String, hint: Option<String>) -> CredentialError {
    CredentialError {
        host: host.clone(),
        problem,
        hint,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::command::{
        CapturedOutput, CommandError, ProgramCommand, ProgramOutput, ProgramStatus, RefusingRunner,
    };

    type HelperOutput = fn(&ProgramCommand) -> (i32, &'static str, &'static str);

    struct FakeHelpers {
        output: HelperOutput,
        runs: AtomicUsize,
    }

    #[async_trait]
    impl Runner for FakeHelpers {
        async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
            self.runs.fetch_add(1, Ordering::Relaxed);
            let (code, stdout, stderr) = (self.output)(&command);
            let captured = |text: &str| CapturedOutput {
                bytes: text.as_bytes().to_vec(),
                omitted: 0,
            };
            Ok(ProgramOutput {
                status: ProgramStatus::Exited(code),
                stdout: captured(stdout),
                stderr: captured(stderr),
            })
        }
    }

    fn host(text: &str) -> Host {
        text.parse().expect("a host")
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().copied().collect()
    }

    fn credentials(pairs: &[(&str, &str)]) -> StandardCredentials {
        StandardCredentials::new(variables(pairs), Arc::new(RefusingRunner))
    }

    async fn find(pairs: &[(&str, &str)], on: &str) -> Result<Credential, String> {
        credentials(pairs)
            .credential(&host(on), None)
            .await
            .map_err(|error| format!("{error} {error:?}"))
    }

    async fn found(pairs: &[(&str, &str)], on: &str) -> Credential {
        find(pairs, on).await.expect("a credential")
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        }
    }

    #[tokio::test]
    async fn own_variables_come_first_and_in_order() {
        let user = ("IMGLIFE_REGISTRY_5000_USERNAME", "alice");
        let password = ("IMGLIFE_REGISTRY_5000_PASSWORD", "s3cret");
        let token = ("IMGLIFE_REGISTRY_5000_TOKEN", "glpat-1");
        let job = [
            ("GITLAB_CI", "true"),
            ("CI_REGISTRY", "registry:5000"),
            ("CI_JOB_TOKEN", "job"),
        ];
        let with_job = |own: &[(&'static str, &'static str)]| [own, &job].concat();
        assert_eq!(
            found(&with_job(&[user, password, token]), "registry:5000").await,
            basic("alice", "s3cret")
        );
        let unknown_kind = |username: &str| Credential::RefreshTokenOrPassword {
            username: username.to_owned(),
            token: Secret::new("glpat-1"),
        };
        assert_eq!(
            found(&with_job(&[user, token]), "registry:5000").await,
            unknown_kind("alice")
        );
        assert_eq!(
            found(&with_job(&[token]), "registry:5000").await,
            unknown_kind("token")
        );
        assert_eq!(
            found(&with_job(&[]), "registry:5000").await,
            basic("gitlab-ci-token", "job")
        );
        assert_eq!(
            found(&[user, password], "registry").await,
            Credential::Anonymous
        );
    }

    #[tokio::test]
    async fn incomplete_pair_of_variables_is_an_error() {
        for pairs in [
            &[("IMGLIFE_R_EXAMPLE_USERNAME", "alice")][..],
            &[
                ("IMGLIFE_R_EXAMPLE_USERNAME", "alice"),
                ("IMGLIFE_R_EXAMPLE_PASSWORD", ""),
            ],
            &[("IMGLIFE_R_EXAMPLE_PASSWORD", "s3cret")],
            &[
                ("IMGLIFE_R_EXAMPLE_PASSWORD", "s3cret"),
                ("IMGLIFE_R_EXAMPLE_TOKEN", "s3cret"),
            ],
        ] {
            let error = find(pairs, "r.example")
                .await
                .expect_err("an incomplete pair");
            assert!(
                error.contains("IMGLIFE_R_EXAMPLE_") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn access_token_is_recognised_by_its_claims() {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = |claims: &str| {
            format!(
                "{}.{}.{}",
                encode(r#"{"alg":"RS256"}"#),
                encode(claims),
                encode("signature")
            )
        };
        assert!(is_access_token(&token(r#"{"access":[]}"#)));
        assert!(!is_access_token(&token(
            r#"{"grant_type":"refresh_token"}"#
        )));
        assert!(!is_access_token("a.b.c") && !is_access_token("glpat-x") && !is_access_token(""));
        let access = token(r#"{"access":[]}"#);
        assert_eq!(
            found(&[("IMGLIFE_R_EXAMPLE_TOKEN", &access)], "r.example").await,
            Credential::Bearer {
                token: Secret::new(access)
            }
        );
    }

    #[tokio::test]
    async fn gitlab_job_credential_is_sent_only_to_its_registry() {
        let ci = [
            ("GITLAB_CI", "true"),
            ("CI_REGISTRY", "registry.example"),
            ("CI_REGISTRY_USER", "robot"),
            ("CI_REGISTRY_PASSWORD", "s3cret"),
            ("CI_JOB_TOKEN", "job"),
        ];
        assert_eq!(
            found(&ci, "registry.example").await,
            basic("robot", "s3cret")
        );
        assert_eq!(found(&ci, "evil.example").await, Credential::Anonymous);
        assert_eq!(
            found(&ci[1..], "registry.example").await,
            Credential::Anonymous,
            "outside of GitLab CI"
        );
    }

    #[tokio::test]
    async fn gitea_job_token_is_sent_only_to_its_server() {
        let ci = [
            ("CI", "true"),
            ("GITEA_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://gitea.example:3000"),
            ("GITEA_TOKEN", "pat"),
        ];
        assert_eq!(
            found(&ci, "gitea.example:3000").await,
            basic("token", "pat")
        );
        for other in ["gitea.example", "evil.example", "docker.io"] {
            assert_eq!(found(&ci, other).await, Credential::Anonymous, "{other}");
        }
        let file = r#"{"auths":{"gitea.example:3000":{"username":"robot","password":"p"}}}"#;
        assert_eq!(
            found(
                &[&ci[..], &[("DOCKER_AUTH_CONFIG", file)]].concat(),
                "gitea.example:3000"
            )
            .await,
            basic("robot", "p")
        );
        assert_eq!(
            found(&[ci[0], ci[2], ci[3]], "gitea.example:3000").await,
            Credential::Anonymous,
            "another CI"
        );
    }

    #[tokio::test]
    async fn files_are_read_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let entry = |user: &str| {
            format!(
                r#"{{"auths":{{"{user}.example":{{"username":"{user}","password":"p"}},"all.example":{{"username":"{user}","password":"p"}}}}}}"#
            )
        };
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        };
        write(".docker/config.json", &entry("home"));
        write("docker/config.json", &entry("docker"));
        write(".config/containers/auth.json", &entry("podman"));
        write("run/containers/auth.json", &entry("run"));
        write("named.json", &entry("named"));
        let path = |name: &str| {
            directory
                .path()
                .join(name)
                .to_str()
                .expect("UTF-8")
                .to_owned()
        };
        let (home, docker, run, named) =
            (path(""), path("docker"), path("run"), path("named.json"));
        let mut pairs = vec![("HOME", home.as_str())];
        assert_eq!(found(&pairs, "all.example").await, basic("home", "p"));
        assert_eq!(found(&pairs, "podman.example").await, basic("podman", "p"));
        pairs.push(("XDG_RUNTIME_DIR", &run));
        assert_eq!(found(&pairs, "run.example").await, basic("run", "p"));
        pairs.push(("REGISTRY_AUTH_FILE", &named));
        assert_eq!(found(&pairs, "named.example").await, basic("named", "p"));
        assert_eq!(found(&pairs, "podman.example").await, Credential::Anonymous);
        pairs.push(("DOCKER_CONFIG", &docker));
        assert_eq!(found(&pairs, "all.example").await, basic("docker", "p"));
        let inline = entry("inline");
        pairs.push(("DOCKER_AUTH_CONFIG", &inline));
        assert_eq!(found(&pairs, "all.example").await, basic("inline", "p"));
    }

    #[tokio::test]
    async fn invalid_file_is_named_and_not_quoted() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.json");
        std::fs::write(&file, r#"{"auths": {"r.example": hunter2"#).expect("a file");
        let error = find(
            &[("DOCKER_CONFIG", directory.path().to_str().expect("UTF-8"))],
            "r.example",
        )
        .await
        .expect_err("an invalid file");
        assert!(
            error.contains("config.json") && !error.contains("hunter2"),
            "{error}"
        );
        let error = find(&[("DOCKER_AUTH_CONFIG", "hunter2")], "r.example")
            .await
            .expect_err("an invalid file");
        assert!(
            error.contains("$DOCKER_AUTH_CONFIG") && !error.contains("hunter2"),
            "{error}"
        );
    }

    async fn from_helper(
        config: &str,
        on: &str,
        output: HelperOutput,
    ) -> (Result<Credential, String>, usize) {
        let helpers = Arc::new(FakeHelpers {
            output,
            runs: AtomicUsize::new(0),
        });
        let pairs = [("DOCKER_AUTH_CONFIG", config), ("MY_TOKEN", "hunter2")];
        let credentials =
            StandardCredentials::new(variables(&pairs), Arc::clone(&helpers) as Arc<dyn Runner>);
        let first = credentials
            .credential(&host(on), None)
            .await
            .map_err(|error| format!("{error} {error:?}"));
        let second = credentials
            .credential(&host(on), None)
            .await
            .map_err(|error| format!("{error} {error:?}"));
        assert_eq!(first, second);
        (first, helpers.runs.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn helper_is_called_once_by_dockers_protocol() {
        let (found, runs) = from_helper(r#"{"credsStore":"desk-top"}"#, "docker.io", |command| {
            assert_eq!(
                (command.program.as_str(), command.arguments.as_slice()),
                ("docker-credential-desk-top", &["get".to_owned()][..])
            );
            assert_eq!(
                command.stdin,
                Some(Secret::new("https://index.docker.io/v1/"))
            );
            (
                0,
                r#"{"ServerURL":"x","Username":"alice","Secret":"s3cret"}"#,
                "",
            )
        })
        .await;
        assert_eq!((found, runs), (Ok(basic("alice", "s3cret")), 1));
        let (found, _) = from_helper(r#"{"credHelpers":{"r.example":"x"}}"#, "r.example", |_| {
            (0, r#"{"Username":"<token>","Secret":"id"}"#, "")
        })
        .await;
        assert_eq!(
            found,
            Ok(Credential::RefreshToken {
                token: Secret::new("id")
            })
        );
        let (found, runs) = from_helper(
            r#"{"credHelpers":{"r.example":"x"}}"#,
            "other.example",
            |_| (1, "", ""),
        )
        .await;
        assert_eq!((found, runs), (Ok(Credential::Anonymous), 0));
    }

    #[tokio::test]
    async fn helper_without_credential_is_anonymous_and_its_failures_are_errors() {
        let config = r#"{"credsStore":"x"}"#;
        let (found, _) = from_helper(config, "r.example", |_| {
            (1, "credentials not found in native keychain\n", "")
        })
        .await;
        assert_eq!(found, Ok(Credential::Anonymous));
        let (error, _) = from_helper(config, "r.example", |_| {
            (1, "s3cret", "locked\u{1b}[0m hunter2")
        })
        .await;
        let error = error.expect_err("it failed");
        assert!(
            error.contains(r"`docker-credential-x` failed with exit code 1: locked\u{1b}[0m ***"),
            "{error}"
        );
        assert!(
            !error.contains("s3cret") && !error.contains("hunter2"),
            "{error}"
        );
        let (error, _) = from_helper(config, "r.example", |_| (0, "s3cret", "")).await;
        assert!(!error.expect_err("no answer").contains("s3cret"));
        let (error, runs) = from_helper(r#"{"credsStore":"../../bin/sh"}"#, "r.example", |_| {
            (0, "", "")
        })
        .await;
        assert!(error.is_err() && runs == 0);
    }

    #[test]
    fn hosts_with_the_same_variables_are_an_error_only_when_one_is_set() {
        let hosts = [host("a-b.example"), host("a.b.example"), host("c.example")];
        assert!(check_collisions(&hosts, &variables(&[("IMGLIFE_C_EXAMPLE_TOKEN", "t")])).is_ok());
        let error = check_collisions(&hosts, &variables(&[("IMGLIFE_A_B_EXAMPLE_TOKEN", "t")]))
            .expect_err("the same variable");
        assert_eq!(
            error.to_string(),
            "credentials for a.b.example: IMGLIFE_A_B_EXAMPLE_TOKEN also applies to a-b.example"
        );
        assert!(
            check_collisions(
                [&hosts[0], &hosts[0]],
                &variables(&[("IMGLIFE_A_B_EXAMPLE_TOKEN", "t")])
            )
            .is_ok()
        );
    }
}
