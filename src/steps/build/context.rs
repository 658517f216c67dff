//! Build folder of an image: its template, and the digests of the files that it may copy.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::dockerfile::patterns::DockerIgnore;
use crate::dockerfile::{ContextFile, ContextFileKind, ContextSelection};
use crate::model::{Algorithm, Digest, Hasher};
use crate::template::MAX_TEXT_SIZE;

/// Maximum number of files in a build folder.
const MAX_FILES: usize = 100_000;

/// Error while reading a build folder.
#[derive(Debug, Error)]
pub(super) enum ContextFolderError {
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} is not UTF-8", .0.display())]
    NotText(PathBuf),
    #[error("{} is longer than {} KiB", .0.display(), MAX_TEXT_SIZE / 1024)]
    TooLong(PathBuf),
    #[error("{} has more than {MAX_FILES} files", .0.display())]
    TooMany(PathBuf),
}

impl ContextFolderError {
    /// Returns a suggestion for the user, or `None`.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            ContextFolderError::Unreadable(path, error)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                let folder = path
                    .parent()
                    .map(|folder| folder.display().to_string())
                    .unwrap_or_default();
                Some(format!(
                    "check `folder` and `tmpl` of the image: is there a template in {folder}?"
                ))
            }
            ContextFolderError::TooMany(_) => Some(
                "use a separate `folder` for the image, or exclude files in .dockerignore"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// A file of a build folder with the digest of its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest {
    /// Path relative to the build folder, with slashes.
    pub path: String,
    /// `file`, `program` (executable) or `link`. Other mode bits are ignored because they differ
    /// between checkouts.
    pub kind: &'static str,
    /// Digest of the content; for a link its target.
    pub digest: String,
}

/// Reads a text file of at most [`MAX_TEXT_SIZE`] bytes, such as a template.
pub(super) fn read_text(path: &Path) -> Result<String, ContextFolderError> {
    let unreadable = |error| ContextFolderError::Unreadable(path.to_owned(), error);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TEXT_SIZE as u64 + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > MAX_TEXT_SIZE {
        return Err(ContextFolderError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| ContextFolderError::NotText(path.to_owned()))
}

/// Listing of a build folder.
#[derive(Clone, Debug, Default)]
pub(super) struct ContextListing {
    pub(super) files: Vec<ContextFile>,
    /// Content of `.dockerignore`, if there is one.
    pub(super) ignore: Option<String>,
}

/// Lists the files and links below `folder`, except those that `.dockerignore` excludes.
pub(super) fn list(folder: &Path) -> Result<ContextListing, ContextFolderError> {
    list_up_to(folder, MAX_FILES)
}

fn list_up_to(folder: &Path, max: usize) -> Result<ContextListing, ContextFolderError> {
    let ignore = folder.join(".dockerignore");
    let ignore = if ignore.is_file() {
        Some(read_text(&ignore)?)
    } else {
        None
    };
    // Invalid rules are reported when the Dockerfile is parsed.
    let rules = ignore
        .as_deref()
        .and_then(|text| DockerIgnore::parse(text).ok())
        .unwrap_or_default();
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let here = folder.join(&directory);
        let unreadable = |error| ContextFolderError::Unreadable(here.clone(), error);
        for entry in fs::read_dir(&here).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, kind) = (
                directory.join(entry.file_name()),
                entry.file_type().map_err(unreadable)?,
            );
            let is_excluded = path.to_str().is_some_and(|path| rules.excludes(path));
            if kind.is_dir() {
                if !is_excluded || rules.has_exceptions() {
                    directories.push(path);
                }
            } else if !is_excluded && (kind.is_file() || kind.is_symlink()) {
                let text = path
                    .to_str()
                    .ok_or_else(|| ContextFolderError::NotText(folder.join(&path)))?
                    .to_owned();
                files.push(ContextFile {
                    path: text,
                    kind: if kind.is_file() {
                        ContextFileKind::File
                    } else {
                        ContextFileKind::Link
                    },
                });
            }
            if files.len() > max {
                return Err(ContextFolderError::TooMany(folder.to_owned()));
            }
        }
    }
    files.sort();
    Ok(ContextListing { files, ignore })
}

/// Returns the digests of the files in `listed` that the Dockerfile reads.
///
/// If the Dockerfile may read all files, `template` is left out, because the inputs of the image
/// contain the rendered Dockerfile.
pub(super) fn digests(
    folder: &Path,
    listed: &[ContextFile],
    read: &ContextSelection,
    template: &str,
) -> Result<Vec<FileDigest>, ContextFolderError> {
    let is_read = |listed: &&ContextFile| match read {
        ContextSelection::All => listed.path != template,
        ContextSelection::Files(paths) => paths.binary_search(&listed.path).is_ok(),
    };
    listed
        .iter()
        .filter(is_read)
        .map(|listed| digest(folder, listed))
        .collect()
}

fn digest(folder: &Path, listed: &ContextFile) -> Result<FileDigest, ContextFolderError> {
    let path = folder.join(&listed.path);
    let unreadable = |error| ContextFolderError::Unreadable(path.clone(), error);
    let (kind, digest) = match listed.kind {
        ContextFileKind::Link => {
            let target = fs::read_link(&path).map_err(unreadable)?;
            (
                "link",
                target
                    .to_str()
                    .ok_or_else(|| ContextFolderError::NotText(path.clone()))?
                    .to_owned(),
            )
        }
        ContextFileKind::File => {
            let mode = fs::metadata(&path)
                .map_err(unreadable)?
                .permissions()
                .mode();
            (
                if mode & 0o111 == 0 { "file" } else { "program" },
                hash(&path).map_err(unreadable)?.to_string(),
            )
        }
    };
    Ok(FileDigest {
        path: listed.path.clone(),
        kind,
        digest,
    })
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_dockerignore_are_neither_listed_nor_digested() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in [
            "Dockerfile.tmpl",
            "kept",
            "node_modules/a/b",
            "logs/x.log",
            "logs/keep",
        ] {
            let file = directory.path().join(path);
            fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
            fs::write(&file, path).expect("a file");
        }
        let listed = |ignore: &str| {
            fs::write(directory.path().join(".dockerignore"), ignore).expect("a file");
            list(directory.path()).expect("a folder").files
        };
        let names = |files: &[ContextFile]| {
            files
                .iter()
                .map(|file| file.path.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&listed("node_modules\nlogs\n")),
            [".dockerignore", "Dockerfile.tmpl", "kept"]
        );
        let files = listed("node_modules\nlogs/*\n!logs/keep\n.dockerignore\n");
        assert_eq!(names(&files), ["Dockerfile.tmpl", "kept", "logs/keep"]);
        let digested = digests(
            directory.path(),
            &files,
            &ContextSelection::All,
            "Dockerfile.tmpl",
        )
        .expect("digests");
        assert_eq!(
            digested
                .iter()
                .map(|file| file.path.as_str())
                .collect::<Vec<_>>(),
            ["kept", "logs/keep"]
        );
    }

    #[test]
    fn excluded_files_do_not_count_towards_the_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(".dockerignore"), "many\n").expect("a file");
        fs::create_dir(directory.path().join("many")).expect("a directory");
        for number in 0..10 {
            fs::write(directory.path().join(format!("many/{number}")), "").expect("a file");
        }
        assert_eq!(
            list_up_to(directory.path(), 5)
                .expect("a folder")
                .files
                .len(),
            1
        );
        fs::write(directory.path().join(".dockerignore"), "none\n").expect("a file");
        assert!(matches!(
            list_up_to(directory.path(), 5),
            Err(ContextFolderError::TooMany(_))
        ));
    }
}
