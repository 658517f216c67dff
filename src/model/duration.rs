//! Durations in human-readable notation: `90s`, `36h`, `7d`, `2w`, `1h30m`.

use std::time::Duration;

use thiserror::Error;

use super::text::excerpt;

/// Maximum accepted duration: 100 years.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Error for text that is not a duration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidDuration {
    /// A plain number other than `0`.
    #[error("expected a duration, found `{}`", excerpt(.0, 80))]
    WithoutUnit(String),
    #[error("expected a duration, found `{}`", excerpt(.0, 80))]
    Malformed(String),
    /// Longer than 100 years.
    #[error("expected a duration of at most 100 years, found `{}`", excerpt(.0, 80))]
    TooLong(String),
}

impl InvalidDuration {
    /// Returns a suggestion for the user, or `None` if there is none.
    pub fn hint(&self) -> Option<String> {
        match self {
            InvalidDuration::WithoutUnit(text) => Some(format!(
                "add a unit, for example `{text}s`, `{text}m`, `{text}h` or `{text}d`"
            )),
            InvalidDuration::Malformed(_) => Some(
                "write numbers with units, for example `90s`, `36h`, `7d`, `2w` or `1h30m`"
                    .to_owned(),
            ),
            InvalidDuration::TooLong(_) => None,
        }
    }
}

/// Parses a duration: one or more numbers, each with a unit, which are added up.
///
/// The units are `s`, `m`, `h`, `d` and `w`. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let malformed = || InvalidDuration::Malformed(text.to_owned());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDuration::WithoutUnit(text.to_owned()));
    }
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = match rest.as_bytes().get(digits) {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            Some(b'w') => 7 * 86_400,
            _ => return Err(malformed()),
        };
        let number: u64 = rest[..digits].parse().map_err(|_| malformed())?;
        seconds = seconds.saturating_add(number.saturating_mul(unit));
        rest = &rest[digits + 1..];
    }
    match Duration::from_secs(seconds) {
        _ if text.is_empty() => Err(malformed()),
        duration if duration > MAX_DURATION => Err(InvalidDuration::TooLong(text.to_owned())),
        duration => Ok(duration),
    }
}

/// Returns a number of seconds as text, such as `5 minutes`, without its sign.
pub fn rough_duration(seconds: i64) -> String {
    match seconds.unsigned_abs() {
        seconds @ 0..120 => format!("{seconds} seconds"),
        seconds @ 120..7200 => format!("{} minutes", seconds / 60),
        seconds @ 7200..172_800 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("60s"), Ok(60));
        assert_eq!(seconds("36h"), Ok(36 * 3600));
        assert_eq!(seconds("7d"), Ok(7 * 86_400));
        assert_eq!(seconds("2w"), Ok(14 * 86_400));
        assert_eq!(seconds("1h30m"), Ok(5400));
        for text in [
            "",
            "d",
            "5",
            "1.5h",
            "-1h",
            "1h30",
            "7 d",
            "99999999999999999999d",
            "9999999w",
            "1ü",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(
            parse_duration("7")
                .expect_err("no unit")
                .hint()
                .is_some_and(|hint| hint.contains("`7d`"))
        );
    }
}
