//! Canonical names of repositories.
//!
//! One repository can have several names: aliases of a host, default ports, links to a directory.
//! Cleanup must not apply two sets of rules to one repository, and a build record protects an image
//! under each of its names. Comparing canonical names ensures both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use url::Url;

use super::settings::{Config, HostSettings};
use crate::model::{Host, Repository};

/// The settings that determine the address of a host.
#[derive(Clone, Copy)]
pub(super) struct HostAddresses<'a> {
    pub(super) hosts: &'a BTreeMap<Host, HostSettings>,
    /// Hosts that are contacted over plain HTTP.
    pub(super) insecure: &'a [Host],
}

impl Config {
    /// Returns the canonical name of `repository`.
    ///
    /// For a directory, symbolic links are followed as far as the path exists. For a registry, the
    /// host is the one that requests are sent to, without the default port.
    pub fn canonical(&self, repository: &Repository) -> Repository {
        HostAddresses {
            hosts: &self.hosts,
            insecure: &self.insecure_registries,
        }
        .canonical(repository)
    }
}

impl HostAddresses<'_> {
    /// Returns the canonical name of `repository`.
    pub(super) fn canonical(self, repository: &Repository) -> Repository {
        match repository {
            Repository::Layout { directory } => Repository::Layout {
                directory: resolve_links(directory),
            },
            Repository::Remote { host, path } => Repository::Remote {
                host: self.address(host),
                path: path.clone(),
            },
        }
    }

    /// Returns the host that requests for `host` are sent to.
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
        let address = if base_path(endpoint).is_empty() {
            let port = endpoint
                .port()
                .map_or_else(String::new, |port| format!(":{port}"));
            endpoint
                .host_str()
                .and_then(|name| format!("{name}{port}").parse().ok())
        } else {
            // An endpoint with a path is not a valid host name. Its canonical name is the first
            // host that uses the endpoint.
            let uses_endpoint = |settings: &HostSettings| {
                settings
                    .endpoint
                    .as_ref()
                    .is_some_and(|other| is_same_endpoint(endpoint, other))
            };
            self.hosts
                .iter()
                .find(|(_, settings)| uses_endpoint(settings))
                .map(|(name, _)| name.clone())
        };
        address.unwrap_or_else(|| host.clone())
    }
}

/// Follows the symbolic links in the part of the path that exists.
fn resolve_links(directory: &Path) -> PathBuf {
    // Joining an empty path adds a trailing slash; `components` removes it.
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

/// Returns the path of the endpoint without trailing slashes.
fn base_path(endpoint: &Url) -> &str {
    endpoint.path().trim_end_matches('/')
}

/// Returns true if both URLs have the same host, port and path.
fn is_same_endpoint(one: &Url, other: &Url) -> bool {
    let address = |url: &Url| {
        (
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        )
    };
    address(one) == address(other) && base_path(one) == base_path(other)
}
