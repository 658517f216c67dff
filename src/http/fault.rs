//! Connection faults: their causes, and hints for the user.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use super::certificates::AUTHORITY_AS_SERVER;

/// Fault of a connection that could not be made or broke.
///
/// The library's chain of causes repeats the last cause in many words, so only that is shown. The
/// error types of TLS and the resolver are not reachable through the chain; their texts are matched
/// instead.
#[derive(Debug)]
pub struct Fault {
    error: reqwest::Error,
    /// File with the certificates that are trusted in addition to the system's.
    ca_file: Option<PathBuf>,
}

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
        Fault {
            error: error.without_url(),
            ca_file: None,
        }
    }

    /// Returns the fault of a connection for which the certificates in `ca_file` are trusted.
    pub(super) fn with_ca_file(self, ca_file: Option<PathBuf>) -> Fault {
        Fault { ca_file, ..self }
    }

    pub(super) fn kind(&self) -> FaultKind {
        if self.error.is_builder() {
            FaultKind::Request
        } else {
            kind_of(&self.causes())
        }
    }

    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = self.error.source();
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
            FaultKind::Certificate => {
                certificate_hint(host, &self.causes(), self.ca_file.as_deref())
            }
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

/// Returns a hint for a certificate that is not trusted. `ca_file` has the certificates that are
/// trusted for the host in addition to the system's.
fn certificate_hint(host: &str, causes: &[String], ca_file: Option<&Path>) -> String {
    let has = |text: &str| causes.iter().any(|cause| cause.contains(text));
    let setting = format!("`hosts.\"{host}\".ca_file`");
    if has("not valid for name") || has("NotValidForName") {
        format!("use a host name in the certificate instead of {host}")
    } else if has("expired") || has("not valid yet") {
        format!("renew the certificate of {host}, or correct this machine's clock")
    } else if has("CertVersion") {
        format!(
            "replace the certificate of {host} with one of version 3 (`openssl req -x509 -addext subjectAltName=DNS:...`)"
        )
    } else if has(AUTHORITY_AS_SERVER) {
        let file = match ca_file {
            Some(file) => format!("{} ({setting})", file.display()),
            None => format!("a file that {setting} or SSL_CERT_FILE names"),
        };
        format!(
            "the server presents the certificate of an authority, which is accepted only if it is trusted itself: add exactly this certificate to {file}, or \
             make a server certificate (`-addext basicConstraints=CA:FALSE`)"
        )
    } else if let Some(file) = ca_file {
        format!(
            "{} ({setting}) has no authority that signed the certificate of {host}: add that authority, and check that the server sends its intermediate certificates",
            file.display()
        )
    } else {
        format!("if a private authority signed the certificate, set {setting} or SSL_CERT_FILE")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&describe(&self.causes()).unwrap_or_else(|| self.error.to_string()))
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
        FaultKind::Certificate if reason.contains(AUTHORITY_AS_SERVER) => {
            "the certificate is not trusted (it is that of an authority, not of a server)"
                .to_owned()
        }
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
        let hint = |what: &str, ca_file: Option<&str>| {
            certificate_hint(
                "r.example",
                &[format!("{CERTIFICATE}: {what}")],
                ca_file.map(Path::new),
            )
        };
        let authority = "Other(OtherError(CaUsedAsEndEntity))";
        for (what, ca_file, expected) in [
            ("UnknownIssuer", None, "set `hosts.\"r.example\".ca_file`"),
            (
                "UnknownIssuer",
                Some("ca.crt"),
                "ca.crt (`hosts.\"r.example\".ca_file`) has no authority",
            ),
            (
                "certificate expired: verification time 2 (UNIX), but certificate is not valid after 1",
                Some("ca.crt"),
                "renew",
            ),
            (
                "certificate not valid for name \"r.example\"",
                Some("ca.crt"),
                "in the certificate instead of r.example",
            ),
            (
                authority,
                Some("ca.crt"),
                "add exactly this certificate to ca.crt",
            ),
            (authority, None, "SSL_CERT_FILE names"),
        ] {
            let hint = hint(what, ca_file);
            assert!(hint.contains(expected), "{what}: {hint}");
        }
    }
}
