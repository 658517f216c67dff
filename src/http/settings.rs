//! Settings of the client and of each host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::model::Host;

/// Default number of connections to a host. Registries limit the parallel requests of a client.
const DEFAULT_CONNECTIONS: usize = 8;

/// Time limit for a response that is read whole.
const METADATA_TIMEOUT: Duration = Duration::from_mins(5);

/// Settings of the client.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hosts: BTreeMap<Host, HostRules>,
    /// Hosts that are reached over plain HTTP.
    pub insecure: BTreeSet<Host>,
    /// Connections to a host without `max_connections`.
    pub connections: usize,
    /// Time by which the run must end: no wait goes beyond it. `None` for no limit.
    pub deadline: Option<Instant>,
    /// Longest delay before the second try of a request; it doubles with each further try.
    pub retry_delay: Duration,
    /// Time without any data after which a connection counts as broken.
    pub stall: Duration,
    /// Time limit for a response that is read whole, such as a manifest, a listing or a token.
    pub metadata: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hosts: BTreeMap::new(),
            insecure: BTreeSet::new(),
            connections: DEFAULT_CONNECTIONS,
            deadline: None,
            retry_delay: Duration::from_secs(1),
            stall: Duration::from_secs(60),
            metadata: METADATA_TIMEOUT,
        }
    }
}

/// Settings of one host.
#[derive(Clone, Debug, Default)]
pub struct HostRules {
    /// URL that the host's requests are sent to instead. Its path is the prefix of their paths.
    /// `http://` needs no further permission.
    pub endpoint: Option<Url>,
    pub tls: Tls,
    pub max_connections: Option<usize>,
    pub requests_per_second: Option<f64>,
}

impl HostRules {
    /// Returns the host whose credentials are used for the host `name`: that of the endpoint, if
    /// one is set.
    pub fn credential_host(&self, name: &Host) -> Host {
        self.endpoint
            .as_ref()
            .and_then(host_of)
            .unwrap_or_else(|| name.clone())
    }
}

/// Returns the host of a URL as image references name it, with its port unless it is the scheme's
/// own. `None` when the URL has no host that a reference can name.
pub fn host_of(url: &Url) -> Option<Host> {
    let name = url.host_str()?;
    url.port()
        .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
        .parse()
        .ok()
}

/// TLS settings of a host. Hosts with equal settings share a connection pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// PEM file of certificates that are trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificate>,
    pub insecure_skip_verify: bool,
}

/// Client certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}
