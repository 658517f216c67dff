//! The report between markers in a file that also has other text.

use thiserror::Error;

/// Line before the report.
pub const BEGIN: &str = "<!-- imglife:begin -->";
/// Line after the report.
pub const END: &str = "<!-- imglife:end -->";

/// Reason why the report cannot be inserted into a file. Line numbers start at 1.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MarkerError {
    #[error("`{BEGIN}` in line {0} is not followed by `{END}`")]
    NotEnded(usize),
    #[error("`{END}` in line {0} has no `{BEGIN}` before it")]
    NotBegun(usize),
    #[error("`{BEGIN}` is in line {0} and again in line {1}")]
    Twice(usize, usize),
}

/// Returns `text` with the earlier report replaced by `block`, which includes the markers. Without
/// an earlier report, `block` is appended.
///
/// All other bytes stay the same. A marker counts only if it is alone on its line.
pub fn replaced(text: &str, block: &str) -> Result<String, MarkerError> {
    let mut found: Option<(usize, usize, Option<usize>)> = None;
    let mut offset = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match (line.trim(), found) {
            (BEGIN, None) => found = Some((number, offset, None)),
            (BEGIN, Some((first, _, _))) => return Err(MarkerError::Twice(first, number)),
            (END, Some((first, start, None))) => {
                found = Some((first, start, Some(offset + line.len())));
            }
            (END, _) => return Err(MarkerError::NotBegun(number)),
            _ => {}
        }
        offset += line.len();
    }
    match found {
        Some((_, start, Some(end))) => Ok(format!("{}{block}{}", &text[..start], &text[end..])),
        Some((line, _, None)) => Err(MarkerError::NotEnded(line)),
        None if text.trim().is_empty() => Ok(block.to_owned()),
        None => Ok(format!(
            "{}\n\n{block}",
            text.trim_end_matches(['\n', '\r'])
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\n";

    #[test]
    fn replaced_changes_only_the_text_between_the_markers() {
        let text = "# Ours\r\ntext `<!-- imglife:begin -->`\n  <!-- imglife:begin -->\r\nold\n<!-- imglife:end -->\n\n## More";
        let expected = format!("# Ours\r\ntext `<!-- imglife:begin -->`\n{BLOCK}\n## More");
        assert_eq!(replaced(text, BLOCK), Ok(expected.clone()));
        assert_eq!(replaced(&expected, BLOCK), Ok(expected));
    }

    #[test]
    fn replaced_appends_the_block_without_markers() {
        assert_eq!(replaced("", BLOCK).as_deref(), Ok(BLOCK));
        let appended = replaced("# Ours", BLOCK).expect("a position");
        assert_eq!(appended, format!("# Ours\n\n{BLOCK}"));
        assert_eq!(replaced(&appended, BLOCK), Ok(appended.clone()));
    }

    #[test]
    fn replaced_rejects_unpaired_markers() {
        let (begin, end) = (BEGIN, END);
        assert_eq!(
            replaced(&format!("a\n{begin}\nb"), BLOCK),
            Err(MarkerError::NotEnded(2))
        );
        assert_eq!(
            replaced(&format!("a\n{end}\n{begin}\n"), BLOCK),
            Err(MarkerError::NotBegun(2))
        );
        assert_eq!(
            replaced(&format!("{begin}\n{begin}\n{end}\n"), BLOCK),
            Err(MarkerError::Twice(1, 2))
        );
        assert_eq!(
            replaced(&format!("{begin}\n{end}\n{begin}\n{end}\n"), BLOCK),
            Err(MarkerError::Twice(1, 3))
        );
        assert_eq!(
            replaced(&format!("{begin}\n{end}\n{end}\n"), BLOCK),
            Err(MarkerError::NotBegun(3))
        );
    }

    #[test]
    fn fuzzing_pages_with_a_report() {
        let page = format!("# Ours\n\n{BLOCK}\nfoot\r\n");
        crate::model::fuzz_tests::fuzz("pages with a report", &[&page, BEGIN, END], |input| {
            let text = crate::model::fuzz_tests::text(input);
            if let Ok(once) = replaced(&text, BLOCK) {
                assert!(once.contains(BLOCK));
                assert_eq!(
                    replaced(&once, BLOCK),
                    Ok(once.clone()),
                    "replacing twice changes nothing"
                );
            }
        });
    }
}
