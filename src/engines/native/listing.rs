//! What is in the layers of a base: read once for each layer, and cached by its digest.

use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::tar_reader::{TarReader, malformed, unpacked};
use super::tree::{Attributes, Change, Listing, Node};
use crate::cache::Cache;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Repository};
use crate::registry::{ImageSource, verified};

/// What the cache calls them; another name makes them anew.
const KIND: &str = "layer-listings-1";

/// The most entries of a layer.
const MOST_ENTRIES: usize = 1_000_000;

/// The most text that the names in a layer may have, in bytes.
const MOST_TEXT: usize = 128 * 1024 * 1024;

/// The most that an unpacked listing in the cache may have, in bytes.
const LARGEST_LISTING: u64 = 512 * 1024 * 1024;

/// The longest file of users or groups that is read, in bytes.
const LONGEST_USERS: u64 = 1024 * 1024;

/// Returns the listing of a layer of `repository`.
pub(super) async fn listing(
    store: &dyn ImageSource,
    cache: &Cache,
    repository: &Repository,
    layer: &Descriptor,
) -> Result<Listing, ItemError> {
    if let Some(listing) = cached(cache, layer) {
        return Ok(listing);
    }
    let place = repository
        .host()
        .map_or_else(|| repository.to_string(), ToString::to_string);
    let stream = verified(store.blob(repository, layer, 0).await?, layer, place);
    let reader = StreamReader::new(stream.map_err(io::Error::other));
    let reader = SyncIoBridge::new(reader);
    let read =
        tokio::task::spawn_blocking(move || read(BufReader::with_capacity(64 * 1024, reader)))
            .await;
    let unreadable = |error: io::Error| match error.downcast::<ItemError>() {
        Ok(error) => error,
        Err(error) => {
            let action = format!("list the layer {} of {repository}", layer.digest.short());
            ItemError::at(
                repository,
                action,
                ItemErrorKind::Malformed,
                error.to_string(),
            )
        }
    };
    let listing = read
        .map_err(io::Error::other)
        .and_then(|listing| listing)
        .map_err(unreadable)?;
    if let Some(packed) = packed(&listing) {
        cache.put_bytes(KIND, layer.digest.as_str(), &packed);
    }
    Ok(listing)
}

fn cached(cache: &Cache, layer: &Descriptor) -> Option<Listing> {
    let packed = cache.get_bytes(KIND, layer.digest.as_str())?;
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..])
        .take(LARGEST_LISTING)
        .read_to_end(&mut bytes)
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn packed(listing: &Listing) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&serde_json::to_vec(listing).ok()?).ok()?;
    encoder.finish().ok()
}

