//! Check of the keys of `retention` that name images which others need. They apply to the whole
//! cleanup and are set in the general rules only.

use url::Url;

use super::reader::{Fields, Located};
use super::scalar::Scalar;
use crate::config::table::Shape;
use crate::config::{KeepSource, KeeperConfig, RepositoryPattern};
use crate::model::ImageReference;

/// Keys that overrides of an image or entry must not have.
const GENERAL_KEYS: [&str; 4] = ["foreign_bases", "hold", "keep_from", "sources"];

/// Reads the keys of the general rules.
pub(super) fn read(fields: &Fields<'_>) -> KeeperConfig {
    KeeperConfig {
        foreign_bases: patterns(fields, "foreign_bases"),
        hold: fields
            .list("hold")
            .unwrap_or_default()
            .into_iter()
            .map(|image: Located<ImageReference>| image.value)
            .map(|image| image.resolved_below(fields.context.directory))
            .collect(),
        keep_from: keep_from(fields),
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
            path => KeepSource::File(fields.context.directory.join(path)),
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
