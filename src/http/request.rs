//! Requests and responses as values.

use std::fmt;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::error::Error;
use super::permits::ConnectionPermit;
use crate::model::{Host, RepositoryPath};

/// Default maximum size of a response body, in bytes.
const DEFAULT_BODY_LIMIT: usize = 1024 * 1024;

/// Request to a host.
#[derive(Debug)]
pub struct Request {
    /// Host as image references name it.
    pub host: Host,
    pub method: Method,
    pub target: RequestTarget,
    pub headers: HeaderMap,
    pub body: Body,
    pub access: RequestAccess,
    pub auth_mode: AuthMode,
    pub kind: RequestKind,
    /// True if hosts commonly count the request against a quota. Such requests are slowed down
    /// while the quota is low.
    pub uses_quota: bool,
    /// Maximum size of the response body, in bytes.
    pub limit: usize,
}

impl Request {
    /// Returns a request without headers and body.
    pub fn new(
        method: Method,
        host: &Host,
        target: RequestTarget,
        kind: RequestKind,
        access: RequestAccess,
    ) -> Request {
        Request {
            host: host.clone(),
            method,
            target,
            headers: HeaderMap::new(),
            body: Body::Empty,
            access,
            auth_mode: AuthMode::default(),
            kind,
            uses_quota: false,
            limit: DEFAULT_BODY_LIMIT,
        }
    }

    /// Returns the request with another header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Request {
        self.headers.insert(name, value);
        self
    }
}

/// Complete request that another library built and signed.
#[derive(Debug)]
pub struct SignedRequest {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub kind: RequestKind,
    /// Maximum size of the response body, in bytes.
    pub limit: usize,
}

/// Target of a request on its host.
#[derive(Clone, Debug)]
pub enum RequestTarget {
    /// Path and query below the host's base URL, with a leading slash.
    Path(String),
    /// URL from a `Location` or `Link` header of the host. Gets a credential only if it is of the
    /// host's own origin.
    Url(Url),
}

/// Body of a request.
pub enum Body {
    Empty,
    Bytes(Bytes),
    /// Streamed content. Such a request is tried once: only the caller can open the content again.
    Stream {
        length: u64,
        content: BoxStream<'static, Result<Bytes, std::io::Error>>,
    },
}

impl Body {
    /// Returns the body for one try. A stream is taken out and leaves `Empty`.
    pub(super) fn take(&mut self) -> Body {
        match self {
            Body::Bytes(bytes) => Body::Bytes(bytes.clone()),
            Body::Empty | Body::Stream { .. } => std::mem::replace(self, Body::Empty),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Empty => formatter.write_str("Empty"),
            Body::Bytes(bytes) => write!(formatter, "Bytes({})", bytes.len()),
            Body::Stream { length, .. } => write!(formatter, "Stream({length})"),
        }
    }
}

/// Permission that a request needs from a host with a token server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestAccess {
    /// Repository whose credential is used, where credentials differ by path.
    pub path: Option<RepositoryPath>,
    /// Scopes such as `repository:team/app:pull`, the most important first: some token servers read
    /// only one.
    pub scopes: Vec<String>,
    /// Path of the host that answers with a challenge. It is requested if a credential is
    /// configured and the host denies an anonymous request without a challenge. `None` for hosts
    /// without such a path.
    pub challenge_path: Option<&'static str>,
}

/// Authentication of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// As the host's challenge asks for.
    #[default]
    OnChallenge,
    /// User name and password without a challenge, if both are known: for APIs that send none.
    Basic,
    /// The header that the credential consists of, without a challenge; none if the credential is
    /// of another form.
    Header,
    /// No authentication, even after a challenge.
    Never,
}

/// Kind of request. Hosts limit the kinds separately, so a kind that must wait does not hold up the
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKind(pub &'static str);

/// Successful response, read completely.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// URL of the response, after redirects.
    pub url: Url,
    pub body: Bytes,
}

/// Successful response whose content is still to be read.
pub struct Download {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub content: BoxStream<'static, Result<Bytes, Error>>,
    pub permit: DownloadPermit,
}

/// Connection permit of a download, released when this and the content are dropped. With it the
/// download can be reopened without waiting for another permit.
pub struct DownloadPermit(pub(super) ConnectionPermit);

impl Response {
    /// Returns the text of a header. `None` when the header is missing or is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the URL in `Location`, if there is one.
    pub fn location(&self) -> Option<Url> {
        join(&self.url, self.header(LOCATION.as_str())?)
    }
}

/// Resolves `location`, from a response of `base`. `None` when it is no URL.
///
/// A server behind a TLS proxy often redirects to its own `http:` URL. It is read as `https:` if
/// host and port are those of `base`.
pub(super) fn join(base: &Url, location: &str) -> Option<Url> {
    let mut url = base.join(location).ok()?;
    if base.scheme() == "https"
        && url.scheme() == "http"
        && url.host() == base.host()
        && url.port() == base.port()
    {
        url.set_scheme("https").ok()?;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_resolves_urls_and_keeps_tls_on_the_same_host() {
        for (base, location, expected) in [
            (
                "https://r.example/v2/a",
                "/u?x=a%2Bb&y",
                "https://r.example/u?x=a%2Bb&y",
            ),
            ("https://r.example/v2/a", "u", "https://r.example/v2/u"),
            (
                "https://r.example/v2/a",
                "http://r.example/u",
                "https://r.example/u",
            ),
            (
                "https://r.example:5000/v2/a",
                "http://r.example:5000/u?x",
                "https://r.example:5000/u?x",
            ),
            (
                "https://r.example/v2/a",
                "http://r.example:8080/u",
                "http://r.example:8080/u",
            ),
            (
                "https://r.example/v2/a",
                "http://other.example/u",
                "http://other.example/u",
            ),
            (
                "http://r.example/v2/a",
                "http://r.example/u",
                "http://r.example/u",
            ),
        ] {
            let base = base.parse().expect("a URL");
            assert_eq!(join(&base, location).expect("a URL").as_str(), expected);
        }
        assert_eq!(
            join(&"https://r.example/".parse().expect("a URL"), "http://"),
            None
        );
    }
}
