//! The store of OCI image layout directories.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use futures_util::stream::try_unfold;

use super::content::{
    IncomingBlob, READ_SIZE, claim, delete, link_blob, manifest, put_manifest, tag_entry,
};
use super::operation::LayoutOperation;
use super::referrers::SubjectCache;
use super::writer::LayoutWriter;
use super::{siblings, sweep};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository, Tag};
use crate::registry::blob::{BlobContent, BlobPut, BlobStream};
use crate::registry::store::{
    Deletion, DeletionSupport, ImageSource, ImageStore, ListedTag, Referrers, Resolved, SweepKeep,
    SweepResult,
};
use crate::registry::verify::verified;

/// Amount of content that is collected before it is written, in bytes. Handing work to a thread
/// costs more than a small write.
pub(super) const WRITE_SIZE: usize = 1024 * 1024;

/// Maximum number of chunks that are buffered before they are written.
const MAX_PIECES: usize = 1024;

/// All OCI image layout directories of this machine. Several processes may write to the same
/// directory at the same time.
#[derive(Clone, Debug, Default)]
pub struct Layouts {
    subjects: Arc<SubjectCache>,
}

#[async_trait]
impl ImageSource for Layouts {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<ListedTag>>, ItemError> {
        let operation = LayoutOperation::new(repository, "list tags")?;
        operation
            .run(|operation| Ok(operation.index()?.map(|index| index.tags())))
            .await
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        let operation = LayoutOperation::new(repository, format!("resolve {reference}"))?;
        let reference = reference.clone();
        operation
            .run(move |operation| {
                if let Reference::Tag(tag) = &reference
                    && let Some(entry) = tag_entry(operation, tag)?
                {
                    return Ok(Some(entry.digest.into()));
                }
                Ok(manifest(operation, &reference)?.map(|manifest| manifest.digest.into()))
            })
            .await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        let operation = LayoutOperation::new(repository, format!("read manifest {reference}"))?;
        let reference = reference.clone();
        operation
            .run(move |operation| manifest(operation, &reference))
            .await
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        let operation =
            LayoutOperation::new(repository, format!("read blob {}", descriptor.digest))?;
        let wanted = descriptor.clone();
        let file = operation
            .run(move |operation| {
                let Some(mut file) = operation.open_blob(&wanted)? else {
                    return Err(operation.error(ItemErrorKind::Absent, "it does not exist"));
                };
                file.seek(SeekFrom::Start(from_offset)).map_err(|error| {
                    operation.storage(&operation.blob_path(&wanted.digest), error)
                })?;
                Ok(file)
            })
            .await?;
        let left = descriptor.size.saturating_sub(from_offset);
        let path = operation.blob_path(&descriptor.digest);
        Ok(Box::pin(try_unfold(
            (operation, path, file, left),
            |(operation, path, mut file, left)| async move {
                if left == 0 {
                    return Ok(None);
                }
                let (chunk, path, file) = operation
                    .run(move |operation| {
                        let size = usize::try_from(left).unwrap_or(READ_SIZE).min(READ_SIZE);
                        let mut chunk = Vec::with_capacity(size);
                        (&mut file)
                            .take(size as u64)
                            .read_to_end(&mut chunk)
                            .map_err(|error| operation.storage(&path, error))?;
                        Ok((chunk, path, file))
                    })
                    .await?;
                let left = left.saturating_sub(chunk.len() as u64);
                Ok(
                    (!chunk.is_empty())
                        .then(|| (Bytes::from(chunk), (operation, path, file, left))),
                )
            },
        )))
    }

    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        let operation =
            LayoutOperation::new(repository, format!("find blob {}", descriptor.digest))?;
        let descriptor = descriptor.clone();
        operation
            .run(move |operation| operation.has(&descriptor))
            .await
    }

    /// The time of the file's content. Copies by `rsync -a`, `tar` and `cp -a` keep it.
    async fn stored_at(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<DateTime<Utc>>, ItemError> {
        let operation = LayoutOperation::new(repository, format!("find manifest {digest}"))?;
        let digest = digest.clone();
        operation
            .run(move |operation| {
                let path = operation.blob_path(&digest);
                match std::fs::metadata(&path).and_then(|found| found.modified()) {
                    Ok(modified) => Ok(Some(modified.into())),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(operation.storage(&path, error)),
                }
            })
            .await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        let operation = LayoutOperation::new(repository, format!("list referrers of {subject}"))?;
        let (subjects, subject) = (Arc::clone(&self.subjects), subject.clone());
        operation
            .run(move |operation| {
                subjects
                    .referrers(operation, &subject)
                    .map(Referrers::Partial)
            })
            .await
    }

    async fn sibling_repositories(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        let operation = LayoutOperation::new(repository, "list the layouts next to it")?;
        operation
            .run(|operation| siblings::list(operation).map(Some))
            .await
    }
}

