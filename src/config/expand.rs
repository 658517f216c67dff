//! References to environment variables in the values of the configuration.
//!
//! The syntax is `$NAME`, `${NAME}`, `${NAME:-default}`, and `$$` for a dollar sign. Inserted
//! values are not expanded again.

use thiserror::Error;

use crate::model::env;
use crate::model::text::excerpt;
use crate::model::{ExpansionRefusal, Variables};

/// Maximum length of an expanded value, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Error for a value that cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum ReferenceError {
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    #[error("the environment variable `{0}` is named like a secret")]
    Secret(String),
    #[error("the value of the environment variable `{0}` is a secret")]
    SecretValue(String),
    #[error("the environment variable `{0}` is not expanded in an untrusted job")]
    NotListed(String),
    #[error("`${{` without a closing `}}`")]
    Unterminated,
    #[error("`${{{}}}` is not a valid reference to an environment variable", excerpt(.0, 40))]
    NoName(String),
    #[error("the default of `{0}` contains another reference")]
    Nested(String),
    #[error("the value is longer than {} KiB after expansion", MAX_VALUE_BYTES / 1024)]
    TooLong,
}

impl ReferenceError {
    /// Returns a suggestion for the user.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            ReferenceError::Unset(name) => Some(format!(
                "set it, add a default with `${{{name}:-default}}`, or write `$$` for a dollar sign"
            )),
            ReferenceError::Secret(_) | ReferenceError::SecretValue(_) => Some(
                "remove the reference: imglife reads credentials from the environment itself"
                    .to_owned(),
            ),
            ReferenceError::NotListed(name) => Some(format!(
                "if it holds no secret, add `{name}` to {} in the settings of the CI server",
                env::IMGLIFE_VARIABLES
            )),
            ReferenceError::Unterminated | ReferenceError::NoName(_) => {
                Some("write `${NAME}` or `${NAME:-default}`, or `$$` for a dollar sign".to_owned())
            }
            ReferenceError::Nested(_) => Some(
                "write a plain default, or set the variable in the environment of imglife"
                    .to_owned(),
            ),
            ReferenceError::TooLong => None,
        }
    }
}

/// Returns `text` with all references replaced by the values of `variables`.
pub(super) fn expand(text: &str, variables: &Variables) -> Result<String, ReferenceError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let name = name_length(after);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let end = inside.find('}').ok_or(ReferenceError::Unterminated)?;
            expanded.push_str(braced(&inside[..end], variables)?);
            rest = &inside[end + 1..];
        } else if name > 0 {
            expanded.push_str(
                value(&after[..name], variables)?
                    .ok_or_else(|| ReferenceError::Unset(after[..name].to_owned()))?,
            );
            rest = &after[name..];
        } else {
            expanded.push('$');
            rest = after;
        }
        if expanded.len() > MAX_VALUE_BYTES {
            return Err(ReferenceError::TooLong);
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Returns the value of a reference in braces.
fn braced<'a>(inside: &'a str, variables: &'a Variables) -> Result<&'a str, ReferenceError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if name.is_empty() || name_length(name) < name.len() {
        return Err(ReferenceError::NoName(inside.to_owned()));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(ReferenceError::Nested(name.to_owned()));
    }
    // As in a shell, `:-` also applies to a variable that is set to the empty string.
    match (value(name, variables)?, default) {
        (Some(""), Some(default)) | (None, Some(default)) => Ok(default),
        (Some(value), _) => Ok(value),
        (None, None) => Err(ReferenceError::Unset(name.to_owned())),
    }
}

/// Returns the value of a variable. Fails if the variable may not be expanded.
fn value<'a>(name: &str, variables: &'a Variables) -> Result<Option<&'a str>, ReferenceError> {
    variables.expandable(name).map_err(|refusal| match refusal {
        ExpansionRefusal::SecretName => ReferenceError::Secret(name.to_owned()),
        ExpansionRefusal::SecretValue => ReferenceError::SecretValue(name.to_owned()),
        ExpansionRefusal::NotListed => ReferenceError::NotListed(name.to_owned()),
    })
}

/// Returns the length of the variable name at the start of `text`, in bytes.
///
/// A name consists of letters, digits and `_` and does not start with a digit.
fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

/// Returns true if `text` is a valid name of an environment variable.
pub(super) fn is_variable_name(text: &str) -> bool {
    !text.is_empty() && name_length(text) == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, ReferenceError> {
        let variables: Variables = [
            ("HOST", "registry:5000"),
            ("EMPTY", ""),
            ("DOLLARS", "$HOST ${HOST} $$"),
            ("_x1", "under"),
            ("GITLAB_TOKEN", "hunter2"),
        ]
        .into_iter()
        .collect();
        expand(text, &variables)
    }

    fn is(text: &str, expected: &str) {
        assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn expand_inserts_values() {
        is("$HOST/mirrors", "registry:5000/mirrors");
        is("${HOST}x$HOST", "registry:5000xregistry:5000");
        is("$_x1-${_x1}", "under-under");
        is("$EMPTY", "");
    }

    #[test]
    fn expand_uses_the_default_for_unset_and_empty_variables() {
        is("${NONE:-eu}", "eu");
        is("${EMPTY:-eu}", "eu");
        is("${HOST:-eu}", "registry:5000");
        is("${NONE:-}", "");
        is("${NONE:-a:-b $1}", "a:-b $1");
    }

    #[test]
    fn expand_keeps_dollars_that_are_no_reference() {
        is("$$HOST", "$HOST");
        is("$$$HOST", "$registry:5000");
        is("5 $ or $1 or $", "5 $ or $1 or $");
        is("größe$ü", "größe$ü");
    }

    #[test]
    fn expand_does_not_expand_inserted_values() {
        is("$DOLLARS", "$HOST ${HOST} $$");
        is("${NONE:-$HOST}", "$HOST");
    }

    #[test]
    fn expand_rejects_invalid_references() {
        assert_eq!(
            expanded("a $NONE"),
            Err(ReferenceError::Unset("NONE".to_owned()))
        );
        assert_eq!(
            expanded("${NONE}"),
            Err(ReferenceError::Unset("NONE".to_owned()))
        );
        assert_eq!(expanded("${HOST"), Err(ReferenceError::Unterminated));
        assert_eq!(expanded("${}"), Err(ReferenceError::NoName(String::new())));
        assert_eq!(
            expanded("${1HOST}"),
            Err(ReferenceError::NoName("1HOST".to_owned()))
        );
        assert_eq!(
            expanded("${HOST-x}"),
            Err(ReferenceError::NoName("HOST-x".to_owned()))
        );
        assert_eq!(
            expanded("${NONE:-${HOST}}"),
            Err(ReferenceError::Nested("NONE".to_owned()))
        );
    }

    #[test]
    fn expand_rejects_variables_named_like_secrets() {
        for text in [
            "$GITLAB_TOKEN",
            "${GITLAB_TOKEN}",
            "${MY_PASSWORD:-x}",
            "$client_secret_1",
        ] {
            assert!(
                matches!(expanded(text), Err(ReferenceError::Secret(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn expand_limits_the_length_of_the_result() {
        let variables: Variables = [("A", "x".repeat(10_000))].into_iter().collect();
        assert_eq!(
            expand(&"$A".repeat(100_000), &variables),
            Err(ReferenceError::TooLong)
        );
    }
}
