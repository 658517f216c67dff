//! Reports for machines: the step's own serialised value, under a name and version that readers can
//! rely on.

use std::fmt::Write as _;

use serde::Serialize;

use crate::model::text::is_unsafe;

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: String,
    #[serde(flatten)]
    value: &'a T,
}

/// Returns `value` as indented JSON that ends in a line break, with `"schema":
/// "imglife/<report_name>/v1"` as its first key. Fails when `value` is not serialised as an object.
pub fn versioned<T: Serialize>(report_name: &str, value: &T) -> Result<String, serde_json::Error> {
    let versioned = Versioned {
        schema: format!("imglife/{report_name}/v1"),
        value,
    };
    Ok(visible(&serde_json::to_string_pretty(&versioned)?) + "\n")
}

/// Returns JSON that means the same, with characters escaped that would do something in a terminal.
/// They are in strings only.
pub(super) fn visible(json: &str) -> String {
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
    fn the_schema_is_the_first_key() {
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
    fn a_value_that_is_no_object_is_refused() {
        assert!(versioned("sync", &vec![1, 2]).is_err());
    }
}
