//! Short forms of `sync`: `defaults` for every entry, several `sources` and `targets` in one entry,
//! and targets with placeholders.
//!
//! Rewrites the YAML tree before it is checked, so that each entry has one source and one target.
//! What cannot be rewritten stays as it is, and the check reports it.

use std::rc::Rc;

use super::raw::{YamlContent, YamlKey, YamlNode, YamlPair};
use super::table::ENTRY;
use crate::model::Repository;

/// Maximum number of entries after sources and targets were combined.
const MAX_ENTRIES: usize = 20_000;

/// Keys of `defaults` that do not apply to an entry with a fixed `tag`.
const SELECTION_KEYS: [&str; 12] = [
    "tag_regex",
    "semver",
    "include",
    "exclude_regex",
    "min_age",
    "prereleases",
    "sort",
    "keep_last",
    "per",
    "keep_groups",
    "count",
    "min_tags",
];

/// Returns the tree with short forms of `sync.entries` written out.
pub(super) fn expand(root: YamlNode) -> YamlNode {
    map_key(root, "sync", |sync| {
        let defaults: Vec<YamlPair> = match value(&sync, "defaults").map(|node| &node.content) {
            Some(YamlContent::Mapping(pairs)) => pairs.to_vec(),
            _ => Vec::new(),
        };
        map_key(sync, "entries", |entries| {
            let YamlContent::Sequence(items) = &entries.content else {
                return entries;
            };
            let expanded: Vec<YamlNode> = items
                .iter()
                .flat_map(|entry| expand_entry(entry, &defaults))
                .take(MAX_ENTRIES + 1)
                .collect();
            // Too many entries stay in their short form, which the check rejects.
            if expanded.len() > MAX_ENTRIES {
                return entries;
            }
            YamlNode {
                content: YamlContent::Sequence(expanded.into()),
                ..entries
            }
        })
    })
}

/// Returns a mapping with the value of `key` replaced; any other node unchanged.
fn map_key(node: YamlNode, key: &str, change: impl FnOnce(YamlNode) -> YamlNode) -> YamlNode {
    let YamlContent::Mapping(pairs) = &node.content else {
        return node;
    };
    let Some(position) = pairs.iter().position(|pair| &*pair.key.text == key) else {
        return node;
    };
    let mut pairs = pairs.to_vec();
    pairs[position].value = change(pairs[position].value.clone());
    YamlNode {
        content: YamlContent::Mapping(pairs.into()),
        ..node
    }
}

fn value<'a>(node: &'a YamlNode, key: &str) -> Option<&'a YamlNode> {
    match &node.content {
        YamlContent::Mapping(pairs) => pairs
            .iter()
            .find(|pair| &*pair.key.text == key)
            .map(|pair| &pair.value),
        _ => None,
    }
}

fn text(node: &YamlNode) -> Option<&str> {
    match &node.content {
        YamlContent::Scalar(text) => Some(text),
        _ => None,
    }
}

/// Returns an entry once for each pair of a source and a target, with the defaults.
fn expand_entry(entry: &YamlNode, defaults: &[YamlPair]) -> Vec<YamlNode> {
    let YamlContent::Mapping(own) = &entry.content else {
        return vec![entry.clone()];
    };
    let has = |key: &str| own.iter().any(|pair| &*pair.key.text == key);
    let is_fixed = has("tag");
    let inherited = defaults.iter().filter(|pair| {
        let key = &*pair.key.text;
        let is_other_selection = is_fixed && SELECTION_KEYS.contains(&key);
        // The check of `defaults` reports other keys.
        ENTRY.key(key).is_some()
            && !has(key)
            && !is_other_selection
            && (key != "tag" || !selects_several(own))
    });
    let pairs: Vec<YamlPair> = own.iter().chain(inherited).cloned().collect();
    let sources = alternatives(&pairs, "source", "sources");
    let targets = alternatives(&pairs, "target", "targets");
    let (Some(sources), Some(targets)) = (sources, targets) else {
        return vec![YamlNode {
            content: YamlContent::Mapping(pairs.into()),
            ..entry.clone()
        }];
    };
    let others: Vec<YamlPair> = pairs
        .iter()
        .filter(|pair| !["source", "sources", "target", "targets"].contains(&&*pair.key.text))
        .cloned()
        .collect();
    let tag = others
        .iter()
        .find(|pair| &*pair.key.text == "tag")
        .and_then(|pair| text(&pair.value))
        .map(|tag| tag.split('@').next().unwrap_or(tag).to_owned());
    let mut entries = Vec::new();
    for source in &sources {
        for target in &targets {
            let mut pairs = vec![
                source.clone(),
                render_target(target, source, tag.as_deref()),
            ];
            pairs.extend(others.iter().cloned());
            entries.push(YamlNode {
                content: YamlContent::Mapping(pairs.into()),
                ..entry.clone()
            });
        }
    }
    entries
}

fn selects_several(pairs: &[YamlPair]) -> bool {
    pairs
        .iter()
        .any(|pair| matches!(&*pair.key.text, "tag_regex" | "semver" | "include"))
}

/// Returns the pairs `one: value` for each value of the list `several`, or of `one` itself. `None`
/// if both are set, neither is, or the list is not one of strings.
fn alternatives(pairs: &[YamlPair], one: &str, several: &str) -> Option<Vec<YamlPair>> {
    let find = |key: &str| pairs.iter().find(|pair| &*pair.key.text == key);
    match (find(one), find(several)) {
        (Some(pair), None) => Some(vec![pair.clone()]),
        (None, Some(pair)) => {
            let YamlContent::Sequence(items) = &pair.value.content else {
                return None;
            };
            let pairs = items.iter().map(|item| {
                text(item)?;
                Some(YamlPair {
                    key: YamlKey {
                        text: one.into(),
                        span: pair.key.span,
                    },
                    value: item.clone(),
                })
            });
            pairs
                .collect::<Option<Vec<YamlPair>>>()
                .filter(|pairs| !pairs.is_empty())
        }
        _ => None,
    }
}

