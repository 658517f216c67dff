//! Order of tags before `model::tag`, only to keep images.
//!
//! A tag that this order ranks among the newest is kept, whatever its rank is now: an update of
//! imglife that changes the order deletes nothing. Nothing else may use this order.

use std::cmp::Ordering;

/// A tag parsed as a version by the former rules. Newer versions are greater.
///
/// Tags without a version are less than all tags with one. Tags with equal versions are ordered by
/// their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerVersion {
    /// Parsed version; `None` if the tag does not start with one.
    version: Option<FormerNumbers>,
    /// The tag itself.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FormerNumbers {
    /// Numbers separated by dots, without leading zeros. Strings, because numbers can be longer
    /// than any integer type.
    numbers: Vec<String>,
    /// Kind and number of the pre-release.
    pre_release: Option<(FormerPreRelease, String)>,
    /// Remaining text, such as `alpine3.21`.
    rest: String,
}

/// Kind of a pre-release, ordered from the earliest to the one closest to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FormerPreRelease {
    Development,
    Alpha,
    Beta,
    Preview,
    Candidate,
}

/// Words that mark a pre-release. A longer word precedes the shorter words that it starts with.
const PRE_RELEASE_WORDS: [(&str, FormerPreRelease); 19] = [
    ("snapshot", FormerPreRelease::Development),
    ("nightly", FormerPreRelease::Development),
    ("canary", FormerPreRelease::Development),
    ("develop", FormerPreRelease::Development),
    ("unstable", FormerPreRelease::Development),
    ("dev", FormerPreRelease::Development),
    ("test", FormerPreRelease::Development),
    ("alpha", FormerPreRelease::Alpha),
    ("beta", FormerPreRelease::Beta),
    ("milestone", FormerPreRelease::Beta),
    ("preview", FormerPreRelease::Preview),
    ("pre", FormerPreRelease::Preview),
    ("ea", FormerPreRelease::Preview),
    ("rc", FormerPreRelease::Candidate),
    ("cr", FormerPreRelease::Candidate),
    ("a", FormerPreRelease::Alpha),
    ("b", FormerPreRelease::Beta),
    ("m", FormerPreRelease::Beta),
    ("c", FormerPreRelease::Candidate),
];

impl FormerVersion {
    /// Parses `tag`: an optional `v`, numbers separated by dots, and the remaining text.
    pub fn of(tag: &str) -> FormerVersion {
        FormerVersion {
            version: FormerNumbers::of(tag),
            text: tag.to_owned(),
        }
    }

    /// Returns true if the tag starts with a version. `latest` and `edge` do not.
    pub fn is_version(&self) -> bool {
        self.version.is_some()
    }
}

impl FormerNumbers {
    /// Returns the version at the start of `tag`, or `None` if there is none.
    fn of(tag: &str) -> Option<FormerNumbers> {
        let body = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
        let mut numbers = Vec::new();
        let mut rest = body;
        loop {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                break;
            }
            let trimmed = rest[..digits].trim_start_matches('0');
            numbers.push(trimmed.to_owned());
            rest = &rest[digits..];
            match rest.strip_prefix('.') {
                Some(after) if after.starts_with(|character: char| character.is_ascii_digit()) => {
                    rest = after;
                }
                _ => break,
            }
        }
        if numbers.is_empty() {
            return None;
        }
        let attached = !rest.is_empty() && !rest.starts_with(['-', '_', '.']);
        let suffix = rest.trim_start_matches(['-', '_', '.']);
        let (pre_release, rest) = match split_pre_release(suffix) {
            Some((kind, number, rest)) => (Some((kind, number)), rest),
            // Letters directly after a number (`1a2b3c4`) are a commit hash or a name, not a
            // version.
            None if attached => return None,
            None => (None, suffix),
        };
        Some(FormerNumbers {
            numbers,
            pre_release,
            rest: rest.to_owned(),
        })
    }
}

