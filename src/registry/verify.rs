//! Verification of content while it streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};

use super::blob::BlobStream;
use super::store::ImageSource;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::image_config::MAX_IMAGE_CONFIG_BYTES;
use crate::model::lock::lock;
use crate::model::{Descriptor, Hasher, Repository};

/// Time limit for reading an image configuration.
const CONFIG_TIMEOUT: Duration = Duration::from_mins(5);

/// Returns `stream` with a check of size and digest against `descriptor`.
///
/// If the content is wrong, the stream ends with an error. The last chunk is held back until the
/// content is verified, so a receiver that counts bytes cannot mistake wrong content for complete
/// content. The stream must begin at the start of the content; errors name `store`.
pub fn verified(
    stream: BlobStream,
    descriptor: &Descriptor,
    store: impl Into<String>,
) -> BlobStream {
    Verifier::new(descriptor, store, u64::MAX).read(stream, 0)
}

/// Returns the verified content of an image configuration.
///
/// Fails if the configuration is larger than 8 MiB.
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
    let read = async {
        let stream = source.blob(repository, config, 0).await?;
        let bytes = verified(stream, config, repository.to_string()).try_fold(
            BytesMut::new(),
            |mut read, chunk| async move {
                read.extend_from_slice(&chunk);
                Ok(read)
            },
        );
        Ok(bytes.await?.freeze())
    };
    match tokio::time::timeout(CONFIG_TIMEOUT, read).await {
        Ok(read) => read,
        Err(_) => Err(ItemError::new(
            repository.to_string(),
            format!("read blob {}", config.digest),
            ItemErrorKind::Unreachable,
            format!(
                "the image configuration was not complete after {} seconds",
                CONFIG_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// Verifies content like [`verified`], also if reading continues somewhere in the middle.
///
/// The state of the hasher is saved at checkpoints, so that the digest always covers the content
/// from its start.
pub(super) struct Verifier {
    descriptor: Descriptor,
    store: String,
    /// Distance of the checkpoints, in bytes.
    step: u64,
    progress: Arc<VerifiedProgress>,
}

/// Progress of all readers of one content.
struct VerifiedProgress {
    /// The hasher after zero, one, two, ... steps.
    checkpoints: Mutex<Vec<Hasher>>,
    /// Number of bytes that the furthest reader returned.
    passed: AtomicU64,
}

impl Verifier {
    /// Returns a verifier with a checkpoint every `step` bytes. A checkpoint needs about 250 bytes
    /// of memory.
    pub(super) fn new(descriptor: &Descriptor, store: impl Into<String>, step: u64) -> Verifier {
        let checkpoints = Mutex::new(vec![Hasher::new(descriptor.digest.algorithm())]);
        let progress = Arc::new(VerifiedProgress {
            checkpoints,
            passed: AtomicU64::new(0),
        });
        Verifier {
            descriptor: descriptor.clone(),
            store: store.into(),
            step: step.max(1),
            progress,
        }
    }

    /// Returns the number of bytes that were returned to readers so far. Once this is the size of
    /// the content, all of it is verified.
    pub(super) fn passed(&self) -> u64 {
        self.progress.passed.load(Ordering::Acquire)
    }

    /// Returns the position at which a stream must begin to read the content from `offset` on. It is
    /// less than one step before `offset`.
    pub(super) fn start(&self, offset: u64) -> u64 {
        self.checkpoint(offset).0 * self.step
    }

    /// Returns the content from `offset` on, given a stream that begins at
    /// [`start`](Verifier::start) of that offset. `offset` must be less than the size.
    pub(super) fn read(&self, stream: BlobStream, offset: u64) -> BlobStream {
        let (index, hasher) = self.checkpoint(offset);
        let position = index * self.step;
        let state = VerifiedReader {
            stream,
            hasher: Some(hasher),
            position,
            skip: offset.saturating_sub(position),
            step: self.step,
            descriptor: self.descriptor.clone(),
            store: self.store.clone(),
            progress: Arc::clone(&self.progress),
        };
        Box::pin(futures_util::stream::try_unfold(
            state,
            |mut state| async move { Ok(state.next().await?.map(|chunk| (chunk, state))) },
        ))
    }

    fn checkpoint(&self, offset: u64) -> (u64, Hasher) {
        let checkpoints = lock(&self.progress.checkpoints);
        let index = usize::try_from(offset / self.step)
            .unwrap_or(usize::MAX)
            .min(checkpoints.len() - 1);
        (index as u64, checkpoints[index].clone())
    }
}

/// One pass over the content.
struct VerifiedReader {
    stream: BlobStream,
    /// `None` once the whole content was returned.
    hasher: Option<Hasher>,
    position: u64,
    /// Number of bytes that are hashed but not returned, since the reader wants the rest.
    skip: u64,
    step: u64,
    descriptor: Descriptor,
    store: String,
    progress: Arc<VerifiedProgress>,
}

impl VerifiedReader {
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
            self.progress
                .passed
                .fetch_max(self.position, Ordering::AcqRel);
            return Ok(Some(chunk));
        }
    }

    /// Hashes a chunk, and saves the hasher at every checkpoint within it.
    fn hash(&mut self, hasher: &mut Hasher, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let left = self.step - self.position % self.step;
            let (piece, rest) =
                chunk.split_at(chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            hasher.update(piece);
            self.position += piece.len() as u64;
            chunk = rest;
            if self.position.is_multiple_of(self.step) {
                let mut checkpoints = lock(&self.progress.checkpoints);
                if checkpoints.len() as u64 == self.position / self.step {
                    checkpoints.push(hasher.clone());
                }
            }
        }
    }

    /// Checks the digest, and that the stream has ended.
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
            "it has more than the {} bytes that its descriptor states",
            self.descriptor.size
        ))
    }

    fn corrupt(&self, detail: String) -> ItemError {
        ItemError::new(
            self.store.clone(),
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
    async fn verified_passes_right_content_in_any_chunks() {
        assert_eq!(
            read(&[b"ab", b"", b"c"], &descriptor(b"abc")).await,
            Ok(b"abc".to_vec())
        );
        assert_eq!(read(&[], &descriptor(b"")).await, Ok(Vec::new()));
        assert_eq!(read(&[b""], &descriptor(b"")).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn verified_never_returns_all_of_wrong_content() {
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
    async fn verifier_reads_again_from_any_offset_that_was_reached() {
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
                    .expect("right content");
                assert_eq!(read.concat(), content[offset..], "{cut} {size} {offset}");
            }
            assert_eq!(verifier.passed(), 100);
        }
    }

    #[tokio::test]
    async fn verifier_never_returns_all_of_content_that_changed_between_readings() {
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
            "the first bytes were different"
        );
        let sent: usize = read
            .iter()
            .filter_map(|chunk| chunk.as_ref().ok())
            .map(Bytes::len)
            .sum();
        assert!(sent < 55 && verifier.passed() < 100);
    }
}
