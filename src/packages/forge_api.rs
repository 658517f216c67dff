//! Requests to the package APIs of GitLab and Gitea: URLs below a path, paged listings, and the
//! meaning of error statuses.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;

use super::consistent_read::{ListingRead, read_consistently};
use super::{FileStream, MAX_FILE_SIZE};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{
    self, AuthMode, Body, Client, Method, Request, RequestAccess, RequestKind, RequestTarget,
    Response, StatusCode, Url, host_of, link,
};
use crate::model::Host;
use crate::model::record::MAX_RECORD_BYTES;

/// Kind of these requests in logs and limits.
const PACKAGES: RequestKind = RequestKind("packages");

/// Maximum size of a page, in bytes. GitLab lists a hundred packages or files on a page, with
/// details of their pipelines.
const MAX_PAGE_SIZE: usize = 16 * 1024 * 1024;

/// Maximum number of pages of a listing.
const MAX_PAGES: usize = 10_000;

/// API of a forge, for one record store.
pub(super) struct ForgeApi {
    http: Arc<Client>,
    host: Host,
    /// Path of the server's URL before the paths of the API, such as `/gitlab`; often empty.
    base: String,
    /// Name of the record store, for messages.
    pub(super) store: String,
    /// Hint about the permissions that a token needs.
    pub(super) permissions: String,
}

