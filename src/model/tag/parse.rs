//! Reads tags.
//!
//! A tag is divided at `-`, `_` and `+` into segments, which are read from left to right. The first
//! numbers that are not the version of a known word are the release. Numbers belong to their
//! predecessor: after the release they are its build, after a pre-release word its number, after
//! another word the version of this word. Everything else is a word of the variant.

use chrono::{DateTime, NaiveDate};

use super::number::{VersionNumber, dotted, dotted_prefix};
use super::variant::{Variant, VariantWord};
use super::version::{PreReleasePart, TagDate, TagVersion};
use super::words::{
    ARCHITECTURE_WORDS, ENVIRONMENT_WORDS, LEADING_PRE_RELEASE_WORDS, NEUTRAL_WORDS,
    PreReleaseKind, REVISION_WORDS, VERSION_WORDS, contains, pre_release_kind,
};

/// Minimum and maximum length of abbreviated commit hashes.
const MIN_HASH_LENGTH: usize = 7;
const MAX_HASH_LENGTH: usize = 64;

/// Length of the hash and of the time in Go pseudo versions.
const GO_HASH_LENGTH: usize = 12;
const TIME_LENGTH: usize = 14;

impl TagVersion {
    /// Parses a tag. Never fails: a tag without a version consists of words.
    pub fn of(tag: &str) -> TagVersion {
        let mut reader = TagReader::new(tag);
        match iso_date(tag) {
            Some((start, end, date)) => {
                reader.segments(&tag[..start]);
                reader.date(date);
                reader.segments(&tag[end..]);
            }
            None => reader.segments(tag),
        }
        reader.version
    }
}

/// The part of the tag that was read last, which following numbers belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Nothing,
    /// The release, its build or a date.
    Version,
    PreRelease,
    /// A word without a version, or with a version in an own segment.
    Word,
    /// A word with its version in the same segment.
    NumberedWord,
    /// A word that announces a revision.
    RevisionWord,
    /// A hash, or a revision after the variant.
    Revision,
}

struct TagReader {
    version: TagVersion,
    last: Last,
}

impl TagReader {
    fn new(tag: &str) -> TagReader {
        TagReader {
            version: TagVersion {
                text: tag.to_owned(),
                has_v: false,
                release: Vec::new(),
                pre_release: Vec::new(),
                build: Vec::new(),
                date: None,
                variant: Variant::default(),
                revision: Vec::new(),
                hash: None,
            },
            last: Last::Nothing,
        }
    }

    fn segments(&mut self, text: &str) {
        // The one name of an architecture with a separator.
        let text = text.replace("x86_64", "amd64");
        for segment in text.split(['-', '_', '+']) {
            let segment = segment.trim_matches('.');
            if !segment.is_empty() {
                self.segment(segment);
            }
        }
    }

    fn segment(&mut self, segment: &str) {
        let after_v = segment
            .strip_prefix(['v', 'V'])
            .filter(|after| after.starts_with(|first: char| first.is_ascii_digit()))
            .filter(|_| !self.version.has_release());
        let body = after_v.unwrap_or(segment);
        if let Some(numbers) = dotted(body) {
            self.numbers(numbers, after_v.is_some());
        } else if is_hash(segment) || (self.last == Last::PreRelease && is_commit(segment)) {
            self.hash(segment);
        } else if self.is_git_describe(segment) {
            self.git_describe(segment);
        } else if body.starts_with(|first: char| first.is_ascii_digit()) {
            self.numbers_and_text(segment, body, after_v.is_some());
        } else {
            self.words(segment);
        }
    }

