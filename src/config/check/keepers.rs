//! Check of the keys of `retention` that name images which others need. They apply to the whole
//! cleanup and are set in the general rules only.

use url::Url;

use super::reader::{Fields, Located, default_of};
use super::scalar::Scalar;
use crate::config::table::{KEEP_DEPLOYED, Shape};
use crate::config::{
    DeployedConfig, KeepSource, KeeperConfig, NamePattern, RegistryConfig, RegistryProvider,
    RepositoryPattern,
};
use crate::model::ImageReference;

/// Keys that overrides of an image or entry must not have.
const GENERAL_KEYS: [&str; 6] = [
    "repositories",
    "foreign_bases",
    "hold",
    "keep_from",
    "keep_deployed",
    "sources",
];

/// Reads the keys of the general rules.
pub(super) fn read(fields: &Fields<'_>) -> KeeperConfig {
    KeeperConfig {
        repositories: patterns(fields, "repositories"),
        foreign_bases: patterns(fields, "foreign_bases"),
        hold: fields
            .list("hold")
            .unwrap_or_default()
            .into_iter()
            .map(|image: Located<ImageReference>| image.value)
            .map(|image| image.resolved_below(fields.context.directory))
            .collect(),
        keep_from: keep_from(fields),
        keep_deployed: keep_deployed(fields),
        sources: fields
            .list("sources")
            .unwrap_or_default()
            .into_iter()
            .map(|source: Located<String>| source.value)
            .collect(),
    }
}

/// Reports keys of the general rules in the rules of an image or entry.
pub(super) fn reject(fields: &Fields<'_>) {
    for key in GENERAL_KEYS.into_iter().filter(|key| fields.has(key)) {
        fields.context.error(
            &fields.location(key),
            format!("`{key}` applies to the whole cleanup"),
            "move it to the `retention` at the top level of the file",
        );
    }
}

/// Reports that the deployments cannot be read from the forge in `registry`.
pub(super) fn check_forge(
    root: &Fields<'_>,
    keepers: Option<&KeeperConfig>,
    registry: Option<&RegistryConfig>,
) {
    let is_gitlab = registry
        .is_some_and(|registry| matches!(registry.provider, RegistryProvider::Gitlab { .. }));
    if keepers.is_some_and(|keepers| keepers.keep_deployed.is_some()) && !is_gitlab {
        root.context.error(
            &root.location("retention"),
            "`keep_deployed` needs the deployments of a GitLab server; Gitea and Forgejo have none",
            "remove it, or set `registry.provider: gitlab` and `registry.url`",
        );
    }
}

/// Returns the deployments whose images are kept.
fn keep_deployed(fields: &Fields<'_>) -> Option<DeployedConfig> {
    let section = fields
        .section("keep_deployed")
        .filter(|_| fields.has("keep_deployed"))?;
    section.require("environments");
    let items: Vec<Located<NamePattern>> = section.list("environments")?;
    if items.is_empty() {
        section.context.error(
            &section.location("environments"),
            "the list has no environment",
            "add one; `'*'` is all of them",
        );
    }
    let per_environment = section.optional("per_environment").map(|value| value.value);
    Some(DeployedConfig {
        environments: items.into_iter().map(|item| item.value).collect(),
        per_environment: per_environment
            .or_else(|| default_of(&KEEP_DEPLOYED, "per_environment"))?,
    })
}

/// Returns the lists of images that are in use.
fn keep_from(fields: &Fields<'_>) -> Vec<KeepSource> {
    let mut sources = Vec::new();
    for item in fields.list::<String>("keep_from").unwrap_or_default() {
        let is_url = ["http://", "https://"]
            .iter()
            .any(|scheme| item.value.starts_with(scheme));
        let source = match item.value.as_str() {
            "-" => KeepSource::StandardInput,
            text if is_url => match <Url as Scalar>::parse(text, &Shape::Url) {
                Ok(url) => KeepSource::Url(url),
                Err(problem) => {
                    fields.context.report(&item.at, problem);
                    continue;
                }
            },
            path => {
                let path = fields.context.directory.join(path);
                fields.context.check_inside(&path, &item.at);
                KeepSource::File(path)
            }
        };
        if sources.contains(&source) {
            fields
                .context
                .error(&item.at, "it is in the list twice", "remove one of the two");
        }
        sources.push(source);
    }
    sources
}

/// Returns the patterns of a list, with directories resolved against the directory of the file.
fn patterns(fields: &Fields<'_>, name: &str) -> Vec<RepositoryPattern> {
    let items: Vec<Located<RepositoryPattern>> = fields.list(name).unwrap_or_default();
    let resolved = items.into_iter().map(|item| {
        let directory = fields.context.directory.to_string_lossy();
        match item.value.text.strip_prefix("ocidir://") {
            Some(path) if !path.starts_with('/') => {
                let text = format!(
                    "ocidir://{}/{}",
                    globset::escape(directory.trim_end_matches('/')),
                    path.trim_start_matches("./")
                );
                RepositoryPattern::new(&text).unwrap_or(item.value)
            }
            _ => item.value,
        }
    });
    resolved.collect()
}
