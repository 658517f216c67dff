//! Writing a layer: the same plan gives the same bytes.

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

use super::folder::open;
use super::plan::{Content, Entry, Kind, Plan};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Hasher};
use crate::registry::{BlobStream, InMemory, Reopen};

/// How much of a packed layer is kept in memory, in bytes; larger ones go to a temporary file.
const IN_MEMORY: usize = 4 * 1024 * 1024;

/// How much is read from a temporary file at once, in bytes.
const PIECE: usize = 256 * 1024;

/// A layer that was written.
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    /// The digest of the layer before it was packed.
    pub(super) diff_id: Digest,
    content: Stored,
}

#[derive(Clone)]
enum Stored {
    Memory(Bytes),
    File(Arc<File>),
}

/// Writes what `plan` says. Fails when a file has changed its size since, or when `stop` is set.
pub(super) fn write(plan: &Plan, stop: &AtomicBool) -> io::Result<Layer> {
    let packed = Hashing {
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
        inner: spooled_tempfile(IN_MEMORY),
    };
    let gzip = GzEncoder::new(packed, Compression::default());
    let mut archive = Builder::new(Hashing {
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
        inner: gzip,
    });
    let mut names: HashMap<(&super::plan::Spool, usize), &str> = HashMap::new();
    for (path, entry) in &plan.entries {
        if let Kind::File(Content::Spooled { spool, number, .. }) = &entry.kind {
            if let Some(first) = names.get(&(spool, *number)) {
                archive.append_link(&mut header(entry, EntryType::Link, 0), path, first)?;
                continue;
            }
            names.insert((spool, *number), path);
        }
        append(&mut archive, path, entry, stop)
            .map_err(|error| io::Error::new(error.kind(), format!("`{path}`: {error}")))?;
    }
    let Hashing {
        hasher,
        inner: gzip,
        ..
    } = archive.into_inner()?;
    let diff_id = hasher.finish();
    let Hashing {
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

fn stored(file: SpooledTempFile) -> Stored {
    match file.into_inner() {
        tempfile::SpooledData::InMemory(cursor) => Stored::Memory(cursor.into_inner().into()),
        tempfile::SpooledData::OnDisk(file) => Stored::File(Arc::new(file)),
    }
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &str,
    entry: &Entry,
    stop: &AtomicBool,
) -> io::Result<()> {
    match &entry.kind {
        Kind::Directory => archive.append_data(
            &mut header(entry, EntryType::Directory, 0),
            format!("{path}/"),
            io::empty(),
        ),
        Kind::Link(target) => append_link(archive, path, entry, target),
        Kind::File(content) => match content {
            Content::Text(text) => archive.append_data(
                &mut header(entry, EntryType::Regular, text.len() as u64),
                path,
                text.as_bytes(),
            ),
            Content::Disk { path: from, size } => {
                let exact = Exact {
                    reader: open(from)?,
                    left: *size,
                    stop,
                };
                archive.append_data(&mut header(entry, EntryType::Regular, *size), path, exact)
            }
            Content::Spooled {
                spool,
                offset,
                size,
                ..
            } => {
                let exact = Exact {
                    reader: At {
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

/// Appends a link with its target as it is, which the `tar` crate would clean.
fn append_link(
    archive: &mut Builder<impl Write>,
    path: &str,
    entry: &Entry,
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

fn header(entry: &Entry, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_symlink() { 0o777 } else { entry.mode });
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_mtime(entry.modified);
    header.set_size(size);
    header
}

/// Gives exactly as many bytes as were announced, or an error.
struct Exact<'a, R> {
    reader: R,
    left: u64,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the build was stopped"));
        }
        let count = self.reader.read(buffer)?;
        self.left = match self.left.checked_sub(count as u64) {
            Some(left) if count > 0 || left == 0 || buffer.is_empty() => left,
            _ => return Err(io::Error::other("its size changed while it was read")),
        };
        Ok(count)
    }
}

/// Reads a part of a file without moving the place that others read it from.
struct At<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Hashes and counts what is written.
struct Hashing<W> {
    hasher: Hasher,
    size: u64,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
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
impl Reopen for &Layer {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let file = match &self.content {
            Stored::Memory(bytes) => return InMemory(bytes.clone()).open(from_offset).await,
            Stored::File(file) => file.clone(),
        };
        let pieces = stream::try_unfold((file, from_offset), |(file, offset)| async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
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

    fn entry(kind: Kind) -> Entry {
        Entry {
            kind,
            mode: 0o4755,
            uid: 3,
            gid: 70_000,
            modified: 1_700_000_000,
        }
    }

    fn plan<const N: usize>(entries: [(&str, Kind); N]) -> Plan {
        Plan {
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
    async fn a_layer_has_what_was_planned_and_always_the_same_bytes() {
        let text = |text: &str| Kind::File(Content::Text(text.into()));
        let long = format!("d/{}", "x".repeat(300));
        let plan = plan([
            ("d", Kind::Directory),
            ("d/a\nb", text("hello")),
            (&long, text("long")),
            ("link", Kind::Link("../.././x//y".to_owned())),
            ("longlink", Kind::Link("y/".repeat(100))),
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
    async fn large_layers_go_through_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut noise = vec![0; 2 * IN_MEMORY];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        std::fs::write(directory.path().join("noise"), &noise).expect("a file");
        let content = |size| {
            Kind::File(Content::Disk {
                path: directory.path().join("noise"),
                size,
            })
        };
        let layer = write(
            &plan([("noise", content(noise.len() as u64))]),
            &AtomicBool::new(false),
        )
        .expect("a layer");
        assert!(matches!(layer.content, Stored::File(_)));
        assert_eq!(
            Digest::sha256(&bytes(&layer, 0).await),
            layer.descriptor.digest
        );
        for size in [noise.len() as u64 - 1, noise.len() as u64 + 1] {
            let error = write(&plan([("noise", content(size))]), &AtomicBool::new(false))
                .err()
                .expect("refused");
            assert_eq!(
                error.to_string(),
                "`noise`: its size changed while it was read"
            );
        }
        assert!(write(&plan([("noise", content(1))]), &AtomicBool::new(true)).is_err());
    }

    #[test]
    fn names_of_one_file_stay_one_file() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"hello").expect("written");
        let spool = super::super::plan::Spool(Arc::new(file));
        let content = |number, size| {
            Kind::File(Content::Spooled {
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
        let Stored::Memory(packed) = layer.expect("a layer").content else {
            panic!("it is small")
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
