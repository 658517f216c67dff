//! The grace period: a tag that the rules select waits before it is deleted. Pure.
//!
//! The first cleanup that selects a tag stores the time. A later one deletes the tag if it is still
//! selected, names the same digest, and has waited for `retention.grace_days`. If the stored state
//! is lost, the wait starts again.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::attachments::{AttachmentIndex, is_attached};
use super::reasons::{DeleteReason, KeepReason, PendingDeletion, PendingRetirement, TagVerdict};
use super::world::{ObservedRepository, ObservedTag, RepositoryRole};
use crate::config::GraceMode;
use crate::model::{Digest, Repository, RetiredTag, Tag, TagHistory, TagSighting, TagVersion};
use crate::registry::Support;
use crate::steps::sync::FormerVersion;

/// Returns the grace period of a repository; `None` if tags do not wait: in an archive, with
/// `grace_days: 0`, and without stored state.
pub(super) fn grace_period(repository: &ObservedRepository) -> Option<TimeDelta> {
    repository.history.as_ref()?;
    let days = repository
        .rules
        .iter()
        .map(|rules| rules.grace_days)
        .max()
        .filter(|days| *days > 0)?;
    match repository.role {
        RepositoryRole::Base | RepositoryRole::Mirror | RepositoryRole::Application => {
            Some(TimeDelta::days(days.into()))
        }
        RepositoryRole::Archive { .. } => None,
    }
}

/// Returns true if a tag has waited since an earlier cleanup, so that `max_delete_percent` counted
/// it then.
pub(super) fn is_waiting(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    grace_period(repository).is_some()
        && (waiting_since(repository, tag).is_some() || repository.retirement(tag).is_some())
}

fn waiting_since(repository: &ObservedRepository, tag: &ObservedTag) -> Option<DateTime<Utc>> {
    let digest = &tag.image.as_ref().ok()?.digest;
    repository
        .known_history()?
        .sighting(&tag.tag, digest)?
        .waiting_since
}

/// Returns the verdict on a retired tag; `None` for all other tags.
pub(super) fn retired_verdict(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    now: DateTime<Utc>,
) -> Option<TagVerdict> {
    let retired = repository.retirement(tag)?;
    let until = retired.retired_at + grace_period(repository).unwrap_or_default();
    Some(if now >= until {
        TagVerdict::Delete(DeleteReason::Retired)
    } else {
        TagVerdict::Keep(KeepReason::RetiredUntil(until.date_naive()))
    })
}

/// Returns the selected tags that have to wait, each with the reason why it is kept until then.
///
/// An attachment goes together with its image and does not wait on its own.
pub(super) fn waiting_tags(
    repository: &ObservedRepository,
    verdicts: &BTreeMap<Tag, TagVerdict>,
    now: DateTime<Utc>,
) -> Vec<(Tag, KeepReason)> {
    let Some(period) = grace_period(repository) else {
        return Vec::new();
    };
    let attachments = AttachmentIndex::of(repository);
    let goes_with_image = |tag: &Tag| {
        attachments.subjects.get(tag).is_some_and(|subjects| {
            subjects
                .iter()
                .all(|subject| attachments.known.contains(subject))
        })
    };
    let reason = |tag: &ObservedTag| {
        let Some(TagVerdict::Delete(because)) = verdicts.get(&tag.tag) else {
            return None;
        };
        if *because == DeleteReason::Retired || goes_with_image(&tag.tag) {
            return None;
        }
        let since = waiting_since(repository, tag);
        let until = since.unwrap_or(now) + period;
        let is_due = since.is_some() && now >= until;
        let (because, until) = (*because, until.date_naive());
        match retired_name(repository, tag, now) {
            _ if is_due => None,
            Some(to) if since.is_none() => Some(KeepReason::Retiring(PendingRetirement {
                because,
                until,
                to,
            })),
            _ => Some(KeepReason::Waiting(PendingDeletion { because, until })),
        }
    };
    repository
        .tags()
        .filter_map(|tag| Some((tag.tag.clone(), reason(tag)?)))
        .collect()
}

