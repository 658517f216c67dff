//! Origin of a host: its base URL, and the host whose credentials may be sent there.

use reqwest::Url;

use super::error::Error;
use super::settings::{HostRules, Settings};
use crate::model::Host;

/// Base URL of Docker Hub's registry; the name `docker.io` is that of the web site.
const DOCKER_HUB_API: &str = "https://registry-1.docker.io";

/// Origin of a host: where its requests and its credentials go.
pub(super) struct HostOrigin {
    /// Host as image references name it.
    pub(super) name: Host,
    /// Host whose credentials are used: that of the endpoint, if one is set.
    pub(super) credential_host: Host,
    /// Base URL of requests.
    pub(super) base: Url,
}

impl HostOrigin {
    /// Returns the origin of the host `name`. Fails when its endpoint is not an `http` or `https`
    /// URL.
    pub(super) fn new(
        name: &Host,
        rules: &HostRules,
        settings: &Settings,
    ) -> Result<HostOrigin, Error> {
        let address = match &rules.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None if name.is_docker_hub() => DOCKER_HUB_API.to_owned(),
            None if settings.insecure.contains(name) => format!("http://{name}"),
            None => format!("https://{name}"),
        };
        let base = Url::parse(&address)
            .ok()
            .filter(|base| matches!(base.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| Error::Address { host: name.clone() })?;
        Ok(HostOrigin {
            name: name.clone(),
            credential_host: rules.credential_host(name),
            base,
        })
    }

    /// Returns true if a URL is of this origin (scheme, host, port), so that the host's credential
    /// may be sent to it.
    pub(super) fn contains(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Returns the error for a URL from the host that is not followed.
    pub(super) fn misled(&self, url: &Url, reason: &'static str) -> Error {
        Error::Misled {
            host: self.name.clone(),
            url: url.into(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns base URL and credential host.
    fn origin(
        name: &str,
        endpoint: Option<&str>,
        insecure: bool,
    ) -> Result<(String, String), Error> {
        let name: Host = name.parse().expect("a host");
        let mut settings = Settings::default();
        if insecure {
            settings.insecure.insert(name.clone());
        }
        let rules = HostRules {
            endpoint: endpoint.map(|text| text.parse().expect("a URL")),
            ..HostRules::default()
        };
        let origin = HostOrigin::new(&name, &rules, &settings)?;
        Ok((origin.base.to_string(), origin.credential_host.to_string()))
    }

    #[test]
    fn origin_is_the_host_or_its_endpoint() {
        for (name, endpoint, insecure, base, credential_host) in [
            ("r.example", None, false, "https://r.example/", "r.example"),
            (
                "localhost:5000",
                None,
                false,
                "https://localhost:5000/",
                "localhost:5000",
            ),
            (
                "localhost:5000",
                None,
                true,
                "http://localhost:5000/",
                "localhost:5000",
            ),
            (
                "docker.io",
                None,
                false,
                "https://registry-1.docker.io/",
                "docker.io",
            ),
            (
                "docker.io",
                Some("http://cache:5000/hub/"),
                false,
                "http://cache:5000/hub/",
                "cache:5000",
            ),
            (
                "docker.io",
                Some("https://registry-1.docker.io:443"),
                false,
                "https://registry-1.docker.io/",
                "docker.io",
            ),
        ] {
            assert_eq!(
                origin(name, endpoint, insecure).expect("an origin"),
                (base.to_owned(), credential_host.to_owned())
            );
        }
    }

    #[test]
    fn endpoint_that_is_no_web_address_is_an_error() {
        assert!(origin("r.example", Some("ftp://x"), false).is_err());
    }
}
