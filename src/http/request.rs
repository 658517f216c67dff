//! Requests and answers as values.

use std::fmt;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::error::Error;
use super::host::Permit;
use crate::model::{Host, RepositoryPath};

/// The largest answer that is read unless a request says otherwise, in bytes.
const USUAL_LIMIT: usize = 1024 * 1024;

/// A request to a host.
#[derive(Debug)]
pub struct Request {
    /// The host as references name it.
    pub host: Host,
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Body,
    pub access: Access,
    pub log_in: LogIn,
    pub kind: Kind,
    /// Whether hosts commonly count it against a quota. Slowed down when little of that is left.
    pub counted: bool,
    /// The largest answer that is read, in bytes.
    pub limit: usize,
}

impl Request {
    /// Returns a request without headers and body.
    pub fn new(method: Method, host: &Host, target: Target, kind: Kind, access: Access) -> Request {
        Request {
            host: host.clone(),
            method,
            target,
            headers: HeaderMap::new(),
            body: Body::Empty,
            access,
            log_in: LogIn::default(),
            kind,
            counted: false,
            limit: USUAL_LIMIT,
        }
    }

    /// Returns the request with another header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Request {
        self.headers.insert(name, value);
        self
    }
}

/// A request that somebody else made, whole.
#[derive(Debug)]
pub struct Relayed {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub kind: Kind,
    /// The largest answer that is read, in bytes.
    pub limit: usize,
}

/// Where on a host a request goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Path and query below the host's address, with a leading slash.
    Path(String),
    /// An address that the host gave, in a `Location` or `Link`. Gets a credential only when it is
    /// of the host's own origin.
    Url(Url),
}

/// What a request sends.
pub enum Body {
    Empty,
    Bytes(Bytes),
    /// Content as it comes. Such a request is tried once: only its maker can open the content
    /// again.
    Stream {
        length: u64,
        content: BoxStream<'static, Result<Bytes, std::io::Error>>,
    },
}

impl Body {
    /// Returns the body for one try. A stream is gone after that.
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

/// What a request needs to be allowed, where the host hands out tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The repository whose credential is taken, where credentials differ by path.
    pub path: Option<RepositoryPath>,
    /// Scopes such as `repository:team/app:pull`, the most important first: some token servers look
    /// at one only.
    pub scopes: Vec<String>,
}

/// How a request logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogIn {
    /// As the host asks for it.
    #[default]
    AsAsked,
    /// With user name and password at once, where both are known: for interfaces that do not ask.
    Basic,
    /// With the header that the credential is, at once; without when it is none.
    Header,
    /// Not at all, whatever is asked for.
    Never,
}

/// A kind of request: hosts limit kinds apart, so one that must wait does not hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub &'static str);

/// A successful answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub url: Url,
    pub body: Bytes,
}

/// A successful answer whose content is yet to be read.
pub struct Download {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub content: BoxStream<'static, Result<Bytes, Error>>,
    pub place: Place,
}

/// The place that a download has among its host's connections, until this and the content are
/// dropped. With it the download can be begun again without waiting for others.
pub struct Place(pub(super) Permit);

impl Answer {
    /// Returns the text of a header, when it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the address in `Location`, when there is one.
    pub fn location(&self) -> Option<Url> {
        join(&self.url, self.header(LOCATION.as_str())?)
    }
}

/// Returns the address that an answer from `base` leads to. A server behind a proxy often does not
/// know that the proxy is spoken to with TLS and names itself with `http:`; that is taken for the
/// `https:` it must be. Other hosts and ports stay as named.
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
    fn addresses_are_relative_or_absolute_and_never_lose_tls_on_their_own_host() {
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
            assert_eq!(
                join(&base, location).expect("an address").as_str(),
                expected
            );
        }
        assert_eq!(
            join(&"https://r.example/".parse().expect("a URL"), "http://"),
            None
        );
    }
}
