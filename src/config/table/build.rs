//! Keys of the section `build`.

use super::hooks::{BUILD_HOOKS, IMAGE_HOOKS};
use super::lifecycle::IMAGE_LIFECYCLE;
use super::retention::RETENTION;
use super::spec::{PLATFORMS, SectionSpec, Shape, choice, key, whole};
use crate::config::settings::{EngineChoice, ImageType, OnBaseChange, ProvenanceMode};

pub(in crate::config) static BUILD: SectionSpec = SectionSpec {
    name: "build",
    keys: &[
        key(
            "core_version",
            Shape::Tag,
            "Version of the templates and build policy. Increase it when they change.",
        )
        .required(),
        key(
            "registry",
            Shape::BasePath,
            "Base path of the repositories that images are pushed to.",
        )
        .required(),
        key(
            "engine",
            choice::<EngineChoice>(),
            "Build engine. `auto` selects the first one that is available.",
        )
        .default("auto"),
        key(
            "builder",
            Shape::AnyText,
            "Name of the buildx builder. Leave it empty for the default builder of docker. `IMGLIFE_BUILDER` overrides it.",
        ),
        key(
            "platforms",
            PLATFORMS,
            "Platforms to build for, unless an image sets its own.",
        )
        .default("[linux/amd64]"),
        key(
            "tag_format",
            Shape::Text,
            "Template of the tags. Variables: `name`, `type`, `version` and `core_version`.",
        )
        .default("{{ version }}-core{{ core_version }}")
        .literal(),
        key(
            "on_base_change",
            choice::<OnBaseChange>(),
            "Action if only the digest of the mirror image changed since the tag was published.",
        )
        .default("skip"),
        key("sbom", Shape::Flag, "Attach an SBOM. Requires buildx.").default("false"),
        key(
            "provenance",
            choice::<ProvenanceMode>(),
            "Attach provenance. Requires buildx.",
        )
        .default("false"),
        key(
            "parallelism",
            whole(1, 256),
            "Maximum number of images built at the same time.",
        )
        .default("2"),
        key(
            "hooks",
            Shape::Section(&BUILD_HOOKS),
            "Hooks: commands to run afterwards.",
        ),
        key(
            "images",
            Shape::List(&Shape::Section(&IMAGE)),
            "The base images.",
        )
        .required(),
    ],
};

pub(in crate::config) static IMAGE: SectionSpec = SectionSpec {
    name: "build.images[]",
    keys: &[
        key(
            "name",
            Shape::Text,
            "Name of the image, which is pushed to `<registry>/<name>`. Several images may have the same name and different versions.",
        )
        .required(),
        key(
            "folder",
            Shape::Path,
            "Directory with the template and all files that it copies.",
        )
        .required(),
        key("tmpl", Shape::Text, "File name of the template in `folder`.").default("Dockerfile.tmpl"),
        key(
            "type",
            choice::<ImageType>(),
            "core: production image. spe: special-purpose image. spe-dev: development image, not included in reports.",
        )
        .required(),
        key(
            "mirror_image",
            Shape::Repository,
            "Repository of the image to build from, without a tag. May be another image in this list.",
        )
        .required(),
        key(
            "mirror_tag",
            Shape::Tag,
            "Tag to build from. The default is the newest tag that the sync entry with this target selects.",
        ),
        key(
            "version",
            Shape::Tag,
            "Upstream version in the tag of the image. The default is the mirror tag.",
        ),
        key("args", Shape::Map(&Shape::AnyText), "Build arguments.").default("{}"),
        key(
            "aliases",
            Shape::List(&Shape::Tag),
            "Floating tags to move to the new image after the push.",
        )
        .default("[]"),
        key("platforms", PLATFORMS, "Platforms to build for. The default is `build.platforms`."),
        key("sbom", Shape::Flag, "Attach an SBOM. The default is `build.sbom`."),
        key(
            "provenance",
            choice::<ProvenanceMode>(),
            "Attach provenance. The default is `build.provenance`.",
        ),
        key(
            "core_version",
            Shape::Tag,
            "Core version of the image. The default is `build.core_version`.",
        ),
        key(
            "hooks",
            Shape::Section(&IMAGE_HOOKS),
            "Hooks: commands to run afterwards.",
        ),
        key(
            "retention",
            Shape::Section(&RETENTION),
            "Overrides of the general `retention` for this image.",
        ),
        key(
            "lifecycle",
            Shape::OneOrMore(&IMAGE_LIFECYCLE),
            "Products in the image. The default is the `lifecycle` of the sync entry with the target `mirror_image`, or of the image that it is built from.",
        ),
    ],
};
