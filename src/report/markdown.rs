//! Escaping of untrusted text for Markdown and Mermaid.
//!
//! GitLab and Gitea turn names, numbers and URLs in plain text into links and mentions, but not
//! those in code.

use std::fmt::Write as _;

use crate::model::text::printable;

/// Returns `text` as inline code. Safe in a table cell.
pub fn code(text: &str) -> String {
    let text = printable(text);
    let text = text.trim();
    let is_plain = |character: char| {
        character.is_ascii_graphic() && !"`|<>&".contains(character)
            || character.is_alphanumeric()
            || character == ' '
    };
    match text {
        "" => String::new(),
        text if text.chars().all(is_plain) => format!("`{text}`"),
        text => format!("<code>{}</code>", entities(text)),
    }
}

/// Returns `text` escaped for a sentence, a heading or a table cell.
pub fn words(text: &str) -> String {
    entities(printable(text).trim())
}

/// Replaces all characters that could have a meaning by numeric entities, which Markdown never
/// reads as markup (CommonMark 0.31, 2.5).
fn entities(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' | ',' | '/' => shown.push(character),
            other if other.is_alphanumeric() || !other.is_ascii() => shown.push(other),
            // Within a word these characters have no meaning.
            '.' | '-' if shown.ends_with(char::is_alphanumeric) && !shown.ends_with("www") => {
                shown.push(character);
            }
            other => {
                // Writing to a string does not fail.
                let _done = write!(shown, "&#{};", u32::from(other));
            }
        }
    }
    shown
}

/// Returns `text` escaped for a quoted label of a Mermaid flowchart, shortened in the middle to
/// `max_length` characters.
pub fn label(text: &str, max_length: usize) -> String {
    let mut shown = String::new();
    for character in shortened(&printable(text), max_length).chars() {
        match character {
            ' ' | '.' | '/' | ':' | '-' | '_' | '+' | '…' | '@' => shown.push(character),
            other if other.is_alphanumeric() => shown.push(other),
            other => {
                let _done = write!(shown, "#{};", u32::from(other));
            }
        }
    }
    shown
}

/// Returns `text` for the name of a section or task of a Mermaid Gantt chart, shortened in the
/// middle to `max_length` characters.
///
/// Gantt charts have no escapes, so characters with a meaning become `_`.
pub fn task(text: &str, max_length: usize) -> String {
    let plain = |character: char| match character {
        ' ' | '.' | '/' | '-' | '_' | '+' | '(' | ')' | '…' => character,
        other if other.is_alphanumeric() => other,
        _ => '_',
    };
    shortened(&printable(text), max_length)
        .chars()
        .map(plain)
        .collect()
}

fn shortened(text: &str, max_length: usize) -> String {
    let count = text.chars().count();
    if count <= max_length {
        return text.to_owned();
    }
    let head = max_length.saturating_sub(1) / 3;
    let tail = max_length.saturating_sub(1) - head;
    text.chars()
        .take(head)
        .chain(['…'])
        .chain(text.chars().skip(count - tail))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn code_and_words_write_special_characters_as_entities() {
        for (text, expected) in [
            (
                "r.example:5000/bases/alpine",
                "`r.example:5000/bases/alpine`",
            ),
            ("@all #1 !2", "`@all #1 !2`"),
            (r"3\.\d+[a-z]*", r"`3\.\d+[a-z]*`"),
            ("a|b`c\\", "<code>a&#124;b&#96;c&#92;</code>"),
            (
                "</code><script>",
                "<code>&#60;/code&#62;&#60;script&#62;</code>",
            ),
            (" ", ""),
            ("a\nb", r"`a\u{a}b`"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
        assert_eq!(
            words("Our *images* - 1.2 of www.x <b>"),
            "Our &#42;images&#42; &#45; 1.2 of www&#46;x &#60;b&#62;"
        );
    }

    #[test]
    fn label_and_task_shorten_in_the_middle() {
        assert_eq!(
            label("registry.example.com/group/alpine:3.21", 20),
            "regist…p/alpine:3.21"
        );
        assert_eq!(
            label("\"];click x#\n", 40),
            "#34;#93;#59;click x#35;#92;u#123;a#125;"
        );
        assert_eq!(task("a:b;c#d,e", 40), "a_b_c_d_e");
    }

    proptest! {
        #[test]
        fn untrusted_text_cannot_leave_its_context(text in "\\PC*|[`|<>&#;:\"\\\\\\[\\]{}%\n\r@!~$*_ a]*") {
            let cell = code(&text);
            let inner = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            let inner = inner.or_else(|| cell.strip_prefix("<code>").and_then(|rest| rest.strip_suffix("</code>"))).unwrap_or("");
            prop_assert!(cell.is_empty() || !inner.is_empty());
            prop_assert!(!inner.contains(['`', '|', '<', '>', '\n']), "{cell}");
            prop_assert!(cell.starts_with('`') || !inner.contains(['\\', '[', '*', '_', '@', '"']), "{cell}");
            let has_none = |text: String, characters: &[char]| !text.contains(characters);
            prop_assert!(has_none(words(&text), &['`', '|', '<', '>', '\n', '\\', '[', '*', '_', '@', '"']));
            prop_assert!(has_none(label(&text, 40), &['"', '`', '<', '>', '\n', '[', ']', '{', '|', '(', '%']), "{text}");
            prop_assert!(has_none(task(&text, 40), &[':', ';', '#', ',', '\n', '%', '"', '<']));
            prop_assert!(task(&text, 40).chars().count() <= 40);
        }
    }
}
