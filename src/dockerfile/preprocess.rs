//! Rewriting of valid Dockerfiles that the parser does not accept.
//!
//! The parser rejects here-documents of `RUN` that are not the first word, and entry points that
//! are empty lists.

use super::error::{DockerfileError, DockerfileProblem, at};

/// Characters of a logical line with their offsets. Lines that are joined by an escape character
/// are one logical line.
type LogicalLine = Vec<(usize, char)>;

/// Blanks the here-documents of `RUN` in `text`, and replaces the empty list of an `ENTRYPOINT`
/// with `__`. All offsets and line numbers stay the same.
///
/// Here-documents are recognised as in BuildKit's parser: an unquoted word of `RUN`, `COPY` or
/// `ADD` that starts with `<<`, optionally after a file descriptor. Their text ends with a line
/// that is equal to their name.
pub(super) fn preprocess(text: &str, escape: char) -> Result<String, DockerfileError> {
    let mut bytes = text.as_bytes().to_vec();
    let mut lines = text.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line))
    });
    let mut lines = lines.by_ref().enumerate();
    while let Some((number, (start, line))) = lines.next() {
        if is_blank_or_comment(line) {
            continue;
        }
        let mut letters = LogicalLine::new();
        let mut is_open = append(&mut letters, start, line, escape);
        while is_open {
            let Some((_, (start, line))) = lines.next() else {
                break;
            };
            if !is_blank_or_comment(line) {
                is_open = append(&mut letters, start, line, escape);
            }
        }
        let keyword = keyword(&letters);
        if keyword == "ENTRYPOINT" {
            hide_empty_list(text, &letters, &mut bytes);
        }
        if !matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            continue;
        }
        for document in words(&letters)
            .into_iter()
            .filter_map(HereDocument::of_word)
        {
            if keyword == "RUN" {
                bytes[document.start..document.start + 2].fill(b'_');
            }
            let mut is_ended = false;
            for (_, (start, line)) in lines.by_ref() {
                if keyword == "RUN" {
                    bytes[start..start + line.len()]
                        .iter_mut()
                        .filter(|byte| **byte != b'\n')
                        .for_each(|byte| *byte = b' ');
                }
                let line = line.trim_end_matches(['\r', '\n']);
                is_ended = if document.strips_tabs {
                    line.trim_start_matches('\t')
                } else {
                    line
                } == document.name;
                if is_ended {
                    break;
                }
            }
            if !is_ended {
                return Err(at(
                    number + 1,
                    DockerfileProblem::Syntax(format!(
                        "the here-document `{}` is not terminated",
                        document.name
                    )),
                ));
            }
        }
    }
    // Only complete characters were replaced, so the result is UTF-8.
    Ok(String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned()))
}

/// Returns true if `text` is an empty JSON list.
pub(super) fn is_empty_list(text: &str) -> bool {
    let inside = text
        .trim()
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inside.is_some_and(|inside| inside.trim().is_empty())
}

/// Returns true if a line is empty or a comment.
fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Appends a line. Returns true if the next line continues it.
fn append(letters: &mut LogicalLine, start: usize, line: &str, escape: char) -> bool {
    let line = line.trim_end_matches(['\r', '\n']);
    let joined = line
        .trim_end_matches([' ', '\t'])
        .strip_suffix(escape)
        .filter(|before| !before.ends_with(escape));
    letters.extend(
        joined
            .unwrap_or(line)
            .char_indices()
            .map(|(offset, letter)| (start + offset, letter)),
    );
    joined.is_some()
}

/// Returns the keyword of the instruction in upper case, without `ONBUILD`.
fn keyword(letters: &LogicalLine) -> String {
    let line: String = letters.iter().map(|(_, letter)| *letter).collect();
    let mut words = line.split_whitespace().map(str::to_ascii_uppercase);
    words.find(|word| word != "ONBUILD").unwrap_or_default()
}

/// Replaces the brackets of an empty list with `_`.
fn hide_empty_list(text: &str, letters: &LogicalLine, bytes: &mut [u8]) {
    let find = |wanted| {
        letters
            .iter()
            .find(|(_, letter)| *letter == wanted)
            .map(|(offset, _)| *offset)
    };
    let last = letters
        .iter()
        .rev()
        .find(|(_, letter)| !letter.is_whitespace());
    if let (Some(first), Some((last, ']'))) = (find('['), last)
        && text.get(first..=*last).is_some_and(is_empty_list)
    {
        (bytes[first], bytes[*last]) = (b'_', b'_');
    }
}

