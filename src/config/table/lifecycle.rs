//! Keys of the section `lifecycle`, and of the `lifecycle` of an image or an entry.

use super::spec::{MAX_COUNT, SectionSpec, Shape, choice, key, whole};
use crate::config::settings::{EolProvider, EolTarget};
use crate::model::eol::Phase;

pub(in crate::config) static LIFECYCLE: SectionSpec = SectionSpec {
    name: "lifecycle",
    keys: &[
        key(
            "eol_provider",
            choice::<EolProvider>(),
            "endoflife: use the endoflife.date API. local: use only the data file.",
        )
        .default("endoflife"),
        key(
            "eol_target",
            choice::<EolTarget>(),
            "git: write the data file to the working tree. pkgregistry: upload it to the package registry.",
        )
        .default("git"),
        key(
            "eol_data_file",
            Shape::Path,
            "File that stores the end-of-life data.",
        )
        .default("eol-data.yaml"),
        key("api_url", Shape::Url, "URL of the endoflife.date API.")
            .default("https://endoflife.date/api"),
        key(
            "warn_days",
            whole(0, MAX_COUNT),
            "Number of days before an end-of-life date at which warnings start. `IMGLIFE_ALERT_CRITICAL_DAYS` overrides it.",
        )
        .default("30"),
        key(
            "phase",
            choice::<Phase>(),
            "Date that counts as the end of life: eoas (end of active support), eol (end of life) or eoes (end of extended support).",
        )
        .default("eol"),
        key(
            "notify",
            Shape::Section(&NOTIFY),
            "Notifications about end-of-life dates.",
        ),
    ],
};

pub(in crate::config) static NOTIFY: SectionSpec = SectionSpec {
    name: "lifecycle.notify",
    keys: &[
        key(
            "slack_webhook_env",
            Shape::VariableName,
            "Name of the environment variable with the URL of a Slack webhook.",
        )
        .literal(),
        key(
            "webhook_env",
            Shape::VariableName,
            "Name of the environment variable with the URL of a generic webhook.",
        )
        .literal(),
        key(
            "at_days",
            Shape::List(&whole(0, MAX_COUNT)),
            "Numbers of days before an end-of-life date at which a notification is sent. After the date, it is sent weekly.",
        )
        .default("[90, 30, 7, 0]"),
    ],
};

pub(in crate::config) static IMAGE_LIFECYCLE: SectionSpec = SectionSpec {
    name: "an image's lifecycle",
    keys: &[
        key("product", Shape::Text, "Name or alias of the product on endoflife.date. The default is the product that endoflife.date lists for the source repository."),
        key(
            "extract",
            Shape::Extract,
            "How to find the release cycle in a tag: major, minor, patch, full, or a regular expression with one capture group. The default is the longest release cycle that the tag starts with.",
        )
        .literal(),
        key("track", Shape::Extract, "Alias of `extract`.").literal(),
        key("phase", choice::<Phase>(), "Date that counts as the end of life. The default is `lifecycle.phase`."),
        key("accept", Shape::Section(&ACCEPT), "Paid support or an accepted risk: the end of life is not a violation until a given day."),
    ],
};

pub(in crate::config) static ACCEPT: SectionSpec = SectionSpec {
    name: "an accepted end of life",
    keys: &[
        key("until", Shape::Date, "Last day of the acceptance.").required(),
        key("reason", Shape::Text, "Reason, shown in reports.").required(),
    ],
};
