//! Writing of layers. Equal plans give equal bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, stream};
use tar::{Builder, EntryType, Header};
use tempfile::{SpooledTempFile, spooled_tempfile};

use super::context_folder::open;
use super::layer_plan::{EntryKind, LayerEntry, LayerFileContent, LayerPlan};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Hasher};
use crate::registry::{BlobContent, BlobStream, InMemory};

/// Maximum size of a compressed layer in memory, in bytes. Larger layers are written to a temporary
/// file.
const MAX_BYTES_IN_MEMORY: usize = 4 * 1024 * 1024;

/// Size of the chunks that are read from a temporary file, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// A written layer.
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    /// Digest of the uncompressed layer.
    pub(super) diff_id: Digest,
    content: LayerData,
}

/// Compressed bytes of a layer.
#[derive(Clone)]
enum LayerData {
    Memory(Bytes),
    File(Arc<File>),
}

/// Writes a layer.
///
/// # Errors
/// Fails if a file cannot be read, if its size has changed since it was planned, or if `stop` is
/// set.
pub(super) fn write(plan: &LayerPlan, stop: &AtomicBool) -> io::Result<Layer> {
    let compressed = HashingWriter {
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
        inner: spooled_tempfile(MAX_BYTES_IN_MEMORY),
    };
    let gzip = GzEncoder::new(compressed, Compression::default());
    let mut archive = Builder::new(HashingWriter {
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
        inner: gzip,
    });
    let mut names: HashMap<(&super::layer_plan::Spool, usize), &str> = HashMap::new();
    for (path, entry) in &plan.entries {
        if let EntryKind::File(LayerFileContent::Spooled { spool, number, .. }) = &entry.kind {
            if let Some(first) = names.get(&(spool, *number)) {
                archive.append_link(&mut header(entry, EntryType::Link, 0), path, first)?;
                continue;
            }
            names.insert((spool, *number), path);
        }
        append(&mut archive, path, entry, stop)
            .map_err(|error| io::Error::new(error.kind(), format!("`{path}`: {error}")))?;
    }
    let HashingWriter {
        hasher,
        inner: gzip,
        ..
    } = archive.into_inner()?;
    let diff_id = hasher.finish();
    let HashingWriter {
        hasher,
        size,
        inner: file,
    } = gzip.finish()?;
    let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, hasher.finish(), size);
    Ok(Layer {
        descriptor,
        diff_id,
        content: stored(file),
    })
}

/// Returns the bytes of a finished layer.
fn stored(file: SpooledTempFile) -> LayerData {
    match file.into_inner() {
        tempfile::SpooledData::InMemory(cursor) => LayerData::Memory(cursor.into_inner().into()),
        tempfile::SpooledData::OnDisk(file) => LayerData::File(Arc::new(file)),
    }
}

/// Appends an entry.
fn append(
    archive: &mut Builder<impl Write>,
    path: &str,
    entry: &LayerEntry,
    stop: &AtomicBool,
) -> io::Result<()> {
    match &entry.kind {
        EntryKind::Directory => archive.append_data(
            &mut header(entry, EntryType::Directory, 0),
            format!("{path}/"),
            io::empty(),
        ),
        EntryKind::Link(target) => append_link(archive, path, entry, target),
        EntryKind::File(content) => match content {
            LayerFileContent::Text(text) => archive.append_data(
                &mut header(entry, EntryType::Regular, text.len() as u64),
                path,
                text.as_bytes(),
            ),
            LayerFileContent::Disk { path: from, size } => {
                let exact = ExactReader {
                    reader: open(from)?,
                    left: *size,
                    stop,
                };
                archive.append_data(&mut header(entry, EntryType::Regular, *size), path, exact)
            }
            LayerFileContent::Spooled {
                spool,
                offset,
                size,
                ..
            } => {
                let exact = ExactReader {
                    reader: FileRange {
                        file: &spool.0,
                        offset: *offset,
                        left: *size,
                    },
                    left: *size,
                    stop,
                };
                archive.append_data(&mut header(entry, EntryType::Regular, *size), path, exact)
            }
        },
    }
}

/// Appends a symbolic link with its target unchanged. The `tar` crate would normalise it.
fn append_link(
    archive: &mut Builder<impl Write>,
    path: &str,
    entry: &LayerEntry,
    target: &str,
) -> io::Result<()> {
    let mut header = header(entry, EntryType::Symlink, 0);
    if header.set_link_name_literal(target).is_err() {
        let mut long = Header::new_gnu();
        long.set_entry_type(EntryType::GNULongLink);
        long.set_mode(0o644);
        long.set_size(target.len() as u64 + 1);
        long.set_path("@LongLink")?;
        long.set_cksum();
        archive.append(&long, target.as_bytes().chain(&b"\0"[..]))?;
    }
    archive.append_data(&mut header, path, io::empty())
}

/// Returns the header of an entry.
fn header(entry: &LayerEntry, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_symlink() { 0o777 } else { entry.mode });
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_mtime(entry.modified);
    header.set_size(size);
    header
}

/// Reader that fails unless it returns exactly the expected number of bytes.
struct ExactReader<'a, R> {
    reader: R,
    left: u64,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for ExactReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the build was stopped"));
        }
        let count = self.reader.read(buffer)?;
        self.left = match self.left.checked_sub(count as u64) {
            Some(left) if count > 0 || left == 0 || buffer.is_empty() => left,
            _ => {
                return Err(io::Error::other(
                    "the size of the file changed while it was read",
                ));
            }
        };
        Ok(count)
    }
}

