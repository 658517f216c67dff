//! Real registries, each started for one test on a free port of the loopback interface. The default
//! is Debian's `docker-registry`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use imglife::model::{Digest, Repository};
use imglife::registry::{DeletionSupport, Support};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::images::FOREIGN;
use super::servers::{Server, stop};
use super::tokens::{ISSUER, SERVICE, TokenRules, TokenServer};

/// User of registries that require credentials.
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "s3cret";

/// `USER` and the bcrypt hash of `PASSWORD`, with the lowest cost (4).
const PASSWORD_FILE: &str = "alice:$2y$04$TlDLAI1Sf0NsVgmLmVTUrOP0FCu.Duzfzl2mAMJiksm08f58FbeZu\n";

/// Time without growth after which an access log counts as complete.
const LOG_SETTLE_TIME: Duration = Duration::from_millis(40);

/// Configuration of a registry. Only registries of the distribution project support credentials.
pub(crate) struct RegistryBuilder {
    server: Server,
    is_tls: bool,
    auth: RegistryAuth,
    refuses_deletes: bool,
}

enum RegistryAuth {
    Open,
    Htpasswd,
    Token(TokenRules),
}

impl RegistryBuilder {
    /// Uses another registry program.
    #[must_use]
    pub(crate) fn server(self, server: Server) -> RegistryBuilder {
        RegistryBuilder { server, ..self }
    }

    /// Enables TLS with its own certificate authority.
    #[must_use]
    pub(crate) fn tls(self) -> RegistryBuilder {
        RegistryBuilder {
            is_tls: true,
            ..self
        }
    }

    /// Requires Basic credentials for everything.
    #[must_use]
    pub(crate) fn htpasswd(self) -> RegistryBuilder {
        RegistryBuilder {
            auth: RegistryAuth::Htpasswd,
            ..self
        }
    }

    /// Requires tokens. Anonymous clients may pull.
    #[must_use]
    pub(crate) fn tokens(self, rules: TokenRules) -> RegistryBuilder {
        RegistryBuilder {
            auth: RegistryAuth::Token(rules),
            ..self
        }
    }

    #[must_use]
    pub(crate) fn without_deletes(self) -> RegistryBuilder {
        RegistryBuilder {
            refuses_deletes: true,
            ..self
        }
    }

    pub(crate) fn start(self) -> Registry {
        let directory = tempfile::Builder::new()
            .prefix("imglife-registry-")
            .tempdir()
            .expect("a temporary directory");
        let tokens = match self.auth {
            RegistryAuth::Token(rules) => Some(TokenServer::start(rules)),
            RegistryAuth::Open | RegistryAuth::Htpasswd => None,
        };
        if self.is_tls {
            write_certificates(directory.path());
        }
        for _ in 0..5 {
            let address = free_address();
            fs::write(
                directory.path().join("config.yml"),
                self.configuration(directory.path(), address, tokens.as_ref()),
            )
            .expect("a written file");
            if let Some(process) = self.server.start(directory.path(), address) {
                let (server, is_tls, refuses_deletes) =
                    (self.server, self.is_tls, self.refuses_deletes);
                return Registry {
                    server,
                    is_tls,
                    refuses_deletes,
                    address,
                    process,
                    tokens,
                    directory,
                };
            }
        }
        panic!("five times another process took the free port before the registry");
    }

    fn configuration(
        &self,
        directory: &Path,
        address: SocketAddr,
        tokens: Option<&TokenServer>,
    ) -> String {
        let path = |name: &str| directory.join(name).display().to_string();
        let mut text = format!(
            "version: 0.1\n\
             log: {{level: info, formatter: json, accesslog: {{disabled: false}}}}\n\
             storage:\n  filesystem: {{rootdirectory: '{}', maxthreads: 100}}\n  delete: {{enabled: {}}}\n\
             \x20 maintenance: {{uploadpurging: {{enabled: false}}}}\n\
             validation: {{manifests: {{urls: {{allow: ['^{FOREIGN}']}}}}}}\n\
             http:\n  addr: '{address}'\n  secret: tests\n",
            path("storage"),
            !self.refuses_deletes,
        );
        if self.is_tls {
            text += &format!(
                "  tls: {{certificate: '{}', key: '{}'}}\n",
                path("server.pem"),
                path("server.key")
            );
        }
        match &self.auth {
            RegistryAuth::Open => {}
            RegistryAuth::Htpasswd => {
                fs::write(directory.join("htpasswd"), PASSWORD_FILE).expect("a written file");
                text += &format!(
                    "auth:\n  htpasswd: {{realm: tests, path: '{}'}}\n",
                    path("htpasswd")
                );
            }
            RegistryAuth::Token(_) => {
                let server = tokens.expect("a token server was started for it");
                fs::write(directory.join("tokens.pem"), server.certificate())
                    .expect("a written file");
                let (realm, certificates) = (server.realm(), path("tokens.pem"));
                text += &format!(
                    "auth:\n  token: {{realm: '{realm}', service: '{SERVICE}', issuer: '{ISSUER}', rootcertbundle: '{certificates}'}}\n"
                );
            }
        }
        text
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

fn write_certificates(directory: &Path) {
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "test CA");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = parameters.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(parameters, key);
    let server_key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .and_then(|parameters| parameters.signed_by(&server_key, &issuer))
        .expect("a certificate");
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("server.pem", server.pem()),
        ("server.key", server_key.serialize_pem()),
    ] {
        fs::write(directory.join(name), text).expect("a written file");
    }
}

