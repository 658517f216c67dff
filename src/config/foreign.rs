//! The configuration of another repository: a stranger's text, read for what it says of its images.
//!
//! It is expanded with the variables of its own project only, never with those of this run. What
//! cannot be understood that way makes its entry unknown and nothing else: a newer version of this
//! program may have written it. Registries, hosts, hooks and retention are not looked at.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use super::check::load_tree;
use super::errors::{ConfigErrors, Finding};
use super::raw::{self, Content, Node};
use super::{Config, SourceText};
use crate::model::Variables;
use crate::model::text::excerpt;

/// The sections that say something of images.
const SECTIONS: [&str; 3] = ["build", "sync", "lifecycle"];

/// The lists whose items stand for themselves.
const LISTS: [(&str, &str); 2] = [("build", "images"), ("sync", "entries")];

/// How often items are left out before the text counts as wrong in itself.
const MOST_ROUNDS: usize = 20;

/// A configuration, and what of it is not known.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub config: Config,
    /// Items that were left out, each with the reason.
    pub left_out: Vec<String>,
}

/// Returns what the text says of its images. `variables` are those of the project that it belongs
/// to, as far as they are known.
///
/// # Errors
/// Fails when the text is no YAML, or when something is wrong with it that does not belong to one
/// image or entry.
pub fn load_foreign(source: &SourceText, variables: &Variables) -> Result<Foreign, ConfigErrors> {
    let node = raw::read(&source.text)
        .map_err(|finding| ConfigErrors::new(&source.name, &source.text, vec![finding], 0))?;
    let mut node = only_sections(node);
    let mut left_out = BTreeSet::new();
    let mut rounds = 0;
    // Leaving out an item can make another wrong that is built on it.
    loop {
        let errors = match load_tree(&node, source, Path::new(""), variables) {
            Ok(config) => {
                return Ok(Foreign {
                    config,
                    left_out: left_out.into_iter().collect(),
                });
            }
            Err(errors) => errors,
        };
        rounds += 1;
        let wrong: BTreeSet<Item> = errors.findings.iter().filter_map(Item::of).collect();
        if rounds > MOST_ROUNDS
            || wrong.is_empty()
            || errors
                .findings
                .iter()
                .any(|finding| Item::of(finding).is_none())
        {
            return Err(errors);
        }
        for finding in &errors.findings {
            let line = finding
                .span
                .map(|span| format!(", line {}", span.line))
                .unwrap_or_default();
            left_out.insert(format!(
                "{}{line}: {}",
                source.name,
                excerpt(&finding.message, 200)
            ));
        }
        node = without(&node, &wrong);
    }
}

/// An item of one of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    list: usize,
    position: usize,
}

impl Item {
    /// Returns the item that a finding is about, by its path: `build.images[2].mirror_tag`.
    fn of(finding: &Finding) -> Option<Item> {
        LISTS.iter().enumerate().find_map(|(list, (section, key))| {
            let rest = finding
                .path
                .strip_prefix(section)?
                .strip_prefix('.')?
                .strip_prefix(key)?
                .strip_prefix('[')?;
            Some(Item {
                list,
                position: rest.split(']').next()?.parse().ok()?,
            })
        })
    }
}

/// Returns the tree with the sections that matter, and without hooks.
fn only_sections(node: Node) -> Node {
    filtered(node, |key| SECTIONS.contains(&key), &|section| {
        let section = filtered(section, |key| key != "hooks", &|value| value);
        match section.content {
            Content::Mapping(pairs) => {
                let pairs = pairs.iter().cloned().map(|mut pair| {
                    if let Content::Sequence(items) = &pair.value.content {
                        let items = items.iter().cloned().map(|item| {
                            filtered(
                                item,
                                |key| !matches!(key, "hooks" | "retention"),
                                &|value| value,
                            )
                        });
                        pair.value.content = Content::Sequence(items.collect());
                    }
                    pair
                });
                Node {
                    content: Content::Mapping(pairs.collect()),
                    ..section
                }
            }
            _ => section,
        }
    })
}

fn filtered(node: Node, keeps: impl Fn(&str) -> bool, change: &dyn Fn(Node) -> Node) -> Node {
    let Content::Mapping(pairs) = &node.content else {
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
    Node {
        span: node.span,
        content: Content::Mapping(kept.collect::<Rc<[_]>>()),
    }
}

fn without(node: &Node, wrong: &BTreeSet<Item>) -> Node {
    let mut node = node.clone();
    for (list, (section, key)) in LISTS.iter().enumerate() {
        node = changed(&node, section, &|node| {
            changed(node, key, &|node| {
                let Content::Sequence(items) = &node.content else {
                    return node.clone();
                };
                let kept = items.iter().enumerate().filter(|(position, _)| {
                    !wrong.contains(&Item {
                        list,
                        position: *position,
                    })
                });
                Node {
                    span: node.span,
                    content: Content::Sequence(kept.map(|(_, item)| item.clone()).collect()),
                }
            })
        });
    }
    node
}

/// Returns the mapping with another value under `key`.
fn changed(node: &Node, key: &str, change: &dyn Fn(&Node) -> Node) -> Node {
    let Content::Mapping(pairs) = &node.content else {
        return node.clone();
    };
    let pairs = pairs.iter().cloned().map(|mut pair| {
        if &*pair.key.text == key {
            pair.value = change(&pair.value);
        }
        pair
    });
    Node {
        span: node.span,
        content: Content::Mapping(pairs.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Foreign, ConfigErrors> {
        let source = SourceText {
            name: "their imglife.yaml".to_owned(),
            text: text.to_owned(),
        };
        load_foreign(&source, &variables.iter().copied().collect())
    }

    fn names(foreign: &Foreign) -> Vec<String> {
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
    fn variables_of_its_project_are_known_and_others_make_their_entry_unknown() {
        let foreign = load(TEXT, &[("CI_REGISTRY_IMAGE", "r.example/base")]).expect("read");
        assert_eq!(names(&foreign), ["r.example/base/bases/alpine:3.21.3"]);
        assert_eq!(foreign.config.sync.expect("a section").entries.len(), 1);
        assert_eq!(
            foreign.config.hosts.len() + foreign.config.insecure_registries.len(),
            0
        );
        assert!(foreign.config.registry.is_none());
        let left_out = foreign.left_out.join("\n");
        for reason in [
            "line 9: the variable `OTHER_PLACE` is not set",
            "line 15: the variable `BUSYBOX`",
            "line 16: unknown key",
            "line 17: refers to `MY_TOKEN`",
        ] {
            assert!(left_out.contains(reason), "{left_out}");
        }
    }

    #[test]
    fn what_all_images_need_must_be_known() {
        let error = load(TEXT, &[]).expect_err("no registry");
        assert!(error.to_string().contains("CI_REGISTRY_IMAGE"), "{error}");
        assert!(load("[", &[]).is_err());
    }

    #[test]
    fn a_file_without_images_is_read() {
        assert!(load("", &[]).expect("read").config.build.is_none());
        assert!(
            load("sync: { entries: [] }", &[]).is_ok_and(|foreign| foreign.left_out.is_empty())
        );
    }
}
