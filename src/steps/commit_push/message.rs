//! Commit message and its trailers.

use thiserror::Error;

use crate::git::{CommitIdentity, ObjectId, TRAILER};

/// Maximum length of a message, in bytes.
const MAX_LENGTH: usize = 32 * 1024;

/// Marker that makes CI servers skip the pipeline.
const SKIP: &str = "[skip ci]";

/// Reason why a text is not a valid message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommitMessageError {
    #[error("the message is empty")]
    Empty,
    #[error("the message is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("the message contains control characters")]
    Control,
}

/// Validated commit message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMessage(String);

impl CommitMessage {
    /// Validates `text`. With `skip_ci`, `[skip ci]` is appended to the first line.
    pub fn new(text: &str, skip_ci: bool) -> Result<CommitMessage, CommitMessageError> {
        let text = text.replace("\r\n", "\n");
        let text = text.trim();
        if text.is_empty() {
            return Err(CommitMessageError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(CommitMessageError::TooLong);
        }
        if text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\t'))
        {
            return Err(CommitMessageError::Control);
        }
        let (subject, rest) = text
            .split_once('\n')
            .map_or((text, None), |(subject, rest)| (subject, Some(rest)));
        let skip = if skip_ci && !text.contains(SKIP) {
            format!(" {SKIP}")
        } else {
            String::new()
        };
        let rest = rest.map_or_else(String::new, |rest| format!("\n{rest}"));
        Ok(CommitMessage(format!("{}{skip}{rest}", subject.trim_end())))
    }

    /// Returns the first line without `[skip ci]`.
    pub fn title(&self) -> String {
        self.0
            .lines()
            .next()
            .unwrap_or_default()
            .replace(SKIP, "")
            .trim()
            .to_owned()
    }

    /// Returns the message with its trailers: `Signed-off-by`, and the commit of the checkout.
    pub fn with_trailers(
        &self,
        signed_off_by: Option<&CommitIdentity>,
        base: Option<&ObjectId>,
    ) -> String {
        let is_trailer = |line: &str| {
            line.split_once(": ").is_some_and(|(key, value)| {
                !value.trim().is_empty()
                    && !key.is_empty()
                    && key
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        };
        let last = self.0.rsplit_once("\n\n").map(|(_, last)| last);
        let has_trailers = last.is_some_and(|last| last.lines().all(is_trailer));
        let mut text = format!("{}{}", self.0, if has_trailers { "\n" } else { "\n\n" });
        if let Some(identity) = signed_off_by {
            let line = format!("Signed-off-by: {identity}\n");
            if !has_trailers || !self.0.lines().any(|known| known == line.trim_end()) {
                text.push_str(&line);
            }
        }
        text.push_str(&format!(
            "{TRAILER}: {}\n",
            base.map_or("none", ObjectId::as_str)
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, skip_ci: bool) -> String {
        CommitMessage::new(text, skip_ci)
            .expect("a message")
            .with_trailers(CommitIdentity::parse("A B <a@b>").as_ref(), None)
    }

    #[test]
    fn trailers_form_one_block() {
        assert_eq!(
            message(" fix: it \n", false),
            "fix: it\n\nSigned-off-by: A B <a@b>\nImglife-Checkout: none\n"
        );
        assert_eq!(
            message("fix: it\n\nRefs: #1", false),
            "fix: it\n\nRefs: #1\nSigned-off-by: A B <a@b>\nImglife-Checkout: none\n"
        );
        assert_eq!(
            message("fix: it\r\n\r\nwords here", false),
            "fix: it\n\nwords here\n\nSigned-off-by: A B <a@b>\nImglife-Checkout: none\n"
        );
        assert_eq!(
            message("x\n\nSigned-off-by: A B <a@b>", false),
            "x\n\nSigned-off-by: A B <a@b>\nImglife-Checkout: none\n"
        );
    }

    #[test]
    fn skip_ci_is_added_once_to_the_first_line() {
        assert!(message("a", true).starts_with("a [skip ci]\n"));
        assert!(message("a\n\nb", true).starts_with("a [skip ci]\n\nb\n"));
        assert!(message("a [skip ci]", true).starts_with("a [skip ci]\n\n"));
        assert_eq!(
            CommitMessage::new("a\nb", true).expect("a message").title(),
            "a"
        );
    }

    #[test]
    fn message_rejects_empty_long_and_control_text() {
        assert_eq!(
            CommitMessage::new(" \n", false),
            Err(CommitMessageError::Empty)
        );
        assert_eq!(
            CommitMessage::new("a\0b", false),
            Err(CommitMessageError::Control)
        );
        assert_eq!(
            CommitMessage::new("a\u{1b}[31m", false),
            Err(CommitMessageError::Control)
        );
        assert_eq!(
            CommitMessage::new(&"x".repeat(MAX_LENGTH + 1), false),
            Err(CommitMessageError::TooLong)
        );
    }
}