    /// Reads a segment of numbers only.
    fn numbers(&mut self, numbers: Vec<VersionNumber>, has_v: bool) {
        if let Some(date) = numbers.first().and_then(|first| self.number_date(first)) {
            self.date(date);
            self.version.revision.extend(numbers.into_iter().skip(1));
            return;
        }
        if !self.version.has_release() {
            let is_of_word = match self.last {
                Last::PreRelease => numbers.len() == 1,
                Last::Word => self.is_version_of_word(&numbers),
                Last::Version | Last::Revision => true,
                _ => false,
            };
            if has_v || !is_of_word {
                self.release(numbers, has_v);
                return;
            }
        }
        match self.last {
            Last::Nothing => {}
            Last::Version if self.is_pseudo_version(&numbers) => {
                self.pre_release(PreReleasePart::Kind(PreReleaseKind::Development));
                self.pre_release_numbers(numbers);
            }
            Last::Version if self.version.has_release() => self.version.build.extend(numbers),
            Last::PreRelease => self.pre_release_numbers(numbers),
            Last::Word => {
                if let Some(word) = self.last_word() {
                    word.numbers.extend(numbers);
                }
            }
            _ => self.revision(numbers),
        }
    }

    /// Reads a segment that starts with numbers: `3.13.0rc1`, `8u502`, `95.2.beta`, `20H2`.
    fn numbers_and_text(&mut self, segment: &str, body: &str, has_v: bool) {
        let end = dotted_prefix(body);
        let numbers = dotted(&body[..end]).unwrap_or_default();
        let rest = &body[end..];
        if self.last == Last::PreRelease {
            self.identifiers(segment);
            return;
        }
        if let Some(parts) = rest.strip_prefix('.') {
            let first = parts.split('.').next().unwrap_or_default();
            let is_pre_release = pre_release_identifier(first).is_some();
            // `3.14.0-95.2.beta`: a pre-release that starts with numbers.
            if self.version.has_release() && is_pre_release {
                self.pre_release_numbers(numbers);
                self.identifiers(parts);
                return;
            }
            if !self.version.has_release() || self.last == Last::Version {
                self.numbers(numbers, has_v);
                for part in parts.split('.').filter(|part| !part.is_empty()) {
                    self.segment(part);
                }
                return;
            }
        }
        if self.version.has_release() || !self.release_with_suffix(numbers, rest, has_v) {
            self.word(VariantWord::of(segment));
        }
    }

    /// Reads a release with letters directly after its numbers, such as `3.13.0rc1`. Returns false
    /// if it is not one.
    fn release_with_suffix(
        &mut self,
        numbers: Vec<VersionNumber>,
        suffix: &str,
        has_v: bool,
    ) -> bool {
        let lower = suffix.to_ascii_lowercase();
        let (letters, rest) = lower.split_at(letters(&lower));
        let first = rest.split('.').next().unwrap_or_default();
        if pre_release_kind(letters).is_some() && (letters.len() > 1 || !rest.is_empty()) {
            self.release(numbers, has_v);
            self.identifiers(&lower);
            return true;
        }
        let Some(number) = VersionNumber::of(first) else {
            // `1.1.1w`: OpenSSL counts its repairs by letters.
            let is_letter_release = lower.len() == 1 && lower != "x" && numbers.len() > 1;
            let index = lower.bytes().next().filter(|_| is_letter_release);
            let Some(index) = index.filter(u8::is_ascii_lowercase) else {
                return false;
            };
            self.release(numbers, has_v);
            let index = u32::from(index - b'a') + 1;
            self.version
                .build
                .extend(VersionNumber::of(&index.to_string()));
            return true;
        };
        if first != rest || !contains(REVISION_WORDS, letters) {
            return false;
        }
        self.release(numbers, has_v);
        // `8u502` is the release 8.502; other revisions follow the release.
        if letters == "u" && self.version.release.len() == 1 {
            self.version.release.push(number);
        } else {
            self.version.build.push(number);
        }
        true
    }

