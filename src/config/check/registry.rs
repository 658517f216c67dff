//! Check of `registry` and `hosts`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

use super::reader::{CheckContext, Fields, KeyLocation};
use crate::config::keywords::{Keyword, ProviderKind};
use crate::config::table::{HOST, REGISTRY};
use crate::config::{ClientCertificateFiles, HostSettings, RegistryConfig, RegistryProvider};
use crate::model::Host;
use crate::model::env;

/// Keys that environment variables named `IMGLIFE_REGISTRY_<KEY>` override.
const OVERRIDABLE: [&str; 9] = [
    "provider",
    "url",
    "api_url",
    "project_id",
    "owner",
    "repo",
    "bucket",
    "region",
    "prefix",
];

/// Reads the section and the hosts to contact over plain HTTP, or returns `None` if there is an
/// error.
///
/// The section itself is `None` if it does not configure a package registry.
pub(super) fn registry(root: &Fields<'_>) -> Option<(Option<RegistryConfig>, Vec<Host>)> {
    let context = root.context;
    let mut fields = root.section_or_empty("registry", &REGISTRY);
    let written = fields.value::<ProviderKind>("provider");
    for key in OVERRIDABLE {
        fields.override_from(key, &env::registry_key(key), false);
    }
    if !root.has("registry") && !OVERRIDABLE.iter().any(|key| fields.is_overridden(key)) {
        return Some((None, Vec::new()));
    }
    let provider = if fields.is_overridden("provider") {
        fields.value::<ProviderKind>("provider")?
    } else {
        written?
    };
    if written.is_some_and(|written| written != provider) {
        // A variable that selects another provider replaces the section. Only the keys that apply
        // to all providers are kept.
        let replaced = REGISTRY
            .keys
            .iter()
            .filter(|key| key.name != "provider" && only_for(key.name).is_some());
        replaced.for_each(|key| fields.forget(key.name));
    }
    for key in REGISTRY.keys {
        if let Some(providers) = only_for(key.name)
            .filter(|providers| !providers.contains(&provider) && fields.has(key.name))
        {
            let names: Vec<String> = providers
                .iter()
                .map(|provider| format!("`provider: {}`", provider.keyword()))
                .collect();
            context.error(
                &fields.location(key.name),
                format!(
                    "`{}` has no effect with provider `{}`",
                    key.name,
                    provider.keyword()
                ),
                format!("remove it, or set {}", names.join(" or ")),
            );
        }
    }
    // `insecure_registries` alone does not configure a package registry.
    if !REGISTRY
        .keys
        .iter()
        .any(|key| key.name != "insecure_registries" && fields.has(key.name))
    {
        let insecure = fields
            .list::<Host>("insecure_registries")
            .unwrap_or_default();
        return Some((
            None,
            sorted(insecure.into_iter().map(|host| host.value).collect()),
        ));
    }
    let url = fields.optional::<Url>("url").map(|url| url.value);
    let api_url = fields.optional::<Url>("api_url").map(|url| url.value);
    let project_id = fields.optional::<u64>("project_id").map(|id| id.value);
    let owner = fields.optional::<String>("owner").map(|owner| owner.value);
    let bucket = fields
        .optional::<String>("bucket")
        .map(|bucket| bucket.value);
    let repo = fields.optional::<String>("repo").map(|repo| repo.value);
    let config_ref = fields.value::<String>("config_ref");
    let region = region(&fields);
    let path_style = fields
        .optional::<bool>("path_style")
        .map(|style| style.value);
    let directory = fields.value::<PathBuf>("path");
    let prefix = prefix(&fields, provider);
    let mut insecure: Vec<Host> = fields
        .list::<Host>("insecure_registries")
        .unwrap_or_default()
        .into_iter()
        .map(|host| host.value)
        .collect();
    if matches!(provider, ProviderKind::Gitlab | ProviderKind::Gitea) {
        insecure.extend(
            [&url, &api_url]
                .into_iter()
                .flatten()
                .filter_map(plain_host),
        );
    }
    match provider {
        ProviderKind::Gitea => fields.require("owner"),
        ProviderKind::S3 => fields.require("bucket"),
        ProviderKind::Gitlab | ProviderKind::File => {}
    }
    let provider = match provider {
        ProviderKind::Gitlab => RegistryProvider::Gitlab {
            url,
            api_url,
            project_id,
            config_ref: config_ref?,
        },
        ProviderKind::Gitea => RegistryProvider::Gitea {
            url,
            api_url,
            owner: owner?,
            repo,
            config_ref: config_ref?,
        },
        ProviderKind::S3 => RegistryProvider::S3 {
            endpoint: url,
            bucket: bucket?,
            region: region?,
            path_style,
        },
        ProviderKind::File => {
            let directory = context.directory.join(directory?);
            context.check_store(&directory, &fields.location("path"));
            RegistryProvider::File { directory }
        }
    };
    Some((Some(RegistryConfig { provider, prefix }), sorted(insecure)))
}

