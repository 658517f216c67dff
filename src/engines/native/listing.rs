//! Listings of base layers. Each layer is read once; its listing is cached by digest.

use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::file_tree::{Attributes, LayerChange, LayerListing, TreeNode};
use super::tar_reader::{TarReader, decompressed, malformed};
use crate::cache::Cache;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Repository};
use crate::registry::{ImageSource, verified};

/// Name of the cache. Change it if the format of listings changes.
const CACHE_NAME: &str = "layer-listings-1";

/// Maximum number of entries in a layer.
const MAX_ENTRIES: usize = 1_000_000;

/// Maximum total length of the names in a layer, in bytes.
const MAX_TOTAL_BYTES: usize = 128 * 1024 * 1024;

/// Maximum size of a decompressed listing in the cache, in bytes.
const MAX_LISTING_BYTES: u64 = 512 * 1024 * 1024;

/// Maximum size of `/etc/passwd` and `/etc/group`, in bytes.
const MAX_USERS_BYTES: u64 = 1024 * 1024;

/// Returns the listing of a layer in `repository`, from the cache if possible.
pub(super) async fn listing(
    store: &dyn ImageSource,
    cache: &Cache,
    repository: &Repository,
    layer: &Descriptor,
) -> Result<LayerListing, ItemError> {
    if let Some(listing) = cached(cache, layer) {
        return Ok(listing);
    }
    let store_name = repository
        .host()
        .map_or_else(|| repository.to_string(), ToString::to_string);
    let stream = verified(store.blob(repository, layer, 0).await?, layer, store_name);
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
        cache.put_bytes(CACHE_NAME, layer.digest.as_str(), &packed);
    }
    Ok(listing)
}

/// Returns a listing from the cache.
fn cached(cache: &Cache, layer: &Descriptor) -> Option<LayerListing> {
    let packed = cache.get_bytes(CACHE_NAME, layer.digest.as_str())?;
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..])
        .take(MAX_LISTING_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns a listing in the compressed format of the cache.
fn packed(listing: &LayerListing) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&serde_json::to_vec(listing).ok()?).ok()?;
    encoder.finish().ok()
}

/// Reads a layer, which may be compressed with gzip or zstd, to its end and returns its listing.
fn read(layer: impl io::BufRead + Send) -> io::Result<LayerListing> {
    let mut archive = TarReader::new(decompressed(layer)?);
    let mut listing = LayerListing::default();
    let mut text = 0;
    while let Some(entry) = archive.next()? {
        // A Dockerfile cannot refer to names that are not UTF-8.
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
            return Err(malformed("the path of an entry is outside of the layer"));
        }
        let change = match name.strip_prefix(".wh.") {
            Some(".wh..opq") => (directory.join("/"), LayerChange::Clear),
            // Other markers of union file systems.
            Some(hidden) if hidden.starts_with(".wh.") => continue,
            Some(removed) => (
                directory
                    .iter()
                    .copied()
                    .chain([removed])
                    .collect::<Vec<_>>()
                    .join("/"),
                LayerChange::Delete,
            ),
            None => {
                let path = parts.join("/");
                let node = if entry.kind.is_dir() {
                    TreeNode::Directory(Attributes {
                        mode: entry.mode,
                        uid: entry.uid,
                        gid: entry.gid,
                    })
                } else if entry.kind.is_symlink() {
                    let Ok(target) = String::from_utf8(entry.target) else {
                        continue;
                    };
                    TreeNode::Link(target)
                } else {
                    let users = match path.as_str() {
                        "etc/passwd" => Some(&mut listing.passwd),
                        "etc/group" => Some(&mut listing.group),
                        _ => None,
                    };
                    if let Some(users) =
                        users.filter(|_| entry.kind.is_file() && entry.size <= MAX_USERS_BYTES)
                    {
                        let mut bytes = Vec::new();
                        Read::take(&mut archive, entry.size).read_to_end(&mut bytes)?;
                        *users = Some(String::from_utf8_lossy(&bytes).into_owned());
                    }
                    TreeNode::File
                };
                (path, LayerChange::Put(node))
            }
        };
        text += change.0.len()
            + if let LayerChange::Put(TreeNode::Link(target)) = &change.1 {
                target.len()
            } else {
                0
            };
        if listing.changes.len() == MAX_ENTRIES || text > MAX_TOTAL_BYTES {
            return Err(malformed("the layer has too many files"));
        }
        listing.changes.push(change);
    }
    // Read to the end, so that the digest is verified.
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
    fn read_lists_layers_of_each_compression() {
        let tar = layer(&[
            ("./tmp/", EntryType::Directory, ""),
            ("bin", EntryType::Symlink, "usr/bin"),
            ("etc/passwd", EntryType::Regular, "root:x:0:0::/:/bin/sh\n"),
            ("etc/.wh.shadow", EntryType::Regular, ""),
            ("opt/.wh..wh..opq", EntryType::Regular, ""),
            ("dev/null", EntryType::Char, ""),
        ]);
        let expected = LayerListing {
            changes: [
                (
                    "tmp",
                    LayerChange::Put(TreeNode::Directory(Attributes {
                        mode: 0o1777,
                        uid: 7,
                        gid: 8,
                    })),
                ),
                (
                    "bin",
                    LayerChange::Put(TreeNode::Link("usr/bin".to_owned())),
                ),
                ("etc/passwd", LayerChange::Put(TreeNode::File)),
                ("etc/shadow", LayerChange::Delete),
                ("opt", LayerChange::Clear),
                ("dev/null", LayerChange::Put(TreeNode::File)),
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
        let compressed = packed(&expected).expect("packed");
        let mut text = String::new();
        GzDecoder::new(&compressed[..])
            .read_to_string(&mut text)
            .expect("text");
        assert_eq!(
            serde_json::from_str::<LayerListing>(&text).expect("a listing"),
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
        // Seeds must be text, which the archive is.
        let plain = String::from_utf8(plain).expect("text");
        let checked = |bytes: &[u8]| {
            let Ok(listing) = read(bytes) else { return };
            let mut tree = super::super::file_tree::FileTree::default();
            tree.apply(&listing);
            for path in ["bin/sh", "../../etc/passwd", "etc/passwd/x", "var/x"] {
                drop(tree.resolve(path, super::super::file_tree::LinkHandling::Follow));
            }
            for who in ["app", "app:staff", "0:7", "none"] {
                drop(super::super::users::owner(who, &tree));
            }
        };
        crate::model::fuzz_tests::fuzz("layers", &[&plain], |input| {
            checked(input);
            // With valid checksums, more of the input is read.
            let mut with_checksums = input.to_vec();
            for block in with_checksums.chunks_exact_mut(512) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            checked(&with_checksums);
        });
        let position = std::cell::Cell::new(0);
        crate::model::fuzz_tests::fuzz("packed layers", &["a", "bcd"], |input| {
            let mut changed = packed.clone();
            let at = position.replace(position.get() + 7) % changed.len();
            changed.truncate(changed.len() - input.len() % 16);
            for (byte, other) in changed.iter_mut().skip(at).zip(input) {
                *byte ^= other;
            }
            checked(&changed);
            drop(serde_json::from_slice::<LayerListing>(input));
        });
    }
}
