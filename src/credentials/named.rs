//! Credentials in variables that name their host exactly: `IMGLIFE_LOGIN_<NAME>_*`, and
//! `IMGLIFE_<HOST>_HOST` for the variables of one host.

use async_trait::async_trait;

use crate::model::env;
use crate::model::{Host, RepositoryPath, Variables};

/// Scheme that the value of a `…_HOST` variable may begin with.
const PLAIN: &str = "http://";
const SECURE: &str = "https://";

/// Number of letters up to which the second part of a name belongs to a public suffix (`co.uk`).
const MAX_SUFFIX_LETTERS: usize = 3;

/// Hosts that a reviewed configuration names. An untrusted job may send them the credentials that
/// are set for them.
#[async_trait]
pub trait ReviewedHosts: Send + Sync {
    /// Returns true if the reviewed configuration names the host.
    async fn contain(&self, host: &Host) -> bool;
}

/// A `…_HOST` variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedLogin {
    /// Prefix of the variables with the credential.
    pub(super) prefix: String,
    pub(super) host: Host,
    /// Path that the credential is limited to.
    pub(super) path: Option<RepositoryPath>,
    /// True if the host is named with `http://`.
    pub(super) is_plain: bool,
}

/// Right of a host to the credential in `IMGLIFE_<HOST>_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostClaim {
    /// `IMGLIFE_<HOST>_HOST` names the host.
    Named,
    /// `IMGLIFE_<HOST>_HOST` names another host.
    OfAnother,
    /// No variable names a host.
    Unnamed,
}

/// Returns the logins in `IMGLIFE_LOGIN_<NAME>_*`, and the names of `…_HOST` variables with an
/// invalid value.
pub(super) fn logins(variables: &Variables) -> (Vec<NamedLogin>, Vec<String>) {
    let (mut logins, mut invalid) = (Vec::new(), Vec::new());
    for (name, value) in variables.iter() {
        let prefix = name.strip_suffix(HOST_SUFFIX).filter(|prefix| {
            prefix
                .strip_prefix(env::PREFIX)
                .and_then(|rest| rest.strip_prefix(LOGIN_PREFIX))
                .is_some_and(|name| !name.is_empty())
        });
        let Some(prefix) = prefix.filter(|_| !value.is_empty()) else {
            continue;
        };
        match parse(prefix, value) {
            Some(login) => logins.push(login),
            None => invalid.push(name.to_owned()),
        }
    }
    (logins, invalid)
}

/// Start of the names of the variables of a login with a name, after [`env::PREFIX`].
const LOGIN_PREFIX: &str = "LOGIN_";

/// End of the names of variables that name a host.
const HOST_SUFFIX: &str = "_HOST";

fn parse(prefix: &str, value: &str) -> Option<NamedLogin> {
    let value = value.trim();
    let (is_plain, rest) = match (value.strip_prefix(PLAIN), value.strip_prefix(SECURE)) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => (false, value),
    };
    let (host, path) = match rest.trim_end_matches('/').split_once('/') {
        Some((host, path)) => (host, Some(path.parse().ok()?)),
        None => (rest.trim_end_matches('/'), None),
    };
    Some(NamedLogin {
        prefix: prefix.to_owned(),
        host: host.parse().ok()?,
        path,
        is_plain,
    })
}

