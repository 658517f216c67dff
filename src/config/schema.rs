//! The JSON Schema of the file, generated from the key table.

use serde_json::{Map, Value, json};

use super::table::{KeySpec, ROOT, SECTIONS, SYNC, SectionSpec, Shape};

/// Returns the JSON Schema (draft 2020-12) of `imglife.yaml`, with a final newline.
pub fn schema() -> String {
    let mut definitions = Map::new();
    definitions.insert(
        "variable".to_owned(),
        json!({ "description": "A string with references to environment variables.", "type": "string", "pattern": "\\$" }),
    );
    for section in SECTIONS.iter().filter(|section| !section.name.is_empty()) {
        definitions.insert(definition(section), object(section));
    }
    definitions[&definition(&SYNC)]["properties"]["defaults"] = json!({
        "description": "Keys of `sync.entries[]` for every entry that does not set them.",
        "type": "object",
    });
    let mut root = Map::new();
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("title".to_owned(), json!("imglife.yaml"));
    if let Value::Object(object) = object(&ROOT) {
        root.extend(object);
    }
    root.insert("$defs".to_owned(), Value::Object(definitions));
    // Serialising a map with string keys cannot fail.
    serde_json::to_string_pretty(&root).unwrap_or_default() + "\n"
}

/// Returns the name of the section in `$defs`.
fn definition(section: &SectionSpec) -> String {
    let words = section
        .name
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn object(section: &SectionSpec) -> Value {
    let properties: Map<String, Value> = section
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<&str> = section
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut object =
        json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(key: &KeySpec) -> Value {
    let mut property = shape(&key.shape, key.expanded);
    property["description"] = json!(key.description);
    if let Some(default) = key.default {
        property["default"] = default_value(&key.shape, default);
    }
    property
}

fn shape(of: &Shape, expanded: bool) -> Value {
    // Editors read an unquoted `3.10` as a number; imglife reads it as a string.
    let text = || json!({ "type": ["string", "number"] });
    let string = || json!({ "type": "string" });
    let scalar = match of {
        Shape::Section(section) => return reference(section),
        Shape::OneOrMore(section) => {
            return json!({ "anyOf": [reference(section), { "type": "array", "items": reference(section) }] });
        }
        Shape::List(item) => return json!({ "type": "array", "items": shape(item, expanded) }),
        Shape::Map(value) => {
            return json!({ "type": "object", "additionalProperties": shape(value, expanded) });
        }
        Shape::Command => {
            return json!({ "type": ["string", "array"], "items": { "type": ["string", "number"] } });
        }
        Shape::Text
        | Shape::Tag
        | Shape::PinnedTag
        | Shape::NamePattern
        | Shape::TagExclusion
        | Shape::VersionRange
        | Shape::Extract => {
            return text();
        }
        Shape::AnyText => return json!({ "type": ["string", "number", "boolean", "null"] }),
        Shape::Image
        | Shape::RepositoryPattern
        | Shape::Path
        | Shape::Repository
        | Shape::BasePath
        | Shape::Host
        | Shape::Pattern => {
            return string();
        }
        Shape::VariableName => {
            return json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
        }
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Whole { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Shape::Rate => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Shape::Choice(words) => {
            json!({ "enum": words.iter().map(|word| literal(word)).collect::<Vec<_>>() })
        }
        Shape::Duration => {
            json!({ "type": ["string", "integer"], "pattern": "^(0|([0-9]+[smhdw])+)$", "maximum": 0 })
        }
        Shape::Date => json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }),
        Shape::Url => json!({ "type": "string", "pattern": "^https?://" }),
        Shape::Platform => json!({ "type": "string", "pattern": "^[^/]+/[^/]+(/[^/]+)?$" }),
    };
    if expanded {
        json!({ "anyOf": [scalar, { "$ref": "#/$defs/variable" }] })
    } else {
        scalar
    }
}

fn reference(section: &SectionSpec) -> Value {
    json!({ "$ref": format!("#/$defs/{}", definition(section)) })
}

/// Returns the value that YAML gives an unquoted word.
fn literal(word: &str) -> Value {
    match word {
        "true" => json!(true),
        "false" => json!(false),
        word => json!(word),
    }
}

fn default_value(shape: &Shape, text: &str) -> Value {
    match shape {
        Shape::Whole { .. } | Shape::Flag => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        Shape::Choice(_) => literal(text),
        Shape::Map(_) => json!({}),
        Shape::List(item) => {
            let items = text
                .trim_matches(['[', ']'])
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            items.map(|text| default_value(item, text)).collect()
        }
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_schema_matches_the_key_table() {
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/imglife.schema.json");
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(
            committed == schema(),
            "docs/imglife.schema.json is out of date; run `imglife config schema > docs/imglife.schema.json`"
        );
    }

    #[test]
    fn schema_defines_every_reference() {
        let text = schema();
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let references: Vec<&str> = text
            .split("\"#/$defs/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(references.len() > SECTIONS.len());
        for name in references {
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn schema_does_not_require_in_an_entry_what_defaults_can_have() {
        let schema: Value = serde_json::from_str(&schema()).expect("JSON");
        assert!(schema["$defs"]["sync-entries"].get("oneOf").is_none());
        assert!(schema["$defs"]["sync-entries"].get("required").is_none());
    }

    #[test]
    fn schema_allows_variables_in_numbers_and_flags_but_not_in_patterns() {
        let schema: Value = serde_json::from_str(&schema()).expect("JSON");
        let properties = |section: &str| schema["$defs"][section]["properties"].clone();
        assert_eq!(
            properties("registry")["project_id"]["anyOf"][1]["$ref"],
            "#/$defs/variable"
        );
        assert_eq!(properties("sync-entries")["tag_regex"]["type"], "string");
        assert_eq!(properties("sync-entries")["sort"]["default"], "version");
        assert_eq!(properties("sync")["parallelism"]["default"], 4);
        assert_eq!(
            schema["$defs"]["build-images"]["required"][0],
            json!("name")
        );
        assert_eq!(schema["additionalProperties"], false);
    }
}
