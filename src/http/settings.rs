//! How to speak to which host, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::model::Host;

/// Registries answer requests of one client side by side only up to a point.
const USUAL_CONNECTIONS: usize = 8;

/// What the client must know of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hosts: BTreeMap<Host, HostRules>,
    /// Hosts spoken to over plain HTTP.
    pub insecure: BTreeSet<Host>,
    /// Connections to a host whose rules do not say.
    pub connections: usize,
    /// When the run must be over: no wait goes beyond it. `None`: waits are as long as hosts ask
    /// for.
    pub deadline: Option<Instant>,
    /// The longest first wait before a request is tried again; it doubles with each try.
    pub retry_delay: Duration,
    /// How long nothing may arrive before a connection counts as broken.
    pub stall: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hosts: BTreeMap::new(),
            insecure: BTreeSet::new(),
            connections: USUAL_CONNECTIONS,
            deadline: None,
            retry_delay: Duration::from_secs(1),
            stall: Duration::from_secs(60),
        }
    }
}

/// How to speak to one host.
#[derive(Clone, Debug, Default)]
pub struct HostRules {
    /// Where the host's requests go instead, with a path before theirs if it has one. `http://` is
    /// permission enough.
    pub endpoint: Option<Url>,
    pub tls: Tls,
    pub max_connections: Option<usize>,
    pub requests_per_second: Option<f64>,
}

impl HostRules {
    /// Returns the host that the credentials for `name` are looked up for: that of the endpoint,
    /// where one is set.
    pub fn login_host(&self, name: &Host) -> Host {
        self.endpoint
            .as_ref()
            .and_then(host_of)
            .unwrap_or_else(|| name.clone())
    }
}

/// Returns the host of an address as references would name it, `None` when it is not one that they
/// can name.
pub fn host_of(url: &Url) -> Option<Host> {
    let name = url.host_str()?;
    url.port()
        .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
        .parse()
        .ok()
}

/// What is special about a host's TLS. Hosts with equal values share connections' settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Certificates in PEM form that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificate>,
    pub insecure_skip_verify: bool,
}

/// A client certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}
