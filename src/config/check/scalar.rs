//! What the texts of the file mean: one reading per type.

use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use regex::RegexBuilder;
use url::Url;

use crate::config::errors::quoted;
use crate::config::expand::is_variable_name;
use crate::config::table::Shape;
use crate::config::words::Words;
use crate::config::{BasePath, Extract, TagExclusion, TagPattern};
use crate::model::duration::parse_duration;
use crate::model::lifecycle::ProductName;
use crate::model::reference::InvalidName;
use crate::model::text::closest;
use crate::model::{Host, Platform, Repository, Tag};

/// The most memory that a compiled pattern may take, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;

/// Why a text does not mean what the key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Problem {
        Problem {
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    fn expected(expected: &str, found: &str) -> Problem {
        Problem::new(format!("expected {expected}, found {}", quoted(found)))
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Problem {
        Problem::new(error.to_string())
    }
}

/// A type that a scalar of the file can be read as. An empty text only comes here where
/// `Shape::AnyText` takes it.
pub(super) trait Scalar: Sized {
    /// Returns whether values of `shape` are read as this type.
    fn fits(shape: &Shape) -> bool;
    fn parse(text: &str, shape: &Shape) -> Result<Self, Problem>;
}

/// Returns what is expected where a value of `shape` stands, for messages.
pub(super) fn expected(shape: &Shape) -> String {
    let expected = match shape {
        Shape::Text | Shape::AnyText => "text",
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
        Shape::Platform => "a platform",
        Shape::Pattern => "a regular expression",
        Shape::TagExclusion => "a tag or a `/regex/`",
        Shape::Extract => "a word or a regular expression",
        Shape::VariableName => "the name of a variable",
        Shape::Command => "a shell line or a list",
        Shape::Section(_) | Shape::Map(_) => "a mapping",
        Shape::OneOrMore(_) => "a mapping or a list of mappings",
        Shape::List(_) => "a list",
    };
    expected.to_owned()
}

/// Returns `words` as `` `a`, `b` or `c` ``.
pub(super) fn alternatives(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

impl<T: Words> Scalar for T {
    fn fits(shape: &Shape) -> bool {
        match shape {
            Shape::Flag => T::WORDS == bool::WORDS,
            Shape::Choice(words) => *words == T::WORDS,
            _ => false,
        }
    }

    fn parse(text: &str, shape: &Shape) -> Result<T, Problem> {
        if let Some(value) = T::of(text) {
            return Ok(value);
        }
        let problem = Problem::expected(&alternatives(T::WORDS), text);
        let lower = text.to_ascii_lowercase();
        let meant = match (shape, lower.as_str()) {
            (Shape::Flag, "yes" | "on" | "y" | "1" | "true") => Some("true"),
            (Shape::Flag, "no" | "off" | "n" | "0" | "false") => Some("false"),
            _ => closest(text, T::WORDS.iter().copied()),
        };
        Err(match meant {
            Some(word) if matches!(shape, Shape::Flag) => problem.hint(format!("write `{word}`")),
            Some(word) => problem.hint(format!("did you mean `{word}`?")),
            None => problem,
        })
    }
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Scalar for $number {
            fn fits(shape: &Shape) -> bool {
                matches!(shape, Shape::Whole { most, .. } if <$number>::try_from(*most).is_ok())
            }

            fn parse(text: &str, shape: &Shape) -> Result<$number, Problem> {
                whole(text, shape).and_then(|number| <$number>::try_from(number).map_err(|_| Problem::expected("a smaller number", text)))
            }
        }
    )*};
}

whole_numbers!(u8, u32, u64, usize);

fn whole(text: &str, shape: &Shape) -> Result<u64, Problem> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            Problem::expected("a whole number", text).hint("write it in digits, without a unit")
        );
    }
    let (least, most) = match shape {
        Shape::Whole { least, most } => (*least, *most),
        _ => (0, u64::MAX),
    };
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ if most >= i64::MAX as u64 => Err(Problem::expected(
            &format!("a number of at least {least}"),
            text,
        )),
        _ => Err(Problem::expected(
            &format!("a number from {least} to {most}"),
            text,
        )),
    }
}

impl Scalar for f64 {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Rate)
    }

    fn parse(text: &str, _: &Shape) -> Result<f64, Problem> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.parse::<f64>() {
            Ok(number) if plain && number > 0.0 && number <= 1e6 => Ok(number),
            _ => Err(Problem::expected(
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

    fn parse(text: &str, shape: &Shape) -> Result<String, Problem> {
        match shape {
            Shape::Text if text.trim().is_empty() => Err(Problem::expected("text", text)),
            _ => Ok(text.to_owned()),
        }
    }
}

impl Scalar for PathBuf {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Path)
    }

    fn parse(text: &str, _: &Shape) -> Result<PathBuf, Problem> {
        if text.contains('\0') {
            Err(Problem::expected("a path", text))
        } else {
            Ok(PathBuf::from(text))
        }
    }
}

