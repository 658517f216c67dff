//! What GitLab's and Gitea's interfaces have in common: an address with a path before theirs,
//! pages, and what refusals mean.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::LARGEST_FILE;
use super::settled::{Seen, settled};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{
    self, AuthMode, Body, Client, Method, Request, RequestAccess, RequestKind, RequestTarget,
    Response, StatusCode, Url, host_of, link,
};
use crate::model::Host;

const PACKAGES: RequestKind = RequestKind("packages");

/// The largest page that is read, in bytes: a hundred packages or files with what is told of their
/// pipelines.
const LARGEST_PAGE: usize = 16 * 1024 * 1024;

/// The most pages that a listing is followed for.
const MOST_PAGES: usize = 10_000;

/// An interface of a server, and the place that it is part of.
pub(super) struct Interface {
    http: Arc<Client>,
    host: Host,
    /// What stands before the interface's own paths: empty, or of the form `/gitlab`.
    base: String,
    /// The place, for messages.
    pub(super) place: String,
    /// What a token must be allowed at this place.
    pub(super) permissions: String,
}

impl Interface {
    /// Returns the interface at `url`, which is that of a host.
    pub(super) fn new(
        http: Arc<Client>,
        url: &Url,
        place: String,
        permissions: String,
    ) -> Result<Interface, ItemError> {
        let host = host_of(url).ok_or_else(|| {
            ItemError::new(
                place.clone(),
                "speak to it",
                ItemErrorKind::Refused,
                "its address names no host",
            )
        })?;
        Ok(Interface {
            http,
            host,
            base: url.path().trim_end_matches('/').to_owned(),
            place,
            permissions,
        })
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let mut request = Request::new(
            method,
            &self.host,
            RequestTarget::Path(format!("{}{path}", self.base)),
            PACKAGES,
            RequestAccess::default(),
        );
        request.auth_mode = AuthMode::Header;
        request
    }

    /// Sends a request that is tried again.
    pub(super) async fn send(&self, method: Method, path: &str) -> Result<Response, http::Error> {
        self.http.send(self.request(method, path)).await
    }

    /// Sends a request once.
    pub(super) async fn send_once(
        &self,
        method: Method,
        path: &str,
    ) -> Result<Response, http::Error> {
        self.http.send_once(self.request(method, path)).await
    }

    /// Returns the answer to a GET without a login, whatever its status.
    pub(super) async fn look(&self, path: &str) -> Result<Response, http::Error> {
        self.http
            .inspect(&self.host, &format!("{}{path}", self.base))
            .await
    }

    /// Returns by how many seconds the clock of who answered is ahead.
    pub(super) fn ahead(&self, answer: &Response) -> Option<i64> {
        self.http.clock_offset(answer)
    }

    /// Returns today's date.
    pub(super) fn today(&self) -> chrono::NaiveDate {
        self.http.now().date_naive()
    }

