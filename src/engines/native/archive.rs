//! Archives that `ADD` unpacks.
//!
//! They are strangers' work: nothing of them leaves the directory they are unpacked to, but by the
//! links that the image itself has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::plan::{Content, Drafting, Entry, Kind, Owner, PlanError, Spool};
use super::tar_reader::{Packing, TarEntry, TarReader, malformed, unpacked};
use super::tree::{Last, Node, TreeError, join};
use crate::model::text::excerpt;

/// The most entries of an archive.
const MOST_ENTRIES: usize = 500_000;

/// An archive that was unpacked to a temporary file.
pub(super) struct Archive {
    entries: Vec<Unpacked>,
}

struct Unpacked {
    /// The parts of its path.
    parts: Vec<String>,
    entry: Entry,
}

/// Unpacks `file`; `None` when it is no archive, and is copied as it is.
pub(super) fn unpack(mut file: File, latest: u64) -> io::Result<Option<Archive>> {
    let mut start = Vec::new();
    Read::take(&mut file, 512).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    match Packing::of(&start) {
        // Docker unpacks these, so to copy them would be a surprise.
        Packing::Bzip2 | Packing::Xz => return Err(malformed("it is packed by bzip2 or xz")),
        Packing::None if !is_tar(&start) => return Ok(None),
        Packing::Gzip | Packing::Zstd => {
            let mut header = Vec::new();
            // A packed file that is no archive is copied as it is.
            let read = unpacked(BufReader::new(file.try_clone()?))
                .and_then(|reader| reader.take(512).read_to_end(&mut header));
            if read.is_err() || !is_tar(&header) {
                return Ok(None);
            }
            file.seek(SeekFrom::Start(0))?;
        }
        Packing::None => {}
    }
    read(
        TarReader::new(unpacked(BufReader::with_capacity(64 * 1024, file))?),
        latest,
    )
    .map(Some)
}

/// Returns whether a file begins with the header of an archive, by its mark or, where it has none,
/// its checksum.
fn is_tar(start: &[u8]) -> bool {
    start.len() == 512
        && start.iter().any(|byte| *byte != 0)
        && matches!(TarReader::new(start).next(), Ok(Some(_)))
}

fn read(mut archive: TarReader<impl Read>, latest: u64) -> io::Result<Archive> {
    let mut spool = tempfile::tempfile()?;
    let shared = Spool(Arc::new(spool.try_clone()?));
    let mut entries: Vec<Unpacked> = Vec::new();
    // Where files are that other names can be given.
    let mut files: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let mut offset = 0;
    while let Some(entry) = archive.next()? {
        let parts = parts(&entry.path)?;
        let shown = || excerpt(&parts.join("/"), 120);
        let refused = |problem: &str| Err(malformed(&format!("`{}` {problem}", shown())));
        if parts.is_empty() {
            continue;
        }
        if entries.len() == MOST_ENTRIES {
            return refused("is one file too many");
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
            Kind::Directory
        } else if kind.is_symlink() {
            match String::from_utf8(target) {
                Ok(target) => Kind::Link(target),
                Err(_) => return refused("is a link to a name that is no text in UTF-8"),
            }
        } else if kind.is_hard_link() {
            let first = files
                .get(&self::parts(&target)?)
                .map(|at| entries[*at].entry.kind.clone());
            match first {
                Some(kind) => kind,
                None => return refused("is another name for something that is not in the archive"),
            }
        } else if kind.is_file() || kind.is_contiguous() {
            io::copy(&mut Read::take(&mut archive, size), &mut spool)?;
            let content = Content::Spooled {
                spool: shared.clone(),
                number: entries.len(),
                offset,
                size,
            };
            offset += size;
            Kind::File(content)
        } else {
            return refused("is a device, a pipe or something else that is not unpacked");
        };
        match kind {
            Kind::File(_) => drop(files.insert(parts.clone(), entries.len())),
            _ => drop(files.remove(&parts)),
        }
        let entry = Entry {
            kind,
            mode,
            uid,
            gid,
            modified: modified.min(latest),
        };
        entries.push(Unpacked { parts, entry });
    }
    Ok(Archive { entries })
}

