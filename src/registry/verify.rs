//! Verifying content while it streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};

use super::{BlobStream, ImageSource};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::image_config::MAX_IMAGE_CONFIG_BYTES;
use crate::model::lock::lock;
use crate::model::{Descriptor, Hasher, Repository};

/// Returns `stream` such that it only ends well when it had the size and digest of `descriptor`.
/// The last bytes are held back until they are known to be right, so a receiver that counts bytes
/// cannot take wrong content for whole.
///
/// The stream must begin at the start of the content; `place` is named in the error.
pub fn verified(
    stream: BlobStream,
    descriptor: &Descriptor,
    place: impl Into<String>,
) -> BlobStream {
    Verifier::new(descriptor, place, u64::MAX).read(stream, 0)
}

/// Returns an image configuration, whole and verified. One of more than 8 MiB is an error.
pub async fn read_config(
    source: &dyn ImageSource,
    repository: &Repository,
    config: &Descriptor,
) -> Result<Bytes, ItemError> {
    if config.size > MAX_IMAGE_CONFIG_BYTES {
        let detail = format!(
            "the image configuration has {} bytes; more than {MAX_IMAGE_CONFIG_BYTES} are not read",
            config.size
        );
        let action = format!("read blob {}", config.digest);
        return Err(ItemError::new(
            repository.to_string(),
            action,
            ItemErrorKind::Malformed,
            detail,
        ));
    }
    let stream = source.blob(repository, config, 0).await?;
    let bytes = verified(stream, config, repository.to_string()).try_fold(
        BytesMut::new(),
        |mut read, chunk| async move {
            read.extend_from_slice(&chunk);
            Ok(read)
        },
    );
    Ok(bytes.await?.freeze())
}

/// Verifies content as [`verified`] does, also when it is read again from somewhere in its middle:
/// what the hasher had seen at certain places is kept, so that the digest always covers the content
/// from its start.
pub(super) struct Verifier {
    descriptor: Descriptor,
    place: String,
    /// How far these places are apart, in bytes.
    step: u64,
    reached: Arc<Reached>,
}

/// What all readings of one content came to.
struct Reached {
    /// The hasher after none, one, two, ... steps.
    checkpoints: Mutex<Vec<Hasher>>,
    /// How many bytes of the content were handed on, by the reading that came furthest.
    passed: AtomicU64,
}

impl Verifier {
    /// Returns a verifier that can go on at every `step` bytes; what it keeps for each takes about
    /// 250.
    pub(super) fn new(descriptor: &Descriptor, place: impl Into<String>, step: u64) -> Verifier {
        let checkpoints = Mutex::new(vec![Hasher::new(descriptor.digest.algorithm())]);
        let reached = Arc::new(Reached {
            checkpoints,
            passed: AtomicU64::new(0),
        });
        Verifier {
            descriptor: descriptor.clone(),
            place: place.into(),
            step: step.max(1),
            reached,
        }
    }

    /// Returns how many bytes of the content were handed on so far. Once that is its size, all of
    /// it was right.
    pub(super) fn passed(&self) -> u64 {
        self.reached.passed.load(Ordering::Acquire)
    }

    /// Returns where a stream must begin for content from `offset` on: there, or less than a step
    /// before.
    pub(super) fn start(&self, offset: u64) -> u64 {
        self.checkpoint(offset).0 * self.step
    }

    /// Returns the content from `offset` on, which must be below its size, out of a stream that
    /// begins at the start for that.
    pub(super) fn read(&self, stream: BlobStream, offset: u64) -> BlobStream {
        let (index, hasher) = self.checkpoint(offset);
        let position = index * self.step;
        let state = State {
            stream,
            hasher: Some(hasher),
            position,
            skip: offset.saturating_sub(position),
            step: self.step,
            descriptor: self.descriptor.clone(),
            place: self.place.clone(),
            reached: Arc::clone(&self.reached),
        };
        Box::pin(futures_util::stream::try_unfold(
            state,
            |mut state| async move { Ok(state.next().await?.map(|chunk| (chunk, state))) },
        ))
    }

    fn checkpoint(&self, offset: u64) -> (u64, Hasher) {
        let checkpoints = lock(&self.reached.checkpoints);
        let index = usize::try_from(offset / self.step)
            .unwrap_or(usize::MAX)
            .min(checkpoints.len() - 1);
        (index as u64, checkpoints[index].clone())
    }
}

struct State {
    stream: BlobStream,
    /// `None` once the whole content was handed on.
    hasher: Option<Hasher>,
    position: u64,
    /// How much is hashed and not handed on before the rest is.
    skip: u64,
    step: u64,
    descriptor: Descriptor,
    place: String,
    reached: Arc<Reached>,
}

impl State {
    async fn next(&mut self) -> Result<Option<Bytes>, ItemError> {
        let Some(mut hasher) = self.hasher.take() else {
            return Ok(None);
        };
        loop {
            let Some(chunk) = self.stream.next().await else {
                if self.position == self.descriptor.size {
                    return self.finish(hasher).await.map(|()| None);
                }
                return Err(self.corrupt(format!(
                    "it ended after {} of {} bytes",
                    self.position, self.descriptor.size
                )));
            };
            let mut chunk = chunk?;
            if chunk.is_empty() {
                continue;
            }
            if chunk.len() as u64 > self.descriptor.size - self.position {
                return Err(self.too_long());
            }
            self.hash(&mut hasher, &chunk);
            let skipped = chunk
                .len()
                .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let chunk = chunk.split_off(skipped);
            if self.position == self.descriptor.size {
                self.finish(hasher).await?;
            } else if chunk.is_empty() {
                continue;
            } else {
                self.hasher = Some(hasher);
            }
            self.reached
                .passed
                .fetch_max(self.position, Ordering::AcqRel);
            return Ok(Some(chunk));
        }
    }

