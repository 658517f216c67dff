//! Blob content on its way between stores.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::ItemError;

/// The bytes of a blob as they arrive.
pub type BlobStream = BoxStream<'static, Result<Bytes, ItemError>>;

/// Content that can be opened again at an offset, so that a broken upload continues instead of
/// starting again.
#[async_trait]
pub trait BlobContent: Send + Sync {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError>;
}

/// Content in memory, such as a configuration or a generated layer.
pub struct InMemory(pub Bytes);

#[async_trait]
impl BlobContent for InMemory {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let start = usize::try_from(from_offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        let rest = self.0.slice(start..);
        Ok(Box::pin(futures_util::stream::once(std::future::ready(
            Ok(rest),
        ))))
    }
}

/// Result of storing a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobPut {
    /// Shared with another repository of the same store, without an upload.
    Mounted,
    /// The content was sent.
    Uploaded,
}
