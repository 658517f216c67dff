//! Unpacking of archives by `ADD`.
//!
//! Archives are untrusted. Their files stay in the destination directory, except through symbolic
//! links that the image itself has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::file_tree::{LinkHandling, TreeError, TreeNode, join};
use super::layer_plan::{
    EntryKind, LayerDraft, LayerEntry, LayerFileContent, Owner, PlanError, Spool,
};
use super::tar_reader::{Compression, TarEntry, TarReader, decompressed, malformed};
use crate::model::text::excerpt;

/// Maximum number of entries in an archive.
const MAX_ENTRIES: usize = 500_000;

/// An archive whose files have been unpacked to a temporary file.
pub(super) struct UnpackedArchive {
    entries: Vec<ArchiveEntry>,
}

/// An entry of an archive.
struct ArchiveEntry {
    /// Components of its path.
    parts: Vec<String>,
    entry: LayerEntry,
}

/// Unpacks `file`. `None` if it is not an archive and must be copied unchanged.
///
/// Modification times after `latest` (in seconds since 1970) are set to `latest`.
///
/// # Errors
/// Fails for archives that are malformed, too large, or compressed with bzip2 or xz.
pub(super) fn unpack(mut file: File, latest: u64) -> io::Result<Option<UnpackedArchive>> {
    let mut start = Vec::new();
    Read::take(&mut file, 512).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    match Compression::of(&start) {
        // Docker unpacks these formats, so copying them unchanged would be unexpected.
        Compression::Bzip2 | Compression::Xz => {
            return Err(malformed("bzip2 and xz compression are not supported"));
        }
        Compression::None if !is_tar(&start) => return Ok(None),
        Compression::Gzip | Compression::Zstd => {
            let mut header = Vec::new();
            // A compressed file that is not an archive is copied unchanged.
            let read = decompressed(BufReader::new(file.try_clone()?))
                .and_then(|reader| reader.take(512).read_to_end(&mut header));
            if read.is_err() || !is_tar(&header) {
                return Ok(None);
            }
            file.seek(SeekFrom::Start(0))?;
        }
        Compression::None => {}
    }
    read(
        TarReader::new(decompressed(BufReader::with_capacity(64 * 1024, file))?),
        latest,
    )
    .map(Some)
}

/// Returns true if a file starts with a valid header of a tar archive.
fn is_tar(start: &[u8]) -> bool {
    start.len() == 512
        && start.iter().any(|byte| *byte != 0)
        && matches!(TarReader::new(start).next(), Ok(Some(_)))
}

/// Unpacks all entries.
fn read(mut archive: TarReader<impl Read>, latest: u64) -> io::Result<UnpackedArchive> {
    let mut spool = tempfile::tempfile()?;
    let shared = Spool(Arc::new(spool.try_clone()?));
    let mut entries: Vec<ArchiveEntry> = Vec::new();
    // Index of each file, for hard links to it.
    let mut files: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let mut offset = 0;
    while let Some(entry) = archive.next()? {
        let parts = parts(&entry.path)?;
        let shown = || excerpt(&parts.join("/"), 120);
        let refused = |problem: &str| Err(malformed(&format!("`{}` {problem}", shown())));
        if parts.is_empty() {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return refused("exceeds the limit of entries");
        }
        let TarEntry {
            kind,
            mode,
            uid,
            gid,
            modified,
            size,
            target,
            ..
        } = entry;
        let kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            match String::from_utf8(target) {
                Ok(target) => EntryKind::Link(target),
                Err(_) => return refused("is a link to a name that is not UTF-8"),
            }
        } else if kind.is_hard_link() {
            let first = files
                .get(&self::parts(&target)?)
                .map(|at| entries[*at].entry.kind.clone());
            match first {
                Some(kind) => kind,
                None => return refused("is a hard link to a file that is not in the archive"),
            }
        } else if kind.is_file() || kind.is_contiguous() {
            io::copy(&mut Read::take(&mut archive, size), &mut spool)?;
            let content = LayerFileContent::Spooled {
                spool: shared.clone(),
                number: entries.len(),
                offset,
                size,
            };
            offset += size;
            EntryKind::File(content)
        } else {
            return refused("is a device, a pipe or another unsupported type");
        };
        match kind {
            EntryKind::File(_) => drop(files.insert(parts.clone(), entries.len())),
            _ => drop(files.remove(&parts)),
        }
        let entry = LayerEntry {
            kind,
            mode,
            uid,
            gid,
            modified: modified.min(latest),
        };
        entries.push(ArchiveEntry { parts, entry });
    }
    Ok(UnpackedArchive { entries })
}

/// Returns the components of a path in an archive. A leading `/` is ignored.
fn parts(path: &[u8]) -> io::Result<Vec<String>> {
    let path =
        std::str::from_utf8(path).map_err(|_| malformed("the name of an entry is not UTF-8"))?;
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .map(str::to_owned)
        .collect();
    if parts.iter().any(|part| part == "..") {
        return Err(malformed(&format!(
            "`{}` is outside of the archive",
            excerpt(path, 120)
        )));
    }
    Ok(parts)
}

