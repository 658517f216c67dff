//! What keeps a template within bounds: the part of the language that is understood, and what
//! values may grow to.
//!
//! The engine counts instructions, not bytes, and reads long expressions by recursion. So an
//! expression is short, and what is kept beyond one (by `set` and `for`) is measured; nothing is
//! left then that could double often enough.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::{Environment, Error, ErrorKind, Value, filters, tests};

use super::go::{Untranslatable, block, end_of};

/// The longest expression or statement, in bytes between its braces.
const LONGEST_EXPRESSION: usize = 1024;

/// The most expressions and statements of a template.
const MOST_EXPRESSIONS: usize = 10_000;

/// The most `elif` of a template, which are read by recursion.
const MOST_BRANCHES: usize = 100;

/// The largest value that is kept, in bytes as it is written.
const LARGEST_VALUE: usize = 8 * 1024;

/// What all values that are kept may add up to, in bytes.
const MOST_KEPT: usize = 2 * 1024 * 1024;

/// What a value takes besides its text, in bytes.
const OVERHEAD: usize = 32;

/// The most parts of a text or a range.
const MOST_PARTS: usize = 1_000;

/// The filter that measures what is kept.
const KEPT: &str = "imglife_kept";

/// Returns `template` with what is kept measured. Fails for what is not understood, or too long.
pub(super) fn restrict(template: &str) -> Result<String, Untranslatable> {
    let mut restricted = String::with_capacity(template.len());
    let mut rest = template;
    let (mut expressions, mut branches) = (0, 0);
    let (mut line, mut counted) = (1, 0);
    while let Some(start) = rest.find('{') {
        let at = template.len() - rest.len() + start;
        line += template[counted..at].matches('\n').count();
        counted = at;
        let refuse = |problem: String, hint: &str| {
            Err(Untranslatable {
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
            // What is raw ends elsewhere than its first block does.
            Some(b'%') => Some(block(tail))
                .filter(|length| tail[2..*length].contains("{%"))
                .filter(|_| is_raw(tail)),
            Some(b'#') => Some(end_of(tail, "#}").map_or(tail.len(), |end| end + 2)),
            _ => Some(1),
        };
        if let Some(length) = plain {
            restricted.push_str(&tail[..length]);
            rest = &tail[length..];
            continue;
        }
        let closing = if second == Some(&b'%') { "%}" } else { "}}" };
        // One that does not end is an error of the engine, which names it.
        let Some(inside) = inside(&tail[2..], closing) else {
            restricted.push_str(tail.get(..LONGEST_EXPRESSION).unwrap_or(&tail[..2]));
            return Ok(restricted);
        };
        rest = &tail[inside.len() + 4..];
        expressions += 1;
        if expressions > MOST_EXPRESSIONS {
            return refuse(
                format!("there are more than {MOST_EXPRESSIONS} expressions"),
                "write a shorter template",
            );
        }
        if inside.len() > LONGEST_EXPRESSION {
            return refuse(
                format!("an expression is longer than {LONGEST_EXPRESSION} bytes"),
                "write a shorter one",
            );
        }
        if top_level(inside, true).any(|(_, letter)| letter == '*') {
            return refuse(
                "`*` is not understood in templates".to_owned(),
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
        let kept_from = match word {
            "if" | "else" | "endif" | "endfor" => None,
            "elif" => {
                branches += 1;
                if branches > MOST_BRANCHES {
                    return refuse(
                        format!("there are more than {MOST_BRANCHES} `elif`"),
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
                        "`for` with `if` or `recursive` is not understood in templates".to_owned(),
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
                    format!("`{{% {shown} %}}` is not understood in templates"),
                    "there are `if`, `elif`, `else`, `endif`, `for`, `endfor`, `set` and `raw`",
                );
            }
        };
        let (head, kept) = body.split_at(kept_from.unwrap_or(body.len()));
        let kept = if kept_from.is_some() {
            format!(" ({kept})|{KEPT} ")
        } else {
            kept.to_owned()
        };
        // Writing to a string cannot fail.
        let _ = write!(restricted, "{{%{opening}{head}{kept}{ending}%}}");
    }
    restricted.push_str(rest);
    Ok(restricted)
}

fn is_raw(tail: &str) -> bool {
    end_of(tail, "%}").is_some_and(|end| tail[2..end].trim_matches('-').trim() == "raw")
}

/// Returns what stands before `closing`, which counts outside of strings and brackets only.
fn inside<'t>(text: &'t str, closing: &str) -> Option<&'t str> {
    let mut letters = Scan::new(text);
    while let Some((at, _)) = letters.peek_top() {
        if letters.depth == 0 && text[at..].starts_with(closing) {
            return Some(&text[..at]);
        }
        letters.step();
    }
    None
}

/// Returns the letters outside of strings, and of brackets unless `in_brackets`.
fn top_level(text: &str, in_brackets: bool) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut letters = Scan::new(text);
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

/// Returns the words outside of strings and brackets, with their places.
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

/// A walk over an expression that passes over strings.
struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// How many brackets are open.
    depth: usize,
}

impl<'t> Scan<'t> {
    fn new(text: &'t str) -> Scan<'t> {
        Scan {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// Returns the next letter outside of strings; `None` at the end, also that of a string without
    /// one.
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

/// Returns an environment with what a Dockerfile's template is good for: what makes large values of
/// small ones is left out, or bounded.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    let total = Arc::new(AtomicUsize::new(0));
    environment.add_filter(KEPT, move |value: Value| {
        let size = OVERHEAD + written(&value)?.len();
        if total.fetch_add(size, Ordering::Relaxed) + size > MOST_KEPT {
            return Err(too_large(format!(
                "all values take more than {} KiB",
                MOST_KEPT / 1024
            )));
        }
        Ok(value)
    });
    environment.add_filter("join", |value: Value, separator: Option<String>| {
        let mut text = Short::default();
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
        if length > LARGEST_VALUE {
            Err(too_large_value())
        } else {
            Ok(text.replace(&from, &to))
        }
    });
    environment.add_filter("split", |text: String, separator: Option<String>| {
        let parts: Vec<String> = match &separator {
            Some(separator) => text
                .split(separator.as_str())
                .take(MOST_PARTS + 1)
                .map(str::to_owned)
                .collect(),
            None => text
                .split_whitespace()
                .take(MOST_PARTS + 1)
                .map(str::to_owned)
                .collect(),
        };
        if parts.len() > MOST_PARTS {
            Err(too_large(format!(
                "a text has more than {MOST_PARTS} parts"
            )))
        } else {
            Ok(parts)
        }
    });
    environment.add_function("range", |lower: i64, upper: Option<i64>| {
        let (lower, upper) = upper.map_or((0, lower), |upper| (lower, upper));
        let parts = upper.saturating_sub(lower);
        if usize::try_from(parts).is_ok_and(|parts| parts > MOST_PARTS) {
            return Err(too_large(format!(
                "a range has more than {MOST_PARTS} numbers"
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
        LARGEST_VALUE / 1024
    ))
}

/// Returns a value as it is written.
fn written(value: &Value) -> Result<String, Error> {
    let mut text = Short::default();
    write!(text, "{value}").map_err(|_| too_large_value())?;
    Ok(text.0)
}

/// A text that stops growing.
#[derive(Default)]
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LARGEST_VALUE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
