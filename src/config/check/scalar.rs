//! Parsing of scalars: one implementation of [`Scalar`] per type.

use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use regex::RegexBuilder;
use url::Url;

use crate::config::errors::quoted;
use crate::config::expand::is_variable_name;
use crate::config::keywords::Keyword;
use crate::config::table::Shape;
use crate::config::{
    BasePath, Extract, NamePattern, PinnedTag, RepositoryPattern, TagExclusion, TagPattern,
};
use crate::model::duration::parse_duration;
use crate::model::lifecycle::ProductName;
use crate::model::reference::InvalidName;
use crate::model::tag::InvalidRange;
use crate::model::text::closest;
use crate::model::{Digest, Host, ImageReference, Platform, Repository, Tag, VersionRange};

/// Maximum size of a compiled pattern, in bytes.
const MAX_PATTERN_MEMORY: usize = 1 << 20;

/// Error for a value that its key does not accept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ValueError {
    pub(super) message: String,
    /// Suggestion for the user.
    pub(super) hint: Option<String>,
}

impl ValueError {
    pub(super) fn new(message: impl Into<String>) -> ValueError {
        ValueError {
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> ValueError {
        self.hint = Some(hint.into());
        self
    }

    fn expected(expected: &str, found: &str) -> ValueError {
        ValueError::new(format!("expected {expected}, found {}", quoted(found)))
    }
}

impl From<InvalidName> for ValueError {
    fn from(error: InvalidName) -> ValueError {
        ValueError::new(error.to_string())
    }
}

/// A type that scalars of the file can be parsed as.
pub(super) trait Scalar: Sized {
    /// Returns true if values of `shape` are parsed as this type.
    fn fits(shape: &Shape) -> bool;

    /// Parses a value of `shape`. `text` is empty only for `Shape::AnyText`.
    fn parse(text: &str, shape: &Shape) -> Result<Self, ValueError>;
}

/// Returns a description of the values of `shape`, for messages.
pub(super) fn expected(shape: &Shape) -> String {
    let expected = match shape {
        Shape::Text | Shape::AnyText => "a string",
        Shape::Flag => "`true` or `false`",
        Shape::Whole { .. } => "a whole number",
        Shape::Rate => "a number",
        Shape::Choice(words) => return alternatives(words),
        Shape::Duration => "a duration",
        Shape::Date => "a date",
        Shape::Url => "a URL",
        Shape::Path => "a path",
        Shape::Repository => "a repository",
        Shape::BasePath => "a base path",
        Shape::Host => "a registry host",
        Shape::Tag => "a tag",
        Shape::PinnedTag => "a tag",
        Shape::Platform => "a platform",
        Shape::Pattern => "a regular expression",
        Shape::VersionRange => "a range of versions",
        Shape::Image => "an image reference",
        Shape::RepositoryPattern => "a repository, with wildcards",
        Shape::NamePattern => "a name, with wildcards",
        Shape::TagExclusion => "a tag or a `/regex/`",
        Shape::Extract => "a keyword or a regular expression",
        Shape::VariableName => "the name of an environment variable",
        Shape::Command => "a command line or a list",
        Shape::Section(_) | Shape::Map(_) => "a mapping",
        Shape::OneOrMore(_) => "a mapping or a list of mappings",
        Shape::List(_) => "a list",
    };
    expected.to_owned()
}

/// Returns `words` in the form `` `a`, `b` or `c` ``.
pub(super) fn alternatives(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

impl<T: Keyword> Scalar for T {
    fn fits(shape: &Shape) -> bool {
        match shape {
            Shape::Flag => T::KEYWORDS == bool::KEYWORDS,
            Shape::Choice(words) => *words == T::KEYWORDS,
            _ => false,
        }
    }

    fn parse(text: &str, shape: &Shape) -> Result<T, ValueError> {
        if let Some(value) = T::from_keyword(text) {
            return Ok(value);
        }
        let problem = ValueError::expected(&alternatives(T::KEYWORDS), text);
        let lower = text.to_ascii_lowercase();
        let is_flag =
            T::KEYWORDS.contains(&"true") && matches!(shape, Shape::Flag | Shape::Choice(_));
        let meant = match (is_flag, lower.as_str()) {
            (true, "yes" | "on" | "y" | "1" | "true") => Some("true"),
            (true, "no" | "off" | "n" | "0" | "false") => Some("false"),
            _ => closest(text, T::KEYWORDS.iter().copied()),
        };
        Err(match meant {
            Some(word) if is_flag => problem.hint(format!("write `{word}`")),
            Some(word) => problem.hint(format!("did you mean `{word}`?")),
            None => problem,
        })
    }
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Scalar for $number {
            fn fits(shape: &Shape) -> bool {
                matches!(shape, Shape::Whole { max, .. } if <$number>::try_from(*max).is_ok())
            }

            fn parse(text: &str, shape: &Shape) -> Result<$number, ValueError> {
                whole(text, shape).and_then(|number| <$number>::try_from(number).map_err(|_| ValueError::expected("a smaller number", text)))
            }
        }
    )*};
}

whole_numbers!(u8, u32, u64, usize);

/// Parses a whole number in the range of `shape`.
fn whole(text: &str, shape: &Shape) -> Result<u64, ValueError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            ValueError::expected("a whole number", text).hint("write digits only, without a unit")
        );
    }
    let (min, max) = match shape {
        Shape::Whole { min, max } => (*min, *max),
        _ => (0, u64::MAX),
    };
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ if max >= i64::MAX as u64 => Err(ValueError::expected(
            &format!("a number of at least {min}"),
            text,
        )),
        _ => Err(ValueError::expected(
            &format!("a number from {min} to {max}"),
            text,
        )),
    }
}

