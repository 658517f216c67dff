//! TLS settings of hosts, against TLS servers with certificates made for each test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::{Method, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::credentials::Credential;
use crate::http::testing::{Fake, client_with, quick, shown};
use crate::http::{
    ClientCertificate, Error, HostRules, Request, RequestAccess, RequestKind, RequestTarget,
    Response, Settings, Tls,
};
use crate::model::Host;

/// Accepts TLS connections. Handshakes that fail are skipped.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (socket, address) = self.listener.accept().await.expect("a connection");
            if let Ok(stream) = self.acceptor.accept(socket).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Private certificate authority, and a directory for its files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        Authority::named(&[])
    }

    /// Returns an authority whose certificate has these names.
    fn named(names: &[&str]) -> Authority {
        Authority::with(names, |_| {})
    }

    fn with(names: &[&str], change: impl Fn(&mut CertificateParams)) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).expect("parameters");
        change(&mut parameters);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.crt"), certificate.pem()).expect("to write");
        Authority {
            issuer: Issuer::new(parameters, key),
            certificate: certificate.der().clone(),
            directory,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new([name.to_owned()]).expect("parameters");
        parameters.extended_key_usages = vec![usage];
        (
            parameters
                .signed_by(&key, &self.issuer)
                .expect("a certificate"),
            key,
        )
    }

    /// Writes a client certificate and its key.
    fn client(&self) -> ClientCertificate {
        let (certificate, key) = self.sign("imglife", ExtendedKeyUsagePurpose::ClientAuth);
        let pair = ClientCertificate {
            certificate: self.file("client.crt"),
            key: self.file("client.key"),
        };
        // Without a newline at its end, as some tools write it.
        std::fs::write(&pair.certificate, certificate.pem().trim_end()).expect("to write");
        std::fs::write(&pair.key, key.serialize_pem()).expect("to write");
        pair
    }

    /// Starts a server that presents the authority's own certificate, as `openssl req -x509` makes
    /// it for a registry.
    async fn serve_itself(&self) -> Fake {
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::try_from(self.issuer.key().serialize_der()).expect("a key"),
            )
            .expect("a configuration");
        serve(config).await
    }

    /// Starts a server whose certificate is for `name`. With `clients` it requires a client
    /// certificate of the authority.
    async fn serve(&self, name: &str, clients: bool) -> Fake {
        let (certificate, key) = self.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        } else {
            ServerConfig::builder().with_no_client_auth()
        };
        let config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        serve(config).await
    }
}

async fn serve(config: ServerConfig) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let listener = TlsListener {
        listener,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    Fake::serve(listener, address, Duration::ZERO, |seen| {
        match seen.path.as_str() {
            "/redirect" => (
                StatusCode::FOUND,
                [("location", format!("http://{}/a", seen.server()))],
            )
                .into_response(),
            _ => "ok".into_response(),
        }
    })
}

async fn get(host: &Host, rules: HostRules) -> Result<Response, Error> {
    get_path(host, "/a", rules).await
}

async fn get_path(host: &Host, path: &str, rules: HostRules) -> Result<Response, Error> {
    let settings = Settings {
        hosts: [(host.clone(), rules)].into(),
        ..quick()
    };
    let client = client_with(settings, [], Credential::Anonymous);
    client
        .send(Request::new(
            Method::GET,
            host,
            RequestTarget::Path(path.to_owned()),
            RequestKind("test"),
            RequestAccess::default(),
        ))
        .await
}

fn with(tls: Tls) -> HostRules {
    HostRules {
        tls,
        ..HostRules::default()
    }
}

#[tokio::test]
async fn configured_authority_is_trusted() {
    let authority = Authority::new();
    let fake = authority.serve("127.0.0.1", false).await;
    let error = get(&fake.host(), HostRules::default())
        .await
        .expect_err("the authority is unknown");
    assert!(
        error.hint().expect("a hint").contains(".ca_file"),
        "{}",
        shown(&error)
    );
    assert!(
        !shown(&error).contains("tried"),
        "it is not retried: {}",
        shown(&error)
    );
    let tls = Tls {
        ca_file: Some(authority.file("ca.crt")),
        ..Tls::default()
    };
    assert_eq!(
        get(&fake.host(), with(tls.clone()))
            .await
            .expect("a response")
            .body,
        "ok"
    );
    // The name is verified as well.
    let misnamed = authority.serve("other.example", false).await;
    get(&misnamed.host(), with(tls))
        .await
        .expect_err("a certificate for another name");
    assert_eq!((fake.seen().len(), misnamed.seen().len()), (1, 0));
}

