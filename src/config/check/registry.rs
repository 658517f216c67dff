//! Checking `registry` and `hosts`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

use super::reader::{At, Context, Fields};
use crate::config::table::{HOST, REGISTRY};
use crate::config::words::{ProviderName, Words};
use crate::config::{ClientCertificate, HostSettings, Provider, Registry};
use crate::model::Host;
use crate::model::env;

/// Keys of the section that can be set by `IMGLIFE_REGISTRY_<KEY>`.
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

/// Returns the section with the hosts that speak plain HTTP, or `None` when something is wrong.
pub(super) fn registry(root: &Fields<'_>) -> Option<(Option<Registry>, Vec<Host>)> {
    let context = root.context;
    let mut fields = root.section_or_empty("registry", &REGISTRY);
    let written = fields.value::<ProviderName>("provider");
    for key in OVERRIDABLE {
        fields.override_from(key, &env::registry_key(key), false);
    }
    if !root.has("registry") && !OVERRIDABLE.iter().any(|key| fields.is_overridden(key)) {
        return Some((None, Vec::new()));
    }
    let provider = if fields.is_overridden("provider") {
        fields.value::<ProviderName>("provider")?
    } else {
        written?
    };
    if written.is_some_and(|written| written != provider) {
        // Another provider by variable replaces the section; only what is for all providers stays.
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
                .map(|provider| format!("`provider: {}`", provider.word()))
                .collect();
            context.error(
                &fields.place(key.name),
                format!(
                    "`{}` means nothing with provider `{}`",
                    key.name,
                    provider.word()
                ),
                format!("it goes with {}", names.join(" and ")),
            );
        }
    }
    // Hosts that speak plain HTTP say nothing of where records are.
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
    let region = fields.value::<String>("region");
    let directory = fields.value::<PathBuf>("path");
    let prefix = prefix(&fields, provider);
    let mut insecure: Vec<Host> = fields
        .list::<Host>("insecure_registries")
        .unwrap_or_default()
        .into_iter()
        .map(|host| host.value)
        .collect();
    if matches!(provider, ProviderName::Gitlab | ProviderName::Gitea) {
        insecure.extend(
            [&url, &api_url]
                .into_iter()
                .flatten()
                .filter_map(plain_host),
        );
    }
    match provider {
        ProviderName::Gitea => fields.demand("owner"),
        ProviderName::S3 => fields.demand("bucket"),
        ProviderName::Gitlab | ProviderName::File => {}
    }
    let provider = match provider {
        ProviderName::Gitlab => Provider::Gitlab {
            url,
            api_url,
            project_id,
            config_ref: config_ref?,
        },
        ProviderName::Gitea => Provider::Gitea {
            url,
            api_url,
            owner: owner?,
            repo,
            config_ref: config_ref?,
        },
        ProviderName::S3 => Provider::S3 {
            endpoint: url,
            bucket: bucket?,
            region: region?,
        },
        ProviderName::File => Provider::File {
            directory: context.directory.join(directory?),
        },
    };
    Some((Some(Registry { provider, prefix }), sorted(insecure)))
}

fn sorted(mut hosts: Vec<Host>) -> Vec<Host> {
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Returns the providers that a key is for, or `None` when it is for all.
fn only_for(key: &str) -> Option<&'static [ProviderName]> {
    match key {
        "url" => Some(&[ProviderName::Gitlab, ProviderName::Gitea, ProviderName::S3]),
        "api_url" | "config_ref" => Some(&[ProviderName::Gitlab, ProviderName::Gitea]),
        "project_id" => Some(&[ProviderName::Gitlab]),
        "owner" | "repo" => Some(&[ProviderName::Gitea]),
        "bucket" | "region" => Some(&[ProviderName::S3]),
        "path" => Some(&[ProviderName::File]),
        _ => None,
    }
}

fn prefix(fields: &Fields<'_>, provider: ProviderName) -> Option<String> {
    if !fields.has("prefix") {
        return (provider != ProviderName::S3).then(|| "imglife".to_owned());
    }
    let prefix = fields.optional::<String>("prefix")?;
    let fits = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if !prefix.value.split('/').all(fits) {
        fields.context.error(
            &prefix.at,
            "a prefix consists of letters, digits, `.`, `_` and `-`, in parts between `/`",
            "leave out slashes at its start and end",
        );
        return None;
    }
    Some(prefix.value)
}

/// Returns the host of an `http://` URL as references name it.
fn plain_host(url: &Url) -> Option<Host> {
    let name = url.host_str().filter(|_| url.scheme() == "http")?;
    let host = url
        .port()
        .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    host.parse().ok()
}

/// Returns how to speak to hosts.
pub(super) fn hosts(root: &Fields<'_>) -> BTreeMap<Host, HostSettings> {
    let context = root.context;
    let mut hosts = BTreeMap::new();
    let mut lines: BTreeMap<Host, usize> = BTreeMap::new();
    for (pair, at) in root.pairs("hosts") {
        let host = root
            .chosen_key(pair, &at)
            .and_then(|name| match name.parse::<Host>() {
                Ok(host) => Some(host),
                Err(error) => {
                    context.error(
                        &at,
                        error.to_string(),
                        "name the host as references do, as in `docker.io` or `registry:5000`",
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
                format!("`{host}` is the host of line {line} again"),
                "put all settings of a host under one key",
            );
        }
        hosts.insert(host, settings);
    }
    hosts
}

fn settings(context: &Context<'_>, fields: &Fields<'_>) -> HostSettings {
    let path = |name: &str| {
        fields
            .optional::<PathBuf>(name)
            .map(|path| context.directory.join(path.value))
    };
    let (certificate, key) = (path("client_cert"), path("client_key"));
    let together = |missing: &str, given: &str| {
        let at: At = fields.place(given);
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
            .map(|(certificate, key)| ClientCertificate { certificate, key }),
        insecure_skip_verify: fields.value("insecure_skip_verify").unwrap_or_default(),
        max_connections: fields
            .optional("max_connections")
            .map(|number| number.value),
        requests_per_second: fields
            .optional("requests_per_second")
            .map(|number| number.value),
    }
}
