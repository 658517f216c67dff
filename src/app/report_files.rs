//! Report files: checked to be writable before a command starts, and written completely or not at
//! all.
//!
//! An existing path that is not a regular file, such as a pipe or `/dev/stdout`, is written to and
//! never replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::error::Failure;
use crate::files::{AtomicFile, refuse_link_out};

/// Report file that will be written at the end of a command.
pub(super) struct ReportFile {
    path: PathBuf,
    destination: ReportDestination,
}

enum ReportDestination {
    /// Temporary file that is renamed to `name` when it is complete.
    Replaced {
        file: AtomicFile,
        name: PathBuf,
    },
    WrittenTo(File),
}

#[derive(Debug, Error)]
#[error("cannot write the report file {}", .path.display())]
struct ReportFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ReportFile {
    /// Returns the file at `path`, relative to `directory`. Fails with a usage error when it cannot
    /// be written.
    pub(super) fn prepare(path: &Path, directory: &Path) -> Result<ReportFile, Failure> {
        let path = directory.join(path);
        let destination =
            refuse_link_out(directory, &path).and_then(|()| ReportDestination::at(&path));
        match destination {
            Ok(destination) => Ok(ReportFile { path, destination }),
            Err(source) => Err(Failure::usage(ReportFileError { path, source })),
        }
    }

    /// Like `prepare`, for an optional file.
    pub(super) fn prepare_if_set(
        path: Option<&Path>,
        directory: &Path,
    ) -> Result<Option<ReportFile>, Failure> {
        path.map(|path| ReportFile::prepare(path, directory))
            .transpose()
    }

    /// Writes `text` to the file.
    pub(super) fn write(self, text: &str) -> Result<(), Failure> {
        self.destination.write(text).map_err(|source| {
            Failure::failed(ReportFileError {
                path: self.path,
                source,
            })
        })
    }
}

impl ReportDestination {
    fn at(path: &Path) -> io::Result<ReportDestination> {
        let name = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => {
                return OpenOptions::new()
                    .write(true)
                    .open(path)
                    .map(ReportDestination::WrittenTo);
            }
            // Replaces the target of a symbolic link, not the link.
            Ok(_) => path.canonicalize()?,
            Err(_) => path.to_owned(),
        };
        let parent = name.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // The reader of a report is often another user.
        let file = AtomicFile::create_in(parent, 0o666)?;
        Ok(ReportDestination::Replaced { file, name })
    }

    fn write(self, text: &str) -> io::Result<()> {
        match self {
            ReportDestination::WrittenTo(mut file) => file.write_all(text.as_bytes()),
            ReportDestination::Replaced { mut file, name } => {
                file.write_all(text.as_bytes())?;
                file.replace(&name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    fn write(path: &str, directory: &Path) -> Result<(), String> {
        let text = |failure: Failure| crate::error::chain(failure.error.as_ref());
        ReportFile::prepare(Path::new(path), directory)
            .map_err(text)?
            .write("the report")
            .map_err(text)
    }

    #[test]
    fn a_report_file_has_the_permissions_of_a_new_file() {
        let directory = tempfile::tempdir().expect("a directory");
        File::create(directory.path().join("other")).expect("a file");
        write("report.xml", directory.path()).expect("written");
        let mode = |name: &str| {
            fs::metadata(directory.path().join(name))
                .expect("a file")
                .permissions()
                .mode()
        };
        assert_eq!(mode("report.xml"), mode("other"));
        assert_eq!(
            fs::read_to_string(directory.path().join("report.xml")).expect("text"),
            "the report"
        );
    }

    #[test]
    fn a_report_that_was_not_written_leaves_the_old_file() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("report.xml"), "the last one").expect("a file");
        drop(ReportFile::prepare(Path::new("report.xml"), directory.path()).expect("writable"));
        assert_eq!(
            fs::read_to_string(directory.path().join("report.xml")).expect("text"),
            "the last one"
        );
        assert_eq!(
            fs::read_dir(directory.path()).expect("a directory").count(),
            1
        );
    }

    #[test]
    fn a_pipe_is_written_to_and_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .expect("mkfifo")
                .success()
        );
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).expect("text")
        });
        write("pipe", directory.path()).expect("written");
        assert_eq!(reader.join().expect("no panic"), "the report");
        assert!(
            fs::symlink_metadata(&pipe)
                .expect("it is there")
                .file_type()
                .is_fifo()
        );
    }

    #[test]
    fn the_target_of_a_symbolic_link_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("kept.xml"), "the last one").expect("a file");
        symlink("kept.xml", directory.path().join("link.xml")).expect("a link");
        write("link.xml", directory.path()).expect("written");
        assert_eq!(
            fs::read_to_string(directory.path().join("kept.xml")).expect("text"),
            "the report"
        );
    }

    #[test]
    fn a_link_out_of_the_checkout_is_not_followed() {
        let world = tempfile::tempdir().expect("a directory");
        let checkout = world.path().join("checkout");
        fs::create_dir(&checkout).expect("a directory");
        fs::write(world.path().join("profile"), "kept").expect("a file");
        symlink("../profile", checkout.join("README.md")).expect("a link");
        symlink("..", checkout.join("reports")).expect("a link");
        for path in ["README.md", "reports/new.xml"] {
            let error = write(path, &checkout).expect_err("a link");
            assert!(
                error.ends_with("is a symbolic link that leads out of the checkout"),
                "{error}"
            );
        }
        assert_eq!(
            fs::read_to_string(world.path().join("profile")).expect("text"),
            "kept"
        );
        assert!(!world.path().join("new.xml").exists());
        write("../named.xml", &checkout).expect("a path on the command line leads anywhere");
    }

    #[test]
    fn prepare_fails_for_a_file_that_cannot_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().display();
        let missing = write("no/report.xml", directory.path()).expect_err("no directory");
        assert_eq!(
            missing,
            format!(
                "cannot write the report file {at}/no/report.xml: No such file or directory (os error 2)"
            )
        );
        let itself = write(".", directory.path()).expect_err("a directory");
        assert_eq!(
            itself,
            format!("cannot write the report file {at}/.: is a directory")
        );
    }
}