impl ForgeApi {
    /// Returns the API at `url`. Fails if the URL has no host.
    pub(super) fn new(
        http: Arc<Client>,
        url: &Url,
        store: String,
        permissions: String,
    ) -> Result<ForgeApi, ItemError> {
        let host = host_of(url).ok_or_else(|| {
            ItemError::new(
                store.clone(),
                "connect to it",
                ItemErrorKind::Refused,
                "its URL has no host",
            )
        })?;
        Ok(ForgeApi {
            http,
            host,
            base: url.path().trim_end_matches('/').to_owned(),
            store,
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

    /// Sends a request, with retries.
    pub(super) async fn send(&self, method: Method, path: &str) -> Result<Response, http::Error> {
        self.http.send(self.request(method, path)).await
    }

    /// Sends a request without retries.
    pub(super) async fn send_once(
        &self,
        method: Method,
        path: &str,
    ) -> Result<Response, http::Error> {
        self.http.send_once(self.request(method, path)).await
    }

    /// Sends a GET request without credentials and returns the response, even if it is an error.
    pub(super) async fn inspect(&self, path: &str) -> Result<Response, http::Error> {
        self.http
            .inspect(&self.host, &format!("{}{path}", self.base))
            .await
    }

    /// Returns the seconds by which the clock of the responding server is ahead.
    pub(super) fn clock_offset(&self, answer: &Response) -> Option<i64> {
        self.http.clock_offset(answer)
    }

    /// Returns today's date.
    pub(super) fn today(&self) -> chrono::NaiveDate {
        self.http.now().date_naive()
    }

    /// Returns the content at `path`; `None` if it does not exist.
    pub(super) async fn get(&self, action: &str, path: &str) -> Result<Option<Bytes>, ItemError> {
        let mut request = self.request(Method::GET, path);
        request.limit = MAX_FILE_SIZE;
        match self.http.send(request).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(action, error)),
        }
    }

    /// Returns the content at `path` in parts; `None` if it does not exist. Small content is read
    /// with retries, larger content is not read again once it has begun.
    pub(super) async fn open(
        &self,
        action: &str,
        path: &str,
    ) -> Result<Option<FileStream>, ItemError> {
        let mut request = self.request(Method::GET, path);
        request.limit = MAX_RECORD_BYTES;
        match self.http.send(request).await {
            Ok(answer) => Ok(Some(stream::once(async { Ok(answer.body) }).boxed())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(http::Error::TooLarge { .. }) => {
                let opened = self.http.open(self.request(Method::GET, path)).await;
                let download = opened.map_err(|error| self.failed(action, error))?;
                let (store, action) = (self.store.clone(), action.to_owned());
                let content = download
                    .content
                    .map_err(move |error| error.into_item(&*store, &*action));
                Ok(Some(content.boxed()))
            }
            Err(error) => Err(self.failed(action, error)),
        }
    }

    /// Writes content to `path`.
    ///
    /// A server may reject a file that exists, for example after the response to an earlier attempt
    /// was lost. This succeeds if the file has the same content.
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
        let may_exist = matches!(
            error.status().map(|status| status.as_u16()),
            Some(400 | 403 | 409)
        );
        if may_exist && matches!(self.get(action, path).await, Ok(Some(found)) if found == content)
        {
            return Ok(());
        }
        Err(self.failed(action, error))
    }

    /// Deletes the object at `path`. Succeeds if it does not exist.
    pub(super) async fn delete(&self, action: &str, path: &str) -> Result<(), ItemError> {
        match self.send(Method::DELETE, path).await {
            Err(error) if !is_absent(&error) => Err(self.failed(action, error)),
            _ => Ok(()),
        }
    }

    /// Returns all entries of a listing, converted by `convert` and sorted; `None` if `path` does
    /// not exist. Entries for which `convert` returns `None` are left out.
    ///
    /// `path` must have a query, to which the page number is added. A change during the read moves
    /// entries to other pages, so a listing of several pages is read until two reads agree.
    pub(super) async fn list<E: DeserializeOwned, T: Ord>(
        &self,
        action: &str,
        path: &str,
        convert: impl Fn(E) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ItemError> {
        let read = || async {
            let (entries, pages) = self.pages(action, path, &convert).await?;
            Ok(ListingRead {
                content: entries,
                is_atomic: pages == 1,
            })
        };
        match read_consistently(read).await {
            Ok(Some(entries)) => Ok(Some(entries)),
            Ok(None) => Err(self.unsettled(action)),
            Err(ListError::Absent) => Ok(None),
            Err(ListError::Other(error)) => Err(error),
        }
    }

    /// Returns the entries of all pages, and the number of pages.
    async fn pages<E: DeserializeOwned, T: Ord>(
        &self,
        action: &str,
        path: &str,
        convert: &impl Fn(E) -> Option<T>,
    ) -> Result<(Vec<T>, usize), ListError> {
        let (mut converted, mut count) = (Vec::new(), 0);
        for page in 1..=MAX_PAGES {
            let mut request = self.request(Method::GET, &format!("{path}&page={page}"));
            request.limit = MAX_PAGE_SIZE;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if page == 1 && is_absent(&error) => return Err(ListError::Absent),
                Err(error) => return Err(ListError::Other(self.failed(action, error))),
            };
            let entries: Vec<E> = serde_json::from_slice(&answer.body).map_err(|error| {
                let malformed = self.error(
                    action,
                    ItemErrorKind::Malformed,
                    "the response is malformed",
                );
                ListError::Other(malformed.caused_by(error))
            })?;
            count += entries.len();
            let is_last = is_last(&answer, entries.len(), count);
            converted.extend(entries.into_iter().filter_map(convert));
            if is_last {
                converted.sort();
                converted.dedup();
                return Ok((converted, page));
            }
        }
        Err(ListError::Other(self.error(
            action,
            ItemErrorKind::Malformed,
            "the listing has no end",
        )))
    }

    /// Returns the error that a listing kept changing.
    pub(super) fn unsettled(&self, action: &str) -> ItemError {
        self.error(
            action,
            ItemErrorKind::Unsettled,
            "the listing changes faster than it can be read",
        )
    }

    /// Returns an error without a cause.
    pub(super) fn error(&self, action: &str, kind: ItemErrorKind, detail: &str) -> ItemError {
        ItemError::new(self.store.clone(), action, kind, detail)
    }

    /// Returns the error of a failed request, with a hint about permissions if they may be missing.
    pub(super) fn failed(&self, operation: &str, error: http::Error) -> ItemError {
        let hint = error.hint();
        let failed = error.into_item(&*self.store, operation);
        match failed.kind {
            ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden | ItemErrorKind::Absent
                if hint.is_none() =>
            {
                failed.with_hint(&*self.permissions)
            }
            _ => failed,
        }
    }
}

enum ListError {
    /// The path to list does not exist.
    Absent,
    Other(ItemError),
}

/// Returns true if a page is the last one.
///
/// Decides by the `Link` header, which the only page of a listing may lack; otherwise by the total
/// number of entries, which servers omit for large listings; otherwise an empty page is the last.
fn is_last(answer: &Response, length: usize, count: usize) -> bool {
    if link::next(&answer.headers).is_some() {
        return false;
    }
    let total = answer
        .header("x-total-count")
        .or_else(|| answer.header("x-total"))
        .and_then(|text| text.parse::<usize>().ok());
    length == 0
        || answer.headers.contains_key(http::header::LINK)
        || total.is_some_and(|total| count >= total)
}

fn is_absent(error: &http::Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}

/// Percent-encodes `text` for a part of a path or the value of a query.
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
