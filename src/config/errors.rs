//! Errors of a configuration, with their positions: as plain lines and as annotated snippets.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use thiserror::Error;

use crate::model::text::{excerpt, printable};

/// Maximum number of findings that are reported. Further findings are only counted.
pub(super) const MAX_FINDINGS: usize = 100;

/// Maximum number of characters of a line that are shown before, in and after the marked text.
const CONTEXT_WIDTH: usize = 60;

/// A range of text in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
    /// Line of the first byte, starting at 1.
    pub line: usize,
    /// Column of the first byte in characters, starting at 1.
    pub column: usize,
}

/// One error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFinding {
    /// Position in the file; `None` if the value comes from an environment variable.
    pub span: Option<Span>,
    /// Path of the key, such as `sync.entries[0].tag_regex`, or the name of the environment
    /// variable. Empty if the finding concerns the whole file.
    pub path: String,
    /// Description of the error.
    pub message: String,
    /// Suggestion for the user.
    pub hint: Option<String>,
}

/// All errors in a configuration, in the order of the file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Name of the file, for messages.
    pub name: String,
    /// Content of the file.
    pub text: String,
    /// The errors, at most `MAX_FINDINGS`.
    pub findings: Vec<ConfigFinding>,
    /// Number of further errors that are not in `findings`.
    pub omitted: usize,
}

impl ConfigErrors {
    pub(super) fn new(
        name: &str,
        text: &str,
        mut findings: Vec<ConfigFinding>,
        omitted: usize,
    ) -> ConfigErrors {
        let position = |finding: &ConfigFinding| {
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

    /// Returns the error of a file that is no configuration, without any of its text.
    pub(super) fn of_another_file(self) -> ConfigErrors {
        let finding = ConfigFinding {
            span: None,
            path: String::new(),
            message: format!("{} is not a configuration of imglife", self.name),
            hint: Some(
                "check `--config` and `IMGLIFE_CONFIG`; a configuration has keys such as `registry`, `sync` or `build`"
                    .to_owned(),
            ),
        };
        ConfigErrors {
            text: String::new(),
            findings: vec![finding],
            omitted: 0,
            ..self
        }
    }

    /// Returns the errors as annotated snippets of the file. If there are several, the last line is
    /// their number.
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

    fn draw(&self, finding: &ConfigFinding, renderer: &Renderer) -> String {
        let message = printable(&finding.message);
        let path = printable(&finding.path);
        let hint = finding.hint.as_deref().map(printable);
        let title = match finding.span {
            None if !path.is_empty() => Level::ERROR.primary_title(format!("{path}: {message}")),
            _ => Level::ERROR.primary_title(message.as_ref()),
        };
        let mut group = annotate_snippets::Group::with_title(title);
        if let Some(span) = finding.span {
            let line = SnippetLine::of(&self.text, span);
            let annotation = AnnotationKind::Primary.span(line.marked);
            let annotation = if path.is_empty() {
                annotation
            } else {
                annotation.label(path.as_ref())
            };
            let snippet = Snippet::source(line.text)
                .line_start(span.line)
                .annotation(annotation);
            // The renderer counts columns in the snippet. They differ from those of the file if the
            // line was shortened or escaped.
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
                "{} errors in {name}, the first {} of which are shown",
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
            omitted => write!(formatter, "\n{omitted} more errors"),
        }
    }
}

/// The line of a finding, escaped for display and shortened.
struct SnippetLine {
    text: String,
    /// Range of the marked text, in bytes of `text`.
    marked: Range<usize>,
    /// True if the text before the marked range is unchanged from the file.
    is_exact: bool,
}

impl SnippetLine {
    fn of(source: &str, span: Span) -> SnippetLine {
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
            .nth(CONTEXT_WIDTH)
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
        SnippetLine {
            is_exact: text[..marked_start] == before.replace('\t', " "),
            text,
            marked: marked_start..marked_end,
        }
    }
}

/// Returns the largest character boundary that is not after `at`.
fn floor(source: &str, at: usize) -> usize {
    (0..=at.min(source.len()))
        .rev()
        .find(|&at| source.is_char_boundary(at))
        .unwrap_or(0)
}

/// Returns `text`, shortened to `CONTEXT_WIDTH` characters.
fn cut(text: &str) -> String {
    match text.char_indices().nth(CONTEXT_WIDTH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Returns `text` escaped for display, with tabs replaced by spaces.
fn drawable(text: &str) -> String {
    printable(&text.replace('\t', " ")).into_owned()
}

/// Returns text from the file in the form in which messages quote it.
pub(super) fn quoted(text: &str) -> String {
    if text.trim().is_empty() {
        "an empty string".to_owned()
    } else {
        format!("`{}`", excerpt(text, 60))
    }
}