/// Reads the region of a bucket. Without the key, it is the one that other S3 clients use; empty if
/// a profile may name it.
fn region(fields: &Fields<'_>) -> Option<String> {
    if fields.has("region") {
        return fields.value::<String>("region");
    }
    let get = |name| fields.context.variables.get_filled(name);
    if let Some(region) = get(env::AWS_REGION).or_else(|| get(env::AWS_DEFAULT_REGION)) {
        return Some(region.to_owned());
    }
    if get(env::AWS_PROFILE).is_some() {
        return Some(String::new());
    }
    fields.value::<String>("region")
}

fn sorted(mut hosts: Vec<Host>) -> Vec<Host> {
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Returns the providers that have a key, or `None` if all of them do.
fn only_for(key: &str) -> Option<&'static [ProviderKind]> {
    match key {
        "url" => Some(&[ProviderKind::Gitlab, ProviderKind::Gitea, ProviderKind::S3]),
        "api_url" | "config_ref" => Some(&[ProviderKind::Gitlab, ProviderKind::Gitea]),
        "project_id" => Some(&[ProviderKind::Gitlab]),
        "owner" | "repo" => Some(&[ProviderKind::Gitea]),
        "bucket" | "region" | "path_style" => Some(&[ProviderKind::S3]),
        "path" => Some(&[ProviderKind::File]),
        _ => None,
    }
}

/// Reads the prefix of package names.
fn prefix(fields: &Fields<'_>, provider: ProviderKind) -> Option<String> {
    if !fields.has("prefix") {
        return (provider != ProviderKind::S3).then(|| "imglife".to_owned());
    }
    let prefix = fields.optional::<String>("prefix")?;
    let is_valid = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if !prefix.value.split('/').all(is_valid) {
        fields.context.error(
            &prefix.at,
            "a prefix consists of parts separated by `/`, each with letters, digits, `.`, `_` and `-`",
            "remove slashes at the start and the end, and parts named `.` or `..`",
        );
        return None;
    }
    Some(prefix.value)
}

/// Returns the host of an `http://` URL in the form used in image references, or `None` for other
/// URLs.
fn plain_host(url: &Url) -> Option<Host> {
    let name = url.host_str().filter(|_| url.scheme() == "http")?;
    let host = url
        .port()
        .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    host.parse().ok()
}

/// Reads the connection settings of hosts.
pub(super) fn hosts(root: &Fields<'_>) -> BTreeMap<Host, HostSettings> {
    let context = root.context;
    let mut hosts = BTreeMap::new();
    let mut lines: BTreeMap<Host, usize> = BTreeMap::new();
    for (pair, at) in root.pairs("hosts") {
        let host = root
            .user_key(pair, &at)
            .and_then(|name| match name.parse::<Host>() {
                Ok(host) => Some(host),
                Err(error) => {
                    context.error(
                        &at,
                        error.to_string(),
                        "write the host as in image references, for example `docker.io` or `registry:5000`",
                    );
                    None
                }
            });
        let settings = Fields::open(context, &HOST, at.clone(), &pair.value)
            .map(|fields| settings(context, &fields));
        let (Some(host), Some(settings)) = (host, settings) else {
            continue;
        };
        if let Some(line) = lines.insert(host.clone(), pair.key.span.line) {
            context.error(
                &at,
                format!("the host `{host}` is already configured in line {line}"),
                "write all settings of a host under one key",
            );
        }
        hosts.insert(host, settings);
    }
    hosts
}

fn settings(context: &CheckContext<'_>, fields: &Fields<'_>) -> HostSettings {
    let path = |name: &str| {
        fields
            .optional::<PathBuf>(name)
            .map(|path| context.directory.join(path.value))
    };
    let (certificate, key) = (path("client_cert"), path("client_key"));
    let together = |missing: &str, given: &str| {
        let at: KeyLocation = fields.location(given);
        context.error(
            &at,
            format!("`{given}` without `{missing}`"),
            format!("add `{missing}:` with the path of a PEM file"),
        );
    };
    match (fields.has("client_cert"), fields.has("client_key")) {
        (true, false) => together("client_key", "client_cert"),
        (false, true) => together("client_cert", "client_key"),
        _ => {}
    }
    HostSettings {
        endpoint: fields.optional("endpoint").map(|url| url.value),
        ca_file: path("ca_file"),
        client_certificate: certificate
            .zip(key)
            .map(|(certificate, key)| ClientCertificateFiles { certificate, key }),
        insecure_skip_verify: fields.value("insecure_skip_verify").unwrap_or_default(),
        max_connections: fields
            .optional("max_connections")
            .map(|number| number.value),
        requests_per_second: fields
            .optional("requests_per_second")
            .map(|number| number.value),
    }
}
