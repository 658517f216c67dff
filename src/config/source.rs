//! Finding and reading the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::raw::LONGEST_FILE;
use super::{Config, ConfigErrors, load};
use crate::model::Variables;
use crate::model::env;
use crate::model::text::printable;

/// The file that is looked for when none is named.
pub const DEFAULT_NAME: &str = "imglife.yaml";

/// A configuration file as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The file's name, for messages.
    pub name: String,
    pub text: String,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot read the configuration file {}", printable(&.path.to_string_lossy()))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Invalid(ConfigErrors),
}

/// Returns the path of the file: that of `--config`, else of `IMGLIFE_CONFIG`, else `imglife.yaml`
/// in `directory` if it is there.
pub fn find(flag: Option<&Path>, variables: &Variables, directory: &Path) -> Option<PathBuf> {
    let named = flag
        .map(Path::to_owned)
        .or_else(|| variables.get_filled(env::IMGLIFE_CONFIG).map(PathBuf::from));
    match named {
        Some(path) => Some(directory.join(path)),
        None => Some(directory.join(DEFAULT_NAME)).filter(|path| path.symlink_metadata().is_ok()),
    }
}

/// Returns the text of the file, named as it is seen from `directory`. A file of more than 1 MiB is
/// not read to its end.
pub fn read(path: &Path, directory: &Path) -> Result<SourceText, OpenError> {
    let unreadable = |source| OpenError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let longest = u64::try_from(LONGEST_FILE).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(longest.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > LONGEST_FILE {
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {} KiB", LONGEST_FILE / 1024),
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        unreadable(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not UTF-8 text",
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

/// Returns the configuration of a run in `directory`: the file that `find` gives, with the
/// variables that override it. Without a file it is made of variables alone, and `Config::file` is
/// `None`.
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
        load(&source, path.parent().unwrap_or(directory), variables).map_err(OpenError::Invalid)?;
    Ok(Config {
        file: Some(path),
        ..config
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_flag_goes_before_the_variable_and_both_before_the_default() {
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
    fn files_that_are_missing_huge_or_no_text_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let told = |name: &str, content: Option<&[u8]>| {
            let path = directory.path().join(name);
            if let Some(content) = content {
                fs::write(&path, content).expect("to write");
            }
            let error = read(&path, directory.path()).expect_err("unreadable");
            crate::error::causes(&error).join(": ")
        };
        assert!(told("missing.yaml", None).contains("No such file"));
        assert_eq!(
            told("binary.yaml", Some(b"a: \xff")),
            "it is not UTF-8 text"
        );
        assert_eq!(
            told("huge.yaml", Some(&vec![b' '; LONGEST_FILE + 1])),
            "it is longer than 1024 KiB"
        );
    }

    #[test]
    fn relative_paths_belong_to_the_directory_of_the_file() {
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
        let Some(super::super::Provider::File {
            directory: packages,
        }) = config.registry.map(|registry| registry.provider)
        else {
            panic!("another provider");
        };
        assert_eq!(packages, directory.path().join("sub/.imglife/packages"));
    }
}