impl UnpackedArchive {
    /// Adds all entries to `directory`, which must exist and be resolved.
    ///
    /// `owner` replaces the owners in the archive.
    pub(super) fn add_to(
        &self,
        draft: &mut LayerDraft<'_>,
        directory: &str,
        owner: Option<Owner>,
    ) -> Result<(), PlanError> {
        // Final paths of the links in the archive. No other entry may be added through them.
        let mut links: BTreeSet<String> = BTreeSet::new();
        for ArchiveEntry { parts, entry } in &self.entries {
            let Some((name, parents)) = parts.split_last() else {
                continue;
            };
            let mut parent = directory.to_owned();
            for part in parents {
                let next = join(&parent, part);
                if links.contains(&next) {
                    return Err(TreeError::NotADirectory(next).into());
                }
                parent = match draft.tree.get(&next) {
                    Some(TreeNode::Link(_)) => draft.tree.resolve(&next, LinkHandling::Follow)?,
                    _ => next,
                };
            }
            draft.ensure_directory(&parent, owner.unwrap_or_default())?;
            let path = join(&parent, name);
            let mut entry = entry.clone();
            if let Some(owner) = owner {
                (entry.uid, entry.gid) = (owner.uid, owner.gid);
            }
            match &entry.kind {
                EntryKind::Directory if links.contains(&path) => {
                    return Err(TreeError::NotADirectory(path).into());
                }
                EntryKind::Link(_) => drop(links.insert(path.clone())),
                EntryKind::File(_) => drop(links.remove(&path)),
                EntryKind::Directory => {}
            }
            draft.add(&path, entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, EntryType, Header};

    use super::*;
    use crate::engines::native::file_tree::FileTree;
    use crate::engines::native::layer_plan::LayerPlan;

    fn tar(entries: &[(&str, EntryType, &str)]) -> File {
        let mut archive = Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = Header::new_old();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_uid(5);
            header.set_mtime(900);
            header.set_size(if kind.is_file() {
                content.len() as u64
            } else {
                0
            });
            // Set directly, because the methods of the crate reject hostile names.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            if !kind.is_file() {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_cksum();
            archive
                .append(
                    &header,
                    if kind.is_file() {
                        content.as_bytes()
                    } else {
                        b""
                    },
                )
                .expect("an entry");
        }
        file(&archive.into_inner().expect("an archive"))
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .expect("written");
        file
    }

    fn placed(entries: &[(&str, EntryType, &str)]) -> Result<LayerPlan, String> {
        let archive = unpack(tar(entries), 500)
            .map_err(|error| error.to_string())?
            .expect("an archive");
        let mut tree = FileTree::default();
        let attributes = crate::engines::native::file_tree::Attributes {
            mode: 0o700,
            uid: 0,
            gid: 0,
        };
        for (path, node) in [
            ("usr", TreeNode::Directory(attributes)),
            ("usr/bin", TreeNode::Directory(attributes)),
            ("bin", TreeNode::Link("usr/bin".to_owned())),
        ] {
            tree.put(path, node);
        }
        let mut draft = LayerDraft {
            tree: &mut tree,
            plan: LayerPlan::default(),
            modified: 1,
        };
        archive
            .add_to(&mut draft, "", None)
            .map_err(|error| error.to_string())?;
        Ok(draft.plan)
    }

    #[test]
    fn unpack_follows_links_of_the_image() {
        let plan = placed(&[
            ("./", EntryType::Directory, ""),
            ("./bin/", EntryType::Directory, ""),
            ("/bin/tool", EntryType::Regular, "tool"),
            ("bin/other", EntryType::Link, "bin/tool"),
            ("etc/link", EntryType::Symlink, "../../outside"),
        ])
        .expect("a plan");
        let paths: Vec<&str> = plan.entries.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "etc",
                "etc/link",
                "usr",
                "usr/bin",
                "usr/bin/other",
                "usr/bin/tool"
            ]
        );
        let tool = &plan.entries["usr/bin/tool"];
        assert_eq!((tool.mode, tool.uid, tool.modified), (0o4755, 5, 500));
        assert_eq!(tool.kind, plan.entries["usr/bin/other"].kind);
        assert_eq!(
            plan.entries["usr/bin"].mode, 0o700,
            "an existing link is followed, not replaced"
        );
    }

    #[test]
    fn unpack_rejects_hostile_archives() {
        for (entries, message) in [
            (
                &[("../x", EntryType::Regular, "")][..],
                "`../x` is outside of the archive",
            ),
            (
                &[("a/../../x", EntryType::Regular, "")],
                "`a/../../x` is outside of the archive",
            ),
            (
                &[
                    ("l", EntryType::Symlink, "/etc"),
                    ("l/passwd", EntryType::Regular, "x"),
                ],
                "`/l` is not a directory in the image",
            ),
            (
                &[
                    ("l", EntryType::Symlink, "usr"),
                    ("l/", EntryType::Directory, ""),
                ],
                "`/l` is not a directory in the image",
            ),
            (
                &[("h", EntryType::Link, "/etc/shadow")],
                "`h` is a hard link to a file that is not in the archive",
            ),
            (
                &[("h", EntryType::Link, "../x")],
                "`../x` is outside of the archive",
            ),
            (
                &[("null", EntryType::Char, "")],
                "`null` is a device, a pipe or another unsupported type",
            ),
            (
                &[("d/.wh.x", EntryType::Regular, "")],
                "`d/.wh.x` has a name that marks a deleted file in layers",
            ),
        ] {
            assert_eq!(placed(entries).expect_err(message), message);
        }
    }

    #[test]
    fn unpack_returns_none_for_other_files() {
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder
                .write_all(bytes)
                .and_then(|()| encoder.finish())
                .expect("gzip")
        };
        for bytes in [
            b"text".to_vec(),
            vec![0; 2000],
            vec![b'x'; 2000],
            gzip(b"text"),
            b"\x1f\x8bno".to_vec(),
        ] {
            assert!(unpack(file(&bytes), 0).expect("no error").is_none());
        }
        assert!(unpack(file(b"BZh91AY"), 0).is_err());
    }
}
