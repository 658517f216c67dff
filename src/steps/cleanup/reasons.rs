//! Reasons for keeping and for deleting a tag.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::world::TagReadError;
use crate::model::text::{excerpt, printable};
use crate::model::{ImageReference, Tag};

/// Decision on a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagVerdict {
    Keep(KeepReason),
    Delete(DeleteReason),
}

impl TagVerdict {
    pub(super) fn is_delete(&self) -> bool {
        matches!(self, TagVerdict::Delete(_))
    }

    pub(super) fn is_keep(&self) -> bool {
        matches!(self, TagVerdict::Keep(_))
    }
}

/// Reason why a tag is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "reason", content = "detail")]
pub enum KeepReason {
    /// It matches `exclude_tags`.
    Excluded,
    /// It is `latest`.
    Latest,
    /// It is among the newest `min_keep`.
    MinKeep,
    /// `build` would produce it now, as a tag or as an alias.
    Built,
    /// The tags that `build` would produce are unknown, for this reason.
    BuildUnknown(String),
    /// The record of this image names it as the base.
    BaseOf(ImageReference),
    /// It is the image of a record.
    Recorded(ImageReference),
    /// A configured image is built on it.
    UsedByBuild,
    /// `sync` would select it.
    Selected,
    /// The tags that `sync` would select are unknown, for this reason.
    UpstreamUnknown(String),
    /// It is younger than 24 hours.
    Young,
    /// It is among the newest `keep_last`.
    KeepLast,
    /// It is an earlier image of this tag, which is kept.
    ReplacedBy(Tag),
    /// It is not older than `max_age_days`.
    NotOldEnough,
    /// Its age is unknown.
    AgeUnknown,
    /// It has the same digest as this tag, which is kept, and the registry deletes by digest only.
    SharesDigest(Tag),
    /// It is part of an index that is kept, and the registry deletes by digest only.
    PartOfKept,
    /// It is attached to an image that is kept.
    AttachedToKept,
    /// The image that it is attached to exists without a tag, or may exist.
    SubjectUnknown,
    /// It is listed but there is no manifest.
    Absent,
    /// Its manifest cannot be read, for this reason.
    Unreadable(String),
    /// The registry deletes by digest only, and an unreadable tag may have the same digest.
    NeighbourUnreadable,
    /// The registry does not delete.
    NotDeletable,
    /// In an archive: it is not a tag that cleanup wrote.
    NotArchived,
    /// In an archive: it expires after this day.
    ArchivedUntil(NaiveDate),
    /// More tags of the repository would be deleted than `max_delete_percent` allows.
    TooMany,
    /// The safety check failed: the records are incomplete.
    #[serde(rename = "guarded")]
    SafetyCheckFailed,
    /// The repository cannot be cleaned up, for this reason.
    RepositoryFailed(String),
    /// The registry deletes by digest only, and there may be tags that it did not list, for this
    /// reason.
    ListingNotProved(String),
    /// The record of this image names it as the base, under another host.
    BaseUnderOtherHost(ImageReference),
    /// The record of this image named it as the base, until the record of another project replaced
    /// that record.
    BaseOfReplaced {
        image: ImageReference,
        project: String,
        until: DateTime<Utc>,
    },
    /// Another project, with this address, built the base.
    BuiltElsewhere(String),
    /// `retention.hold` names it.
    Held,
    /// It is in use, according to this source of `retention.keep_from`.
    InUse(String),
    /// No record names this base yet, and the first record is not old enough.
    BaseUnnamedUntil(DateTime<Utc>),
    /// The rules select it, and it waits for its deletion.
    Waiting(PendingDeletion),
    /// The rules select it, and its image moves to a retired tag.
    Retiring(PendingRetirement),
    /// It is a retired tag, which is deleted on this day.
    RetiredUntil(NaiveDate),
    /// It was restored, and is held until this day.
    RestoredUntil(NaiveDate),
    /// It belongs to a commit that this project deployed to this environment.
    Deployed {
        project: String,
        environment: String,
    },
    /// This project deployed a commit to this environment for which there is no record, and it is
    /// an image of the project.
    DeployedWithoutRecord {
        project: String,
        environment: String,
    },
}

/// Deletion that a tag waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDeletion {
    pub because: DeleteReason,
    /// Day on which the tag is deleted if it is still selected.
    pub until: NaiveDate,
}

/// Move of an image to a retired tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingRetirement {
    pub because: DeleteReason,
    /// Day on which the retired tag is deleted.
    pub until: NaiveDate,
    /// The retired tag.
    pub to: Tag,
}

impl KeepReason {
    pub(super) fn of_read_error(error: &TagReadError) -> KeepReason {
        match error {
            TagReadError::NotFound => KeepReason::Absent,
            TagReadError::Failed(error) => KeepReason::Unreadable(error.to_string()),
        }
    }

