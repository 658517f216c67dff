//! Conversion of failed requests to the errors of items.

use super::error::{Error, SafeUrl};
use crate::error::{ErrorScope, ItemError, ItemErrorKind, chain};

impl Error {
    /// Returns the error of `operation` on `host`, which is a host name or a name that contains
    /// one.
    ///
    /// The host is named once: URLs are shown without it. Any other host is named in the cause,
    /// such as the storage that a request was redirected to or the token server.
    pub fn into_item(self, host: impl Into<String>, operation: impl Into<String>) -> ItemError {
        self.to_item(host, operation)
    }

    /// Like [`into_item`](Error::into_item), for errors that several items share.
    pub fn to_item(&self, host: impl Into<String>, operation: impl Into<String>) -> ItemError {
        let host = host.into();
        let (kind, cause) = (self.kind(), self.cause(&host));
        ItemError::new(host, operation, kind, cause)
            .with_request(self.request())
            .with_scope(self.scope())
            .with_optional_hint(self.hint())
    }

    /// Returns the kind of failure that the error is for the item that the request was sent for.
    pub fn kind(&self) -> ItemErrorKind {
        match self {
            Error::Refused(response) => match response.status.as_u16() {
                _ if self.has_code("DIGEST_INVALID") => ItemErrorKind::Corrupt,
                401 => ItemErrorKind::Unauthorized,
                403 => ItemErrorKind::Forbidden,
                404 => ItemErrorKind::Absent,
                405 => ItemErrorKind::Unsupported,
                429 => ItemErrorKind::RateLimited,
                _ if self.has_code("UNSUPPORTED") => ItemErrorKind::Unsupported,
                500.. => ItemErrorKind::ServerError,
                _ => ItemErrorKind::Refused,
            },
            Error::Moved { .. } => ItemErrorKind::Refused,
            Error::TokenServer(error) => match error.kind() {
                // The status is about the token, so the object itself may exist.
                ItemErrorKind::Absent | ItemErrorKind::Unsupported => ItemErrorKind::Refused,
                kind => kind,
            },
            Error::Unauthorized { .. } | Error::StaleToken { .. } | Error::Credential(_) => {
                ItemErrorKind::Unauthorized
            }
            Error::TooLarge { .. } | Error::Malformed { .. } | Error::Misled { .. } => {
                ItemErrorKind::Malformed
            }
            Error::Connection { .. }
            | Error::Stalled { .. }
            | Error::TooSlow { .. }
            | Error::Address { .. }
            | Error::Setup { .. }
            | Error::Certificate { .. } => ItemErrorKind::Unreachable,
        }
    }

    /// Returns the reason of the failure for an error that names `host` already.
    fn cause(&self, host: &str) -> String {
        match self {
            Error::Refused(response) => {
                let mut cause = match other(&response.url, host) {
                    Some(other) => format!("{other} responded with {}", response.status),
                    None => response.status.to_string(),
                };
                let reasons = response.reasons();
                if !reasons.is_empty() {
                    cause = format!("{cause}: {reasons}");
                }
                match response.retry_after {
                    Some(wait) => format!(
                        "{cause}; retry after {} s{}",
                        wait.as_secs(),
                        response.excess()
                    ),
                    None => cause,
                }
            }
            Error::Connection { url, source, .. } => match other(url, host) {
                Some(other) => format!("the connection to {other} failed: {source}"),
                None => format!("the connection failed: {source}"),
            },
            Error::Stalled { url, limit, .. } => {
                let from =
                    other(url, host).map_or_else(String::new, |other| format!(" from {other}"));
                format!("no data{from} for {} seconds", limit.as_secs())
            }
            Error::Unauthorized { detail, .. } => format!("access denied: {detail}"),
            Error::StaleToken { rejection } => rejection.cause(host),
            Error::TokenServer(error) => format!("cannot get a token: {}", error.cause(host)),
            Error::Credential(error) => chain(error),
            Error::Misled { url, reason, .. } => {
                format!(
                    "the redirect to {} is not followed: {reason}",
                    shown(url, host)
                )
            }
            Error::Moved { .. } => {
                "the upload was redirected more often than is followed".to_owned()
            }
            Error::TooLarge { url, limit } => {
                let from =
                    other(url, host).map_or_else(String::new, |other| format!(" from {other}"));
                format!("the response{from} has more than {limit} bytes")
            }
            Error::TooSlow {
                url,
                limit,
                received,
            } => {
                let from =
                    other(url, host).map_or_else(String::new, |other| format!(" from {other}"));
                format!(
                    "the response{from} was not complete after {} seconds ({received} bytes arrived)",
                    limit.as_secs()
                )
            }
            Error::Malformed { url, problem } => match other(url, host) {
                Some(other) => format!("{other}: {problem}"),
                None => problem.clone(),
            },
            Error::Address { .. } => {
                "the configured address is not an http or https URL".to_owned()
            }
            Error::Setup { source, .. } => format!("cannot set up TLS: {}", chain(&**source)),
            Error::Certificate { file, source, .. } => {
                format!(
                    "cannot read the certificates in {}: {}",
                    file.display(),
                    chain(&**source)
                )
            }
        }
    }

