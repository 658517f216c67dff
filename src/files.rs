//! Files that appear under their name whole and on the disk, or not at all.
//!
//! Owns how they get there: a file has no name while it is written, so that a process that is
//! killed leaves nothing. Which files there are, and who may read them, is the matter of who writes
//! them.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use tempfile::NamedTempFile;

/// What the names of files begin with that were written and have their own name in a moment.
pub const TEMPORARY: &str = ".incoming-";

/// A file that is being written.
#[derive(Debug)]
pub struct NewFile {
    directory: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Unnamed(File),
    /// Where the file system knows only files with a name.
    Named(NamedTempFile),
}

impl NewFile {
    /// Returns an empty file that can be given any name in `directory`. Its permissions are `mode`
    /// less what the umask takes.
    pub fn beside(directory: &Path, mode: u32) -> io::Result<NewFile> {
        // Looked at first, since an error about the file in it would name the temporary one.
        fs::metadata(directory)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open(directory, flags, Mode::from_bits_truncate(mode)).map(File::from);
        let content = match file
            .ok()
            .filter(|file| fs::exists(by_number(file)).unwrap_or(false))
        {
            Some(file) => Content::Unnamed(file),
            // Whatever the reason, a file system without such files or no `/proc`: this is what
            // works, and what does not fails here again.
            None => Content::Named(named(directory, mode)?),
        };
        Ok(NewFile {
            directory: directory.to_owned(),
            content,
        })
    }

    /// Brings the content to the disk and gives the file the name of `path`, in the place of what
    /// has it.
    pub fn replace(self, path: &Path) -> io::Result<()> {
        self.file().sync_all()?;
        match self.content {
            Content::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
            Content::Unnamed(file) => {
                let linked = tempfile::Builder::new()
                    .prefix(TEMPORARY)
                    .make_in(&self.directory, |name| link(&file, name))?;
                linked.persist(path).map(drop).map_err(|error| error.error)
            }
        }
    }

    /// Brings the content to the disk and gives the file the name of `path`. Fails when something
    /// has it.
    pub fn create(self, path: &Path) -> io::Result<()> {
        self.file().sync_all()?;
        match self.content {
            Content::Named(file) => file
                .persist_noclobber(path)
                .map(drop)
                .map_err(|error| error.error),
            Content::Unnamed(file) => link(&file, path),
        }
    }

    fn file(&self) -> &File {
        match &self.content {
            Content::Unnamed(file) => file,
            Content::Named(file) => file.as_file(),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Writes a file as a whole, in the place of one that is there.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = NewFile::beside(parent(path), mode)?;
    file.write_all(content)?;
    file.replace(path)
}

/// Writes a file as a whole. Fails when something has that name.
pub fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = NewFile::beside(parent(path), mode)?;
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
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
}

/// Gives a file without a name this one (open(2), on `O_TMPFILE`).
fn link(file: &File, name: &Path) -> io::Result<()> {
    Ok(linkat(
        CWD,
        by_number(file),
        CWD,
        name,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// Returns the path by which an open file can be linked.
fn by_number(file: &File) -> PathBuf {
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

    /// Returns a file without a name, and one of file systems that have none such.
    fn both(directory: &Path) -> [NewFile; 2] {
        let content = Content::Named(named(directory, 0o666).expect("a file"));
        let unnamed = NewFile::beside(directory, 0o666).expect("a file");
        assert!(
            matches!(unnamed.content, Content::Unnamed(_)),
            "this machine has such files"
        );
        [
            unnamed,
            NewFile {
                directory: directory.to_owned(),
                content,
            },
        ]
    }

    #[test]
    fn what_is_being_written_has_no_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut file = NewFile::beside(directory.path(), 0o666).expect("a file");
        file.write_all(b"content").expect("written");
        assert_eq!(names(directory.path()), Vec::<String>::new());
        file.replace(&directory.path().join("a")).expect("named");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn a_file_takes_the_place_of_another_or_is_refused() {
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
    fn a_file_is_as_public_as_other_new_ones() {
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
    fn a_directory_that_is_not_there_is_told() {
        let missing = replace(Path::new("/nowhere/at/all"), 0o666, b"").expect_err("there is none");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            NewFile::beside(Path::new("/dev/null"), 0o666)
                .expect_err("no directory")
                .kind(),
            io::ErrorKind::NotADirectory
        );
    }
}