/// A running registry. It stops and deletes its content when it is dropped.
pub(crate) struct Registry {
    server: Server,
    is_tls: bool,
    refuses_deletes: bool,
    address: SocketAddr,
    process: Child,
    tokens: Option<TokenServer>,
    directory: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

impl Registry {
    pub(crate) fn builder() -> RegistryBuilder {
        RegistryBuilder {
            server: Server::DockerRegistry,
            is_tls: false,
            auth: RegistryAuth::Open,
            refuses_deletes: false,
        }
    }

    /// Starts a registry with plain HTTP, no credentials, and deletion enabled.
    pub(crate) fn plain() -> Registry {
        Registry::builder().start()
    }

    /// Starts another registry program with plain HTTP, no credentials, and deletion enabled.
    pub(crate) fn of(server: Server) -> Registry {
        Registry::builder().server(server).start()
    }

    pub(crate) fn server(&self) -> Server {
        self.server
    }

    /// Returns the deletions that the registry supports. Version 3 of distribution always deletes
    /// tags.
    pub(crate) fn deletes(&self) -> DeletionSupport {
        let ability = |deletes| {
            if deletes {
                Support::Supported
            } else {
                Support::Unsupported
            }
        };
        DeletionSupport {
            tags: ability(self.server != Server::DockerRegistry),
            manifests: ability(!self.refuses_deletes),
        }
    }

    /// Returns host and port, as in image references.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the URL without a trailing slash.
    pub(crate) fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.is_tls { "https" } else { "http" },
            self.address
        )
    }

    /// Returns a repository of this registry.
    pub(crate) fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.address)
            .parse()
            .expect("a repository's name")
    }

    /// Returns the path of the certificate authority's PEM file. Only with TLS.
    pub(crate) fn ca_file(&self) -> PathBuf {
        assert!(self.is_tls, "only a registry with TLS has certificates");
        self.directory.path().join("ca.pem")
    }

    /// Returns the token server. Only with tokens.
    pub(crate) fn tokens(&self) -> &TokenServer {
        self.tokens
            .as_ref()
            .expect("only a registry with tokens has a token server")
    }

    /// Returns the directory of the registry's content, which may be changed while the registry
    /// runs. This method and all following ones are only for registries of the distribution
    /// project.
    pub(crate) fn storage(&self) -> PathBuf {
        assert!(
            self.server.is_distribution(),
            "the storage directory of {} is unknown",
            self.server.name()
        );
        self.directory.path().join("storage/docker/registry/v2")
    }

    /// Returns the path of the content of a blob or manifest. The file may not exist.
    pub(crate) fn stored(&self, digest: &Digest) -> PathBuf {
        let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
        self.storage()
            .join("blobs")
            .join(algorithm)
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// Returns the stored tags of a repository with their digests.
    pub(crate) fn stored_tags(&self, path: &str) -> BTreeMap<String, String> {
        let tags = self
            .storage()
            .join("repositories")
            .join(path)
            .join("_manifests/tags");
        let Ok(entries) = fs::read_dir(tags) else {
            return BTreeMap::new();
        };
        // While a tag is written, its link is missing or empty.
        let stored = |entry: fs::DirEntry| {
            let digest = fs::read_to_string(entry.path().join("current/link"))
                .ok()
                .filter(|digest| !digest.is_empty())?;
            Some((entry.file_name().to_string_lossy().into_owned(), digest))
        };
        entries
            .filter_map(|entry| stored(entry.expect("an entry")))
            .collect()
    }

    /// Deletes all content.
    pub(crate) fn wipe(&self) {
        if let Err(error) = fs::remove_dir_all(self.storage())
            && error.kind() != ErrorKind::NotFound
        {
            panic!("the storage cannot be removed: {error}");
        }
    }

    /// Returns the requests that the registry handled so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests_since(Mark(0))
    }

    /// Returns the current position in the list of requests.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.requests().len())
    }

    /// Returns the requests that were handled since `mark`, in the order of completion.
    pub(crate) fn requests_since(&self, mark: Mark) -> Vec<Request> {
        assert!(
            self.server.is_distribution(),
            "{} writes no access log",
            self.server.name()
        );
        let path = self.directory.path().join("access.log");
        let read = || fs::read_to_string(&path).expect("an access log");
        // A response can arrive before its log line is written.
        let mut text = read();
        loop {
            std::thread::sleep(LOG_SETTLE_TIME);
            let now = read();
            if now.len() == text.len() && (now.is_empty() || now.ends_with('\n')) {
                break;
            }
            text = now;
        }
        text.lines()
            .filter_map(Request::parse)
            .skip(mark.0)
            .collect()
    }
}