impl NamedLogin {
    /// Returns true if the login is for `path` on `host`.
    pub(super) fn applies_to(&self, host: &Host, path: Option<&RepositoryPath>) -> bool {
        self.host == *host
            && self.path.as_ref().is_none_or(|own| {
                path.and_then(|path| path.as_str().strip_prefix(own.as_str()))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }

    /// Returns the number of letters in the path, by which the most specific login is found.
    pub(super) fn path_length(&self) -> usize {
        self.path.as_ref().map_or(0, |path| path.as_str().len())
    }
}

/// Returns the right of `host` to the credential in the variables with its prefix. The error is the
/// name of a variable that does not contain a host.
pub(super) fn claim(host: &Host, variables: &Variables) -> Result<HostClaim, String> {
    let prefix = variable_prefix(host);
    let name = format!("{prefix}{HOST_SUFFIX}");
    // `IMGLIFE_TOKEN_HOST` has another meaning, also for a host that is called `token`.
    let Some(value) = variables
        .get_filled(&name)
        .filter(|_| name != env::IMGLIFE_TOKEN_HOST)
    else {
        return Ok(HostClaim::Unnamed);
    };
    let named = parse(&prefix, value)
        .filter(|named| named.path.is_none())
        .ok_or_else(|| name.clone())?;
    Ok(if named.host == *host {
        HostClaim::Named
    } else {
        HostClaim::OfAnother
    })
}

/// Returns the hosts that a `…_HOST` variable names with `http://`.
pub fn plain_hosts(variables: &Variables) -> Vec<Host> {
    let named = variables
        .iter()
        .filter(|(name, _)| name.starts_with(env::PREFIX))
        .filter_map(|(name, value)| {
            let prefix = name.strip_suffix(HOST_SUFFIX)?;
            parse(prefix, value)
        });
    named
        .filter(|login| login.is_plain)
        .map(|login| login.host)
        .collect()
}

/// Returns true if the registered part of a name contains `-` or `_`: variables for another name, in
/// which a dot stands instead, would have the same names. `registry-example.com` is such a host, and
/// `my-registry.example.com` is none, because it belongs to the owner of `registry.example.com`.
pub(super) fn is_look_alike(host: &Host) -> bool {
    let labels: Vec<&str> = host.name().split('.').collect();
    let (Some(last), Some(second)) = (labels.last(), labels.iter().rev().nth(1)) else {
        // Nobody can register a name without a dot.
        return false;
    };
    let third = labels
        .iter()
        .rev()
        .nth(2)
        .filter(|_| second.len() <= MAX_SUFFIX_LETTERS);
    [Some(last), Some(second), third]
        .into_iter()
        .flatten()
        .any(|label| label.contains(['-', '_']))
}

/// Returns the prefix of the variables that hold a host's credential: `IMGLIFE_REGISTRY_5000` for
/// `registry:5000`.
pub fn variable_prefix(host: &Host) -> String {
    let name: String = host
        .as_str()
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    format!("{}{name}", env::PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse().expect("a host")
    }

    #[test]
    fn a_look_alike_differs_in_the_registered_part_of_the_name() {
        for name in [
            "registry-example.com",
            "registry.my-company.com",
            "registry-example.co.uk",
            "a_b.example:5000",
        ] {
            assert!(is_look_alike(&host(name)), "{name}");
        }
        for name in [
            "registry.example.com",
            "my-registry.example.com",
            "docker.io",
            "my-registry:5000",
            "localhost:5000",
            "a-b.registry.example.co.uk",
            "[::1]:5000",
        ] {
            assert!(!is_look_alike(&host(name)), "{name}");
        }
    }

    #[test]
    fn logins_name_a_host_and_a_path() {
        let variables: Variables = [
            ("IMGLIFE_LOGIN_TEAM_HOST", "r.example:5000/team/a"),
            ("IMGLIFE_LOGIN_PLAIN_HOST", "http://r.local:5000/"),
            ("IMGLIFE_LOGIN_EMPTY_HOST", ""),
            ("IMGLIFE_LOGIN_BAD_HOST", "ftp://x y"),
            ("IMGLIFE_LOGIN_HOST", "r.example"),
        ]
        .into_iter()
        .collect();
        let (logins, invalid) = logins(&variables);
        assert_eq!(invalid, ["IMGLIFE_LOGIN_BAD_HOST"]);
        let shown: Vec<String> = logins
            .iter()
            .map(|login| format!("{} {} {}", login.prefix, login.host, login.path_length()))
            .collect();
        assert_eq!(
            shown,
            [
                "IMGLIFE_LOGIN_PLAIN r.local:5000 0",
                "IMGLIFE_LOGIN_TEAM r.example:5000 6"
            ]
        );
        assert_eq!(plain_hosts(&variables), [host("r.local:5000")]);
        let team = &logins[1];
        let path = |text: &str| text.parse::<RepositoryPath>().expect("a path");
        assert!(team.applies_to(&host("r.example:5000"), Some(&path("team/a/b"))));
        for (name, below) in [
            ("r.example:5000", "team/ab"),
            ("r.example:5000", "team"),
            ("r.example", "team/a"),
        ] {
            assert!(
                !team.applies_to(&host(name), Some(&path(below))),
                "{name} {below}"
            );
        }
        assert!(!team.applies_to(&host("r.example:5000"), None));
    }

    #[test]
    fn a_host_variable_names_the_only_host_of_its_credential() {
        let of = |value: &str, name: &str| {
            let variables = [("IMGLIFE_REGISTRY_EXAMPLE_COM_HOST", value)]
                .into_iter()
                .collect();
            claim(&host(name), &variables)
        };
        assert_eq!(
            of("registry.example.com", "registry.example.com"),
            Ok(HostClaim::Named)
        );
        assert_eq!(
            of("registry.example.com", "registry-example.com"),
            Ok(HostClaim::OfAnother)
        );
        assert_eq!(
            of("registry.example.com:443", "registry.example.com"),
            Ok(HostClaim::OfAnother)
        );
        assert_eq!(of("", "registry.example.com"), Ok(HostClaim::Unnamed));
        for value in ["a b", "registry.example.com/team"] {
            assert_eq!(
                of(value, "registry.example.com"),
                Err("IMGLIFE_REGISTRY_EXAMPLE_COM_HOST".to_owned())
            );
        }
    }
}
