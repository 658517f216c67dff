//! The folder that `COPY` and `ADD` read from: what is in it, without what `.dockerignore` leaves
//! out.
//!
//! Nothing outside of it is ever read: links are followed within it only, and never while files are
//! listed or opened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::dockerfile::patterns::{Glob, Ignore, PatternError, clean};
use crate::model::text::excerpt;

/// The most entries of a folder.
const MOST_ENTRIES: usize = 500_000;

/// The longest `.dockerignore` that is read, in bytes.
const LONGEST_IGNORE: u64 = 1024 * 1024;

/// How many links are followed on one way.
const MOST_LINKS: usize = 40;

/// What is in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
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
    /// What no image can hold, and what it is.
    Odd(&'static str),
}

#[derive(Debug, Error)]
pub(super) enum FolderError {
    #[error("`{}` cannot be read", excerpt(.0, 120))]
    Unreadable(String, #[source] io::Error),
    #[error("`.dockerignore`: {0}")]
    Ignore(PatternError),
    #[error("there are more than {MOST_ENTRIES} files in the folder")]
    TooMany,
    #[error("`{}` is not in the folder, or `.dockerignore` leaves it out", excerpt(.0, 120))]
    Absent(String),
    #[error("`{}` leads out of the folder through a link", excerpt(.0, 120))]
    LeadsOut(String),
    #[error("the links at `{}` lead in a circle", excerpt(.0, 120))]
    Circle(String),
}

pub(super) struct Folder {
    root: PathBuf,
    /// By their paths, parted by `/`.
    entries: BTreeMap<String, Found>,
}

impl Folder {
    /// Reads what is in the folder `root`.
    pub(super) fn read(root: &Path) -> Result<Folder, FolderError> {
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
                let left_out = ignore.leaves_out(&path);
                let found = if name.to_str().is_none() {
                    Found::Odd("it has a name that is no text in UTF-8")
                } else {
                    found(&entry).map_err(unreadable)?
                };
                if let Found::Directory { .. } = found
                    && (!left_out || ignore.has_exceptions())
                {
                    directories.push(path.clone());
                }
                if all.len() == MOST_ENTRIES {
                    return Err(FolderError::TooMany);
                }
                all.insert(path, (found, left_out));
            }
        }
        Ok(Folder {
            root,
            entries: without_ignored(all),
        })
    }

    /// Returns a folder for what reads none.
    pub(super) fn empty() -> Folder {
        Folder {
            root: PathBuf::new(),
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<&Found> {
        const TOP: &Found = &Found::Directory { mode: 0o755 };
        if path.is_empty() {
            Some(TOP)
        } else {
            self.entries.get(path)
        }
    }

    /// Returns what is in the directory `path` and below, in the order of their paths, which are
    /// relative to it.
    pub(super) fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a Found)> {
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

    /// Returns the paths that a pattern matches.
    pub(super) fn matching(&self, pattern: &Glob) -> Vec<&str> {
        self.entries
            .keys()
            .map(String::as_str)
            .filter(|path| pattern.matches(path))
            .collect()
    }

    /// Returns where `path` leads once its links are followed, which must be within the folder.
    pub(super) fn resolve(&self, path: &str) -> Result<String, FolderError> {
        let cleaned = clean(path);
        let mut rest: Vec<&str> = cleaned.split('/').rev().collect();
        let mut resolved = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part {
                "" | "." => continue,
                ".." if resolved.is_empty() => return Err(FolderError::LeadsOut(path.to_owned())),
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
                None => return Err(FolderError::Absent(path.to_owned())),
                Some(Found::Link { target }) => {
                    links += 1;
                    if target.starts_with('/') {
                        return Err(FolderError::LeadsOut(path.to_owned()));
                    }
                    if links > MOST_LINKS {
                        return Err(FolderError::Circle(path.to_owned()));
                    }
                    resolved.truncate(parent);
                    rest.extend(target.split('/').rev());
                }
                Some(_) => {}
            }
        }
        Ok(resolved)
    }

    /// Returns where a file of the folder is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// Opens a file that a link did not take the place of meanwhile.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = File::options()
        .read(true)
        .custom_flags(no_follow)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no file any more"))
    }
}

