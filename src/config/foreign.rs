//! The configuration of another repository, from which the images of that repository are read.
//!
//! The text is untrusted. References are expanded only with the variables of that project, never
//! with those of this run. An image or entry that cannot be read is skipped, because a newer
//! version of imglife may have written it. Registries, hosts, hooks and retention are ignored.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use super::check::load_tree;
use super::entries::expand;
use super::errors::{ConfigErrors, ConfigFinding};
use super::raw::{self, YamlContent, YamlNode};
use super::{Config, SourceText};
use crate::model::Variables;
use crate::model::text::excerpt;

/// The sections that describe images.
const SECTIONS: [&str; 3] = ["build", "sync", "lifecycle"];

/// The lists whose items are independent of each other, by section and key.
const LISTS: [(&str, &str); 2] = [("build", "images"), ("sync", "entries")];

/// Maximum number of times that invalid items are removed before the whole text is rejected.
const MAX_ROUNDS: usize = 20;

/// The configuration of another repository, without the items that cannot be read.
#[derive(Clone, Debug)]
pub struct ForeignConfig {
    /// The readable part of the configuration.
    pub config: Config,
    /// Errors in the items that were skipped.
    pub skipped: Vec<String>,
}

/// Reads the images in the configuration of another repository.
///
/// `variables` are the known variables of the project that owns the configuration.
///
/// # Errors
/// Fails if the text is not valid YAML, or if it has an error outside of a single image or entry.
pub fn load_foreign(
    source: &SourceText,
    variables: &Variables,
) -> Result<ForeignConfig, ConfigErrors> {
    let node = raw::read(&source.text)
        .map_err(|finding| ConfigErrors::new(&source.name, &source.text, vec![finding], 0))?;
    let mut node = expand(only_sections(node));
    let mut skipped = BTreeSet::new();
    let mut rounds = 0;
    // Removing an item can make another item invalid that refers to it.
    loop {
        let errors = match load_tree(&node, source, Path::new(""), variables) {
            Ok(config) => {
                return Ok(ForeignConfig {
                    config,
                    skipped: skipped.into_iter().collect(),
                });
            }
            Err(errors) => errors,
        };
        rounds += 1;
        let invalid: BTreeSet<ListItem> = errors.findings.iter().filter_map(ListItem::of).collect();
        if rounds > MAX_ROUNDS
            || invalid.is_empty()
            || errors
                .findings
                .iter()
                .any(|finding| ListItem::of(finding).is_none())
        {
            return Err(errors);
        }
        for finding in &errors.findings {
            let line = finding
                .span
                .map(|span| format!(", line {}", span.line))
                .unwrap_or_default();
            skipped.insert(format!(
                "{}{line}: {}",
                source.name,
                excerpt(&finding.message, 200)
            ));
        }
        node = without(&node, &invalid);
    }
}

/// An item in one of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListItem {
    /// Index in [`LISTS`].
    list: usize,
    position: usize,
}

impl ListItem {
    /// Returns the item that contains the key of a finding, such as `build.images[2].mirror_tag`.
    fn of(finding: &ConfigFinding) -> Option<ListItem> {
        LISTS.iter().enumerate().find_map(|(list, (section, key))| {
            let rest = finding
                .path
                .strip_prefix(section)?
                .strip_prefix('.')?
                .strip_prefix(key)?
                .strip_prefix('[')?;
            Some(ListItem {
                list,
                position: rest.split(']').next()?.parse().ok()?,
            })
        })
    }
}

/// Returns the tree with only the sections in [`SECTIONS`], without hooks and retention.
fn only_sections(node: YamlNode) -> YamlNode {
    filtered(node, |key| SECTIONS.contains(&key), &|section| {
        let section = filtered(section, |key| key != "hooks", &|value| value);
        match section.content {
            YamlContent::Mapping(pairs) => {
                let pairs = pairs.iter().cloned().map(|mut pair| {
                    if let YamlContent::Sequence(items) = &pair.value.content {
                        let items = items.iter().cloned().map(|item| {
                            filtered(
                                item,
                                |key| !matches!(key, "hooks" | "retention"),
                                &|value| value,
                            )
                        });
                        pair.value.content = YamlContent::Sequence(items.collect());
                    }
                    pair
                });
                YamlNode {
                    content: YamlContent::Mapping(pairs.collect()),
                    ..section
                }
            }
            _ => section,
        }
    })
}

/// Returns the mapping with only the keys that `keeps` accepts, their values mapped by `change`.
fn filtered(
    node: YamlNode,
    keeps: impl Fn(&str) -> bool,
    change: &dyn Fn(YamlNode) -> YamlNode,
) -> YamlNode {
    let YamlContent::Mapping(pairs) = &node.content else {
        return node;
    };
    let kept = pairs
        .iter()
        .filter(|pair| keeps(&pair.key.text))
        .cloned()
        .map(|mut pair| {
            pair.value = change(pair.value);
            pair
        });
    YamlNode {
        span: node.span,
        content: YamlContent::Mapping(kept.collect::<Rc<[_]>>()),
    }
}