/// Returns the tag that an image is moved to; `None` if it has to wait under its own tag: by the
/// rules, because the registry deletes no tags, because the name would be too long, or because the
/// name is in use.
fn retired_name(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    now: DateTime<Utc>,
) -> Option<Tag> {
    let is_wanted = repository
        .rules
        .iter()
        .all(|rules| rules.grace == GraceMode::Retire);
    let is_image = !is_attached(repository, tag) && tag.tag.parse_replaced().is_none();
    if !is_wanted || !is_image || repository.deletions.tags != Support::Supported {
        return None;
    }
    let name: Tag = format!("{}-retired.{}", tag.tag, now.format("%Y%m%d"))
        .parse()
        .ok()?;
    let is_used = repository.tags().any(|other| other.tag == name);
    (!is_used).then_some(name)
}

/// Returns the time at which the image was first seen under the tag, if its age depends on that.
///
/// An image is as old as it says, but a tag can be put on an old image at any time. A registry that
/// reports the push dates of tags knows when; the files of a layout only have the time of the image.
pub(super) fn first_seen(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let is_layout = matches!(repository.repository, Repository::Layout { .. });
    let is_pushed_at_known = tag.pushed_at.is_some() && !is_layout;
    sighting(repository, tag, now).filter(|_| !is_pushed_at_known)
}

/// Returns the time at which a cleanup first saw the image under the tag; `None` if it is unknown.
///
/// In the first cleanup of a repository all images are seen for the first time. Then only those
/// under tags without a version count as new, because such tags are the ones that are moved.
fn sighting(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let history = repository.history.as_ref()?;
    let digest = &tag.image.as_ref().ok()?.digest;
    match &history.content {
        Some(known) => known
            .sighting(&tag.tag, digest)
            .map_or(Some(now), |sighting| sighting.first_seen),
        None => Some(now).filter(|_| {
            !TagVersion::of(tag.tag.as_str()).is_version()
                || !FormerVersion::of(tag.tag.as_str()).is_version()
        }),
    }
}

/// Returns the state to store after a cleanup that selected the tags `selected`; `None` if the
/// repository could not be listed.
///
/// With `is_blocked` no tag begins to wait, because none may be deleted.
pub(super) fn next_history(
    repository: &ObservedRepository,
    selected: &BTreeSet<&Tag>,
    retired: &BTreeMap<Tag, (Tag, Digest)>,
    is_blocked: bool,
    now: DateTime<Utc>,
) -> Option<TagHistory> {
    repository.history.as_ref()?;
    let listing = repository.listing.as_ref().ok()?;
    let nothing = TagHistory::default();
    let known = repository.known_history().unwrap_or(&nothing);
    let mut next = TagHistory::default();
    for tag in listing {
        let Ok(tree) = &tag.image else {
            // A tag that could not be read keeps its earlier state.
            let earlier = known.tags.get(&tag.tag).cloned();
            next.tags
                .extend(earlier.map(|earlier| (tag.tag.clone(), earlier)));
            continue;
        };
        let earlier = known.sighting(&tag.tag, &tree.digest);
        let waiting_since = earlier.and_then(|earlier| earlier.waiting_since);
        let sighting = TagSighting {
            digest: tree.digest.clone(),
            first_seen: sighting(repository, tag, now),
            waiting_since: match selected.contains(&tag.tag) {
                true if is_blocked => waiting_since,
                true => waiting_since.or(Some(now)),
                false => None,
            },
        };
        next.tags.insert(tag.tag.clone(), sighting);
        if let Some(retired) = known.retirement(&tag.tag, &tree.digest) {
            next.retired.insert(tag.tag.clone(), retired.clone());
        }
    }
    for (name, (tag, digest)) in retired {
        let retired = RetiredTag {
            retired_at: now,
            tag: tag.clone(),
            digest: digest.clone(),
        };
        next.retired.insert(name.clone(), retired);
    }
    let is_current = |until: Option<DateTime<Utc>>| until.is_some_and(|until| until > now);
    let holds = known
        .holds
        .iter()
        .filter(|(_, hold)| is_current(hold.until));
    next.holds
        .extend(holds.map(|(tag, hold)| (tag.clone(), *hold)));
    Some(next)
}
