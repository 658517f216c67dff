//! Reading of untrusted tar archives, compressed or not, with limited memory.
//!
//! The `tar` crate parses the headers. GNU long names and PAX records are read here, because their
//! length must be limited.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use tar::{EntryType, Header};

/// Maximum size of a name, a link target or a set of PAX records, in bytes.
const MAX_RECORD_BYTES: u64 = 1024 * 1024;

/// Maximum size of a decompressed archive, in bytes.
const MAX_UNPACKED_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Size of a tar block, in bytes.
const BLOCK: usize = 512;

/// Compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// Detects the compression from the first bytes of a file.
    pub(super) fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }
}

/// Returns a reader of the decompressed content. Supports gzip and zstd.
pub(super) fn decompressed<'a>(
    mut compressed: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let reader: Box<dyn Read + Send + 'a> = match Compression::of(compressed.fill_buf()?) {
        Compression::Gzip => Box::new(MultiGzDecoder::new(compressed)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(compressed)?),
        Compression::None => Box::new(compressed),
        Compression::Bzip2 | Compression::Xz => {
            return Err(malformed("bzip2 and xz compression are not supported"));
        }
    };
    Ok(Box::new(LimitedReader {
        reader,
        left: MAX_UNPACKED_BYTES,
    }))
}

/// Reader that fails after a number of bytes.
struct LimitedReader<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| malformed("the decompressed archive is larger than 64 GiB"))?;
        Ok(count)
    }
}

/// An entry of an archive. Its content is read from the [`TarReader`].
#[derive(Debug)]
pub(super) struct TarEntry {
    pub(super) path: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Modification time in seconds since 1970.
    pub(super) modified: u64,
    pub(super) size: u64,
}

/// Reader of the entries of an archive.
pub(super) struct TarReader<R> {
    reader: R,
    /// Remaining content of the current entry, in bytes.
    left: u64,
    /// Padding after the content, in bytes.
    padding: u64,
}

/// Fields of an entry from GNU long names and PAX records.
#[derive(Default)]
struct EntryExtensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<u64>,
    size: Option<u64>,
    /// True if the entry is a sparse file in GNU's PAX format.
    is_sparse: bool,
}

impl<R: Read> TarReader<R> {
    /// Returns a reader of an uncompressed archive.
    pub(super) fn new(reader: R) -> TarReader<R> {
        TarReader {
            reader,
            left: 0,
            padding: 0,
        }
    }

