//! The check of a configuration: turns the YAML tree into a [`Config`], or reports all errors at
//! once.

mod build;
#[cfg(test)]
mod build_tests;
mod containment;
mod hooks;
#[cfg(test)]
mod hooks_tests;
mod keepers;
mod lifecycle;
#[cfg(test)]
mod lifecycle_tests;
mod reader;
mod registry;
#[cfg(test)]
mod registry_tests;
mod retention;
#[cfg(test)]
mod retention_tests;
mod scalar;
mod sync;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod variables_tests;

use std::path::{Path, PathBuf};

use super::canonical::HostAddresses;
use super::entries::expand;
use super::errors::{ConfigErrors, Span};
use super::raw::{self, YamlNode};
use super::settings::Config;
use super::source_text::SourceText;
use super::table::ROOT;
use crate::model::{Repository, Variables};
use reader::{CheckContext, Fields, KeyLocation};

/// Loads a configuration from its text.
///
/// References to `variables` are expanded, and `IMGLIFE_…` variables override keys. Relative paths
/// are resolved against `directory`, the directory of the file.
///
/// # Errors
/// Fails with all errors in the file, or with the syntax error if the text is not valid YAML.
pub fn load(
    source: &SourceText,
    directory: &Path,
    variables: &Variables,
) -> Result<Config, ConfigErrors> {
    let node = raw::read(&source.text)
        .map_err(|finding| ConfigErrors::new(&source.name, &source.text, vec![finding], 0))?;
    load_tree(&expand(node), source, directory, variables)
}

/// Loads a configuration from the YAML tree of `source`.
pub(super) fn load_tree(
    node: &YamlNode,
    source: &SourceText,
    directory: &Path,
    variables: &Variables,
) -> Result<Config, ConfigErrors> {
    let context = CheckContext::new(variables, directory);
    let config = check(&context, node);
    finished(config, context, source, Some(PathBuf::from(&source.name)))
}

impl Config {
    /// Returns the configuration of a run without a file, which consists of `IMGLIFE_…` variables
    /// only.
    pub fn from_variables(variables: &Variables, directory: &Path) -> Result<Config, ConfigErrors> {
        let source = SourceText {
            name: "the environment".to_owned(),
            text: String::new(),
        };
        let context = CheckContext::new(variables, directory);
        let config = Fields::empty(&context, &ROOT, outside_of_the_file());
        let config = sections(&config);
        finished(config, context, &source, None)
    }
}

/// Returns the location of a section that is not in a file.
fn outside_of_the_file() -> KeyLocation {
    KeyLocation {
        span: None,
        path: String::new(),
    }
}

/// Returns the configuration, or the findings of `context` if there are any.
fn finished(
    config: Option<Config>,
    context: CheckContext<'_>,
    source: &SourceText,
    file: Option<PathBuf>,
) -> Result<Config, ConfigErrors> {
    let (findings, omitted) = context.into_findings();
    match config {
        Some(config) if findings.is_empty() => Ok(Config { file, ..config }),
        _ => {
            debug_assert!(!findings.is_empty(), "no configuration and no finding");
            Err(ConfigErrors::new(
                &source.name,
                &source.text,
                findings,
                omitted,
            ))
        }
    }
}

fn check(context: &CheckContext<'_>, node: &YamlNode) -> Option<Config> {
    let top = KeyLocation {
        span: Some(Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        }),
        path: String::new(),
    };
    let root = Fields::open(
        context,
        &ROOT,
        KeyLocation {
            span: Some(node.span),
            ..top
        },
        node,
    )?;
    sections(&root)
}

/// Reads all sections. `None` if one of them has an error.
fn sections(root: &Fields<'_>) -> Option<Config> {
    let context = root.context;
    let registry = registry::registry(root);
    let hosts = registry::hosts(root);
    let general = retention::general(root);
    let (sync, mirrors) = sync::sync(root, &general);
    let build = build::build(root, &general, sync.as_ref(), &mirrors);
    let lifecycle = lifecycle::lifecycle(root);
    let status = lifecycle::status(root);

    let entries: Vec<_> = sync
        .iter()
        .flat_map(|checked| checked.sync.entries.iter().zip(&checked.applied))
        .collect();
    let images: Vec<_> = build
        .iter()
        .flat_map(|checked| checked.build.images.iter().zip(&checked.applied))
        .collect();
    let configured: Vec<&Repository> = entries
        .iter()
        .flat_map(|(entry, _)| [&entry.source, &entry.target])
        .chain(
            images
                .iter()
                .flat_map(|(image, _)| [&image.repository, &image.mirror_image]),
        )
        .collect();
    let with_retention = entries
        .iter()
        .map(|(entry, applied)| (&entry.target, *applied));
    let with_retention = with_retention.chain(
        images
            .iter()
            .map(|(image, applied)| (&image.repository, *applied)),
    );
    let insecure = registry.as_ref().map_or(&[][..], |(_, insecure)| insecure);
    retention::check_archives(
        context,
        HostAddresses {
            hosts: &hosts,
            insecure,
        },
        with_retention,
        &configured,
    );

    let (registry, insecure_registries) = registry?;
    let keepers = general.retention.as_ref();
    let keepers = keepers.and_then(|rules| rules.keepers.as_ref());
    keepers::check_forge(root, keepers, registry.as_ref());
    Some(Config {
        file: None,
        directory: context.directory.to_owned(),
        registry,
        insecure_registries,
        hosts,
        sync: sync.map(|checked| checked.sync),
        build: build.map(|checked| checked.build),
        retention: general.retention,
        lifecycle: lifecycle?,
        status: status?,
    })
}
