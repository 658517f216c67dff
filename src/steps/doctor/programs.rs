//! Programs that hooks run.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{Config, HookCommand};
use crate::model::Variables;
use crate::model::env;

/// Words at the start of a shell line that are not programs (POSIX, "Shell Command Language", and
/// common built-ins).
const SHELL_WORDS: [&str; 30] = [
    ".", ":", "[", "alias", "break", "case", "cd", "command", "continue", "eval", "exec", "exit",
    "export", "for", "if", "local", "read", "readonly", "return", "set", "shift", "source", "test",
    "times", "trap", "ulimit", "umask", "unset", "until", "while",
];

/// Returns the first program of each hook in a configuration, as far as it is known without a
/// shell.
pub fn hook_programs(config: &Config) -> BTreeSet<String> {
    let sync = config.sync.iter().flat_map(|sync| {
        sync.entries
            .iter()
            .flat_map(|entry| &entry.post_sync)
            .chain(&sync.post_sync)
    });
    let build = config.build.iter().flat_map(|build| {
        build
            .images
            .iter()
            .flat_map(|image| &image.post_image_build)
    });
    let of_build = config
        .build
        .iter()
        .flat_map(|build| &build.post_image_build);
    let mut programs = BTreeSet::new();
    for hook in sync.chain(build).chain(of_build) {
        match &hook.command {
            HookCommand::Program(words) => programs.extend(words.first().cloned()),
            HookCommand::Shell(line) => {
                programs.insert("sh".to_owned());
                programs.extend(first_word(line).map(str::to_owned));
            }
        }
    }
    programs
}

/// Returns the first program of a shell line; `None` if only a shell can determine it.
fn first_word(line: &str) -> Option<&str> {
    let word = line.split_whitespace().next()?.trim_end_matches(';');
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "._-+/".contains(character);
    (word.chars().all(is_plain) && !SHELL_WORDS.contains(&word)).then_some(word)
}

/// Returns true if a program exists. A name with a slash is a path relative to `directory`; any
/// other name is searched in `PATH`.
pub fn is_on_path(program: &str, variables: &Variables, directory: &Path) -> bool {
    let runs = |path: &Path| {
        rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
    };
    if program.contains('/') {
        return runs(&directory.join(program));
    }
    variables.get_filled(env::PATH).is_some_and(|path| {
        path.split(':')
            .any(|entry| runs(&directory.join(entry).join(program)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_word_is_the_program_unless_a_shell_is_needed() {
        for (line, expected) in [
            ("cosign sign {{ image }}", Some("cosign")),
            ("  ./notify.sh; true", Some("./notify.sh")),
            ("cd x && make", None),
            ("A=1 make", None),
            ("$TOOL x", None),
            ("if true; then x; fi", None),
            ("(make)", None),
            ("", None),
        ] {
            assert_eq!(first_word(line), expected, "{line}");
        }
    }

    #[test]
    fn programs_are_found_like_in_a_shell() {
        let here = Path::new("/");
        let path = |path: &str| [("PATH", path)].into_iter().collect::<Variables>();
        assert!(
            is_on_path("sh", &path("/nowhere:/bin"), here)
                && is_on_path("/bin/sh", &path(""), here)
                && is_on_path("bin/sh", &path(""), here)
        );
        assert!(
            !is_on_path("sh", &path("/nowhere"), here)
                && !is_on_path("/etc/passwd", &path(""), here)
                && !is_on_path("/bin", &path(""), here)
        );
    }
}
