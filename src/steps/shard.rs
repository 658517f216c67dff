//! Narrowing a run to some of its entries: by name, or to one of several equal parts.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use thiserror::Error;

/// One of several parts that a run is divided into. The parts are disjoint and together make the
/// whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `count`.
    index: usize,
    count: usize,
}

impl Shard {
    /// Returns the `index`-th of `count` parts, or `None` when there is no such part.
    pub fn new(index: usize, count: usize) -> Option<Shard> {
        (1..=count)
            .contains(&index)
            .then_some(Shard { index, count })
    }

    /// Returns whether the group at `position` (from 0, in the order of the configuration) belongs
    /// to this part.
    pub fn has(self, position: usize) -> bool {
        position % self.count == self.index - 1
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

/// Names that a run is narrowed to. Empty means everything.
#[derive(Clone, Debug, Default)]
pub struct Only {
    patterns: Vec<(String, GlobMatcher)>,
}

/// Why `--only` cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OnlyError {
    #[error("`--only {pattern}` is no pattern: {reason}")]
    Malformed { pattern: String, reason: String },
    #[error("`--only {pattern}` matches nothing")]
    MatchesNothing { pattern: String },
}

impl Only {
    /// Returns the names that match one of `patterns`: `*` and `?` stand for any characters, `/`
    /// included.
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

    /// Returns the same with patterns of OCI layouts below `directory`, as configurations and
    /// reports have them.
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

    /// Returns the patterns as they were given.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|(pattern, _)| pattern.as_str())
    }

    /// Returns whether one of the `names` of an item is asked for.
    pub fn has(&self, names: &[String]) -> bool {
        self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|(_, glob)| names.iter().any(|name| glob.is_match(name)))
    }

    /// Fails when a pattern matches none of `items`, each with its names: a misspelt name must not
    /// look like success.
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
    fn shards_are_disjoint_and_together_whole() {
        for count in 1..6 {
            for position in 0..30 {
                let owners = (1..=count)
                    .filter_map(|index| Shard::new(index, count))
                    .filter(|shard| shard.has(position))
                    .count();
                assert_eq!(owners, 1);
            }
        }
        assert_eq!(Shard::new(0, 2), None);
        assert_eq!(Shard::new(3, 2), None);
    }

    #[test]
    fn patterns_match_any_of_the_names() {
        let only = Only::new(&["alp*".to_owned(), "quay.io/*".to_owned()]).expect("patterns");
        assert!(only.has(&["alpine".to_owned()]));
        assert!(only.has(&["x".to_owned(), "quay.io/a/b".to_owned()]));
        assert!(!only.has(&["golang".to_owned()]));
        assert!(Only::default().has(&["anything".to_owned()]));
    }

    #[test]
    fn layouts_are_named_as_the_configuration_has_them() {
        let only = |pattern: &str| {
            Only::below(&[pattern.to_owned()], Path::new("/my [project]")).expect("a pattern")
        };
        let names = ["ocidir:///my [project]/mirrors/alpine".to_owned()];
        for pattern in [
            "ocidir://mirrors/alpine",
            "ocidir://./mirrors/*",
            "ocidir:///my*",
        ] {
            assert!(only(pattern).has(&names), "{pattern}");
        }
        assert!(!only("ocidir://alpine").has(&names));
        let error = only("ocidir://alpine")
            .check(&[names.to_vec()])
            .expect_err("nothing matches");
        assert_eq!(
            error.to_string(),
            "`--only ocidir://alpine` matches nothing"
        );
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error() {
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
    fn fuzzing_what_is_wanted_only() {
        fuzz(
            "what is wanted only",
            &["alpine*", "r.example/[ab]/{c,d}/?", "**/x"],
            |input| {
                let patterns: Vec<String> =
                    text(input).lines().take(20).map(str::to_owned).collect();
                match Only::new(&patterns) {
                    Ok(only) => drop((
                        only.has(&["r.example/a/c/x".to_owned()]),
                        only.check(&[vec!["alpine".to_owned()]]).is_ok(),
                    )),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            },
        );
    }
}
