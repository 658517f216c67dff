//! Image stores and HTTP clients of a command, from the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::host_rules::rules;
use super::job_credentials::standard_credentials;
use super::job_limits::{limit, limited};
use super::{CommandContext, Mode};
use crate::config::Config;
use crate::credentials::{NoCredentials, check_collisions};
use crate::error::Failure;
use crate::http::{Client, HostRules, Settings, Url};
use crate::model::{Host, Repository};
use crate::process::Process;
use crate::registry::layout::Layouts;
use crate::registry::remote::RemoteRegistries;
use crate::registry::{ImageStore, ImageStores};

/// Returns the image stores of all registries and OCI layouts. Except in `Mode::Apply` they reject
/// writes.
///
/// # Errors
/// Returns a usage error if two hosts of `repositories` share the same credential variable.
pub(super) fn image_stores<'a>(
    config: &Config,
    repositories: impl Iterator<Item = &'a Repository>,
    context: &CommandContext,
    mode: Mode,
) -> Result<ImageStores, Failure> {
    let settings = settings(config, context);
    let credential_host = |host: &Host| {
        settings
            .hosts
            .get(host)
            .map_or_else(|| host.clone(), |rules| rules.credential_host(host))
    };
    let hosts: BTreeSet<Host> = repositories
        .filter_map(Repository::host)
        .map(credential_host)
        .collect();
    check_collisions(&hosts, &context.process.variables).map_err(|error| {
        let hint = error.hint.clone();
        let failure = Failure::usage(error);
        hint.into_iter().fold(failure, Failure::hint)
    })?;
    let client = client(settings, config, &context.process);
    let stores = ImageStores::new(
        Arc::new(RemoteRegistries::new(Arc::new(client))),
        Arc::new(Layouts::default()),
    );
    Ok(match mode {
        Mode::Apply => stores,
        Mode::List | Mode::DryRun => stores.read_only(),
    })
}

/// Returns a client for the service at `address` on `host`. An `http://` address in the
/// configuration permits plain HTTP.
pub(super) fn service_client(
    config: &Config,
    context: &CommandContext,
    host: &Host,
    address: &Url,
) -> Client {
    client(
        service_settings(config, context, host, address),
        config,
        &context.process,
    )
}

/// Like [`service_client`], without any credential.
pub(super) fn anonymous_client(
    config: &Config,
    context: &CommandContext,
    host: &Host,
    address: &Url,
) -> Client {
    Client::new(
        service_settings(config, context, host, address),
        Arc::new(NoCredentials),
        context.process.clock.clone(),
    )
}

fn service_settings(
    config: &Config,
    context: &CommandContext,
    host: &Host,
    address: &Url,
) -> Settings {
    let mut settings = settings(config, context);
    let rules = settings.hosts.entry(host.clone()).or_default();
    if rules.endpoint.is_none() {
        let mut origin = address.clone();
        origin.set_path("");
        rules.endpoint = Some(origin);
    }
    limit(&mut settings, &context.process.variables);
    settings
}

/// Returns a client with the credentials that `process` has.
pub(super) fn client(settings: Settings, config: &Config, process: &Process) -> Client {
    let credentials = Arc::new(standard_credentials(config, process));
    let credentials = limited(credentials, &settings, &process.variables);
    Client::new(settings, credentials, process.clock.clone())
}

/// Returns the settings of the HTTP client.
pub(super) fn settings(config: &Config, context: &CommandContext) -> Settings {
    let hosts: BTreeMap<Host, HostRules> = config
        .hosts
        .iter()
        .map(|(host, settings)| (host.clone(), rules(settings)))
        .collect();
    let insecure = config.insecure_registries.iter().cloned().collect();
    let mut settings = Settings {
        hosts,
        insecure,
        deadline: context.deadline,
        ..Settings::default()
    };
    limit(&mut settings, &context.process.variables);
    settings
}

/// Returns the image store of OCI layout directories, which needs no configuration.
pub fn layouts() -> Arc<dyn ImageStore> {
    Arc::new(Layouts::default())
}
