//! State of the tags of one repository between cleanups: when a digest was first seen under a tag,
//! since when a tag waits for its deletion, which tags are held, and which were retired.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Digest, Tag};

/// Observations and decisions about the tags of a repository.
///
/// Two histories can be merged in any order. Where they differ, the merged one keeps a tag longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagHistory {
    /// Tags that the last cleanup listed.
    #[serde(default)]
    pub tags: BTreeMap<Tag, TagSighting>,
    /// Tags that are not deleted, because they were restored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<Tag, TagHold>,
    /// Tags that cleanup moved images to before their deletion.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<Tag, RetiredTag>,
    /// Manifests without a tag that nothing needs, with the time since which they wait.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub untagged: BTreeMap<Digest, DateTime<Utc>>,
}

/// Observations about a tag.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagSighting {
    /// Digest that the tag names.
    pub digest: Digest,
    /// Time at which a cleanup first saw this digest under the tag; `None` if that was the first
    /// cleanup of the repository, and the tag is a version, which is not moved as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<DateTime<Utc>>,
    /// Time since which the policy selects the tag; `None` while it does not select the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<DateTime<Utc>>,
}

/// A hold on a tag, or its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagHold {
    /// Time at which the tag was held or released. The latest change counts.
    pub changed_at: DateTime<Utc>,
    /// End of the hold; `None` if it was released.
    pub until: Option<DateTime<Utc>>,
}

/// An image that was moved to a retired tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetiredTag {
    /// Time of the move.
    pub retired_at: DateTime<Utc>,
    /// Tag that the image had.
    pub tag: Tag,
    pub digest: Digest,
}

impl TagHistory {
    /// Returns the sighting of `digest` under `tag`.
    pub fn sighting(&self, tag: &Tag, digest: &Digest) -> Option<&TagSighting> {
        self.tags
            .get(tag)
            .filter(|sighting| sighting.digest == *digest)
    }

    /// Returns the end of the hold on a tag that is held at `now`.
    pub fn held_until(&self, tag: &Tag, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.holds.get(tag)?.until.filter(|until| *until > now)
    }

    /// Returns the retirement that created `tag`.
    pub fn retirement(&self, tag: &Tag, digest: &Digest) -> Option<&RetiredTag> {
        self.retired
            .get(tag)
            .filter(|retired| retired.digest == *digest)
    }

    /// Adds the content of `other`.
    pub fn merge(&mut self, other: TagHistory) {
        for (digest, since) in other.untagged {
            let own = self.untagged.entry(digest).or_insert(since);
            *own = since.max(*own);
        }
        for (tag, sighting) in other.tags {
            match self.tags.get_mut(&tag) {
                Some(own) => own.merge(sighting),
                None => drop(self.tags.insert(tag, sighting)),
            }
        }
        for (tag, hold) in other.holds {
            let own = self.holds.entry(tag).or_insert(hold);
            if (hold.changed_at, hold.until) > (own.changed_at, own.until) {
                *own = hold;
            }
        }
        for (tag, retired) in other.retired {
            let own = self.retired.entry(tag).or_insert_with(|| retired.clone());
            if retired > *own {
                *own = retired;
            }
        }
    }
}

impl TagSighting {
    /// Keeps the later of both times. A tag waits only if it waits in both, with the same digest.
    fn merge(&mut self, other: TagSighting) {
        let is_same = self.digest == other.digest;
        let waiting_since = self
            .waiting_since
            .zip(other.waiting_since)
            .filter(|_| is_same)
            .map(|(one, other)| one.max(other));
        let first_seen = self.first_seen.max(other.first_seen);
        if !is_same && (other.first_seen, &other.digest) > (self.first_seen, &self.digest) {
            self.digest = other.digest;
        }
        self.first_seen = first_seen;
        self.waiting_since = waiting_since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + days * 86_400, 0).expect("a time")
    }

    fn sighting(content: &str, first_seen: i64, waiting_since: Option<i64>) -> TagSighting {
        TagSighting {
            digest: Digest::sha256(content.as_bytes()),
            first_seen: Some(time(first_seen)).filter(|_| first_seen > 1),
            waiting_since: waiting_since.map(time),
        }
    }

    /// Histories of one tag that differ in each field.
    fn histories() -> Vec<TagHistory> {
        let tag: Tag = "1.0".parse().expect("a tag");
        let mut all = vec![TagHistory::default()];
        for (content, first_seen, waiting) in [
            ("a", 1, None),
            ("a", 1, Some(3)),
            ("a", 2, Some(2)),
            ("b", 1, Some(3)),
            ("b", 5, None),
        ] {
            let mut history = TagHistory::default();
            history
                .tags
                .insert(tag.clone(), sighting(content, first_seen, waiting));
            for (changed, until) in [(1, Some(9)), (2, None)] {
                let mut held = history.clone();
                let hold = TagHold {
                    changed_at: time(changed),
                    until: until.map(time),
                };
                held.holds.insert(tag.clone(), hold);
                all.push(held);
            }
            all.push(history);
        }
        all
    }

    fn merged(one: &TagHistory, other: &TagHistory) -> TagHistory {
        let mut merged = one.clone();
        merged.merge(other.clone());
        merged
    }

    #[test]
    fn merge_is_commutative_associative_and_idempotent() {
        let histories = histories();
        for one in &histories {
            assert_eq!(merged(one, one), *one);
            for other in &histories {
                let both = merged(one, other);
                assert_eq!(both, merged(other, one));
                assert_eq!(merged(&both, other), both);
                for third in &histories {
                    assert_eq!(
                        merged(&both, third),
                        merged(one, &merged(other, third)),
                        "{one:?}\n{other:?}\n{third:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn merge_never_shortens_a_wait() {
        let tag: Tag = "1.0".parse().expect("a tag");
        for one in &histories() {
            for other in &histories() {
                let both = merged(one, other);
                let Some(found) = both.tags.get(&tag) else {
                    continue;
                };
                for part in [one, other]
                    .into_iter()
                    .filter_map(|one| one.tags.get(&tag))
                {
                    assert!(found.first_seen >= part.first_seen);
                    if let Some(waiting) = found.waiting_since {
                        assert!(part.waiting_since.is_some_and(|since| since <= waiting));
                    }
                }
            }
        }
    }

    #[test]
    fn holds_end_and_can_be_released() {
        let tag: Tag = "1.0".parse().expect("a tag");
        let mut history = TagHistory::default();
        let hold = |changed, until: Option<i64>| TagHold {
            changed_at: time(changed),
            until: until.map(time),
        };
        history.holds.insert(tag.clone(), hold(1, Some(31)));
        assert_eq!(history.held_until(&tag, time(30)), Some(time(31)));
        assert_eq!(history.held_until(&tag, time(31)), None);
        let mut released = TagHistory::default();
        released.holds.insert(tag.clone(), hold(2, None));
        history.merge(released);
        assert_eq!(history.held_until(&tag, time(3)), None);
    }
}
