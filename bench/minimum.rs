//! The fewest requests that a mirror can do with, by the distribution specification and for
//! registries as they are compared here: without a login, without a list of referrers, with uploads
//! that take a POST and a PUT.

use std::collections::BTreeSet;
use std::fmt;

use crate::corpus::{Content, Corpus};

/// Requests by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minimum {
    /// One for each repository and side.
    listings: usize,
    /// Whether the source lists what is attached to images: one where it does not.
    questions: usize,
    /// HEADs of tags, and of manifests and blobs that may be there.
    looks: usize,
    manifests_read: usize,
    manifests_written: usize,
    blobs_read: usize,
    /// Of two requests each.
    uploads: usize,
    /// Blobs that another repository of the target shares: one request each.
    mounts: usize,
}

impl Minimum {
    pub(crate) fn total(&self) -> usize {
        let Minimum {
            listings,
            questions,
            looks,
            manifests_read,
            manifests_written,
            blobs_read,
            uploads,
            mounts,
        } = self;
        listings
            + questions
            + looks
            + manifests_read
            + manifests_written
            + blobs_read
            + 2 * uploads
            + mounts
    }

    /// Returns what a mirror of `corpus` at an empty target takes: each manifest is read and
    /// written once, an index by its tag; each blob is read and sent once, and shared with every
    /// other repository that needs it.
    pub(crate) fn cold(corpus: &Corpus) -> Minimum {
        let mut minimum = Minimum {
            listings: 2 * corpus.repositories.len(),
            questions: 1,
            ..Minimum::default()
        };
        let mut there = BTreeSet::new();
        for repository in &corpus.repositories {
            minimum.add_manifests(repository.manifests().len());
            for blob in repository.blobs() {
                minimum.add_blob(there.insert(blob));
            }
        }
        minimum
    }

    /// Returns what it takes to see that a target is up to date: by its listings, or by a HEAD for
    /// each tag and side besides.
    pub(crate) fn unchanged(corpus: &Corpus, check_digest: bool) -> Minimum {
        let tags = corpus
            .repositories
            .iter()
            .map(|repository| repository.images.len())
            .sum::<usize>();
        let looks = if check_digest { 2 * tags } else { 0 };
        Minimum {
            listings: 2 * corpus.repositories.len(),
            questions: usize::from(check_digest),
            looks,
            ..Minimum::default()
        }
    }

    /// Returns what it takes to bring a target from `before` to `after` when tags were given other
    /// images. A mirror remembers nothing of earlier runs, so it asks by a HEAD for each manifest
    /// and blob of a new image whether the target has it.
    pub(crate) fn changed(before: &Corpus, after: &Corpus) -> Minimum {
        let mut minimum = Minimum::unchanged(after, true);
        let mut there: BTreeSet<&Content> = before
            .repositories
            .iter()
            .flat_map(|repository| repository.blobs())
            .collect();
        for (old, new) in before.repositories.iter().zip(&after.repositories) {
            let (manifests, blobs) = (old.manifests(), old.blobs());
            let images = new
                .images
                .iter()
                .filter(|image| !manifests.contains(image.top()));
            let images: Vec<_> = images.collect();
            let needed: BTreeSet<_> = images.iter().flat_map(|image| image.manifests()).collect();
            minimum.looks += needed.len();
            minimum.add_manifests(needed.len());
            for blob in images
                .iter()
                .flat_map(|image| image.blobs())
                .collect::<BTreeSet<_>>()
            {
                minimum.looks += 1;
                if !blobs.contains(blob) {
                    minimum.add_blob(there.insert(blob));
                }
            }
        }
        minimum
    }

    fn add_manifests(&mut self, count: usize) {
        self.manifests_read += count;
        self.manifests_written += count;
    }

    fn add_blob(&mut self, is_new: bool) {
        if is_new {
            self.blobs_read += 1;
            self.uploads += 1;
        } else {
            self.mounts += 1;
        }
    }
}

impl fmt::Display for Minimum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Minimum {
            listings,
            questions,
            looks,
            manifests_read,
            manifests_written,
            blobs_read,
            uploads,
            mounts,
        } = self;
        write!(f, "{}: {listings} listings", self.total())?;
        let parts = [
            (*questions, "whether attachments are listed"),
            (*looks, "HEADs"),
            (*manifests_read, "manifests read"),
            (*manifests_written, "manifests written"),
            (*blobs_read, "blobs read"),
            (2 * uploads, "requests to send blobs"),
            (*mounts, "mounts"),
        ];
        parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}
