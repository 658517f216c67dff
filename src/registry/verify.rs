//! Verifying content while it streams.

use futures_util::StreamExt;

use super::{BlobStream, PlaceError, PlaceErrorKind};
use crate::model::{Descriptor, Hasher};

/// Returns `stream` such that it only ends well when it had the size and digest of `descriptor`. The last bytes are held back
/// until they are known to be right, so a receiver that counts bytes cannot take wrong content for whole.
///
/// The stream must begin at the start of the content; `place` is named in the error.
pub fn verified(stream: BlobStream, descriptor: &Descriptor, place: impl Into<String>) -> BlobStream {
    let state = State {
        stream,
        hasher: Some(Hasher::new(descriptor.digest.algorithm())),
        left: descriptor.size,
        descriptor: descriptor.clone(),
        place: place.into(),
    };
    Box::pin(futures_util::stream::try_unfold(state, move |mut state| async move {
        let Some(mut hasher) = state.hasher.take() else { return Ok(None) };
        loop {
            match state.stream.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    let length = chunk.len() as u64;
                    if length > state.left {
                        return Err(state.too_long());
                    }
                    hasher.update(&chunk);
                    state.left -= length;
                    if state.left == 0 {
                        state.finish(hasher).await?;
                        return Ok(Some((chunk, state)));
                    }
                    state.hasher = Some(hasher);
                    return Ok(Some((chunk, state)));
                }
                Some(Err(error)) => return Err(error),
                None if state.left == 0 => return state.finish(hasher).await.map(|()| None),
                None => {
                    let read = state.descriptor.size - state.left;
                    return Err(state.corrupt(format!("it ended after {read} of {} bytes", state.descriptor.size)));
                }
            }
        }
    }))
}

struct State {
    stream: BlobStream,
    /// `None` once the whole content was handed on.
    hasher: Option<Hasher>,
    left: u64,
    descriptor: Descriptor,
    place: String,
}

impl State {
    /// Checks the digest, and that nothing follows.
    async fn finish(&mut self, hasher: Hasher) -> Result<(), PlaceError> {
        let found = hasher.finish();
        if found != self.descriptor.digest {
            return Err(self.corrupt(format!("its content has the digest {found}")));
        }
        while let Some(more) = self.stream.next().await {
            if !more?.is_empty() {
                return Err(self.too_long());
            }
        }
        Ok(())
    }

    fn too_long(&self) -> PlaceError {
        self.corrupt(format!("it has more than the {} bytes that its descriptor says", self.descriptor.size))
    }

    fn corrupt(&self, detail: String) -> PlaceError {
        PlaceError::new(self.place.clone(), format!("read blob {}", self.descriptor.digest), PlaceErrorKind::Corrupt, detail)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, TryStreamExt, stream};

    use super::*;
    use crate::model::Digest;

    async fn read(chunks: &[&'static [u8]], descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        let stream = verified(stream::iter(chunks).boxed(), descriptor, "here");
        let read: Result<Vec<Bytes>, PlaceError> = stream.try_collect().await;
        read.map(|chunks| chunks.concat()).map_err(|error| error.detail)
    }

    fn descriptor(content: &[u8]) -> Descriptor {
        Descriptor::new("x", Digest::sha256(content), content.len() as u64)
    }

    #[tokio::test]
    async fn right_content_passes_however_it_is_cut() {
        assert_eq!(read(&[b"ab", b"", b"c"], &descriptor(b"abc")).await, Ok(b"abc".to_vec()));
        assert_eq!(read(&[], &descriptor(b"")).await, Ok(Vec::new()));
        assert_eq!(read(&[b""], &descriptor(b"")).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn wrong_content_never_arrives_whole() {
        let wanted = descriptor(b"abc");
        for chunks in [&[&b"ab"[..], b"x"][..], &[b"ab"], &[b"abcd"], &[b"abc", b"d"], &[]] {
            let stream = stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect::<Vec<_>>());
            let arrived: Vec<_> = verified(stream.boxed(), &wanted, "here").collect().await;
            let bytes: usize = arrived.iter().filter_map(|chunk| chunk.as_ref().ok()).map(Bytes::len).sum();
            assert!(bytes < 3 && arrived.iter().any(Result::is_err), "{chunks:?} gave {arrived:?}");
        }
    }
}
