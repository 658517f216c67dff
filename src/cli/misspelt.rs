//! Variables that were meant to be options of `run` or its steps, and are none.

use crate::app::UnheardOf;
use crate::model::Variables;
use crate::model::env;
use crate::model::text::closest;

/// How the names of variables end that hold the login of a host, whose name is a part of them.
const OF_LOGINS: [&str; 3] = ["_USERNAME", "_PASSWORD", "_TOKEN"];

/// The steps that options are of.
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

/// Returns those of `variables` that are named almost as one of `options` is, or as an option of a
/// step that has none of that name.
pub(super) fn misspelt(options: &[String], variables: &Variables) -> Vec<UnheardOf> {
    let beginnings = STEPS.map(|step| env::option(step, ""));
    let known: Vec<String> = options
        .iter()
        .filter_map(|option| Some(option.strip_prefix(env::PREFIX)?.to_ascii_lowercase()))
        .collect();
    let strangers = variables.iter().filter_map(|(name, _)| {
        let rest = name.strip_prefix(env::PREFIX)?;
        let is_heard_of = options.iter().any(|option| option == name)
            || is_in_table(name)
            || OF_LOGINS.iter().any(|end| name.ends_with(end));
        (!is_heard_of).then_some((name, rest))
    });
    let told = strangers.filter_map(|(name, rest)| {
        let meant = closest(rest, known.iter().map(String::as_str))
            .map(|meant| format!("{}{}", env::PREFIX, meant.to_ascii_uppercase()));
        let is_an_option = beginnings
            .iter()
            .any(|beginning| name.starts_with(beginning));
        (meant.is_some() || is_an_option).then(|| UnheardOf {
            name: name.to_owned(),
            meant,
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use regex::Regex;

    use super::super::run::option_variables;
    use super::*;

    fn told(names: &[&str]) -> Vec<String> {
        let variables = names.iter().map(|name| (*name, "x")).collect();
        let show = |found: UnheardOf| format!("{} {}", found.name, found.meant.unwrap_or_default());
        misspelt(&option_variables(), &variables)
            .into_iter()
            .map(show)
            .collect()
    }

    #[test]
    fn what_is_almost_an_option_is_found_with_its_name() {
        for (written, meant) in [
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
            assert_eq!(told(&[written]), [format!("{written} {meant}")]);
        }
    }

    #[test]
    fn logins_of_hosts_and_what_is_not_like_an_option_are_no_mistakes() {
        let logins = [
            "IMGLIFE_STATUS_EXAMPLE_COM_PASSWORD",
            "IMGLIFE_RUN_IO_USERNAME",
            "IMGLIFE_REGISTRY_5000_TOKEN",
        ];
        assert_eq!(told(&logins), Vec::<String>::new());
        assert_eq!(
            told(&[
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
    fn what_the_project_itself_names_is_no_mistake() {
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
        let mut seen = 0;
        for file in files {
            let text = String::from_utf8_lossy(&fs::read(&file).expect("a file")).into_owned();
            for found in name.find_iter(&text) {
                // Beginnings of names, and an example of what this warns of.
                if text[found.end()..].starts_with(['_', '<'])
                    || found.as_str() == "IMGLIFE_CHECK_STRCT"
                {
                    continue;
                }
                assert_eq!(
                    told(&[found.as_str()]),
                    Vec::<String>::new(),
                    "{}",
                    file.display()
                );
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen}");
    }
}
