//! `config show`: the configuration in effect as YAML.
//!
//! The key table decides which keys are written, their order, and which values are escaped. The
//! typed sections only return the value of each key.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::keywords::Keyword;
use super::table::{ROOT, SectionSpec, Shape};
use super::{
    ArchiveConfig, BuildConfig, BuildImage, Config, DeployedConfig, Extract, Hook, HookCommand,
    HostSettings, ImageLifecycle, LifecycleConfig, NamePattern, RegistryConfig, RegistryProvider,
    RepositoryPattern, RetentionConfig, StatusConfig, SyncConfig, SyncEntry, TagExclusion,
    TagSelection,
};
use crate::model::Host;
use crate::model::eol::Acceptance;
use crate::model::lifecycle::Product;

/// Returns the configuration in effect as YAML, with defaults and variables filled in and absolute
/// paths. Reading it again gives the same configuration.
pub fn show(config: &Config) -> String {
    // Maps with texts as keys always serialise.
    serde_saphyr::to_string(&rendered(&ROOT, config)).unwrap_or_default()
}

/// A typed section of the configuration.
trait TypedSection {
    /// Returns the value of a key of the section; `None` if it is not set, or if the sections below
    /// have inherited it.
    fn value(&self, key: &str) -> Option<KeyValue<'_>>;
}

/// Value of a key.
enum KeyValue<'a> {
    Plain(Value),
    Section(Box<dyn TypedSection + 'a>),
    Sections(Vec<Box<dyn TypedSection + 'a>>),
    /// Sections by keys that the user chose.
    SectionMap(Vec<(String, Box<dyn TypedSection + 'a>)>),
}

impl<T: TypedSection> TypedSection for &T {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        (**self).value(key)
    }
}

/// Returns the keys of a section that are set, in the order of the table.
fn rendered(spec: &SectionSpec, section: &dyn TypedSection) -> Value {
    let mut pairs = Map::new();
    for key in spec.keys {
        let value = match (section.value(key.name), &key.shape) {
            (Some(KeyValue::Plain(mut value)), _) => {
                if key.expanded {
                    escape_dollars(&mut value);
                }
                value
            }
            (Some(KeyValue::Section(section)), Shape::Section(spec)) => rendered(spec, &*section),
            (
                Some(KeyValue::Sections(sections)),
                Shape::List(Shape::Section(spec)) | Shape::OneOrMore(spec),
            ) => sections
                .iter()
                .map(|section| rendered(spec, &**section))
                .collect(),
            (Some(KeyValue::SectionMap(sections)), Shape::Map(Shape::Section(spec))) => sections
                .iter()
                .map(|(name, section)| (name.clone(), rendered(spec, &**section)))
                .collect::<Map<_, _>>()
                .into(),
            (value, _) => {
                debug_assert!(value.is_none(), "`{}` has another shape", key.name);
                continue;
            }
        };
        pairs.insert(key.name.to_owned(), value);
    }
    pairs.into()
}

/// Doubles the dollars, so that reading does not expand them as variables.
fn escape_dollars(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(escape_dollars),
        Value::Object(pairs) => pairs.values_mut().for_each(escape_dollars),
        _ => {}
    }
}

/// Returns a value without sections. An option that is `None` is not set.
fn plain(value: impl Serialize) -> Option<KeyValue<'static>> {
    let value = serde_json::to_value(value).ok()?;
    (!value.is_null()).then_some(KeyValue::Plain(value))
}

fn path(path: &Path) -> Option<KeyValue<'static>> {
    plain(path.to_string_lossy())
}

fn texts<T: ToString>(items: &[T]) -> Option<KeyValue<'static>> {
    plain(items.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn patterns(items: &[RepositoryPattern]) -> Option<KeyValue<'static>> {
    plain(items.iter().map(|item| &*item.text).collect::<Vec<_>>())
}

fn url(url: Option<&url::Url>) -> Option<KeyValue<'static>> {
    plain(url.map(url::Url::as_str))
}

