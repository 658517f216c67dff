//! Credential files of docker and podman: their format, and the lookup of entries.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use serde::Deserialize;

use super::Credential;
use crate::model::{Host, RepositoryPath, Secret};

/// Base64 without required padding, which some programs omit.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials in a file such as `~/.docker/config.json`. Has no `Debug`, since it holds secrets.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthFile {
    #[serde(default, deserialize_with = "null_is_default")]
    auths: BTreeMap<String, Option<AuthEntry>>,
    #[serde(default, deserialize_with = "null_is_default")]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl AuthFile {
    /// Parses a file. The error has the position of the problem and quotes nothing.
    pub(super) fn parse(bytes: &[u8]) -> Result<AuthFile, String> {
        serde_json::from_slice(bytes).map_err(|error| {
            format!(
                "invalid docker configuration (JSON) at line {}, column {}",
                error.line(),
                error.column()
            )
        })
    }

    /// Returns the name of the helper for `host` or a path on it.
    pub(super) fn helper(&self, host: &Host, path: Option<&RepositoryPath>) -> Option<&str> {
        longest_match(&self.cred_helpers, host, path)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Returns the name of the helper for all hosts.
    pub(super) fn store(&self) -> Option<&str> {
        self.creds_store.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns the credential in the file itself: that of the longest key that is `host` or a path
    /// on it. Fails if the entry is invalid.
    pub(super) fn credential(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<Credential>, String> {
        let filled = self.auths.iter().filter_map(|(key, entry)| {
            Some((key, entry.as_ref().filter(|entry| entry.is_filled())?))
        });
        let Some((key, entry)) = filled
            .filter_map(|(key, entry)| Some((match_length(key, host, path)?, key, entry)))
            .max_by_key(|(length, ..)| *length)
            .map(|(_, key, entry)| (key, entry))
        else {
            return Ok(None);
        };
        entry.credential().map(Some).map_err(|problem| {
            format!(
                "the entry `{}` {problem}",
                crate::model::text::excerpt(key, 200)
            )
        })
    }
}

impl AuthEntry {
    /// Returns true if the entry has a credential. Docker leaves empty entries for hosts whose
    /// credentials are in a store.
    fn is_filled(&self) -> bool {
        [
            &self.auth,
            &self.username,
            &self.password,
            &self.identitytoken,
            &self.registrytoken,
        ]
        .into_iter()
        .any(|field| filled(field).is_some())
    }

    fn credential(&self) -> Result<Credential, &'static str> {
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Credential::Bearer {
                token: Secret::new(token),
            });
        }
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Credential::RefreshToken {
                token: Secret::new(token),
            });
        }
        let pair = match filled(&self.auth) {
            Some(auth) => {
                let decoded = BASE64
                    .decode(auth.trim())
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                let (username, password) = decoded
                    .as_deref()
                    .and_then(|text| text.split_once(':'))
                    .ok_or("has an invalid `auth`: it is not base64 of `username:password`")?;
                // Docker pads passwords with NUL.
                (
                    username.to_owned(),
                    password.trim_end_matches('\0').to_owned(),
                )
            }
            None => (
                self.username.clone().unwrap_or_default(),
                self.password.clone().unwrap_or_default(),
            ),
        };
        match pair {
            (username, password) if !username.is_empty() && !password.is_empty() => {
                Ok(Credential::Basic {
                    username,
                    password: Secret::new(password),
                })
            }
            (_, password) if password.is_empty() => Err("has a user name without a password"),
            _ => Err("has a password without a user name"),
        }
    }
}

fn filled(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

fn longest_match<'a, T>(
    entries: &'a BTreeMap<String, T>,
    host: &Host,
    path: Option<&RepositoryPath>,
) -> Option<&'a T> {
    entries
        .iter()
        .filter_map(|(key, value)| Some((match_length(key, host, path)?, value)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, value)| value)
}

