//! What a look at a place found: whether what is needed is there, right, and allowed, and what to
//! do where it is not.
//!
//! Owns the findings and what is asked of an image repository or package place. Places look at
//! themselves and change nothing by it; what follows from the findings is decided by who asked.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access as Bits, access, statvfs};
use serde::Serialize;

use crate::error::chain;
use crate::model::text::excerpt;

/// How much of a finding's text is kept, in characters: servers may answer anything.
const LONGEST_TEXT: usize = 500;

/// Below this a disk counts as full, in bytes.
const LITTLE_SPACE: u64 = 1_000_000_000;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeState {
    Ok,
    /// It cannot be known without a change somewhere, or was not looked at.
    Unknown,
    /// It is not there.
    Missing,
    /// It is there, and not as it must be.
    Wrong,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeFinding {
    /// What was looked at, as `oci.push`: a name that stays the same from version to version.
    pub check: &'static str,
    /// What of it, such as a repository; empty where there is only one.
    pub about: String,
    pub state: ProbeState,
    /// Whether a command that the configuration suffices for fails without it.
    pub needed: bool,
    /// Safe to show.
    pub detail: String,
    /// What to do. Safe to show.
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
        let about = excerpt(about.as_ref(), LONGEST_TEXT);
        ProbeFinding {
            check,
            about,
            state,
            needed: true,
            detail: excerpt(detail.as_ref(), LONGEST_TEXT),
            fix: None,
        }
    }

    pub fn ok(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Ok, detail)
    }

    pub fn unknown(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Unknown, detail)
    }

    pub fn missing(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Missing, detail)
    }

    pub fn wrong(
        check: &'static str,
        about: impl AsRef<str>,
        detail: impl AsRef<str>,
    ) -> ProbeFinding {
        ProbeFinding::new(check, about, ProbeState::Wrong, detail)
    }

    /// Returns the finding that looking failed.
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

    /// Returns the finding with what to do about it.
    #[must_use]
    pub fn fix(self, fix: impl AsRef<str>) -> ProbeFinding {
        ProbeFinding {
            fix: Some(excerpt(fix.as_ref(), 2 * LONGEST_TEXT)),
            ..self
        }
    }

    /// Returns the finding as one without which everything works.
    #[must_use]
    pub fn optional(self) -> ProbeFinding {
        ProbeFinding {
            needed: false,
            ..self
        }
    }

    /// Returns whether something that is needed is not as it must be.
    pub fn is_problem(&self) -> bool {
        self.needed && matches!(self.state, ProbeState::Missing | ProbeState::Wrong)
    }
}

/// What a look at a place found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    pub findings: Vec<ProbeFinding>,
    /// By how many seconds the place's clock is ahead of this machine's, where it tells its time.
    pub ahead: Option<i64>,
}

impl From<Vec<ProbeFinding>> for ProbeReport {
    fn from(findings: Vec<ProbeFinding>) -> ProbeReport {
        ProbeReport {
            findings,
            ahead: None,
        }
    }
}

/// What is asked of an image repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequiredAccess {
    /// It is read from, so it must be there.
    pub source: bool,
    pub push: bool,
    pub delete: bool,
    /// What refers to its images is read or written.
    pub referrers: bool,
}

impl RequiredAccess {
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

/// What a place that holds packages is asked with.
#[derive(Clone, Copy, Debug)]
pub struct ProbeCredential {
    /// The variable that the credential is in, where there is one.
    pub variable: Option<&'static str>,
}

/// Returns whether files can be written below `directory`, by its permissions or those of the
/// nearest directory above it that is there; nothing is written.
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
                    return ProbeFinding::missing(check, about, "no directory above it is there")
                        .fix("name another directory");
                }
            },
            Err(error) => {
                return ProbeFinding::wrong(check, about, format!("{} cannot be looked at: {error}", nearest.display()))
                    .fix("correct the path, or give this user the right to look into the directories above it");
            }
        }
    }
    let shown = nearest.display();
    if let Err(error) = access(nearest, Bits::WRITE_OK | Bits::EXEC_OK) {
        return ProbeFinding::wrong(check, about, format!("{shown} is not writable: {error}")).fix(
            format!("give this user the right to write in {shown}, or name another directory"),
        );
    }
    let free = statvfs(nearest)
        .ok()
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let room = free.map_or_else(String::new, |free| {
        format!(", {} GB free", free / 1_000_000_000)
    });
    let found = if nearest == directory {
        "writable".to_owned()
    } else {
        format!("not there yet; can be made in {shown}")
    };
    if free.is_some_and(|free| free < LITTLE_SPACE) {
        return ProbeFinding::wrong(
            check,
            about,
            format!("{found}, and its disk has less than 1 GB free"),
        )
        .fix("make room on the disk")
        .optional();
    }
    ProbeFinding::ok(check, about, format!("{found}{room}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_looked_at_and_not_made() {
        let place = tempfile::tempdir().expect("a directory");
        let at =
            |path: &str| check_writable_directory("layout.write", "", &place.path().join(path));
        assert!(at("").detail.starts_with("writable, "), "{:?}", at(""));
        let below = at("a/b");
        assert!(
            below.state == ProbeState::Ok && below.detail.contains("not there yet; can be made in"),
            "{below:?}"
        );
        fs::write(place.path().join("file"), "").expect("a file");
        assert!(at("file").detail.ends_with("file is a file"));
        assert_eq!(at("file/below").state, ProbeState::Wrong);
        assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn text_from_outside_is_bounded_and_harmless() {
        let finding = ProbeFinding::wrong("oci.pull", "a\u{1b}[2J", "x".repeat(100_000))
            .fix("y\n::error::".repeat(100_000));
        assert!(
            finding.about.contains(r"\u{1b}") && finding.detail.chars().count() <= LONGEST_TEXT + 1
        );
        assert!(!finding.fix.expect("a fix").contains('\n'));
    }
}