/// Returns the tree without the items in `invalid`.
fn without(node: &YamlNode, invalid: &BTreeSet<ListItem>) -> YamlNode {
    let mut node = node.clone();
    for (list, (section, key)) in LISTS.iter().enumerate() {
        node = changed(&node, section, &|node| {
            changed(node, key, &|node| {
                let YamlContent::Sequence(items) = &node.content else {
                    return node.clone();
                };
                let kept = items.iter().enumerate().filter(|(position, _)| {
                    !invalid.contains(&ListItem {
                        list,
                        position: *position,
                    })
                });
                YamlNode {
                    span: node.span,
                    content: YamlContent::Sequence(kept.map(|(_, item)| item.clone()).collect()),
                }
            })
        });
    }
    node
}

/// Returns the mapping with the value of `key` mapped by `change`.
fn changed(node: &YamlNode, key: &str, change: &dyn Fn(&YamlNode) -> YamlNode) -> YamlNode {
    let YamlContent::Mapping(pairs) = &node.content else {
        return node.clone();
    };
    let pairs = pairs.iter().cloned().map(|mut pair| {
        if &*pair.key.text == key {
            pair.value = change(&pair.value);
        }
        pair
    });
    YamlNode {
        span: node.span,
        content: YamlContent::Mapping(pairs.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<ForeignConfig, ConfigErrors> {
        let source = SourceText {
            name: "their imglife.yaml".to_owned(),
            text: text.to_owned(),
        };
        load_foreign(&source, &variables.iter().copied().collect())
    }

    fn names(foreign: &ForeignConfig) -> Vec<String> {
        let images = &foreign.config.build.as_ref().expect("a section").images;
        images
            .iter()
            .map(|image| {
                format!(
                    "{}:{}",
                    image.repository,
                    image.version.as_deref().unwrap_or("?")
                )
            })
            .collect()
    }

    const TEXT: &str = "\
registry: { provider: nonsense, url: $CI_SERVER_URL }
hosts: { $HOST: { endpoint: 7 } }
retention: { keep_last: $X }
unheard_of: { a: b }
sync:
  hooks: { post_sync: [rm -rf /] }
  entries:
    - { source: alpine, target: $CI_REGISTRY_IMAGE/mirrors/alpine, tag: '3.21.3', hooks: { post_sync: [rm] } }
    - { source: busybox, target: $OTHER_PLACE/busybox, tag: '1' }
build:
  core_version: 1.0.0
  registry: $CI_REGISTRY_IMAGE/bases
  images:
    - { name: alpine, folder: a, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/alpine, version: 3.21.3, hooks: { post_image_build: [rm] } }
    - { name: busybox, folder: a, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/busybox, version: $BUSYBOX }
    - { name: newer, folder: a, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/x, version: 1, sealed: true }
    - { name: token, folder: a, type: core, mirror_image: r.example/x, version: '${MY_TOKEN:-1}' }
";

    #[test]
    fn load_foreign_skips_entries_with_unknown_variables() {
        let foreign = load(TEXT, &[("CI_REGISTRY_IMAGE", "r.example/base")]).expect("read");
        assert_eq!(names(&foreign), ["r.example/base/bases/alpine:3.21.3"]);
        assert_eq!(foreign.config.sync.expect("a section").entries.len(), 1);
        assert_eq!(
            foreign.config.hosts.len() + foreign.config.insecure_registries.len(),
            0
        );
        assert!(foreign.config.registry.is_none());
        let skipped = foreign.skipped.join("\n");
        for reason in [
            "line 9: the environment variable `OTHER_PLACE` is not set",
            "line 15: the environment variable `BUSYBOX`",
            "line 16: unknown key",
            "line 17: the environment variable `MY_TOKEN` is named like a secret",
        ] {
            assert!(skipped.contains(reason), "{skipped}");
        }
    }

    #[test]
    fn load_foreign_fails_for_errors_outside_of_an_entry() {
        let error = load(TEXT, &[]).expect_err("no registry");
        assert!(error.to_string().contains("CI_REGISTRY_IMAGE"), "{error}");
        assert!(load("[", &[]).is_err());
    }

    #[test]
    fn load_foreign_accepts_a_file_without_images() {
        assert!(load("", &[]).expect("read").config.build.is_none());
        assert!(load("sync: { entries: [] }", &[]).is_ok_and(|foreign| foreign.skipped.is_empty()));
    }
}
