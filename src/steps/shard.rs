//! Restricting a run to a part of its entries: by name or by shard.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use thiserror::Error;

/// One of several parts that a run is divided into. The parts are disjoint and together complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of the part, from 1 to `count`.
    index: usize,
    count: usize,
}

impl Shard {
    /// Returns the part with the number `index` of `count`, or `None` if there is no such part.
    pub fn new(index: usize, count: usize) -> Option<Shard> {
        (1..=count)
            .contains(&index)
            .then_some(Shard { index, count })
    }

    /// Returns true if the group at `position` (from 0, in the order of the configuration) belongs
    /// to this part.
    pub fn contains(self, position: usize) -> bool {
        position % self.count == self.index - 1
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

/// Patterns of names that a run is restricted to. Without patterns, everything is selected.
#[derive(Clone, Debug, Default)]
pub struct Only {
    patterns: Vec<(String, GlobMatcher)>,
}

/// Error of the option `--only`.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OnlyError {
    #[error("`--only {pattern}` is not a pattern: {reason}")]
    Malformed { pattern: String, reason: String },
    #[error("`--only {pattern}` matches nothing")]
    MatchesNothing { pattern: String },
}

impl Only {
    /// Parses patterns, in which `*` and `?` match any characters including `/`.
    pub fn new(patterns: &[String]) -> Result<Only, OnlyError> {
        let patterns = patterns.iter().map(|pattern| {
            let glob = GlobBuilder::new(pattern)
                .build()
                .map_err(|error| OnlyError::Malformed {
                    pattern: pattern.clone(),
                    reason: error.kind().to_string(),
                })?;
            Ok((pattern.clone(), glob.compile_matcher()))
        });
        Ok(Only {
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// Parses patterns like [`new`](Only::new), with relative paths of OCI layouts resolved below
    /// `directory`.
    pub fn below(patterns: &[String], directory: &Path) -> Result<Only, OnlyError> {
        let resolved = patterns
            .iter()
            .map(|pattern| match pattern.strip_prefix("ocidir://") {
                Some(path) if !path.starts_with('/') => {
                    let directory = directory.to_string_lossy();
                    format!(
                        "ocidir://{}/{}",
                        globset::escape(directory.trim_end_matches('/')),
                        path.trim_start_matches("./")
                    )
                }
                _ => pattern.clone(),
            });
        let only = Only::new(&resolved.collect::<Vec<_>>())?;
        let globs = only.patterns.into_iter().map(|(_, glob)| glob);
        Ok(Only {
            patterns: patterns.iter().cloned().zip(globs).collect(),
        })
    }

    /// Returns the patterns as the user passed them.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|(pattern, _)| pattern.as_str())
    }

    /// Returns true if one of the `names` of an item is selected.
    pub fn selects(&self, names: &[String]) -> bool {
        self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|(_, glob)| names.iter().any(|name| glob.is_match(name)))
    }

    /// Checks that each pattern matches at least one of the names of `items`, so that a misspelt
    /// name is an error.
    pub fn check(&self, items: &[Vec<String>]) -> Result<(), OnlyError> {
        let matches_nothing =
            |glob: &GlobMatcher| !items.iter().flatten().any(|name| glob.is_match(name));
        match self.patterns.iter().find(|(_, glob)| matches_nothing(glob)) {
            Some((pattern, _)) => Err(OnlyError::MatchesNothing {
                pattern: pattern.clone(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_disjoint_and_together_complete() {
        for count in 1..6 {
            for position in 0..30 {
                let owners = (1..=count)
                    .filter_map(|index| Shard::new(index, count))
                    .filter(|shard| shard.contains(position))
                    .count();
                assert_eq!(owners, 1);
            }
        }
        assert_eq!(Shard::new(0, 2), None);
        assert_eq!(Shard::new(3, 2), None);
    }

    #[test]
    fn only_selects_items_by_any_of_their_names() {
        let only = Only::new(&["alp*".to_owned(), "quay.io/*".to_owned()]).expect("patterns");
        assert!(only.selects(&["alpine".to_owned()]));
        assert!(only.selects(&["x".to_owned(), "quay.io/a/b".to_owned()]));
        assert!(!only.selects(&["golang".to_owned()]));
        assert!(Only::default().selects(&["anything".to_owned()]));
    }

    #[test]
    fn only_resolves_layouts_below_the_configuration() {
        let only = |pattern: &str| {
            Only::below(&[pattern.to_owned()], Path::new("/my [project]")).expect("a pattern")
        };
        let names = ["ocidir:///my [project]/mirrors/alpine".to_owned()];
        for pattern in [
            "ocidir://mirrors/alpine",
            "ocidir://./mirrors/*",
            "ocidir:///my*",
        ] {
            assert!(only(pattern).selects(&names), "{pattern}");
        }
        assert!(!only("ocidir://alpine").selects(&names));
        let error = only("ocidir://alpine")
            .check(&[names.to_vec()])
            .expect_err("nothing matches");
        assert_eq!(
            error.to_string(),
            "`--only ocidir://alpine` matches nothing"
        );
    }

    #[test]
    fn only_rejects_a_pattern_that_matches_nothing() {
        let only = Only::new(&["alpin".to_owned()]).expect("patterns");
        let error = only
            .check(&[vec!["alpine".to_owned()]])
            .expect_err("nothing matches");
        assert_eq!(error.to_string(), "`--only alpin` matches nothing");
        assert!(Only::new(&["[".to_owned()]).is_err());
    }
}

#[cfg(test)]
mod fuzz_tests {
    use super::*;
    use crate::model::fuzz_tests::{fuzz, text};

    #[test]
    fn fuzzing_only_patterns() {
        fuzz(
            "only patterns",
            &["alpine*", "r.example/[ab]/{c,d}/?", "**/x"],
            |input| {
                let patterns: Vec<String> =
                    text(input).lines().take(20).map(str::to_owned).collect();
                match Only::new(&patterns) {
                    Ok(only) => drop((
                        only.selects(&["r.example/a/c/x".to_owned()]),
                        only.check(&[vec!["alpine".to_owned()]]).is_ok(),
                    )),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            },
        );
    }
}
