//! Content of a layout: manifests, blobs and tags, read and written.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::index::{IndexEntryError, LayoutIndex};
use super::operation::LayoutOperation;
use super::writer::LayoutWriter;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use crate::model::{Descriptor, Digest, Hasher, Manifest, Reference, Repository, Tag};
use crate::registry::store::Deletion;

/// Amount that is read from a file at a time, in bytes.
pub(super) const READ_SIZE: usize = 256 * 1024;

/// Deletes from `index.json` with `remove`. Returns [`Deletion::NotFound`] if there is no layout.
pub(super) async fn delete(
    repository: &Repository,
    action: String,
    remove: impl FnOnce(&mut LayoutIndex) -> Result<Deletion, IndexEntryError> + Send + 'static,
) -> Result<Deletion, ItemError> {
    let operation = LayoutOperation::new(repository, action)?;
    operation
        .run(move |operation| {
            if !operation.is_layout()? {
                return Ok(Deletion::NotFound);
            }
            let mut deletion = Ok(Deletion::NotFound);
            LayoutWriter::open(operation)?.update_index(|index| {
                deletion = remove(index);
                matches!(deletion, Ok(Deletion::Deleted | Deletion::StillNamed))
            })?;
            deletion.map_err(|error| ambiguous(operation, error))
        })
        .await
}

/// Returns true if `exists` does. Then also renews the time of the file of `digest`, so that a
/// sweep keeps the file.
pub(super) fn claim(
    operation: &LayoutOperation,
    digest: &Digest,
    exists: impl Fn() -> Result<bool, ItemError>,
) -> Result<bool, ItemError> {
    if !exists()? {
        return Ok(false);
    }
    let writer = LayoutWriter::open(operation)?;
    Ok(exists()? && writer.renew(digest))
}

fn ambiguous(operation: &LayoutOperation, error: IndexEntryError) -> ItemError {
    operation
        .error(
            ItemErrorKind::Malformed,
            "its `index.json` is ambiguous or invalid",
        )
        .caused_by(error)
}

/// A blob that is being written. On drop, its file is removed before the lock is released that
/// protects the file.
pub(super) struct IncomingBlob {
    pub(super) file: NamedTempFile,
    pub(super) writer: LayoutWriter,
}

impl IncomingBlob {
    pub(super) fn append(
        mut self,
        operation: &LayoutOperation,
        pieces: &[Bytes],
    ) -> Result<IncomingBlob, ItemError> {
        for piece in pieces {
            self.file
                .write_all(piece)
                .map_err(|error| operation.storage(self.file.path(), error))?;
        }
        Ok(self)
    }
}

/// Returns the entry of `index.json` for a tag, or `None` if there is no entry or its manifest does
/// not exist.
pub(super) fn tag_entry(
    operation: &LayoutOperation,
    tag: &Tag,
) -> Result<Option<Descriptor>, ItemError> {
    let Some(index) = operation.index()? else {
        return Ok(None);
    };
    let Some(entry) = index
        .find(tag)
        .map_err(|error| ambiguous(operation, error))?
    else {
        return Ok(None);
    };
    Ok(operation.open_blob(&entry)?.map(|_| entry))
}

/// Returns a manifest, or `None` if it does not exist.
pub(super) fn manifest(
    operation: &LayoutOperation,
    reference: &Reference,
) -> Result<Option<Manifest>, ItemError> {
    let (digest, media_type) = match reference {
        Reference::Tag(tag) => match tag_entry(operation, tag)? {
            Some(entry) => (entry.digest, Some(entry.media_type)),
            None => return Ok(None),
        },
        Reference::Digest(digest) if operation.is_layout()? => (digest.clone(), None),
        Reference::Digest(_) => return Ok(None),
    };
    let Some(bytes) = operation.read(&operation.blob_path(&digest), MAX_MANIFEST_BYTES)? else {
        return Ok(None);
    };
    operation.check_digest(&digest, &bytes)?;
    match Manifest::parse(
        Bytes::from(bytes),
        media_type.as_deref(),
        digest.algorithm(),
    ) {
        Ok(manifest) => Ok(Some(manifest)),
        // A layout stores manifests among its blobs. Like a registry, it returns no manifest for a
        // blob that is not a manifest.
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

/// Stores a manifest.
pub(super) fn put_manifest(
    operation: &LayoutOperation,
    reference: &Reference,
    manifest: &Manifest,
) -> Result<(), ItemError> {
    operation.check_digest(&manifest.digest, &manifest.bytes)?;
    if let Reference::Digest(digest) = reference
        && *digest != manifest.digest
    {
        return Err(operation.error(
            ItemErrorKind::Refused,
            format!("the manifest has the digest {}", manifest.digest),
        ));
    }
    let writer = LayoutWriter::open(operation)?;
    for blob in manifest.blobs() {
        let may_be_missing = blob.is_foreign_layer() || !blob.urls.is_empty();
        if !may_be_missing && !operation.has(blob)? {
            return Err(operation.error(
                ItemErrorKind::Refused,
                format!("its blob {} does not exist", blob.digest),
            ));
        }
    }
    let path = operation.blob_path(&manifest.digest);
    let is_there = operation.has(&manifest.descriptor())?
        && fs::read(&path).is_ok_and(|bytes| bytes == manifest.bytes);
    // A new file protects everything that it references from being swept.
    if !(is_there && writer.renew(&manifest.digest)) {
        writer.write(&path, &manifest.bytes)?;
    }
    match reference {
        Reference::Tag(tag) => writer.update_index(|index| index.set(tag, &manifest.descriptor())),
        Reference::Digest(_) => Ok(()),
    }
}

/// Copies a blob of the layout `from` into the layout of `writer`, by a hard link if the file system
/// supports that. Returns true if it worked.
///
/// A problem of the other layout is not an error, because the content can be read from the source.
pub(super) fn link_blob(
    writer: &LayoutWriter,
    operation: &LayoutOperation,
    from: &LayoutOperation,
    descriptor: &Descriptor,
) -> Result<bool, ItemError> {
    let source = from.blob_path(&descriptor.digest);
    // A hard link to a symbolic link would be a symbolic link.
    let is_file = fs::symlink_metadata(&source)
        .is_ok_and(|found| found.is_file() && found.len() == descriptor.size);
    let Some(mut file) = is_file.then(|| File::open(&source).ok()).flatten() else {
        return Ok(false);
    };
    if !copy_verified(&mut file, &mut io::sink(), descriptor).unwrap_or(false) {
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
        .and_then(|()| copy_verified(&mut file, copy.as_file_mut(), descriptor));
    if !copied.map_err(|error| operation.storage(copy.path(), error))? {
        return Ok(false);
    }
    writer.install(copy, &target)?;
    Ok(true)
}

/// Copies all content, and returns true if it has the digest of `descriptor`.
fn copy_verified(
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
