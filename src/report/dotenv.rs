//! Variables for later jobs in the format of GitLab's `artifacts:reports:dotenv`: one `NAME=value`
//! per line, without quotes.

use crate::model::text::printable;

/// Maximum size of a file that GitLab accepts by default, in bytes.
const MAX_FILE_SIZE: usize = 5 * 1024;

/// Returns `variables` as the content of a dotenv file.
///
/// GitLab does not unescape values, so only characters that would break a line are escaped. Values
/// that are too long for the file are cut.
pub fn draw(variables: &[(&'static str, String)]) -> String {
    let max_line = MAX_FILE_SIZE / variables.len().max(1);
    variables
        .iter()
        .map(|(name, value)| {
            let value = printable(value);
            let max_value = max_line.saturating_sub(name.len() + 2);
            let end = (0..=max_value.min(value.len()))
                .rev()
                .find(|end| value.is_char_boundary(*end))
                .unwrap_or(0);
            format!("{name}={}\n", &value[..end])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_on_their_line_and_within_the_size_limit() {
        assert_eq!(
            draw(&[
                ("A", "x y".to_owned()),
                ("B", String::new()),
                ("C", "1\nD=2".to_owned())
            ]),
            "A=x y\nB=\nC=1\\u{a}D=2\n"
        );
        assert!(draw(&[("A", "ü".repeat(9000)), ("B", "x".repeat(9000))]).len() <= MAX_FILE_SIZE);
    }
}
