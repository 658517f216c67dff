//! Limits for untrusted templates: the supported part of the language, and the size of values.
//!
//! The engine limits instructions but not memory, and parses long expressions by recursion.
//! Therefore each expression is short, and each value that outlives its expression (through `set`
//! and `for`) is measured. So no value can be doubled often enough to fill memory.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::{Environment, Error, ErrorKind, Value, filters, tests};

use super::go::{TemplateSyntaxError, block_length, find_end};

/// Maximum length of an expression or statement between its braces, in bytes.
const MAX_EXPRESSION_LENGTH: usize = 1024;

/// Maximum number of expressions and statements in a template.
const MAX_EXPRESSIONS: usize = 10_000;

/// Maximum number of `elif` in a template. The engine parses them by recursion.
const MAX_BRANCHES: usize = 100;

/// Maximum size of a rendered variable, in bytes.
const MAX_VALUE_SIZE: usize = 8 * 1024;

/// Maximum total size of the values of all variables, in bytes.
const MAX_TOTAL_SIZE: usize = 2 * 1024 * 1024;

/// Memory that a value takes in addition to its text, in bytes.
const VALUE_OVERHEAD: usize = 32;

/// Maximum number of parts of a split text, and of numbers in a range.
const MAX_PARTS: usize = 1_000;

/// Name of the filter that measures the values of variables.
const MEASURE_FILTER: &str = "imglife_measure";

/// Adds the measuring filter to each `set` and `for` of `template`. Fails for statements that are
/// not supported and for expressions that are too long.
pub(super) fn restrict(template: &str) -> Result<String, TemplateSyntaxError> {
    let mut restricted = String::with_capacity(template.len());
    let mut rest = template;
    let (mut expressions, mut branches) = (0, 0);
    let (mut line, mut counted) = (1, 0);
    while let Some(start) = rest.find('{') {
        let at = template.len() - rest.len() + start;
        line += template[counted..at].matches('\n').count();
        counted = at;
        let refuse = |problem: String, hint: &str| {
            Err(TemplateSyntaxError {
                line,
                problem,
                hint: hint.to_owned(),
            })
        };
        let (before, tail) = rest.split_at(start);
        restricted.push_str(before);
        let second = tail.as_bytes().get(1);
        let plain = match second {
            Some(b'{') => None,
            // A raw block ends with `endraw`, not with its first `%}`.
            Some(b'%') => Some(block_length(tail))
                .filter(|length| tail[2..*length].contains("{%"))
                .filter(|_| is_raw(tail)),
            Some(b'#') => Some(find_end(tail, "#}").map_or(tail.len(), |end| end + 2)),
            _ => Some(1),
        };
        if let Some(length) = plain {
            restricted.push_str(&tail[..length]);
            rest = &tail[length..];
            continue;
        }
        let closing = if second == Some(&b'%') { "%}" } else { "}}" };
        // The engine reports an expression without an end.
        let Some(inside) = inside(&tail[2..], closing) else {
            restricted.push_str(tail.get(..MAX_EXPRESSION_LENGTH).unwrap_or(&tail[..2]));
            return Ok(restricted);
        };
        rest = &tail[inside.len() + 4..];
        expressions += 1;
        if expressions > MAX_EXPRESSIONS {
            return refuse(
                format!("there are more than {MAX_EXPRESSIONS} expressions"),
                "write a shorter template",
            );
        }
        if inside.len() > MAX_EXPRESSION_LENGTH {
            return refuse(
                format!("an expression is longer than {MAX_EXPRESSION_LENGTH} bytes"),
                "write a shorter one",
            );
        }
        if top_level(inside, true).any(|(_, letter)| letter == '*') {
            return refuse(
                "`*` is not supported in templates".to_owned(),
                "write the text or the number itself",
            );
        }
        if second == Some(&b'{') {
            restricted.push_str(&tail[..inside.len() + 4]);
            continue;
        }
        let body = inside.trim_start_matches(['-', '+']);
        let opening = &inside[..inside.len() - body.len()];
        let body = body.trim_end_matches(['-', '+']);
        let ending = &inside[opening.len() + body.len()..];
        let word = body.split_whitespace().next().unwrap_or_default();
        let value_start = match word {
            "if" | "else" | "endif" | "endfor" => None,
            "elif" => {
                branches += 1;
                if branches > MAX_BRANCHES {
                    return refuse(
                        format!("there are more than {MAX_BRANCHES} `elif`"),
                        "write a shorter template",
                    );
                }
                None
            }
            "set" => match top_level(body, false).find(|(_, letter)| *letter == '=') {
                Some((at, _)) => Some(at + 1),
                None => {
                    return refuse(
                        "`set` has no value".to_owned(),
                        "write `{% set name = value %}`",
                    );
                }
            },
            "for" => {
                let words = words(body);
                let has = |wanted: &str| words.iter().any(|(_, word)| *word == wanted);
                if has("recursive") || (has("if") && !has("else")) {
                    return refuse(
                        "`for` with `if` or `recursive` is not supported in templates".to_owned(),
                        "write `{% if ... %}` within the loop",
                    );
                }
                words
                    .iter()
                    .find(|(_, word)| *word == "in")
                    .map(|(at, _)| at + 2)
            }
            _ => {
                let shown = crate::model::text::excerpt(word, 40);
                return refuse(
                    format!("`{{% {shown} %}}` is not supported in templates"),
                    "use `if`, `elif`, `else`, `endif`, `for`, `endfor`, `set` or `raw`",
                );
            }
        };
        let (head, value) = body.split_at(value_start.unwrap_or(body.len()));
        let value = if value_start.is_some() {
            format!(" ({value})|{MEASURE_FILTER} ")
        } else {
            value.to_owned()
        };
        // Writing to a string cannot fail.
        let _ = write!(restricted, "{{%{opening}{head}{value}{ending}%}}");
    }
    restricted.push_str(rest);
    Ok(restricted)
}

