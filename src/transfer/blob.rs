//! Copying one blob to the target, once in a run: found there, mounted, or uploaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;

use super::context::{ImageCopy, Transfer};
use super::error::at;
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::{Descriptor, Repository};
use crate::progress::{Event, Progress};
use crate::registry::{BlobContent, BlobPut, BlobStream, ImageSource};

impl Transfer {
    /// Makes `blob` part of the target repository. If another copy of the run is doing that, waits
    /// for it.
    pub(super) async fn deliver(
        &self,
        copy: &ImageCopy<'_>,
        blob: &Descriptor,
    ) -> Result<(), ItemError> {
        let once = self.state.blob(copy.to, &blob.digest);
        let mut delivered = false;
        once.get_or_try_init(|| {
            delivered = true;
            self.find_or_put(copy, blob)
        })
        .await?;
        if !delivered {
            self.skipped(copy, blob);
        }
        Ok(())
    }

    async fn find_or_put(&self, copy: &ImageCopy<'_>, blob: &Descriptor) -> Result<(), ItemError> {
        let location = self.state.location(copy.to, &blob.digest);
        if !self.state.is_absent(copy.to)
            && self
                .writable_target(copy.to)?
                .claim_blob(copy.to, blob)
                .await
                .map_err(at(Side::Target))?
        {
            location.set(copy.to);
            self.skipped(copy, blob);
            return Ok(());
        }
        let mount_from = location.get().or_else(|| {
            copy.from
                .shares_blobs_with(copy.to)
                .then(|| copy.from.clone())
        });
        if let Some(from) = mount_from {
            return self.put(copy, blob, Some(&from)).await;
        }
        let first_upload = location.first_upload.lock().await;
        if let Some(from) = location.get() {
            drop(first_upload);
            return self.put(copy, blob, Some(&from)).await;
        }
        self.put(copy, blob, None).await?;
        location.set(copy.to);
        Ok(())
    }

    pub(super) async fn put(
        &self,
        copy: &ImageCopy<'_>,
        blob: &Descriptor,
        mount_from: Option<&Repository>,
    ) -> Result<(), ItemError> {
        let content = SourceBlob {
            source: self.source.of(copy.from),
            from: copy.from,
            blob,
            meter: Arc::new(ReadMeter {
                progress: self.progress.clone(),
                item: copy.item.to_owned(),
                read: AtomicU64::new(0),
                failed: AtomicBool::new(false),
            }),
        };
        let put = self
            .writable_target(copy.to)?
            .put_blob(copy.to, blob, &content, mount_from)
            .await;
        match put {
            Ok(BlobPut::Uploaded) => {
                copy.moved.fetch_add(blob.size, Ordering::Relaxed);
                content.meter.advance_to(blob.size);
                Ok(())
            }
            Ok(BlobPut::Mounted) => {
                copy.mounted.fetch_add(blob.size, Ordering::Relaxed);
                content.meter.advance_to(blob.size);
                Ok(())
            }
            // The target verifies content, but wrong content is the source's fault. The exception
            // is a target that reports that it stored something else.
            Err(mut error)
                if error.kind == ItemErrorKind::Corrupt
                    && copy
                        .to
                        .host()
                        .is_none_or(|host| error.host != host.as_str()) =>
            {
                error.host = place_of(copy.from);
                Err(at(Side::Source)(error))
            }
            Err(error) if content.meter.failed.load(Ordering::Relaxed) => {
                Err(at(Side::Source)(error))
            }
            Err(error) => Err(at(Side::Target)(error)),
        }
    }

    fn skipped(&self, copy: &ImageCopy<'_>, blob: &Descriptor) {
        copy.skipped.fetch_add(blob.size, Ordering::Relaxed);
        self.progress.event(Event::Moved {
            item: copy.item,
            bytes: blob.size,
        });
    }
}

fn place_of(repository: &Repository) -> String {
    repository
        .host()
        .map_or_else(|| repository.to_string(), ToString::to_string)
}

/// A blob at the source, opened when the target reads it.
struct SourceBlob<'a> {
    source: &'a dyn ImageSource,
    from: &'a Repository,
    blob: &'a Descriptor,
    meter: Arc<ReadMeter>,
}

/// Reports read bytes as progress, each once, however often the content is opened again.
struct ReadMeter {
    progress: Arc<dyn Progress>,
    item: String,
    read: AtomicU64,
    /// True if the source failed last, and not the target.
    failed: AtomicBool,
}

impl ReadMeter {
    fn advance_to(&self, position: u64) {
        let before = self.read.fetch_max(position, Ordering::Relaxed);
        if position > before {
            self.progress.event(Event::Moved {
                item: &self.item,
                bytes: position - before,
            });
        }
    }
}

#[async_trait]
impl BlobContent for SourceBlob<'_> {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let opened = self.source.blob(self.from, self.blob, from_offset).await;
        self.meter.failed.store(opened.is_err(), Ordering::Relaxed);
        let meter = self.meter.clone();
        let size = self.blob.size;
        let mut position = from_offset;
        Ok(opened?
            .inspect(move |chunk| match chunk {
                Ok(chunk) => {
                    position += chunk.len() as u64;
                    meter.advance_to(position.min(size));
                }
                Err(_) => meter.failed.store(true, Ordering::Relaxed),
            })
            .boxed())
    }
}