fn keyword<T: Keyword>(value: T) -> Option<KeyValue<'static>> {
    plain(match value.keyword() {
        "true" => json!(true),
        "false" => json!(false),
        keyword => json!(keyword),
    })
}

fn duration(duration: Duration) -> Option<KeyValue<'static>> {
    plain(format!("{}s", duration.as_secs()))
}

fn section<'a>(section: impl TypedSection + 'a) -> Option<KeyValue<'a>> {
    Some(KeyValue::Section(Box::new(section)))
}

fn sections<'a, T: TypedSection + 'a>(
    sections: impl IntoIterator<Item = T>,
) -> Option<KeyValue<'a>> {
    Some(KeyValue::Sections(
        sections
            .into_iter()
            .map(|section| Box::new(section) as Box<dyn TypedSection + 'a>)
            .collect(),
    ))
}

impl TypedSection for Config {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "registry" if self.registry.is_none() && self.insecure_registries.is_empty() => None,
            "registry" => section(RegistrySection {
                registry: self.registry.as_ref(),
                insecure: &self.insecure_registries,
            }),
            "hosts" if self.hosts.is_empty() => None,
            "hosts" => Some(KeyValue::SectionMap(
                self.hosts
                    .iter()
                    .map(|(host, settings)| {
                        let settings: Box<dyn TypedSection + '_> = Box::new(settings);
                        (host.to_string(), settings)
                    })
                    .collect(),
            )),
            "sync" => section(self.sync.as_ref()?),
            "build" => section(self.build.as_ref()?),
            "retention" => section(self.retention.as_ref()?),
            "lifecycle" => section(&self.lifecycle),
            "status" => section(&self.status),
            _ => None,
        }
    }
}

/// The section `registry`, which also holds the hosts that are contacted over plain HTTP.
struct RegistrySection<'a> {
    registry: Option<&'a RegistryConfig>,
    insecure: &'a [Host],
}

impl TypedSection for RegistrySection<'_> {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        if key == "insecure_registries" {
            return texts(self.insecure);
        }
        let registry = self.registry?;
        if key == "prefix" {
            return plain(&registry.prefix);
        }
        match (&registry.provider, key) {
            (RegistryProvider::Gitlab { .. }, "provider") => plain("gitlab"),
            (RegistryProvider::Gitea { .. }, "provider") => plain("gitea"),
            (RegistryProvider::S3 { .. }, "provider") => plain("s3"),
            (RegistryProvider::File { .. }, "provider") => plain("file"),
            (
                RegistryProvider::Gitlab { url: value, .. }
                | RegistryProvider::Gitea { url: value, .. },
                "url",
            )
            | (
                RegistryProvider::S3 {
                    endpoint: value, ..
                },
                "url",
            )
            | (
                RegistryProvider::Gitlab { api_url: value, .. }
                | RegistryProvider::Gitea { api_url: value, .. },
                "api_url",
            ) => url(value.as_ref()),
            (RegistryProvider::Gitlab { project_id, .. }, "project_id") => plain(project_id),
            (RegistryProvider::Gitea { owner, .. }, "owner") => plain(owner),
            (RegistryProvider::Gitea { repo, .. }, "repo") => plain(repo),
            (
                RegistryProvider::Gitlab { config_ref, .. }
                | RegistryProvider::Gitea { config_ref, .. },
                "config_ref",
            ) => plain(config_ref),
            (RegistryProvider::S3 { bucket, .. }, "bucket") => plain(bucket),
            (RegistryProvider::S3 { region, .. }, "region") => plain(region),
            (RegistryProvider::S3 { path_style, .. }, "path_style") => plain(path_style),
            (RegistryProvider::File { directory }, "path") => path(directory),
            _ => None,
        }
    }
}

