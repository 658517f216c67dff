//! The build context: its files, without those that `.dockerignore` excludes.
//!
//! Files outside of the context are never read. Symbolic links are only followed within it, and
//! never by the operating system while files are listed or opened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::dockerfile::patterns::{DockerIgnore, Glob, PatternError, clean};
use crate::model::text::excerpt;

/// Maximum number of entries in the build context.
const MAX_ENTRIES: usize = 500_000;

/// Maximum size of `.dockerignore`, in bytes.
const MAX_IGNORE_BYTES: u64 = 1024 * 1024;

/// Maximum number of symbolic links in the resolution of one path.
const MAX_LINKS: usize = 40;

/// An entry in the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FolderEntry {
    Directory {
        mode: u32,
    },
    File {
        mode: u32,
        size: u64,
    },
    Link {
        target: String,
    },
    /// An entry that cannot be added to an image, with the reason.
    Unsupported(&'static str),
}

/// Error of the build context.
#[derive(Debug, Error)]
pub(super) enum FolderError {
    #[error("cannot read `{}`", excerpt(.0, 120))]
    Unreadable(String, #[source] io::Error),
    #[error("`.dockerignore`: {0}")]
    Ignore(PatternError),
    #[error("the build context has more than {MAX_ENTRIES} files")]
    TooMany,
    #[error("`{}` is not in the build context, or `.dockerignore` excludes it", excerpt(.0, 120))]
    NotFound(String),
    #[error("`{}` leads out of the build context through a symbolic link", excerpt(.0, 120))]
    Outside(String),
    #[error("the symbolic links at `{}` form a loop", excerpt(.0, 120))]
    LinkLoop(String),
}

/// The build context.
pub(super) struct ContextFolder {
    root: PathBuf,
    /// Entries by path, separated by `/`.
    entries: BTreeMap<String, FolderEntry>,
}

impl ContextFolder {
    /// Lists the files in the directory `root`.
    pub(super) fn read(root: &Path) -> Result<ContextFolder, FolderError> {
        let unreadable = |error| FolderError::Unreadable(root.display().to_string(), error);
        let root = root.canonicalize().map_err(unreadable)?;
        let ignore = ignore_rules(&root)?;
        let mut all = BTreeMap::new();
        let mut directories = vec![String::new()];
        while let Some(directory) = directories.pop() {
            let shown = if directory.is_empty() {
                "."
            } else {
                &directory
            };
            let unreadable = |error| FolderError::Unreadable(shown.to_owned(), error);
            for entry in fs::read_dir(root.join(&directory)).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name();
                let path = match directory.as_str() {
                    "" => name.to_string_lossy().into_owned(),
                    directory => format!("{directory}/{}", name.to_string_lossy()),
                };
                let is_excluded = ignore.excludes(&path);
                let found = if name.to_str().is_none() {
                    FolderEntry::Unsupported("its name is not UTF-8")
                } else {
                    found(&entry).map_err(unreadable)?
                };
                if let FolderEntry::Directory { .. } = found
                    && (!is_excluded || ignore.has_exceptions())
                {
                    directories.push(path.clone());
                }
                if all.len() == MAX_ENTRIES {
                    return Err(FolderError::TooMany);
                }
                all.insert(path, (found, is_excluded));
            }
        }
        Ok(ContextFolder {
            root,
            entries: without_ignored(all),
        })
    }

