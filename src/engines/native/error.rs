//! Errors of the native engine.

use std::error::Error;

use crate::engines::engine::{EngineError, EngineName};
use crate::error::ItemError;

/// Returns an error of the native engine.
pub(super) fn error(problem: impl Into<String>) -> EngineError {
    EngineError::new(EngineName::Native, problem)
}

/// Returns the error for a failed request to the image store.
pub(super) fn store_error(error: ItemError) -> EngineError {
    let hint = error.hint();
    with_source(error, hint)
}

/// Returns an error with the message of `source` and of its direct cause.
pub(super) fn with_source(
    source: impl Error + Send + Sync + 'static,
    hint: Option<String>,
) -> EngineError {
    let error = match source.source() {
        Some(cause) => error(format!("{source}: {cause}")),
        None => error(source.to_string()),
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
