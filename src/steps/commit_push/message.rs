//! The message of a commit: what was said, and the trailers below it.

use thiserror::Error;

use crate::git::{Identity, ObjectId, TRAILER};

/// The longest message, in bytes.
const LONGEST: usize = 32 * 1024;

/// What servers skip pipelines for.
const SKIP: &str = "[skip ci]";

/// Why a text is no message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    #[error("the message is empty")]
    Empty,
    #[error("the message has more than {LONGEST} bytes")]
    TooLong,
    #[error("the message has control characters")]
    Control,
}

/// A message that was said, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// Returns the message that `text` is; with `skip_ci` its first line says that no pipeline is
    /// wanted.
    pub fn new(text: &str, skip_ci: bool) -> Result<Message, MessageError> {
        let text = text.replace("\r\n", "\n");
        let text = text.trim();
        if text.is_empty() {
            return Err(MessageError::Empty);
        }
        if text.len() > LONGEST {
            return Err(MessageError::TooLong);
        }
        if text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\t'))
        {
            return Err(MessageError::Control);
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
        Ok(Message(format!("{}{skip}{rest}", subject.trim_end())))
    }

    /// Returns the first line, without what it says to servers.
    pub fn title(&self) -> String {
        self.0
            .lines()
            .next()
            .unwrap_or_default()
            .replace(SKIP, "")
            .trim()
            .to_owned()
    }

    /// Returns the message with its trailers: who signs it off, and the commit of the checkout that
    /// it was made from.
    pub fn with_trailers(
        &self,
        signed_off_by: Option<&Identity>,
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
        Message::new(text, skip_ci)
            .expect("a message")
            .with_trailers(Identity::parse("A B <a@b>").as_ref(), None)
    }

    #[test]
    fn a_message_gets_its_trailers_in_one_block() {
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
    fn pipelines_are_skipped_by_the_first_line_once() {
        assert!(message("a", true).starts_with("a [skip ci]\n"));
        assert!(message("a\n\nb", true).starts_with("a [skip ci]\n\nb\n"));
        assert!(message("a [skip ci]", true).starts_with("a [skip ci]\n\n"));
        assert_eq!(Message::new("a\nb", true).expect("a message").title(), "a");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(Message::new(" \n", false), Err(MessageError::Empty));
        assert_eq!(Message::new("a\0b", false), Err(MessageError::Control));
        assert_eq!(
            Message::new("a\u{1b}[31m", false),
            Err(MessageError::Control)
        );
        assert_eq!(
            Message::new(&"x".repeat(LONGEST + 1), false),
            Err(MessageError::TooLong)
        );
    }
}
