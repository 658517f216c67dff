//! Where a repository is, whatever it is called: two names of one place must not be cleaned up by two sets of rules, and a record
//! protects by any name.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::model::{Host, Repository};

/// Returns the one name of the place that `repository` names: a directory with links followed as far as it exists, a host as it is
/// spoken to, without the port that goes without saying.
pub(super) fn place(config: &Config, repository: &Repository) -> Repository {
    match repository {
        Repository::Layout { directory } => Repository::Layout { directory: followed(directory) },
        Repository::Remote { host, path } => Repository::Remote { host: address(config, host), path: path.clone() },
    }
}

fn followed(directory: &Path) -> PathBuf {
    // Joining nothing leaves a slash behind.
    let real = |ancestor: &Path| Some(ancestor.canonicalize().ok()?.join(directory.strip_prefix(ancestor).ok()?).components().collect());
    directory.ancestors().find_map(real).unwrap_or_else(|| directory.to_owned())
}

fn address(config: &Config, host: &Host) -> Host {
    if let Some(endpoint) = config.hosts.get(host).and_then(|settings| settings.endpoint.as_ref()) {
        // What lies below a path there has no other name.
        let name = endpoint.host_str().filter(|_| endpoint.path() == "/");
        let port = endpoint.port().map_or_else(String::new, |port| format!(":{port}"));
        return name.and_then(|name| format!("{name}{port}").parse().ok()).unwrap_or_else(|| host.clone());
    }
    let port = if config.insecure_registries.contains(host) { ":80" } else { ":443" };
    host.as_str().strip_suffix(port).and_then(|name| name.parse().ok()).unwrap_or_else(|| host.clone())
}
