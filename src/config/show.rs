//! The configuration as it is in effect: written back as YAML, and which commands it is enough for.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::keywords::Keyword;
use super::table::{ROOT, SectionSpec, Shape};
use super::{
    BuildConfig, BuildImage, Config, Extract, Hook, HookCommand, HostSettings, ImageLifecycle,
    LifecycleConfig, RegistryConfig, RegistryProvider, RetentionConfig, SyncConfig, SyncEntry,
    TagExclusion, TagSelection,
};
use crate::model::lifecycle::Product;

/// Returns the configuration in effect as YAML: defaults and variables filled in, paths absolute.
/// Read again, it says the same.
pub fn show(config: &Config) -> String {
    let mut shown = Map::new();
    if let Some(registry) = &config.registry {
        shown.insert("registry".to_owned(), shown_registry(registry, config));
    }
    if config.registry.is_none() && !config.insecure_registries.is_empty() {
        shown.insert(
            "registry".to_owned(),
            json!({ "insecure_registries": texts(&config.insecure_registries) }),
        );
    }
    if !config.hosts.is_empty() {
        let hosts: Map<String, Value> = config
            .hosts
            .iter()
            .map(|(host, settings)| (host.to_string(), host_settings(settings)))
            .collect();
        shown.insert("hosts".to_owned(), Value::Object(hosts));
    }
    shown.extend(
        config
            .sync
            .as_ref()
            .map(|sync| ("sync".to_owned(), shown_sync(sync))),
    );
    shown.extend(
        config
            .build
            .as_ref()
            .map(|build| ("build".to_owned(), shown_build(build))),
    );
    shown.extend(
        config
            .retention
            .as_ref()
            .map(|rules| ("retention".to_owned(), retention(rules))),
    );
    shown.insert("lifecycle".to_owned(), lifecycle(&config.lifecycle));
    let status = &config.status;
    let status = [
        ("title", json!(status.title)),
        ("client_zone", json!(status.client_zone)),
        ("graph", json!(status.graph)),
        ("timeline", json!(status.timeline)),
    ];
    shown.insert("status".to_owned(), given(status));
    let mut shown = Value::Object(shown);
    escape(&mut shown, &ROOT);
    // Maps with texts as keys always serialise.
    serde_saphyr::to_string(&shown).unwrap_or_default()
}

/// Returns a mapping of what is given.
fn given<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}

fn path(path: &Path) -> Value {
    json!(path.to_string_lossy())
}

/// Returns texts of all `items`.
fn texts<T: ToString>(items: &[T]) -> Value {
    items.iter().map(ToString::to_string).collect()
}

fn word<T: Keyword>(value: T) -> Value {
    match value.keyword() {
        "true" => json!(true),
        "false" => json!(false),
        word => json!(word),
    }
}

fn duration(duration: Duration) -> Value {
    json!(format!("{}s", duration.as_secs()))
}

fn shown_registry(registry: &RegistryConfig, config: &Config) -> Value {
    let url = |url: &Option<url::Url>| json!(url.as_ref().map(url::Url::as_str));
    let mut shown = match &registry.provider {
        RegistryProvider::Gitlab {
            url: instance,
            api_url,
            project_id,
            config_ref,
        } => given([
            ("provider", json!("gitlab")),
            ("url", url(instance)),
            ("api_url", url(api_url)),
            ("project_id", json!(project_id)),
            ("config_ref", json!(config_ref)),
        ]),
        RegistryProvider::Gitea {
            url: instance,
            api_url,
            owner,
            repo,
            config_ref,
        } => given([
            ("provider", json!("gitea")),
            ("url", url(instance)),
            ("api_url", url(api_url)),
            ("owner", json!(owner)),
            ("repo", json!(repo)),
            ("config_ref", json!(config_ref)),
        ]),
        RegistryProvider::S3 {
            endpoint,
            bucket,
            region,
        } => given([
            ("provider", json!("s3")),
            ("url", url(endpoint)),
            ("bucket", json!(bucket)),
            ("region", json!(region)),
        ]),
        RegistryProvider::File { directory } => {
            given([("provider", json!("file")), ("path", path(directory))])
        }
    };
    if let Some(prefix) = &registry.prefix {
        shown["prefix"] = json!(prefix);
    }
    shown["insecure_registries"] = texts(&config.insecure_registries);
    shown
}

fn host_settings(settings: &HostSettings) -> Value {
    let certificate = settings.client_certificate.as_ref();
    given([
        (
            "endpoint",
            json!(settings.endpoint.as_ref().map(url::Url::as_str)),
        ),
        (
            "ca_file",
            settings.ca_file.as_deref().map_or(Value::Null, path),
        ),
        (
            "client_cert",
            certificate.map_or(Value::Null, |pair| path(&pair.certificate)),
        ),
        (
            "client_key",
            certificate.map_or(Value::Null, |pair| path(&pair.key)),
        ),
        ("insecure_skip_verify", json!(settings.insecure_skip_verify)),
        ("max_connections", json!(settings.max_connections)),
        ("requests_per_second", json!(settings.requests_per_second)),
    ])
}