    /// Returns the content at `path`; `None` when there is none.
    pub(super) async fn get(&self, action: &str, path: &str) -> Result<Option<Bytes>, ItemError> {
        let mut request = self.request(Method::GET, path);
        request.limit = LARGEST_FILE;
        match self.http.send(request).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(action, error)),
        }
    }

    /// Writes content to `path`. A server that has it there already may refuse that, as one does
    /// whose answer to an earlier try was lost.
    pub(super) async fn put(
        &self,
        action: &str,
        path: &str,
        content: Bytes,
    ) -> Result<(), ItemError> {
        let mut request = self.request(Method::PUT, path);
        request.body = Body::Bytes(content.clone());
        let Err(error) = self.http.send(request).await else {
            return Ok(());
        };
        let may_be_there = matches!(
            error.status().map(|status| status.as_u16()),
            Some(400 | 403 | 409)
        );
        if may_be_there
            && matches!(self.get(action, path).await, Ok(Some(found)) if found == content)
        {
            return Ok(());
        }
        Err(self.failed(action, error))
    }

    /// Deletes what is at `path`, if it is there.
    pub(super) async fn delete(&self, action: &str, path: &str) -> Result<(), ItemError> {
        match self.send(Method::DELETE, path).await {
            Err(error) if !is_absent(&error) => Err(self.failed(action, error)),
            _ => Ok(()),
        }
    }

    /// Returns all entries of a listing, made what `keep` makes of them, sorted. `None` when there
    /// is nothing at the path.
    ///
    /// `path` has a query. Pages are counted by their number, so that what changes meanwhile moves
    /// entries from one page to another: a listing of several pages is read until it stays the
    /// same.
    pub(super) async fn list<E: DeserializeOwned, T: Ord>(
        &self,
        action: &str,
        path: &str,
        keep: impl Fn(E) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ItemError> {
        let read = || async {
            let (entries, pages) = self.pages(action, path, &keep).await?;
            Ok(Seen {
                what: entries,
                at_once: pages == 1,
            })
        };
        match settled(read).await {
            Ok(Some(entries)) => Ok(Some(entries)),
            Ok(None) => Err(self.unsettled(action)),
            Err(Failed::Absent) => Ok(None),
            Err(Failed::Otherwise(error)) => Err(error),
        }
    }

    async fn pages<E: DeserializeOwned, T: Ord>(
        &self,
        action: &str,
        path: &str,
        keep: &impl Fn(E) -> Option<T>,
    ) -> Result<(Vec<T>, usize), Failed> {
        let (mut kept, mut seen) = (Vec::new(), 0);
        for page in 1..=MOST_PAGES {
            let mut request = self.request(Method::GET, &format!("{path}&page={page}"));
            request.limit = LARGEST_PAGE;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if page == 1 && is_absent(&error) => return Err(Failed::Absent),
                Err(error) => return Err(Failed::Otherwise(self.failed(action, error))),
            };
            let entries: Vec<E> = serde_json::from_slice(&answer.body).map_err(|error| {
                let malformed = self.wrong(
                    action,
                    ItemErrorKind::Malformed,
                    "the answer is not of the form it must have",
                );
                Failed::Otherwise(malformed.caused_by(error))
            })?;
            seen += entries.len();
            let is_last = is_last(&answer, entries.len(), seen);
            kept.extend(entries.into_iter().filter_map(keep));
            if is_last {
                kept.sort();
                kept.dedup();
                return Ok((kept, page));
            }
        }
        Err(Failed::Otherwise(self.wrong(
            action,
            ItemErrorKind::Malformed,
            "it has no end",
        )))
    }

    pub(super) fn unsettled(&self, action: &str) -> ItemError {
        self.wrong(
            action,
            ItemErrorKind::Unsettled,
            "it changes faster than it can be read",
        )
    }

    pub(super) fn wrong(&self, action: &str, kind: ItemErrorKind, detail: &str) -> ItemError {
        ItemError::new(self.place.clone(), action, kind, detail)
    }

    pub(super) fn failed(&self, action: &str, error: http::Error) -> ItemError {
        let kind = kind_of(&error);
        let is_about_permissions = matches!(
            kind,
            ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden | ItemErrorKind::Absent
        );
        let hint = error
            .hint()
            .or_else(|| is_about_permissions.then(|| self.permissions.clone()));
        self.wrong(action, kind, "").hinting(hint).caused_by(error)
    }
}

enum Failed {
    /// What was to be listed is not there.
    Absent,
    Otherwise(ItemError),
}

/// Returns whether a page is the last one: by its links, of which one that stands alone may have
/// none; else by the number of all entries, which large listings do not tell; else by being empty.
fn is_last(answer: &Response, length: usize, seen: usize) -> bool {
    if link::next(&answer.headers).is_some() {
        return false;
    }
    let total = answer
        .header("x-total-count")
        .or_else(|| answer.header("x-total"))
        .and_then(|text| text.parse::<usize>().ok());
    length == 0
        || answer.headers.contains_key(http::header::LINK)
        || total.is_some_and(|total| seen >= total)
}

fn is_absent(error: &http::Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}

fn kind_of(error: &http::Error) -> ItemErrorKind {
    match error {
        http::Error::Refused(refusal) => match refusal.status.as_u16() {
            401 => ItemErrorKind::Unauthorized,
            403 => ItemErrorKind::Forbidden,
            404 => ItemErrorKind::Absent,
            408 | 429 | 500.. => ItemErrorKind::ServerError,
            _ => ItemErrorKind::Refused,
        },
        http::Error::TokenServer(error) => kind_of(error),
        http::Error::Unauthorized { .. }
        | http::Error::StaleToken { .. }
        | http::Error::Credential(_) => ItemErrorKind::Unauthorized,
        http::Error::TooLarge { .. }
        | http::Error::Malformed { .. }
        | http::Error::Misled { .. } => ItemErrorKind::Malformed,
        http::Error::Connection { .. }
        | http::Error::Stalled { .. }
        | http::Error::Address { .. }
        | http::Error::Setup { .. }
        | http::Error::Certificate { .. } => ItemErrorKind::Unreachable,
    }
}

/// Returns `text` as a part of a path, or the value of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                part.push(char::from(byte));
            }
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}