impl Scalar for f64 {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Rate)
    }

    fn parse(text: &str, _: &Shape) -> Result<f64, ValueError> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.parse::<f64>() {
            Ok(number) if plain && number > 0.0 && number <= 1e6 => Ok(number),
            _ => Err(ValueError::expected(
                "a number above 0, such as `10` or `0.5`",
                text,
            )),
        }
    }
}

impl Scalar for String {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Text | Shape::AnyText)
    }

    fn parse(text: &str, shape: &Shape) -> Result<String, ValueError> {
        match shape {
            Shape::Text if text.trim().is_empty() => Err(ValueError::expected("a string", text)),
            _ => Ok(text.to_owned()),
        }
    }
}

impl Scalar for PathBuf {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Path)
    }

    fn parse(text: &str, _: &Shape) -> Result<PathBuf, ValueError> {
        if text.contains('\0') {
            Err(ValueError::expected("a path", text))
        } else {
            Ok(PathBuf::from(text))
        }
    }
}

impl Scalar for Duration {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Duration)
    }

    fn parse(text: &str, _: &Shape) -> Result<Duration, ValueError> {
        parse_duration(text).map_err(|error| {
            let hint = error.hint();
            let problem = ValueError::new(error.to_string());
            hint.into_iter().fold(problem, ValueError::hint)
        })
    }
}

impl Scalar for NaiveDate {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Date)
    }

    fn parse(text: &str, _: &Shape) -> Result<NaiveDate, ValueError> {
        let iso = text.len() == 10
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-');
        let date = if iso {
            NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
        } else {
            None
        };
        date.ok_or_else(|| {
            ValueError::expected("a date", text)
                .hint("write year, month and day, for example `2027-06-30`")
        })
    }
}

impl Scalar for Url {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Url)
    }

    fn parse(text: &str, _: &Shape) -> Result<Url, ValueError> {
        // A URL with user information may contain a password, so it is not shown.
        let shown = if text.contains('@') {
            "another value".to_owned()
        } else {
            quoted(text)
        };
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            let problem = ValueError::new(format!(
                "expected a URL that starts with `https://` or `http://`, found {shown}"
            ));
            let bare = !text.contains([' ', '@']) && !text.contains("://");
            return Err(if bare {
                problem.hint(format!("write {}", quoted(&format!("https://{text}"))))
            } else {
                problem
            });
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                ValueError::new("the URL contains a user name or a password")
                    .hint("remove it: imglife reads credentials from the environment itself"),
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ValueError::new(format!(
                "expected a URL without `?` and `#`, found {shown}"
            )));
        }
        Ok(url)
    }
}

macro_rules! names {
    ($($name:ty = $shape:ident),*) => {$(
        impl Scalar for $name {
            fn fits(shape: &Shape) -> bool {
                matches!(shape, Shape::$shape)
            }

            fn parse(text: &str, _: &Shape) -> Result<$name, ValueError> {
                Ok(text.parse::<$name>()?)
            }
        }
    )*};
}

names!(
    Host = Host,
    Tag = Tag,
    BasePath = BasePath,
    ProductName = Text
);

impl Scalar for Repository {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Repository)
    }

    fn parse(text: &str, _: &Shape) -> Result<Repository, ValueError> {
        text.parse::<Repository>().map_err(|error| {
            let after_slash = text.rfind('/').map_or(0, |slash| slash + 1);
            match text[after_slash..].find([':', '@']) {
                Some(at) if at > 0 && !text.contains("://") => {
                    ValueError::from(error).hint(format!(
                        "write {} here, and the tag in a separate key",
                        quoted(&text[..after_slash + at])
                    ))
                }
                _ => ValueError::from(error),
            }
        })
    }
}

