//! Environment variables that look like misspelt options of `imglife run` or its steps.

use crate::app::UnknownVariable;
use crate::model::Variables;
use crate::model::env;
use crate::model::text::closest;

/// Suffixes of the variables that hold the credentials of a host, as in
/// `IMGLIFE_QUAY_IO_PASSWORD`, or that name the host.
const CREDENTIAL_SUFFIXES: [&str; 5] = [
    "_USERNAME",
    "_PASSWORD",
    "_PASSWORD_FILE",
    "_TOKEN",
    "_HOST",
];

/// Steps with options.
pub(super) const STEPS: [&str; 8] = [
    "run",
    "sync",
    "build",
    "eol-update",
    "status",
    "cleanup",
    "check",
    "register",
];

/// Returns true if `name` is one of the variables that [`env::GROUPS`] lists.
fn is_in_table(name: &str) -> bool {
    env::GROUPS
        .iter()
        .flat_map(|group| group.variables)
        .any(|variable| variable.name == name)
}

/// Returns the `variables` that have almost the name of one of `options`, and those with the prefix
/// of a step that has no such option.
pub(super) fn typos(options: &[String], variables: &Variables) -> Vec<UnknownVariable> {
    let step_prefixes = STEPS.map(|step| env::option(step, ""));
    let option_names: Vec<String> = options
        .iter()
        .filter_map(|option| Some(option.strip_prefix(env::PREFIX)?.to_ascii_lowercase()))
        .collect();
    let unknown = variables.iter().filter_map(|(name, _)| {
        let rest = name.strip_prefix(env::PREFIX)?;
        let is_defined = options.iter().any(|option| option == name)
            || is_in_table(name)
            || CREDENTIAL_SUFFIXES
                .iter()
                .any(|suffix| name.ends_with(suffix));
        (!is_defined).then_some((name, rest))
    });
    let typos = unknown.filter_map(|(name, rest)| {
        let suggestion = closest(rest, option_names.iter().map(String::as_str))
            .map(|option| format!("{}{}", env::PREFIX, option.to_ascii_uppercase()));
        let is_like_an_option = step_prefixes.iter().any(|prefix| name.starts_with(prefix));
        (suggestion.is_some() || is_like_an_option).then(|| UnknownVariable {
            name: name.to_owned(),
            suggestion,
        })
    });
    typos.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use regex::Regex;

    use super::super::run::option_variables;
    use super::*;

    fn typos_in(names: &[&str]) -> Vec<String> {
        let variables = names.iter().map(|name| (*name, "x")).collect();
        let show = |found: UnknownVariable| {
            format!("{} {}", found.name, found.suggestion.unwrap_or_default())
        };
        typos(&option_variables(), &variables)
            .into_iter()
            .map(show)
            .collect()
    }

    #[test]
    fn a_misspelt_option_is_found_with_a_suggestion() {
        for (misspelt, suggestion) in [
            ("IMGLIFE_CHECK_STRCT", "IMGLIFE_CHECK_STRICT"),
            ("IMGLIFE_CHEK_STRICT", "IMGLIFE_CHECK_STRICT"),
            ("IMGLIFE_CHECK_MAXDAYS", "IMGLIFE_CHECK_MAX_DAYS"),
            ("IMGLIFE_RUN_REPORT", "IMGLIFE_RUN_REPORTS"),
            (
                "IMGLIFE_EOLUPDATE_DATA_FILE",
                "IMGLIFE_EOL_UPDATE_DATA_FILE",
            ),
            (
                "IMGLIFE_CLEANUP_MAX_DELETE_PERCENTAGE",
                "IMGLIFE_CLEANUP_MAX_DELETE_PERCENT",
            ),
            ("IMGLIFE_STATUS_FORMATTING_OF_PAGE", ""),
        ] {
            assert_eq!(typos_in(&[misspelt]), [format!("{misspelt} {suggestion}")]);
        }
    }

    #[test]
    fn credentials_and_unrelated_variables_are_no_typos() {
        let credentials = [
            "IMGLIFE_STATUS_EXAMPLE_COM_PASSWORD",
            "IMGLIFE_RUN_IO_USERNAME",
            "IMGLIFE_REGISTRY_5000_TOKEN",
        ];
        assert_eq!(typos_in(&credentials), Vec::<String>::new());
        assert_eq!(
            typos_in(&[
                "IMGLIFE_SLACK_WEBHOOK",
                "IMGLIFE_MIRROR",
                "IMGLIFE_",
                "CI_CHECK_STRCT",
                "IMGLIFE"
            ]),
            Vec::<String>::new()
        );
    }

    fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files_below(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn variables_in_files_of_the_project_are_no_typos() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![
            root.join(".gitlab-ci.yml"),
            root.join("Dockerfile"),
            root.join("README.md"),
        ];
        for directory in [
            "ci-components",
            "gitea-actions",
            "examples",
            "templates",
            "docs",
            ".ci",
            ".gitea",
            "src/config",
            "src/credentials",
        ] {
            files_below(&root.join(directory), &mut files);
        }
        let name = Regex::new(r"IMGLIFE_[A-Z0-9_]*[A-Z0-9]").expect("a pattern");
        let mut count = 0;
        for file in files {
            let text = String::from_utf8_lossy(&fs::read(&file).expect("a file")).into_owned();
            for found in name.find_iter(&text) {
                // Prefixes of names, and the example of a typing error in the documentation.
                if text[found.end()..].starts_with(['_', '<'])
                    || found.as_str() == "IMGLIFE_CHECK_STRCT"
                {
                    continue;
                }
                assert_eq!(
                    typos_in(&[found.as_str()]),
                    Vec::<String>::new(),
                    "{}",
                    file.display()
                );
                count += 1;
            }
        }
        assert!(count > 100, "{count}");
    }
}
