//! Image files of image-syncer (AliyunContainerService/image-syncer, README): a mapping of sources
//! to targets.

use super::output::{ImportedConfig, ImportedEntry, repository_and_tag, unanchored};
use super::tree::Tree;

pub(super) fn convert(root: &Tree<'_>) -> ImportedConfig {
    let mut config = ImportedConfig::default();
    config
        .remarks
        .push("credentials of an auth file: log in with `docker login`".to_owned());
    for (source, targets) in root.pairs() {
        for target in targets.texts() {
            convert_pair(source, target, &mut config);
        }
    }
    config
}

fn convert_pair(source: &str, target: &str, config: &mut ImportedConfig) {
    if source.contains('@') {
        config.remarks.push(format!(
            "{source}: write `tag: TAG@sha256:…` for an image with a digest"
        ));
        return;
    }
    // A pattern follows the first colon after the last slash before it: `repository:/a+/`.
    let pattern = source
        .split_once(":/")
        .and_then(|(repository, pattern)| Some((repository, pattern.strip_suffix('/')?)));
    let (target_repository, target_tag) = repository_and_tag(target);
    if let Some((repository, pattern)) = pattern {
        config.entries.push(ImportedEntry {
            source: repository.to_owned(),
            target: target_repository.to_owned(),
            tag_regex: Some(unanchored(pattern)),
            ..ImportedEntry::default()
        });
        return;
    }
    let (repository, tags) = repository_and_tag(source);
    let tags: Vec<String> = tags
        .iter()
        .flat_map(|tags| tags.split(','))
        .map(str::to_owned)
        .collect();
    if let (Some(target_tag), [tag]) = (target_tag, tags.as_slice())
        && target_tag != tag
    {
        config.remarks.push(format!(
            "{source} has another tag at its target: run `imglife copy {source} {target}`"
        ));
        return;
    }
    let entry = ImportedEntry {
        source: repository.to_owned(),
        target: target_repository.to_owned(),
        ..ImportedEntry::default()
    };
    if tags.is_empty() {
        config.entries.push(ImportedEntry {
            tag_regex: Some(".*".to_owned()),
            ..entry
        });
    } else {
        config.add(ImportedEntry { tags, ..entry });
    }
}
