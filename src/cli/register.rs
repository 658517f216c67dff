//! `imglife register`.

use chrono::{DateTime, Utc};
use clap::Args;

use super::output::OutputForm;
use crate::app::RegisterOptions;
use crate::model::ImageReference;

/// Record what an application image was built on
///
/// Stores a record of the image, its base, the commit and the project in the Package Registry, in
/// the place of an older record of the same tag. `status` and `check` tell from these records who
/// uses a base, and `cleanup` keeps the bases that they name.
///
/// The base is found out from the image when `--base` is not given: from the annotation
/// `org.opencontainers.image.base.name`, the label `BASE_IMAGE_REF`, the label `imglife.ref` that
/// every image inherits from a base of `imglife build`, or the label
/// `org.opencontainers.image.base.name`. What the image inherited from its base names the base's
/// own base, and does not count.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife register --image \"$CI_REGISTRY_IMAGE:$CI_COMMIT_TAG\"
      in GitLab CI, after the push: commit and project are known, base and platforms are found out from the image
  imglife register --image registry.example.com/apps/web:1.2.0 --revision 4f2a91c --project team/web \\
      --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --platform 'linux/amd64 linux/arm64'
      everything given: no image registry is asked
  imglife register --image registry.example.com/apps/web:1.2.0 --field team=payments --field tier=1
      with fields of one's own, which reports show

Exit codes:
  0  the record is stored
  1  it is not
  2  wrong usage or configuration; nothing was done")]
pub(super) struct RegisterArguments {
    /// The image that was pushed, with its tag
    #[arg(long, value_name = "REF")]
    image: ImageReference,

    /// The commit it was built from [default: `CI_COMMIT_SHA`, `GITHUB_SHA`]
    #[arg(long, value_name = "SHA")]
    revision: Option<String>,

    /// The path of the project it belongs to [default: `CI_PROJECT_PATH`, `GITHUB_REPOSITORY`]
    #[arg(long, value_name = "PATH")]
    project: Option<String>,

    /// The base it was built on [default: what the image tells]
    #[arg(long, value_name = "REF")]
    base: Option<ImageReference>,

    /// Its platforms, as in `linux/amd64 linux/arm64` [default: what the image tells]
    #[arg(long, value_name = "PLATFORMS")]
    platform: Vec<String>,

    /// A field of one's own (can be repeated); in CI `ci_ref` and `ci_pipeline_url` are there by
    /// themselves
    #[arg(long, value_name = "KEY=VALUE")]
    field: Vec<String>,

    /// When it was built, as in `2026-11-21T07:30:00Z` [default: now]
    #[arg(long, value_name = "TIME")]
    built_at: Option<DateTime<Utc>>,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,
}

impl RegisterArguments {
    pub(super) fn options(self) -> RegisterOptions {
        RegisterOptions {
            image: self.image,
            base: self.base,
            platforms: self.platform,
            revision: self.revision,
            project: self.project,
            fields: self.field,
            built_at: self.built_at,
            output: self.output.into(),
        }
    }
}
