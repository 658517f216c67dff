//! Three-way decision for each file: the work tree, the commit of the checkout, and the branch.

use crate::git::TreeEntry;
use crate::steps::status::{BEGIN, END, replaced};

/// A file to commit, in its three versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFile {
    pub path: String,
    /// Version in the work tree.
    pub ours: TreeEntry,
    /// Version in the commit of the checkout.
    pub base: Option<TreeEntry>,
    /// Version on the branch.
    pub tip: Option<TreeEntry>,
}

/// Comparison of the three versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Work tree and branch are equal.
    Same,
    /// Not changed in the work tree; the version on the branch is kept.
    UnchangedHere,
    /// Changed in the work tree only.
    ChangedHere,
    /// Changed in the work tree and on the branch.
    ChangedBoth,
}

impl CommitFile {
    /// Compares the three versions.
    pub fn state(&self) -> FileState {
        let ours = Some(&self.ours);
        if ours == self.tip.as_ref() {
            FileState::Same
        } else if self.tip == self.base {
            FileState::ChangedHere
        } else if ours == self.base.as_ref() {
            FileState::UnchangedHere
        } else {
            FileState::ChangedBoth
        }
    }
}

/// Changes to a file on the branch since the checkout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchChanges {
    /// The last change was made by imglife.
    pub ours: bool,
    /// Imglife changed it from a newer commit than the one checked out here.
    pub newer: bool,
    /// Imglife last changed it from the commit checked out here, or from an ancestor.
    pub older: bool,
}

/// Resolution of a file that changed on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Text of the branch with the new report between its markers.
    Merged(String),
    /// The version in the work tree: the branch has an earlier one by imglife.
    Ours,
    /// The branch is up to date.
    Same,
    /// The version on the branch is newer and stays.
    Superseded,
    /// Changed in conflicting ways; a person must resolve it.
    Conflict,
}

/// Resolves a file that changed in the work tree and on the branch.
///
/// `ours` and `tip` are the texts; `None` means missing or not text.
pub fn resolve(ours: Option<&str>, tip: Option<&str>, changes: BranchChanges) -> Resolution {
    if let (Some(block), Some(tip)) = (ours.and_then(block), tip) {
        return match replaced(tip, block) {
            _ if changes.newer => Resolution::Superseded,
            Ok(text) if text == tip => Resolution::Same,
            Ok(text) => Resolution::Merged(text),
            Err(_) => Resolution::Conflict,
        };
    }
    match changes {
        BranchChanges { ours: false, .. } => Resolution::Conflict,
        BranchChanges {
            newer: false,
            older: true,
            ..
        } => Resolution::Ours,
        _ => Resolution::Superseded,
    }
}

/// Returns the report in `text`, including both marker lines.
fn block(text: &str) -> Option<&str> {
    let mut start = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let end = offset + line.len();
        match (line.trim(), start) {
            (BEGIN, None) => start = Some(offset),
            (END, Some(start)) => return Some(&text[start..end]),
            _ => {}
        }
        offset = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::FileKind;

    fn entry(name: char) -> Option<TreeEntry> {
        (name != '-').then(|| TreeEntry {
            kind: FileKind::File,
            id: crate::git::ObjectId::parse(&name.to_string().repeat(40)).expect("a name"),
        })
    }

    #[test]
    fn file_state_compares_three_versions() {
        for (ours, base, tip, verdict) in [
            ('a', 'a', 'a', FileState::Same),
            ('b', 'a', 'b', FileState::Same),
            ('b', 'a', 'a', FileState::ChangedHere),
            ('b', '-', '-', FileState::ChangedHere),
            ('a', 'a', 'b', FileState::UnchangedHere),
            ('a', 'a', '-', FileState::UnchangedHere),
            ('c', 'a', 'b', FileState::ChangedBoth),
            ('c', '-', 'b', FileState::ChangedBoth),
            ('c', 'a', '-', FileState::ChangedBoth),
        ] {
            let named = CommitFile {
                path: "p".to_owned(),
                ours: entry(ours).expect("it is there"),
                base: entry(base),
                tip: entry(tip),
            };
            assert_eq!(named.state(), verdict, "{ours} {base} {tip}");
        }
        let executable = TreeEntry {
            kind: FileKind::Executable,
            ..entry('a').expect("an entry")
        };
        let named = CommitFile {
            path: "p".to_owned(),
            ours: executable,
            base: entry('a'),
            tip: entry('a'),
        };
        assert_eq!(named.state(), FileState::ChangedHere);
    }

    const OURS: &str = "# Old\n<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\nold end\n";
    const TIP: &str = "# Edited\n<!-- imglife:begin -->\nold\n<!-- imglife:end -->\nmore\n";

    #[test]
    fn resolve_merges_report_between_markers() {
        let merged = "# Edited\n<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\nmore\n";
        assert_eq!(
            resolve(Some(OURS), Some(TIP), BranchChanges::default()),
            Resolution::Merged(merged.to_owned())
        );
        assert_eq!(
            resolve(Some(OURS), Some(merged), BranchChanges::default()),
            Resolution::Same
        );
        let older = BranchChanges {
            ours: true,
            older: true,
            ..BranchChanges::default()
        };
        assert_eq!(
            resolve(Some(OURS), Some(TIP), older),
            Resolution::Merged(merged.to_owned())
        );
        let newer = BranchChanges {
            newer: true,
            ..BranchChanges::default()
        };
        assert_eq!(
            resolve(Some(OURS), Some(TIP), newer),
            Resolution::Superseded
        );
        let appended = "text\n\n<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\n";
        assert_eq!(
            resolve(Some(OURS), Some("text\n"), BranchChanges::default()),
            Resolution::Merged(appended.to_owned())
        );
        assert_eq!(
            resolve(
                Some(OURS),
                Some("<!-- imglife:end -->"),
                BranchChanges::default()
            ),
            Resolution::Conflict
        );
    }

    #[test]
    fn resolve_keeps_newer_commits_and_foreign_changes() {
        for newer in [false, true] {
            let unknown = BranchChanges {
                newer,
                ..BranchChanges::default()
            };
            assert_eq!(
                resolve(
                    Some("a"),
                    Some("b"),
                    BranchChanges {
                        ours: true,
                        ..unknown
                    }
                ),
                Resolution::Superseded
            );
            assert_eq!(resolve(Some("a"), Some("b"), unknown), Resolution::Conflict);
        }
        let earlier = BranchChanges {
            ours: true,
            older: true,
            newer: false,
        };
        assert_eq!(resolve(Some("a"), Some("b"), earlier), Resolution::Ours);
        assert_eq!(
            resolve(
                Some("a"),
                Some("b"),
                BranchChanges {
                    newer: true,
                    ..earlier
                }
            ),
            Resolution::Superseded
        );
        assert_eq!(
            resolve(Some(OURS), None, BranchChanges::default()),
            Resolution::Conflict
        );
        assert_eq!(
            resolve(None, Some(TIP), BranchChanges::default()),
            Resolution::Conflict
        );
    }
}
