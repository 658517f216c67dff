//! Variables for later jobs, as GitLab reads them (`artifacts:reports:dotenv`): a name and a value
//! a line, nothing quoted.

use crate::model::text::printable;

/// The largest file that GitLab takes unless it is told otherwise, in bytes.
const LARGEST: usize = 5 * 1024;

/// Returns `variables` as a file. Values are taken as they are written, so what would break a line
/// is escaped; what is too long for the file is cut.
pub fn draw(variables: &[(&'static str, String)]) -> String {
    let longest = LARGEST / variables.len().max(1);
    variables
        .iter()
        .map(|(name, value)| {
            let value = printable(value);
            let room = longest.saturating_sub(name.len() + 2);
            let end = (0..=room.min(value.len()))
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
    fn a_value_stays_on_its_line_and_the_file_within_its_limit() {
        assert_eq!(
            draw(&[
                ("A", "x y".to_owned()),
                ("B", String::new()),
                ("C", "1\nD=2".to_owned())
            ]),
            "A=x y\nB=\nC=1\\u{a}D=2\n"
        );
        assert!(draw(&[("A", "ü".repeat(9000)), ("B", "x".repeat(9000))]).len() <= LARGEST);
    }
}
