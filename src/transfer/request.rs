//! Requests to copy an image, and their results.

use std::collections::BTreeSet;

use super::platform_filter::PlatformFilter;
use crate::model::{Digest, Reference, Repository, Tag};

/// One image to copy.
pub struct CopyRequest<'a> {
    /// Name of the item in progress events.
    pub item: &'a str,
    pub from: &'a Repository,
    /// The image to read: a digest if the plan decided on one, else a tag, which is resolved once.
    pub reference: Reference,
    pub to: &'a Repository,
    pub tag: &'a Tag,
    pub expected: ExpectedTag<'a>,
    pub filter: &'a PlatformFilter,
    pub attachments: Attachments<'a>,
}

/// One image whose content must be readable at the target.
pub struct ReadableCopyRequest<'a> {
    /// Name of the item in progress events.
    pub item: &'a str,
    pub from: &'a Repository,
    pub digest: &'a Digest,
    pub to: &'a Repository,
    /// Tags of the source that can be attachment tags.
    pub source_tags: &'a BTreeSet<Tag>,
}

/// Condition that the tag at the target must meet before a copy moves it.
///
/// A tag that already names the copied image always meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedTag<'a> {
    /// The tag was absent when the plan was made. Checked again only if that is long ago.
    Absent,
    /// The tag named this image, or was deleted since. Always checked again.
    Image(&'a Digest),
}

/// Selects if attachments are copied with an image.
#[derive(Clone, Copy, Debug)]
pub enum Attachments<'a> {
    Skip,
    Copy {
        /// Tags of the source; those that cannot be attachment tags may be missing.
        source_tags: &'a BTreeSet<Tag>,
    },
}

/// A completed copy.
#[derive(Debug, PartialEq, Eq)]
pub struct CopiedImage {
    /// Digest of the tag at the source.
    pub source_digest: Digest,
    /// Digest of the tag at the target. It differs only if the index was rewritten.
    pub digest: Digest,
    pub bytes: CopiedBytes,
    /// Number of signatures and other attachments at the target.
    pub attachments: usize,
    pub warnings: Vec<String>,
}

impl CopiedImage {
    /// Returns the result of a copy that another run made since the plan.
    pub fn by_another_run(source_digest: &Digest, digest: &Digest) -> CopiedImage {
        CopiedImage {
            source_digest: source_digest.clone(),
            digest: digest.clone(),
            bytes: CopiedBytes::default(),
            attachments: 0,
            warnings: vec![COPIED_BY_ANOTHER_RUN.to_owned()],
        }
    }
}

pub(super) const COPIED_BY_ANOTHER_RUN: &str = "another run copied the image in the meantime";

/// Amounts of content, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedBytes {
    /// Sent over the network.
    pub moved: u64,
    /// Shared from another repository of the target.
    pub mounted: u64,
    /// Present at the target already, or sent for another image of the same run.
    pub skipped: u64,
}

impl std::ops::AddAssign for CopiedBytes {
    fn add_assign(&mut self, other: CopiedBytes) {
        self.moved += other.moved;
        self.mounted += other.mounted;
        self.skipped += other.skipped;
    }
}

/// An image that is going to be copied.
pub struct UpcomingCopy<'a> {
    pub from: &'a Repository,
    pub reference: &'a Reference,
    pub to: &'a Repository,
    pub filter: &'a PlatformFilter,
}
