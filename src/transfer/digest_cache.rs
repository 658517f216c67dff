//! Cache of facts that depend only on digests, for later runs.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::platform_filter::{PlatformFilter, PlatformFilterMode};
use crate::model::{Digest, Repository, Tag};

/// A cache of facts that follow from digests. It may drop an entry at any time.
pub trait DigestCache: Send + Sync {
    fn get(&self, key: &str) -> Option<String>;

    fn put(&self, key: &str, text: &str);
}

/// Returns a cache that keeps nothing.
pub fn no_cache() -> Arc<dyn DigestCache> {
    struct NoCache;

    impl DigestCache for NoCache {
        fn get(&self, _: &str) -> Option<String> {
            None
        }

        fn put(&self, _: &str, _: &str) {}
    }

    Arc::new(NoCache)
}

/// Returns the cache key of the digest that `filter` gives the index `source`, or `None` if the
/// filter does not change the index.
///
/// The number in the key is the version of the rewriting algorithm.
pub(super) fn rewritten_key(source: &Digest, filter: &PlatformFilter) -> Option<String> {
    let PlatformFilter::Only {
        platforms,
        mode: PlatformFilterMode::Rewrite,
        ..
    } = filter
    else {
        return None;
    };
    let mut platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    platforms.sort_unstable();
    Some(format!("rewritten 1 {source} {}", platforms.join(" ")))
}

/// Returns the cache key of the attachments of an image at the target.
pub(super) fn attached_key(from: &Repository, to: &Repository, tag: &Tag) -> String {
    format!("attached 1 {from} {to}:{tag}")
}

/// An image at the target, the digests that attachments can refer to, and the attachment tags of
/// the source that were copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttachedImage {
    pub(super) root: Digest,
    pub(super) subjects: Vec<Digest>,
    pub(super) handled: BTreeSet<Tag>,
}

impl AttachedImage {
    /// Returns the subset of `tags` that hold attachments of the image.
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
