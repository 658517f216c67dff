//! Looking for blobs and reading them.

use bytes::Bytes;
use futures_util::StreamExt;

use super::{RemoteRepository, is_not_found};
use crate::http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use crate::http::{Kind, Method, StatusCode};
use crate::model::{Descriptor, Digest};
use crate::registry::{BlobStream, PlaceError, PlaceErrorKind};

const LOOK_UP: Kind = Kind("blob lookup");
const READ: Kind = Kind("blob read");

impl RemoteRepository<'_> {
    /// Returns whether the registry says that it has the blob, in its size where it tells one.
    pub(super) async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, PlaceError> {
        match self.http.send(self.request(Method::HEAD, &format!("blobs/{}", descriptor.digest), LOOK_UP, "pull")).await {
            Ok(answer) => {
                let size: Option<u64> = answer.header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
                Ok(size.is_none_or(|size| size == descriptor.size))
            }
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(self.failed(format!("look for blob {}", self.blob_name(&descriptor.digest)), error)),
        }
    }

    /// Returns the blob's content from `offset` on. When the registry does not skip to it, the content before is read and dropped.
    pub(super) async fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        if offset > 0 && offset >= descriptor.size {
            return Ok(futures_util::stream::empty().boxed());
        }
        let action = format!("read blob {}", self.blob_name(&descriptor.digest));
        let mut request = self.request(Method::GET, &format!("blobs/{}", descriptor.digest), READ, "pull");
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            request.headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let download = self.http.open(request).await.map_err(|error| self.failed(&action, error))?;
        let skip = match download.status {
            StatusCode::PARTIAL_CONTENT if range_start(&download.headers) == Some(offset) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(self.wrong(
                    action,
                    PlaceErrorKind::Malformed,
                    format!("it was asked for from byte {offset} on, and sent otherwise"),
                ));
            }
            _ => offset,
        };
        // The stream outlives this view of the repository.
        let place = self.host.clone();
        let content = download.content.map(move |chunk| {
            chunk.map_err(|error| {
                let kind = super::kind_of(&error);
                PlaceError::new(place.as_str(), action.clone(), kind, "the content broke off").caused_by(error)
            })
        });
        Ok(if skip == 0 { content.boxed() } else { skip_bytes(content.boxed(), skip) })
    }

    pub(super) fn blob_name(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.path)
    }
}

/// Returns the first byte's position in a `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn skip_bytes(stream: BlobStream, count: u64) -> BlobStream {
    let mut left = count;
    stream
        .map(move |chunk: Result<Bytes, PlaceError>| {
            chunk.map(|mut chunk| {
                let skipped = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                left -= skipped as u64;
                chunk.split_off(skipped)
            })
        })
        .boxed()
}
