//! Bringing one blob to the target: found, mounted, or streamed, each once in a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;

use super::error::{CopyError, at};
use super::{Copy, Transfer};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::{Descriptor, Repository};
use crate::progress::{Event, Progress};
use crate::registry::{BlobPut, BlobStream, ImageSource, Reopen};

impl Transfer {
    /// Makes `blob` part of the target repository. When another copy of the run is bringing it,
    /// waits for that.
    pub(super) async fn deliver(
        &self,
        copy: &Copy<'_>,
        blob: &Descriptor,
    ) -> Result<(), CopyError> {
        let once = self.ledger.blob(copy.to, &blob.digest);
        let mut brought = false;
        once.get_or_try_init(|| {
            brought = true;
            self.bring(copy, blob)
        })
        .await?;
        if !brought {
            self.skipped(copy, blob);
        }
        Ok(())
    }

    async fn bring(&self, copy: &Copy<'_>, blob: &Descriptor) -> Result<(), CopyError> {
        let holder = self.ledger.holder(copy.to, &blob.digest);
        if !self.ledger.is_absent(copy.to)
            && self
                .target
                .claim_blob(copy.to, blob)
                .await
                .map_err(at(Side::Target))?
        {
            holder.set(copy.to);
            self.skipped(copy, blob);
            return Ok(());
        }
        let mount_from = holder.get().or_else(|| {
            copy.from
                .shares_blobs_with(copy.to)
                .then(|| copy.from.clone())
        });
        if let Some(from) = mount_from {
            return self.put(copy, blob, Some(&from)).await;
        }
        let first = holder.first.lock().await;
        if let Some(from) = holder.get() {
            drop(first);
            return self.put(copy, blob, Some(&from)).await;
        }
        self.put(copy, blob, None).await?;
        holder.set(copy.to);
        Ok(())
    }

    async fn put(
        &self,
        copy: &Copy<'_>,
        blob: &Descriptor,
        mount_from: Option<&Repository>,
    ) -> Result<(), CopyError> {
        let content = SourceBlob {
            source: &self.source,
            from: copy.from,
            blob,
            meter: Arc::new(Meter {
                progress: self.progress.clone(),
                item: copy.item.to_owned(),
                read: AtomicU64::new(0),
                failed: AtomicBool::new(false),
            }),
        };
        let put = self
            .target
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
            // Content is verified where it is kept, but it is the source that it was wrong at;
            // unless it was right, and the target itself says that it stored something else.
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

    fn skipped(&self, copy: &Copy<'_>, blob: &Descriptor) {
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

/// A blob at the source, opened when the target asks for it.
struct SourceBlob<'a> {
    source: &'a Arc<dyn ImageSource>,
    from: &'a Repository,
    blob: &'a Descriptor,
    meter: Arc<Meter>,
}

/// Tells progress what was read, each byte once however often the content is opened again.
struct Meter {
    progress: Arc<dyn Progress>,
    item: String,
    read: AtomicU64,
    /// Whether it was the source that failed last, not the target.
    failed: AtomicBool,
}

impl Meter {
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
impl Reopen for SourceBlob<'_> {
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