/// A position in a registry's list of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

/// A request from the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) status: u16,
}

impl Request {
    /// Parses a line in Apache's combined log format: `127.0.0.1 - - [time] "GET /v2/ HTTP/1.1" 200
    /// 2 "referrer" "agent"`.
    fn parse(line: &str) -> Option<Request> {
        let (_, rest) = line.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Request {
            method,
            path,
            status: rest.split(' ').next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Certificate, Client, RequestBuilder, StatusCode};
    use serde_json::Value;

    use super::*;
    use crate::support::tokens::{REFRESH_TOKEN, TokenRequest};

    /// Returns a client that trusts the registry's certificate authority.
    fn client(registry: &Registry) -> Client {
        let builder = Client::builder().no_proxy().tls_certs_only([]);
        let builder = if registry.is_tls {
            let authority = fs::read(registry.ca_file()).expect("a PEM file");
            builder.tls_certs_only([Certificate::from_pem(&authority).expect("a certificate")])
        } else {
            builder
        };
        builder.build().expect("a client")
    }

    async fn status(request: RequestBuilder) -> StatusCode {
        request.send().await.expect("an answer").status()
    }

    /// Requests a token from the registry's token server and returns the response.
    async fn token(registry: &Registry, user: Option<&str>, scope: &str) -> Value {
        let query = [("service", SERVICE), ("scope", scope)];
        let request = client(registry)
            .get(registry.tokens().realm())
            .query(&query);
        let request = if let Some(user) = user {
            request.basic_auth(user, Some(PASSWORD))
        } else {
            request
        };
        let body = request
            .send()
            .await
            .expect("an answer")
            .bytes()
            .await
            .expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[tokio::test]
    async fn plain_registry_responds_and_records_requests() {
        let registry = Registry::plain();
        let client = client(&registry);
        assert_eq!(
            status(client.get(format!("{}/v2/", registry.url()))).await,
            StatusCode::OK
        );
        let mark = registry.mark();
        assert_eq!(
            status(client.head(format!("{}/v2/a/manifests/b?c=d", registry.url()))).await,
            StatusCode::NOT_FOUND
        );
        let expected = Request {
            method: "HEAD".to_owned(),
            path: "/v2/a/manifests/b?c=d".to_owned(),
            status: 404,
        };
        assert_eq!(registry.requests_since(mark), [expected]);
        assert_eq!(registry.requests().len(), 2);
    }

    #[tokio::test]
    async fn registry_with_tls_needs_its_own_authority() {
        let registry = Registry::builder().tls().start();
        let url = format!("{}/v2/", registry.url());
        assert_eq!(status(client(&registry).get(&url)).await, StatusCode::OK);
        let stranger = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .expect("a client");
        assert!(stranger.get(&url).send().await.is_err());
    }

    #[tokio::test]
    async fn registry_with_htpasswd_accepts_alice_only() {
        let registry = Registry::builder().htpasswd().tls().start();
        let request = || client(&registry).get(format!("{}/v2/", registry.url()));
        assert_eq!(
            status(request().basic_auth(USER, Some(PASSWORD))).await,
            StatusCode::OK
        );
        assert_eq!(
            status(request().basic_auth(USER, Some("wrong"))).await,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(status(request()).await, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn tokens_allow_alice_to_push_and_others_to_pull() {
        let registry = Registry::builder().tokens(TokenRules::default()).start();
        let uploads = format!("{}/v2/a/b/blobs/uploads/", registry.url());
        let refused = client(&registry)
            .post(&uploads)
            .send()
            .await
            .expect("an answer");
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let challenge = refused.headers()["www-authenticate"]
            .to_str()
            .expect("text");
        assert!(
            challenge.contains(&format!("realm=\"{}\"", registry.tokens().realm())),
            "{challenge}"
        );
        for (user, push, pull) in [
            (Some(USER), StatusCode::ACCEPTED, StatusCode::NOT_FOUND),
            (None, StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND),
        ] {
            let answer = token(&registry, user, "repository:a/b:pull,push").await;
            let token = answer["token"].as_str().expect("a token");
            assert_eq!(
                status(client(&registry).post(&uploads).bearer_auth(token)).await,
                push
            );
            let manifest = format!("{}/v2/a/b/manifests/c", registry.url());
            assert_eq!(
                status(client(&registry).get(manifest).bearer_auth(token)).await,
                pull
            );
        }
        assert_eq!(
            token(&registry, Some("mallory"), "repository:a/b:pull").await["token"],
            Value::Null
        );
        let request = |user, granted| TokenRequest {
            method: "GET",
            scopes: vec!["repository:a/b:pull,push".to_owned()],
            user,
            granted,
        };
        let requests = registry.tokens().requests();
        assert_eq!(
            requests[..2],
            [request(Some(USER), true), request(None, true)]
        );
        assert!(requests.len() == 3 && !requests[2].granted);
    }

    #[tokio::test]
    async fn oauth2_is_supported_only_if_enabled() {
        for (rules, expected) in [
            (TokenRules::default(), StatusCode::NOT_FOUND),
            (
                TokenRules {
                    oauth2: true,
                    lifetime: Duration::from_secs(7),
                },
                StatusCode::OK,
            ),
        ] {
            let registry = Registry::builder().tokens(rules).start();
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", REFRESH_TOKEN),
                ("service", SERVICE),
            ];
            let answer = client(&registry)
                .post(registry.tokens().realm())
                .form(&form)
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), expected);
            if expected == StatusCode::OK {
                let body: Value =
                    serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
                assert_eq!(
                    (&body["expires_in"], &body["refresh_token"]),
                    (&7.into(), &REFRESH_TOKEN.into())
                );
                let request = client(&registry).get(format!("{}/v2/", registry.url()));
                assert_eq!(
                    status(request.bearer_auth(body["access_token"].as_str().expect("a token")))
                        .await,
                    StatusCode::OK
                );
            }
        }
    }

    #[tokio::test]
    async fn stored_content_is_visible_and_deletion_can_be_disabled() {
        for (registry, expected) in [
            (Registry::plain(), StatusCode::ACCEPTED),
            (
                Registry::builder().without_deletes().start(),
                StatusCode::METHOD_NOT_ALLOWED,
            ),
        ] {
            let content = "hello";
            let digest = Digest::sha256(content.as_bytes());
            let session =
                client(&registry).post(format!("{}/v2/a/b/blobs/uploads/", registry.url()));
            let session = session.send().await.expect("an answer");
            let location = session.headers()["location"].to_str().expect("text");
            let put = client(&registry)
                .put(location)
                .query(&[("digest", digest.as_str())])
                .body(content);
            assert_eq!(status(put).await, StatusCode::CREATED);
            assert_eq!(
                fs::read_to_string(registry.stored(&digest)).expect("a stored blob"),
                content
            );
            assert!(registry.stored_tags("a/b").is_empty());
            let blob = format!("{}/v2/a/b/blobs/{digest}", registry.url());
            assert_eq!(status(client(&registry).delete(&blob)).await, expected);
            registry.wipe();
            assert_eq!(
                status(client(&registry).head(&blob)).await,
                StatusCode::NOT_FOUND
            );
        }
    }

    #[test]
    fn registry_stops_when_dropped() {
        let registry = Registry::plain();
        assert_eq!(
            registry.repository("a/b").to_string(),
            format!("{}/a/b", registry.host())
        );
        let (address, directory) = (registry.address, registry.directory.path().to_owned());
        drop(registry);
        assert!(std::net::TcpStream::connect(address).is_err() && !directory.exists());
    }
}