/// Splits a pre-release off the start of `suffix`: its kind, its number and the remaining text.
///
/// `None` if `suffix` does not start with a pre-release.
fn split_pre_release(suffix: &str) -> Option<(FormerPreRelease, String, &str)> {
    let lower = suffix.to_ascii_lowercase();
    PRE_RELEASE_WORDS.iter().find_map(|&(word, kind)| {
        let after_word = lower.strip_prefix(word).map(|_| &suffix[word.len()..])?;
        // `rc.1` and `rc-1` have a number. A separator before other text ends the pre-release.
        let numbered = after_word
            .strip_prefix(['.', '-', '_'])
            .filter(|after| after.starts_with(|first: char| first.is_ascii_digit()));
        let number_start = numbered.unwrap_or(after_word);
        let digits = number_start.bytes().take_while(u8::is_ascii_digit).count();
        let rest = &number_start[digits..];
        let single_letter_without_number = word.len() == 1 && (digits == 0 || numbered.is_some());
        if single_letter_without_number
            || rest.starts_with(|next: char| next.is_ascii_alphanumeric())
        {
            return None;
        }
        Some((
            kind,
            number_start[..digits].trim_start_matches('0').to_owned(),
            rest.trim_start_matches(['-', '_', '.']),
        ))
    })
}

/// Compares digit strings of any length by value. They must not have leading zeros.
fn compare_numbers(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Compares text in natural order: runs of digits by value, so that `r9` precedes `r10`.
fn compare_naturally(mut one: &str, mut other: &str) -> Ordering {
    loop {
        let (first, second) = (next_run(&mut one), next_run(&mut other));
        let ordering = match (first, second) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(first), Some(second)) => {
                let numeric =
                    |run: &str| run.starts_with(|character: char| character.is_ascii_digit());
                if numeric(first) && numeric(second) {
                    compare_numbers(
                        first.trim_start_matches('0'),
                        second.trim_start_matches('0'),
                    )
                } else {
                    first.cmp(second)
                }
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

/// Removes the next run of digits or of other characters from the start of `text` and returns it.
fn next_run<'a>(text: &mut &'a str) -> Option<&'a str> {
    let is_digit = text.chars().next()?.is_ascii_digit();
    let end = text
        .find(|character: char| character.is_ascii_digit() != is_digit)
        .unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    Some(run)
}

impl Ord for FormerNumbers {
    fn cmp(&self, other: &FormerNumbers) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let number = |version: &FormerNumbers, at: usize| {
            version.numbers.get(at).cloned().unwrap_or_default()
        };
        for at in 0..length {
            let ordering = compare_numbers(&number(self, at), &number(other, at));
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        let pre_release = match (&self.pre_release, &other.pre_release) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some((one, one_number)), Some((other, other_number))) => one
                .cmp(other)
                .then_with(|| compare_numbers(one_number, other_number)),
        };
        pre_release
            .then_with(|| compare_naturally(&self.rest, &other.rest))
            .then_with(|| self.numbers.len().cmp(&other.numbers.len()))
    }
}

impl PartialOrd for FormerNumbers {
    fn partial_cmp(&self, other: &FormerNumbers) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FormerVersion {
    fn cmp(&self, other: &FormerVersion) -> Ordering {
        let by_version = match (&self.version, &other.version) {
            (Some(one), Some(other)) => one.cmp(other),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => compare_naturally(&self.text, &other.text),
        };
        by_version.then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for FormerVersion {
    fn partial_cmp(&self, other: &FormerVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_order_is_the_order_of_earlier_releases() {
        let ordered = [
            "edge",
            "release-2.0",
            "1.9.0",
            "1.10.0-rc1",
            "1.10.0",
            "1.10.0-0.dev-57-g0507726",
            "1.10.0-alpine3.9",
            "1.10.0-alpine3.20",
            "1.10.0-ubi-rc",
            "20240501",
        ];
        let mut sorted = ordered;
        sorted.reverse();
        sorted.sort_by_key(|tag| FormerVersion::of(tag));
        assert_eq!(sorted, ordered);
    }
}