    /// Hashes a chunk, and notes the hasher wherever a step ends within it.
    fn hash(&mut self, hasher: &mut Hasher, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let left = self.step - self.position % self.step;
            let (piece, rest) =
                chunk.split_at(chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            hasher.update(piece);
            self.position += piece.len() as u64;
            chunk = rest;
            if self.position.is_multiple_of(self.step) {
                let mut checkpoints = lock(&self.reached.checkpoints);
                if checkpoints.len() as u64 == self.position / self.step {
                    checkpoints.push(hasher.clone());
                }
            }
        }
    }

    /// Checks the digest, and that nothing follows.
    async fn finish(&mut self, hasher: Hasher) -> Result<(), ItemError> {
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

    fn too_long(&self) -> ItemError {
        self.corrupt(format!(
            "it has more than the {} bytes that its descriptor says",
            self.descriptor.size
        ))
    }

    fn corrupt(&self, detail: String) -> ItemError {
        ItemError::new(
            self.place.clone(),
            format!("read blob {}", self.descriptor.digest),
            ItemErrorKind::Corrupt,
            detail,
        )
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};

    use super::*;
    use crate::model::Digest;

    async fn read(chunks: &[&'static [u8]], descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(Bytes::from_static(chunk)))
            .collect();
        let stream = verified(stream::iter(chunks).boxed(), descriptor, "here");
        let read: Result<Vec<Bytes>, ItemError> = stream.try_collect().await;
        read.map(|chunks| chunks.concat())
            .map_err(|error| error.cause)
    }

    fn descriptor(content: &[u8]) -> Descriptor {
        Descriptor::new("x", Digest::sha256(content), content.len() as u64)
    }

    #[tokio::test]
    async fn right_content_passes_however_it_is_cut() {
        assert_eq!(
            read(&[b"ab", b"", b"c"], &descriptor(b"abc")).await,
            Ok(b"abc".to_vec())
        );
        assert_eq!(read(&[], &descriptor(b"")).await, Ok(Vec::new()));
        assert_eq!(read(&[b""], &descriptor(b"")).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn wrong_content_never_arrives_whole() {
        let wanted = descriptor(b"abc");
        for chunks in [
            &[&b"ab"[..], b"x"][..],
            &[b"ab"],
            &[b"abcd"],
            &[b"abc", b"d"],
            &[],
        ] {
            let stream = stream::iter(
                chunks
                    .iter()
                    .map(|chunk| Ok(Bytes::from_static(chunk)))
                    .collect::<Vec<_>>(),
            );
            let arrived: Vec<_> = verified(stream.boxed(), &wanted, "here").collect().await;
            let bytes: usize = arrived
                .iter()
                .filter_map(|chunk| chunk.as_ref().ok())
                .map(Bytes::len)
                .sum();
            assert!(
                bytes < 3 && arrived.iter().any(Result::is_err),
                "{chunks:?} gave {arrived:?}"
            );
        }
    }

    fn chunks(content: &[u8], size: usize) -> BlobStream {
        let chunks: Vec<_> = content
            .chunks(size)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        stream::iter(chunks).boxed()
    }

    #[tokio::test]
    async fn content_is_read_again_from_anywhere_that_was_reached() {
        let content: Vec<u8> = (0..=99).collect();
        for (cut, size) in [
            (0, 1),
            (5, 3),
            (10, 10),
            (19, 7),
            (20, 100),
            (57, 100),
            (99, 9),
        ] {
            let verifier = Verifier::new(&descriptor(&content), "here", 10);
            let broken = stream::iter([Err(ItemError::new(
                "here",
                "read",
                ItemErrorKind::Unreachable,
                "broke",
            ))]);
            let before: Vec<_> = verifier
                .read(chunks(&content[..cut], size).chain(broken).boxed(), 0)
                .collect()
                .await;
            let before: Vec<u8> = before.into_iter().flatten().flatten().collect();
            assert_eq!(
                (before, verifier.passed()),
                (content[..cut].to_vec(), cut as u64)
            );
            for offset in [0, cut / 2, cut] {
                let start = usize::try_from(verifier.start(offset as u64)).expect("a start");
                assert!(
                    start <= offset && offset - start < 10,
                    "{start} for {offset}"
                );
                let read: Vec<Bytes> = verifier
                    .read(chunks(&content[start..], size), offset as u64)
                    .try_collect()
                    .await
                    .expect("it is right");
                assert_eq!(read.concat(), content[offset..], "{cut} {size} {offset}");
            }
            assert_eq!(verifier.passed(), 100);
        }
    }

    #[tokio::test]
    async fn content_that_changes_between_two_readings_never_arrives_whole() {
        let content: Vec<u8> = (0..=99).collect();
        let mut other = content.clone();
        other[3] ^= 1;
        let verifier = Verifier::new(&descriptor(&content), "here", 10);
        drop(
            verifier
                .read(chunks(&other[..45], 9), 0)
                .collect::<Vec<_>>()
                .await,
        );
        let start = usize::try_from(verifier.start(45)).expect("a start");
        let read: Vec<_> = verifier
            .read(chunks(&content[start..], 9), 45)
            .collect()
            .await;
        assert!(
            read.iter().any(Result::is_err),
            "the first bytes were others"
        );
        let sent: usize = read
            .iter()
            .filter_map(|chunk| chunk.as_ref().ok())
            .map(Bytes::len)
            .sum();
        assert!(sent < 55 && verifier.passed() < 100);
    }
}
