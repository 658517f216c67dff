//! Numbers of versions: natural numbers of any length.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A natural number of any length, with its spelling. Compared by value: `007` equals `7`.
#[derive(Clone, Debug)]
pub struct VersionNumber(String);

impl VersionNumber {
    /// Returns the number that `digits` spells; `None` unless all characters are ASCII digits.
    pub fn of(digits: &str) -> Option<VersionNumber> {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| VersionNumber(digits.to_owned()))
    }

    /// Returns the number as it is spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value, or `None` if it does not fit.
    pub fn value(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// Returns true if the value is zero.
    pub fn is_zero(&self) -> bool {
        self.significant().is_empty()
    }

    /// Returns true if the number is spelled with leading zeros: `04`.
    pub fn is_padded(&self) -> bool {
        self.0.len() > 1 && self.0.starts_with('0')
    }

    /// Returns the next number.
    #[must_use]
    pub fn successor(&self) -> VersionNumber {
        let digits = self.significant();
        let nines = digits
            .bytes()
            .rev()
            .take_while(|digit| *digit == b'9')
            .count();
        let (start, _) = digits.split_at(digits.len() - nines);
        let zeros = "0".repeat(nines);
        match start.char_indices().next_back() {
            Some((at, last)) => {
                let next = last.to_digit(10).unwrap_or_default() + 1;
                VersionNumber(format!("{}{next}{zeros}", &start[..at]))
            }
            None => VersionNumber(format!("1{zeros}")),
        }
    }

    fn significant(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PartialEq for VersionNumber {
    fn eq(&self, other: &VersionNumber) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for VersionNumber {}

impl Hash for VersionNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl Ord for VersionNumber {
    fn cmp(&self, other: &VersionNumber) -> Ordering {
        let (one, other) = (self.significant(), other.significant());
        one.len().cmp(&other.len()).then_with(|| one.cmp(other))
    }
}

impl PartialOrd for VersionNumber {
    fn partial_cmp(&self, other: &VersionNumber) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns the numbers of a text such as `3.21.3`; `None` if it is anything else.
pub(super) fn dotted(text: &str) -> Option<Vec<VersionNumber>> {
    text.split('.').map(VersionNumber::of).collect()
}

/// Returns the length of the numbers, separated by dots, at the start of `text`.
pub(super) fn dotted_prefix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut end = 0;
    loop {
        let start = if end == 0 { 0 } else { end + 1 };
        let digits = bytes
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return end;
        }
        end = start + digits;
        if bytes.get(end) != Some(&b'.') {
            return end;
        }
    }
}