/// Splits a line into words as a shell does. Empty if a closing quote is missing.
fn words(letters: &[(usize, char)]) -> Vec<&[(usize, char)]> {
    let mut words = Vec::new();
    let (mut start, mut quote, mut position) = (None, None, 0);
    while let Some((_, letter)) = letters.get(position) {
        if quote.is_none() && letter.is_whitespace() {
            words.extend(start.take().map(|start: usize| &letters[start..position]));
        } else {
            start.get_or_insert(position);
            match (quote, *letter) {
                (Some(open), letter) if open == letter => quote = None,
                (None, '"' | '\'') => quote = Some(*letter),
                (None | Some('"'), '\\') => position += 1,
                _ => {}
            }
        }
        position += 1;
    }
    words.extend(start.map(|start| &letters[start..]));
    if quote.is_some() { Vec::new() } else { words }
}

/// The start of a here-document.
struct HereDocument {
    /// Offset of its `<<`.
    start: usize,
    strips_tabs: bool,
    name: String,
}

impl HereDocument {
    /// Returns the here-document that a word starts, or `None` if it starts none.
    fn of_word(word: &[(usize, char)]) -> Option<HereDocument> {
        let digits = word
            .iter()
            .take_while(|(_, letter)| letter.is_ascii_digit())
            .count();
        let [(start, '<'), (_, '<'), rest @ ..] = &word[digits..] else {
            return None;
        };
        let (strips_tabs, rest) = match rest {
            [(_, '-'), rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mut name = String::new();
        let mut quote = None;
        let mut letters = rest.iter().map(|(_, letter)| *letter);
        while let Some(letter) = letters.next() {
            match (quote, letter) {
                (_, '<') => return None,
                (Some(open), letter) if open == letter => quote = None,
                (None, '"' | '\'') => quote = Some(letter),
                (None | Some('"'), '\\') => name.extend(letters.next()),
                (_, letter) => name.push(letter),
            }
        }
        (!name.is_empty()).then_some(HereDocument {
            start: *start,
            strips_tabs,
            name,
        })
    }
}

/// Returns the escape character that the parser directive `# escape=` sets, or a backslash.
pub(super) fn escape_character(text: &str) -> char {
    let directives = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .map_while(|line| {
            let (name, value) = line.strip_prefix('#')?.split_once('=')?;
            Some((name.trim(), value.trim()))
        });
    let mut chosen = directives
        .filter(|(name, _)| name.eq_ignore_ascii_case("escape"))
        .map(|(_, value)| value);
    if chosen.next() == Some("`") {
        '`'
    } else {
        '\\'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        let found = preprocess(text, '\\').unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (found.len(), found.lines().count()),
            (text.len(), text.lines().count()),
            "{text}"
        );
        found
            .lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn preprocess_blanks_here_documents_of_run() {
        for (text, expected) in [
            (
                "RUN cat <<EOF > /a\nFROM é\nEOF\nUSER x",
                "RUN cat __EOF > /a|||USER x",
            ),
            ("RUN cat > /a <<EOF\nx\nEOF", "RUN cat > /a __EOF||"),
            (
                "run python3 <<-'E F'\n\tx\n\tE F\nUSER x",
                "run python3 __-'E F'|||USER x",
            ),
            (
                "RUN a && \\\n  # no\n  cat <<X \\\n  3<<\"Y\"\n1\nX\n2\nY\nUSER x",
                "RUN a && \\|  # no|  cat __X \\|  3__\"Y\"|||||USER x",
            ),
            ("ONBUILD RUN <<A\nx\nA", "ONBUILD RUN __A||"),
            (
                "RUN echo '<<A' \"<<B\" \\<<C $((1<<2)) <<<D a<<E << f",
                "RUN echo '<<A' \"<<B\" \\<<C $((1<<2)) <<<D a<<E << f",
            ),
            ("RUN echo don't <<A", "RUN echo don't <<A"),
            ("CMD cat <<A", "CMD cat <<A"),
            (
                "COPY <<A <<B /x/\nRUN <<C\nA\nB\nUSER x",
                "COPY <<A <<B /x/|RUN <<C|A|B|USER x",
            ),
        ] {
            assert_eq!(blanked(text), expected, "{text}");
        }
        let error = preprocess("FROM a\n\nRUN cat <<EOF\nx\n", '\\')
            .expect_err("no end")
            .to_string();
        assert_eq!(error, "line 3: the here-document `EOF` is not terminated");
    }

    #[test]
    fn preprocess_hides_an_empty_entry_point() {
        assert_eq!(
            blanked("ENTRYPOINT []\nentrypoint [ ] \nENTRYPOINT [\"a\"]\nCMD []"),
            "ENTRYPOINT __|entrypoint _ _|ENTRYPOINT [\"a\"]|CMD []"
        );
    }
}
