//! An upload session at a registry.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;

use super::classify::is_not_found;
use super::repository::RemoteRepository;
use crate::http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use crate::http::{
    self, Body, Client, Method, Request, RequestAccess, RequestKind, RequestTarget, Url,
};
use crate::model::media_type;
use crate::model::{Digest, Host};

const UPLOAD: RequestKind = RequestKind("upload");
const STATUS: RequestKind = RequestKind("upload status");
const CANCEL: RequestKind = RequestKind("upload cancel");

const BYTES: HeaderValue = HeaderValue::from_static(media_type::OCTET_STREAM);

/// Header with the minimum size of a part, except the last (OCI distribution specification 1.1).
const MIN_CHUNK_HEADER: &str = "oci-chunk-min-length";

/// Time limit for cancelling an upload. Registries expire abandoned uploads anyway.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// An upload session. Dropping an unfinished session cancels it, so that the registry can free its
/// space.
pub(super) struct UploadSession {
    /// URL of the next request. Every response may change it.
    url: Url,
    /// URL that the next request with content is sent to instead.
    redirected: Option<Url>,
    /// Minimum size of a part in bytes, except the last.
    pub(super) min_part: u64,
    /// True if the content was sent in parts.
    pub(super) has_parts: bool,
    canceller: Option<SessionCanceller>,
}

struct SessionCanceller {
    http: Arc<Client>,
    host: Host,
    access: RequestAccess,
}

/// State of a broken upload at the registry.
pub(super) enum UploadStatus {
    /// The registry has this number of bytes.
    Reached(u64),
    /// The session no longer exists.
    Gone,
    /// The registry does not report the state.
    Unknown,
}

impl UploadSession {
    /// Returns the session that a response opened, or `None` if it has no location.
    pub(super) fn opened(
        repository: &RemoteRepository<'_>,
        response: &http::Response,
    ) -> Option<UploadSession> {
        // Some registries require the permission to delete for cancelling.
        let access = repository.access("pull,push,delete");
        let canceller = SessionCanceller {
            http: Arc::clone(repository.http),
            host: repository.host.clone(),
            access,
        };
        let min_part = response
            .header(MIN_CHUNK_HEADER)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        Some(UploadSession {
            url: response.location()?,
            redirected: None,
            min_part,
            has_parts: false,
            canceller: Some(canceller),
        })
    }

    /// Sends `length` bytes that start at `offset`.
    pub(super) async fn send_part(
        &mut self,
        repository: &RemoteRepository<'_>,
        offset: u64,
        length: u64,
        content: BoxStream<'static, Result<Bytes, io::Error>>,
    ) -> Result<(), http::Error> {
        self.has_parts = true;
        let url = self.redirected.take().unwrap_or_else(|| self.url.clone());
        let mut request =
            request(repository, Method::PATCH, url, UPLOAD).header(CONTENT_TYPE, BYTES);
        // Unlike in HTTP, the range has no unit (OCI distribution specification 1.1).
        let range = HeaderValue::try_from(format!("{offset}-{}", offset + length - 1)).ok();
        request
            .headers
            .extend(range.map(|range| (CONTENT_RANGE, range)));
        request.body = Body::Stream { length, content };
        // The range in this response is ignored: some registries always repeat the range of the
        // first part. Missing bytes show with the next part, or when the digest is checked.
        let response = repository.http.send_once(request).await?;
        self.follow(&response);
        Ok(())
    }

    /// Commits the content that was sent, followed by `body`, under `digest`.
    pub(super) async fn finish(
        &mut self,
        repository: &RemoteRepository<'_>,
        digest: &Digest,
        body: Body,
    ) -> Result<http::Response, http::Error> {
        // The query of the URL belongs to the registry and stays unchanged.
        let mut url = self.redirected.take().unwrap_or_else(|| self.url.clone());
        if !url.query_pairs().any(|(name, _)| name == "digest") {
            url.query_pairs_mut().append_pair("digest", digest.as_str());
        }
        let mut request = request(repository, Method::PUT, url, UPLOAD).header(CONTENT_TYPE, BYTES);
        request.body = body;
        repository.http.send_once(request).await
    }

