//! The text of a Dockerfile as the parser understands it: here-documents of `RUN` that are not its
//! first word, and entry points that are empty lists, are valid and unknown to it.

use super::{DockerfileError, Problem, at};

/// The letters of a logical line with their offsets: lines that an escape character joins are one.
type Letters = Vec<(usize, char)>;

/// Returns `text`, in which every offset means the same, without here-documents of `RUN`, and with
/// `__` for the empty list of an `ENTRYPOINT`.
///
/// Where here-documents begin and end is as in BuildKit's parser: words of `RUN`, `COPY` and
/// `ADD`, outside of quotes, that begin with `<<`, maybe behind the number of a file; their texts
/// end with a line that is their name.
pub(super) fn parsable(text: &str, escape: char) -> Result<String, DockerfileError> {
    let mut bytes = text.as_bytes().to_vec();
    let mut lines = text.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line))
    });
    let mut lines = lines.by_ref().enumerate();
    while let Some((number, (start, line))) = lines.next() {
        if says_nothing(line) {
            continue;
        }
        let mut letters = Letters::new();
        let mut is_open = take(&mut letters, start, line, escape);
        while is_open {
            let Some((_, (start, line))) = lines.next() else {
                break;
            };
            if !says_nothing(line) {
                is_open = take(&mut letters, start, line, escape);
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
                    Problem::Syntax(format!(
                        "the here-document `{}` does not end",
                        document.name
                    )),
                ));
            }
        }
    }
    // Whole letters were replaced by others.
    Ok(String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned()))
}

/// Returns whether `text` is a list of nothing, as JSON has it.
pub(super) fn is_empty_list(text: &str) -> bool {
    let inside = text
        .trim()
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inside.is_some_and(|inside| inside.trim().is_empty())
}

fn says_nothing(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Adds a line and returns whether the next one belongs to it.
fn take(letters: &mut Letters, start: usize, line: &str, escape: char) -> bool {
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

/// Returns the instruction, behind `ONBUILD`, in capitals.
fn keyword(letters: &Letters) -> String {
    let line: String = letters.iter().map(|(_, letter)| *letter).collect();
    let mut words = line.split_whitespace().map(str::to_ascii_uppercase);
    words.find(|word| word != "ONBUILD").unwrap_or_default()
}

fn hide_empty_list(text: &str, letters: &Letters, bytes: &mut [u8]) {
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

/// Returns the words of a line as a shell parts them; none when a quote stays open.
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

struct HereDocument {
    /// The offset of its `<<`.
    start: usize,
    strips_tabs: bool,
    name: String,
}

impl HereDocument {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        let found = parsable(text, '\\').unwrap_or_else(|error| panic!("{text}: {error}"));
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
    fn here_documents_of_run_are_blanked_wherever_they_begin() {
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
        let error = parsable("FROM a\n\nRUN cat <<EOF\nx\n", '\\')
            .expect_err("no end")
            .to_string();
        assert_eq!(error, "line 3: the here-document `EOF` does not end");
    }

    #[test]
    fn the_empty_list_of_an_entry_point_is_hidden() {
        assert_eq!(
            blanked("ENTRYPOINT []\nentrypoint [ ] \nENTRYPOINT [\"a\"]\nCMD []"),
            "ENTRYPOINT __|entrypoint _ _|ENTRYPOINT [\"a\"]|CMD []"
        );
    }
}
