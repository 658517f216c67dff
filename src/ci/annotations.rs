//! Annotations: log lines that GitHub Actions shows at a line of a file (its "Workflow commands").

use crate::model::text::printable;

/// How an annotation is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Notice,
    Warning,
    Error,
}

/// Something to say about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    pub level: Level,
    pub path: String,
    /// From 1.
    pub line: usize,
    pub title: String,
    pub message: String,
}

impl Annotation {
    /// Returns the line that a job prints, ended by a line break. No text can end it early or add a
    /// property to it.
    pub fn command(&self) -> String {
        let level = match self.level {
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let (path, title) = (property(&self.path), property(&self.title));
        format!(
            "::{level} file={path},line={},title={title}::{}\n",
            self.line,
            data(&self.message)
        )
    }
}

fn data(text: &str) -> String {
    printable(
        &text
            .replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A"),
    )
    .into_owned()
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place_in_the_line() {
        let annotation = Annotation {
            level: Level::Warning,
            path: "a,line=9:x".to_owned(),
            line: 3,
            title: "Outdated base".to_owned(),
            message: "50% old\n::error::x".to_owned(),
        };
        assert_eq!(
            annotation.command(),
            "::warning file=a%2Cline=9%3Ax,line=3,title=Outdated base::50%25 old%0A::error::x\n"
        );
    }
}