fn shown_sync(sync: &SyncConfig) -> Value {
    json!({
        "parallelism": sync.parallelism,
        "hooks": { "post_sync": hooks(&sync.post_sync) },
        "entries": sync.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn entry(entry: &SyncEntry) -> Value {
    let mut shown = match &entry.selection {
        TagSelection::Fixed(tag) => given([
            ("source", json!(entry.source.to_string())),
            ("target", json!(entry.target.to_string())),
            ("tag", json!(tag.as_str())),
        ]),
        TagSelection::Pattern(pattern) => given([
            ("source", json!(entry.source.to_string())),
            ("target", json!(entry.target.to_string())),
            ("tag_regex", json!(pattern.tag_regex.text)),
            (
                "exclude_regex",
                json!(pattern.exclude_regex.as_ref().map(|pattern| &pattern.text)),
            ),
            ("min_age", pattern.min_age.map_or(Value::Null, duration)),
            ("keep_last", json!(pattern.keep_last)),
            ("sort", word(pattern.sort)),
            ("min_tags", json!(pattern.min_tags)),
        ]),
    };
    shown["check_digest"] = json!(entry.check_digest);
    shown["keep_replaced"] = json!(entry.keep_replaced);
    if let Some(platforms) = &entry.platforms {
        shown["platforms"] = texts(platforms);
    }
    shown["platform_mode"] = word(entry.platform_mode);
    shown["referrers"] = json!(entry.referrers);
    shown["os_normalize"] = json!(entry.os_normalize);
    shown["lifecycle"] = entry.lifecycle.iter().map(product).collect();
    if let Some(rules) = &entry.retention {
        shown["retention"] = retention(rules);
    }
    shown["hooks"] = json!({ "post_sync": hooks(&entry.post_sync) });
    shown
}

fn hooks(hooks: &[Hook]) -> Value {
    let hook = |hook: &Hook| {
        let command = match &hook.command {
            HookCommand::Shell(line) => json!(line),
            HookCommand::Program(words) => json!(words),
        };
        json!({ "cmd": command, "timeout": duration(hook.timeout), "continue_on_error": hook.continue_on_error })
    };
    hooks.iter().map(hook).collect()
}

fn shown_build(build: &BuildConfig) -> Value {
    given([
        ("core_version", json!(build.core_version)),
        ("registry", json!(build.registry.to_string())),
        ("engine", word(build.engine)),
        ("builder", json!(build.builder)),
        ("tag_format", json!(build.tag_format)),
        ("on_base_change", word(build.on_base_change)),
        ("parallelism", json!(build.parallelism)),
        (
            "hooks",
            json!({ "post_image_build": hooks(&build.post_image_build) }),
        ),
        ("images", build.images.iter().map(image).collect()),
    ])
}

fn image(image: &BuildImage) -> Value {
    given([
        ("name", json!(image.name)),
        ("folder", path(&image.folder)),
        ("tmpl", json!(image.template)),
        ("type", word(image.image_type)),
        ("mirror_image", json!(image.mirror_image.to_string())),
        (
            "mirror_tag",
            json!(image.mirror_tag.as_ref().map(|tag| tag.as_str())),
        ),
        ("version", json!(image.version)),
        ("core_version", json!(image.core_version)),
        ("args", json!(image.args)),
        ("aliases", texts(&image.aliases)),
        ("platforms", texts(&image.platforms)),
        ("sbom", json!(image.sbom)),
        ("provenance", word(image.provenance)),
        (
            "hooks",
            json!({ "post_image_build": hooks(&image.post_image_build) }),
        ),
        (
            "retention",
            image.retention.as_ref().map_or(Value::Null, retention),
        ),
        (
            "lifecycle",
            image
                .lifecycle
                .as_ref()
                .map_or(Value::Null, |own| own.iter().map(product).collect()),
        ),
    ])
}

fn retention(rules: &RetentionConfig) -> Value {
    let exclusion = |exclusion: &TagExclusion| match exclusion {
        TagExclusion::Exact(tag) => tag.clone(),
        TagExclusion::Pattern(pattern) => format!("/{}/", pattern.text),
    };
    let archive = match &rules.archive {
        Some(archive) => {
            json!({ "enabled": true, "registry": archive.registry.to_string(), "keep_days": archive.keep_days })
        }
        None => json!({ "enabled": false }),
    };
    given([
        ("keep_last", json!(rules.keep_last)),
        ("max_age_days", json!(rules.max_age_days)),
        ("match", word(rules.match_mode)),
        (
            "exclude_tags",
            rules.exclude_tags.iter().map(exclusion).collect(),
        ),
        ("min_keep", json!(rules.min_keep)),
        ("max_delete_percent", json!(rules.max_delete_percent)),
        ("require_records", json!(rules.require_records)),
        ("archive", archive),
    ])
}

fn product(product: &ImageLifecycle) -> Value {
    let extract = match &product.extract {
        Extract::LongestPrefix => None,
        Extract::Major => Some("major"),
        Extract::Minor => Some("minor"),
        Extract::Patch => Some("patch"),
        Extract::Full => Some("full"),
        Extract::Pattern(pattern) => Some(pattern.text.as_str()),
    };
    let accept = product.accept.as_ref();
    let name = match &product.product {
        Product::Named(name) => Some(name),
        Product::OfImages(_) => None,
    };
    given([
        (
            "product",
            name.map_or(Value::Null, |name| json!(name.as_str())),
        ),
        ("extract", json!(extract)),
        ("phase", product.phase.map_or(Value::Null, word)),
        (
            "accept",
            accept.map_or(
                Value::Null,
                |accept| json!({ "until": accept.until.to_string(), "reason": accept.reason }),
            ),
        ),
    ])
}

fn lifecycle(lifecycle: &LifecycleConfig) -> Value {
    let notify = [
        ("slack_webhook_env", json!(lifecycle.slack_webhook_variable)),
        ("webhook_env", json!(lifecycle.webhook_variable)),
        ("at_days", json!(lifecycle.notify_at_days)),
    ];
    given([
        ("eol_provider", word(lifecycle.provider)),
        ("eol_target", word(lifecycle.target)),
        ("eol_data_file", path(&lifecycle.data_file)),
        ("api_url", json!(lifecycle.api_url.as_str())),
        ("warn_days", json!(lifecycle.warn_days)),
        ("phase", word(lifecycle.phase)),
        ("notify", given(notify)),
    ])
}

/// Doubles the dollars where reading would expand variables.
fn escape(value: &mut Value, section: &SectionSpec) {
    let Value::Object(pairs) = value else { return };
    for (name, value) in pairs.iter_mut() {
        let Some(key) = section.key(name) else {
            continue;
        };
        match (&key.shape, value) {
            (Shape::Section(section), value) => escape(value, section),
            (
                Shape::List(Shape::Section(section)) | Shape::OneOrMore(section),
                Value::Array(items),
            ) => {
                items.iter_mut().for_each(|item| escape(item, section));
            }
            (Shape::Map(Shape::Section(section)), Value::Object(items)) => {
                items.values_mut().for_each(|item| escape(item, section));
            }
            (_, value) if key.expanded => double_dollars(value),
            _ => {}
        }
    }
}

fn double_dollars(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(double_dollars),
        Value::Object(pairs) => pairs.values_mut().for_each(double_dollars),
        _ => {}
    }
}

/// Returns for each command that needs a configuration whether this one is enough, or what it
/// lacks.
pub fn suffices(config: &Config) -> Vec<(&'static str, Result<(), String>)> {
    let needs = |is_there: bool, reason: &str| {
        if is_there {
            Ok(())
        } else {
            Err(reason.to_owned())
        }
    };
    let entries = config.sync.as_ref().map_or(&[][..], |sync| &sync.entries);
    let images = config.build.as_ref().map_or(&[][..], |build| &build.images);
    let has_products = entries.iter().any(|entry| !entry.lifecycle.is_empty())
        || images
            .iter()
            .flat_map(|image| &image.lifecycle)
            .any(|own| !own.is_empty());
    let products = || needs(has_products, "no image has a `lifecycle`");
    let records = || records(config.registry.as_ref());
    let mirrors = needs(!entries.is_empty(), "`sync.entries` lists no mirror");
    let bases = needs(!images.is_empty(), "`build.images` lists no image");
    let either = || {
        needs(
            !entries.is_empty() || !images.is_empty(),
            "neither `sync.entries` nor `build.images` lists anything",
        )
    };
    let uploads = config.lifecycle.target == super::EolTarget::PackageRegistry;
    let webhook = config.lifecycle.slack_webhook_variable.is_some()
        || config.lifecycle.webhook_variable.is_some();
    vec![
        ("sync", mirrors),
        ("build", bases),
        (
            "eol update",
            products().and_then(|()| if uploads { records() } else { Ok(()) }),
        ),
        ("eol list", products()),
        (
            "eol notify",
            products().and_then(|()| needs(webhook, "`lifecycle.notify` names no webhook")),
        ),
        ("status", either()),
        (
            "cleanup",
            needs(config.retention.is_some(), "there is no `retention`").and_then(|()| either()),
        ),
        ("register", records()),
        ("check", records()),
        ("app", records()),
    ]
}

fn records(registry: Option<&RegistryConfig>) -> Result<(), String> {
    let missing = match registry.map(|registry| &registry.provider) {
        None => return Err("there is no `registry`".to_owned()),
        Some(
            RegistryProvider::Gitlab { url: None, .. } | RegistryProvider::Gitea { url: None, .. },
        ) => "url",
        Some(RegistryProvider::Gitlab {
            project_id: None, ..
        }) => "project_id",
        Some(_) => return Ok(()),
    };
    Err(format!("`registry.{missing}` is missing"))
}
