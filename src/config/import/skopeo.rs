//! Files of `skopeo sync --src yaml` (containers/skopeo, docs/skopeo-sync.1.md).

use super::output::{ImportedConfig, ImportedEntry, unanchored};
use super::tree::Tree;

pub(super) fn convert(root: &Tree<'_>, target_prefix: &str) -> ImportedConfig {
    let mut config = ImportedConfig::default();
    config.remarks.push(format!(
        "skopeo sync takes its destination from the command line; the targets here start with {target_prefix}"
    ));
    for (host, registry) in root.pairs() {
        for (key, value) in registry.pairs() {
            match key {
                "images" | "images-by-tag-regex" | "images-by-semver" => {}
                "tls-verify" if value.text() == Some("false") => config.hosts.push((
                    host.to_owned(),
                    "insecure_skip_verify",
                    "true".to_owned(),
                )),
                "tls-verify" => {}
                "credentials" => config.remarks.push(format!(
                    "credentials of {host}: log in with `docker login`, or set IMGLIFE_<HOST>_USERNAME and IMGLIFE_<HOST>_PASSWORD"
                )),
                "cert-dir" => config.remarks.push(format!(
                    "`cert-dir` of {host}: set `hosts.<host>.ca_file`, `client_cert` and `client_key`"
                )),
                _ => config.remarks.push(format!("`{key}` of {host} has no equivalent")),
            }
        }
        let entry = |image: &str| ImportedEntry {
            source: format!("{host}/{image}"),
            target: format!("{target_prefix}/{image}"),
            ..ImportedEntry::default()
        };
        for (image, tags) in registry.get("images").pairs() {
            let mut converted = entry(image);
            for tag in tags.texts() {
                if tag.starts_with("sha256:") {
                    converted.remarks.push(format!(
                        "the digest {tag} has no tag: write `tag: TAG@{tag}`"
                    ));
                } else {
                    converted.tags.push(tag.to_owned());
                }
            }
            if tags.texts().is_empty() {
                converted.tag_regex = Some(".*".to_owned());
            }
            if !converted.tags.is_empty() || converted.tag_regex.is_some() {
                config.entries.push(converted);
            } else {
                let source = &converted.source;
                let remarks = converted
                    .remarks
                    .iter()
                    .map(|remark| format!("{source}: {remark}"));
                config.remarks.extend(remarks);
            }
        }
        for (image, pattern) in registry.get("images-by-tag-regex").pairs() {
            config.entries.push(ImportedEntry {
                tag_regex: pattern.text().map(unanchored),
                ..entry(image)
            });
        }
        for (image, range) in registry.get("images-by-semver").pairs() {
            config.entries.push(ImportedEntry {
                semver: range.text().map(str::to_owned),
                ..entry(image)
            });
        }
    }
    config
}
