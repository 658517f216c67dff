//! The rules that select the tags of a mirror.

use std::time::Duration;

use crate::model::lifecycle::TagPattern;
use crate::model::tag::spells_pre_release;
use crate::model::{Tag, TagVersion, VersionRange};

/// The tags of a source repository that a mirror contains.
#[derive(Clone, Debug)]
pub enum TagSelection {
    /// One tag.
    Fixed(Tag),
    /// All tags that match a pattern.
    Pattern(Box<PatternSelection>),
}

/// Rules that select tags by a pattern. They apply in the order of the fields.
#[derive(Clone, Debug)]
pub struct PatternSelection {
    /// Tags that are selected whatever the other rules say.
    pub include: Vec<Tag>,
    /// Pattern of the tags to select. Matches complete tags. `None` for all tags within `semver`,
    /// and for none without it.
    pub tag_regex: Option<TagPattern>,
    /// Range that the release numbers must be in.
    pub semver: Option<VersionRange>,
    /// Pattern of the tags to exclude. Matches complete tags.
    pub exclude_regex: Option<TagPattern>,
    /// Minimum time since a tag was pushed to the source; younger tags are not selected yet.
    pub min_age: Option<Duration>,
    /// True to select pre-releases, false to leave them out. `None` leaves them out if there is a
    /// cut and the pattern spells no pre-release word.
    pub prereleases: Option<bool>,
    /// Order of the remaining tags.
    pub sort: SortBy,
    /// Groups among which `keep_last` counts; `None` for all tags.
    pub per: Option<SyncGroup>,
    /// Number of newest groups to select; `None` for all.
    pub keep_groups: Option<usize>,
    /// Number of newest tags to select in each group; `None` for all.
    pub keep_last: Option<usize>,
    /// Unit of `keep_last`.
    pub count: CountBy,
    /// Minimum number of selected tags. The entry fails if fewer are selected.
    pub min_tags: usize,
}

impl PatternSelection {
    /// Returns a selection by a pattern, with the default of every other rule.
    pub fn by_pattern(tag_regex: TagPattern) -> PatternSelection {
        PatternSelection {
            include: Vec::new(),
            tag_regex: Some(tag_regex),
            semver: None,
            exclude_regex: None,
            min_age: None,
            prereleases: None,
            sort: SortBy::Version,
            per: None,
            keep_groups: None,
            keep_last: None,
            count: CountBy::Tags,
            min_tags: 1,
        }
    }

    /// Returns true if `tag_regex`, `semver`, `exclude_regex` and `include` select a tag, without
    /// regard to the other tags.
    pub fn matches(&self, tag: &str) -> bool {
        let is_excluded = || {
            self.exclude_regex
                .as_ref()
                .is_some_and(|exclude| exclude.regex.is_match(tag))
        };
        self.include.iter().any(|included| included.as_str() == tag)
            || (self.matches_rule(tag) && !is_excluded())
    }

    /// Returns true if `tag_regex` and `semver` match a tag.
    pub fn matches_rule(&self, tag: &str) -> bool {
        let in_pattern = match &self.tag_regex {
            Some(pattern) => pattern.regex.is_match(tag),
            None => self.semver.is_some(),
        };
        in_pattern
            && self
                .semver
                .as_ref()
                .is_none_or(|range| range.contains(&TagVersion::of(tag)))
    }

    /// Returns true if a rule keeps only the newest of the tags that match.
    pub fn cuts(&self) -> bool {
        self.keep_last.is_some() || self.keep_groups.is_some()
    }

    /// Returns true if the entry asks for pre-releases: by `prereleases: true`, or by a pattern that
    /// spells a pre-release word.
    pub fn expects_pre_releases(&self) -> bool {
        let is_spelled = || {
            self.tag_regex
                .as_ref()
                .is_some_and(|pattern| spells_pre_release(&pattern.text))
        };
        self.prereleases.unwrap_or_else(is_spelled)
    }

    /// Returns true if pre-releases are left out.
    pub fn leaves_pre_releases_out(&self) -> bool {
        match self.prereleases {
            Some(selected) => !selected,
            None => self.cuts() && !self.expects_pre_releases(),
        }
    }

    /// Returns the rules that select tags by name, for messages: `tag_regex: 3\..*`.
    pub fn describe(&self) -> String {
        let include: Vec<&str> = self.include.iter().map(Tag::as_str).collect();
        let rules = [
            self.tag_regex
                .as_ref()
                .map(|pattern| format!("tag_regex: {}", pattern.text)),
            self.semver.as_ref().map(|range| format!("semver: {range}")),
            (!include.is_empty()).then(|| format!("include: {}", include.join(", "))),
        ];
        let rules: Vec<String> = rules.into_iter().flatten().collect();
        rules.join("; ")
    }
}

/// Groups of tags that `keep_last` counts in (`sync.entries[].per`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncGroup {
    /// Tags of the same variant, with the versions of its words.
    Variant,
    /// Tags with the same first two release numbers.
    Minor,
    /// Tags with the same first release number.
    Major,
}

/// Unit of `keep_last` (`sync.entries[].count`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountBy {
    /// Each tag counts.
    Tags,
    /// All tags of a version count once.
    Versions,
}

/// Order of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// By version.
    Version,
    /// By push date.
    Date,
}