    /// Returns the state of the upload. Only fails if the request can be retried.
    pub(super) async fn status(
        &mut self,
        repository: &RemoteRepository<'_>,
    ) -> Result<UploadStatus, http::Error> {
        match repository
            .http
            .send_once(request(repository, Method::GET, self.url.clone(), STATUS))
            .await
        {
            Ok(response) => {
                self.follow(&response);
                Ok(reached(&response.headers).map_or(UploadStatus::Unknown, UploadStatus::Reached))
            }
            Err(error) if is_not_found(&error) => Ok(UploadStatus::Gone),
            Err(error) if error.status().is_some() && !error.is_transient() => {
                Ok(UploadStatus::Unknown)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the next content to `url`, which the registry redirected the last request to.
    pub(super) fn redirect(&mut self, url: Url) {
        self.redirected = Some(url);
    }

    /// Drops a session that no longer exists at the registry, without cancelling it.
    pub(super) fn forget(mut self) {
        self.canceller = None;
    }

    /// Cancels the upload.
    pub(super) async fn cancel(mut self) {
        if let Some(canceller) = self.canceller.take() {
            canceller.cancel(self.url.clone()).await;
        }
    }

    fn follow(&mut self, response: &http::Response) {
        if let Some(url) = response.location() {
            self.url = url;
        }
    }
}

fn request(
    repository: &RemoteRepository<'_>,
    method: Method,
    url: Url,
    kind: RequestKind,
) -> Request {
    Request::new(
        method,
        repository.host,
        RequestTarget::Url(url),
        kind,
        repository.access("pull,push"),
    )
}

impl Drop for UploadSession {
    fn drop(&mut self) {
        if let Some(canceller) = self.canceller.take()
            && Handle::try_current().is_ok()
        {
            let http = Arc::clone(&canceller.http);
            http.spawn_cleanup(canceller.cancel(self.url.clone()));
        }
    }
}

impl SessionCanceller {
    /// Cancels an upload. Errors are only logged, because the upload expires anyway.
    async fn cancel(self, url: Url) {
        let request = Request::new(
            Method::DELETE,
            &self.host,
            RequestTarget::Url(url),
            CANCEL,
            self.access,
        );
        match tokio::time::timeout(CANCEL_TIMEOUT, self.http.send_once(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(host = %self.host, %error, "an upload could not be cancelled");
            }
            Err(_) => {
                tracing::debug!(host = %self.host, "an upload could not be cancelled in time");
            }
        }
    }
}

/// Returns the number of bytes that a registry has, from `Range: 0-<last>`. Some registries add a
/// unit, and some send `0-0` for an empty upload.
fn reached(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let text = text
        .strip_prefix("bytes")
        .map_or(text, |text| text.trim_start_matches(['=', ' ']));
    match text.strip_prefix("0-")?.parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_range_is_parsed_in_all_notations() {
        let of = |text: &str| {
            reached(&HeaderMap::from_iter([(
                RANGE,
                text.parse().expect("a header"),
            )]))
        };
        for (text, expected) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("bytes 0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0--1", None),
            ("0-", None),
            ("", None),
            ("0-18446744073709551615", None),
            ("0-9/10", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(reached(&HeaderMap::new()), None);
    }

    #[test]
    fn fuzzing_upload_ranges() {
        crate::model::fuzz_tests::fuzz(
            "upload ranges",
            &["0-99", "bytes=0-18446744073709551615", "bytes 5-9/10"],
            |input| {
                if let Ok(value) = HeaderValue::from_bytes(input) {
                    reached(&HeaderMap::from_iter([(RANGE, value)]));
                }
            },
        );
    }
}
