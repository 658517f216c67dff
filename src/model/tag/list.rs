//! Properties of a tag that depend on the other tags of its repository.

use std::collections::HashMap;

use super::version::TagVersion;

/// The tags of a repository, indexed for the questions whether a tag moves and whether it is an
/// alias of a pre-release.
#[derive(Clone, Debug, Default)]
pub struct TagList {
    /// Tags with a release, by its first number and the words of the variant.
    groups: HashMap<String, Vec<TagVersion>>,
}

impl TagList {
    /// Indexes tags.
    pub fn of<'a>(tags: impl IntoIterator<Item = &'a str>) -> TagList {
        let mut groups: HashMap<String, Vec<TagVersion>> = HashMap::new();
        for version in tags.into_iter().map(TagVersion::of) {
            if version.has_release() {
                groups.entry(group(&version)).or_default().push(version);
            }
        }
        TagList { groups }
    }

    /// Returns true if the image under a tag is expected to change: the tag has no version, or
    /// another listed tag refines it, as `3.21.3` refines `3` and `3.21`.
    pub fn is_moving(&self, version: &TagVersion) -> bool {
        !version.is_version() || self.refinements(version).next().is_some()
    }

    /// Returns true if a tag is a pre-release, or if all listed tags with more numbers that refine
    /// it are: `5.0` is one where only `5.0.0-beta.5` is listed.
    pub fn is_pre_release(&self, version: &TagVersion) -> bool {
        let mut refinements = self
            .refinements(version)
            .filter(|other| other.release().len() > version.release().len())
            .peekable();
        version.is_pre_release()
            || (refinements.peek().is_some() && refinements.all(|other| self.is_pre_release(other)))
    }

    /// Returns the version that a tag names: its newest refinement of the same variant, or the tag
    /// itself. `3` and `3.21` name `3.21.3` where it is the newest listed tag of both.
    pub fn exact<'a>(&'a self, version: &'a TagVersion) -> &'a TagVersion {
        let is_of_kind = |other: &&TagVersion| {
            other.release().len() > version.release().len()
                && other.is_pre_release() == version.is_pre_release()
        };
        self.refinements(version)
            .filter(is_of_kind)
            .max()
            .unwrap_or(version)
    }

    /// Returns the listed tags that refine a tag.
    pub fn refinements<'a>(
        &'a self,
        version: &'a TagVersion,
    ) -> impl Iterator<Item = &'a TagVersion> + 'a {
        self.groups
            .get(&group(version))
            .into_iter()
            .flatten()
            .filter(|other| version.has_release() && other.refines(version))
    }
}

/// Returns the key that a tag shares with all tags that refine it.
fn group(version: &TagVersion) -> String {
    let major = version
        .release()
        .first()
        .map_or("", |number| number.as_str().trim_start_matches('0'));
    format!("{major} {}", version.variant().family())
}
