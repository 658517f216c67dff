//! Finding and reading the configuration file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::raw::{self, MAX_FILE_BYTES, YamlContent};
use super::table::ROOT;
use super::{Config, ConfigErrors, SourceText, load};
use crate::model::Variables;
use crate::model::env;
use crate::model::text::{closest, printable};

/// Name of the file that is read if the user names none.
pub const DEFAULT_NAME: &str = "imglife.yaml";

/// Error for a configuration that cannot be read or is invalid.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot read the configuration file {}", printable(&.path.to_string_lossy()))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Invalid(ConfigErrors),
}

/// Returns the path of the configuration file, or `None` if there is none.
///
/// `flag` (`--config`) takes precedence over `IMGLIFE_CONFIG`, and that over `imglife.yaml` in
/// `directory`. Only the last one is required to exist.
pub fn find(flag: Option<&Path>, variables: &Variables, directory: &Path) -> Option<PathBuf> {
    let named = flag
        .map(Path::to_owned)
        .or_else(|| variables.get_filled(env::IMGLIFE_CONFIG).map(PathBuf::from));
    match named {
        Some(path) => Some(directory.join(path)),
        None => Some(directory.join(DEFAULT_NAME)).filter(|path| path.symlink_metadata().is_ok()),
    }
}

/// Reads the file. Its name in messages is relative to `directory`.
///
/// # Errors
/// Fails if the file cannot be read, is larger than 1 MiB, or is not UTF-8.
pub fn read(path: &Path, directory: &Path) -> Result<SourceText, OpenError> {
    let unreadable = |source| OpenError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file is larger than {} KiB", MAX_FILE_BYTES / 1024),
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        unreadable(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is not UTF-8 text",
        ))
    })?;
    Ok(SourceText {
        name: path
            .strip_prefix(directory)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned(),
        text,
    })
}

/// Loads the configuration of a run in `directory`: the file that [`find`] returns, with overrides
/// from `variables`.
///
/// Without a file, the configuration consists of variables only, and `Config::file` is `None`.
pub fn open(
    flag: Option<&Path>,
    variables: &Variables,
    directory: &Path,
) -> Result<Config, OpenError> {
    let Some(path) = find(flag, variables, directory) else {
        return Config::from_variables(variables, directory).map_err(OpenError::Invalid);
    };
    let source = read(&path, directory)?;
    let config =
        load(&source, path.parent().unwrap_or(directory), variables).map_err(|errors| {
            OpenError::Invalid(if is_configuration(&source.text) {
                errors
            } else {
                errors.of_another_file()
            })
        })?;
    Ok(Config {
        file: Some(path),
        ..config
    })
}

/// Returns true if a file is a configuration, even if it is invalid: its top-level keys are mostly
/// those of a configuration, or the only one is nearly so.
///
/// The text of other files is not shown: a wrong path, or a link in a checkout, can lead to a file
/// with secrets.
fn is_configuration(text: &str) -> bool {
    let known: Vec<&str> = ROOT.keys.iter().map(|key| key.name).collect();
    let keys = match raw::read(text) {
        Ok(node) => match node.content {
            YamlContent::Null => return true,
            YamlContent::Mapping(pairs) => {
                pairs.iter().map(|pair| pair.key.text.to_string()).collect()
            }
            YamlContent::Scalar(_) | YamlContent::Sequence(_) => Vec::new(),
        },
        Err(_) => text.lines().filter_map(top_level_key).collect(),
    };
    let (own, others): (Vec<&String>, Vec<&String>) = keys
        .iter()
        .filter(|key| !key.starts_with("x-"))
        .partition(|key| known.contains(&key.as_str()));
    match others.as_slice() {
        [misspelt] if own.is_empty() => closest(misspelt, known.iter().copied()).is_some(),
        others => !own.is_empty() && own.len() >= others.len(),
    }
}

