//! Content on its way into requests.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::error::ItemError;
use crate::model::lock::lock;
use crate::registry::BlobStream;

/// Content that is sent in one request or in parts, one after the other. Dropped, it is closed,
/// also when a request that was given up still holds a part: the download behind it ends with it.
pub(super) struct Source(Arc<Mutex<State>>);

struct State {
    /// `None` once the content failed or was closed.
    stream: Option<BlobStream>,
    /// What was read beyond the end of a part.
    rest: Bytes,
    taken: u64,
    failure: Option<ItemError>,
    reader: Option<Waker>,
}

impl Source {
    pub(super) fn new(stream: BlobStream) -> Source {
        let state = State {
            stream: Some(stream),
            rest: Bytes::new(),
            taken: 0,
            failure: None,
            reader: None,
        };
        Source(Arc::new(Mutex::new(state)))
    }

    /// Returns the next `length` bytes. The part before must have been read to its end.
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

    /// Returns how many bytes were read out of all parts.
    pub(super) fn taken(&self) -> u64 {
        lock(&self.0).taken
    }

    /// Returns why reading the content failed, when it was that.
    pub(super) fn failure(&self) -> Option<ItemError> {
        lock(&self.0).failure.take()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.stream = None;
        state.rest = Bytes::new();
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl State {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        most: u64,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        if self.rest.is_empty() {
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Some(Err(io::Error::other(
                    "the content is no longer there",
                ))));
            };
            self.reader = Some(context.waker().clone());
            match ready!(stream.poll_next_unpin(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => {
                    let told = io::Error::other(error.cause.clone());
                    self.failure = Some(error);
                    self.stream = None;
                    return Poll::Ready(Some(Err(told)));
                }
                None => return Poll::Ready(None),
            }
        }
        let length = self
            .rest
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        self.taken += length as u64;
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
    async fn parts_follow_one_another_however_the_content_comes() {
        let source = Source::new(
            stream::iter(["abc", "", "defgh", "i"].map(|text| Ok(text.into()))).boxed(),
        );
        for (length, expected) in [(2, "ab"), (1, "c"), (0, ""), (4, "defg"), (2, "hi")] {
            assert_eq!(read(source.part(length)).await, Ok(expected.into()));
        }
        assert_eq!(source.taken(), 9);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_the_request_and_kept_for_the_error() {
        let error = ItemError::new("there", "read", ItemErrorKind::Corrupt, "it is wrong");
        let source = Source::new(stream::iter([Ok("abc".into()), Err(error)]).boxed());
        assert_eq!(read(source.part(5)).await, Err("it is wrong".to_owned()));
        assert_eq!(
            source.failure().map(|error| error.kind),
            Some(ItemErrorKind::Corrupt)
        );
    }

    #[tokio::test]
    async fn a_part_that_waits_ends_when_the_source_is_dropped() {
        let source = Source::new(stream::pending().boxed());
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