/// Reader of a range of a file, which does not use the shared file position.
struct FileRange<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..limit], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Writer that hashes and counts the bytes.
struct HashingWriter<W> {
    hasher: Hasher,
    size: u64,
    inner: W,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[async_trait]
impl BlobContent for &Layer {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let file = match &self.content {
            LayerData::Memory(bytes) => return InMemory(bytes.clone()).open(from_offset).await,
            LayerData::File(file) => file.clone(),
        };
        let pieces = stream::try_unfold((file, from_offset), |(file, offset)| async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; CHUNK_BYTES];
                let count = file.read_at(&mut piece, offset)?;
                piece.truncate(count);
                Ok((piece, file))
            });
            let unreadable = |error: io::Error| {
                ItemError::new(
                    "temporary files",
                    "read a layer",
                    ItemErrorKind::Storage,
                    error.to_string(),
                )
            };
            let (piece, file) = read
                .await
                .map_err(io::Error::other)
                .and_then(|read| read)
                .map_err(unreadable)?;
            let next = offset + piece.len() as u64;
            Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (file, next))))
        });
        Ok(pieces.boxed())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    fn entry(kind: EntryKind) -> LayerEntry {
        LayerEntry {
            kind,
            mode: 0o4755,
            uid: 3,
            gid: 70_000,
            modified: 1_700_000_000,
        }
    }

    fn plan<const N: usize>(entries: [(&str, EntryKind); N]) -> LayerPlan {
        LayerPlan {
            entries: entries
                .into_iter()
                .map(|(path, kind)| (path.to_owned(), entry(kind)))
                .collect(),
        }
    }

    async fn bytes(layer: &Layer, offset: u64) -> Vec<u8> {
        let pieces: Vec<Bytes> = layer
            .open(offset)
            .await
            .expect("a stream")
            .try_collect()
            .await
            .expect("bytes");
        pieces.concat()
    }

    #[tokio::test]
    async fn write_produces_the_planned_entries_reproducibly() {
        let text = |text: &str| EntryKind::File(LayerFileContent::Text(text.into()));
        let long = format!("d/{}", "x".repeat(300));
        let plan = plan([
            ("d", EntryKind::Directory),
            ("d/a\nb", text("hello")),
            (&long, text("long")),
            ("link", EntryKind::Link("../.././x//y".to_owned())),
            ("longlink", EntryKind::Link("y/".repeat(100))),
        ]);
        let layer = write(&plan, &AtomicBool::new(false)).expect("a layer");
        let again = write(&plan, &AtomicBool::new(false)).expect("a layer");
        assert_eq!(
            (&layer.descriptor, &layer.diff_id),
            (&again.descriptor, &again.diff_id)
        );
        let packed = bytes(&layer, 0).await;
        assert_eq!(layer.descriptor.digest, Digest::sha256(&packed));
        assert_eq!(bytes(&layer, 10).await, packed[10..]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .expect("gzip");
        assert_eq!(layer.diff_id, Digest::sha256(&unpacked));
        let mut archive = tar::Archive::new(&unpacked[..]);
        let mut found = Vec::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let header = entry.header();
            assert_eq!(
                (header.uid().ok(), header.gid().ok(), header.mtime().ok()),
                (Some(3), Some(70_000), Some(1_700_000_000))
            );
            let target = entry
                .link_name_bytes()
                .map(|target| String::from_utf8_lossy(&target).into_owned());
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("text");
            found.push((
                String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
                target.unwrap_or(content),
            ));
        }
        let expected = [
            ("d/", ""),
            ("d/a\nb", "hello"),
            (&long, "long"),
            ("link", "../.././x//y"),
            ("longlink", &"y/".repeat(100)),
        ];
        assert_eq!(
            found,
            expected.map(|(path, content)| (path.to_owned(), content.to_owned()))
        );
    }

    #[tokio::test]
    async fn write_uses_a_file_for_large_layers() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut noise = vec![0; 2 * MAX_BYTES_IN_MEMORY];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        std::fs::write(directory.path().join("noise"), &noise).expect("a file");
        let content = |size| {
            EntryKind::File(LayerFileContent::Disk {
                path: directory.path().join("noise"),
                size,
            })
        };
        let layer = write(
            &plan([("noise", content(noise.len() as u64))]),
            &AtomicBool::new(false),
        )
        .expect("a layer");
        assert!(matches!(layer.content, LayerData::File(_)));
        assert_eq!(
            Digest::sha256(&bytes(&layer, 0).await),
            layer.descriptor.digest
        );
        for size in [noise.len() as u64 - 1, noise.len() as u64 + 1] {
            let error = write(&plan([("noise", content(size))]), &AtomicBool::new(false))
                .err()
                .expect("an error");
            assert_eq!(
                error.to_string(),
                "`noise`: the size of the file changed while it was read"
            );
        }
        assert!(write(&plan([("noise", content(1))]), &AtomicBool::new(true)).is_err());
    }

    #[test]
    fn write_keeps_hard_links() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"hello").expect("written");
        let spool = super::super::layer_plan::Spool(Arc::new(file));
        let content = |number, size| {
            EntryKind::File(LayerFileContent::Spooled {
                spool: spool.clone(),
                number,
                offset: 0,
                size,
            })
        };
        let layer = write(
            &plan([
                ("a", content(0, 5)),
                ("b", content(0, 5)),
                ("c", content(1, 0)),
            ]),
            &AtomicBool::new(false),
        );
        let LayerData::Memory(packed) = layer.expect("a layer").content else {
            panic!("expected a layer in memory")
        };
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let kinds: Vec<EntryType> = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("an entry").header().entry_type())
            .collect();
        assert_eq!(
            kinds,
            [EntryType::Regular, EntryType::Link, EntryType::Regular]
        );
    }
}