    /// Returns the next entry, or `None` at the end of the archive.
    pub(super) fn next(&mut self) -> io::Result<Option<TarEntry>> {
        let mut extensions = EntryExtensions::default();
        loop {
            self.skip(self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? || block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let sum: u32 = block
                .iter()
                .enumerate()
                .map(|(at, byte)| {
                    if (148..156).contains(&at) {
                        32
                    } else {
                        u32::from(*byte)
                    }
                })
                .sum();
            if header.cksum()? != sum {
                return Err(malformed("the checksum of a header is wrong"));
            }
            let kind = header.entry_type();
            let is_record = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            // Blank fields count as zero.
            let number = |field: std::ops::Range<usize>, parsed: io::Result<u64>| {
                if block[field].iter().all(|byte| matches!(byte, 0 | b' ')) {
                    Ok(0)
                } else {
                    parsed
                }
            };
            let size = extensions
                .size
                .filter(|_| !is_record)
                .map_or_else(|| number(124..136, header.entry_size()), Ok)?;
            self.left = size;
            self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
            if is_record {
                let record = self.record(size)?;
                if kind.is_gnu_longname() {
                    extensions.path = Some(until_nul(record));
                } else if kind.is_gnu_longlink() {
                    extensions.target = Some(until_nul(record));
                } else if kind.is_pax_local_extensions() {
                    read_pax(&record, &mut extensions)?;
                }
                continue;
            }
            if kind.is_gnu_sparse() {
                self.skip_sparse_maps(&block)?;
            }
            return Ok(Some(TarEntry {
                path: extensions
                    .path
                    .unwrap_or_else(|| header.path_bytes().into_owned()),
                target: extensions
                    .target
                    .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                    .unwrap_or_default(),
                kind: if extensions.is_sparse {
                    EntryType::GNUSparse
                } else {
                    kind
                },
                mode: header.mode().unwrap_or(0) & 0o7777,
                uid: extensions
                    .uid
                    .map_or_else(|| number(108..116, header.uid()), Ok)?,
                gid: extensions
                    .gid
                    .map_or_else(|| number(116..124, header.gid()), Ok)?,
                modified: extensions
                    .modified
                    .map_or_else(|| number(136..148, header.mtime()), Ok)?,
                size,
            }));
        }
    }

    /// Reads a block. Returns false at the end of the file, because some archives lack an end
    /// marker.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(malformed("the archive ends within a header")),
                count => filled += count,
            }
        }
        Ok(true)
    }

    /// Reads the content of a long name or PAX header.
    fn record(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_RECORD_BYTES {
            return Err(malformed("a name or a record is larger than 1 MiB"));
        }
        let mut record = Vec::new();
        Read::take(&mut *self, size).read_to_end(&mut record)?;
        Ok(record)
    }

    /// Skips the additional blocks of the sparse map in GNU's old format.
    fn skip_sparse_maps(&mut self, header: &[u8; BLOCK]) -> io::Result<()> {
        let mut is_continued = header[482] != 0;
        while is_continued {
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? {
                return Err(malformed("the archive ends within a sparse file"));
            }
            is_continued = block[504] != 0;
        }
        Ok(())
    }

    /// Skips `count` bytes.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut Read::take(&mut self.reader, count), &mut io::sink())?;
        if skipped == count {
            Ok(())
        } else {
            Err(malformed("the archive ends within a file"))
        }
    }

    /// Reads all bytes after the archive.
    pub(super) fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..limit])?;
        if count == 0 && limit > 0 {
            return Err(malformed("the archive ends within a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Returns the bytes before the first NUL.
fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Parses records of the form `LENGTH KEY=VALUE\n` (POSIX, "pax Extended Header").
fn read_pax(mut records: &[u8], extensions: &mut EntryExtensions) -> io::Result<()> {
    let invalid = || malformed("a PAX record is malformed");
    while !records.is_empty() {
        let space = records
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(invalid)?;
        let length: usize = std::str::from_utf8(&records[..space])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(invalid)?;
        let record = records
            .get(space + 1..length)
            .and_then(|record| record.strip_suffix(b"\n"))
            .ok_or_else(invalid)?;
        records = &records[length..];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(invalid)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let number = || {
            std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.split('.').next()?.parse::<u64>().ok())
        };
        match key {
            b"path" => extensions.path = Some(value.to_vec()),
            b"linkpath" => extensions.target = Some(value.to_vec()),
            b"uid" => extensions.uid = Some(number().ok_or_else(invalid)?),
            b"gid" => extensions.gid = Some(number().ok_or_else(invalid)?),
            // Times before 1970 are set to 1970.
            b"mtime" => extensions.modified = Some(number().unwrap_or(0)),
            b"size" => extensions.size = Some(number().ok_or_else(invalid)?),
            b"GNU.sparse.name" => {
                (extensions.path, extensions.is_sparse) = (Some(value.to_vec()), true);
            }
            _ if key.starts_with(b"GNU.sparse.") => extensions.is_sparse = true,
            _ => {}
        }
    }
    Ok(())
}

/// Returns the error for a malformed or unsupported archive.
pub(super) fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(bytes: &[u8]) -> io::Result<Vec<(String, u64)>> {
        let mut reader = TarReader::new(bytes);
        let mut paths = Vec::new();
        while let Some(entry) = reader.next()? {
            paths.push((
                String::from_utf8_lossy(&entry.path).into_owned(),
                entry.size,
            ));
        }
        Ok(paths)
    }

    fn archive() -> tar::Builder<Vec<u8>> {
        tar::Builder::new(Vec::new())
    }

    fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, path, content)
            .expect("an entry");
    }

    #[test]
    fn next_reads_long_names_and_pax_records() {
        let long = "d/".repeat(200) + "file";
        let mut archive = archive();
        add(&mut archive, &long, b"one");
        archive
            .append_pax_extensions([("path", "other/name".as_bytes()), ("uid", b"70000")])
            .expect("records");
        add(&mut archive, "short", &[7; 1000]);
        add(&mut archive, "last", b"");
        let bytes = archive.into_inner().expect("an archive");
        assert_eq!(
            paths(&bytes).expect("entries"),
            [
                (long, 3),
                ("other/name".to_owned(), 1000),
                ("last".to_owned(), 0)
            ]
        );
    }

    #[test]
    fn next_recognises_sparse_files() {
        let mut archive = archive();
        archive
            .append_pax_extensions([
                ("GNU.sparse.name", &b"real"[..]),
                ("GNU.sparse.major", b"1"),
            ])
            .expect("records");
        add(&mut archive, "GNUSparseFile.0/real", b"1\n0\n");
        let bytes = archive.into_inner().expect("an archive");
        let entry = TarReader::new(&bytes[..])
            .next()
            .expect("an answer")
            .expect("an entry");
        assert_eq!(
            (entry.path, entry.kind),
            (b"real".to_vec(), EntryType::GNUSparse)
        );
    }

    #[test]
    fn next_limits_the_size_of_records() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = paths(header.as_bytes()).expect_err("too large");
        assert_eq!(error.to_string(), "a name or a record is larger than 1 MiB");
    }

    #[test]
    fn next_rejects_truncated_archives() {
        let mut archive = archive();
        add(&mut archive, "a", &[1; 5000]);
        let bytes = archive.into_inner().expect("an archive");
        for length in [100, 600, 3000] {
            assert!(paths(&bytes[..length]).is_err(), "{length}");
        }
        let mut wrong = bytes;
        wrong[0] ^= 1;
        assert_eq!(
            paths(&wrong).expect_err("refused").to_string(),
            "the checksum of a header is wrong"
        );
    }

    #[test]
    fn decompressed_detects_the_compression() {
        let compressed = zstd::encode_all(&b"hello"[..], 1).expect("zstd");
        let mut text = String::new();
        decompressed(&compressed[..])
            .and_then(|mut reader| reader.read_to_string(&mut text))
            .expect("hello");
        assert_eq!(text, "hello");
        assert!(decompressed(&b"BZh9"[..]).is_err() && decompressed(&b"\xfd7zXZ\0"[..]).is_err());
    }

    proptest! {
        #[test]
        fn next_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000), size in any::<u64>(), kind in any::<u8>()) {
            let mut header = Header::new_gnu();
            header.set_size(size);
            header.set_entry_type(EntryType::new(kind));
            header.set_cksum();
            let _ = paths(&[header.as_bytes(), &bytes[..]].concat());
        }
    }
}
