//! Connection pools: one for each TLS setup.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Identity, Url};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::certificates::{parse_certificates, parse_key, tls_config};
use super::error::Error;
use super::host::HostState;
use super::settings::{Settings, Tls, host_of};
use crate::model::Host;
use crate::model::lock::lock;

const USER_AGENT: &str = concat!("imglife/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Time after which an unused connection is closed: less than servers and load balancers commonly
/// allow, so that they do not close it during a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connection pools of a run. Hosts with the same setup share a pool.
#[derive(Default)]
pub(super) struct ConnectionPools(Mutex<HashMap<ConnectionSetup, reqwest::Client>>);

/// Setup of the connections of a pool.
#[derive(Clone, PartialEq, Eq, Hash)]
enum ConnectionSetup {
    PlainHttp,
    Tls(Tls),
}

impl ConnectionPools {
    /// Returns the pool for a request to `url` on behalf of `host`. Fails when the certificates in
    /// the settings cannot be used.
    pub(super) fn pool(
        &self,
        settings: &Settings,
        host: &HostState,
        url: &Url,
    ) -> Result<reqwest::Client, Error> {
        let setup = setup(settings, host, url);
        let mut pools = lock(&self.0);
        if let Some(pool) = pools.get(&setup) {
            return Ok(pool.clone());
        }
        let pool = build(&setup, &host.origin.name)?;
        pools.insert(setup, pool.clone());
        Ok(pool)
    }
}

/// Returns the file with the certificates that are trusted for `url` in addition to the system's.
pub(super) fn ca_file(settings: &Settings, host: &HostState, url: &Url) -> Option<PathBuf> {
    match setup(settings, host, url) {
        ConnectionSetup::Tls(tls) => tls.ca_file,
        ConnectionSetup::PlainHttp => None,
    }
}

/// Returns the setup for `url`. The TLS settings of `host` apply to all of its ports, where token
/// servers often are. Another host that it leads to has its own settings.
fn setup(settings: &Settings, host: &HostState, url: &Url) -> ConnectionSetup {
    if url.scheme() == "http" {
        ConnectionSetup::PlainHttp
    } else if url.host_str() == host.origin.base.host_str() {
        ConnectionSetup::Tls(host.rules.tls.clone())
    } else {
        let rules = host_of(url).and_then(|name| settings.hosts.get(&name));
        ConnectionSetup::Tls(rules.map(|rules| rules.tls.clone()).unwrap_or_default())
    }
}

fn build(setup: &ConnectionSetup, host: &Host) -> Result<reqwest::Client, Error> {
    let mut headers = HeaderMap::new();
    // Compressed content would not have the size and digest that it should have.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Layers are few and large. With HTTP/2 they would share one connection and its flow
        // control, which is slower than one connection each; a slow reader would stall all of them.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT);
    match setup {
        // The system's certificates are not loaded: they may be missing where only plain HTTP is
        // used.
        ConnectionSetup::PlainHttp => builder = builder.tls_certs_only([]),
        ConnectionSetup::Tls(tls) if tls.insecure_skip_verify => {
            if let Some(pair) = &tls.client_certificate {
                let mut pem = read_pem(host, &pair.certificate)?;
                pem.push(b'\n');
                pem.extend(read_pem(host, &pair.key)?);
                builder = builder.identity(
                    Identity::from_pem(&pem)
                        .map_err(|error| invalid_file(host, &pair.certificate, error))?,
                );
            }
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        ConnectionSetup::Tls(tls) => {
            builder = builder.tls_backend_preconfigured(verified_tls(tls, host)?);
        }
    }
    builder.build().map_err(|source| Error::Setup {
        host: host.clone(),
        source: source.into(),
    })
}

/// Returns a TLS setup that verifies certificates.
fn verified_tls(tls: &Tls, host: &Host) -> Result<ClientConfig, Error> {
    let trusted = match &tls.ca_file {
        Some(file) => certificates_in(file, host)?,
        None => Vec::new(),
    };
    let identity = match &tls.client_certificate {
        Some(pair) => {
            let certificates = certificates_in(&pair.certificate, host)?;
            let key = parse_key(&read_pem(host, &pair.key)?)
                .map_err(|error| invalid_file(host, &pair.key, error))?;
            Some((certificates, key))
        }
        None => None,
    };
    let file = tls.ca_file.as_ref().or(tls
        .client_certificate
        .as_ref()
        .map(|pair| &pair.certificate));
    tls_config(trusted, identity).map_err(|source| match file {
        Some(file) => invalid_file(host, file, source),
        None => Error::Setup {
            host: host.clone(),
            source,
        },
    })
}

/// Returns the certificates in `file`, at least one.
fn certificates_in(file: &Path, host: &Host) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = parse_certificates(&read_pem(host, file)?)
        .map_err(|error| invalid_file(host, file, error))?;
    if certificates.is_empty() {
        return Err(invalid_file(host, file, "the file has no certificate"));
    }
    Ok(certificates)
}

fn read_pem(host: &Host, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| invalid_file(host, file, error))
}

fn invalid_file(
    host: &Host,
    file: &Path,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    Error::Certificate {
        host: host.clone(),
        file: file.to_owned(),
        source: source.into(),
    }
}
