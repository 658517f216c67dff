//! Pre-release words in regular expressions.

use super::words::PRE_RELEASE_WORDS;

/// Returns true if a regular expression for tags spells a pre-release word, such as `rc` in
/// `3\.\d+(-rc\d+)?`, so that its author expects pre-releases.
pub fn spells_pre_release(pattern: &str) -> bool {
    literals(pattern)
        .split(|character: char| !character.is_ascii_alphabetic())
        .any(|word| {
            let word = word.to_ascii_lowercase();
            PRE_RELEASE_WORDS.iter().any(|(known, _, _)| *known == word)
        })
}

/// Returns the literal text of a regular expression, with a space for everything else.
fn literals(pattern: &str) -> String {
    let mut text = String::new();
    let mut characters = pattern.chars().peekable();
    let mut is_in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
                text.push(' ');
            }
            '[' => is_in_class = true,
            ']' => {
                is_in_class = false;
                text.push(' ');
            }
            // Flags and the names of groups: `(?i)`, `(?P<name>`.
            '(' if characters.peek() == Some(&'?') => {
                while characters
                    .next_if(|next| !matches!(next, ':' | ')' | '>'))
                    .is_some()
                {}
                text.push(' ');
            }
            _ if is_in_class => {}
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pre_release_words_are_found_in_literal_text_only() {
        for (pattern, spells) in [
            (r".*", false),
            (r"3\.\d+\.\d+", false),
            (r"3\.\d+\.\d+(-rc\d+)?", true),
            (r"v\d+\.\d+\.\d+-RC\.\d+", true),
            (r"\d+\.\d+b\d+", true),
            (r"\d+\.\d+[abc]\d+", false),
            (r"\d+-alpine", false),
            (r"(?i)\d+-alpha.*", true),
            (r"(?P<beta>\d+)-slim", false),
            (r"\bdev\b", true),
            (r"latest|edge", true),
            (r"search-\d+", false),
            (r"nightly-\d{8}", true),
        ] {
            assert_eq!(spells_pre_release(pattern), spells, "{pattern}");
        }
    }
}
