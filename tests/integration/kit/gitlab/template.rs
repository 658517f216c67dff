//! A component's template, read and interpolated as GitLab does it: inputs are checked against the
//! header, and put into the text of the body before that is read as YAML
//! (`lib/gitlab/ci/config/interpolation` of GitLab's sources).

use std::fs;
use std::path::{Path, PathBuf};

use regex::{Captures, Regex};
use serde_json::{Map, Value};

/// All components.
pub(in super::super) const COMPONENTS: [&str; 8] = [
    "sync",
    "build",
    "eol-update",
    "status",
    "cleanup",
    "check",
    "register",
    "pipeline",
];

pub(in super::super) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci-components")
}

pub(in super::super) fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(in super::super) fn yaml(what: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{what}: {error}\n{text}"))
}

pub(in super::super) struct Template {
    pub(in super::super) name: &'static str,
    pub(in super::super) header: Value,
    pub(in super::super) body: String,
}

impl Template {
    pub(in super::super) fn of(name: &'static str) -> Template {
        let text = read(&format!("templates/{name}/template.yml"));
        let (header, body) = text.split_once("\n---\n").expect("a header and a body");
        Template {
            name,
            header: yaml(name, header),
            body: body.to_owned(),
        }
    }

    pub(in super::super) fn inputs(&self) -> &Map<String, Value> {
        self.header["spec"]["inputs"].as_object().expect("inputs")
    }

    /// Returns the jobs that these inputs make, or why GitLab refuses them.
    pub(in super::super) fn render(&self, given: &Value) -> Result<Map<String, Value>, String> {
        let given = given.as_object().expect("inputs by name");
        if let Some(unknown) = given.keys().find(|name| !self.inputs().contains_key(*name)) {
            return Err(format!("{unknown}: unknown input"));
        }
        let mut values = Map::new();
        for (name, input) in self.inputs() {
            let value = given
                .get(name)
                .or(input.get("default"))
                .ok_or_else(|| format!("{name}: required"))?;
            check(input, value).map_err(|problem| format!("{name}: {problem}"))?;
            values.insert(name.clone(), value.clone());
        }
        let block = Regex::new(r"\$\[\[\s*inputs\.([a-z-]+)\s*\]\]").expect("a pattern");
        let text = block.replace_all(&self.body, |found: &Captures<'_>| {
            match &values[&found[1]] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            }
        });
        assert!(
            !text.contains("$[["),
            "an expression is left over in {}:\n{text}",
            self.name
        );
        Ok(yaml(self.name, &text).as_object().expect("jobs").clone())
    }

    /// Returns a job of those that these inputs make, with what it extends.
    pub(in super::super) fn job(&self, name: &str, given: &Value) -> Value {
        let jobs = self
            .render(given)
            .unwrap_or_else(|problem| panic!("{}: {problem}", self.name));
        let mut job = jobs[name].clone();
        if let Some(parent) = job.as_object_mut().and_then(|job| job.remove("extends")) {
            let mut merged = jobs[parent.as_str().expect("a name")].clone();
            merge(&mut merged, &job);
            job = merged;
        }
        job
    }
}

/// What GitLab checks of an input: its type, then `options` and `regex`.
fn check(input: &Value, value: &Value) -> Result<(), String> {
    let fits = match input["type"].as_str().expect("a type") {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        other => panic!("{other} is no type"),
    };
    if !fits {
        return Err(format!("not a {}", input["type"]));
    }
    if input["options"]
        .as_array()
        .is_some_and(|options| !options.contains(value))
    {
        return Err("not in the list of allowed options".to_owned());
    }
    let pattern = input["regex"]
        .as_str()
        .map(|pattern| Regex::new(pattern).expect("a pattern"));
    if pattern.is_some_and(|pattern| !pattern.is_match(value.as_str().unwrap_or_default())) {
        return Err("does not match".to_owned());
    }
    Ok(())
}

/// Maps are merged, everything else is replaced: GitLab's `extends`.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
