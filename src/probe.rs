//! Results of probing a store: what is present, correct and permitted, and how to fix the rest.
//!
//! Owns the findings and the access that is required of an image store. Each store probes itself
//! without changing anything. The caller decides how to act on the findings.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access as Bits, access, statvfs};
use serde::Serialize;

use crate::error::chain;
use crate::model::text::excerpt;

/// Maximum length of a finding's text, in characters. The rest is cut, because servers may respond
/// with text of any length.
const MAX_TEXT_LENGTH: usize = 500;

/// Free space below which a disk counts as full, in bytes.
const MIN_FREE_SPACE: u64 = 1_000_000_000;

/// State of something that was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeState {
    Ok,
    /// Not probed, or only known after a change.
    Unknown,
    /// Absent.
    Missing,
    /// Present, but not usable as it is.
    Wrong,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeFinding {
    /// Name of the check, such as `oci.push`. It stays the same from version to version.
    pub check: &'static str,
    /// Subject of the check, such as a repository. Empty if there is only one.
    pub about: String,
    pub state: ProbeState,
    /// True if a command that this configuration can run fails without it.
    pub needed: bool,
    /// Explanation, escaped for display.
    pub detail: String,
    /// Advice how to fix it, escaped for display.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl ProbeFinding {
    fn new(
        check: &'static str,
        about: impl AsRef<str>,
        state: ProbeState,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        let about = excerpt(about.as_ref(), MAX_TEXT_LENGTH);
        ProbeFinding {
            check,
            about,
            state,
            needed: true,
            detail: excerpt(detail.as_ref(), MAX_TEXT_LENGTH),
            fix: None,
        }
    }

    /// Returns the finding that everything is as required.
    pub fn ok(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Ok, detail)
    }

    /// Returns the finding that the state is unknown.
    pub fn unknown(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Unknown, detail)
    }

    /// Returns the finding that something is absent.
    pub fn missing(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Missing, detail)
    }

    /// Returns the finding that something is not as required.
    pub fn wrong(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Wrong, detail)
    }

    /// Returns the finding that the check itself failed with `error`.
    pub fn failed(
        check: &'static str,
        about: impl AsRef<str>,
        error: &(dyn std::error::Error + 'static),
        fix: Option<String>,
    ) -> ProbeFinding {
        ProbeFinding {
            fix,
            ..ProbeFinding::wrong(check, about, chain(error))
        }
    }

    /// Adds advice how to fix it.
    #[must_use]
    pub fn fix(self, fix: impl AsRef<str>) -> ProbeFinding {
        ProbeFinding {
            fix: Some(excerpt(fix.as_ref(), 2 * MAX_TEXT_LENGTH)),
            ..self
        }
    }

    /// Marks the finding as not needed: every command works without it.
    #[must_use]
    pub fn optional(self) -> ProbeFinding {
        ProbeFinding {
            needed: false,
            ..self
        }
    }

    /// Returns true if something needed is missing or wrong.
    pub fn is_problem(&self) -> bool {
        self.needed && matches!(self.state, ProbeState::Missing | ProbeState::Wrong)
    }
}

/// Findings of probing a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    pub findings: Vec<ProbeFinding>,
    /// Seconds by which the clock of the store's server is ahead of this machine's. `None` if the
    /// server did not send its time.
    pub clock_offset: Option<i64>,
}

impl From<Vec<ProbeFinding>> for ProbeReport {
    fn from(findings: Vec<ProbeFinding>) -> ProbeReport {
        ProbeReport {
            findings,
            clock_offset: None,
        }
    }
}

/// Access that the configuration requires to an image repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequiredAccess {
    /// Images are read, so the repository must exist.
    pub source: bool,
    pub push: bool,
    pub delete: bool,
    /// Referrers of its images are read or written.
    pub referrers: bool,
}

impl RequiredAccess {
    /// Returns the access that both require together.
    #[must_use]
    pub fn and(self, other: RequiredAccess) -> RequiredAccess {
        RequiredAccess {
            source: self.source || other.source,
            push: self.push || other.push,
            delete: self.delete || other.delete,
            referrers: self.referrers || other.referrers,
        }
    }
}

/// Credential that a record store is probed with.
#[derive(Clone, Copy, Debug)]
pub struct ProbeCredential {
    /// Variable that holds the credential; `None` if there is no credential.
    pub variable: Option<&'static str>,
}

/// Checks that files can be written below `directory`, without writing any.
///
/// Checks the permissions of the directory, or of its nearest parent that exists, and the free
/// space of the disk.
pub fn check_writable_directory(
    check: &'static str,
    about: &str,
    directory: &Path,
) -> ProbeFinding {
    let mut nearest = directory;
    loop {
        match fs::metadata(nearest) {
            Ok(found) if !found.is_dir() => {
                return ProbeFinding::wrong(
                    check,
                    about,
                    format!("{} is a file", nearest.display()),
                )
                .fix("name a directory, or remove the file");
            }
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match nearest.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => nearest = parent,
                _ => {
                    return ProbeFinding::missing(
                        check,
                        about,
                        "none of its parent directories exists",
                    )
                    .fix("name another directory");
                }
            },
            Err(error) => {
                return ProbeFinding::wrong(check, about, format!("cannot inspect {}: {error}", nearest.display()))
                    .fix("correct the path, or give this user permission to search its parent directories");
            }
        }
    }
    let shown = nearest.display();
    if let Err(error) = access(nearest, Bits::WRITE_OK | Bits::EXEC_OK) {
        return ProbeFinding::wrong(check, about, format!("{shown} is not writable: {error}")).fix(
            format!("give this user permission to write in {shown}, or name another directory"),
        );
    }
    let free = statvfs(nearest)
        .ok()
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let space = free.map_or_else(String::new, |free| {
        format!(", {} GB free", free / 1_000_000_000)
    });
    let found = if nearest == directory {
        "writable".to_owned()
    } else {
        format!("does not exist yet; can be created in {shown}")
    };
    if free.is_some_and(|free| free < MIN_FREE_SPACE) {
        return ProbeFinding::wrong(
            check,
            about,
            format!("{found}, but its disk has less than 1 GB free"),
        )
        .fix("free space on the disk")
        .optional();
    }
    ProbeFinding::ok(check, about, format!("{found}{space}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_directory_is_checked_without_creating_it() {
        let parent = tempfile::tempdir().expect("a directory");
        let at =
            |path: &str| check_writable_directory("layout.write", "", &parent.path().join(path));
        assert!(at("").detail.starts_with("writable, "), "{:?}", at(""));
        let below = at("a/b");
        assert!(
            below.state == ProbeState::Ok
                && below
                    .detail
                    .contains("does not exist yet; can be created in"),
            "{below:?}"
        );
        fs::write(parent.path().join("file"), "").expect("a file");
        assert!(at("file").detail.ends_with("file is a file"));
        assert_eq!(at("file/below").state, ProbeState::Wrong);
        assert_eq!(fs::read_dir(parent.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn findings_cut_and_escape_untrusted_text() {
        let finding = ProbeFinding::wrong("oci.pull", "a\u{1b}[2J", "x".repeat(100_000))
            .fix("y\n::error::".repeat(100_000));
        assert!(
            finding.about.contains(r"\u{1b}")
                && finding.detail.chars().count() <= MAX_TEXT_LENGTH + 1
        );
        assert!(!finding.fix.expect("a fix").contains('\n'));
    }
}
