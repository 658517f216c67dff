//! References to environment variables in the texts of the configuration.
//!
//! `$NAME`, `${NAME}`, `${NAME:-default}` and `$$`. What was inserted is not looked at again.

use thiserror::Error;

use crate::model::Variables;
use crate::model::text::{excerpt, names_a_secret};

/// The longest text that one expansion may give, in bytes.
const LONGEST: usize = 64 * 1024;

/// Why a text cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum ExpandError {
    #[error("the variable `{0}` is not set")]
    Unset(String),
    #[error("refers to `{0}`, which is named like a secret")]
    Secret(String),
    #[error("`${{` without `}}`")]
    Unterminated,
    #[error("`${{{}}}` is no reference to a variable", excerpt(.0, 40))]
    NoName(String),
    #[error("the default of `{0}` refers to another variable")]
    Nested(String),
    #[error("longer than {} KiB with its variables", LONGEST / 1024)]
    TooLong,
}

impl ExpandError {
    /// Returns what to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            ExpandError::Unset(name) => Some(format!("set it, give a default with `${{{name}:-default}}`, or write `$$` for a dollar")),
            ExpandError::Secret(_) => {
                Some("secrets are not configured here: imglife looks for credentials in the environment by itself".to_owned())
            }
            ExpandError::Unterminated | ExpandError::NoName(_) => {
                Some("write `${NAME}` or `${NAME:-default}`, or `$$` for a dollar".to_owned())
            }
            ExpandError::Nested(_) => Some("a default is taken as it is; set the variable where imglife is started".to_owned()),
            ExpandError::TooLong => None,
        }
    }
}

/// Returns `text` with the values of `variables` inserted.
pub(super) fn expand(text: &str, variables: &Variables) -> Result<String, ExpandError> {
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
            let end = inside.find('}').ok_or(ExpandError::Unterminated)?;
            expanded.push_str(braced(&inside[..end], variables)?);
            rest = &inside[end + 1..];
        } else if name > 0 {
            expanded.push_str(
                value(&after[..name], variables)?
                    .ok_or_else(|| ExpandError::Unset(after[..name].to_owned()))?,
            );
            rest = &after[name..];
        } else {
            expanded.push('$');
            rest = after;
        }
        if expanded.len() > LONGEST {
            return Err(ExpandError::TooLong);
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn braced<'a>(inside: &'a str, variables: &'a Variables) -> Result<&'a str, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if name.is_empty() || name_length(name) < name.len() {
        return Err(ExpandError::NoName(inside.to_owned()));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(ExpandError::Nested(name.to_owned()));
    }
    // As in a shell, `:-` also stands in for a variable that is set to nothing.
    match (value(name, variables)?, default) {
        (Some(""), Some(default)) | (None, Some(default)) => Ok(default),
        (Some(value), _) => Ok(value),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

fn value<'a>(name: &str, variables: &'a Variables) -> Result<Option<&'a str>, ExpandError> {
    if names_a_secret(name) {
        Err(ExpandError::Secret(name.to_owned()))
    } else {
        Ok(variables.get(name))
    }
}

/// Returns how many bytes at the start of `text` make a variable's name: letters, digits and `_`,
/// no digit first.
fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

/// Returns whether `text` is the name of a variable and nothing else.
pub(super) fn is_variable_name(text: &str) -> bool {
    !text.is_empty() && name_length(text) == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, ExpandError> {
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
    fn names_are_replaced_by_their_values() {
        is("$HOST/mirrors", "registry:5000/mirrors");
        is("${HOST}x$HOST", "registry:5000xregistry:5000");
        is("$_x1-${_x1}", "under-under");
        is("$EMPTY", "");
    }

    #[test]
    fn a_default_stands_in_for_unset_and_for_empty() {
        is("${NONE:-eu}", "eu");
        is("${EMPTY:-eu}", "eu");
        is("${HOST:-eu}", "registry:5000");
        is("${NONE:-}", "");
        is("${NONE:-a:-b $1}", "a:-b $1");
    }

    #[test]
    fn two_dollars_are_one_and_a_dollar_before_no_name_stays() {
        is("$$HOST", "$HOST");
        is("$$$HOST", "$registry:5000");
        is("5 $ or $1 or $", "5 $ or $1 or $");
        is("größe$ü", "größe$ü");
    }

    #[test]
    fn what_was_inserted_is_not_expanded_again() {
        is("$DOLLARS", "$HOST ${HOST} $$");
        is("${NONE:-$HOST}", "$HOST");
    }

    #[test]
    fn references_that_cannot_be_followed_are_errors() {
        assert_eq!(
            expanded("a $NONE"),
            Err(ExpandError::Unset("NONE".to_owned()))
        );
        assert_eq!(
            expanded("${NONE}"),
            Err(ExpandError::Unset("NONE".to_owned()))
        );
        assert_eq!(expanded("${HOST"), Err(ExpandError::Unterminated));
        assert_eq!(expanded("${}"), Err(ExpandError::NoName(String::new())));
        assert_eq!(
            expanded("${1HOST}"),
            Err(ExpandError::NoName("1HOST".to_owned()))
        );
        assert_eq!(
            expanded("${HOST-x}"),
            Err(ExpandError::NoName("HOST-x".to_owned()))
        );
        assert_eq!(
            expanded("${NONE:-${HOST}}"),
            Err(ExpandError::Nested("NONE".to_owned()))
        );
    }

    #[test]
    fn variables_named_like_secrets_are_refused_even_with_a_default() {
        for text in [
            "$GITLAB_TOKEN",
            "${GITLAB_TOKEN}",
            "${MY_PASSWORD:-x}",
            "$client_secret_1",
        ] {
            assert!(
                matches!(expanded(text), Err(ExpandError::Secret(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_variables_add_is_bounded() {
        let variables: Variables = [("A", "x".repeat(10_000))].into_iter().collect();
        assert_eq!(
            expand(&"$A".repeat(100_000), &variables),
            Err(ExpandError::TooLong)
        );
    }
}
