//! The keys of the configuration, from its JSON Schema.

use serde_json::{Map, Value, json};

/// Maximum depth of a key, for sections that would contain themselves.
const MAX_DEPTH: usize = 12;

/// A key of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Names of the sections and of the key. `[]` is an item of a list.
    pub(super) path: Vec<String>,
    /// True if the value is text: a name, an address, a path.
    pub(super) is_text: bool,
    /// True if the value is an address or another name with a grammar, and no free text.
    pub(super) is_name: bool,
}

impl Key {
    /// Returns a configuration with the given value at this key only.
    pub(super) fn document(&self, value: &Value) -> Value {
        let mut document = Value::Null;
        self.set(&mut document, value);
        document
    }

    /// Sets the value at this key in a configuration, in each item of a list.
    pub(super) fn set(&self, document: &mut Value, value: &Value) {
        set(document, &self.path, value);
    }

    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }
}

fn set(at: &mut Value, path: &[String], value: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *at = value.clone();
        return;
    };
    if first == "[]" {
        if at.as_array().is_none_or(Vec::is_empty) {
            *at = json!([null]);
        }
        for item in at.as_array_mut().into_iter().flatten() {
            set(item, rest, value);
        }
        return;
    }
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    set(&mut at[first.as_str()], rest, value);
}

/// Returns all keys with a value of their own.
pub(super) fn keys() -> Vec<Key> {
    let schema: Value = serde_json::from_str(&imglife::config::schema()).expect("a JSON Schema");
    let mut keys = Vec::new();
    collect(&schema, &schema, &mut Vec::new(), &mut keys);
    assert!(keys.len() > 80, "only {} keys were found", keys.len());
    keys
}

fn collect(schema: &Value, at: &Value, path: &mut Vec<String>, keys: &mut Vec<Key>) {
    if path.len() > MAX_DEPTH {
        return;
    }
    if let Some(name) = at["$ref"].as_str() {
        if name != "#/$defs/variable" {
            let target = schema
                .pointer(name.trim_start_matches('#'))
                .expect("a definition");
            collect(schema, target, path, keys);
        }
        return;
    }
    if let Some(properties) = at["properties"].as_object() {
        for (name, property) in properties {
            path.push(name.clone());
            collect(schema, property, path, keys);
            path.pop();
        }
        return;
    }
    if at["additionalProperties"].is_object() {
        path.push("name.example".to_owned());
        collect(schema, &at["additionalProperties"], path, keys);
        path.pop();
        return;
    }
    if at["items"].is_object() && at["type"] == "array" {
        path.push("[]".to_owned());
        collect(schema, &at["items"], path, keys);
        path.pop();
        return;
    }
    let alternatives = at["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(section) = alternatives
        .iter()
        .find(|one| one["$ref"].is_string() && one["$ref"] != "#/$defs/variable")
    {
        collect(schema, section, path, keys);
        return;
    }
    let has_type = |name: &str| {
        at["type"] == name
            || at["type"]
                .as_array()
                .is_some_and(|types| types.iter().any(|one| one == name))
    };
    keys.push(Key {
        path: path.clone(),
        is_name: at["type"] == "string"
            || alternatives
                .iter()
                .any(|one| one["type"] == "string" && one["pattern"] == "^https?://"),
        is_text: has_type("string")
            || alternatives
                .iter()
                .any(|one| one["pattern"] == "^https?://"),
    });
}
