//! Content that is sent in upload requests.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::error::ItemError;
use crate::model::lock::lock;
use crate::registry::blob::BlobStream;

/// Content that is sent in one request, or in parts one after the other.
///
/// Dropping it closes the content and ends the download behind it, even if an aborted request still
/// holds a part.
pub(super) struct UploadContent(Arc<Mutex<ContentState>>);

struct ContentState {
    /// `None` after an error, or once the content was closed.
    stream: Option<BlobStream>,
    /// Bytes that were read beyond the end of a part.
    rest: Bytes,
    sent: u64,
    failure: Option<ItemError>,
    reader: Option<Waker>,
}

impl UploadContent {
    pub(super) fn new(stream: BlobStream) -> UploadContent {
        let state = ContentState {
            stream: Some(stream),
            rest: Bytes::new(),
            sent: 0,
            failure: None,
            reader: None,
        };
        UploadContent(Arc::new(Mutex::new(state)))
    }

    /// Returns the next `length` bytes. The previous part must have been read to its end.
    pub(super) fn part(&self, length: u64) -> BoxStream<'static, Result<Bytes, io::Error>> {
        let state = Arc::clone(&self.0);
        let mut left = length;
        stream::poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            let chunk = ready!(lock(&state).poll(context, left));
            left -= chunk.as_ref().map_or(0, |chunk| {
                chunk.as_ref().map_or(0, |chunk| chunk.len() as u64)
            });
            Poll::Ready(chunk)
        })
        .boxed()
    }

    /// Returns the number of bytes that were read from all parts.
    pub(super) fn sent(&self) -> u64 {
        lock(&self.0).sent
    }

    /// Returns the error of reading the content, if that is why the upload failed.
    pub(super) fn failure(&self) -> Option<ItemError> {
        lock(&self.0).failure.take()
    }
}

impl Drop for UploadContent {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.stream = None;
        state.rest = Bytes::new();
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl ContentState {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        max: u64,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        if self.rest.is_empty() {
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Some(Err(io::Error::other("the content was closed"))));
            };
            self.reader = Some(context.waker().clone());
            match ready!(stream.poll_next_unpin(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => {
                    let reported = io::Error::other(error.cause.clone());
                    self.failure = Some(error);
                    self.stream = None;
                    return Poll::Ready(Some(Err(reported)));
                }
                None => return Poll::Ready(None),
            }
        }
        let length = self
            .rest
            .len()
            .min(usize::try_from(max).unwrap_or(usize::MAX));
        self.sent += length as u64;
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ItemErrorKind;

    async fn read(
        mut part: BoxStream<'static, Result<Bytes, io::Error>>,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = part.next().await {
            bytes.extend(chunk.map_err(|error| error.to_string())?);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn parts_are_consecutive_for_any_chunks() {
        let source = UploadContent::new(
            stream::iter(["abc", "", "defgh", "i"].map(|text| Ok(text.into()))).boxed(),
        );
        for (length, expected) in [(2, "ab"), (1, "c"), (0, ""), (4, "defg"), (2, "hi")] {
            assert_eq!(read(source.part(length)).await, Ok(expected.into()));
        }
        assert_eq!(source.sent(), 9);
    }

    #[tokio::test]
    async fn an_error_fails_the_request_and_is_kept() {
        let error = ItemError::new("there", "read", ItemErrorKind::Corrupt, "it is wrong");
        let source = UploadContent::new(stream::iter([Ok("abc".into()), Err(error)]).boxed());
        assert_eq!(read(source.part(5)).await, Err("it is wrong".to_owned()));
        assert_eq!(
            source.failure().map(|error| error.kind),
            Some(ItemErrorKind::Corrupt)
        );
    }

    #[tokio::test]
    async fn a_waiting_part_ends_when_the_content_is_dropped() {
        let source = UploadContent::new(stream::pending().boxed());
        let waiting = tokio::spawn(read(source.part(5)));
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(source);
        let ended = tokio::time::timeout(Duration::from_secs(5), waiting)
            .await
            .expect("it ends")
            .expect("no panic");
        assert!(ended.is_err());
    }
}