    /// Reads a segment that starts with a letter.
    fn words(&mut self, segment: &str) {
        let lower = segment.to_ascii_lowercase();
        let (name, rest) = lower.split_at(letters(&lower));
        let first = lower.split('.').next().unwrap_or_default();
        let number = rest.strip_prefix('.').unwrap_or(rest);
        let numbers = dotted(number);
        if let Some(numbers) = numbers
            .clone()
            .filter(|_| self.is_release_prefix(name, rest))
        {
            let name = if contains(VERSION_WORDS, name) {
                ""
            } else {
                name
            };
            if !name.is_empty() {
                self.word(VariantWord::of(name));
            }
            self.last = Last::Nothing;
            self.numbers(numbers, false);
        } else if self.is_revision(name, number) {
            match numbers {
                Some(numbers) => self.revision(numbers),
                None => self.last = Last::RevisionWord,
            }
        } else if self.is_pre_release_word(name) && pre_release_identifier(first).is_some() {
            self.identifiers(&lower);
        } else if self.version.has_release() && contains(NEUTRAL_WORDS, name) {
            self.last = Last::Version;
        } else if !self.version.has_release() && contains(VERSION_WORDS, &lower) {
            // The numbers follow in the next segment.
            self.last = Last::Nothing;
        } else if contains(ARCHITECTURE_WORDS, &lower) {
            self.word(VariantWord::of(&lower));
            self.last = Last::NumberedWord;
        } else {
            match numbers {
                Some(numbers) => {
                    self.word(VariantWord {
                        numbers,
                        ..VariantWord::of(name)
                    });
                    self.last = Last::NumberedWord;
                }
                None => self.word(VariantWord::of(&lower)),
            }
        }
    }

    /// Returns true unless the word marks a pre-release only at the start of a tag.
    fn is_pre_release_word(&self, name: &str) -> bool {
        self.last == Last::Nothing || !contains(LEADING_PRE_RELEASE_WORDS, name)
    }

    /// Returns true if `name`, directly before numbers, precedes the release: `r10`, `version1.2`.
    fn is_release_prefix(&self, name: &str, rest: &str) -> bool {
        let is_first = self.last == Last::Nothing
            && self.version.variant.is_empty()
            && self.version.date.is_none();
        !self.version.has_release()
            && !rest.is_empty()
            && (contains(VERSION_WORDS, name) || (is_first && name.len() == 1))
    }

    /// Returns true if `name` with `number` is a revision of the version: `r3`, `build.5`, `b07`.
    fn is_revision(&self, name: &str, number: &str) -> bool {
        if !self.version.has_release() {
            return false;
        }
        let is_number = VersionNumber::of(number).is_some();
        // `b07` and `b123` count builds; `b1` is a beta.
        let is_build = name == "b" && is_number && number.len() > 1;
        let is_word = contains(REVISION_WORDS, name);
        is_build || (is_word && (is_number || (number.is_empty() && name.len() > 2)))
    }

    /// Reads the identifiers of a pre-release, which dots separate: `rc.1b`, `alpha.beta.2`.
    fn identifiers(&mut self, text: &str) {
        for identifier in text.split('.').filter(|identifier| !identifier.is_empty()) {
            let lower = identifier.to_ascii_lowercase();
            if let Some(number) = VersionNumber::of(&lower) {
                self.pre_release(PreReleasePart::Number(number));
            } else if let Some((kind, rest)) = pre_release_identifier(&lower) {
                self.pre_release(PreReleasePart::Kind(kind));
                match VersionNumber::of(rest) {
                    Some(number) => self.pre_release(PreReleasePart::Number(number)),
                    None if !rest.is_empty() => {
                        self.pre_release(PreReleasePart::Text(rest.to_owned()));
                    }
                    None => {}
                }
            } else {
                self.pre_release(PreReleasePart::Text(lower));
            }
        }
    }

    /// Reads a hash. After a time it ends a Go pseudo version: `v0.0.0-20240102150405-abcdef012345`.
    fn hash(&mut self, hash: &str) {
        let is_pseudo_version = self.last == Last::Version && hash.len() == GO_HASH_LENGTH;
        let time = self
            .version
            .build
            .pop_if(|number| is_pseudo_version && number.as_str().len() == TIME_LENGTH);
        if let Some(time) = time {
            self.pre_release(PreReleasePart::Kind(PreReleaseKind::Development));
            self.pre_release(PreReleasePart::Number(time));
        }
        self.version.hash = Some(hash.to_owned());
        self.last = Last::Revision;
    }

    /// Returns true if the segment is the abbreviated commit of `git describe`: `gabc1234` after
    /// the number of commits since the release.
    fn is_git_describe(&self, segment: &str) -> bool {
        let is_after_number = match self.last {
            Last::Word => self
                .version
                .variant
                .after
                .last()
                .is_some_and(|word| !word.numbers.is_empty()),
            Last::Version | Last::PreRelease | Last::Revision => true,
            _ => false,
        };
        is_after_number && segment.strip_prefix('g').is_some_and(is_commit)
    }