    /// Returns an empty context, for Dockerfiles that copy no files.
    pub(super) fn empty() -> ContextFolder {
        ContextFolder {
            root: PathBuf::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Returns the entry at a path, or `None` if there is none.
    pub(super) fn get(&self, path: &str) -> Option<&FolderEntry> {
        const ROOT: &FolderEntry = &FolderEntry::Directory { mode: 0o755 };
        if path.is_empty() {
            Some(ROOT)
        } else {
            self.entries.get(path)
        }
    }

    /// Returns all entries below the directory `path`, sorted by path. The paths are relative to
    /// `path`.
    pub(super) fn below<'a>(
        &'a self,
        path: &str,
    ) -> impl Iterator<Item = (&'a str, &'a FolderEntry)> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let length = prefix.len();
        let start = prefix.clone();
        self.entries
            .range(start..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(move |(path, found)| (&path[length..], found))
    }

    /// Returns the paths that match a pattern.
    pub(super) fn matching(&self, pattern: &Glob) -> Vec<&str> {
        self.entries
            .keys()
            .map(String::as_str)
            .filter(|path| pattern.matches(path))
            .collect()
    }

    /// Resolves the symbolic links in `path`. The result must be inside of the context.
    pub(super) fn resolve(&self, path: &str) -> Result<String, FolderError> {
        let cleaned = clean(path);
        let mut rest: Vec<&str> = cleaned.split('/').rev().collect();
        let mut resolved = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part {
                "" | "." => continue,
                ".." if resolved.is_empty() => return Err(FolderError::Outside(path.to_owned())),
                ".." => {
                    resolved.truncate(resolved.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let parent = resolved.len();
            if !resolved.is_empty() {
                resolved.push('/');
            }
            resolved.push_str(part);
            match self.entries.get(&resolved) {
                None => return Err(FolderError::NotFound(path.to_owned())),
                Some(FolderEntry::Link { target }) => {
                    links += 1;
                    if target.starts_with('/') {
                        return Err(FolderError::Outside(path.to_owned()));
                    }
                    if links > MAX_LINKS {
                        return Err(FolderError::LinkLoop(path.to_owned()));
                    }
                    resolved.truncate(parent);
                    rest.extend(target.split('/').rev());
                }
                Some(_) => {}
            }
        }
        Ok(resolved)
    }

    /// Returns the path of a file on disk.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// Opens a regular file. Fails if a symbolic link has replaced it in the meantime.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = File::options()
        .read(true)
        .custom_flags(no_follow)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file any more"))
    }
}

/// Returns the type of a directory entry.
fn found(entry: &fs::DirEntry) -> io::Result<FolderEntry> {
    let metadata = entry.metadata()?;
    let kind = metadata.file_type();
    let mode = metadata.mode() & 0o7777;
    Ok(if kind.is_dir() {
        FolderEntry::Directory { mode }
    } else if kind.is_file() {
        FolderEntry::File {
            mode,
            size: metadata.len(),
        }
    } else if kind.is_symlink() {
        match fs::read_link(entry.path())?.into_os_string().into_string() {
            Ok(target) => FolderEntry::Link { target },
            Err(_) => FolderEntry::Unsupported("it is a link to a name that is not UTF-8"),
        }
    } else {
        FolderEntry::Unsupported("it is a socket, a pipe or a device")
    })
}

/// Reads `.dockerignore`. No rules if the file does not exist.
fn ignore_rules(root: &Path) -> Result<DockerIgnore, FolderError> {
    let unreadable = |error| FolderError::Unreadable(".dockerignore".to_owned(), error);
    let file = match open(&root.join(".dockerignore")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DockerIgnore::default()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(MAX_IGNORE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    DockerIgnore::parse(&text).map_err(FolderError::Ignore)
}

/// Removes excluded entries, except for directories that contain an included entry.
fn without_ignored(all: BTreeMap<String, (FolderEntry, bool)>) -> BTreeMap<String, FolderEntry> {
    let mut needed: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    for (path, _) in all.iter().filter(|(_, (_, is_excluded))| !is_excluded) {
        needed.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
    }
    let kept: std::collections::BTreeSet<String> = all
        .iter()
        .filter(|(path, (_, is_excluded))| !is_excluded || needed.contains(path.as_str()))
        .map(|(path, _)| path.clone())
        .collect();
    all.into_iter()
        .filter(|(path, _)| kept.contains(path))
        .map(|(path, (found, _))| (path, found))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[&str], ignore: &str) -> (tempfile::TempDir, ContextFolder) {
        let directory = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, file).expect("a file");
        }
        if !ignore.is_empty() {
            fs::write(directory.path().join(".dockerignore"), ignore).expect("a file");
        }
        symlink("d/e", directory.path().join("in")).expect("a link");
        symlink("../outside", directory.path().join("out")).expect("a link");
        symlink("/etc", directory.path().join("absolute")).expect("a link");
        symlink("self", directory.path().join("self")).expect("a link");
        let folder = ContextFolder::read(directory.path()).expect("a folder");
        (directory, folder)
    }

    #[test]
    fn resolve_stays_inside_of_the_context() {
        let (_directory, folder) = folder(&["d/e/f", "g"], "");
        assert_eq!(folder.resolve("in/f").expect("a way"), "d/e/f");

        for path in ["out", "out/x", "absolute", "absolute/passwd"] {
            assert!(
                matches!(folder.resolve(path), Err(FolderError::Outside(_))),
                "{path}"
            );
        }
        assert!(matches!(
            folder.resolve("self"),
            Err(FolderError::LinkLoop(_))
        ));
        assert!(matches!(
            folder.resolve("d/none"),
            Err(FolderError::NotFound(_))
        ));
        assert_eq!(folder.resolve("../../g").expect("a way"), "g");
    }

    #[test]
    fn read_removes_excluded_files_but_not_parents_of_exceptions() {
        let (_directory, folder) = folder(&["a", "d/e/f", "d/x", "k/l"], "*\n!d/e\n!in\n");
        let paths: Vec<&str> = folder.below("").map(|(path, _)| path).collect();
        assert_eq!(paths, ["d", "d/e", "d/e/f", "in"]);
        assert!(matches!(folder.resolve("a"), Err(FolderError::NotFound(_))));
        assert_eq!(
            folder.below("d").map(|(path, _)| path).collect::<Vec<_>>(),
            ["e", "e/f"]
        );
    }

    #[test]
    fn read_marks_unsupported_files() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(OsStr::from_bytes(b"a\xff")), "x").expect("a file");
        fs::write(directory.path().join("a\nb"), "x").expect("a file");
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket"))
            .expect("a socket");
        let folder = ContextFolder::read(directory.path()).expect("a folder");
        assert!(
            matches!(folder.get("a\u{fffd}"), Some(FolderEntry::Unsupported(_)))
                && matches!(folder.get("socket"), Some(FolderEntry::Unsupported(_)))
        );
        assert!(matches!(
            folder.get("a\nb"),
            Some(FolderEntry::File { size: 1, .. })
        ));
    }

    #[test]
    fn read_rejects_a_dockerignore_that_is_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        symlink("/etc/passwd", directory.path().join(".dockerignore")).expect("a link");
        assert!(matches!(
            ContextFolder::read(directory.path()),
            Err(FolderError::Unreadable(..))
        ));
    }
}
