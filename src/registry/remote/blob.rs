//! Finding and reading blobs.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::classify::is_not_found;
use super::repository::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RANGE, TRANSFER_ENCODING,
};
use crate::http::{
    self, Client, DownloadPermit, Method, Request, RequestKind, Retries, StatusCode,
};
use crate::model::{Descriptor, Digest, Host, RepositoryPath};
use crate::registry::blob::BlobStream;

const LOOK_UP: RequestKind = RequestKind("blob lookup");
const READ: RequestKind = RequestKind("blob read");

impl RemoteRepository<'_> {
    /// Returns true if the registry reports the blob, with the right size if it reports one.
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
            Ok(response) => {
                let size: Option<u64> = response
                    .header(CONTENT_LENGTH.as_str())
                    .and_then(|text| text.parse().ok());
                Ok(size.is_none_or(|size| size == descriptor.size))
            }
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(self.http_error(
                format!("find blob {}", self.blob_name(&descriptor.digest)),
                error,
            )),
        }
    }

    /// Returns true if the first byte of the blob can be read, with the right size if the registry
    /// reports one.
    ///
    /// If the registry does not support ranges, the connection is closed after the first bytes.
    pub(super) async fn can_read_blob(&self, descriptor: &Descriptor) -> Result<bool, ItemError> {
        let failed = |error: http::Error| self.http_error(self.read_action(descriptor), error);
        let mut request = self.read_request(descriptor, 0);
        if descriptor.size > 0 {
            request
                .headers
                .insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        }
        let mut opened = match self.http.open(request).await {
            Ok(opened) => opened,
            Err(error) if is_not_found(&error) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let size = match opened.status {
            StatusCode::PARTIAL_CONTENT => range_size(&opened.headers),
            _ => header(&opened.headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        };
        if size.is_some_and(|size: u64| size != descriptor.size) {
            return Ok(false);
        }
        while let Some(chunk) = opened.content.next().await {
            if !chunk.map_err(failed)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(descriptor.size == 0)
    }

    /// Returns the content of a blob from `offset` on.
    ///
    /// If the registry does not support ranges, the content before the offset is read and discarded.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, ItemError> {
        if offset > 0 && offset >= descriptor.size {
            return Ok(futures_util::stream::empty().boxed());
        }
        let opened = self.http.open(self.read_request(descriptor, offset)).await;
        let opened =
            opened.map_err(|error| self.http_error(self.read_action(descriptor), error))?;
        let mut download = BlobDownload {
            retries: self
                .http
                .retries(self.host, READ)
                .map_err(|error| self.http_error(self.read_action(descriptor), error))?,
            http: Arc::clone(self.http),
            host: self.host.clone(),
            path: self.path.clone(),
            descriptor: descriptor.clone(),
            position: offset,
            content: None,
            permit: opened.permit,
        };
        download.content = Some(download.accept(opened.status, &opened.headers, opened.content)?);
        Ok(
            futures_util::stream::try_unfold(download, |mut download| async move {
                Ok(download.next().await?.map(|chunk| (chunk, download)))
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

/// A blob that is being downloaded. If the connection breaks, the download continues at the same
/// position.
///
/// An upload that waits for this content may hold a connection permit of the same host. So the new
/// connection reuses the permit of the broken one, which is closed first. It waits for the retry
/// delay and for the host, but never for a permit that is only released after this upload.
struct BlobDownload {
    http: Arc<Client>,
    host: Host,
    path: RepositoryPath,
    descriptor: Descriptor,
    position: u64,
    retries: Retries,
    /// `None` between two connections.
    content: Option<DownloadContent>,
    permit: DownloadPermit,
}

/// Content of one connection.
struct DownloadContent {
    stream: BoxStream<'static, Result<Bytes, http::Error>>,
    /// Number of bytes before the requested content, if the registry sent the blob from its start.
    skip: u64,
    /// True if the HTTP client detects a connection that ends too early.
    is_delimited: bool,
}

impl BlobDownload {
    async fn next(&mut self) -> Result<Option<Bytes>, ItemError> {
        loop {
            let Some(content) = &mut self.content else {
                self.open_again().await?;
                continue;
            };
            let interruption = match content.stream.next().await {
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
            match interruption {
                _ if self.position >= self.descriptor.size => return Ok(None),
                Some(error) => self.wait_after(error).await?,
                None if self.retries.pause().await => {}
                None => {
                    let cause = format!(
                        "the connection broke after {} of {} bytes",
                        self.position, self.descriptor.size
                    );
                    return Err(self.repository().error(
                        self.operation(),
                        ItemErrorKind::Unreachable,
                        cause,
                    ));
                }
            }
        }
    }

    async fn open_again(&mut self) -> Result<(), ItemError> {
        let request = self
            .repository()
            .read_request(&self.descriptor, self.position);
        match self.http.reopen(request, &self.permit).await {
            Ok(download) => {
                self.content =
                    Some(self.accept(download.status, &download.headers, download.content)?);
            }
            Err(error) => self.wait_after(error).await?,
        }
        Ok(())
    }

    /// Waits for the next retry. Fails if there is none.
    async fn wait_after(&mut self, error: http::Error) -> Result<(), ItemError> {
        let waited = self.retries.after(error).await;
        waited.map_err(|error| {
            self.repository()
                .http_error_with(self.operation(), error, "the connection broke")
        })
    }

    /// Accepts a response to a request for the content from the position on.
    fn accept(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        stream: BoxStream<'static, Result<Bytes, http::Error>>,
    ) -> Result<DownloadContent, ItemError> {
        let skip = match status {
            StatusCode::PARTIAL_CONTENT if range_start(headers) == Some(self.position) => 0,
            StatusCode::PARTIAL_CONTENT => {
                let cause = format!("the response does not start at byte {}", self.position);
                return Err(self.repository().error(
                    self.operation(),
                    ItemErrorKind::Malformed,
                    cause,
                ));
            }
            _ => self.position,
        };
        let is_delimited =
            headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        Ok(DownloadContent {
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

    fn operation(&self) -> String {
        self.repository().read_action(&self.descriptor)
    }
}

/// Returns the start of a range such as `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    header(headers, &CONTENT_RANGE)?
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}

/// Returns the size of the whole content in such a range, or `None` if it is unknown (`*`).
fn range_size(headers: &HeaderMap) -> Option<u64> {
    header(headers, &CONTENT_RANGE)?
        .split_once('/')?
        .1
        .parse()
        .ok()
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}