impl Scalar for ImageReference {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Image)
    }

    fn parse(text: &str, _: &Shape) -> Result<ImageReference, ValueError> {
        let image: ImageReference = text.parse()?;
        if image.tag.is_none() && image.digest.is_none() {
            return Err(
                ValueError::new(format!("{} has no tag and no digest", quoted(text))).hint(
                    "add one; to keep all tags of a repository, set `exclude_tags` for its entry \
                     or image",
                ),
            );
        }
        Ok(image)
    }
}

impl Scalar for RepositoryPattern {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::RepositoryPattern)
    }

    fn parse(text: &str, _: &Shape) -> Result<RepositoryPattern, ValueError> {
        if text.trim().is_empty() || text.contains(char::is_whitespace) {
            return Err(ValueError::expected("a repository", text));
        }
        RepositoryPattern::new(text).map_err(|reason| {
            ValueError::new(format!("{} is not a pattern: {reason}", quoted(text)))
        })
    }
}

impl Scalar for NamePattern {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::NamePattern)
    }

    fn parse(text: &str, _: &Shape) -> Result<NamePattern, ValueError> {
        NamePattern::new(text).map_err(|reason| {
            ValueError::new(format!("{} is not a pattern: {reason}", quoted(text)))
        })
    }
}

impl Scalar for Platform {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Platform)
    }

    fn parse(text: &str, _: &Shape) -> Result<Platform, ValueError> {
        text.parse::<Platform>()
            .map_err(|error| ValueError::new(error.to_string()))
    }
}

impl Scalar for PinnedTag {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::PinnedTag)
    }

    fn parse(text: &str, _: &Shape) -> Result<PinnedTag, ValueError> {
        let Some((tag, digest)) = text.split_once('@') else {
            return Ok(PinnedTag {
                tag: Tag::parse(text, &Shape::Tag)?,
                digest: None,
            });
        };
        let digest = digest
            .parse::<Digest>()
            .map_err(|error| ValueError::new(error.to_string()))?;
        Ok(PinnedTag {
            tag: Tag::parse(tag, &Shape::Tag)?,
            digest: Some(digest),
        })
    }
}

impl Scalar for VersionRange {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::VersionRange)
    }

    fn parse(text: &str, _: &Shape) -> Result<VersionRange, ValueError> {
        text.parse().map_err(|error: InvalidRange| {
            ValueError::new(error.to_string()).hint(
                "write conditions such as `>=3.20, <4`, `~3.21` or `3.x`, and `||` between alternatives",
            )
        })
    }
}

impl Scalar for TagPattern {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Pattern)
    }

    fn parse(text: &str, _: &Shape) -> Result<TagPattern, ValueError> {
        pattern(text, true)
    }
}

/// Compiles a pattern. If `whole` is true, it matches only complete tags.
fn pattern(text: &str, whole: bool) -> Result<TagPattern, ValueError> {
    let malformed = |message: &str| {
        let reason = message.lines().last().unwrap_or_default().trim();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        ValueError::new(format!(
            "{} is not a valid regular expression: {reason}",
            quoted(text)
        ))
        .hint(
            "see https://docs.rs/regex for the syntax; look-around and back-references are not supported",
        )
    };
    // `a)|(b` is invalid by itself, but would be valid inside the group below.
    regex_syntax::ast::parse::Parser::new()
        .parse(text)
        .map_err(|error| malformed(&error.to_string()))?;
    let expression = if whole {
        format!("^(?:{text})$")
    } else {
        text.to_owned()
    };
    let regex = RegexBuilder::new(&expression)
        .size_limit(MAX_PATTERN_MEMORY)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                ValueError::new("the regular expression is too large")
            }
            error => malformed(&error.to_string()),
        })?;
    Ok(TagPattern {
        text: text.to_owned(),
        regex,
    })
}

impl Scalar for TagExclusion {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::TagExclusion)
    }

    fn parse(text: &str, _: &Shape) -> Result<TagExclusion, ValueError> {
        match text.strip_prefix('/') {
            None => Ok(TagExclusion::Exact(text.parse::<Tag>()?.to_string())),
            Some(rest) => match rest.strip_suffix('/') {
                Some(regex) => Ok(TagExclusion::Pattern(pattern(regex, true)?)),
                None => Err(ValueError::expected("a tag or a `/regex/`", text)
                    .hint("add a `/` at the end of the regular expression")),
            },
        }
    }
}

