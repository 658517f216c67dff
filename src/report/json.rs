//! JSON reports: the serialised report of a step with a schema name and version.

use std::fmt::Write as _;

use serde::Serialize;

use crate::model::text::is_unsafe;

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: String,
    #[serde(flatten)]
    value: &'a T,
}

/// Returns `value` as indented JSON with the schema `imglife/<report_name>/v1` as its first key.
///
/// The text ends in a line break. Fails if `value` does not serialise as an object.
pub fn versioned<T: Serialize>(report_name: &str, value: &T) -> Result<String, serde_json::Error> {
    let versioned = Versioned {
        schema: format!("imglife/{report_name}/v1"),
        value,
    };
    Ok(escape_unsafe(&serde_json::to_string_pretty(&versioned)?) + "\n")
}

/// Returns equivalent JSON with control and direction characters escaped, so that it is safe to
/// print. Such characters only occur within strings.
pub(super) fn escape_unsafe(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || !is_unsafe(character) {
            shown.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _done = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Sample {
        tag: &'static str,
        children: Vec<u64>,
    }

    #[test]
    fn schema_is_the_first_key() {
        let json = versioned(
            "sync",
            &Sample {
                tag: "a\u{1b}\n\u{9b}\u{202e}ü",
                children: vec![u64::MAX],
            },
        )
        .expect("an object");
        insta::assert_snapshot!(json, @r#"
        {
          "schema": "imglife/sync/v1",
          "tag": "a\u001b\n\u009b\u202eü",
          "children": [
            18446744073709551615
          ]
        }
        "#);
    }

    #[test]
    fn versioned_rejects_a_value_that_is_no_object() {
        assert!(versioned("sync", &vec![1, 2]).is_err());
    }
}