#[async_trait]
impl ImageStore for Layouts {
    async fn claim_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        let operation =
            LayoutOperation::new(repository, format!("claim blob {}", descriptor.digest))?;
        let descriptor = descriptor.clone();
        operation
            .run(move |operation| {
                claim(operation, &descriptor.digest, || operation.has(&descriptor))
            })
            .await
    }

    async fn claim_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, ItemError> {
        let operation = LayoutOperation::new(repository, format!("claim manifest {digest}"))?;
        let reference = Reference::Digest(digest.clone());
        let digest = digest.clone();
        operation
            .run(move |operation| {
                claim(operation, &digest, || {
                    Ok(manifest(operation, &reference)?.is_some())
                })
            })
            .await
    }

    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let operation =
            LayoutOperation::new(repository, format!("write blob {}", descriptor.digest))?;
        let from = mount_from.and_then(|from| {
            LayoutOperation::new(from, format!("link blob {}", descriptor.digest)).ok()
        });
        let wanted = descriptor.clone();
        let incoming = operation
            .run(move |operation| {
                let writer = LayoutWriter::open(operation)?;
                if operation.has(&wanted)? && writer.renew(&wanted.digest) {
                    return Ok(None);
                }
                if let Some(from) = from
                    && link_blob(&writer, operation, &from, &wanted)?
                {
                    return Ok(None);
                }
                Ok(Some(IncomingBlob {
                    file: writer.temporary()?,
                    writer,
                }))
            })
            .await?;
        let Some(mut incoming) = incoming else {
            return Ok(BlobPut::Mounted);
        };

        let mut content = verified(content.open(0).await?, descriptor, repository.to_string());
        let mut pieces = Vec::new();
        let mut size = 0;
        while let Some(piece) = content.try_next().await? {
            size += piece.len();
            pieces.push(piece);
            if size >= WRITE_SIZE || pieces.len() >= MAX_PIECES {
                let batch = std::mem::take(&mut pieces);
                size = 0;
                incoming = operation
                    .run(move |operation| incoming.append(operation, &batch))
                    .await?;
            }
        }
        let digest = descriptor.digest.clone();
        operation
            .run(move |operation| {
                let IncomingBlob { file, writer } = incoming.append(operation, &pieces)?;
                writer.install(file, &operation.blob_path(&digest))
            })
            .await?;
        Ok(BlobPut::Uploaded)
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        let operation = LayoutOperation::new(repository, format!("write manifest {reference}"))?;
        let (reference, manifest) = (reference.clone(), manifest.clone());
        operation
            .run(move |operation| put_manifest(operation, &reference, &manifest))
            .await
    }

    async fn deletions(&self, _: &Repository) -> Result<DeletionSupport, ItemError> {
        Ok(DeletionSupport::ALL)
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        let tag = tag.clone();
        delete(repository, format!("delete tag {tag}"), move |index| {
            index.remove_tag(&tag)
        })
        .await
    }

    /// The content of the manifest stays until it is swept.
    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        let digest = digest.clone();
        delete(
            repository,
            format!("delete manifest {digest}"),
            move |index| Ok(index.remove_manifest(&digest)),
        )
        .await
    }

    async fn sweep(
        &self,
        repository: &Repository,
        keep: &SweepKeep,
    ) -> Result<SweepResult, ItemError> {
        let operation = LayoutOperation::new(repository, "remove unreferenced content")?;
        let keep = keep.clone();
        operation
            .run(move |operation| sweep::sweep(operation, &keep))
            .await
    }
}