    /// Returns the reason as text.
    pub fn words(&self) -> String {
        let text = match self {
            KeepReason::Excluded => "excluded by `exclude_tags`",
            KeepReason::Latest => "`latest` is always kept",
            KeepReason::MinKeep => "among the newest `min_keep`",
            KeepReason::Built => "produced by `build`",
            KeepReason::BuildUnknown(cause) => {
                return format!("the tags that `build` produces are unknown: {cause}");
            }
            KeepReason::BaseOf(image) => return format!("base of {image}"),
            KeepReason::Recorded(image) => return format!("recorded as {image}"),
            KeepReason::UsedByBuild => "a configured image is built on it",
            KeepReason::Selected => "selected by `sync`",
            KeepReason::UpstreamUnknown(cause) => {
                return format!("the tags that `sync` selects are unknown: {cause}");
            }
            KeepReason::Young => "younger than 24 hours",
            KeepReason::KeepLast => "among the newest `keep_last`",
            KeepReason::ReplacedBy(tag) => {
                return format!("an earlier image of {tag}, which is kept");
            }
            KeepReason::NotOldEnough => "not older than `max_age_days`",
            KeepReason::AgeUnknown => "its age is unknown",
            KeepReason::SharesDigest(tag) => {
                return format!(
                    "it has the same digest as {tag}, and the registry deletes by digest only"
                );
            }
            KeepReason::PartOfKept => {
                "part of an image that is kept, and the registry deletes by digest only"
            }
            KeepReason::AttachedToKept => "attached to an image that is kept",
            KeepReason::SubjectUnknown => "the image that it is attached to may still exist",
            KeepReason::Absent => "listed, but not found",
            KeepReason::Unreadable(cause) => return format!("cannot be read: {cause}"),
            KeepReason::NeighbourUnreadable => {
                "another tag that may have the same digest cannot be read"
            }
            KeepReason::NotDeletable => "the registry does not allow deletions",
            KeepReason::NotArchived => "not archived by cleanup",
            KeepReason::ArchivedUntil(date) => return format!("archived until {date}"),
            KeepReason::TooMany => "more tags than `max_delete_percent` would be deleted",
            KeepReason::SafetyCheckFailed => "the safety check failed",
            KeepReason::RepositoryFailed(cause) => return cause.clone(),
            KeepReason::ListingNotProved(cause) => {
                return format!(
                    "the registry deletes by digest only, and may have tags that it did not list: \
                     {cause}"
                );
            }
            KeepReason::BuiltElsewhere(source) => {
                return format!("built by another project, {}", excerpt(source, 200));
            }
            KeepReason::Held => "held by `retention.hold`",
            KeepReason::InUse(source) => return format!("in use, according to {source}"),
            KeepReason::BaseUnderOtherHost(image) => {
                return format!("base of {image}, whose record names another host");
            }
            KeepReason::BaseOfReplaced {
                image,
                project,
                until,
            } => {
                return format!(
                    "base of {image} of project {}, whose record was replaced; kept until {}",
                    printable(project),
                    until.date_naive()
                );
            }
            KeepReason::BaseUnnamedUntil(until) => {
                return format!(
                    "no record names this base yet; kept until {}, 30 days after the first record",
                    until.date_naive()
                );
            }
            KeepReason::Waiting(PendingDeletion { because, until }) => {
                return format!("{}; waits until {until}", because.words());
            }
            KeepReason::Retiring(PendingRetirement { because, until, to }) => {
                return format!("{}; to be moved to {to} until {until}", because.words());
            }
            KeepReason::RetiredUntil(date) => return format!("retired until {date}"),
            KeepReason::Deployed {
                project,
                environment,
            } => {
                return format!(
                    "deployed to {} by {}",
                    excerpt(environment, 200),
                    excerpt(project, 200)
                );
            }
            KeepReason::DeployedWithoutRecord {
                project,
                environment,
            } => {
                return format!(
                    "image of {}, which deployed a commit to {} that no record names",
                    excerpt(project, 200),
                    excerpt(environment, 200)
                );
            }
            KeepReason::RestoredUntil(date) => return format!("restored, held until {date}"),
        };
        text.to_owned()
    }
}

/// Reason why a tag is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DeleteReason {
    /// It is not among the newest `keep_last`.
    BeyondKeepLast,
    /// It is older than `max_age_days`.
    TooOld,
    /// It is both beyond `keep_last` and older than `max_age_days`.
    BeyondKeepLastAndTooOld,
    /// It is an earlier image of a tag that is deleted or does not exist.
    WithTag,
    /// It is attached to an image that is deleted or does not exist.
    WithImage,
    /// In an archive: it has expired.
    Expired,
    /// It is a retired tag whose term has ended.
    Retired,
}

impl DeleteReason {
    /// Returns the reason as in reports for machines.
    pub(super) fn key(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Returns the reason as text.
    pub fn words(self) -> &'static str {
        match self {
            DeleteReason::BeyondKeepLast => "beyond `keep_last`",
            DeleteReason::TooOld => "older than `max_age_days`",
            DeleteReason::BeyondKeepLastAndTooOld => {
                "beyond `keep_last` and older than `max_age_days`"
            }
            DeleteReason::WithTag => "its tag is deleted or does not exist",
            DeleteReason::WithImage => "its image is deleted or does not exist",
            DeleteReason::Expired => "expired in the archive",
            DeleteReason::Retired => "retired, and its term has ended",
        }
    }
}
