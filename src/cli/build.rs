//! `imglife build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{OutputFormArgument, mode};
use super::shard::ShardArgument;
use crate::app::{BuildForm, BuildOptions};
use crate::error::Failure;
use crate::model::Variables;

/// Build base images from templates
///
/// Renders the Dockerfile template of each image in the `build` section of the configuration,
/// builds images that are not published yet on their mirror or on another image of the list, and
/// pushes them. Published tags are never overwritten: when a template, the files that it copies or
/// its arguments change, increase `core_version`. Images with unchanged inputs are skipped;
/// `on_base_change` decides what happens when only the base changed. Aliases are moved last. A
/// failed image stops only the images that are built on it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife build
      build and push all images that are not published yet
  imglife build --list
      list the images and what would be done with them
  imglife build --dry-run --only alpine
      show the full report with the rendered Dockerfile, without building anything
  imglife build --force --only alpine
      rebuild and overwrite a published image, for example before anybody uses it
  imglife build --output-dir contexts
      write build contexts for `docker buildx bake`, buildah or kaniko
  imglife build --list --format gitlab-child
      print a child pipeline with a job for each image

Exit codes:
  0  every image is published and up to date
  1  an image or a hook failed; the others are done
  2  invalid usage, configuration, template or folder; nothing was changed")]
pub(super) struct BuildArguments {
    /// List the images and the planned action for each
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,

    /// Print the full report of what would be done, with the rendered Dockerfiles, and change
    /// nothing
    #[arg(long)]
    dry_run: bool,

    /// Write the build context of each image into this directory, and build nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["list", "dry_run", "force", "output"])]
    output_dir: Option<PathBuf>,

    /// Only images with this name or repository; `*` and `?` are wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Rebuild images that are already published, and overwrite their tags
    #[arg(long, requires = "only")]
    force: bool,

    /// Process only part I of N equal parts of the images; `auto` reads both from `CI_NODE_INDEX`
    /// and `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Format of the list
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        requires = "list",
        conflicts_with = "output"
    )]
    format: Option<ImageListForm>,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,

    /// Write a JUnit report with a test case for each image
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,
}

/// Format of the list of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ImageListForm {
    /// One image per line
    Text,
    /// GitLab child pipeline with a job for each image
    GitlabChild,
}

impl BuildArguments {
    /// Returns the arguments with the shard of the run, unless they have their own.
    pub(super) fn within(mut self, shard: Option<ShardArgument>) -> BuildArguments {
        self.shard = self.shard.or(shard);
        self
    }

    /// Returns the options. Fails when `--shard auto` is used without the variables of a CI job.
    pub(super) fn options(self, variables: &Variables) -> Result<BuildOptions, Failure> {
        Ok(BuildOptions {
            mode: mode(self.list, self.dry_run),
            only: self.only,
            shard: self.shard.map(|shard| shard.shard(variables)).transpose()?,
            force: self.force,
            form: match (self.output_dir, self.format) {
                (Some(directory), _) => BuildForm::Contexts(directory),
                (None, Some(ImageListForm::GitlabChild)) => BuildForm::GitlabChild,
                (None, Some(ImageListForm::Text) | None) => BuildForm::Report(self.output.into()),
            },
            report_junit: self.report_junit,
            own_builder: None,
        })
    }
}