    /// Returns the request without its host, and the number of tries if there were several.
    fn request(&self) -> String {
        let (method, url, tries) = match self {
            Error::Refused(response) => (Some(&response.method), &response.url, response.tries),
            Error::Connection {
                method, url, tries, ..
            }
            | Error::Stalled {
                method, url, tries, ..
            } => (Some(method), url, *tries),
            Error::TooLarge { url, .. }
            | Error::TooSlow { url, .. }
            | Error::Moved { url, .. }
            | Error::Malformed { url, .. } => (None, url, 1),
            Error::TokenServer(error) => return error.request(),
            _ => return String::new(),
        };
        let request = match method {
            Some(method) => format!("{method} {}", url.path()),
            None => url.path(),
        };
        if tries > 1 {
            format!("{request}, tried {tries} times")
        } else {
            request
        }
    }

    /// Returns the extent of the error.
    fn scope(&self) -> ErrorScope {
        match self {
            Error::Connection { .. }
            | Error::Stalled { .. }
            | Error::Unauthorized { .. }
            | Error::Credential(_)
            | Error::Setup { .. }
            | Error::Certificate { .. } => ErrorScope::Host,
            Error::StaleToken { rejection } => rejection.scope(),
            Error::TokenServer(error) => error.scope(),
            _ => ErrorScope::Item,
        }
    }
}

/// Returns the host and port of `url` unless `host` names them.
fn other(url: &SafeUrl, host: &str) -> Option<String> {
    let authority = url.authority();
    (!names(host, &authority)).then_some(authority)
}

/// Returns `url`, without its host if `host` names it.
fn shown(url: &SafeUrl, host: &str) -> String {
    match other(url, host) {
        Some(_) => url.to_string(),
        None => url.path(),
    }
}