/// Returns the parts of a path in an archive, which `/` in front does not make absolute.
fn parts(path: &[u8]) -> io::Result<Vec<String>> {
    let path =
        std::str::from_utf8(path).map_err(|_| malformed("a name in it is no text in UTF-8"))?;
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .map(str::to_owned)
        .collect();
    if parts.iter().any(|part| part == "..") {
        return Err(malformed(&format!(
            "`{}` leads out of it",
            excerpt(path, 120)
        )));
    }
    Ok(parts)
}

impl Archive {
    /// Puts what is in the archive into `directory`, which is resolved and there.
    pub(super) fn place(
        &self,
        drafting: &mut Drafting<'_>,
        directory: &str,
        owner: Option<Owner>,
    ) -> Result<(), PlanError> {
        // Links of the archive, by where they came to be: nothing of it goes through one of them.
        let mut links: BTreeSet<String> = BTreeSet::new();
        for Unpacked { parts, entry } in &self.entries {
            let Some((name, way)) = parts.split_last() else {
                continue;
            };
            let mut parent = directory.to_owned();
            for part in way {
                let next = join(&parent, part);
                if links.contains(&next) {
                    return Err(TreeError::NoDirectory(next).into());
                }
                parent = match drafting.tree.get(&next) {
                    Some(Node::Link(_)) => drafting.tree.resolve(&next, Last::Followed)?,
                    _ => next,
                };
            }
            drafting.ensure_directory(&parent, owner.unwrap_or_default())?;
            let path = join(&parent, name);
            let mut entry = entry.clone();
            if let Some(owner) = owner {
                (entry.uid, entry.gid) = (owner.uid, owner.gid);
            }
            match &entry.kind {
                Kind::Directory if links.contains(&path) => {
                    return Err(TreeError::NoDirectory(path).into());
                }
                Kind::Link(_) => drop(links.insert(path.clone())),
                Kind::File(_) => drop(links.remove(&path)),
                Kind::Directory => {}
            }
            drafting.place(&path, entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, EntryType, Header};

    use super::*;
    use crate::engines::native::plan::Plan;
    use crate::engines::native::tree::Tree;

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
            // Not by the checked methods: they refuse what is tried here.
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

    fn placed(entries: &[(&str, EntryType, &str)]) -> Result<Plan, String> {
        let archive = unpack(tar(entries), 500)
            .map_err(|error| error.to_string())?
            .expect("an archive");
        let mut tree = Tree::default();
        let attributes = crate::engines::native::tree::Attributes {
            mode: 0o700,
            uid: 0,
            gid: 0,
        };
        for (path, node) in [
            ("usr", Node::Directory(attributes)),
            ("usr/bin", Node::Directory(attributes)),
            ("bin", Node::Link("usr/bin".to_owned())),
        ] {
            tree.put(path, node);
        }
        let mut drafting = Drafting {
            tree: &mut tree,
            plan: Plan::default(),
            modified: 1,
        };
        archive
            .place(&mut drafting, "", None)
            .map_err(|error| error.to_string())?;
        Ok(drafting.plan)
    }

    #[test]
    fn archives_are_unpacked_through_the_links_of_the_image() {
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
            "a link that is there is gone through, not replaced"
        );
    }

    #[test]
    fn hostile_archives_are_refused() {
        for (entries, message) in [
            (
                &[("../x", EntryType::Regular, "")][..],
                "`../x` leads out of it",
            ),
            (
                &[("a/../../x", EntryType::Regular, "")],
                "`a/../../x` leads out of it",
            ),
            (
                &[
                    ("l", EntryType::Symlink, "/etc"),
                    ("l/passwd", EntryType::Regular, "x"),
                ],
                "`/l` is no directory in the image",
            ),
            (
                &[
                    ("l", EntryType::Symlink, "usr"),
                    ("l/", EntryType::Directory, ""),
                ],
                "`/l` is no directory in the image",
            ),
            (
                &[("h", EntryType::Link, "/etc/shadow")],
                "`h` is another name for something that is not in the archive",
            ),
            (&[("h", EntryType::Link, "../x")], "`../x` leads out of it"),
            (
                &[("null", EntryType::Char, "")],
                "`null` is a device, a pipe or something else that is not unpacked",
            ),
            (
                &[("d/.wh.x", EntryType::Regular, "")],
                "`d/.wh.x` is a name that means a removed file in a layer",
            ),
        ] {
            assert_eq!(placed(entries).expect_err(message), message);
        }
    }

    #[test]
    fn what_is_no_archive_is_told() {
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