impl TypedSection for HostSettings {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "endpoint" => url(self.endpoint.as_ref()),
            "ca_file" => path(self.ca_file.as_deref()?),
            "client_cert" => path(&self.client_certificate.as_ref()?.certificate),
            "client_key" => path(&self.client_certificate.as_ref()?.key),
            "insecure_skip_verify" => plain(self.insecure_skip_verify),
            "max_connections" => plain(self.max_connections),
            "requests_per_second" => plain(self.requests_per_second),
            _ => None,
        }
    }
}

impl TypedSection for SyncConfig {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "parallelism" => plain(self.parallelism),
            "hooks" => section(HooksSection(&self.post_sync)),
            "entries" => sections(&self.entries),
            // The entries have inherited `platforms`.
            _ => None,
        }
    }
}

impl TypedSection for SyncEntry {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match (key, &self.selection) {
            ("source", _) => plain(self.source.to_string()),
            ("target", _) => plain(self.target.to_string()),
            ("tag", TagSelection::Fixed(tag)) => match &self.digest {
                Some(digest) => plain(format!("{tag}@{digest}")),
                None => plain(tag.as_str()),
            },
            ("tag_regex", TagSelection::Pattern(pattern)) => {
                plain(&pattern.tag_regex.as_ref()?.text)
            }
            ("semver", TagSelection::Pattern(pattern)) => plain(pattern.semver.as_ref()?.as_str()),
            ("include", TagSelection::Pattern(pattern)) if !pattern.include.is_empty() => {
                texts(&pattern.include)
            }
            ("prereleases", TagSelection::Pattern(pattern)) => plain(pattern.prereleases),
            ("per", TagSelection::Pattern(pattern)) => keyword(pattern.per?),
            ("keep_groups", TagSelection::Pattern(pattern)) => plain(pattern.keep_groups),
            ("count", TagSelection::Pattern(pattern)) => keyword(pattern.count),
            ("exclude_regex", TagSelection::Pattern(pattern)) => {
                plain(&pattern.exclude_regex.as_ref()?.text)
            }
            ("min_age", TagSelection::Pattern(pattern)) => duration(pattern.min_age?),
            ("keep_last", TagSelection::Pattern(pattern)) => plain(pattern.keep_last),
            ("sort", TagSelection::Pattern(pattern)) => keyword(pattern.sort),
            ("min_tags", TagSelection::Pattern(pattern)) => plain(pattern.min_tags),
            ("check_digest", _) => keyword(self.check_digest),
            ("keep_replaced", _) => plain(self.keep_replaced),
            ("platforms", _) => texts(self.platforms.as_ref()?),
            ("platform_mode", _) => keyword(self.platform_mode),
            ("platforms_missing", _) => keyword(self.platforms_missing),
            ("skip_unsupported", _) => plain(self.skip_unsupported),
            ("referrers", _) => plain(self.referrers),
            ("os_normalize", _) => plain(self.os_normalize),
            ("lifecycle", _) => sections(&self.lifecycle),
            ("retention", _) => section(self.retention.as_ref()?),
            ("hooks", _) => section(HooksSection(&self.post_sync)),
            _ => None,
        }
    }
}

/// A section `hooks`. Each such section has one key.
struct HooksSection<'a>(&'a [Hook]);

impl TypedSection for HooksSection<'_> {
    fn value(&self, _: &str) -> Option<KeyValue<'_>> {
        sections(self.0)
    }
}

impl TypedSection for Hook {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match (key, &self.command) {
            ("cmd", HookCommand::Shell(line)) => plain(line),
            ("cmd", HookCommand::Program(words)) => plain(words),
            ("timeout", _) => duration(self.timeout),
            ("continue_on_error", _) => plain(self.continue_on_error),
            _ => None,
        }
    }
}

impl TypedSection for BuildConfig {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "core_version" => plain(&self.core_version),
            "registry" => plain(self.registry.to_string()),
            "engine" => keyword(self.engine),
            "builder" => plain(&self.builder),
            "tag_format" => plain(&self.tag_format),
            "on_base_change" => keyword(self.on_base_change),
            "parallelism" => plain(self.parallelism),
            "hooks" => section(HooksSection(&self.post_image_build)),
            "images" => sections(&self.images),
            // The images have inherited `platforms`, `sbom` and `provenance`.
            _ => None,
        }
    }
}

