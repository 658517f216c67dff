//! Escaping, shortening and masking of text for display.

use std::borrow::Cow;

/// Escapes control characters and invisible direction marks in `text` as `\u{..}`.
///
/// Use it for all untrusted text. A name from a registry can then neither move the cursor nor
/// recolour the terminal, and cannot start a CI log command on a line of its own.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unsafe(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Trims `text`, shortens it to `limit` characters and escapes it as [`printable`] does.
///
/// Ends in `…` if the text was shortened. The limit counts characters before escaping.
pub fn excerpt(text: &str, limit: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(limit) {
        None => printable(text).into_owned(),
        Some((end, _)) => format!("{}…", printable(&text[..end])),
    }
}

/// Returns the word of `known` that is closest to the misspelt `text`.
///
/// `None` if no word is within an edit distance of one plus a quarter of the length of `text`, or
/// if `text` is longer than 40 bytes. Upper case in `text` is ignored.
pub fn closest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 40 {
        return None;
    }
    let allowed = 1 + text.len() / 4;
    let near = known.into_iter().map(|word| {
        (
            strsim::damerau_levenshtein(&text.to_lowercase(), word),
            word,
        )
    });
    near.filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Returns true if `character` is a control character, a direction mark or another invisible
/// format character, which can change how the surrounding text is displayed.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            // Language tags and variation selectors, which can hide a whole text.
            | '\u{e0000}'..='\u{e0fff}')
}

/// Replaces known secrets in text with `***`.
#[derive(Clone, Default)]
pub struct Masker {
    /// The secrets, longest first.
    secrets: Vec<String>,
}

impl Masker {
    /// Returns a masker for `secrets`.
    ///
    /// Values shorter than four bytes are not masked, because they occur in ordinary text.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Masker {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.trim().len() >= 4)
            .collect();
        // Longest first, so that a secret that contains another one is masked as a whole.
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        secrets.dedup();
        Masker { secrets }
    }

    /// Returns `text` with every secret replaced with `***`.
    pub fn mask(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), "***")
            } else {
                text
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_escapes_control_sequences_and_line_breaks() {
        assert_eq!(
            printable("a\u{1b}[31mb\n::set-output"),
            r"a\u{1b}[31mb\u{a}::set-output"
        );
        assert_eq!(printable("3.21-größe"), "3.21-größe");
        assert_eq!(printable("a\u{202e}b"), r"a\u{202e}b");
        assert_eq!(
            printable("a\u{e0068}\u{e0069}\u{e0101}\u{ad}b"),
            r"a\u{e0068}\u{e0069}\u{e0101}\u{ad}b"
        );
        assert_eq!(printable("☀\u{fe0f} 東京"), "☀\u{fe0f} 東京");
    }

    #[test]
    fn excerpt_cuts_at_a_character_boundary() {
        assert_eq!(excerpt("größe", 3), "grö…");
        assert_eq!(excerpt(" größe ", 5), "größe");
    }

    #[test]
    fn masker_hides_a_secret_that_contains_another() {
        let masker = Masker::new(["hunter".to_owned(), "hunter2".to_owned(), "ab".to_owned()]);
        assert_eq!(masker.mask("hunter2 hunter ab"), "*** *** ab");
    }
}