fn is_raw(tail: &str) -> bool {
    find_end(tail, "%}").is_some_and(|end| tail[2..end].trim_matches('-').trim() == "raw")
}

/// Returns the text before `closing`. A `closing` within strings or brackets does not count.
fn inside<'t>(text: &'t str, closing: &str) -> Option<&'t str> {
    let mut letters = ExpressionScanner::new(text);
    while let Some((at, _)) = letters.peek_top() {
        if letters.depth == 0 && text[at..].starts_with(closing) {
            return Some(&text[..at]);
        }
        letters.step();
    }
    None
}

/// Returns the characters outside of strings with their positions. Characters in brackets are
/// included only if `in_brackets`.
fn top_level(text: &str, in_brackets: bool) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut letters = ExpressionScanner::new(text);
    std::iter::from_fn(move || {
        loop {
            let (at, letter) = letters.peek_top()?;
            let depth = letters.depth;
            letters.step();
            if in_brackets || depth == 0 {
                return Some((at, letter));
            }
        }
    })
}

/// Returns the words outside of strings and brackets with their positions.
fn words(text: &str) -> Vec<(usize, &str)> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut words: Vec<(usize, &str)> = Vec::new();
    for (at, letter) in top_level(text, false).filter(|(_, letter)| is_part(*letter)) {
        match words.last_mut() {
            Some((start, word)) if *start + word.len() == at => {
                *word = &text[*start..at + letter.len_utf8()];
            }
            _ => words.push((at, &text[at..at + letter.len_utf8()])),
        }
    }
    words
}

/// Scanner of an expression that skips strings.
struct ExpressionScanner<'t> {
    text: &'t str,
    at: usize,
    /// Number of open brackets.
    depth: usize,
}

