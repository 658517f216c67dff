//! From the spanned tree to [`Config`]: every finding of a file in one run.

mod build;
#[cfg(test)]
mod build_tests;
mod hooks;
#[cfg(test)]
mod hooks_tests;
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

use super::errors::{ConfigErrors, Span};
use super::place::Addresses;
use super::raw::{self, Node};
use super::table::ROOT;
use super::{Config, SourceText};
use crate::model::{Repository, Variables};
use reader::{At, Context, Fields};

/// Returns the configuration that a file describes, with its variables replaced and overridden by
/// `variables`.
///
/// `directory` is that of the file: relative paths are resolved against it.
///
/// # Errors
/// Fails with all that is wrong; when the text is no YAML, with that alone.
pub fn load(
    source: &SourceText,
    directory: &Path,
    variables: &Variables,
) -> Result<Config, ConfigErrors> {
    let node = raw::read(&source.text)
        .map_err(|finding| ConfigErrors::new(&source.name, &source.text, vec![finding], 0))?;
    load_tree(&node, source, directory, variables)
}

/// Returns the configuration that a tree describes, which was read from `source`.
pub(super) fn load_tree(
    node: &Node,
    source: &SourceText,
    directory: &Path,
    variables: &Variables,
) -> Result<Config, ConfigErrors> {
    let context = Context::new(variables, directory);
    let config = check(&context, node);
    finished(config, context, source, Some(PathBuf::from(&source.name)))
}

impl Config {
    /// Returns the configuration of a run without a file: what `IMGLIFE_*` variables say.
    pub fn from_variables(variables: &Variables, directory: &Path) -> Result<Config, ConfigErrors> {
        let source = SourceText {
            name: "the environment".to_owned(),
            text: String::new(),
        };
        let context = Context::new(variables, directory);
        let config = Fields::empty(&context, &ROOT, nowhere());
        let config = sections(&config);
        finished(config, context, &source, None)
    }
}

fn nowhere() -> At {
    At {
        span: None,
        path: String::new(),
    }
}

fn finished(
    config: Option<Config>,
    context: Context<'_>,
    source: &SourceText,
    file: Option<PathBuf>,
) -> Result<Config, ConfigErrors> {
    let (findings, omitted) = context.into_findings();
    match config {
        Some(config) if findings.is_empty() => Ok(Config { file, ..config }),
        _ => {
            debug_assert!(
                !findings.is_empty(),
                "nothing was built and nothing was found wrong"
            );
            Err(ConfigErrors::new(
                &source.name,
                &source.text,
                findings,
                omitted,
            ))
        }
    }
}

fn check(context: &Context<'_>, node: &Node) -> Option<Config> {
    let top = At {
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
        At {
            span: Some(node.span),
            ..top
        },
        node,
    )?;
    sections(&root)
}

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
    let kept = entries
        .iter()
        .map(|(entry, applied)| (&entry.target, *applied));
    let kept = kept.chain(
        images
            .iter()
            .map(|(image, applied)| (&image.repository, *applied)),
    );
    let insecure = registry.as_ref().map_or(&[][..], |(_, insecure)| insecure);
    retention::check_archives(
        context,
        Addresses {
            hosts: &hosts,
            insecure,
        },
        kept,
        &configured,
    );

    let (registry, insecure_registries) = registry?;
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