impl TypedSection for BuildImage {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "name" => plain(&self.name),
            "folder" => path(&self.folder),
            "tmpl" => plain(&self.template),
            "type" => keyword(self.image_type),
            "mirror_image" => plain(self.mirror_image.to_string()),
            "mirror_tag" => plain(self.mirror_tag.as_ref().map(ToString::to_string)),
            "version" => plain(&self.version),
            "core_version" => plain(&self.core_version),
            "args" => plain(&self.args),
            "aliases" => texts(&self.aliases),
            "platforms" => texts(&self.platforms),
            "sbom" => plain(self.sbom),
            "provenance" => keyword(self.provenance),
            "hooks" => section(HooksSection(&self.post_image_build)),
            "retention" => section(self.retention.as_ref()?),
            "lifecycle" => sections(self.lifecycle.as_ref()?),
            _ => None,
        }
    }
}

impl TypedSection for RetentionConfig {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        let exclusion = |exclusion: &TagExclusion| match exclusion {
            TagExclusion::Exact(tag) => tag.clone(),
            TagExclusion::Pattern(pattern) => format!("/{}/", pattern.text),
        };
        match key {
            "keep_last" => plain(self.keep_last),
            "per" => keyword(self.per),
            "max_age_days" => plain(self.max_age_days),
            "match" => keyword(self.match_mode),
            "exclude_tags" => plain(self.exclude_tags.iter().map(exclusion).collect::<Vec<_>>()),
            "min_keep" => plain(self.min_keep),
            "max_delete_percent" => plain(self.max_delete_percent),
            "require_records" => plain(self.require_records),
            "repositories" => patterns(&self.keepers.as_ref()?.repositories),
            "foreign_bases" => patterns(&self.keepers.as_ref()?.foreign_bases),
            "grace_days" => plain(self.grace_days),
            "grace" => keyword(self.grace),
            "hold" => texts(&self.keepers.as_ref()?.hold),
            "keep_from" => texts(&self.keepers.as_ref()?.keep_from),
            "keep_deployed" => section(self.keepers.as_ref()?.keep_deployed.as_ref()?),
            "sources" => texts(&self.keepers.as_ref()?.sources),
            "archive" => section(ArchiveSection(self.archive.as_ref())),
            _ => None,
        }
    }
}

impl TypedSection for DeployedConfig {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        let text = |pattern: &NamePattern| pattern.text.clone();
        match key {
            "environments" => plain(self.environments.iter().map(text).collect::<Vec<_>>()),
            "per_environment" => plain(self.per_environment),
            _ => None,
        }
    }
}

/// The section `retention.archive`; `None` if the archive is disabled.
struct ArchiveSection<'a>(Option<&'a ArchiveConfig>);

impl TypedSection for ArchiveSection<'_> {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "enabled" => plain(self.0.is_some()),
            "registry" => plain(self.0?.registry.to_string()),
            "keep_days" => plain(self.0?.keep_days),
            _ => None,
        }
    }
}

impl TypedSection for ImageLifecycle {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "product" => match &self.product {
                Product::Named(name) => plain(name.as_str()),
                Product::OfImages(_) => None,
            },
            // `track` is another name of the same key.
            "extract" => match &self.extract {
                Extract::LongestPrefix => None,
                Extract::Major => plain("major"),
                Extract::Minor => plain("minor"),
                Extract::Patch => plain("patch"),
                Extract::Full => plain("full"),
                Extract::Pattern(pattern) => plain(&pattern.text),
            },
            "phase" => keyword(self.phase?),
            "accept" => section(self.accept.as_ref()?),
            _ => None,
        }
    }
}

impl TypedSection for Acceptance {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "until" => plain(self.until.to_string()),
            "reason" => plain(&self.reason),
            _ => None,
        }
    }
}

