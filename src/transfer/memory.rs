//! What a run may remember of earlier ones.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::platforms::{PlatformFilter, PlatformFilterMode};
use crate::model::{Digest, Repository, Tag};

/// Remembers what follows from digests, so that it need not be found out again. May forget at any
/// time.
pub trait Memory: Send + Sync {
    fn recall(&self, key: &str) -> Option<String>;

    fn remember(&self, key: &str, text: &str);
}

/// Returns a memory that forgets everything at once.
pub fn forgetful() -> Arc<dyn Memory> {
    struct Forgetful;

    impl Memory for Forgetful {
        fn recall(&self, _: &str) -> Option<String> {
            None
        }

        fn remember(&self, _: &str, _: &str) {}
    }

    Arc::new(Forgetful)
}

/// Returns the key of what `filter` makes of the index `source`, or `None` where that is the index
/// itself. The number stands for the way in which indexes are rewritten.
pub(super) fn rewritten(source: &Digest, filter: &PlatformFilter) -> Option<String> {
    let PlatformFilter::Only {
        platforms,
        mode: PlatformFilterMode::Rewrite,
    } = filter
    else {
        return None;
    };
    let mut platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    platforms.sort_unstable();
    Some(format!("rewritten 1 {source} {}", platforms.join(" ")))
}

/// Returns the key of the attachments of an image at the target.
pub(super) fn attached_image(from: &Repository, to: &Repository, tag: &Tag) -> String {
    format!("attached 1 {from} {to}:{tag}")
}

/// An image at the target, what can be attached to it, and the source's tags with attachments that
/// were copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttachedImage {
    pub(super) root: Digest,
    pub(super) subjects: Vec<Digest>,
    pub(super) handled: BTreeSet<Tag>,
}

impl AttachedImage {
    /// Returns those of `tags` that hold attachments of the image.
    pub(super) fn tags_in(&self, tags: &BTreeSet<Tag>) -> BTreeSet<Tag> {
        let possible = self.subjects.iter().flat_map(|subject| {
            Tag::of_cosign(subject)
                .into_iter()
                .chain([Tag::of_referrers(subject)])
        });
        possible.filter(|tag| tags.contains(tag)).collect()
    }
}

impl fmt::Display for AttachedImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "root {}", self.root)?;
        self.subjects
            .iter()
            .try_for_each(|subject| writeln!(formatter, "subject {subject}"))?;
        self.handled
            .iter()
            .try_for_each(|tag| writeln!(formatter, "tag {tag}"))
    }
}

impl FromStr for AttachedImage {
    type Err = ();

    fn from_str(text: &str) -> Result<AttachedImage, ()> {
        let (mut root, mut subjects, mut handled) = (None, Vec::new(), BTreeSet::new());
        for line in text.lines() {
            match line.split_once(' ').ok_or(())? {
                ("root", digest) => root = Some(digest.parse().map_err(drop)?),
                ("subject", digest) => subjects.push(digest.parse().map_err(drop)?),
                ("tag", tag) => drop(handled.insert(tag.parse().map_err(drop)?)),
                _ => return Err(()),
            }
        }
        Ok(AttachedImage {
            root: root.ok_or(())?,
            subjects,
            handled,
        })
    }
}