/// Returns true if `host`, such as `https://gitlab.example/group`, contains `authority` as a whole.
fn names(host: &str, authority: &str) -> bool {
    host.match_indices(authority).any(|(start, _)| {
        let is_part = |character: char| character.is_alphanumeric() || "-._:".contains(character);
        let before = host[..start].chars().next_back();
        let after = host[start + authority.len()..].chars().next();
        before.is_none_or(|before| !is_part(before)) && after.is_none_or(|after| !is_part(after))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use reqwest::{Method, StatusCode, Url};

    use super::super::error::{CredentialUse, PLAIN_HTTP, read_reasons};
    use super::super::fault::Fault;
    use super::*;
    use crate::http::ErrorResponse;
    use crate::model::Host;
    use crate::model::text::Masker;

    const HOST: &str = "registry.test:5000";
    const URL: &str = "https://registry.test:5000/v2/a/manifests/1";

    fn url(text: &str) -> SafeUrl {
        SafeUrl::from(&text.parse::<Url>().expect("a URL"))
    }

    fn host() -> Host {
        HOST.parse().expect("a host")
    }

    /// Returns the error of a response of the distribution specification.
    fn response(status: u16, address: &str, code: &str) -> ErrorResponse {
        let body = match code {
            "" => String::new(),
            code => format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#),
        };
        let (errors, excerpt) = read_reasons(body.as_bytes(), &Masker::default());
        ErrorResponse {
            method: Method::GET,
            url: url(address),
            status: StatusCode::from_u16(status).expect("a status"),
            errors,
            excerpt,
            retry_after: None,
            beyond_deadline: false,
            exceeds_limit: false,
            credential: CredentialUse::Unknown,
            tries: 1,
        }
    }

    fn refused(status: u16, code: &str) -> Error {
        Error::Refused(Box::new(response(status, URL, code)))
    }

    /// Returns the error of a connection to a port that is closed.
    async fn closed_connection(address: &str, tries: u32) -> Error {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let error = client
            .get("http://127.0.0.1:1")
            .send()
            .await
            .expect_err("a closed port");
        Error::Connection {
            method: Method::GET,
            url: url(address),
            tries,
            source: Fault::new(error),
        }
    }

    fn stalled(address: &str) -> Error {
        Error::Stalled {
            method: Method::GET,
            url: url(address),
            limit: Duration::from_secs(30),
            tries: 5,
        }
    }

    fn line(error: Error) -> String {
        error.into_item(HOST, "read manifest a:1").line()
    }

    #[tokio::test]
    async fn line_names_the_host_once_for_every_kind() {
        let cases = [
            (
                refused(404, "MANIFEST_UNKNOWN"),
                ItemErrorKind::Absent,
                "404 Not Found: MANIFEST_UNKNOWN: no (GET /v2/a/manifests/1)",
            ),
            (
                refused(401, "UNAUTHORIZED"),
                ItemErrorKind::Unauthorized,
                "401 Unauthorized: UNAUTHORIZED: no (GET /v2/a/manifests/1)",
            ),
            (
                refused(403, "DENIED"),
                ItemErrorKind::Forbidden,
                "403 Forbidden: DENIED: no (GET /v2/a/manifests/1)",
            ),
            (
                refused(429, ""),
                ItemErrorKind::RateLimited,
                "429 Too Many Requests (GET /v2/a/manifests/1)",
            ),
            (
                refused(405, ""),
                ItemErrorKind::Unsupported,
                "405 Method Not Allowed (GET /v2/a/manifests/1)",
            ),
            (
                refused(400, "UNSUPPORTED"),
                ItemErrorKind::Unsupported,
                "400 Bad Request: UNSUPPORTED: no (GET /v2/a/manifests/1)",
            ),
            (
                refused(503, ""),
                ItemErrorKind::ServerError,
                "503 Service Unavailable (GET /v2/a/manifests/1)",
            ),
            (
                refused(409, ""),
                ItemErrorKind::Refused,
                "409 Conflict (GET /v2/a/manifests/1)",
            ),
            (
                refused(400, "DIGEST_INVALID"),
                ItemErrorKind::Corrupt,
                "400 Bad Request: DIGEST_INVALID: no (GET /v2/a/manifests/1)",
            ),
            (
                closed_connection(URL, 5).await,
                ItemErrorKind::Unreachable,
                "the connection failed: Connection refused (os error 111) (GET /v2/a/manifests/1, tried 5 times)",
            ),
            (
                stalled(URL),
                ItemErrorKind::Unreachable,
                "no data for 30 seconds (GET /v2/a/manifests/1, tried 5 times)",
            ),
            (
                Error::Unauthorized {
                    host: host(),
                    detail: "no".to_owned(),
                    credential_source: None,
                },
                ItemErrorKind::Unauthorized,
                "access denied: no",
            ),
            (
                Error::StaleToken {
                    rejection: Box::new(Error::Unauthorized {
                        host: host(),
                        detail: "no".to_owned(),
                        credential_source: None,
                    }),
                },
                ItemErrorKind::Unauthorized,
                "access denied: no",
            ),
            (
                Error::TokenServer(Arc::new(refused(404, ""))),
                ItemErrorKind::Refused,
                "cannot get a token: 404 Not Found (GET /v2/a/manifests/1)",
            ),
            (
                Error::Malformed {
                    url: url(URL),
                    problem: "not JSON".to_owned(),
                },
                ItemErrorKind::Malformed,
                "not JSON (/v2/a/manifests/1)",
            ),
            (
                Error::TooLarge {
                    url: url(URL),
                    limit: 10,
                },
                ItemErrorKind::Malformed,
                "the response has more than 10 bytes (/v2/a/manifests/1)",
            ),
            (
                Error::Misled {
                    host: host(),
                    url: url(URL),
                    reason: "too many redirects",
                },
                ItemErrorKind::Malformed,
                "the redirect to /v2/a/manifests/1 is not followed: too many redirects",
            ),
            (
                Error::Address { host: host() },
                ItemErrorKind::Unreachable,
                "the configured address is not an http or https URL",
            ),
            (
                Error::Certificate {
                    host: host(),
                    file: "ca.pem".into(),
                    source: "no PEM".into(),
                },
                ItemErrorKind::Unreachable,
                "cannot read the certificates in ca.pem: no PEM",
            ),
        ];
        for (error, kind, expected) in cases {
            let item = error.into_item(HOST, "read manifest a:1");
            let line = item.line();
            assert_eq!(
                line,
                format!("registry.test:5000: cannot read manifest a:1: {expected}")
            );
            assert_eq!(
                (item.kind, line.matches("registry.test").count()),
                (kind, 1),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn line_names_another_host_once() {
        const STORAGE: &str = "https://storage.test/blobs/1?X-Amz-Signature=secret&n=1";
        let redirected = response(403, STORAGE, "");
        let token = response(503, "https://auth.test/token?scope=pull", "");
        for (error, expected) in [
            (
                Error::Refused(Box::new(redirected)),
                "storage.test responded with 403 Forbidden (GET /blobs/1?X-Amz-Signature=***&n=1)",
            ),
            (
                Error::TokenServer(Arc::new(Error::Refused(Box::new(token)))),
                "cannot get a token: auth.test responded with 503 Service Unavailable (GET /token?scope=pull)",
            ),
            (
                closed_connection(STORAGE, 1).await,
                "the connection to storage.test failed: Connection refused (os error 111) (GET /blobs/1?X-Amz-Signature=***&n=1)",
            ),
            (
                stalled(STORAGE),
                "no data from storage.test for 30 seconds (GET /blobs/1?X-Amz-Signature=***&n=1, tried 5 times)",
            ),
            (
                Error::Misled {
                    host: host(),
                    url: url("http://storage.test/x"),
                    reason: PLAIN_HTTP,
                },
                "the redirect to http://storage.test/x is not followed: it is plain HTTP",
            ),
        ] {
            let line = line(error);
            assert_eq!(
                line,
                format!("registry.test:5000: cannot read manifest a:1: {expected}")
            );
        }
    }

    #[test]
    fn line_has_the_wait_that_the_host_requests() {
        let waiting = |beyond_deadline| {
            line(Error::Refused(Box::new(ErrorResponse {
                retry_after: Some(Duration::from_secs(60)),
                beyond_deadline,
                tries: 3,
                ..response(429, URL, "TOOMANYREQUESTS")
            })))
        };
        assert!(
            waiting(false).ends_with(": 429 Too Many Requests: TOOMANYREQUESTS: no; retry after 60 s (GET /v2/a/manifests/1, tried 3 times)"),
            "{}",
            waiting(false)
        );
        assert!(
            waiting(true).contains("; retry after 60 s, which exceeds the time limit of the run ("),
            "{}",
            waiting(true)
        );
    }

    #[tokio::test]
    async fn errors_of_the_host_are_shared_without_operation_and_request() {
        for (error, shared) in [
            (
                closed_connection(URL, 5).await,
                Some("the connection failed: Connection refused (os error 111)"),
            ),
            (stalled(URL), Some("no data for 30 seconds")),
            (
                Error::TokenServer(Arc::new(stalled("https://auth.test/token"))),
                Some("cannot get a token: no data from auth.test for 30 seconds"),
            ),
            (
                Error::Unauthorized {
                    host: host(),
                    detail: "no".to_owned(),
                    credential_source: None,
                },
                Some("access denied: no"),
            ),
            (refused(404, ""), None),
            (Error::TokenServer(Arc::new(refused(404, ""))), None),
        ] {
            let item = error.into_item(HOST, "read manifest a:1");
            let expected = shared.map_or_else(
                || item.line(),
                |shared| format!("registry.test:5000: {shared}"),
            );
            assert_eq!(item.shared_line(), expected);
        }
    }

    #[test]
    fn token_that_is_rejected_again_has_the_hint_of_the_credentials() {
        let rejection = Box::new(Error::Unauthorized {
            host: host(),
            detail: "no".to_owned(),
            credential_source: Some("the variables".to_owned()),
        });
        let expected = rejection.hint();
        assert!(expected.is_some());
        let item = Error::StaleToken { rejection }.into_item(HOST, "upload blob a");
        assert_eq!(item.hint(), expected);
        assert_eq!(item.shared_line(), "registry.test:5000: access denied: no");
    }

    #[test]
    fn host_is_recognised_as_a_whole_within_the_name_of_a_store() {
        for (host, authority, expected) in [
            ("r.test", "r.test", true),
            ("project 7 at https://r.test/group", "r.test", true),
            ("r.test:5000", "r.test:5000", true),
            ("r.test:5000", "r.test", false),
            ("r.test", "r.test:5000", false),
            ("docker.test", "r.test", false),
            ("r.test.example", "r.test", false),
        ] {
            assert_eq!(names(host, authority), expected, "{authority} in {host}");
        }
    }
}
