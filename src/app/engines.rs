//! From the configuration to the engines that build images.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Surroundings;
use super::places::login_host;
use crate::cache::Cache;
use crate::command::{Runner, System};
use crate::config::{Build, Config, HostSettings};
use crate::credentials::{Credential, Credentials, StandardCredentials};
use crate::engines::native::Native;
use crate::engines::{Engine, OwnBuilder, Programs};
use crate::error::Failure;
use crate::model::{Host, Repository};
use crate::registry::ImageStore;

/// Returns the engines: the native one, then programs in the order in which they are chosen. Programs get the logins of the hosts
/// that the images of the configuration are on, and no others.
pub(super) async fn engines(
    config: &Config,
    build: &Build,
    store: &Arc<dyn ImageStore>,
    surroundings: &Surroundings,
) -> Result<Vec<Arc<dyn Engine>>, Failure> {
    let variables = &surroundings.process.variables;
    let native: Arc<dyn Engine> = Arc::new(Native::new(Arc::clone(store), Cache::of_user(variables, true)));
    let credentials = StandardCredentials::new(variables.clone(), Arc::new(System));
    let repositories = build.images.iter().flat_map(|image| [&image.repository, &image.mirror_image]);
    let hosts: BTreeSet<&Host> = repositories.filter_map(Repository::host).collect();
    let mut logins = Vec::new();
    for host in hosts {
        let credential = credentials.credential(&login_host(config, host), None).await.map_err(|error| {
            let hint = error.hint.clone();
            hint.into_iter().fold(Failure::failed(error), Failure::hint)
        })?;
        if credential != Credential::Anonymous {
            logins.push((host.clone(), credential));
        }
    }
    let runner: Arc<dyn Runner> = Arc::new(System);
    let insecure = config.insecure_registries.iter().cloned().collect();
    let own_builder = surroundings.part_of.as_ref().map(|part| {
        let authority = |(host, settings): (&Host, &HostSettings)| settings.ca_file.clone().map(|file| (host.clone(), file));
        OwnBuilder { authorities: config.hosts.iter().filter_map(authority).collect(), ..part.builder.clone() }
    });
    let programs = Programs { runner, variables: variables.clone(), logins, insecure, builder: build.builder.clone(), own_builder };
    Ok(std::iter::once(native).chain(programs.engines()).collect())
}
