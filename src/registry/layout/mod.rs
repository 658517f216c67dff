//! OCI image layout directories as places (`ocidir://`): one directory is one repository, its tags
//! are the entries of `index.json` that carry a name.
//!
//! Owns reading, and writing that never leaves half a file: content gets its name when it is whole,
//! `index.json` is replaced as one and by one writer at a time; and removing what is no longer
//! referred to, when it is asked to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::try_unfold;
use tempfile::NamedTempFile;

use super::{
    BlobPut, BlobStream, Deletion, Deletions, ImageSource, ImageStore, Referrers, Reopen, Resolved,
    Swept, TagSeen, verified,
};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use crate::model::{Descriptor, Digest, Hasher, Manifest, Reference, Repository, Tag};

mod index;
mod neighbours;
mod operation;
mod probe;
mod referrers;
mod sweep;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod tests;
mod writer;

use index::{EntryError, Index};
use operation::Operation;
use writer::Writer;

/// How much is read from a file at a time, in bytes.
const READ_SIZE: usize = 256 * 1024;

/// How much is collected before it is written, in bytes and in pieces: handing work to a thread
/// costs more than a small write.
const WRITE_SIZE: usize = 1024 * 1024;
const MOST_PIECES: usize = 1024;

/// All OCI image layout directories of this machine. Two processes may write to the same directory
/// at once.
#[derive(Clone, Debug, Default)]
pub struct Layouts {
    subjects: Arc<referrers::Subjects>,
}

