//! Version order of tags.
//!
//! Tags are rarely semantic versions: `15.10-alpine`, `1.25.5-r0`, `v1.2` and `2024.05.1` are all
//! in use. The order defined here is total over all tags, so that sorting never panics and does not
//! depend on the order in which a registry lists tags.

use std::cmp::Ordering;

/// A tag parsed as a version. Newer versions are greater.
///
/// Tags without a version are less than all tags with one. Tags with equal versions are ordered by
/// their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagVersion {
    /// Parsed version; `None` if the tag does not start with one.
    version: Option<ParsedVersion>,
    /// The tag itself.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ParsedVersion {
    /// Numbers separated by dots, without leading zeros. Strings, because numbers can be longer
    /// than any integer type.
    numbers: Vec<String>,
    /// Kind and number of the pre-release.
    pre_release: Option<(PreRelease, String)>,
    /// Remaining text, such as `alpine3.21`.
    rest: String,
}

/// Kind of a pre-release, ordered from the earliest to the one closest to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PreRelease {
    Development,
    Alpha,
    Beta,
    Preview,
    Candidate,
}

/// Words that mark a pre-release. A longer word precedes the shorter words that it starts with.
const PRE_RELEASE_WORDS: [(&str, PreRelease); 19] = [
    ("snapshot", PreRelease::Development),
    ("nightly", PreRelease::Development),
    ("canary", PreRelease::Development),
    ("develop", PreRelease::Development),
    ("unstable", PreRelease::Development),
    ("dev", PreRelease::Development),
    ("test", PreRelease::Development),
    ("alpha", PreRelease::Alpha),
    ("beta", PreRelease::Beta),
    ("milestone", PreRelease::Beta),
    ("preview", PreRelease::Preview),
    ("pre", PreRelease::Preview),
    ("ea", PreRelease::Preview),
    ("rc", PreRelease::Candidate),
    ("cr", PreRelease::Candidate),
    ("a", PreRelease::Alpha),
    ("b", PreRelease::Beta),
    ("m", PreRelease::Beta),
    ("c", PreRelease::Candidate),
];

impl TagVersion {
    /// Parses `tag`: an optional `v`, numbers separated by dots, and the remaining text.
    pub fn of(tag: &str) -> TagVersion {
        TagVersion {
            version: ParsedVersion::of(tag),
            text: tag.to_owned(),
        }
    }

    /// Returns true if the tag starts with a version. `latest` and `edge` do not.
    pub fn is_version(&self) -> bool {
        self.version.is_some()
    }

    /// Returns how many leading numbers the two versions have in common.
    pub fn shared_numbers(&self, other: &TagVersion) -> usize {
        self.numbers()
            .iter()
            .zip(other.numbers())
            .take_while(|(one, other)| one == other)
            .count()
    }

    /// Returns true if both versions are on the same release line.
    ///
    /// They are if they differ at most in the last number of `other`: `3.21.4` is on the line of
    /// `3.21.3`. A version with a single number is a line of its own.
    pub fn is_on_same_line_as(&self, other: &TagVersion) -> bool {
        let length = other.numbers().len();
        length > 0 && self.shared_numbers(other) >= length.saturating_sub(1).max(1)
    }

    /// Returns true if the version starts with the numbers of `line`: `1.22.3-alpine` is on the
    /// line `1.22`.
    pub fn is_on_line(&self, line: &str) -> bool {
        let line = TagVersion::of(line);
        !line.numbers().is_empty() && self.shared_numbers(&line) == line.numbers().len()
    }

    /// Returns the flavour of the tag: the text after the version, without digits and dots.
    ///
    /// `1.22.3-alpine3.21-core1.0.0` has the flavour `alpine-core`. Tags of different flavours do
    /// not replace each other.
    pub fn flavour(&self) -> String {
        let rest = self
            .version
            .as_ref()
            .map_or(self.text.as_str(), |version| version.rest.as_str());
        rest.chars()
            .filter(|character| !character.is_ascii_digit() && *character != '.')
            .collect()
    }

    /// Returns the first two numbers of the version; `None` if there is no version.
    ///
    /// Leading zeros do not count: `2024.05.1` and `2024.5.2` are on the same line. A version with
    /// a single number is a line of its own.
    pub fn release_line(&self) -> Option<&[String]> {
        let numbers = &self.version.as_ref()?.numbers;
        Some(&numbers[..numbers.len().min(2)])
    }

    /// Returns the numbers of the version; empty if there is no version.
    fn numbers(&self) -> &[String] {
        self.version
            .as_ref()
            .map_or(&[], |version| &version.numbers)
    }

    /// Returns true if the version is a pre-release.
    pub fn is_pre_release(&self) -> bool {
        self.version
            .as_ref()
            .is_some_and(|version| version.pre_release.is_some())
    }
}

impl ParsedVersion {
    /// Returns the version at the start of `tag`, or `None` if there is none.
    fn of(tag: &str) -> Option<ParsedVersion> {
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
        Some(ParsedVersion {
            numbers,
            pre_release,
            rest: rest.to_owned(),
        })
    }
}

