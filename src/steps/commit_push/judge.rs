//! What becomes of each file: by what it is here, at the checkout's commit and on the branch.

use crate::git::Entry;
use crate::steps::status::{BEGIN, END, replaced};

/// A file that was named, at its three places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub path: String,
    /// In the work tree.
    pub ours: Entry,
    /// In the commit that the work tree was checked out from.
    pub base: Option<Entry>,
    /// On the branch.
    pub tip: Option<Entry>,
}

/// What a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The branch has it already.
    Same,
    /// It was not changed here; whatever the branch has is newer.
    Untouched,
    /// Only we changed it.
    Ours,
    /// It was changed here and on the branch.
    Disputed,
}

impl Named {
    pub fn verdict(&self) -> Verdict {
        let ours = Some(&self.ours);
        if ours == self.tip.as_ref() {
            Verdict::Same
        } else if self.tip == self.base {
            Verdict::Ours
        } else if ours == self.base.as_ref() {
            Verdict::Untouched
        } else {
            Verdict::Disputed
        }
    }
}

/// Who changed a file on the branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meanwhile {
    /// The last change is one of ours.
    pub ours: bool,
    /// One of our changes was made from a newer commit than what is checked out here.
    pub newer: bool,
    /// The last of our changes was made from the commit that is checked out here, or from one
    /// before it.
    pub older: bool,
}

/// How a dispute ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The branch's text, with our report in it.
    Merged(String),
    /// The file as it is here: what the branch has is an earlier one of ours.
    Ours,
    /// The branch has it already.
    Same,
    /// What the branch has stays: it is newer.
    Superseded,
    /// Nobody can tell.
    Conflict,
}

/// Returns how a dispute ends between the text of the work tree and that of the branch, `None`
/// where one is no text or is not there.
pub fn settle(ours: Option<&str>, tip: Option<&str>, meanwhile: Meanwhile) -> Settled {
    if let (Some(block), Some(tip)) = (ours.and_then(block), tip) {
        return match replaced(tip, block) {
            _ if meanwhile.newer => Settled::Superseded,
            Ok(text) if text == tip => Settled::Same,
            Ok(text) => Settled::Merged(text),
            Err(_) => Settled::Conflict,
        };
    }
    match meanwhile {
        Meanwhile { ours: false, .. } => Settled::Conflict,
        Meanwhile {
            newer: false,
            older: true,
            ..
        } => Settled::Ours,
        _ => Settled::Superseded,
    }
}

/// Returns the report within `text`, from the line of one marker to that of the other.
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
    use crate::git::Kind;

    fn entry(name: char) -> Option<Entry> {
        (name != '-').then(|| Entry {
            kind: Kind::File,
            id: crate::git::ObjectId::parse(&name.to_string().repeat(40)).expect("a name"),
        })
    }

    #[test]
    fn a_file_is_judged_by_its_three_places() {
        for (ours, base, tip, verdict) in [
            ('a', 'a', 'a', Verdict::Same),
            ('b', 'a', 'b', Verdict::Same),
            ('b', 'a', 'a', Verdict::Ours),
            ('b', '-', '-', Verdict::Ours),
            ('a', 'a', 'b', Verdict::Untouched),
            ('a', 'a', '-', Verdict::Untouched),
            ('c', 'a', 'b', Verdict::Disputed),
            ('c', '-', 'b', Verdict::Disputed),
            ('c', 'a', '-', Verdict::Disputed),
        ] {
            let named = Named {
                path: "p".to_owned(),
                ours: entry(ours).expect("it is there"),
                base: entry(base),
                tip: entry(tip),
            };
            assert_eq!(named.verdict(), verdict, "{ours} {base} {tip}");
        }
        let executable = Entry {
            kind: Kind::Executable,
            ..entry('a').expect("an entry")
        };
        let named = Named {
            path: "p".to_owned(),
            ours: executable,
            base: entry('a'),
            tip: entry('a'),
        };
        assert_eq!(named.verdict(), Verdict::Ours);
    }

    const OURS: &str = "# Old\n<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\nold end\n";
    const TIP: &str = "# Edited\n<!-- imglife:begin -->\nold\n<!-- imglife:end -->\nmore\n";

    #[test]
    fn a_report_between_markers_goes_into_the_text_of_the_branch() {
        let merged = "# Edited\n<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\nmore\n";
        assert_eq!(
            settle(Some(OURS), Some(TIP), Meanwhile::default()),
            Settled::Merged(merged.to_owned())
        );
        assert_eq!(
            settle(Some(OURS), Some(merged), Meanwhile::default()),
            Settled::Same
        );
        let older = Meanwhile {
            ours: true,
            older: true,
            ..Meanwhile::default()
        };
        assert_eq!(
            settle(Some(OURS), Some(TIP), older),
            Settled::Merged(merged.to_owned())
        );
        let newer = Meanwhile {
            newer: true,
            ..Meanwhile::default()
        };
        assert_eq!(settle(Some(OURS), Some(TIP), newer), Settled::Superseded);
        let appended = "text\n\n<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\n";
        assert_eq!(
            settle(Some(OURS), Some("text\n"), Meanwhile::default()),
            Settled::Merged(appended.to_owned())
        );
        assert_eq!(
            settle(
                Some(OURS),
                Some("<!-- imglife:end -->"),
                Meanwhile::default()
            ),
            Settled::Conflict
        );
    }

    #[test]
    fn a_whole_file_is_left_to_a_newer_commit_of_ours_and_to_people() {
        for newer in [false, true] {
            let unknown = Meanwhile {
                newer,
                ..Meanwhile::default()
            };
            assert_eq!(
                settle(
                    Some("a"),
                    Some("b"),
                    Meanwhile {
                        ours: true,
                        ..unknown
                    }
                ),
                Settled::Superseded
            );
            assert_eq!(settle(Some("a"), Some("b"), unknown), Settled::Conflict);
        }
        let earlier = Meanwhile {
            ours: true,
            older: true,
            newer: false,
        };
        assert_eq!(settle(Some("a"), Some("b"), earlier), Settled::Ours);
        assert_eq!(
            settle(
                Some("a"),
                Some("b"),
                Meanwhile {
                    newer: true,
                    ..earlier
                }
            ),
            Settled::Superseded
        );
        assert_eq!(
            settle(Some(OURS), None, Meanwhile::default()),
            Settled::Conflict
        );
        assert_eq!(
            settle(None, Some(TIP), Meanwhile::default()),
            Settled::Conflict
        );
    }
}
