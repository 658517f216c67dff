//! Annotations: log lines that GitHub Actions shows at a line of a file ("workflow commands").

use crate::model::text::printable;

/// Severity of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationLevel {
    Notice,
    Warning,
    Error,
}

/// Message about a line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    pub level: AnnotationLevel,
    pub path: String,
    /// Line number, from 1.
    pub line: usize,
    pub title: String,
    pub message: String,
}

impl Annotation {
    /// Returns the workflow command, with a line break at its end. Untrusted text in it is escaped,
    /// so that it cannot end the command or add a property.
    pub fn command(&self) -> String {
        let level = match self.level {
            AnnotationLevel::Notice => "notice",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Error => "error",
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
    fn annotation_text_is_escaped() {
        let annotation = Annotation {
            level: AnnotationLevel::Warning,
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