/// Returns the length of the path in a key that matches `host` and `path`: 0 for a key of the whole
/// host, `None` if the key does not match. Schemes and the `/v1/` and `/v2/` of old keys are
/// ignored.
fn match_length(key: &str, host: &Host, path: Option<&RepositoryPath>) -> Option<usize> {
    let key = key.trim();
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    let (key_host, key_path) = match key.split_once('/') {
        None | Some((_, "v1" | "v2")) => (key.split('/').next().unwrap_or(key), ""),
        Some(parts) => parts,
    };
    if key_host.parse::<Host>().ok()? != *host {
        return None;
    }
    let rest = match path {
        Some(path) => path.as_str().strip_prefix(key_path)?,
        None if key_path.is_empty() => "",
        None => return None,
    };
    (key_path.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some(key_path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        })
    }

    fn found(file: &str, host: &str, path: &str) -> Result<Option<Credential>, String> {
        let path: RepositoryPath = path.parse().expect("a path");
        AuthFile::parse(file.as_bytes())
            .expect("a file")
            .credential(&host.parse().expect("a host"), Some(&path))
    }

    #[test]
    fn keys_match_with_schemes_and_api_versions() {
        // alice:s3cret
        let entry = r#"{"auth":"YWxpY2U6czNjcmV0"}"#;
        for (key, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://r.example/v2/", "r.example"),
            ("http://r.example:5000/", "r.example:5000"),
            ("R.example", "r.example"),
        ] {
            let file = format!(r#"{{"auths":{{"{key}":{entry}}}}}"#);
            assert_eq!(
                found(&file, host, "a/b"),
                Ok(basic("alice", "s3cret")),
                "{key}"
            );
            assert_eq!(found(&file, "other.example", "a/b"), Ok(None), "{key}");
        }
    }

    #[test]
    fn longest_matching_path_wins_and_ends_at_a_slash() {
        let file = r#"{"auths":{
            "r.example":{"username":"host","password":"p"},
            "r.example/team":{"username":"team","password":"p"},
            "r.example/team/app":{"username":"app","password":"p"},
            "r.example/team/empty":{}}}"#;
        for (path, user) in [
            ("team/app", "app"),
            ("team/app/x", "app"),
            ("team/apple", "team"),
            ("teams", "host"),
            ("o", "host"),
            ("team/empty", "team"),
        ] {
            assert_eq!(
                found(file, "r.example", path),
                Ok(basic(user, "p")),
                "{path}"
            );
        }
        let file = AuthFile::parse(file.as_bytes()).expect("a file");
        assert_eq!(
            file.credential(&"r.example".parse().expect("a host"), None),
            Ok(basic("host", "p"))
        );
    }

    #[test]
    fn tokens_take_precedence_over_user_names() {
        let file = r#"{"auths":{"a.example":{"auth":"YWxpY2U6czNjcmV0","identitytoken":"id"},"b.example":{"registrytoken":"r"}}}"#;
        assert_eq!(
            found(file, "a.example", "x"),
            Ok(Some(Credential::RefreshToken {
                token: Secret::new("id")
            }))
        );
        assert_eq!(
            found(file, "b.example", "x"),
            Ok(Some(Credential::Bearer {
                token: Secret::new("r")
            }))
        );
    }

    #[test]
    fn helpers_are_found_by_host_and_empty_or_null_fields_are_ignored() {
        let file = r#"{"auths":null,"credHelpers":{"r.example":"one","s.example":""},"credsStore":"all","HttpHeaders":{}}"#;
        let file = AuthFile::parse(file.as_bytes()).expect("a file");
        let helper = |host: &str| file.helper(&host.parse().expect("a host"), None);
        assert_eq!(
            (
                helper("r.example"),
                helper("s.example"),
                helper("t.example"),
                file.store()
            ),
            (Some("one"), None, None, Some("all"))
        );
    }

    #[test]
    fn invalid_entries_are_named_and_never_quoted() {
        // "hunter2" without a colon; a user without a password
        for auth in ["aHVudGVyMg==", "*hunter2*", "YWxpY2U6"] {
            let error = found(
                &format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#),
                "r.example",
                "x",
            )
            .expect_err("an invalid entry");
            assert!(
                error.contains("`r.example`")
                    && !error.contains("hunter2")
                    && !error.contains(auth),
                "{error}"
            );
        }
        let error = AuthFile::parse(br#"{"auths":{"r.example":{"auth": hunter2"#)
            .err()
            .expect("invalid JSON");
        assert_eq!(
            error,
            "invalid docker configuration (JSON) at line 1, column 32"
        );
        let error = AuthFile::parse(br#"{"auths":"hunter2"}"#)
            .err()
            .expect("invalid fields");
        assert!(!error.contains("hunter2"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_file_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), key in ".{0,40}") {
            drop(AuthFile::parse(&bytes));
            match_length(&key, &"r.example".parse().expect("a host"), None);
        }
    }

    #[test]
    fn fuzzing_credential_files() {
        let seed = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YWxpY2U6aHVudGVyMg=="},"r.example/team":{"username":"a","password":"b","identitytoken":"c","registrytoken":null},"x":null},"credHelpers":{"r.example":"pass"},"credsStore":"desktop"}"#;
        let (host, path) = (
            "r.example".parse().expect("a host"),
            "team/app".parse().expect("a path"),
        );
        crate::model::fuzz_tests::fuzz("credential files", &[seed], |input| {
            let Ok(file) = AuthFile::parse(input) else {
                return;
            };
            assert!(file.helper(&host, Some(&path)) != Some("") && file.store() != Some(""));
            if let Err(problem) = file.credential(&host, Some(&path)) {
                assert!(!problem.contains("hunter2"), "{problem}");
            }
        });
    }
}
