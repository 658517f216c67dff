//! String literals that must be constants: names of environment variables, keys of labels, media
//! types.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use imglife::model::env;
use regex::Regex;

/// Files that define the constants.
const TABLES: [&str; 4] = [
    "src/model/env.rs",
    "src/model/labels.rs",
    "src/model/media_type.rs",
    "src/model/variable_rules.rs",
];

/// Literals that only look like the name of a variable.
const NO_VARIABLES: [&str; 1] = ["GIT_COMMITTER_IDENT"];

#[test]
fn variables_labels_and_media_types_are_written_as_constants() {
    let rules = Rules::new();
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "src",
        &mut files,
    );
    assert!(files.len() > 100, "only {} files were found", files.len());
    let mut offences = Vec::new();
    for (file, text) in files {
        offences.extend(
            rules
                .found_in(&text)
                .into_iter()
                .map(|(line, problem)| format!("{file}:{line}: {problem}")),
        );
    }
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

/// Adds the source files below `directory` to `files`, with their path and content. Leaves out the
/// files of tests and those that define the constants.
fn collect(directory: &Path, name: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let file = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            if !file.ends_with("/tests") {
                collect(&entry.path(), &file, files);
            }
        } else if file.ends_with(".rs")
            && !file.ends_with("/tests.rs")
            && !file.ends_with("_tests.rs")
            && !TABLES.contains(&file.as_str())
        {
            let text = fs::read_to_string(entry.path()).expect("a source file");
            files.push((file, text));
        }
    }
}

struct Rules {
    literal: Regex,
    variable: Regex,
    /// Values of the constants for labels and media types.
    keys: BTreeSet<String>,
}

impl Rules {
    fn new() -> Rules {
        let constant = Regex::new(r#"pub const \w+: &str =\s+"([^"]+)";"#).expect("a pattern");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut keys = BTreeSet::new();
        for table in &TABLES[1..] {
            let text = fs::read_to_string(root.join(table)).expect("a table");
            let values = constant
                .captures_iter(&text)
                .map(|found| found[1].to_owned());
            // A value that is a plain word is also written for other reasons.
            keys.extend(values.filter(|value| value.contains(['.', '/', '_'])));
        }
        assert!(keys.len() > 30, "only {} constants were found", keys.len());
        Rules {
            literal: Regex::new(r#""([^"\\]*)""#).expect("a pattern"),
            variable: Regex::new(
                "^(IMGLIFE|CI|GITHUB|GITEA|FORGEJO|GITLAB|DOCKER|XDG|AWS|GIT)_[A-Z0-9_]*$",
            )
            .expect("a pattern"),
            keys,
        }
    }

    /// Returns the lines of `text` with such literals, and what to write instead.
    fn found_in(&self, text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (line, code) in without_tests(text) {
            // Arguments of `env!` and of clap's attributes are no variables of the process.
            if code.contains("env!(") || code.contains("value_name") {
                continue;
            }
            for literal in self.literal.captures_iter(code) {
                let literal = &literal[1];
                let is_listed = env::GROUPS
                    .iter()
                    .flat_map(|group| group.variables)
                    .any(|variable| variable.name == literal);
                if is_listed {
                    found.push((line, format!("write env::{literal}")));
                } else if self.variable.is_match(literal) && !NO_VARIABLES.contains(&literal) {
                    found.push((line, format!("{literal} is not listed in model::env")));
                } else if self.keys.contains(literal)
                    || literal.starts_with("application/")
                    || literal.starts_with("org.opencontainers.")
                {
                    found.push((
                        line,
                        format!("write the constant of labels or media_type for {literal}"),
                    ));
                }
            }
        }
        found
    }
}

/// Returns the lines of `text` that are neither comments nor test code, with their numbers.
fn without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    // The line that ends the test code that is being passed over.
    let mut end: Option<String> = None;
    let mut is_next_test = false;
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(last) = &end {
            if line == last {
                end = None;
            }
        } else if line.trim() == "#[cfg(test)]" {
            is_next_test = true;
        } else if is_next_test {
            let code = line.trim_start();
            if !code.starts_with("#[") {
                is_next_test = false;
                if !code.ends_with(';') && !code.ends_with('}') {
                    end = Some(format!("{}}}", &line[..line.len() - code.len()]));
                }
            }
        } else if !line.trim_start().starts_with("//") {
            kept.push((number, line));
        }
    }
    kept
}

#[test]
fn literals_are_found_outside_of_tests_only() {
    let text = r#"
/// "GITLAB_TOKEN" in a comment.
fn of_job() {
    get("GITLAB_TOKEN");
    get(env::GITLAB_TOKEN);
    get("CI_SOMETHING_NEW");
    label("org.opencontainers.image.created");
    media("application/vnd.oci.image.manifest.v1+json");
    say("set GITLAB_TOKEN to a token");
    env!("IMGLIFE_VERSION");
}

#[cfg(test)]
mod tests {
    fn told() {
        get("GITLAB_TOKEN");
    }
}
"#;
    let found: Vec<String> = Rules::new()
        .found_in(text)
        .into_iter()
        .map(|(line, problem)| format!("{line}: {problem}"))
        .collect();
    assert_eq!(
        found,
        [
            "4: write env::GITLAB_TOKEN",
            "6: CI_SOMETHING_NEW is not listed in model::env",
            "7: write the constant of labels or media_type for org.opencontainers.image.created",
            "8: write the constant of labels or media_type for application/vnd.oci.image.manifest.v1+json",
        ]
    );
}