    /// Reads the commit of `git describe`: `1.2.3-4-gabc1234` is a build after 1.2.3 that leads to
    /// another release.
    fn git_describe(&mut self, segment: &str) {
        if self.last != Last::PreRelease && self.version.has_release() {
            let commits = match self.last {
                Last::Word => self.last_word().and_then(|word| word.numbers.pop()),
                Last::Version => self.version.build.pop(),
                _ => self.version.revision.pop(),
            };
            self.pre_release(PreReleasePart::Kind(PreReleaseKind::Development));
            if let Some(commits) = commits {
                self.pre_release(PreReleasePart::Number(commits));
            }
        }
        self.version.hash = Some(segment[1..].to_owned());
        self.last = Last::Revision;
    }

    fn release(&mut self, numbers: Vec<VersionNumber>, has_v: bool) {
        self.version.has_v = has_v;
        self.version.release = numbers;
        // Words so far precede the version. A hash or number before it stays what it is.
        self.version.variant.before = std::mem::take(&mut self.version.variant.after);
        self.last = Last::Version;
    }

    /// Reads a date. Next to a version or a pre-release it continues it.
    fn date(&mut self, date: TagDate) {
        let number = VersionNumber::of(&date.digits.to_string());
        self.version.date = self.version.date.max(Some(date));
        match self.last {
            _ if !self.version.has_release() => self.last = Last::Version,
            Last::PreRelease => self
                .version
                .pre_release
                .extend(number.map(PreReleasePart::Number)),
            Last::Version => self.version.build.extend(number),
            _ => {
                self.version.revision.extend(number);
                self.last = Last::Revision;
            }
        }
    }

    /// Returns the date that a number spells: `20260803`, `20240501123059`; seconds since 1970 only
    /// after a hash or the name of a branch.
    fn number_date(&self, number: &VersionNumber) -> Option<TagDate> {
        let is_after_commit = self.version.hash.is_some() || self.last == Last::PreRelease;
        digits_date(number.as_str()).or_else(|| {
            let is_seconds = is_after_commit && number.as_str().len() == 10;
            let seconds = i64::try_from(number.value().filter(|_| is_seconds)?).ok()?;
            let time = DateTime::from_timestamp(seconds, 0)?.naive_utc();
            let digits = time.format("%Y%m%d%H%M%S").to_string().parse().ok()?;
            Some(TagDate {
                digits,
                day: time.date(),
            })
        })
    }

    /// Returns true for the numbers of a Go pseudo version: `v1.2.4-0.20240102150405-abcdefabcdef`.
    fn is_pseudo_version(&self, numbers: &[VersionNumber]) -> bool {
        self.version.has_release()
            && numbers.len() > 1
            && numbers.first().is_some_and(VersionNumber::is_zero)
            && numbers
                .last()
                .is_some_and(|last| digits_date(last.as_str()).is_some())
    }

    /// Returns true if numbers before any release are the version of the last word.
    fn is_version_of_word(&self, numbers: &[VersionNumber]) -> bool {
        let Some(word) = self.version.variant.after.last() else {
            return false;
        };
        let first = numbers.first().and_then(VersionNumber::value);
        match word.word.as_str() {
            "alpine" => first.is_some_and(|first| (2..=3).contains(&first)),
            "debian" => numbers.len() < 3 && first.is_some_and(|first| (7..100).contains(&first)),
            "ubuntu" => numbers.len() < 4 && first.is_some_and(|first| (10..100).contains(&first)),
            word => contains(ENVIRONMENT_WORDS, word),
        }
    }

    fn revision(&mut self, numbers: Vec<VersionNumber>) {
        let continues_version = self.version.variant.after.is_empty()
            && self.version.pre_release.is_empty()
            && self.version.has_release()
            && self.version.hash.is_none();
        if continues_version {
            self.version.build.extend(numbers);
            self.last = Last::Version;
        } else {
            self.version.revision.extend(numbers);
            self.last = Last::Revision;
        }
    }

    fn pre_release(&mut self, part: PreReleasePart) {
        self.version.pre_release.push(part);
        self.last = Last::PreRelease;
    }

