//! What went wrong with the items of a run, in lines for people. What is the same of several is
//! said once; programs are told each.

use std::collections::HashMap;

use super::Trouble;
use crate::error::Side;

/// How many of those that share a problem are named.
const NAMED: usize = 5;

/// Severity, what the items are called, side, words, hint.
type Kind<'a> = (
    &'static str,
    &'static str,
    Option<Side>,
    &'a str,
    Option<&'a str>,
);

/// What went wrong with one item.
pub(super) struct Problem<'a> {
    /// `error` or `warning`.
    pub(super) severity: &'static str,
    /// What several of the items are called: `tags`.
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) trouble: &'a Trouble,
    /// What a program said meanwhile; may be empty.
    pub(super) log: &'a str,
}

impl<'a> Problem<'a> {
    pub(super) fn error(
        what: &'static str,
        name: impl Into<String>,
        trouble: &'a Trouble,
    ) -> Problem<'a> {
        Problem {
            severity: "error",
            what,
            name: name.into(),
            trouble,
            log: "",
        }
    }

    /// Returns the words that several items can have in common.
    fn common(&self) -> &str {
        self.trouble.shared.as_ref().unwrap_or(&self.trouble.cause)
    }

    /// Returns what it has in common with others; `None` when it is told alone.
    fn kind(&self) -> Option<Kind<'a>> {
        let trouble = self.trouble;
        let common = trouble.shared.as_ref().unwrap_or(&trouble.cause);
        self.log.is_empty().then_some((
            self.severity,
            self.what,
            trouble.side,
            common,
            trouble.hint.as_deref(),
        ))
    }

    /// Returns `text` behind its side, unless it begins with that, as what comes from a copy does.
    fn sided(&self, text: &str) -> String {
        match self.trouble.side.map(|side| side.to_string()) {
            Some(side) if !text.starts_with(&side) => format!("{side}: {text}"),
            _ => text.to_owned(),
        }
    }
}

/// Returns the lines of all problems, each where it was first met.
pub(super) fn lines<'a>(problems: impl IntoIterator<Item = Problem<'a>>) -> Vec<String> {
    let mut groups: Vec<Vec<Problem<'a>>> = Vec::new();
    let mut met: HashMap<Kind<'a>, usize> = HashMap::new();
    for problem in problems {
        let kind = problem.kind();
        if let Some(group) = kind.and_then(|kind| groups.get_mut(*met.get(&kind)?)) {
            group.push(problem);
        } else {
            met.extend(kind.map(|kind| (kind, groups.len())));
            groups.push(vec![problem]);
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
                only.sided(&only.trouble.cause)
            ));
            lines.extend(only.log.lines().map(|line| format!("  | {line}")));
        } else {
            lines.push(format!(
                "{}: {} {}: {}",
                first.severity,
                group.len(),
                first.what,
                first.sided(first.common())
            ));
            lines.extend(
                group
                    .iter()
                    .take(NAMED)
                    .map(|problem| format!("  {}", problem.name)),
            );
            if let Some(more @ 1..) = group.len().checked_sub(NAMED) {
                lines.push(format!("  and {more} more"));
            }
        }
        lines.extend(
            first
                .trouble
                .hint
                .iter()
                .map(|hint| format!("  hint: {hint}")),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_of_several_is_said_once() {
        let down = |tag: &str| Trouble {
            side: Some(Side::Target),
            cause: format!("r.example: cannot look up a:{tag}: no answer"),
            hint: Some("is it up?".to_owned()),
            shared: Some("r.example: no answer".to_owned()),
        };
        let (first, second, other) = (down("1"), down("2"), Trouble::new("no platform"));
        let of = |name: &str, trouble| Problem::error("tags", name, trouble);
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
                "error: a:1: target: r.example: cannot look up a:1: no answer",
                "  hint: is it up?"
            ]
        );
        let many: Vec<String> = lines((0..12).map(|_| of("a", &other)));
        assert_eq!(
            (many.len(), many.last().map(String::as_str)),
            (7, Some("  and 7 more"))
        );
        let logged = || Problem {
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
