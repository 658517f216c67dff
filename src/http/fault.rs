//! Connection faults: their causes, and hints for the user.

use std::error::Error as StdError;
use std::fmt;

/// Fault of a connection that could not be made or broke.
///
/// The library's chain of causes repeats the last cause in many words, so only that is shown. The
/// error types of TLS and the resolver are not reachable through the chain; their texts are matched
/// instead.
#[derive(Debug)]
pub struct Fault(reqwest::Error);

/// Kind of a connection fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The host name does not exist.
    NoSuchName,
    /// Name resolution failed: the resolver did not answer, or has a problem.
    NoNames,
    /// The server does not speak TLS.
    NoTls,
    /// The server's certificate is not trusted.
    Certificate,
    /// The request is invalid and was not sent.
    Request,
    Other,
}

impl Fault {
    pub(super) fn new(error: reqwest::Error) -> Fault {
        // Strip the URL; the caller prints a redacted one.
        Fault(error.without_url())
    }

    pub(super) fn kind(&self) -> FaultKind {
        if self.0.is_builder() {
            FaultKind::Request
        } else {
            kind_of(&self.causes())
        }
    }

    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = self.0.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }

    /// Returns a hint for the user about the fault at `host`.
    pub(super) fn hint(&self, host: &str) -> String {
        match self.kind() {
            FaultKind::NoSuchName => format!(
                "check the host name {host}; if the host is reached through a proxy, set HTTPS_PROXY"
            ),
            FaultKind::NoTls => {
                format!("if {host} uses plain HTTP, add it to `registry.insecure_registries`")
            }
            FaultKind::Certificate => certificate_hint(host, &self.causes()),
            FaultKind::NoNames | FaultKind::Request | FaultKind::Other => unreachable(host),
        }
    }
}

/// Returns a hint for a host that cannot be reached.
pub(super) fn unreachable(host: &str) -> String {
    format!(
        "check that {host} is correct and running, and that this machine can reach it (DNS, firewall, HTTPS_PROXY, NO_PROXY)"
    )
}

fn kind_of(causes: &[String]) -> FaultKind {
    // Messages of glibc, musl and the BSDs.
    const UNKNOWN: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "nodename nor servname provided",
    ];
    let has = |text: &str| causes.iter().any(|cause| cause.contains(text));
    match () {
        () if has("InvalidContentType") => FaultKind::NoTls,
        () if has(CERTIFICATE) => FaultKind::Certificate,
        () if has("dns error") && UNKNOWN.into_iter().any(has) => FaultKind::NoSuchName,
        () if has("dns error") => FaultKind::NoNames,
        () => FaultKind::Other,
    }
}

const CERTIFICATE: &str = "invalid peer certificate";

fn certificate_hint(host: &str, causes: &[String]) -> String {
    let has = |text: &str| causes.iter().any(|cause| cause.contains(text));
    if has("not valid for name") {
        format!("use a host name in the certificate instead of {host}")
    } else if has("expired") || has("not valid yet") {
        format!("renew the certificate of {host}, or correct this machine's clock")
    } else {
        format!(
            "if a private authority signed the certificate, set `hosts.\"{host}\".ca_file` or SSL_CERT_FILE"
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&describe(&self.causes()).unwrap_or_else(|| self.0.to_string()))
    }
}

/// Returns the description of a chain of causes; `None` if it is empty.
fn describe(causes: &[String]) -> Option<String> {
    let last = causes.last()?;
    let reason = last
        .split_once(": ")
        .map_or(last.as_str(), |(_, reason)| reason);
    Some(match kind_of(causes) {
        FaultKind::NoSuchName => format!("no such host ({reason})"),
        FaultKind::NoNames => format!("name resolution failed ({reason})"),
        FaultKind::NoTls => format!("the server does not speak TLS ({last})"),
        FaultKind::Certificate => format!("the certificate is not trusted ({reason})"),
        FaultKind::Request | FaultKind::Other => last.clone(),
    })
}

impl StdError for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_is_described_by_its_last_cause() {
        let of = |causes: &[&str]| {
            describe(
                &causes
                    .iter()
                    .map(|cause| (*cause).to_owned())
                    .collect::<Vec<_>>(),
            )
            .expect("a description")
        };
        let lookup = |what: &str| {
            of(&[
                "client error (Connect)",
                "dns error",
                &format!("failed to lookup address information: {what}"),
            ])
        };
        assert_eq!(
            lookup("Name or service not known"),
            "no such host (Name or service not known)"
        );
        assert_eq!(
            lookup("Name does not resolve"),
            "no such host (Name does not resolve)"
        );
        assert_eq!(
            lookup("Temporary failure in name resolution"),
            "name resolution failed (Temporary failure in name resolution)"
        );
        let tls = |what: &str| of(&["client error (Connect)", what]);
        assert_eq!(
            tls("received corrupt message of type InvalidContentType"),
            "the server does not speak TLS (received corrupt message of type InvalidContentType)"
        );
        assert_eq!(
            tls("invalid peer certificate: UnknownIssuer"),
            "the certificate is not trusted (UnknownIssuer)"
        );
        let refused = of(&[
            "client error (Connect)",
            "tcp connect error",
            "Connection refused (os error 111)",
        ]);
        assert_eq!(refused, "Connection refused (os error 111)");
        assert_eq!(describe(&[]), None);
    }

    #[test]
    fn certificate_hint_depends_on_the_problem() {
        let of = |what: &str| certificate_hint("r.example", &[format!("{CERTIFICATE}: {what}")]);
        assert!(of("UnknownIssuer").contains("ca_file"));
        assert!(of("certificate expired: verification time 2 (UNIX), but certificate is not valid after 1").contains("renew"));
        assert!(
            of("certificate not valid for name \"r.example\"")
                .contains("in the certificate instead of r.example")
        );
    }
}