#[tokio::test]
async fn invalid_certificate_files_are_named() {
    let authority = Authority::new();
    let fake = authority.serve("127.0.0.1", false).await;
    std::fs::write(authority.file("empty.crt"), "").expect("to write");
    std::fs::write(
        authority.file("broken.crt"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .expect("to write");
    let client = authority.client();
    for (tls, name) in [
        (
            Tls {
                ca_file: Some(authority.file("missing.crt")),
                ..Tls::default()
            },
            "missing.crt",
        ),
        (
            Tls {
                ca_file: Some(authority.file("empty.crt")),
                ..Tls::default()
            },
            "empty.crt",
        ),
        (
            Tls {
                ca_file: Some(authority.file("broken.crt")),
                ..Tls::default()
            },
            "broken.crt",
        ),
        (
            Tls {
                client_certificate: Some(ClientCertificate {
                    key: authority.file("missing.key"),
                    ..client.clone()
                }),
                ..Tls::default()
            },
            "missing.key",
        ),
        (
            Tls {
                client_certificate: Some(ClientCertificate {
                    key: client.certificate.clone(),
                    ..client
                }),
                ..Tls::default()
            },
            "client.crt",
        ),
    ] {
        let error = get(&fake.host(), with(tls)).await.expect_err(name);
        assert!(shown(&error).contains(name), "{name}: {}", shown(&error));
    }
}

#[tokio::test]
async fn insecure_skip_verify_accepts_any_certificate() {
    let fake = Authority::new().serve("other.example", false).await;
    let tls = Tls {
        insecure_skip_verify: true,
        ..Tls::default()
    };
    assert_eq!(
        get(&fake.host(), with(tls)).await.expect("a response").body,
        "ok"
    );
}

#[tokio::test]
async fn client_certificate_is_sent_to_its_host() {
    let authority = Authority::new();
    let fake = authority.serve("127.0.0.1", true).await;
    let without = Tls {
        ca_file: Some(authority.file("ca.crt")),
        ..Tls::default()
    };
    get(&fake.host(), with(without.clone()))
        .await
        .expect_err("a client certificate is required");
    let tls = Tls {
        client_certificate: Some(authority.client()),
        ..without
    };
    assert_eq!(
        get(&fake.host(), with(tls)).await.expect("a response").body,
        "ok"
    );
    let stranger = Authority::new();
    let tls = Tls {
        ca_file: Some(authority.file("ca.crt")),
        client_certificate: Some(stranger.client()),
        insecure_skip_verify: false,
    };
    get(&fake.host(), with(tls))
        .await
        .expect_err("it is signed by another authority");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn endpoint_uses_the_settings_of_its_host() {
    let authority = Authority::new();
    let fake = authority.serve("127.0.0.1", false).await;
    let rules = HostRules {
        endpoint: Some(
            format!("https://{}/cache", fake.address)
                .parse()
                .expect("a URL"),
        ),
        tls: Tls {
            ca_file: Some(authority.file("ca.crt")),
            ..Tls::default()
        },
        ..HostRules::default()
    };
    let host: Host = "docker.io".parse().expect("a host");
    assert_eq!(get(&host, rules).await.expect("a response").body, "ok");
    assert_eq!(fake.lines(), ["GET /cache/a"]);
    let plain = Fake::start(|_| "ok").await;
    let rules = HostRules {
        endpoint: Some(format!("http://{}", plain.address).parse().expect("a URL")),
        ..HostRules::default()
    };
    assert_eq!(get(&host, rules).await.expect("a response").body, "ok");
    assert_eq!(plain.lines(), ["GET /a"]);
}

#[tokio::test]
async fn redirect_to_plain_http_on_the_same_host_keeps_tls() {
    let authority = Authority::new();
    let fake = authority.serve("127.0.0.1", false).await;
    let tls = Tls {
        ca_file: Some(authority.file("ca.crt")),
        ..Tls::default()
    };
    assert_eq!(
        get_path(&fake.host(), "/redirect", with(tls))
            .await
            .expect("a response")
            .body,
        "ok"
    );
    assert_eq!(fake.lines(), ["GET /redirect", "GET /a"]);
}

#[tokio::test]
async fn self_signed_certificate_is_accepted_if_exactly_it_is_trusted() {
    let trusting = |authority: &Authority| {
        with(Tls {
            ca_file: Some(authority.file("ca.crt")),
            ..Tls::default()
        })
    };
    let own = Authority::named(&["127.0.0.1"]);
    let fake = own.serve_itself().await;
    let answer = get(&fake.host(), trusting(&own)).await;
    assert_eq!(answer.expect("a response").body, "ok");
    // Nothing else changes: not trusted, another certificate, another name, expired.
    let hint = |error: &Error| error.hint().expect("a hint");
    let error = get(&fake.host(), HostRules::default())
        .await
        .expect_err("not trusted");
    assert!(hint(&error).contains("SSL_CERT_FILE"), "{}", shown(&error));
    let other = Authority::named(&["127.0.0.1"]);
    let error = get(&fake.host(), trusting(&other))
        .await
        .expect_err("another certificate");
    assert!(
        shown(&error).contains("it is that of an authority, not of a server")
            && hint(&error).contains("add exactly this certificate to"),
        "{}: {}",
        shown(&error),
        hint(&error)
    );
    let misnamed = Authority::named(&["other.example"]);
    let fake = misnamed.serve_itself().await;
    let error = get(&fake.host(), trusting(&misnamed))
        .await
        .expect_err("another name");
    assert!(
        hint(&error).contains("use a host name in the certificate"),
        "{}: {}",
        shown(&error),
        hint(&error)
    );
    let expired = Authority::with(&["127.0.0.1"], |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let fake = expired.serve_itself().await;
    let error = get(&fake.host(), trusting(&expired))
        .await
        .expect_err("expired");
    assert!(
        hint(&error).contains("renew the certificate"),
        "{}: {}",
        shown(&error),
        hint(&error)
    );
    assert_eq!(fake.seen().len(), 0);
}

#[tokio::test]
async fn hint_names_the_file_that_lacks_the_authority() {
    let fake = Authority::new().serve("127.0.0.1", false).await;
    let other = Authority::new();
    let tls = Tls {
        ca_file: Some(other.file("ca.crt")),
        ..Tls::default()
    };
    let error = get(&fake.host(), with(tls))
        .await
        .expect_err("another authority");
    let hint = error.hint().expect("a hint");
    assert!(
        hint.contains("ca.crt (`hosts.") && hint.contains("has no authority that signed"),
        "{hint}"
    );
}
