//! A fake internet: an HTTPS proxy that terminates TLS with its own certificate authority and
//! forwards to servers of the test.
//!
//! Configurations that name `docker.io` and endoflife.date run unchanged.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::loopback_server::LoopbackServer;
use super::world::World;

/// The running proxy. It stops when it is dropped.
pub(crate) struct Internet {
    server: LoopbackServer,
    directory: TempDir,
}

impl Internet {
    /// Starts a proxy that forwards each host name to a plain HTTP server at `host:port`. Other
    /// names do not exist.
    pub(crate) fn start(routes: Vec<(&'static str, String)>) -> Internet {
        let directory = tempfile::Builder::new()
            .prefix("imglife-internet-")
            .tempdir()
            .expect("a temporary directory");
        let acceptor = acceptor(&routes, directory.path().join("ca.pem"));
        let server = LoopbackServer::start(|listener| serve(listener, acceptor, Arc::new(routes)));
        Internet { server, directory }
    }

    /// Configures `world` to use the proxy and to trust its certificate authority.
    pub(crate) fn connect(&self, world: World) -> World {
        self.reach(world).variable("SSL_CERT_FILE", self.ca_file())
    }

    /// Configures `world` to use the proxy without trusting its certificate authority.
    pub(crate) fn reach(&self, world: World) -> World {
        world
            .variable("HTTPS_PROXY", format!("http://{}", self.server.address()))
            .variable("NO_PROXY", "127.0.0.1,localhost")
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

fn acceptor(routes: &[(&'static str, String)], ca_file: PathBuf) -> TlsAcceptor {
    let mut parameters = CertificateParams::new([]).expect("parameters");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = parameters.self_signed(&key).expect("a certificate");
    std::fs::write(ca_file, authority.pem()).expect("a written file");
    let issuer = Issuer::new(parameters, key);
    let names: Vec<String> = routes.iter().map(|(name, _)| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names)
        .and_then(|names| names.signed_by(&key, &issuer))
        .expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("a configuration")))
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    routes: Arc<Vec<(&'static str, String)>>,
) {
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let (acceptor, routes) = (acceptor.clone(), Arc::clone(&routes));
        // Broken connections are ignored.
        tokio::spawn(async move { drop(connect(socket, acceptor, &routes).await) });
    }
}

/// Handles a `CONNECT name:443` request.
async fn connect(
    mut socket: TcpStream,
    acceptor: TlsAcceptor,
    routes: &[(&'static str, String)],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let name = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split_once(":443 "))
        .map(|(name, _)| name);
    let Some((_, target)) = routes.iter().find(|(host, _)| Some(*host) == name) else {
        return socket.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    socket
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    let mut inside = acceptor.accept(socket).await?;
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut inside, &mut server).await.map(drop)
}