/// Splits a pre-release off the start of `suffix`: its kind, its number and the remaining text.
///
/// `None` if `suffix` does not start with a pre-release.
fn split_pre_release(suffix: &str) -> Option<(PreRelease, String, &str)> {
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

impl Ord for ParsedVersion {
    fn cmp(&self, other: &ParsedVersion) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let number = |version: &ParsedVersion, at: usize| {
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

impl PartialOrd for ParsedVersion {
    fn partial_cmp(&self, other: &ParsedVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TagVersion {
    fn cmp(&self, other: &TagVersion) -> Ordering {
        let by_version = match (&self.version, &other.version) {
            (Some(one), Some(other)) => one.cmp(other),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => compare_naturally(&self.text, &other.text),
        };
        by_version.then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for TagVersion {
    fn partial_cmp(&self, other: &TagVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_ranks_common_tags_from_old_to_new() {
        let ordered = [
            "edge",
            "latest",
            "0.9",
            "v1.2",
            "1.9.0",
            "1.10.0-alpha1",
            "1.10.0-beta.2",
            "1.10.0-rc1",
            "1.10.0-rc2-alpine",
            "1.10.0-rc10",
            "1.10.0",
            "1.10.0-alpine3.9",
            "1.10.0-alpine3.20",
            "1.25.5-r0",
            "1.25.5-r9",
            "1.25.5-r10",
            "3.13.0a7",
            "3.13.0b1",
            "3.13.0rc1",
            "3.13.0",
            "9.9.0",
            "10.0.0",
            "15.10-alpine",
            "2024.05.1",
            "2024.10",
            "20240501",
        ];
        let mut sorted = ordered;
        sorted.reverse();
        sorted.sort_by_key(|tag| TagVersion::of(tag));
        assert_eq!(sorted, ordered);
    }

    #[test]
    fn is_version_rejects_names_and_commit_hashes() {
        for (tag, is_version) in [
            ("latest", false),
            ("1a2b3c4", false),
            ("alpine3.21", false),
            ("v1", true),
            ("1", true),
            ("bookworm-20240501", false),
            ("3.21", true),
            ("8u412-jdk", false),
            ("1.27.6-eks-1-27-14", true),
        ] {
            assert_eq!(TagVersion::of(tag).is_version(), is_version, "{tag}");
        }
    }

    #[test]
    fn is_pre_release_ignores_variants() {
        for (tag, pre_release) in [
            ("1.2.3-alpine", false),
            ("1.2.3-bookworm", false),
            ("1.2.3-management", false),
            ("1.2.3-rc.1", true),
            ("1.2.3-dev", true),
            ("1.2.3-debian-12-r3", false),
            ("1.2.3b2", true),
            ("1.2.3-test", true),
            ("1.2.3-r1", false),
        ] {
            assert_eq!(TagVersion::of(tag).is_pre_release(), pre_release, "{tag}");
        }
    }

    #[test]
    fn release_lines_and_flavours_are_distinguished() {
        let of = TagVersion::of;
        assert_eq!(
            of("3.21.3-core1.0.0").shared_numbers(&of("3.21.4-core1.0.0")),
            2
        );
        assert_eq!(of("3.2.1").shared_numbers(&of("3.21.1")), 1);
        for (one, other, same) in [
            ("3.21.4", "3.21.3", true),
            ("3.22.0", "3.21.3", false),
            ("15.10", "15.4", true),
            ("16.1", "15.4", false),
            ("12-core2", "12-core1", true),
            ("13", "12", false),
            ("latest", "12", false),
            ("12", "latest", false),
        ] {
            assert_eq!(
                of(one).is_on_same_line_as(&of(other)),
                same,
                "{one} {other}"
            );
        }
        assert!(
            of("1.22.3-alpine").is_on_line("1.22")
                && of("v1.22").is_on_line("1")
                && !of("1.2.2").is_on_line("1.22")
        );
        assert!(!of("1.22").is_on_line("1.22.3") && !of("1.22").is_on_line("alpine"));
        let numbers = |numbers: &[&str]| -> Vec<String> {
            numbers.iter().map(|number| (*number).to_owned()).collect()
        };
        for (tag, line) in [
            ("3.20.1-alpine3.19", Some(numbers(&["3", "20"]))),
            ("v3.20", Some(numbers(&["3", "20"]))),
            ("2024.05.1", Some(numbers(&["2024", "5"]))),
            ("12-core1.0.0", Some(numbers(&["12"]))),
            ("1.0", Some(numbers(&["1", ""]))),
            ("latest", None),
        ] {
            assert_eq!(of(tag).release_line(), line.as_deref(), "{tag}");
        }
        for (tag, flavour) in [
            ("1.22.3-alpine3.21-core1.0.0", "alpine-core"),
            ("1.22.3-core1.0.0", "core"),
            ("1.2-rc1", ""),
            ("edge", "edge"),
        ] {
            assert_eq!(of(tag).flavour(), flavour, "{tag}");
        }
    }

    #[test]
    fn order_compares_numbers_of_any_length_by_value() {
        assert!(
            TagVersion::of("1.99999999999999999999999999")
                < TagVersion::of("1.100000000000000000000000000")
        );
        assert!(TagVersion::of("1.007") < TagVersion::of("1.8"));
    }

    proptest! {
        #[test]
        fn order_is_total(tags in proptest::collection::vec("(v)?[0-9]{1,3}(\\.[0-9]{1,2}){0,3}([-._a-z][a-z0-9.-]{0,6})?|[a-z][a-z0-9.]{0,5}", 3)) {
            let versions: Vec<TagVersion> = tags.iter().map(|tag| TagVersion::of(tag)).collect();
            let (a, b, c) = (&versions[0], &versions[1], &versions[2]);
            prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
            prop_assert_eq!(a.cmp(b) == Ordering::Equal, tags[0] == tags[1]);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn order_never_panics(one in "\\PC{0,20}", other in "\\PC{0,20}") {
            let _ = TagVersion::of(&one).cmp(&TagVersion::of(&other));
        }
    }
}
