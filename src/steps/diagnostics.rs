//! Errors and warnings of the items of a run, rendered as the lines of a report.
//!
//! Items with the same error share one line; JSON reports carry the error of each item.

use std::collections::HashMap;

use crate::error::ItemError;

/// Maximum number of items named in a shared line.
const MAX_NAMED: usize = 5;

/// Severity, plural of the items, text and hint: items that have all of these in common share a
/// line.
type GroupKey = (&'static str, &'static str, String, Option<String>);

/// An error or a warning of one item.
pub(super) struct Diagnostic<'a> {
    /// `error` or `warning`.
    pub(super) severity: &'static str,
    /// Plural of the kind of item: `tags`.
    pub(super) plural: &'static str,
    /// Name of the item.
    pub(super) name: String,
    pub(super) error: &'a ItemError,
    /// Output of the program that failed; may be empty.
    pub(super) log: &'a str,
}

impl<'a> Diagnostic<'a> {
    /// Returns an error without output of a program.
    pub(super) fn error(
        plural: &'static str,
        name: impl Into<String>,
        error: &'a ItemError,
    ) -> Diagnostic<'a> {
        Diagnostic {
            severity: "error",
            plural,
            name: name.into(),
            error,
            log: "",
        }
    }

    /// Returns the key of the line that this diagnostic shares with others, or `None` if it has
    /// lines of its own because of its output.
    fn group_key(&self) -> Option<GroupKey> {
        self.log.is_empty().then(|| {
            (
                self.severity,
                self.plural,
                self.error.shared_line(),
                self.error.hint(),
            )
        })
    }
}

/// Returns the lines of all diagnostics, in the order in which each first occurs. Errors that are
/// the same for several items are one line with the names of the first [`MAX_NAMED`] below.
pub(super) fn lines<'a>(diagnostics: impl IntoIterator<Item = Diagnostic<'a>>) -> Vec<String> {
    let mut groups: Vec<Vec<Diagnostic<'a>>> = Vec::new();
    let mut positions: HashMap<GroupKey, usize> = HashMap::new();
    for diagnostic in diagnostics {
        let key = diagnostic.group_key();
        let position = key.as_ref().and_then(|key| positions.get(key).copied());
        if let Some(group) = position.and_then(|position| groups.get_mut(position)) {
            group.push(diagnostic);
        } else {
            positions.extend(key.map(|key| (key, groups.len())));
            groups.push(vec![diagnostic]);
        }
    }
    let mut lines = Vec::new();
    for group in &groups {
        let Some(first) = group.first() else { continue };
        if let [only] = group.as_slice() {
            lines.push(format!(
                "{}: {}: {}",
                only.severity,
                only.name,
                only.error.line()
            ));
            lines.extend(only.log.lines().map(|line| format!("  | {line}")));
        } else {
            lines.push(format!(
                "{}: {} {}: {}",
                first.severity,
                group.len(),
                first.plural,
                first.error.shared_line()
            ));
            let named = group.iter().take(MAX_NAMED);
            lines.extend(named.map(|diagnostic| format!("  {}", diagnostic.name)));
            if let Some(more @ 1..) = group.len().checked_sub(MAX_NAMED) {
                lines.push(format!("  and {more} more"));
            }
        }
        lines.extend(first.error.hint().map(|hint| format!("  hint: {hint}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorScope, ItemErrorKind, Side};

    #[test]
    fn diagnostics_with_the_same_error_share_a_line() {
        let down = |tag: &str| {
            ItemError::new(
                "r.example",
                format!("look up a:{tag}"),
                ItemErrorKind::Unreachable,
                "no answer",
            )
            .on(Side::Target)
            .with_request(format!("HEAD /v2/a/manifests/{tag}"))
            .with_scope(ErrorScope::Host)
            .with_hint("is it up?")
        };
        let (first, second, other) = (down("1"), down("2"), ItemError::other("no platform"));
        let of = |name: &str, error| Diagnostic::error("tags", name, error);
        assert_eq!(
            lines([of("a:1", &first), of("a:0", &other), of("a:2", &second)]),
            [
                "error: 2 tags: target: r.example: no answer",
                "  a:1",
                "  a:2",
                "  hint: is it up?",
                "error: a:0: no platform"
            ]
        );
        assert_eq!(
            lines([of("a:1", &first)]),
            [
                "error: a:1: target: r.example: cannot look up a:1: no answer (HEAD /v2/a/manifests/1)",
                "  hint: is it up?"
            ]
        );
        let many: Vec<String> = lines((0..12).map(|_| of("a", &other)));
        assert_eq!(
            (many.len(), many.last().map(String::as_str)),
            (7, Some("  and 7 more"))
        );
        let logged = || Diagnostic {
            log: "line",
            ..of("a:0", &other)
        };
        assert_eq!(
            lines([logged(), logged()]),
            [
                "error: a:0: no platform",
                "  | line",
                "error: a:0: no platform",
                "  | line"
            ]
        );
    }
}
