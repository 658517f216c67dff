//! The text of a configuration file.

/// A configuration file as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Name of the file, for messages.
    pub name: String,
    /// Content of the file.
    pub text: String,
}
