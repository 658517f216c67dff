//! Every credential in every key of the configuration: none is expanded, none is printed.

use std::path::Path;

use imglife::config::{self, SourceText};
use serde_json::{Value, json};

use super::schema::{Key, keys};
use super::{CREDENTIALS, JOB, SECRET, variables};
use crate::support::world::World;

#[test]
fn no_key_expands_a_credential() {
    let variables = variables();
    let load = |key: &Key, name: &str| {
        let value = json!(format!("x.example/${{{name}}}"));
        let source = SourceText {
            name: "imglife.yaml".to_owned(),
            text: key.document(&value).to_string(),
        };
        config::load(&source, Path::new("/project"), &variables)
    };
    let mut expanded = 0;
    for key in keys() {
        // Patterns and commands are taken as they are.
        let is_expanded = load(&key, "NOT_SET").is_err_and(|errors| {
            errors
                .findings
                .iter()
                .any(|finding| finding.message.contains("`NOT_SET` is not set"))
        });
        expanded += usize::from(is_expanded);
        for (name, _) in CREDENTIALS {
            let found = load(&key, name);
            let shown = match &found {
                Ok(config) => config::show(config),
                Err(errors) => errors.to_string(),
            };
            assert!(
                !shown.contains(SECRET),
                "{} prints ${name}: {shown}",
                key.name()
            );
            let is_refused = found.as_ref().is_err_and(|errors| {
                errors
                    .findings
                    .iter()
                    .any(|finding| finding.message.contains(&format!("`{name}`")))
            });
            assert!(
                is_refused || !is_expanded,
                "{} accepts ${name}: {shown}",
                key.name()
            );
        }
    }
    assert!(expanded > 50, "only {expanded} keys expand variables");
}

#[test]
fn no_credential_in_all_keys_at_once_is_printed() {
    let keys = keys();
    for (name, _) in CREDENTIALS {
        let mut document = Value::Null;
        for key in &keys {
            key.set(&mut document, &json!(format!("${name}")));
        }
        let mut world = World::new().file("imglife.yaml", document.to_string());
        for (name, value) in JOB.into_iter().chain(CREDENTIALS) {
            world = world.variable(name, value);
        }
        let outcome = world.imglife(["config", "show"]);
        assert_eq!(outcome.code(), Some(2), "{outcome:?}");
        assert!(
            !outcome.stdout.contains(SECRET) && !outcome.stderr.contains(SECRET),
            "${name} is printed: {outcome:?}"
        );
    }
}
