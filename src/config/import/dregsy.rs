//! Files of dregsy (xelalexv/dregsy, README).

use super::output::{ImportedConfig, ImportedEntry, any_of, unanchored};
use super::tree::Tree;

pub(super) fn convert(root: &Tree<'_>) -> ImportedConfig {
    let mut config = ImportedConfig::default();
    for (key, _) in root.pairs() {
        if !["tasks", "relay"].contains(&key) {
            config.remarks.push(format!("`{key}` has no equivalent"));
        }
    }
    for task in root.get("tasks").items() {
        convert_task(task, &mut config);
    }
    config
}

fn convert_task(task: Tree<'_>, config: &mut ImportedConfig) {
    let name = task.get("name").text().unwrap_or("without a name");
    if task.get("interval").text().is_some() {
        config.remarks.push(format!(
            "`interval` of the task {name}: run `imglife sync` on a schedule of the CI server or cron"
        ));
    }
    let mut registry = |side: &str| {
        let side = task.get(side);
        let host = side.get("registry").text().unwrap_or_default().to_owned();
        if ["auth", "auth-refresh"]
            .into_iter()
            .any(|key| side.get(key).text().is_some())
        {
            let remark = format!(
                "credentials of {host}: log in with `docker login`, or set IMGLIFE_<HOST>_USERNAME and IMGLIFE_<HOST>_PASSWORD"
            );
            if !config.remarks.contains(&remark) {
                config.remarks.push(remark);
            }
        }
        if side.get("skip-tls-verify").is_true() {
            let setting = (host.clone(), "insecure_skip_verify", "true".to_owned());
            if !config.hosts.contains(&setting) {
                config.hosts.push(setting);
            }
        }
        host
    };
    let (source, target) = (registry("source"), registry("target"));
    for mapping in task.get("mappings").items() {
        let Some(from) = mapping.get("from").text() else {
            continue;
        };
        if from.starts_with("regex:") {
            config.remarks.push(format!(
                "{from} in the task {name}: list the repositories in `sources`"
            ));
            continue;
        }
        let to = mapping.get("to").text().unwrap_or(from);
        let path = |host: &str, path: &str| format!("{host}/{}", path.trim_start_matches('/'));
        let entry = ImportedEntry {
            source: path(&source, from),
            target: path(&target, to),
            platforms: mapping
                .get("platform")
                .text()
                .filter(|platform| *platform != "all")
                .map(str::to_owned)
                .into_iter()
                .collect(),
            ..ImportedEntry::default()
        };
        config
            .entries
            .push(with_tags(entry, &mapping.get("tags").texts()));
    }
}

/// Adds the tags of a mapping: literal tags, `semver:`, `regex:` and `keep:`.
fn with_tags(mut entry: ImportedEntry, tags: &[&str]) -> ImportedEntry {
    let mut patterns = Vec::new();
    let mut ranges = Vec::new();
    for tag in tags {
        match tag
            .split_once(':')
            .map(|(kind, value)| (kind, value.trim()))
        {
            Some(("semver", range)) => ranges.push(range.to_owned()),
            Some(("regex", pattern)) => match pattern.strip_prefix('!') {
                Some(excluded) => {
                    entry.exclude_regex = any_of(
                        &entry
                            .exclude_regex
                            .into_iter()
                            .chain([unanchored(excluded.trim())])
                            .collect::<Vec<_>>(),
                    );
                }
                None => patterns.push(unanchored(pattern)),
            },
            Some(("keep", rule)) => match rule.strip_prefix("latest").map(str::trim) {
                Some(number) if number.parse::<usize>().is_ok() => {
                    entry.keep_last = Some(number.to_owned());
                }
                _ => entry
                    .remarks
                    .push(format!("`keep: {rule}` has no equivalent")),
            },
            _ => entry.tags.push((*tag).to_owned()),
        }
    }
    entry.tag_regex = any_of(&patterns);
    if !ranges.is_empty() {
        if entry.tag_regex.is_some() {
            entry.remarks.push(format!(
                "`semver: {}` is left out, because `regex` selects tags besides it; add an entry with `semver`",
                ranges.join(", ")
            ));
        } else {
            entry.semver = Some(ranges.join(" || "));
        }
    }
    if entry.tags.is_empty() && entry.tag_regex.is_none() && entry.semver.is_none() {
        entry.tag_regex = Some(".*".to_owned());
    }
    if entry.tag_regex.is_none() && entry.semver.is_none() {
        entry.keep_last = None;
    }
    entry
}
