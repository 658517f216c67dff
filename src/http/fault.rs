//! Connections that could not be made or broke: why, in words, and what to do.

use std::error::Error as StdError;
use std::fmt;

/// What came between. The library's own chain of causes says in many words what its last one says;
/// the types of what TLS and the resolver say are not reachable through it, so their texts are
/// looked at.
#[derive(Debug)]
pub struct Fault(reqwest::Error);

/// What kind of fault it is, where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// There is no host of that name.
    NoSuchName,
    /// Who knows the names did not answer, or could not say.
    NoNames,
    /// The other side did not speak TLS.
    NoTls,
    /// Its certificate is not trusted.
    Certificate,
    /// The request could not even be written.
    Request,
    Other,
}

impl Fault {
    pub(super) fn new(error: reqwest::Error) -> Fault {
        // The address is told by who knows what of it is safe.
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

    /// Returns what the user can do about `host`.
    pub(super) fn hint(&self, host: &str) -> String {
        match self.kind() {
            FaultKind::NoSuchName => format!(
                "is there a host called {host}? Where it is reached by a proxy, set HTTPS_PROXY"
            ),
            FaultKind::NoTls => {
                format!("if {host} speaks plain HTTP, name it in `registry.insecure_registries`")
            }
            FaultKind::Certificate => certificate_hint(host, &self.causes()),
            FaultKind::NoNames | FaultKind::Request | FaultKind::Other => unreachable(host),
        }
    }
}

/// Returns what to look at when a host is not reached.
pub(super) fn unreachable(host: &str) -> String {
    format!(
        "see that {host} is the right name and is up, and that this machine may reach it (DNS, firewall, HTTPS_PROXY, NO_PROXY)"
    )
}

fn kind_of(causes: &[String]) -> FaultKind {
    // As glibc, musl and the BSDs say it.
    const UNKNOWN: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "nodename nor servname provided",
    ];
    let said = |text: &str| causes.iter().any(|cause| cause.contains(text));
    match () {
        () if said("InvalidContentType") => FaultKind::NoTls,
        () if said(CERTIFICATE) => FaultKind::Certificate,
        () if said("dns error") && UNKNOWN.into_iter().any(said) => FaultKind::NoSuchName,
        () if said("dns error") => FaultKind::NoNames,
        () => FaultKind::Other,
    }
}

const CERTIFICATE: &str = "invalid peer certificate";

fn certificate_hint(host: &str, causes: &[String]) -> String {
    let said = |text: &str| causes.iter().any(|cause| cause.contains(text));
    if said("not valid for name") {
        format!("write the host as its certificate names it, instead of {host}")
    } else if said("expired") || said("not valid yet") {
        format!("the certificate of {host} has to be renewed, or this machine's clock is wrong")
    } else {
        format!(
            "if its certificate is signed by your own authority, set `hosts.\"{host}\".ca_file` or SSL_CERT_FILE"
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&words(&self.causes()).unwrap_or_else(|| self.0.to_string()))
    }
}

/// Returns what the causes come to; `None` when there are none.
fn words(causes: &[String]) -> Option<String> {
    let last = causes.last()?;
    let reason = last
        .split_once(": ")
        .map_or(last.as_str(), |(_, reason)| reason);
    Some(match kind_of(causes) {
        FaultKind::NoSuchName => format!("no host has this name ({reason})"),
        FaultKind::NoNames => format!("the name could not be looked up ({reason})"),
        FaultKind::NoTls => format!("what answers does not speak TLS ({last})"),
        FaultKind::Certificate => format!("the certificate is not trusted ({reason})"),
        FaultKind::Request | FaultKind::Other => last.clone(),
    })
}

impl StdError for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_between_is_told_in_few_words() {
        let of = |causes: &[&str]| {
            words(
                &causes
                    .iter()
                    .map(|cause| (*cause).to_owned())
                    .collect::<Vec<_>>(),
            )
            .expect("words")
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
            "no host has this name (Name or service not known)"
        );
        assert_eq!(
            lookup("Name does not resolve"),
            "no host has this name (Name does not resolve)"
        );
        assert_eq!(
            lookup("Temporary failure in name resolution"),
            "the name could not be looked up (Temporary failure in name resolution)"
        );
        let tls = |what: &str| of(&["client error (Connect)", what]);
        assert_eq!(
            tls("received corrupt message of type InvalidContentType"),
            "what answers does not speak TLS (received corrupt message of type InvalidContentType)"
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
        assert_eq!(words(&[]), None);
    }

    #[test]
    fn what_to_do_about_a_certificate_depends_on_what_is_wrong_with_it() {
        let of = |what: &str| certificate_hint("r.example", &[format!("{CERTIFICATE}: {what}")]);
        assert!(of("UnknownIssuer").contains("ca_file"));
        assert!(of("certificate expired: verification time 2 (UNIX), but certificate is not valid after 1").contains("renewed"));
        assert!(
            of("certificate not valid for name \"r.example\"")
                .contains("as its certificate names it")
        );
    }
}
