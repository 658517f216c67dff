//! `imglife register`.

use chrono::{DateTime, Utc};
use clap::Args;

use super::output::OutputFormArgument;
use crate::app::RegisterOptions;
use crate::model::ImageReference;
use crate::model::env;

/// Record which base an application image uses
///
/// Stores a build record with the image, its base, the commit and the project in the Package
/// Registry. It replaces an older record of the same tag. If that record belongs to another
/// project, a warning names both, and `cleanup` keeps its base for another 30 days; with `--strict`
/// this is an error instead. `status` and `check` use the records to show which applications use a
/// base, and `cleanup` keeps the bases in them.
///
/// Without `--base`, the base is detected from the image: from the annotation
/// `org.opencontainers.image.base.name`, the label `BASE_IMAGE_REF`, the label `imglife.ref` that
/// images inherit from bases of `imglife build`, or the label `org.opencontainers.image.base.name`.
/// Values that the image inherited from its base are ignored: they refer to the base of the base.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife register --image \"$CI_REGISTRY_IMAGE:$CI_COMMIT_TAG\"
      in GitLab CI, after the push: commit and project come from CI variables, base and platforms from the image
  imglife register --image registry.example.com/apps/web:1.2.0 --revision 4f2a91c --project team/web \\
      --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --platform 'linux/amd64 linux/arm64'
      set everything, without access to the image registry
  imglife register --image registry.example.com/apps/web:1.2.0 --field team=payments --field tier=1
      add custom fields, which reports show

Exit codes:
  0  the record is stored
  1  the record could not be stored
  2  invalid usage or configuration; nothing was changed")]
pub(super) struct RegisterArguments {
    /// Image that was pushed, with its tag
    #[arg(long, value_name = "REF")]
    image: ImageReference,

    /// Commit that the image was built from [default: `CI_COMMIT_SHA`, `GITHUB_SHA`]
    #[arg(long, value_name = "SHA")]
    revision: Option<String>,

    /// Path of its project [default: `CI_PROJECT_PATH`, `GITHUB_REPOSITORY`]
    #[arg(long, value_name = env::PATH)]
    project: Option<String>,

    /// Base that the image was built on [default: detected from the image]
    #[arg(long, value_name = "REF")]
    base: Option<ImageReference>,

    /// Platforms of the image, such as `linux/amd64 linux/arm64` [default: detected from the image]
    #[arg(long, value_name = "PLATFORMS")]
    platform: Vec<String>,

    /// Custom field (can be repeated); in CI, `ci_ref` and `ci_pipeline_url` are added
    /// automatically
    #[arg(long, value_name = "KEY=VALUE")]
    field: Vec<String>,

    /// Build time, such as `2026-11-21T07:30:00Z` [default: now]
    #[arg(long, value_name = "TIME")]
    built_at: Option<DateTime<Utc>>,

    /// Fail if the image is registered by another project, instead of replacing its record
    #[arg(long)]
    strict: bool,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
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
            strict: self.strict,
            output: self.output.into(),
        }
    }
}
