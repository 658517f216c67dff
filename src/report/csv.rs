//! CSV tables for spreadsheets (RFC 4180).

use crate::model::text::printable;

/// Returns `rows` as CSV with every value quoted.
///
/// Values may be untrusted text. A value that a spreadsheet would read as a formula gets a leading
/// apostrophe (OWASP, "CSV Injection"), and line breaks are escaped.
pub fn draw(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |row: Vec<String>| {
        row.iter()
            .map(|value| quoted(value))
            .collect::<Vec<_>>()
            .join(",")
            + "\r\n"
    };
    rows.into_iter().map(line).collect()
}

fn quoted(value: &str) -> String {
    // Spreadsheets read the full-width forms as well.
    let is_formula = value
        .trim_start()
        .starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
        || value.starts_with(['\t', '\r', '\n']);
    format!(
        "\"{}{}\"",
        if is_formula { "'" } else { "" },
        printable(value).replace('"', "\"\"")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_formulas_defused() {
        let row = [
            "a,b",
            "say \"x\"",
            "=1+1",
            " @SUM(A1)",
            "-2",
            "+3",
            "\t=1",
            "\u{3000}＝1",
            "a\nb",
            "r.example/a:1",
            "",
        ];
        assert_eq!(
            draw([row.map(str::to_owned).to_vec()]),
            "\"a,b\",\"say \"\"x\"\"\",\"'=1+1\",\"' @SUM(A1)\",\"'-2\",\"'+3\",\"'\\u{9}=1\",\"'\u{3000}＝1\",\"a\\u{a}b\",\"r.example/a:1\",\"\"\r\n"
        );
    }
}
