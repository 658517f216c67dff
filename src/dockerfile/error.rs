//! Errors in Dockerfiles.

use thiserror::Error;

use super::arguments::ExpandError;
use super::patterns::PatternError;
use crate::model::env;
use crate::model::reference::InvalidName;
use crate::model::text::excerpt;

/// Maximum size of a Dockerfile, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Error in a Dockerfile, with its line.
#[derive(Debug, Error)]
#[error("{}{}", .line.map(|line| format!("line {line}: ")).unwrap_or_default(), .problem)]
pub struct DockerfileError {
    /// Line, starting at 1; `None` if the error concerns the whole file.
    pub line: Option<usize>,
    /// Description of the error.
    pub problem: DockerfileProblem,
}

/// Kind of an error in a Dockerfile.
#[derive(Debug, Error)]
pub enum DockerfileProblem {
    #[error("the file is larger than {} KiB", MAX_FILE_BYTES / 1024)]
    TooLarge,
    #[error("{}", excerpt(.0, 200))]
    Syntax(String),
    #[error("the file has no FROM instruction")]
    NoStage,
    #[error(transparent)]
    Argument(#[from] ExpandError),
    #[error("the image in FROM is empty after expansion of its arguments")]
    EmptyImage,
    #[error("the value is empty after expansion of its variables")]
    EmptyValue,
    #[error("the file has too many instructions")]
    TooManyInstructions,
    #[error("`{}={}` is not valid", excerpt(.flag, 60), excerpt(.value, 60))]
    Flag { flag: String, value: String },
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Reference(#[from] InvalidName),
}

impl DockerfileError {
    /// Returns a suggestion for the user, or `None`.
    pub fn hint(&self) -> Option<String> {
        match &self.problem {
            DockerfileProblem::Argument(ExpandError::Undeclared(name)) => Some(format!(
                "declare it with `ARG {name}` before the first FROM; FROM accepts no other variables"
            )),
            DockerfileProblem::NoStage => Some(
                "add a FROM instruction, for example `FROM {{ base }}` in the template of a base image"
                    .to_owned(),
            ),
            DockerfileProblem::Argument(ExpandError::NoValue(name)) => {
                Some(format!("set it with `--build-arg {name}=VALUE`"))
            }
            DockerfileProblem::Argument(ExpandError::NotListed(name)) => Some(format!(
                "set it with `--build-arg {name}=VALUE`, or add it to {} in the settings of the CI server",
                env::IMGLIFE_VARIABLES
            )),
            _ => None,
        }
    }
}

/// Returns the error for a problem in `line`.
pub(super) fn at(line: usize, problem: impl Into<DockerfileProblem>) -> DockerfileError {
    DockerfileError {
        line: Some(line),
        problem: problem.into(),
    }
}
