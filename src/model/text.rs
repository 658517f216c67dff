//! Text from outside, made safe to show.

use std::borrow::Cow;

/// Returns `text` with control characters and invisible direction marks escaped as `\u{..}`, so
/// that a name from a registry can neither move the cursor, recolour the terminal nor start a CI
/// log command on a line of its own.
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

/// Returns `text` as `printable` gives it, cut to `limit` characters with `…` where something was
/// left out.
pub fn excerpt(text: &str, limit: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(limit) {
        None => printable(text).into_owned(),
        Some((end, _)) => format!("{}…", printable(&text[..end])),
    }
}

/// Returns the one of `known` that `text` was most likely meant to be.
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

/// Returns whether a character does something where text is shown, instead of being seen.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Returns whether a variable of this name holds a secret by its name.
pub fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["TOKEN", "PASSWORD", "SECRET"]
        .iter()
        .any(|word| name.contains(word))
}

/// Replaces known secrets in text by `***`.
#[derive(Clone, Default)]
pub struct Masker {
    secrets: Vec<String>,
}

impl Masker {
    /// Returns a masker for `secrets`. Values shorter than four characters are not masked: they
    /// would hide ordinary text.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Masker {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.trim().len() >= 4)
            .collect();
        // The longest first, so that a secret that contains another is hidden whole.
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        secrets.dedup();
        Masker { secrets }
    }

    /// Returns `text` with each secret replaced.
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
    fn escape_sequences_and_line_breaks_do_not_reach_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[31mb\n::set-output"),
            r"a\u{1b}[31mb\u{a}::set-output"
        );
        assert_eq!(printable("3.21-größe"), "3.21-größe");
        assert_eq!(printable("a\u{202e}b"), r"a\u{202e}b");
    }

    #[test]
    fn an_excerpt_is_cut_at_a_character() {
        assert_eq!(excerpt("größe", 3), "grö…");
        assert_eq!(excerpt(" größe ", 5), "größe");
    }

    #[test]
    fn a_secret_inside_another_is_hidden_with_it() {
        let masker = Masker::new(["hunter".to_owned(), "hunter2".to_owned(), "ab".to_owned()]);
        assert_eq!(masker.mask("hunter2 hunter ab"), "*** *** ab");
    }
}