impl<'t> ExpressionScanner<'t> {
    fn new(text: &'t str) -> ExpressionScanner<'t> {
        ExpressionScanner {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// Returns the next character outside of strings. Returns `None` at the end, and for a string
    /// that is not closed.
    fn peek_top(&mut self) -> Option<(usize, char)> {
        loop {
            let letter = self.text[self.at..].chars().next()?;
            if !matches!(letter, '"' | '\'') {
                return Some((self.at, letter));
            }
            let mut is_escaped = false;
            let end = self.text[self.at + 1..].char_indices().find(|(_, next)| {
                let ends = !is_escaped && *next == letter;
                is_escaped = !is_escaped && *next == '\\';
                ends
            });
            self.at += 2 + end?.0;
        }
    }

    fn step(&mut self) {
        if let Some(letter) = self.text[self.at..].chars().next() {
            match letter {
                '(' | '[' | '{' => self.depth += 1,
                ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.at += letter.len_utf8();
        }
    }
}

/// Returns an engine with the filters, tests and functions that Dockerfile templates need. Those
/// that make large values from small ones are left out or limited.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    let total = Arc::new(AtomicUsize::new(0));
    environment.add_filter(MEASURE_FILTER, move |value: Value| {
        let size = VALUE_OVERHEAD + rendered(&value)?.len();
        if total.fetch_add(size, Ordering::Relaxed) + size > MAX_TOTAL_SIZE {
            return Err(too_large(format!(
                "the values of all variables take more than {} KiB",
                MAX_TOTAL_SIZE / 1024
            )));
        }
        Ok(value)
    });
    environment.add_filter("join", |value: Value, separator: Option<String>| {
        let mut text = LimitedText::default();
        for (count, part) in value.try_iter()?.enumerate() {
            let separator = separator
                .as_deref()
                .filter(|_| count > 0)
                .unwrap_or_default();
            write!(text, "{separator}{part}").map_err(|_| too_large_value())?;
        }
        Ok::<_, Error>(text.0)
    });
    environment.add_filter("replace", |text: String, from: String, to: String| {
        let found = text.matches(from.as_str()).count();
        let length = text
            .len()
            .saturating_sub(found * from.len())
            .saturating_add(found.saturating_mul(to.len()));
        if length > MAX_VALUE_SIZE {
            Err(too_large_value())
        } else {
            Ok(text.replace(&from, &to))
        }
    });
    environment.add_filter("split", |text: String, separator: Option<String>| {
        let parts: Vec<String> = match &separator {
            Some(separator) => text
                .split(separator.as_str())
                .take(MAX_PARTS + 1)
                .map(str::to_owned)
                .collect(),
            None => text
                .split_whitespace()
                .take(MAX_PARTS + 1)
                .map(str::to_owned)
                .collect(),
        };
        if parts.len() > MAX_PARTS {
            Err(too_large(format!("a text has more than {MAX_PARTS} parts")))
        } else {
            Ok(parts)
        }
    });
    environment.add_function("range", |lower: i64, upper: Option<i64>| {
        let (lower, upper) = upper.map_or((0, lower), |upper| (lower, upper));
        let parts = upper.saturating_sub(lower);
        if usize::try_from(parts).is_ok_and(|parts| parts > MAX_PARTS) {
            return Err(too_large(format!(
                "a range has more than {MAX_PARTS} numbers"
            )));
        }
        Ok((lower..upper).collect::<Vec<i64>>())
    });
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("length", filters::length);
    environment.add_filter("count", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("min", filters::min);
    environment.add_filter("max", filters::max);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("unique", filters::unique);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("items", filters::items);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("round", filters::round);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("endingwith", tests::is_endingwith);
    environment
}

fn too_large(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

fn too_large_value() -> Error {
    too_large(format!(
        "a value is larger than {} KiB",
        MAX_VALUE_SIZE / 1024
    ))
}

/// Renders a value. Fails if it is larger than [`MAX_VALUE_SIZE`].
fn rendered(value: &Value) -> Result<String, Error> {
    let mut text = LimitedText::default();
    write!(text, "{value}").map_err(|_| too_large_value())?;
    Ok(text.0)
}

/// Text of at most [`MAX_VALUE_SIZE`] bytes.
#[derive(Default)]
struct LimitedText(String);

impl fmt::Write for LimitedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_VALUE_SIZE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
