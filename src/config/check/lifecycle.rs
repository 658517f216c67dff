//! Check of `lifecycle`, of the lifecycles of images, and of `status`.

use std::path::PathBuf;

use super::reader::{Fields, Located};
use super::scalar::VariableName;
use crate::config::table::{LIFECYCLE, NOTIFY, STATUS};
use crate::config::{Acceptance, Extract, ImageLifecycle, LifecycleConfig, StatusConfig};
use crate::model::Repository;
use crate::model::env;
use crate::model::lifecycle::{Product, ProductName};

/// Reads the section `lifecycle`.
pub(super) fn lifecycle(root: &Fields<'_>) -> Option<LifecycleConfig> {
    let mut fields = root.section_or_empty("lifecycle", &LIFECYCLE);
    fields.override_from("warn_days", env::IMGLIFE_ALERT_CRITICAL_DAYS, false);
    let notify = fields.section_or_empty("notify", &NOTIFY);
    let variable = |name: &str| {
        notify
            .optional::<VariableName>(name)
            .map(|name| name.value.0)
    };
    let (slack_webhook_variable, webhook_variable) =
        (variable("slack_webhook_env"), variable("webhook_env"));
    let provider = fields.value("eol_provider");
    let target = fields.value("eol_target");
    let data_file = fields
        .value::<PathBuf>("eol_data_file")
        .map(|file| root.context.directory.join(file));
    // The default is checked where it is used.
    if let Some(file) = data_file.as_ref().filter(|_| fields.has("eol_data_file")) {
        root.context
            .check_inside(file, &fields.location("eol_data_file"));
    }
    let api_url = fields.value("api_url");
    let warn_days = fields.value("warn_days");
    let phase = fields.value("phase");
    let notify_at_days = notify.list_or_default::<u32>("at_days");
    Some(LifecycleConfig {
        provider: provider?,
        target: target?,
        data_file: data_file?,
        api_url: api_url?,
        warn_days: warn_days?,
        phase: phase?,
        slack_webhook_variable,
        webhook_variable,
        notify_at_days,
    })
}

/// Reads the lifecycles of an image, or returns `None` if the key is not set.
///
/// A lifecycle without a product name refers to the product of the repository `images`.
pub(super) fn products(
    fields: &Fields<'_>,
    images: Option<&Repository>,
) -> Option<Vec<ImageLifecycle>> {
    Some(
        fields
            .sections("lifecycle")?
            .iter()
            .filter_map(|fields| product(fields, images))
            .collect(),
    )
}

fn product(fields: &Fields<'_>, images: Option<&Repository>) -> Option<ImageLifecycle> {
    let product = if fields.has("product") {
        fields
            .optional::<ProductName>("product")
            .map(|name| Product::Named(name.value))
    } else {
        images.cloned().map(Product::OfImages)
    };
    let extract = fields.optional::<Extract>("extract");
    let track = fields.optional::<Extract>("track");
    if fields.has("extract") && fields.has("track") {
        fields.context.error(
            &fields.location("track"),
            "`track` is an alias of `extract`, which is also set",
            "remove one of the two",
        );
    }
    let phase = fields.optional("phase").map(|phase| phase.value);
    let accept = fields
        .has("accept")
        .then(|| fields.section("accept"))
        .flatten()
        .and_then(|accept| {
            let until = accept.required("until");
            let reason = accept.required("reason");
            Some(Acceptance {
                until: until?.value,
                reason: reason?.value,
            })
        });
    let extract = extract
        .or(track)
        .map_or(Extract::LongestPrefix, |extract: Located<Extract>| {
            extract.value
        });
    Some(ImageLifecycle {
        product: product?,
        extract,
        phase,
        accept,
    })
}

/// Reads the section `status`.
pub(super) fn status(root: &Fields<'_>) -> Option<StatusConfig> {
    let fields = root.section_or_empty("status", &STATUS);
    let title = fields.optional("title").map(|title| title.value);
    let client_zone = fields.optional("client_zone").map(|zone| zone.value);
    let graph = fields.value("graph");
    let timeline = fields.value("timeline");
    Some(StatusConfig {
        title,
        client_zone,
        graph: graph?,
        timeline: timeline?,
    })
}
