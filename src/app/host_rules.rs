//! Rules of the HTTP client for the hosts of the configuration.

use crate::config::{Config, HostSettings};
use crate::http::{ClientCertificate, HostRules, Tls};
use crate::model::Host;

/// Returns the host whose credentials are used for `host`: that of its endpoint, if one is set.
pub(super) fn credential_host(config: &Config, host: &Host) -> Host {
    config.hosts.get(host).map_or_else(
        || host.clone(),
        |settings| rules(settings).credential_host(host),
    )
}

/// Returns the client rules for the configured settings of a host.
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