#[async_trait]
impl ImageSource for Layouts {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        let operation = Operation::new(repository, "list tags")?;
        operation
            .run(|operation| Ok(operation.index()?.map(|index| index.tags())))
            .await
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        let operation = Operation::new(repository, format!("resolve {reference}"))?;
        let reference = reference.clone();
        operation
            .run(move |operation| {
                if let Reference::Tag(tag) = &reference
                    && let Some(entry) = entry(operation, tag)?
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
        let operation = Operation::new(repository, format!("read manifest {reference}"))?;
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
        let operation = Operation::new(repository, format!("read blob {}", descriptor.digest))?;
        let wanted = descriptor.clone();
        let file = operation
            .run(move |operation| {
                let Some(mut file) = operation.open_blob(&wanted)? else {
                    return Err(operation.error(ItemErrorKind::Absent, "it is not there"));
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
        let operation = Operation::new(repository, format!("look for blob {}", descriptor.digest))?;
        let descriptor = descriptor.clone();
        operation
            .run(move |operation| operation.has(&descriptor))
            .await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        let operation = Operation::new(repository, format!("look for what refers to {subject}"))?;
        let (subjects, subject) = (Arc::clone(&self.subjects), subject.clone());
        operation
            .run(move |operation| {
                subjects
                    .referrers(operation, &subject)
                    .map(Referrers::Partial)
            })
            .await
    }

    async fn repositories_beside(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        let operation = Operation::new(repository, "list the layouts beside it")?;
        operation
            .run(|operation| neighbours::beside(operation).map(Some))
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
        let operation = Operation::new(repository, format!("claim blob {}", descriptor.digest))?;
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
        let operation = Operation::new(repository, format!("claim manifest {digest}"))?;
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
        content: &dyn Reopen,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let operation = Operation::new(repository, format!("write blob {}", descriptor.digest))?;
        let from = mount_from.and_then(|from| {
            Operation::new(from, format!("share blob {}", descriptor.digest)).ok()
        });
        let wanted = descriptor.clone();
        let incoming = operation
            .run(move |operation| {
                let writer = Writer::open(operation)?;
                if operation.has(&wanted)? && writer.renew(&wanted.digest) {
                    return Ok(None);
                }
                if let Some(from) = from
                    && share(&writer, operation, &from, &wanted)?
                {
                    return Ok(None);
                }
                Ok(Some(Incoming {
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
            if size >= WRITE_SIZE || pieces.len() >= MOST_PIECES {
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
                let Incoming { file, writer } = incoming.append(operation, &pieces)?;
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
        let operation = Operation::new(repository, format!("write manifest {reference}"))?;
        let (reference, manifest) = (reference.clone(), manifest.clone());
        operation
            .run(move |operation| put_manifest(operation, &reference, &manifest))
            .await
    }

    async fn deletions(&self, _: &Repository) -> Result<Deletions, ItemError> {
        Ok(Deletions::ALL)
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        let tag = tag.clone();
        delete(repository, format!("delete tag {tag}"), move |index| {
            index.remove_tag(&tag)
        })
        .await
    }

    /// The manifest's content stays until it is swept.
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
        keep: &BTreeSet<Digest>,
    ) -> Result<Swept, ItemError> {
        let operation = Operation::new(repository, "remove what nothing refers to")?;
        let keep = keep.clone();
        operation
            .run(move |operation| sweep::sweep(operation, &keep))
            .await
    }
}

/// Changes `index.json` by `remove`.
async fn delete(
    repository: &Repository,
    action: String,
    remove: impl FnOnce(&mut Index) -> Result<Deletion, EntryError> + Send + 'static,
) -> Result<Deletion, ItemError> {
    let operation = Operation::new(repository, action)?;
    operation
        .run(move |operation| {
            if !operation.is_layout()? {
                return Ok(Deletion::WasAbsent);
            }
            let mut deletion = Ok(Deletion::WasAbsent);
            Writer::open(operation)?.update_index(|index| {
                deletion = remove(index);
                matches!(deletion, Ok(Deletion::Done | Deletion::StillNamed))
            })?;
            deletion.map_err(|error| untold(operation, error))
        })
        .await
}

/// Returns whether what `is_there` looks for is there, and makes its file young if so, which keeps
/// it from being swept.
fn claim(
    operation: &Operation,
    digest: &Digest,
    is_there: impl Fn() -> Result<bool, ItemError>,
) -> Result<bool, ItemError> {
    if !is_there()? {
        return Ok(false);
    }
    let writer = Writer::open(operation)?;
    Ok(is_there()? && writer.renew(digest))
}

fn untold(operation: &Operation, error: EntryError) -> ItemError {
    operation
        .error(ItemErrorKind::Malformed, "its `index.json` does not tell")
        .caused_by(error)
}

/// A blob on its way in. When it is dropped, its file is removed before the lock that protects the
/// file is let go.
struct Incoming {
    file: NamedTempFile,
    writer: Writer,
}

impl Incoming {
    fn append(mut self, operation: &Operation, pieces: &[Bytes]) -> Result<Incoming, ItemError> {
        for piece in pieces {
            self.file
                .write_all(piece)
                .map_err(|error| operation.storage(self.file.path(), error))?;
        }
        Ok(self)
    }
}

/// Returns the entry of `index.json` for a tag, or `None` when there is none or its manifest is
/// gone.
fn entry(operation: &Operation, tag: &Tag) -> Result<Option<Descriptor>, ItemError> {
    let Some(index) = operation.index()? else {
        return Ok(None);
    };
    let Some(entry) = index.find(tag).map_err(|error| untold(operation, error))? else {
        return Ok(None);
    };
    Ok(operation.open_blob(&entry)?.map(|_| entry))
}

fn manifest(operation: &Operation, reference: &Reference) -> Result<Option<Manifest>, ItemError> {
    let (digest, media_type) = match reference {
        Reference::Tag(tag) => match entry(operation, tag)? {
            Some(entry) => (entry.digest, Some(entry.media_type)),
            None => return Ok(None),
        },
        Reference::Digest(digest) if operation.is_layout()? => (digest.clone(), None),
        Reference::Digest(_) => return Ok(None),
    };
    let Some(bytes) = operation.read(&operation.blob_path(&digest), MAX_MANIFEST_BYTES)? else {
        return Ok(None);
    };
    check_digest(operation, &digest, &bytes)?;
    match Manifest::parse(
        Bytes::from(bytes),
        media_type.as_deref(),
        digest.algorithm(),
    ) {
        Ok(manifest) => Ok(Some(manifest)),
        // In a layout manifests lie among the blobs; elsewhere a blob that is asked for as a
        // manifest is not found.
        Err(ManifestError::Malformed(_) | ManifestError::UnknownType { .. })
            if media_type.is_none() =>
        {
            Ok(None)
        }
        Err(error) => Err(operation
            .error(ItemErrorKind::Malformed, "")
            .caused_by(error)),
    }
}

fn check_digest(operation: &Operation, digest: &Digest, bytes: &[u8]) -> Result<(), ItemError> {
    let found = Digest::of(digest.algorithm(), bytes);
    if found == *digest {
        return Ok(());
    }
    Err(operation.error(
        ItemErrorKind::Corrupt,
        format!("instead of {digest} its content has the digest {found}"),
    ))
}

fn put_manifest(
    operation: &Operation,
    reference: &Reference,
    manifest: &Manifest,
) -> Result<(), ItemError> {
    check_digest(operation, &manifest.digest, &manifest.bytes)?;
    if let Reference::Digest(digest) = reference
        && *digest != manifest.digest
    {
        return Err(operation.error(
            ItemErrorKind::Refused,
            format!("the manifest has the digest {}", manifest.digest),
        ));
    }
    let writer = Writer::open(operation)?;
    for blob in manifest.blobs() {
        let may_be_elsewhere = blob.is_foreign_layer() || !blob.urls.is_empty();
        if !may_be_elsewhere && !operation.has(blob)? {
            return Err(operation.error(
                ItemErrorKind::Refused,
                format!("its blob {} is not there", blob.digest),
            ));
        }
    }
    let path = operation.blob_path(&manifest.digest);
    let is_there = operation.has(&manifest.descriptor())?
        && fs::read(&path).is_ok_and(|bytes| bytes == manifest.bytes);
    // What is as young as this keeps all that it refers to from being swept.
    if !(is_there && writer.renew(&manifest.digest)) {
        writer.write(&path, &manifest.bytes)?;
    }
    match reference {
        Reference::Tag(tag) => writer.update_index(|index| index.set(tag, &manifest.descriptor())),
        Reference::Digest(_) => Ok(()),
    }
}

/// Makes a blob of the layout `from` part of the layout of `writer`, by a hard link where the file
/// system can, and returns whether that worked. What is wrong with the other layout is no error:
/// the content can still be had from elsewhere.
fn share(
    writer: &Writer,
    operation: &Operation,
    from: &Operation,
    descriptor: &Descriptor,
) -> Result<bool, ItemError> {
    let source = from.blob_path(&descriptor.digest);
    // A link to a symbolic link would be one again.
    let is_file = fs::symlink_metadata(&source)
        .is_ok_and(|found| found.is_file() && found.len() == descriptor.size);
    let Some(mut file) = is_file.then(|| File::open(&source).ok()).flatten() else {
        return Ok(false);
    };
    if !copies_right(&mut file, &mut io::sink(), descriptor).unwrap_or(false) {
        return Ok(false);
    }
    let target = operation.blob_path(&descriptor.digest);
    writer.make_parent(&target)?;
    if fs::hard_link(&source, &target).is_ok() && writer.renew(&descriptor.digest) {
        return Ok(true);
    }
    let mut copy = writer.temporary()?;
    let copied = file
        .rewind()
        .and_then(|()| copies_right(&mut file, copy.as_file_mut(), descriptor));
    if !copied.map_err(|error| operation.storage(copy.path(), error))? {
        return Ok(false);
    }
    writer.install(copy, &target)?;
    Ok(true)
}

/// Copies everything, and returns whether it had the digest of `descriptor`.
fn copies_right(
    from: &mut impl Read,
    to: &mut impl Write,
    descriptor: &Descriptor,
) -> io::Result<bool> {
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let size = from.read(&mut buffer)?;
        if size == 0 {
            return Ok(hasher.finish() == descriptor.digest);
        }
        hasher.update(&buffer[..size]);
        to.write_all(&buffer[..size])?;
    }
}