/// Reads the listing of a layer, which is packed by gzip or zstd or not at all, to its end.
fn read(layer: impl io::BufRead + Send) -> io::Result<Listing> {
    let mut archive = TarReader::new(unpacked(layer)?);
    let mut listing = Listing::default();
    let mut text = 0;
    while let Some(entry) = archive.next()? {
        // A Dockerfile is text, so it never names what has no name in it.
        let Ok(path) = String::from_utf8(entry.path) else {
            continue;
        };
        let parts: Vec<&str> = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        let Some((name, directory)) = parts.split_last() else {
            continue;
        };
        if parts.contains(&"..") {
            return Err(malformed("a name in it leads out of it"));
        }
        let change = match name.strip_prefix(".wh.") {
            Some(".wh..opq") => (directory.join("/"), Change::Emptied),
            // Other marks of union file systems.
            Some(hidden) if hidden.starts_with(".wh.") => continue,
            Some(removed) => (
                directory
                    .iter()
                    .copied()
                    .chain([removed])
                    .collect::<Vec<_>>()
                    .join("/"),
                Change::Gone,
            ),
            None => {
                let path = parts.join("/");
                let node = if entry.kind.is_dir() {
                    Node::Directory(Attributes {
                        mode: entry.mode,
                        uid: entry.uid,
                        gid: entry.gid,
                    })
                } else if entry.kind.is_symlink() {
                    let Ok(target) = String::from_utf8(entry.target) else {
                        continue;
                    };
                    Node::Link(target)
                } else {
                    let users = match path.as_str() {
                        "etc/passwd" => Some(&mut listing.passwd),
                        "etc/group" => Some(&mut listing.group),
                        _ => None,
                    };
                    if let Some(users) =
                        users.filter(|_| entry.kind.is_file() && entry.size <= LONGEST_USERS)
                    {
                        let mut bytes = Vec::new();
                        Read::take(&mut archive, entry.size).read_to_end(&mut bytes)?;
                        *users = Some(String::from_utf8_lossy(&bytes).into_owned());
                    }
                    Node::File
                };
                (path, Change::Put(node))
            }
        };
        text += change.0.len()
            + if let Change::Put(Node::Link(target)) = &change.1 {
                target.len()
            } else {
                0
            };
        if listing.changes.len() == MOST_ENTRIES || text > MOST_TEXT {
            return Err(malformed("it has too many files"));
        }
        listing.changes.push(change);
    }
    // To the end, so that all of it is verified.
    archive.drain()?;
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};

    use super::*;

    fn layer(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o1777);
            header.set_uid(7);
            header.set_gid(8);
            if kind.is_symlink() {
                header.set_size(0);
                archive
                    .append_link(&mut header, path, content)
                    .expect("a link");
            } else {
                header.set_size(content.len() as u64);
                archive
                    .append_data(&mut header, path, content.as_bytes())
                    .expect("an entry");
            }
        }
        archive.into_inner().expect("an archive")
    }

    #[test]
    fn layers_are_listed_whatever_they_are_packed_by() {
        let tar = layer(&[
            ("./tmp/", EntryType::Directory, ""),
            ("bin", EntryType::Symlink, "usr/bin"),
            ("etc/passwd", EntryType::Regular, "root:x:0:0::/:/bin/sh\n"),
            ("etc/.wh.shadow", EntryType::Regular, ""),
            ("opt/.wh..wh..opq", EntryType::Regular, ""),
            ("dev/null", EntryType::Char, ""),
        ]);
        let expected = Listing {
            changes: [
                (
                    "tmp",
                    Change::Put(Node::Directory(Attributes {
                        mode: 0o1777,
                        uid: 7,
                        gid: 8,
                    })),
                ),
                ("bin", Change::Put(Node::Link("usr/bin".to_owned()))),
                ("etc/passwd", Change::Put(Node::File)),
                ("etc/shadow", Change::Gone),
                ("opt", Change::Emptied),
                ("dev/null", Change::Put(Node::File)),
            ]
            .map(|(path, change)| (path.to_owned(), change))
            .to_vec(),
            passwd: Some("root:x:0:0::/:/bin/sh\n".to_owned()),
            group: None,
        };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).expect("gzip");
        for bytes in [
            tar.clone(),
            gzip.finish().expect("gzip"),
            zstd::encode_all(&tar[..], 1).expect("zstd"),
        ] {
            assert_eq!(read(&bytes[..]).expect("a listing"), expected);
        }
        let kept = packed(&expected).expect("packed");
        let mut text = String::new();
        GzDecoder::new(&kept[..])
            .read_to_string(&mut text)
            .expect("text");
        assert_eq!(
            serde_json::from_str::<Listing>(&text).expect("a listing"),
            expected
        );
    }

    #[test]
    fn fuzzing_layers() {
        let files = [
            (
                "etc/passwd",
                EntryType::Regular,
                "root:x:0:0::/:/bin/sh\napp:x:100:101::/:\n",
            ),
            (
                "etc/group",
                EntryType::Regular,
                "root:x:0:\nstaff:x:50:app\n",
            ),
            ("usr/bin/", EntryType::Directory, ""),
            ("bin", EntryType::Symlink, "usr/bin"),
            ("usr/.wh.gone", EntryType::Regular, ""),
            ("var/.wh..wh..opq", EntryType::Regular, ""),
        ];
        let (plain, mut packer) = (
            layer(&files),
            GzEncoder::new(Vec::new(), Compression::fast()),
        );
        packer.write_all(&plain).expect("packed");
        let packed = packer.finish().expect("packed");
        // Seeds are text; what is in an archive is nearly that.
        let plain = String::from_utf8(plain).expect("text");
        let checked = |bytes: &[u8]| {
            let Ok(listing) = read(bytes) else { return };
            let mut tree = super::super::tree::Tree::default();
            tree.apply(&listing);
            for path in ["bin/sh", "../../etc/passwd", "etc/passwd/x", "var/x"] {
                drop(tree.resolve(path, super::super::tree::Last::Followed));
            }
            for who in ["app", "app:staff", "0:7", "none"] {
                drop(super::super::users::owner(who, &tree));
            }
        };
        crate::model::fuzz_tests::fuzz("layers", &[&plain], |input| {
            checked(input);
            // With checksums that are right, more is read.
            let mut mended = input.to_vec();
            for block in mended.chunks_exact_mut(512) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            checked(&mended);
        });
        let place = std::cell::Cell::new(0);
        crate::model::fuzz_tests::fuzz("packed layers", &["a", "bcd"], |input| {
            let mut changed = packed.clone();
            let at = place.replace(place.get() + 7) % changed.len();
            changed.truncate(changed.len() - input.len() % 16);
            for (byte, other) in changed.iter_mut().skip(at).zip(input) {
                *byte ^= other;
            }
            checked(&changed);
            drop(serde_json::from_slice::<Listing>(input));
        });
    }
}