impl TypedSection for LifecycleConfig {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "eol_provider" => keyword(self.provider),
            "eol_target" => keyword(self.target),
            "eol_data_file" => path(&self.data_file),
            "api_url" => url(Some(&self.api_url)),
            "warn_days" => plain(self.warn_days),
            "phase" => keyword(self.phase),
            "notify" => section(NotifySection(self)),
            _ => None,
        }
    }
}

/// The section `lifecycle.notify`.
struct NotifySection<'a>(&'a LifecycleConfig);

impl TypedSection for NotifySection<'_> {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "slack_webhook_env" => plain(&self.0.slack_webhook_variable),
            "webhook_env" => plain(&self.0.webhook_variable),
            "at_days" => plain(&self.0.notify_at_days),
            _ => None,
        }
    }
}

impl TypedSection for StatusConfig {
    fn value(&self, key: &str) -> Option<KeyValue<'_>> {
        match key {
            "title" => plain(&self.title),
            "client_zone" => plain(&self.client_zone),
            "graph" => plain(self.graph),
            "timeline" => plain(self.timeline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::table::SECTIONS;
    use crate::config::{SourceText, load};

    /// Keys that are not written, because the sections below have inherited their values, or because
    /// another key has the same meaning.
    const NOT_WRITTEN: [(&str, &str); 8] = [
        ("sync", "platforms"),
        ("sync", "defaults"),
        ("sync.entries[]", "sources"),
        ("sync.entries[]", "targets"),
        ("build", "platforms"),
        ("build", "sbom"),
        ("build", "provenance"),
        ("an image's lifecycle", "track"),
    ];

    fn config(text: &str) -> Config {
        let variables = [
            ("CI_PROJECT_ID", "42"),
            ("CI_REGISTRY", "registry.example.com/team"),
            ("UPSTREAM", "docker.io"),
            ("KEEP", "3"),
            ("BUILDER", "big"),
        ];
        let source = SourceText {
            name: "imglife.yaml".to_owned(),
            text: text.to_owned(),
        };
        load(
            &source,
            Path::new("/project"),
            &variables.into_iter().collect(),
        )
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

    /// Adds the keys in `value` to `written`, each with the name of its section.
    fn collect(
        spec: &SectionSpec,
        value: &Value,
        written: &mut BTreeSet<(&'static str, &'static str)>,
    ) {
        for (name, value) in value.as_object().expect("a section") {
            let key = spec.key(name).expect("a key of the section");
            written.insert((spec.name, key.name));
            match &key.shape {
                Shape::Section(spec) => collect(spec, value, written),
                Shape::List(Shape::Section(spec)) | Shape::OneOrMore(spec) => value
                    .as_array()
                    .expect("a list")
                    .iter()
                    .for_each(|item| collect(spec, item, written)),
                Shape::Map(Shape::Section(spec)) => value
                    .as_object()
                    .expect("a mapping")
                    .values()
                    .for_each(|item| collect(spec, item, written)),
                _ => {}
            }
        }
    }

    #[test]
    fn show_writes_every_key_of_the_table_that_is_set() {
        let mut written = BTreeSet::new();
        for text in [
            include_str!("check/everything.yaml"),
            "registry: { provider: gitea, url: 'https://gitea.example', owner: a, repo: b }",
            "registry: { provider: s3, bucket: b, region: eu-west-1, path_style: false, url: 'http://garage:3900' }",
            "registry: { provider: file, path: records }",
        ] {
            collect(&ROOT, &rendered(&ROOT, &config(text)), &mut written);
        }
        let missing: Vec<_> = SECTIONS
            .iter()
            .flat_map(|spec| spec.keys.iter().map(|key| (spec.name, key.name)))
            .filter(|key| !written.contains(key) && !NOT_WRITTEN.contains(key))
            .collect();
        assert_eq!(missing, []);
        let needless: Vec<_> = NOT_WRITTEN
            .iter()
            .filter(|key| written.contains(key))
            .collect();
        assert!(needless.is_empty(), "{needless:?}");
    }
}