/// Returns the key that a line of a block mapping begins with, if it is not indented.
fn top_level_key(line: &str) -> Option<String> {
    let (key, _) = line.split_once(':')?;
    let key = key.trim_end().trim_matches(['"', '\'']);
    let is_key = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_key.then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn find_prefers_the_flag_then_the_variable_then_the_default() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        let variables: Variables = [("IMGLIFE_CONFIG", "variable.yaml")].into_iter().collect();
        assert_eq!(
            find(Some(Path::new("/flag.yaml")), &variables, at),
            Some(PathBuf::from("/flag.yaml"))
        );
        assert_eq!(find(None, &variables, at), Some(at.join("variable.yaml")));
        assert_eq!(find(None, &Variables::default(), at), None);
        fs::write(at.join(DEFAULT_NAME), "").expect("to write");
        assert_eq!(
            find(None, &Variables::default(), at),
            Some(at.join(DEFAULT_NAME))
        );
    }

    #[test]
    fn read_reports_missing_large_and_binary_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let cause = |name: &str, content: Option<&[u8]>| {
            let path = directory.path().join(name);
            if let Some(content) = content {
                fs::write(&path, content).expect("to write");
            }
            let error = read(&path, directory.path()).expect_err("unreadable");
            crate::error::causes(&error).join(": ")
        };
        assert!(cause("missing.yaml", None).contains("No such file"));
        assert_eq!(
            cause("binary.yaml", Some(b"a: \xff")),
            "the file is not UTF-8 text"
        );
        assert_eq!(
            cause("huge.yaml", Some(&vec![b' '; MAX_FILE_BYTES + 1])),
            "the file is larger than 4096 KiB"
        );
    }

    #[test]
    fn open_resolves_relative_paths_against_the_directory_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("sub")).expect("a directory");
        fs::write(
            directory.path().join("sub/c.yaml"),
            "registry: { provider: file }",
        )
        .expect("to write");
        let config = open(
            Some(Path::new("sub/c.yaml")),
            &Variables::default(),
            directory.path(),
        )
        .expect("valid");
        assert_eq!(config.directory, directory.path().join("sub"));
        assert_eq!(config.file, Some(directory.path().join("sub/c.yaml")));
        let Some(super::super::RegistryProvider::File {
            directory: packages,
        }) = config.registry.map(|registry| registry.provider)
        else {
            panic!("expected the provider `file`");
        };
        assert_eq!(packages, directory.path().join("sub/.imglife/packages"));
    }

    #[test]
    fn lines_of_other_files_are_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        let shown = |text: &str| {
            fs::write(at.join("other"), text).expect("to write");
            let error = open(Some(Path::new("other")), &Variables::default(), at)
                .err()
                .unwrap_or_else(|| panic!("a configuration: {text}"));
            match error {
                OpenError::Invalid(errors) => format!("{errors} {}", errors.render(false)),
                other => format!("{other:?}"),
            }
        };
        for text in [
            "password: hunter2\n",
            "TOKEN=hunter2\n",
            "root:hunter2:0:0\ndaemon:*:1:1\n",
            "-----BEGIN PRIVATE KEY-----\nhunter2\n",
            "{\"auths\": {\"r.example\": {\"auth\": \"hunter2\"}}}",
            "{\"auths\": {\"r.example\": hunter2",
            "machine r.example\nlogin a\npassword hunter2",
            "- hunter2\n",
            "variables: { A: hunter2 }\nstages: [build]\nbuild: { script: hunter2 }\ntest: {}\n",
            "a: hunter2\nb: [\n",
        ] {
            let shown = shown(text);
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
            assert!(
                shown.contains("other is not a configuration of imglife"),
                "{text}: {shown}"
            );
        }
        // Errors in a configuration are still shown as such.
        for text in [
            "sync: { entries: [ { surce: hunter2 } ] }\n",
            "snyc: hunter2\n",
            "x-anchors: hunter2\nsync: [\n",
            "{\"sync\": \"hunter2\"}",
        ] {
            let shown = shown(text);
            assert!(!shown.contains("is not a configuration"), "{text}: {shown}");
        }
    }
}
