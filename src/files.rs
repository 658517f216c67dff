//! Atomic writing of files: a file appears under its name complete and synced to disk, or not at
//! all. Also the containment of paths in a checkout.
//!
//! A file has no name while it is written, so a process that is killed leaves nothing behind. The
//! caller chooses the names and the permissions.

mod containment;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use tempfile::NamedTempFile;

pub use containment::{checkout_root, leads_out, link_out_of};

/// Prefix of the temporary names that complete files have for a moment before they are renamed.
pub const TEMPORARY_PREFIX: &str = ".incoming-";

/// A file that gets its name once it is written.
#[derive(Debug)]
pub struct AtomicFile {
    directory: PathBuf,
    content: FileContent,
}

#[derive(Debug)]
enum FileContent {
    Unnamed(File),
    /// Fallback for file systems without unnamed files (`O_TMPFILE`).
    Named(NamedTempFile),
}

impl AtomicFile {
    /// Creates an empty file that can be given any name in `directory`.
    ///
    /// Its permissions are `mode` reduced by the umask. Fails if the directory does not exist or
    /// cannot be written.
    pub fn create_in(directory: &Path, mode: u32) -> io::Result<AtomicFile> {
        // Checked first: later errors would name the temporary file.
        fs::metadata(directory)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open(directory, flags, Mode::from_bits_truncate(mode)).map(File::from);
        let content = match file
            .ok()
            .filter(|file| fs::exists(descriptor_path(file)).unwrap_or(false))
        {
            Some(file) => FileContent::Unnamed(file),
            // The file system has no unnamed files, or there is no `/proc`. Any other problem fails
            // here again.
            None => FileContent::Named(named(directory, mode)?),
        };
        Ok(AtomicFile {
            directory: directory.to_owned(),
            content,
        })
    }

    /// Syncs the content to disk and names the file `path`, replacing an existing file.
    pub fn replace(self, path: &Path) -> io::Result<()> {
        self.file().sync_all()?;
        match self.content {
            FileContent::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
            FileContent::Unnamed(file) => {
                let linked = tempfile::Builder::new()
                    .prefix(TEMPORARY_PREFIX)
                    .make_in(&self.directory, |name| link(&file, name))?;
                linked.persist(path).map(drop).map_err(|error| error.error)
            }
        }
    }

    /// Syncs the content to disk and names the file `path`. Fails if `path` exists.
    pub fn create(self, path: &Path) -> io::Result<()> {
        self.file().sync_all()?;
        match self.content {
            FileContent::Named(file) => file
                .persist_noclobber(path)
                .map(drop)
                .map_err(|error| error.error),
            FileContent::Unnamed(file) => link(&file, path),
        }
    }

    fn file(&self) -> &File {
        match &self.content {
            FileContent::Unnamed(file) => file,
            FileContent::Named(file) => file.as_file(),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Fails if `path`, relative to `directory`, leads through a symbolic link out of the checkout that
/// `directory` or the path itself is in. Whoever wrote the files of the checkout may have chosen the
/// target of the link.
pub fn refuse_link_out(directory: &Path, path: &Path) -> io::Result<()> {
    let path = directory.join(path);
    let is_checkout = |directory: &&Path| directory.join(".git").symlink_metadata().is_ok();
    let checkout = path.ancestors().find(is_checkout).map(Path::to_owned);
    let link = [Some(checkout_root(directory)), checkout]
        .iter()
        .flatten()
        .find_map(|root| link_out_of(root, &path));
    link.map_or(Ok(()), |link| {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is a symbolic link that leads out of the checkout",
                link.display()
            ),
        ))
    })
}

/// Writes a file atomically, replacing an existing one. `mode` is reduced by the umask.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create_in(parent(path), mode)?;
    file.write_all(content)?;
    file.replace(path)
}

/// Writes a new file atomically. `mode` is reduced by the umask. Fails if `path` exists.
pub fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create_in(parent(path), mode)?;
    file.write_all(content)?;
    file.create(path)
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn named(directory: &Path, mode: u32) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
}

/// Names an unnamed file `name` (see open(2) on `O_TMPFILE`).
fn link(file: &File, name: &Path) -> io::Result<()> {
    Ok(linkat(
        CWD,
        descriptor_path(file),
        CWD,
        name,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// Returns the path in `/proc` by which an open file can be linked.
fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name());
        entries
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Returns an unnamed file, and a file of the fallback.
    fn both(directory: &Path) -> [AtomicFile; 2] {
        let content = FileContent::Named(named(directory, 0o666).expect("a file"));
        let unnamed = AtomicFile::create_in(directory, 0o666).expect("a file");
        assert!(
            matches!(unnamed.content, FileContent::Unnamed(_)),
            "the file system has unnamed files"
        );
        [
            unnamed,
            AtomicFile {
                directory: directory.to_owned(),
                content,
            },
        ]
    }

    #[test]
    fn file_has_no_name_while_it_is_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut file = AtomicFile::create_in(directory.path(), 0o666).expect("a file");
        file.write_all(b"content").expect("written");
        assert_eq!(names(directory.path()), Vec::<String>::new());
        file.replace(&directory.path().join("a")).expect("named");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn replace_overwrites_and_create_fails_if_the_name_exists() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        for content in ["first", "second"] {
            for mut file in both(directory.path()) {
                file.write_all(content.as_bytes()).expect("written");
                file.replace(&path).expect("replaced");
                assert_eq!(fs::read_to_string(&path).expect("text"), content);
            }
        }
        for file in both(directory.path()) {
            assert_eq!(
                file.create(&path).expect_err("it is there").kind(),
                io::ErrorKind::AlreadyExists
            );
        }
        for (file, name) in both(directory.path()).into_iter().zip(["b", "c"]) {
            file.create(&directory.path().join(name)).expect("created");
        }
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(
            (left, fs::read_to_string(&path).expect("text").as_str()),
            (["a", "b", "c"].map(str::to_owned).to_vec(), "second")
        );
    }

    #[test]
    fn permissions_follow_mode_and_umask() {
        let directory = tempfile::tempdir().expect("a directory");
        let mode = |name: &str| {
            fs::metadata(directory.path().join(name))
                .expect("a file")
                .permissions()
                .mode()
        };
        File::create(directory.path().join("other")).expect("a file");
        for (file, name) in both(directory.path()).into_iter().zip(["a", "b"]) {
            file.create(&directory.path().join(name)).expect("created");
            assert_eq!(mode(name), mode("other"));
        }
        replace(&directory.path().join("private"), 0o600, b"").expect("written");
        assert_eq!(mode("private") & 0o777, 0o600);
    }

    #[test]
    fn create_in_fails_without_a_directory() {
        let missing = replace(Path::new("/nowhere/at/all"), 0o666, b"").expect_err("there is none");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            AtomicFile::create_in(Path::new("/dev/null"), 0o666)
                .expect_err("no directory")
                .kind(),
            io::ErrorKind::NotADirectory
        );
    }
}
