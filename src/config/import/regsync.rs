//! Files of regsync (regclient, `cmd/regsync/config.go`).

use super::output::{ImportedConfig, ImportedEntry, any_of, repository_and_tag};
use super::tree::Tree;

/// Keys of a step that the conversion reads, or that need none.
const READ_KEYS: [&str; 12] = [
    "source",
    "target",
    "type",
    "tags",
    "tagSets",
    "platform",
    "platforms",
    "backup",
    "referrers",
    "digestTags",
    "fastCopy",
    "forceRecursive",
];

pub(super) fn convert(root: &Tree<'_>) -> ImportedConfig {
    let mut config = ImportedConfig::default();
    credentials(root, &mut config);
    let defaults = root.get("defaults");
    config.parallelism = defaults.get("parallel").text().map(str::to_owned);
    let keep_replaced = defaults.get("backup").text().map(|_| true);
    for (key, _) in defaults.pairs() {
        if !["parallel", "backup", "referrers", "digestTags", "fastCopy"].contains(&key) {
            config
                .remarks
                .push(format!("`defaults.{key}` has no equivalent"));
        }
    }
    for step in root.get("sync").items() {
        convert_step(step, keep_replaced, &mut config);
    }
    config
}

/// Converts `creds`. Credentials themselves are never written to the file.
fn credentials(root: &Tree<'_>, config: &mut ImportedConfig) {
    for credential in root.get("creds").items() {
        let Some(host) = credential.get("registry").text() else {
            continue;
        };
        if credential.get("user").text().is_some() || credential.get("pass").text().is_some() {
            config.remarks.push(format!(
                "credentials of {host}: log in with `docker login`, or set IMGLIFE_<HOST>_USERNAME and IMGLIFE_<HOST>_PASSWORD"
            ));
        }
        match credential.get("tls").text() {
            Some("disabled") => {
                config
                    .hosts
                    .push((host.to_owned(), "endpoint", format!("'http://{host}'")));
            }
            Some("insecure") => {
                config
                    .hosts
                    .push((host.to_owned(), "insecure_skip_verify", "true".to_owned()));
            }
            _ => {}
        }
        for (key, setting) in [
            ("reqPerSec", "requests_per_second"),
            ("reqConcurrent", "max_connections"),
        ] {
            if let Some(value) = credential.get(key).text() {
                config
                    .hosts
                    .push((host.to_owned(), setting, value.to_owned()));
            }
        }
        for (key, _) in credential.pairs() {
            let known = [
                "registry",
                "user",
                "pass",
                "tls",
                "reqPerSec",
                "reqConcurrent",
                "repoAuth",
            ];
            if !known.contains(&key) {
                config
                    .remarks
                    .push(format!("`creds.{key}` of {host} has no equivalent"));
            }
        }
    }
}

fn convert_step(step: Tree<'_>, keep_replaced: Option<bool>, config: &mut ImportedConfig) {
    let (Some(source), Some(target)) = (step.get("source").text(), step.get("target").text())
    else {
        config
            .remarks
            .push("a step without a source or a target was left out".to_owned());
        return;
    };
    let mut remarks = Vec::new();
    let source = variables(source, &mut remarks);
    let target = variables(target, &mut remarks);
    for (key, _) in step.pairs() {
        if !READ_KEYS.contains(&key) {
            remarks.push(match key {
                "mediaTypes" => "`mediaTypes` has no equivalent; `skip_unsupported: true` skips what cannot be copied".to_owned(),
                "interval" | "schedule" => format!("`{key}`: run `imglife sync` on a schedule of the CI server or cron"),
                "hooks" => "`hooks`: see `hooks.post_sync` in docs/configuration.md".to_owned(),
                _ => format!("`{key}` has no equivalent"),
            });
        }
    }
    let platforms: Vec<String> = [step.get("platform"), step.get("platforms")]
        .into_iter()
        .flat_map(Tree::texts)
        .map(str::to_owned)
        .collect();
    let entry = ImportedEntry {
        platforms,
        keep_replaced: step.get("backup").text().map(|_| true).or(keep_replaced),
        remarks,
        ..ImportedEntry::default()
    };
    match step.get("type").text() {
        Some("image") => {
            let (repository, tag) = repository_and_tag(&source);
            let tag = tag.unwrap_or("latest");
            let (target, target_tag) = repository_and_tag(&target);
            let is_renamed = target_tag.is_some_and(|to| to != tag);
            if is_renamed {
                config.remarks.push(format!(
                    "{source} has another tag at its target: run `imglife copy {source} {target}:{}`",
                    target_tag.unwrap_or_default()
                ));
                return;
            }
            let digest = source.split_once('@').map(|(_, digest)| digest);
            config.add(ImportedEntry {
                source: repository.to_owned(),
                target: target.to_owned(),
                tags: vec![digest.map_or_else(|| tag.to_owned(), |digest| format!("{tag}@{digest}"))],
                ..entry
            });
        }
        Some("registry") => config.remarks.push(format!(
            "{source} -> {target}: `type: registry` has no equivalent; list the repositories in `sources` with the target `{target}/{{{{ path }}}}`"
        )),
        _ => {
            let sets: Vec<Tree<'_>> = step.get("tagSets").items();
            let sets = if sets.is_empty() {
                vec![step.get("tags")]
            } else {
                sets
            };
            for tags in sets {
                config.entries.push(repository_entry(&source, &target, tags, entry.clone()));
            }
        }
    }
}

fn repository_entry(
    source: &str,
    target: &str,
    tags: Tree<'_>,
    entry: ImportedEntry,
) -> ImportedEntry {
    let owned =
        |tree: Tree<'_>| -> Vec<String> { tree.texts().into_iter().map(str::to_owned).collect() };
    let ranges = owned(tags.get("semverRange"));
    let allow = any_of(&owned(tags.get("allow")));
    let mut remarks = entry.remarks.clone();
    // regsync selects tags that a pattern allows or a range contains; here both must match.
    let (tag_regex, semver) = match (allow, ranges.is_empty()) {
        (None, true) => (Some(".*".to_owned()), None),
        (allow, true) => (allow, None),
        (None, false) => (None, Some(ranges.join(" || "))),
        (Some(allow), false) => {
            remarks.push(format!(
                "`semverRange: {}` is left out, because `allow` selects tags besides it; add an entry with `semver`",
                ranges.join(", ")
            ));
            (Some(allow), None)
        }
    };
    ImportedEntry {
        source: source.to_owned(),
        target: target.to_owned(),
        tag_regex,
        semver,
        exclude_regex: any_of(&owned(tags.get("deny"))),
        remarks,
        ..entry
    }
}

/// Replaces the template `{{ env "NAME" }}` by a variable of the environment.
fn variables(text: &str, remarks: &mut Vec<String>) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((expression, after)) = after.split_once("}}") else {
            break;
        };
        replaced.push_str(before);
        let words: Vec<&str> = expression.split_whitespace().collect();
        if let ["env", name] = words.as_slice() {
            let name = name.trim_matches(['"', '\'', '`']);
            replaced.push_str("${");
            replaced.push_str(name);
            replaced.push('}');
        } else {
            remarks.push(format!(
                "the template `{{{{{expression}}}}}` has no equivalent"
            ));
            replaced.push_str("TEMPLATE");
        }
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}
