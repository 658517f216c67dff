//! What is wrong with a configuration: findings with their positions, as plain lines and as drawn
//! snippets.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use thiserror::Error;

use crate::model::text::{excerpt, printable};

/// Findings beyond this many are counted, not kept.
pub(super) const MOST_FINDINGS: usize = 100;

/// How many characters of a line are drawn on either side of what is wrong.
const DRAWN_AROUND: usize = 60;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Offsets in bytes.
    pub start: usize,
    pub end: usize,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `None` when an environment variable is at fault: then `path` is its name.
    pub span: Option<Span>,
    /// The key's path as in `sync.entries[0].tag_regex`, or the name of a variable; empty for the
    /// file as a whole.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file's name, for messages.
    pub name: String,
    pub text: String,
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those that are kept.
    pub omitted: usize,
}

impl ConfigErrors {
    pub(super) fn new(
        name: &str,
        text: &str,
        mut findings: Vec<Finding>,
        omitted: usize,
    ) -> ConfigErrors {
        let position = |finding: &Finding| {
            finding
                .span
                .map_or((usize::MAX, 0), |span| (span.start, span.end))
        };
        findings.sort_by(|one, other| {
            position(one)
                .cmp(&position(other))
                .then_with(|| one.path.cmp(&other.path))
        });
        ConfigErrors {
            name: name.to_owned(),
            text: text.to_owned(),
            findings,
            omitted,
        }
    }

    /// Returns the findings drawn into the lines they are about, with a last line that counts them
    /// where there are several.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut drawn: Vec<String> = self
            .findings
            .iter()
            .map(|finding| self.draw(finding, &renderer))
            .collect();
        if self.findings.len() + self.omitted > 1 {
            drawn.push(self.count());
        }
        drawn.join("\n\n") + "\n"
    }

    fn draw(&self, finding: &Finding, renderer: &Renderer) -> String {
        let message = printable(&finding.message);
        let path = printable(&finding.path);
        let hint = finding.hint.as_deref().map(printable);
        let title = match finding.span {
            None if !path.is_empty() => Level::ERROR.primary_title(format!("{path}: {message}")),
            _ => Level::ERROR.primary_title(message.as_ref()),
        };
        let mut group = annotate_snippets::Group::with_title(title);
        if let Some(span) = finding.span {
            let line = DrawnLine::of(&self.text, span);
            let annotation = AnnotationKind::Primary.span(line.marked);
            let annotation = if path.is_empty() {
                annotation
            } else {
                annotation.label(path.as_ref())
            };
            let snippet = Snippet::source(line.text)
                .line_start(span.line)
                .annotation(annotation);
            // A snippet counts its own columns, which are those of the file unless something was
            // cut or escaped.
            group = if line.is_exact {
                group.element(snippet.path(printable(&self.name)))
            } else {
                group
                    .element(
                        Origin::path(printable(&self.name))
                            .line(span.line)
                            .char_column(span.column),
                    )
                    .element(snippet)
            };
        }
        if let Some(hint) = &hint {
            group = group.element(Level::HELP.message(hint.as_ref()));
        }
        renderer.render(&[group])
    }

    fn count(&self) -> String {
        let name = printable(&self.name);
        match self.omitted {
            0 => format!("{} errors in {name}", self.findings.len()),
            omitted => format!(
                "{} errors in {name}, of which the first {} are shown",
                self.findings.len() + omitted,
                self.findings.len()
            ),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            if let Some(span) = finding.span {
                write!(
                    formatter,
                    "{}:{}:{}: ",
                    printable(&self.name),
                    span.line,
                    span.column
                )?;
            }
            if !finding.path.is_empty() {
                write!(formatter, "{}: ", printable(&finding.path))?;
            }
            write!(formatter, "{}", printable(&finding.message))?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(formatter, "\n{omitted} more"),
        }
    }
}

/// The line that a finding is about: safe to draw, cut where it is long.
struct DrawnLine {
    text: String,
    /// What is wrong, in bytes of `text`.
    marked: Range<usize>,
    /// Whether the text up to there is that of the file.
    is_exact: bool,
}

impl DrawnLine {
    fn of(source: &str, span: Span) -> DrawnLine {
        let start = floor(source, span.start);
        let line_start = source[..start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let line_end = source[start..]
            .find(['\n', '\r'])
            .map_or(source.len(), |at| start + at);
        let end = floor(source, span.end).clamp(start, line_end);
        let (before, marked, after) = (
            &source[line_start..start],
            &source[start..end],
            &source[end..line_end],
        );

        let skipped = before
            .char_indices()
            .rev()
            .nth(DRAWN_AROUND)
            .map_or(0, |(at, character)| at + character.len_utf8());
        let mut text = String::new();
        if skipped > 0 {
            text.push('…');
        }
        text.push_str(&drawable(&before[skipped..]));
        let marked_start = text.len();
        text.push_str(&drawable(&cut(marked)));
        let marked_end = text.len();
        text.push_str(&drawable(&cut(after)));
        DrawnLine {
            is_exact: text[..marked_start] == before.replace('\t', " "),
            text,
            marked: marked_start..marked_end,
        }
    }
}

fn floor(source: &str, at: usize) -> usize {
    (0..=at.min(source.len()))
        .rev()
        .find(|&at| source.is_char_boundary(at))
        .unwrap_or(0)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DRAWN_AROUND) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn drawable(text: &str) -> String {
    printable(&text.replace('\t', " ")).into_owned()
}

/// Returns text from the file as messages quote it.
pub(super) fn quoted(text: &str) -> String {
    if text.trim().is_empty() {
        "an empty text".to_owned()
    } else {
        format!("`{}`", excerpt(text, 60))
    }
}
