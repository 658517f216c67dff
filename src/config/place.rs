//! Where a repository is, whatever it is called: two names of one place must not be cleaned up by
//! two sets of rules, and a record protects by any name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use url::Url;

use super::{Config, HostSettings};
use crate::model::{Host, Repository};

/// What the configuration says of where hosts are.
#[derive(Clone, Copy)]
pub(super) struct Addresses<'a> {
    pub(super) hosts: &'a BTreeMap<Host, HostSettings>,
    /// Hosts spoken to over plain HTTP.
    pub(super) insecure: &'a [Host],
}

impl Config {
    /// Returns the one name of the place that `repository` names: a directory with links followed
    /// as far as it exists, a host as it is spoken to, without the port that goes without saying.
    pub fn place(&self, repository: &Repository) -> Repository {
        Addresses {
            hosts: &self.hosts,
            insecure: &self.insecure_registries,
        }
        .place(repository)
    }
}

impl Addresses<'_> {
    /// Returns the one name of the place that `repository` names.
    pub(super) fn place(self, repository: &Repository) -> Repository {
        match repository {
            Repository::Layout { directory } => Repository::Layout {
                directory: followed(directory),
            },
            Repository::Remote { host, path } => Repository::Remote {
                host: self.address(host),
                path: path.clone(),
            },
        }
    }

    fn address(self, host: &Host) -> Host {
        let Some(endpoint) = self
            .hosts
            .get(host)
            .and_then(|settings| settings.endpoint.as_ref())
        else {
            let port = if self.insecure.contains(host) {
                ":80"
            } else {
                ":443"
            };
            return host
                .as_str()
                .strip_suffix(port)
                .and_then(|name| name.parse().ok())
                .unwrap_or_else(|| host.clone());
        };
        let address = if below(endpoint).is_empty() {
            let port = endpoint
                .port()
                .map_or_else(String::new, |port| format!(":{port}"));
            endpoint
                .host_str()
                .and_then(|name| format!("{name}{port}").parse().ok())
        } else {
            // What lies below a path has the names of those hosts that are sent there, and no
            // other.
            let is_there = |settings: &HostSettings| {
                settings
                    .endpoint
                    .as_ref()
                    .is_some_and(|other| is_same(endpoint, other))
            };
            self.hosts
                .iter()
                .find(|(_, settings)| is_there(settings))
                .map(|(name, _)| name.clone())
        };
        address.unwrap_or_else(|| host.clone())
    }
}

fn followed(directory: &Path) -> PathBuf {
    // Joining nothing leaves a slash behind.
    let real = |ancestor: &Path| {
        Some(
            ancestor
                .canonicalize()
                .ok()?
                .join(directory.strip_prefix(ancestor).ok()?)
                .components()
                .collect(),
        )
    };
    directory
        .ancestors()
        .find_map(real)
        .unwrap_or_else(|| directory.to_owned())
}

fn below(endpoint: &Url) -> &str {
    endpoint.path().trim_end_matches('/')
}

fn is_same(one: &Url, other: &Url) -> bool {
    let address = |url: &Url| {
        (
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        )
    };
    address(one) == address(other) && below(one) == below(other)
}