/// Returns the target with its placeholders replaced by parts of the source.
fn render_target(target: &YamlPair, source: &YamlPair, tag: Option<&str>) -> YamlPair {
    let (Some(format), Some(source)) = (text(&target.value), text(&source.value)) else {
        return target.clone();
    };
    if !format.contains("{{") {
        return target.clone();
    }
    let (host, path) = host_and_path(source);
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut rendered = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((placeholder, after)) = after.split_once("}}") else {
            break;
        };
        let value = match placeholder.trim() {
            "name" => Some(name),
            "path" => Some(path.as_str()),
            "host" => Some(host.as_str()),
            "tag" => tag,
            _ => None,
        };
        rendered.push_str(before);
        if let Some(value) = value {
            rendered.push_str(value);
        } else {
            rendered.push_str("{{");
            rendered.push_str(placeholder);
            rendered.push_str("}}");
        }
        rest = after;
    }
    rendered.push_str(rest);
    YamlPair {
        value: YamlNode {
            content: YamlContent::Scalar(Rc::from(rendered)),
            ..target.value.clone()
        },
        ..target.clone()
    }
}

/// Returns the host and the path of a source. A directory has no host.
fn host_and_path(source: &str) -> (String, String) {
    match source.parse::<Repository>() {
        Ok(Repository::Remote { host, path }) => (host.to_string(), path.to_string()),
        Ok(Repository::Layout { directory }) => {
            (String::new(), directory.to_string_lossy().into_owned())
        }
        // A variable stands for the host or the path.
        Err(_) => match source.split_once('/') {
            Some((host, path)) => (host.to_owned(), path.to_owned()),
            None => (String::new(), source.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, SourceText, load};
    use crate::config::TagSelection;
    use crate::model::Variables;

    fn loaded(text: &str) -> Result<Config, String> {
        let source = SourceText {
            name: "imglife.yaml".to_owned(),
            text: text.to_owned(),
        };
        load(&source, Path::new("/project"), &Variables::default())
            .map_err(|errors| errors.to_string())
    }

    /// Returns each entry as `source -> target selection`.
    fn entries(text: &str) -> Vec<String> {
        let config = loaded(text).expect("a configuration");
        config
            .sync
            .expect("a section")
            .entries
            .iter()
            .map(|entry| {
                let selection = match &entry.selection {
                    TagSelection::Fixed(tag) => tag.to_string(),
                    TagSelection::Pattern(pattern) => {
                        format!("{} {:?}", pattern.describe(), pattern.keep_last)
                    }
                };
                format!("{} -> {} {selection}", entry.source, entry.target)
            })
            .collect()
    }

    #[test]
    fn defaults_apply_to_entries_that_do_not_set_the_key() {
        let text = "sync:\n  defaults: { keep_last: 3, referrers: false }\n  entries:\n    - { source: alpine, target: r.example/a, tag_regex: '3.*' }\n    - { source: alpine, target: r.example/b, tag_regex: '3.*', keep_last: 5 }\n    - { source: alpine, target: r.example/c, tag: '3' }\n";
        assert_eq!(
            entries(text),
            [
                "docker.io/library/alpine -> r.example/a tag_regex: 3.* Some(3)",
                "docker.io/library/alpine -> r.example/b tag_regex: 3.* Some(5)",
                "docker.io/library/alpine -> r.example/c 3",
            ]
        );
        let config = loaded(text).expect("a configuration");
        let sync = config.sync.expect("a section");
        assert!(sync.entries.iter().all(|entry| !entry.referrers));
        let unknown = "sync:\n  defaults: { keep_lst: 3 }\n  entries:\n    - { source: alpine, target: r.example/a, tag: '3' }\n";
        let error = loaded(unknown).expect_err("an unknown key");
        assert!(error.contains("keep_lst"), "{error}");
    }

    #[test]
    fn sources_and_targets_are_combined_and_placeholders_replaced() {
        let text = "sync:\n  entries:\n    - sources: [alpine, quay.io/team/app]\n      targets: ['r.example/mirrors/{{ name }}', 'r.example/{{ host }}/{{ path }}']\n      tag: '3'\n    - { source: alpine, target: 'r.example/x/{{ name }}-{{ tag }}', tag: '3.21' }\n";
        assert_eq!(
            entries(text),
            [
                "docker.io/library/alpine -> r.example/mirrors/alpine 3",
                "docker.io/library/alpine -> r.example/docker.io/library/alpine 3",
                "quay.io/team/app -> r.example/mirrors/app 3",
                "quay.io/team/app -> r.example/quay.io/team/app 3",
                "docker.io/library/alpine -> r.example/x/alpine-3.21 3.21",
            ]
        );
    }

    #[test]
    fn wrong_short_forms_are_reported() {
        for (keys, expected) in [
            (
                "source: alpine, sources: [busybox], target: r.example/a",
                "`source` and `sources` are both set",
            ),
            ("sources: [], target: r.example/a", "the list is empty"),
            (
                "source: alpine, target: 'r.example/{{ nickname }}'",
                "{{ nickname }}",
            ),
        ] {
            let text = format!("sync:\n  entries:\n    - {{ {keys}, tag: '3' }}\n");
            let error = loaded(&text).expect_err(keys);
            assert!(error.contains(expected), "{keys}: {error}");
        }
    }
}