fn found(entry: &fs::DirEntry) -> io::Result<Found> {
    let metadata = entry.metadata()?;
    let kind = metadata.file_type();
    let mode = metadata.mode() & 0o7777;
    Ok(if kind.is_dir() {
        Found::Directory { mode }
    } else if kind.is_file() {
        Found::File {
            mode,
            size: metadata.len(),
        }
    } else if kind.is_symlink() {
        match fs::read_link(entry.path())?.into_os_string().into_string() {
            Ok(target) => Found::Link { target },
            Err(_) => Found::Odd("it is a link to a name that is no text in UTF-8"),
        }
    } else {
        Found::Odd("it is a socket, a pipe or a device")
    })
}

fn ignore_rules(root: &Path) -> Result<Ignore, FolderError> {
    let unreadable = |error| FolderError::Unreadable(".dockerignore".to_owned(), error);
    let file = match open(&root.join(".dockerignore")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ignore::default()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(LONGEST_IGNORE)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ignore::parse(&text).map_err(FolderError::Ignore)
}

/// Leaves out what is to be, but for directories that something is in which is not.
fn without_ignored(all: BTreeMap<String, (Found, bool)>) -> BTreeMap<String, Found> {
    let mut needed: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    for (path, _) in all.iter().filter(|(_, (_, left_out))| !left_out) {
        needed.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
    }
    let kept: std::collections::BTreeSet<String> = all
        .iter()
        .filter(|(path, (_, left_out))| !left_out || needed.contains(path.as_str()))
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

    fn folder(files: &[&str], ignore: &str) -> (tempfile::TempDir, Folder) {
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
        let folder = Folder::read(directory.path()).expect("a folder");
        (directory, folder)
    }

    #[test]
    fn links_are_followed_within_the_folder_only() {
        let (_directory, folder) = folder(&["d/e/f", "g"], "");
        assert_eq!(folder.resolve("in/f").expect("a way"), "d/e/f");

        for path in ["out", "out/x", "absolute", "absolute/passwd"] {
            assert!(
                matches!(folder.resolve(path), Err(FolderError::LeadsOut(_))),
                "{path}"
            );
        }
        assert!(matches!(
            folder.resolve("self"),
            Err(FolderError::Circle(_))
        ));
        assert!(matches!(
            folder.resolve("d/none"),
            Err(FolderError::Absent(_))
        ));
        assert_eq!(folder.resolve("../../g").expect("a way"), "g");
    }

    #[test]
    fn what_is_left_out_is_not_there_but_the_way_to_exceptions_is() {
        let (_directory, folder) = folder(&["a", "d/e/f", "d/x", "k/l"], "*\n!d/e\n!in\n");
        let paths: Vec<&str> = folder.below("").map(|(path, _)| path).collect();
        assert_eq!(paths, ["d", "d/e", "d/e/f", "in"]);
        assert!(matches!(folder.resolve("a"), Err(FolderError::Absent(_))));
        assert_eq!(
            folder.below("d").map(|(path, _)| path).collect::<Vec<_>>(),
            ["e", "e/f"]
        );
    }

    #[test]
    fn names_that_are_no_text_and_pipes_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(OsStr::from_bytes(b"a\xff")), "x").expect("a file");
        fs::write(directory.path().join("a\nb"), "x").expect("a file");
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket"))
            .expect("a socket");
        let folder = Folder::read(directory.path()).expect("a folder");
        assert!(
            matches!(folder.get("a\u{fffd}"), Some(Found::Odd(_)))
                && matches!(folder.get("socket"), Some(Found::Odd(_)))
        );
        assert!(matches!(
            folder.get("a\nb"),
            Some(Found::File { size: 1, .. })
        ));
    }

    #[test]
    fn a_dockerignore_that_is_a_link_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        symlink("/etc/passwd", directory.path().join(".dockerignore")).expect("a link");
        assert!(matches!(
            Folder::read(directory.path()),
            Err(FolderError::Unreadable(..))
        ));
    }
}
