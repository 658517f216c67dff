//! An upload that is open at a registry.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;

use super::RemoteRepository;
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

/// By what a registry says how small the parts of an upload may be, except the last (OCI
/// distribution specification 1.1).
const MINIMUM: &str = "oci-chunk-min-length";

/// How long is waited for an upload to be cancelled: it would expire by itself as well.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// An upload session. One that is dropped before it is finished is cancelled, so that the registry
/// need not keep what it has.
pub(super) struct Session {
    /// Where it goes on: every answer may name another address.
    url: Url,
    /// The least number of bytes in a part, except the last.
    pub(super) minimum: u64,
    /// Whether parts were sent, not the whole.
    pub(super) has_parts: bool,
    canceller: Option<Canceller>,
}

struct Canceller {
    http: Arc<Client>,
    host: Host,
    access: RequestAccess,
}

/// What a registry says of an upload that broke.
pub(super) enum Status {
    /// It has this many bytes.
    Reached(u64),
    /// It no longer knows it.
    Gone,
    /// It does not say.
    Unknown,
}

impl Session {
    /// Returns the session that `answer` opened, or `None` when it does not say where.
    pub(super) fn opened(
        repository: &RemoteRepository<'_>,
        answer: &http::Response,
    ) -> Option<Session> {
        // Some registries count cancelling as deleting.
        let access = repository.access("pull,push,delete");
        let canceller = Canceller {
            http: Arc::clone(repository.http),
            host: repository.host.clone(),
            access,
        };
        let minimum = answer
            .header(MINIMUM)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        Some(Session {
            url: answer.location()?,
            minimum,
            has_parts: false,
            canceller: Some(canceller),
        })
    }

    /// Sends `length` bytes that follow those up to `offset`.
    pub(super) async fn send_part(
        &mut self,
        repository: &RemoteRepository<'_>,
        offset: u64,
        length: u64,
        content: BoxStream<'static, Result<Bytes, io::Error>>,
    ) -> Result<(), http::Error> {
        self.has_parts = true;
        let mut request = request(repository, Method::PATCH, self.url.clone(), UPLOAD)
            .header(CONTENT_TYPE, BYTES);
        // Other than in HTTP itself without a unit (OCI distribution specification 1.1).
        let range = HeaderValue::try_from(format!("{offset}-{}", offset + length - 1)).ok();
        request
            .headers
            .extend(range.map(|range| (CONTENT_RANGE, range)));
        request.body = Body::Stream { length, content };
        // How far it got is not read from this answer: there are registries that always repeat what
        // the first part reached. Bytes that are missing are noticed with the next part, or when
        // the digest is compared at the end.
        let answer = repository.http.send_once(request).await?;
        self.follow(&answer);
        Ok(())
    }

    /// Commits what was sent, followed by `body`, under `digest`.
    pub(super) async fn finish(
        &self,
        repository: &RemoteRepository<'_>,
        digest: &Digest,
        body: Body,
    ) -> Result<http::Response, http::Error> {
        // What the address has in its query is the registry's, and stays as it is.
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut request = request(repository, Method::PUT, url, UPLOAD).header(CONTENT_TYPE, BYTES);
        request.body = body;
        repository.http.send_once(request).await
    }

    /// Returns how far the upload got. Fails only when that can be asked again.
    pub(super) async fn status(
        &mut self,
        repository: &RemoteRepository<'_>,
    ) -> Result<Status, http::Error> {
        match repository
            .http
            .send_once(request(repository, Method::GET, self.url.clone(), STATUS))
            .await
        {
            Ok(answer) => {
                self.follow(&answer);
                Ok(reached(&answer.headers).map_or(Status::Unknown, Status::Reached))
            }
            Err(error) if super::is_not_found(&error) => Ok(Status::Gone),
            Err(error) if error.status().is_some() && !error.is_transient() => Ok(Status::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Lets go of a session that the registry no longer has.
    pub(super) fn forget(mut self) {
        self.canceller = None;
    }

    /// Gives the upload up.
    pub(super) async fn cancel(mut self) {
        if let Some(canceller) = self.canceller.take() {
            canceller.cancel(self.url.clone()).await;
        }
    }

    fn follow(&mut self, answer: &http::Response) {
        if let Some(url) = answer.location() {
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

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(canceller) = self.canceller.take()
            && Handle::try_current().is_ok()
        {
            let http = Arc::clone(&canceller.http);
            http.spawn_cleanup(canceller.cancel(self.url.clone()));
        }
    }
}

impl Canceller {
    /// Cancels an upload. Failures change nothing: it expires by itself.
    async fn cancel(self, url: Url) {
        let request = Request::new(
            Method::DELETE,
            &self.host,
            RequestTarget::Url(url),
            CANCEL,
            self.access,
        );
        match tokio::time::timeout(CANCEL_PATIENCE, self.http.send_once(request)).await {
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

/// Returns how many bytes a registry has by its `Range: 0-<last>`, which some give a unit. `0-0` is
/// what several say of none.
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
    fn how_far_an_upload_got_is_read_in_all_its_spellings() {
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
    fn fuzzing_how_far_an_upload_got() {
        crate::model::fuzz_tests::fuzz(
            "how far an upload got",
            &["0-99", "bytes=0-18446744073709551615", "bytes 5-9/10"],
            |input| {
                if let Ok(value) = HeaderValue::from_bytes(input) {
                    reached(&HeaderMap::from_iter([(RANGE, value)]));
                }
            },
        );
    }
}
