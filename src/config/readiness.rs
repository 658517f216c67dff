//! Commands that a configuration is complete enough to run.

use super::{Config, EolTarget, RegistryConfig, RegistryProvider};

/// Returns for each command that needs a configuration `Ok` if this one is complete enough to run it,
/// otherwise the reason.
pub fn readiness(config: &Config) -> Vec<(&'static str, Result<(), String>)> {
    let needs = |is_present: bool, reason: &str| {
        if is_present {
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
    let uploads = config.lifecycle.target == EolTarget::PackageRegistry;
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
