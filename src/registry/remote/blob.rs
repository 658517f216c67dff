//! Looking for blobs and reading them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{RemoteRepository, is_not_found};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, TRANSFER_ENCODING,
};
use crate::http::{
    self, Client, DownloadPermit, Method, Request, RequestKind, Retries, StatusCode,
};
use crate::model::{Descriptor, Digest, Host, RepositoryPath};
use crate::registry::BlobStream;

const LOOK_UP: RequestKind = RequestKind("blob lookup");
const READ: RequestKind = RequestKind("blob read");

impl RemoteRepository<'_> {
    /// Returns whether the registry says that it has the blob, in its size where it tells one.
    pub(super) async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, ItemError> {
        match self
            .http
            .send(self.request(
                Method::HEAD,
                &format!("blobs/{}", descriptor.digest),
                LOOK_UP,
                "pull",
            ))
            .await
        {
            Ok(answer) => {
                let size: Option<u64> = answer
                    .header(CONTENT_LENGTH.as_str())
                    .and_then(|text| text.parse().ok());
                Ok(size.is_none_or(|size| size == descriptor.size))
            }
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(self.failed(
                format!("look for blob {}", self.blob_name(&descriptor.digest)),
                error,
            )),
        }
    }

    /// Returns the blob's content from `offset` on. When the registry does not skip to it, the
    /// content before is read and dropped.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, ItemError> {
        if offset > 0 && offset >= descriptor.size {
            return Ok(futures_util::stream::empty().boxed());
        }
        let download = self.http.open(self.read_request(descriptor, offset)).await;
        let download =
            download.map_err(|error| self.failed(self.read_action(descriptor), error))?;
        let mut reading = Reading {
            tries: self
                .http
                .retries(self.host, READ)
                .map_err(|error| self.failed(self.read_action(descriptor), error))?,
            http: Arc::clone(self.http),
            host: self.host.clone(),
            path: self.path.clone(),
            descriptor: descriptor.clone(),
            position: offset,
            content: None,
            place: download.permit,
        };
        reading.content =
            Some(reading.accept(download.status, &download.headers, download.content)?);
        Ok(
            futures_util::stream::try_unfold(reading, |mut reading| async move {
                Ok(reading.next().await?.map(|chunk| (chunk, reading)))
            })
            .boxed(),
        )
    }

    fn read_request(&self, descriptor: &Descriptor, offset: u64) -> Request {
        let mut request = self.request(
            Method::GET,
            &format!("blobs/{}", descriptor.digest),
            READ,
            "pull",
        );
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            request
                .headers
                .extend(range.ok().map(|range| (RANGE, range)));
        }
        request
    }

    fn read_action(&self, descriptor: &Descriptor) -> String {
        format!("read blob {}", self.blob_name(&descriptor.digest))
    }

    pub(super) fn blob_name(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.path)
    }
}

/// The content of a blob while it is read. When its connection breaks, it is opened again where
/// that was.
///
/// An upload may be waiting for the content meanwhile, and hold a place among the connections of
/// the same host. So the new connection takes the place of the broken one, which is closed before:
/// it waits for time to pass and for the host, and never for a place that another copy may only
/// free when this one's upload has ended.
struct Reading {
    http: Arc<Client>,
    host: Host,
    path: RepositoryPath,
    descriptor: Descriptor,
    position: u64,
    tries: Retries,
    /// `None` between a connection that broke and the next.
    content: Option<Content>,
    place: DownloadPermit,
}

/// What one connection brings.
struct Content {
    stream: BoxStream<'static, Result<Bytes, http::Error>>,
    /// What comes before the content that was asked for, since the registry sent the blob from its
    /// start.
    skip: u64,
    /// Whether a connection that ends too early is found out by itself.
    is_delimited: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, ItemError> {
        loop {
            let Some(content) = &mut self.content else {
                self.open_again().await?;
                continue;
            };
            let broken = match content.stream.next().await {
                Some(Ok(mut chunk)) => {
                    let skipped = chunk
                        .len()
                        .min(usize::try_from(content.skip).unwrap_or(usize::MAX));
                    content.skip -= skipped as u64;
                    let chunk = chunk.split_off(skipped);
                    if chunk.is_empty() {
                        continue;
                    }
                    self.position += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Some(Err(error)) => Some(error),
                None if content.is_delimited => return Ok(None),
                None => None,
            };
            self.content = None;
            match broken {
                _ if self.position >= self.descriptor.size => return Ok(None),
                Some(error) => self.wait_after(error).await?,
                None if self.tries.pause().await => {}
                None => {
                    let detail = format!(
                        "the content broke off after {} of {} bytes",
                        self.position, self.descriptor.size
                    );
                    return Err(self.repository().wrong(
                        self.action(),
                        ItemErrorKind::Unreachable,
                        detail,
                    ));
                }
            }
        }
    }

    async fn open_again(&mut self) -> Result<(), ItemError> {
        let request = self
            .repository()
            .read_request(&self.descriptor, self.position);
        match self.http.reopen(request, &self.place).await {
            Ok(download) => {
                self.content =
                    Some(self.accept(download.status, &download.headers, download.content)?);
            }
            Err(error) => self.wait_after(error).await?,
        }
        Ok(())
    }

    /// Waits for the next try, when there is one.
    async fn wait_after(&mut self, error: http::Error) -> Result<(), ItemError> {
        let waited = self.tries.after(error).await;
        waited.map_err(|error| {
            self.repository()
                .failed_in(self.action(), error, "the content broke off")
        })
    }

    /// Takes in an answer that was asked for from the position on.
    fn accept(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        stream: BoxStream<'static, Result<Bytes, http::Error>>,
    ) -> Result<Content, ItemError> {
        let skip = match status {
            StatusCode::PARTIAL_CONTENT if range_start(headers) == Some(self.position) => 0,
            StatusCode::PARTIAL_CONTENT => {
                let detail = format!(
                    "it was asked for from byte {} on, and sent otherwise",
                    self.position
                );
                return Err(self.repository().wrong(
                    self.action(),
                    ItemErrorKind::Malformed,
                    detail,
                ));
            }
            _ => self.position,
        };
        let is_delimited =
            headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        Ok(Content {
            stream,
            skip,
            is_delimited,
        })
    }

    fn repository(&self) -> RemoteRepository<'_> {
        RemoteRepository {
            http: &self.http,
            host: &self.host,
            path: &self.path,
        }
    }

    fn action(&self) -> String {
        self.repository().read_action(&self.descriptor)
    }
}

/// Returns the first byte's position in a `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_RANGE)?
        .to_str()
        .ok()?
        .trim()
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}