impl Scalar for Extract {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Extract)
    }

    fn parse(text: &str, _: &Shape) -> Result<Extract, ValueError> {
        let words = ["major", "minor", "patch", "full"];
        match text {
            "major" => return Ok(Extract::Major),
            "minor" => return Ok(Extract::Minor),
            "patch" => return Ok(Extract::Patch),
            "full" => return Ok(Extract::Full),
            _ => {}
        }
        let pattern = pattern(text, false)?;
        if pattern.regex.captures_len() == 2 {
            Ok(Extract::Pattern(pattern))
        } else {
            let expected = format!(
                "{}, or a regular expression with one capture group",
                words.map(|word| format!("`{word}`")).join(", ")
            );
            let problem = ValueError::expected(&expected, text);
            Err(match closest(text, words) {
                Some(word) => problem.hint(format!("did you mean `{word}`?")),
                None => {
                    problem.hint("put the release cycle into parentheses, for example `^(\\d+)\\.`")
                }
            })
        }
    }
}

/// The name of an environment variable.
pub(super) struct VariableName(pub(super) String);

impl Scalar for VariableName {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::VariableName)
    }

    fn parse(text: &str, _: &Shape) -> Result<VariableName, ValueError> {
        if is_variable_name(text) {
            return Ok(VariableName(text.to_owned()));
        }
        // The value may be the secret URL itself by mistake, so it is not shown.
        let problem = ValueError::new("expected the name of an environment variable");
        let name = text
            .trim_start_matches('$')
            .trim_start_matches('{')
            .trim_end_matches('}');
        Err(if text.starts_with('$') && is_variable_name(name) {
            problem.hint(format!("write `{name}`, without `$`"))
        } else {
            problem.hint("set an environment variable to the URL and write its name here")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_only_complete_tags() {
        let parse = |text| TagPattern::parse(text, &Shape::Pattern);
        let pattern = parse("3|4").expect("a pattern");
        assert!(
            pattern.regex.is_match("3")
                && !pattern.regex.is_match("30")
                && !pattern.regex.is_match("14")
        );
        assert!(parse("a)|(b").is_err());
        assert!(
            parse("(")
                .expect_err("no pattern")
                .message
                .contains("unclosed group")
        );
        assert_eq!(
            parse(r"\w{500}{500}").map(|_| ()),
            Err(ValueError::new("the regular expression is too large"))
        );
    }

    #[test]
    fn url_rejects_and_hides_credentials() {
        let parse = |text| {
            Url::parse(text)
                .map(|_| ())
                .map_err(|_| ())
                .and(<Url as Scalar>::parse(text, &Shape::Url).map_err(|_| ()))
        };
        assert!(parse("https://gitlab.example.com").is_ok());
        for text in [
            "ftp://a",
            "https://",
            "https://a?b=c",
            "https://a#b",
            "https://u:hunter2@a",
            "x://u:hunter2@a",
        ] {
            let problem = <Url as Scalar>::parse(text, &Shape::Url).expect_err(text);
            assert!(!problem.message.contains("hunter2"), "{}", problem.message);
        }
    }

    #[test]
    fn variable_name_hides_a_url() {
        let problem =
            VariableName::parse("https://hooks.example.com/T0/hunter2", &Shape::VariableName)
                .err()
                .expect("no name");
        assert!(!format!("{problem:?}").contains("hunter2"));
        let problem = VariableName::parse("${SLACK_URL}", &Shape::VariableName)
            .err()
            .expect("no name");
        assert_eq!(
            problem.hint.as_deref(),
            Some("write `SLACK_URL`, without `$`")
        );
    }

    #[test]
    fn extract_requires_one_capture_group() {
        let parse = |text| Extract::parse(text, &Shape::Extract);
        assert!(matches!(parse("minor"), Ok(Extract::Minor)));
        assert!(matches!(parse(r"^(\d+)\."), Ok(Extract::Pattern(_))));
        assert_eq!(
            parse("minro").expect_err("no group").hint.as_deref(),
            Some("did you mean `minor`?")
        );
        assert!(parse(r"(\d+)\.(\d+)").is_err());
    }

    #[test]
    fn numbers_are_limited_to_their_range() {
        let percent = Shape::Whole { min: 0, max: 100 };
        assert_eq!(u8::parse("100", &percent), Ok(100));
        for text in [
            "101",
            "-1",
            "1e2",
            "",
            "five",
            "99999999999999999999999",
            "1_000",
            "0x10",
        ] {
            assert!(u8::parse(text, &percent).is_err(), "{text}");
        }
        assert!(f64::parse("0.5", &Shape::Rate).is_ok());
        for text in ["0", "-1", "inf", "nan", "1e3", "."] {
            assert!(f64::parse(text, &Shape::Rate).is_err(), "{text}");
        }
    }
}
