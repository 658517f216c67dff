//! Variants: the words of a tag that name an edition, a distribution or a runtime.
//!
//! Tags of different variants do not replace each other: `1.27.0-alpine3.24` does not replace
//! `1.26.7-bookworm`.

use std::cmp::Ordering;
use std::fmt;

use super::number::{VersionNumber, dotted};
use super::words::code_name;

/// A word of a variant with its version: `alpine` with `3.20`, `jdk` with `25`, `slim` without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantWord {
    /// The word in lower case, without its version.
    pub word: String,
    /// Version of the word; empty if it has none.
    pub numbers: Vec<VersionNumber>,
}

impl VariantWord {
    pub(super) fn of(word: &str) -> VariantWord {
        VariantWord {
            word: word.to_ascii_lowercase(),
            numbers: Vec::new(),
        }
    }

    /// Returns the word for comparison, with a code name replaced by its product and version, so
    /// that `bullseye` is an older `bookworm`.
    fn meaning(&self) -> (&str, Vec<VersionNumber>) {
        match code_name(&self.word) {
            Some((product, version)) if self.numbers.is_empty() => {
                (product, dotted(version).unwrap_or_default())
            }
            _ => (&self.word, self.numbers.clone()),
        }
    }

    /// Returns true if both are the same word with versions that may differ.
    fn is_same_word(&self, other: &VariantWord) -> bool {
        self.meaning().0 == other.meaning().0
    }
}

impl fmt::Display for VariantWord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.word)?;
        for (position, number) in self.numbers.iter().enumerate() {
            let separator = if position == 0 { "" } else { "." };
            write!(formatter, "{separator}{number}")?;
        }
        Ok(())
    }
}

/// All variant words of a tag: those before the version, and those after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Words before the version: `slim` in `slim-2.10.2`.
    pub before: Vec<VariantWord>,
    /// Words after the version.
    pub after: Vec<VariantWord>,
}

impl Variant {
    /// Returns true if the tag has no variant.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Returns the words in the order of the tag.
    pub fn words(&self) -> impl Iterator<Item = &VariantWord> {
        self.before.iter().chain(&self.after)
    }

    /// Returns the words without their versions: `fpm-alpine` for `fpm-alpine3.24`.
    pub fn family(&self) -> String {
        let words: Vec<&str> = self.words().map(|word| word.word.as_str()).collect();
        words.join("-")
    }

    /// Returns true if both have the same words, with versions that may differ: `alpine3.23` and
    /// `alpine3.24`.
    pub fn is_same_family(&self, other: &Variant) -> bool {
        let all = |one: &[VariantWord], other: &[VariantWord]| {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one.is_same_word(other))
        };
        all(&self.before, &other.before) && all(&self.after, &other.after)
    }

    /// Returns true if `other` is this variant, spelled at least as exactly: `alpine3.24` refines
    /// `alpine`.
    pub fn is_refined_by(&self, other: &Variant) -> bool {
        let all = |one: &[VariantWord], other: &[VariantWord]| {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    one.word == other.word && other.numbers.starts_with(&one.numbers)
                })
        };
        all(&self.before, &other.before) && all(&self.after, &other.after)
    }

    /// Returns the variant without the words `word`, with or without a version.
    #[must_use]
    pub fn without(&self, word: &str) -> Variant {
        let keep = |words: &[VariantWord]| {
            words
                .iter()
                .filter(|known| known.word != word)
                .cloned()
                .collect()
        };
        Variant {
            before: keep(&self.before),
            after: keep(&self.after),
        }
    }

    /// Returns true if `text` names this variant: its words in order, separated by hyphens.
    /// Versions may be left out: `alpine` names `alpine3.24`.
    pub fn is_named(&self, text: &str) -> bool {
        let names: Vec<String> = text
            .split(['-', '_'])
            .filter(|name| !name.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        let words: Vec<&VariantWord> = self.words().collect();
        names.len() == words.len()
            && names
                .iter()
                .zip(words)
                .all(|(name, word)| *name == word.word || *name == word.to_string())
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, word) in self.words().enumerate() {
            let separator = if position == 0 { "" } else { "-" };
            write!(formatter, "{separator}{word}")?;
        }
        Ok(())
    }
}

/// Compares versions of words: a word without a version follows the newest one, so it is greater.
fn compare_numbers(one: &[VersionNumber], other: &[VersionNumber]) -> Ordering {
    (one.is_empty())
        .cmp(&other.is_empty())
        .then_with(|| one.cmp(other))
}

/// Compares lists of words. A word more makes a tag less, so that no unknown word ranks a tag above
/// the same tag without it.
fn compare_words(one: &[VariantWord], other: &[VariantWord]) -> Ordering {
    for (one, other) in one.iter().zip(other) {
        let ((word, numbers), (other_word, other_numbers)) = (one.meaning(), other.meaning());
        let ordering = word
            .cmp(other_word)
            .then_with(|| compare_numbers(&numbers, &other_numbers));
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    other.len().cmp(&one.len())
}

/// Compares variants for the order of tags. A tag without a variant is the greatest.
pub(super) fn compare(one: &Variant, other: &Variant) -> Ordering {
    one.is_empty()
        .cmp(&other.is_empty())
        .then_with(|| compare_words(&one.before, &other.before))
        .then_with(|| compare_words(&one.after, &other.after))
}
