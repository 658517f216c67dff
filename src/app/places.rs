//! From the configuration to the places that a run speaks to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Mode, Surroundings};
use crate::command::SystemRunner;
use crate::config::{Config, HostSettings};
use crate::credentials::{StandardCredentials, check_collisions};
use crate::error::Failure;
use crate::http::{Client, ClientCertificate, HostRules, Settings, Tls, Url};
use crate::model::{Host, Repository};
use crate::process::Process;
use crate::registry::layout::Layouts;
use crate::registry::remote::RemoteRegistries;
use crate::registry::{ImageStore, ImageStores};

/// Returns the stores that hold `repositories`. In a dry run they are read-only.
pub(super) fn image_places<'a>(
    config: &Config,
    repositories: impl Iterator<Item = &'a Repository>,
    surroundings: &Surroundings,
    mode: Mode,
) -> Result<ImageStores, Failure> {
    let settings = settings(config, surroundings);
    let login_host = |host: &Host| {
        settings
            .hosts
            .get(host)
            .map_or_else(|| host.clone(), |rules| rules.credential_host(host))
    };
    let logins: BTreeSet<Host> = repositories
        .filter_map(Repository::host)
        .map(login_host)
        .collect();
    check_collisions(&logins, &surroundings.process.variables).map_err(|error| {
        let hint = error.hint.clone();
        let failure = Failure::usage(error);
        hint.into_iter().fold(failure, Failure::hint)
    })?;
    let client = client(settings, &surroundings.process);
    let stores = ImageStores::new(
        Arc::new(RemoteRegistries::new(Arc::new(client))),
        Arc::new(Layouts::default()),
    );
    Ok(match mode {
        Mode::Apply => stores,
        Mode::List | Mode::DryRun => stores.read_only(),
    })
}

/// Returns the host that the credentials for `host` are looked up for.
pub(super) fn login_host(config: &Config, host: &Host) -> Host {
    config.hosts.get(host).map_or_else(
        || host.clone(),
        |settings| rules(settings).credential_host(host),
    )
}

/// Returns a client for the service at `address` of `host`. That it is configured with `http://` is
/// permission for plain HTTP.
pub(super) fn service_client(
    config: &Config,
    surroundings: &Surroundings,
    host: &Host,
    address: &Url,
) -> Client {
    let mut settings = settings(config, surroundings);
    let rules = settings.hosts.entry(host.clone()).or_default();
    if rules.endpoint.is_none() {
        let mut origin = address.clone();
        origin.set_path("");
        rules.endpoint = Some(origin);
    }
    client(settings, &surroundings.process)
}

/// Returns a client that logs in with what `process` leads to.
pub(super) fn client(settings: Settings, process: &Process) -> Client {
    // Asking a credential helper is reading, so it is the real runner in every mode.
    let credentials = StandardCredentials::new(process.variables.clone(), Arc::new(SystemRunner));
    Client::new(settings, Arc::new(credentials), process.clock.clone())
}

/// Returns how hosts are spoken to.
pub(super) fn settings(config: &Config, surroundings: &Surroundings) -> Settings {
    let hosts: BTreeMap<Host, HostRules> = config
        .hosts
        .iter()
        .map(|(host, settings)| (host.clone(), rules(settings)))
        .collect();
    let insecure = config.insecure_registries.iter().cloned().collect();
    Settings {
        hosts,
        insecure,
        deadline: surroundings.deadline,
        ..Settings::default()
    }
}

/// Returns the place that OCI image layout directories are, which needs no configuration.
pub fn layouts() -> Arc<dyn ImageStore> {
    Arc::new(Layouts::default())
}

pub(super) fn rules(settings: &HostSettings) -> HostRules {
    HostRules {
        endpoint: settings.endpoint.clone(),
        tls: Tls {
            ca_file: settings.ca_file.clone(),
            client_certificate: settings.client_certificate.as_ref().map(|pair| {
                ClientCertificate {
                    certificate: pair.certificate.clone(),
                    key: pair.key.clone(),
                }
            }),
            insecure_skip_verify: settings.insecure_skip_verify,
        },
        max_connections: settings.max_connections,
        requests_per_second: settings.requests_per_second,
    }
}