    fn pre_release_numbers(&mut self, numbers: Vec<VersionNumber>) {
        for number in numbers {
            self.pre_release(PreReleasePart::Number(number));
        }
    }

    fn word(&mut self, word: VariantWord) {
        self.version.variant.after.push(word);
        self.last = Last::Word;
    }

    fn last_word(&mut self) -> Option<&mut VariantWord> {
        self.version.variant.after.last_mut()
    }
}

/// Splits an identifier into the pre-release word at its start and the rest, which is empty or
/// starts with a digit. `None` if there is no such word.
///
/// A single letter is a pre-release word only before a number of at most two digits.
fn pre_release_identifier(identifier: &str) -> Option<(PreReleaseKind, &str)> {
    let length = letters(identifier);
    let (word, rest) = identifier.split_at(length);
    let lower = word.to_ascii_lowercase();
    let kind = pre_release_kind(&lower)?;
    let is_short_number = VersionNumber::of(rest).is_some() && rest.len() <= 2;
    (length > 1 || is_short_number).then_some((kind, rest))
}

/// Returns the number of bytes before the first digit or dot.
fn letters(text: &str) -> usize {
    text.find(|character: char| character.is_ascii_digit() || character == '.')
        .unwrap_or(text.len())
}

/// Returns true for lower-case hexadecimal digits of the length of a commit.
fn is_commit(text: &str) -> bool {
    (MIN_HASH_LENGTH..=MAX_HASH_LENGTH).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns true for a commit or digest: lower-case hexadecimal digits with a letter among them.
/// Words such as `defaced` count only at the lengths of complete hashes.
fn is_hash(text: &str) -> bool {
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let is_complete = matches!(text.len(), 40 | 64);
    is_commit(text) && has_letter && (has_digit || is_complete)
}

/// Returns the date that 8, 12 or 14 digits spell.
fn digits_date(digits: &str) -> Option<TagDate> {
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |start: usize, end: usize| digits.get(start..end)?.parse::<u32>().ok();
    let year = part(0, 4).filter(|year| (1990..2100).contains(year))?;
    let day = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, part(4, 6)?, part(6, 8)?)?;
    let is_time = part(8, 10).is_none_or(|hour| hour < 24)
        && part(10, 12).is_none_or(|minute| minute < 60)
        && part(12, 14).is_none_or(|second| second < 61);
    let digits = format!("{digits:0<14}").parse().ok()?;
    is_time.then_some(TagDate { digits, day })
}

/// Returns the first date `YYYY-MM-DD` in a tag, with its time if it has one
/// (`RELEASE.2024-05-10T01-41-38Z`), and its position.
fn iso_date(tag: &str) -> Option<(usize, usize, TagDate)> {
    let bytes = tag.as_bytes();
    let digits = |start: usize, count: usize| {
        bytes
            .get(start..start + count)
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
    };
    let is_at =
        |at: usize, separators: &[u8]| bytes.get(at).is_some_and(|byte| separators.contains(byte));
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    (0..bytes.len().saturating_sub(9)).find_map(|start| {
        let starts_number = start == 0 || !is_digit(start - 1);
        if !starts_number || !is_at(start + 4, b"-_") || !is_at(start + 7, b"-_") {
            return None;
        }
        let day = format!(
            "{}{}{}",
            digits(start, 4)?,
            digits(start + 5, 2)?,
            digits(start + 8, 2)?
        );
        if is_digit(start + 10) {
            return None;
        }
        let time =
            if is_at(start + 10, b"T") && is_at(start + 13, b"-_") && is_at(start + 16, b"-_") {
                match (
                    digits(start + 11, 2),
                    digits(start + 14, 2),
                    digits(start + 17, 2),
                ) {
                    (Some(hour), Some(minute), Some(second)) => format!("{hour}{minute}{second}"),
                    _ => String::new(),
                }
            } else {
                String::new()
            };
        let mut end = start + if time.is_empty() { 10 } else { 19 };
        if !time.is_empty() && is_at(end, b"Z") {
            end += 1;
        }
        Some((start, end, digits_date(&format!("{day}{time}"))?))
    })
}
