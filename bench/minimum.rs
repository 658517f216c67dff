//! Minimum number of requests that a mirror needs.
//!
//! The numbers follow the distribution specification, for the registries of this benchmark: no
//! credentials, no referrers API, and uploads that consist of a POST and a PUT.

use std::collections::BTreeSet;
use std::fmt;

use crate::corpus::{Content, Corpus};

/// Minimum number of requests by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MinimumRequests {
    /// Tag listings: one for each repository and side.
    listings: usize,
    /// Requests that find out if the source has the referrers API: one if it has not.
    referrers_checks: usize,
    /// HEADs of tags, and of manifests and blobs that the target may have.
    heads: usize,
    manifests_read: usize,
    manifests_written: usize,
    blobs_read: usize,
    /// Blob uploads: two requests each.
    uploads: usize,
    /// Blobs mounted from another repository of the target: one request each.
    mounts: usize,
}

impl MinimumRequests {
    pub(crate) fn total(&self) -> usize {
        let MinimumRequests {
            listings,
            referrers_checks,
            heads,
            manifests_read,
            manifests_written,
            blobs_read,
            uploads,
            mounts,
        } = self;
        listings
            + referrers_checks
            + heads
            + manifests_read
            + manifests_written
            + blobs_read
            + 2 * uploads
            + mounts
    }

    /// Returns the minimum for a mirror of `corpus` at an empty target.
    ///
    /// Each manifest is read and written once, an index by its tag. Each blob is read and uploaded
    /// once, and mounted in every other repository that needs it.
    pub(crate) fn cold(corpus: &Corpus) -> MinimumRequests {
        let mut minimum = MinimumRequests {
            listings: 2 * corpus.repositories.len(),
            referrers_checks: 1,
            ..MinimumRequests::default()
        };
        let mut at_target = BTreeSet::new();
        for repository in &corpus.repositories {
            minimum.add_manifests(repository.manifests().len());
            for blob in repository.blobs() {
                minimum.add_blob(at_target.insert(blob));
            }
        }
        minimum
    }

    /// Returns the minimum for a target that is up to date: the listings, and with `check_digest`
    /// also a HEAD for each tag and side.
    pub(crate) fn unchanged(corpus: &Corpus, check_digest: bool) -> MinimumRequests {
        let tags = corpus
            .repositories
            .iter()
            .map(|repository| repository.images.len())
            .sum::<usize>();
        let heads = if check_digest { 2 * tags } else { 0 };
        MinimumRequests {
            listings: 2 * corpus.repositories.len(),
            referrers_checks: usize::from(check_digest),
            heads,
            ..MinimumRequests::default()
        }
    }

    /// Returns the minimum to update a target from `before` to `after`, where some tags refer to
    /// different images.
    ///
    /// A mirror has no state from earlier runs, so it sends a HEAD for each manifest and blob of a
    /// new image to find out if the target has it.
    pub(crate) fn changed(before: &Corpus, after: &Corpus) -> MinimumRequests {
        let mut minimum = MinimumRequests::unchanged(after, true);
        let mut at_target: BTreeSet<&Content> = before
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
            minimum.heads += needed.len();
            minimum.add_manifests(needed.len());
            for blob in images
                .iter()
                .flat_map(|image| image.blobs())
                .collect::<BTreeSet<_>>()
            {
                minimum.heads += 1;
                if !blobs.contains(blob) {
                    minimum.add_blob(at_target.insert(blob));
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

impl fmt::Display for MinimumRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MinimumRequests {
            listings,
            referrers_checks,
            heads,
            manifests_read,
            manifests_written,
            blobs_read,
            uploads,
            mounts,
        } = self;
        write!(f, "{}: {listings} listings", self.total())?;
        let parts = [
            (*referrers_checks, "referrers API checks"),
            (*heads, "HEADs"),
            (*manifests_read, "manifests read"),
            (*manifests_written, "manifests written"),
            (*blobs_read, "blobs read"),
            (2 * uploads, "requests to upload blobs"),
            (*mounts, "mounts"),
        ];
        parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, purpose)| write!(f, ", {count} {purpose}"))
    }
}
