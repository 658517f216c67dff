//! Dockerfiles: which image the last stage stands on, what its instructions say, which files of its
//! folder they read.
//!
//! Owns the replacement of arguments and the way through stages that build on one another. Reads
//! text that it is given and runs nothing; the text is a stranger's, so what it may unfold to is
//! bounded.

use std::collections::{BTreeMap, HashMap};

use parse_dockerfile::{Instruction, parse_iter};
use thiserror::Error;

use crate::model::reference::InvalidName;
use crate::model::text::excerpt;
use crate::model::{ImageReference, Variables};

mod arguments;
pub mod context;
pub mod instructions;
mod parsable;
pub mod patterns;
mod refusal;
mod words;

pub use context::{Building, Listed, ListedKind, Selection, context_files};
pub(crate) use refusal::refused;
pub use refusal::{Refusal, other_base, refusal};

use arguments::{Arguments, ExpandError};
use patterns::PatternError;

/// The longest Dockerfile that is read, in bytes.
pub const LONGEST_FILE: usize = 1024 * 1024;

/// What the last stage of a Dockerfile is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foundation {
    pub base: Base,
    /// The line, from 1, of the `FROM` that names it: not the last one where stages build on one
    /// another.
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// `FROM scratch`: no image at all.
    Scratch,
    Image(ImageReference),
}

/// What stands for the arguments of a Dockerfile.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `--build-arg`; goes before the defaults of the file.
    pub given: &'a BTreeMap<String, String>,
    /// Where arguments without a default are looked up.
    pub environment: &'a Variables,
}

/// Why the base of a Dockerfile is not known.
#[derive(Debug, Error)]
#[error("{}{}", .line.map(|line| format!("line {line}: ")).unwrap_or_default(), .problem)]
pub struct DockerfileError {
    /// From 1; `None` for the file as a whole.
    pub line: Option<usize>,
    pub problem: Problem,
}

#[derive(Debug, Error)]
pub enum Problem {
    #[error("the file is longer than {} KiB", LONGEST_FILE / 1024)]
    TooLong,
    #[error("{}", excerpt(.0, 200))]
    Syntax(String),
    #[error("there is no FROM")]
    NoStage,
    #[error(transparent)]
    Argument(#[from] ExpandError),
    #[error("FROM names nothing once its arguments are replaced")]
    Blank,
    #[error("nothing is left once its variables are replaced")]
    Empty,
    #[error("the file has too many instructions")]
    TooMany,
    #[error("`{}={}` is not understood", excerpt(.flag, 60), excerpt(.value, 60))]
    Flag { flag: String, value: String },
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Reference(#[from] InvalidName),
}

impl DockerfileError {
    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match &self.problem {
            Problem::Argument(ExpandError::Undeclared(name)) => Some(format!(
                "declare it with `ARG {name}` before the first FROM: builders replace no other variables there"
            )),
            Problem::NoStage => Some(
                "begin it with a FROM: `FROM {{ base }}` in the template of a base image"
                    .to_owned(),
            ),
            Problem::Argument(ExpandError::NoValue(name)) => {
                Some(format!("give it with `--build-arg {name}=VALUE`"))
            }
            _ => None,
        }
    }
}

/// Returns what the last stage of the Dockerfile `text` stands on.
///
/// Arguments are replaced as BuildKit does for `FROM` (Dockerfile reference, "Understand how ARG
/// and FROM interact"): only those declared before the first `FROM` count, with the value of
/// `--build-arg`, else their default; what has neither is taken from the environment variable of
/// that name, as `docker build --build-arg NAME` does.
pub fn foundation(text: &str, values: Values<'_>) -> Result<Foundation, DockerfileError> {
    let whole = |problem| DockerfileError {
        line: None,
        problem,
    };
    if text.len() > LONGEST_FILE {
        return Err(whole(Problem::TooLong));
    }
    let syntax = |error: parse_dockerfile::Error| match error.line() {
        // The one error that has no line.
        0 => whole(Problem::NoStage),
        line => at(line, Problem::Syntax(format!("{error:#}"))),
    };
    // The parser's places do not count a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_at = |offset: usize| ends.partition_point(|end| *end < offset) + 1;
    let parsable = parsable::parsable(text, escape_character(text))?;
    let mut arguments = Arguments::new(values, escape_character(text));
    // By name in lower case. The latest stage of a name is meant; those that follow are not known
    // yet.
    let mut stages: HashMap<String, Foundation> = HashMap::new();
    let mut last = None;
    for instruction in parse_iter(&parsable).map_err(syntax)? {
        match instruction.map_err(syntax)? {
            Instruction::Arg(argument) if last.is_none() => {
                let line = line_at(argument.arg.span.start);
                arguments
                    .declare(&argument.arguments.value)
                    .map_err(|error| at(line, error))?;
            }
            Instruction::From(from) => {
                let line = line_at(from.from.span.start);
                let image = arguments
                    .expand(&from.image.value)
                    .map_err(|error| at(line, error))?;
                let foundation =
                    find(&image, line, &stages).map_err(|problem| at(line, problem))?;
                if let Some((_, name)) = from.as_ {
                    stages.insert(name.value.to_ascii_lowercase(), foundation.clone());
                }
                last = Some(foundation);
            }
            _ => {}
        }
    }
    last.ok_or_else(|| whole(Problem::NoStage))
}

fn find(
    image: &str,
    line: usize,
    stages: &HashMap<String, Foundation>,
) -> Result<Foundation, Problem> {
    if image.trim().is_empty() {
        return Err(Problem::Blank);
    }
    if let Some(foundation) = stages.get(&image.to_ascii_lowercase()) {
        return Ok(foundation.clone());
    }
    if image == "scratch" {
        return Ok(Foundation {
            base: Base::Scratch,
            line,
        });
    }
    Ok(Foundation {
        base: Base::Image(image.parse()?),
        line,
    })
}

fn at(line: usize, problem: impl Into<Problem>) -> DockerfileError {
    DockerfileError {
        line: Some(line),
        problem: problem.into(),
    }
}

/// Returns the character that the directive `# escape=` chooses among the first comments, else a
/// backslash.
fn escape_character(text: &str) -> char {
    let directives = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .map_while(|line| {
            let (name, value) = line.strip_prefix('#')?.split_once('=')?;
            Some((name.trim(), value.trim()))
        });
    let mut chosen = directives
        .filter(|(name, _)| name.eq_ignore_ascii_case("escape"))
        .map(|(_, value)| value);
    if chosen.next() == Some("`") {
        '`'
    } else {
        '\\'
    }
}

#[cfg(test)]
mod tests;
