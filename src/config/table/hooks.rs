//! Keys of every `hooks` section.

use super::spec::{SectionSpec, Shape, key};

const HOOKS_SHAPE: Shape = Shape::List(&Shape::Section(&HOOK));

pub(in crate::config) static HOOK: SectionSpec = SectionSpec {
    name: "a hook",
    keys: &[
        key(
            "cmd",
            Shape::Command,
            "Command line for `sh -c`, or a list with a program and its arguments. Placeholders: `{{ image }}`, `{{ digest }}`, `{{ source }}`, `{{ target }}` and `{{ tag }}`.",
        )
        .required()
        .literal(),
        key("timeout", Shape::Duration, "Time after which the command and its child processes are killed.").default("60s"),
        key("continue_on_error", Shape::Flag, "Report a failure of the hook, but do not fail the run.").default("false"),
    ],
};

pub(in crate::config) static SYNC_HOOKS: SectionSpec = SectionSpec {
    name: "sync.hooks",
    keys: &[key("post_sync", HOOKS_SHAPE, "Hooks to run after all entries.").default("[]")],
};

pub(in crate::config) static ENTRY_HOOKS: SectionSpec = SectionSpec {
    name: "sync.entries[].hooks",
    keys: &[key(
        "post_sync",
        HOOKS_SHAPE,
        "Hooks to run after this entry if it changed something.",
    )
    .default("[]")],
};

pub(in crate::config) static BUILD_HOOKS: SectionSpec = SectionSpec {
    name: "build.hooks",
    keys: &[key(
        "post_image_build",
        HOOKS_SHAPE,
        "Hooks to run after each push.",
    )
    .default("[]")],
};

pub(in crate::config) static IMAGE_HOOKS: SectionSpec = SectionSpec {
    name: "build.images[].hooks",
    keys: &[key(
        "post_image_build",
        HOOKS_SHAPE,
        "Hooks to run after each push. The default is `build.hooks.post_image_build`.",
    )],
};