impl Scalar for Duration {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Duration)
    }

    fn parse(text: &str, _: &Shape) -> Result<Duration, Problem> {
        parse_duration(text).map_err(|error| {
            let hint = error.hint();
            let problem = Problem::new(error.to_string());
            hint.into_iter().fold(problem, Problem::hint)
        })
    }
}

impl Scalar for NaiveDate {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Date)
    }

    fn parse(text: &str, _: &Shape) -> Result<NaiveDate, Problem> {
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
            Problem::expected("a date", text).hint("write year, month and day, as in `2027-06-30`")
        })
    }
}

impl Scalar for Url {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Url)
    }

    fn parse(text: &str, _: &Shape) -> Result<Url, Problem> {
        // A text with a user part may hold a password, so it is not shown.
        let shown = if text.contains('@') {
            "something else".to_owned()
        } else {
            quoted(text)
        };
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            let problem = Problem::new(format!(
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
            return Err(Problem::new("the URL has a user name or password in it")
                .hint("leave it out: imglife looks for credentials in the environment by itself"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Problem::new(format!(
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

            fn parse(text: &str, _: &Shape) -> Result<$name, Problem> {
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

    fn parse(text: &str, _: &Shape) -> Result<Repository, Problem> {
        text.parse::<Repository>().map_err(|error| {
            let after_slash = text.rfind('/').map_or(0, |slash| slash + 1);
            match text[after_slash..].find([':', '@']) {
                Some(at) if at > 0 && !text.contains("://") => Problem::from(error).hint(format!(
                    "write {} here; tags have keys of their own",
                    quoted(&text[..after_slash + at])
                )),
                _ => Problem::from(error),
            }
        })
    }
}

impl Scalar for Platform {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Platform)
    }

    fn parse(text: &str, _: &Shape) -> Result<Platform, Problem> {
        text.parse::<Platform>()
            .map_err(|error| Problem::new(error.to_string()))
    }
}

impl Scalar for TagPattern {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Pattern)
    }

    fn parse(text: &str, _: &Shape) -> Result<TagPattern, Problem> {
        pattern(text, true)
    }
}

/// Returns the compiled pattern. `whole` makes it match whole tags only.
fn pattern(text: &str, whole: bool) -> Result<TagPattern, Problem> {
    let malformed = |message: &str| {
        let reason = message.lines().last().unwrap_or_default().trim();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        Problem::new(format!(
            "{} is no regular expression: {reason}",
            quoted(text)
        ))
        .hint(
            "the syntax is that of https://docs.rs/regex, without look-around and back-references",
        )
    };
    // `a)|(b` is no pattern, but would be one inside the group.
    regex_syntax::ast::parse::Parser::new()
        .parse(text)
        .map_err(|error| malformed(&error.to_string()))?;
    let expression = if whole {
        format!("^(?:{text})$")
    } else {
        text.to_owned()
    };
    let regex = RegexBuilder::new(&expression)
        .size_limit(LARGEST_PATTERN)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Problem::new("the regular expression is too large"),
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

    fn parse(text: &str, _: &Shape) -> Result<TagExclusion, Problem> {
        match text.strip_prefix('/') {
            None => Ok(TagExclusion::Exact(text.parse::<Tag>()?.to_string())),
            Some(rest) => match rest.strip_suffix('/') {
                Some(regex) => Ok(TagExclusion::Pattern(pattern(regex, true)?)),
                None => Err(Problem::expected("a tag or a `/regex/`", text)
                    .hint("end the regular expression with `/`")),
            },
        }
    }
}

impl Scalar for Extract {
    fn fits(shape: &Shape) -> bool {
        matches!(shape, Shape::Extract)
    }

    fn parse(text: &str, _: &Shape) -> Result<Extract, Problem> {
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
            let problem = Problem::expected(&expected, text);
            Err(match closest(text, words) {
                Some(word) => problem.hint(format!("did you mean `{word}`?")),
                None => problem
                    .hint("put what names the release cycle in parentheses, as in `^(\\d+)\\.`"),
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

    fn parse(text: &str, _: &Shape) -> Result<VariableName, Problem> {
        if is_variable_name(text) {
            return Ok(VariableName(text.to_owned()));
        }
        // What stands here by mistake is the secret URL itself, so it is not shown.
        let problem = Problem::new("expected the name of a variable");
        let name = text
            .trim_start_matches('$')
            .trim_start_matches('{')
            .trim_end_matches('}');
        Err(if text.starts_with('$') && is_variable_name(name) {
            problem.hint(format!("write `{name}`, without `$`"))
        } else {
            problem.hint("put the URL into a variable and its name here")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_tags_and_cannot_break_out_of_their_group() {
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
            Err(Problem::new("the regular expression is too large"))
        );
    }

    #[test]
    fn urls_neither_hold_nor_show_credentials() {
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
    fn a_webhook_url_in_place_of_a_name_is_not_shown() {
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
    fn an_extracting_pattern_has_one_group() {
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
    fn numbers_are_within_their_bounds() {
        let percent = Shape::Whole {
            least: 0,
            most: 100,
        };
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
