//! The `imglife.yaml` that an import writes.

use std::fmt::Write as _;

use serde_json::Value;

/// An entry of `sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ImportedEntry {
    pub(super) source: String,
    pub(super) target: String,
    /// Literal tags.
    pub(super) tags: Vec<String>,
    pub(super) tag_regex: Option<String>,
    pub(super) semver: Option<String>,
    pub(super) exclude_regex: Option<String>,
    pub(super) keep_last: Option<String>,
    pub(super) platforms: Vec<String>,
    pub(super) keep_replaced: Option<bool>,
    /// Settings without an equivalent.
    pub(super) remarks: Vec<String>,
}

impl ImportedEntry {
    /// Returns true if the entries differ only in their literal tags.
    fn is_joinable(&self, other: &ImportedEntry) -> bool {
        let rest = |entry: &ImportedEntry| ImportedEntry {
            tags: Vec::new(),
            ..entry.clone()
        };
        let has_tags = |entry: &ImportedEntry| {
            // A pinned digest stands alone.
            !entry.tags.is_empty() && !entry.tags.iter().any(|tag| tag.contains('@'))
        };
        has_tags(self) && has_tags(other) && rest(self) == rest(other)
    }
}

/// The parts of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct ImportedConfig {
    pub(super) parallelism: Option<String>,
    /// Settings of hosts: host, key, value.
    pub(super) hosts: Vec<(String, &'static str, String)>,
    pub(super) entries: Vec<ImportedEntry>,
    /// Settings of the whole file without an equivalent.
    pub(super) remarks: Vec<String>,
}

impl ImportedConfig {
    /// Adds an entry, or its tags to an entry that is otherwise the same.
    pub(super) fn add(&mut self, entry: ImportedEntry) {
        match self
            .entries
            .iter_mut()
            .rev()
            .find(|other| other.is_joinable(&entry))
        {
            Some(other) => {
                for tag in entry.tags {
                    if !other.tags.contains(&tag) {
                        other.tags.push(tag);
                    }
                }
            }
            None => self.entries.push(entry),
        }
    }

    /// Returns all settings without an equivalent.
    pub(super) fn all_remarks(&self) -> Vec<String> {
        let of_entries = self.entries.iter().flat_map(|entry| {
            entry
                .remarks
                .iter()
                .map(|remark| format!("{}: {remark}", entry.source))
        });
        self.remarks.iter().cloned().chain(of_entries).collect()
    }

    /// Returns the text of the file.
    pub(super) fn text(&self, tool: &str) -> String {
        let mut text = format!("# Converted from a file of {tool} by `imglife import`.\n");
        for remark in &self.remarks {
            comment(&mut text, "", remark);
        }
        let mut host = None;
        for (name, key, value) in &self.hosts {
            if host.is_none() {
                text.push_str("hosts:\n");
            }
            if host != Some(name) {
                let _ = writeln!(text, "  {}:", quoted(name));
                host = Some(name);
            }
            let _ = writeln!(text, "    {key}: {value}");
        }
        text.push_str("sync:\n");
        if let Some(parallelism) = &self.parallelism {
            let _ = writeln!(text, "  parallelism: {parallelism}");
        }
        text.push_str("  entries:\n");
        for entry in &self.entries {
            write_entry(&mut text, entry);
        }
        text
    }
}

fn write_entry(text: &mut String, entry: &ImportedEntry) {
    for remark in &entry.remarks {
        comment(text, "    ", remark);
    }
    let _ = writeln!(text, "    - source: {}", quoted(&entry.source));
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "      {key}: {value}");
    };
    line("target", quoted(&entry.target));
    match entry.tags.as_slice() {
        [] => {}
        [tag] if entry.tag_regex.is_none() && entry.semver.is_none() => line("tag", quoted(tag)),
        tags => line("include", Value::from(tags.to_vec()).to_string()),
    }
    let patterns = [
        ("tag_regex", &entry.tag_regex),
        ("semver", &entry.semver),
        ("exclude_regex", &entry.exclude_regex),
    ];
    for (key, value) in patterns {
        if let Some(value) = value {
            line(key, quoted(value));
        }
    }
    if let Some(keep_last) = &entry.keep_last {
        line("keep_last", keep_last.clone());
    }
    if !entry.platforms.is_empty() {
        line(
            "platforms",
            Value::from(entry.platforms.clone()).to_string(),
        );
        line("platform_mode", "sparse".to_owned());
    }
    if let Some(keep_replaced) = entry.keep_replaced {
        line("keep_replaced", keep_replaced.to_string());
    }
}

/// Returns a YAML string.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn comment(text: &mut String, indent: &str, remark: &str) {
    for line in remark.lines() {
        let _ = writeln!(text, "{indent}# {line}");
    }
}

/// Divides a reference into its repository and its tag.
pub(super) fn repository_and_tag(reference: &str) -> (&str, Option<&str>) {
    let (reference, _) = reference.split_once('@').unwrap_or((reference, ""));
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (reference, None),
    }
}

/// Returns one pattern for several, which match complete tags.
pub(super) fn any_of(patterns: &[String]) -> Option<String> {
    match patterns {
        [] => None,
        [pattern] => Some(pattern.clone()),
        several => {
            let grouped: Vec<String> = several
                .iter()
                .map(|pattern| {
                    if pattern.contains('|') {
                        format!("(?:{pattern})")
                    } else {
                        pattern.clone()
                    }
                })
                .collect();
            Some(grouped.join("|"))
        }
    }
}

/// Returns the pattern of complete tags for one that may match anywhere in a tag.
pub(super) fn unanchored(pattern: &str) -> String {
    match pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'))
    {
        Some(body) if !body.contains('|') => body.to_owned(),
        _ => format!(".*(?:{pattern}).*"),
    }
}
