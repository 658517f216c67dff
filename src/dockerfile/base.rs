//! The base image of a Dockerfile.

use std::collections::HashMap;

use parse_dockerfile::{Instruction, parse_iter};

use super::arguments::{ArgumentScope, ArgumentValues};
use super::error::{DockerfileError, DockerfileProblem, MAX_FILE_BYTES, at};
use super::preprocess::{escape_character, preprocess};
use crate::model::ImageReference;

/// Base image of the last stage of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalStageBase {
    /// The image, or `scratch`.
    pub base: DockerfileBase,
    /// Line of the `FROM` that names the image, starting at 1. It is not the last `FROM` if the
    /// last stage is built on another stage.
    pub line: usize,
}

/// The base of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileBase {
    /// `FROM scratch`: no base image.
    Scratch,
    Image(ImageReference),
}

/// Returns the base image of the last stage of a Dockerfile, through all stages that it is built
/// on.
///
/// Arguments are expanded as BuildKit does in `FROM` (Dockerfile reference, "Understand how ARG and
/// FROM interact"): only arguments that are declared before the first `FROM` are available. The
/// value of `--build-arg` takes precedence over the default. An argument without either has the
/// value of the environment variable with its name, as with `docker build --build-arg NAME`.
pub fn final_stage_base(
    text: &str,
    values: ArgumentValues<'_>,
) -> Result<FinalStageBase, DockerfileError> {
    let whole = |problem| DockerfileError {
        line: None,
        problem,
    };
    if text.len() > MAX_FILE_BYTES {
        return Err(whole(DockerfileProblem::TooLarge));
    }
    let syntax = |error: parse_dockerfile::Error| match error.line() {
        // The only error of the parser without a line.
        0 => whole(DockerfileProblem::NoStage),
        line => at(line, DockerfileProblem::Syntax(format!("{error:#}"))),
    };
    // The parser does not count a byte order mark in offsets.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_at = |offset: usize| ends.partition_point(|end| *end < offset) + 1;
    let preprocessed = preprocess(text, escape_character(text))?;
    let mut arguments = ArgumentScope::new(values, escape_character(text));
    // Previous stages by lower-case name. A later stage replaces an earlier one with the same name.
    let mut stages: HashMap<String, FinalStageBase> = HashMap::new();
    let mut last = None;
    for instruction in parse_iter(&preprocessed).map_err(syntax)? {
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
                let base = find(&image, line, &stages).map_err(|problem| at(line, problem))?;
                if let Some((_, name)) = from.as_ {
                    stages.insert(name.value.to_ascii_lowercase(), base.clone());
                }
                last = Some(base);
            }
            _ => {}
        }
    }
    last.ok_or_else(|| whole(DockerfileProblem::NoStage))
}

/// Returns the base that `image` refers to: a previous stage, `scratch` or an image.
fn find(
    image: &str,
    line: usize,
    stages: &HashMap<String, FinalStageBase>,
) -> Result<FinalStageBase, DockerfileProblem> {
    if image.trim().is_empty() {
        return Err(DockerfileProblem::EmptyImage);
    }
    if let Some(base) = stages.get(&image.to_ascii_lowercase()) {
        return Ok(base.clone());
    }
    if image == "scratch" {
        return Ok(FinalStageBase {
            base: DockerfileBase::Scratch,
            line,
        });
    }
    Ok(FinalStageBase {
        base: DockerfileBase::Image(image.parse()?),
        line,
    })
}
