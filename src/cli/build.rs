//! `imglife build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{OutputForm, mode};
use super::shard::ShardArgument;
use crate::app::{BuildForm, BuildOptions};
use crate::error::Failure;
use crate::model::Variables;

/// Build base images from templates
///
/// Renders the template of each image of the configuration's `build` section, builds what is not
/// published yet on its mirror, or on another image of the list, and pushes it under a tag that is
/// never overwritten: when a template, the files it copies or its arguments change, `core_version`
/// has to be raised. What is published and made of the same is left alone; what becomes of it when
/// only its base moved is up to `on_base_change`. Aliases are moved last. An image that fails stops
/// only those that are built on it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife build
      build and push everything that is not published yet
  imglife build --list
      which images there are, and what would become of them
  imglife build --dry-run --only alpine
      the whole report with the rendered Dockerfile, without building anything
  imglife build --force --only alpine
      build and overwrite an image that is published, which nobody uses yet
  imglife build --output-dir contexts
      write what each image is made of, for `docker buildx bake`, buildah or kaniko
  imglife build --list --format gitlab-child
      a child pipeline with a job for each image

Exit codes:
  0  every image is published as it should be
  1  an image or a hook failed; the others are done
  2  wrong usage, configuration, template or folder; nothing was done")]
pub(super) struct BuildArguments {
    /// Print the images and what would become of them, one a line, and stop
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,

    /// Print the whole report of what would be done, with the rendered Dockerfiles, and change
    /// nothing
    #[arg(long)]
    dry_run: bool,

    /// Write what each image is made of into this directory, and build nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["list", "dry_run", "force", "output"])]
    output_dir: Option<PathBuf>,

    /// Only images of this name or repository; `*` and `?` are wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Build the images of `--only` again although they are published, and overwrite their tags
    #[arg(long, requires = "only")]
    force: bool,

    /// Only the I-th of N equal parts of the images; `auto` takes both from `CI_NODE_INDEX` and
    /// `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// The form of the list
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        requires = "list",
        conflicts_with = "output"
    )]
    format: Option<ListForm>,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,

    /// Write a JUnit report, a case for each image
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,
}

/// The form of a list of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListForm {
    /// One image a line
    Text,
    /// A child pipeline for GitLab, with a job for each image
    GitlabChild,
}

impl BuildArguments {
    /// Returns the arguments, narrowed further as the run that this is a step of is.
    pub(super) fn within(mut self, shard: Option<ShardArgument>) -> BuildArguments {
        self.shard = self.shard.or(shard);
        self
    }

    /// Returns what is asked for. Fails when `--shard auto` cannot tell the part.
    pub(super) fn options(self, variables: &Variables) -> Result<BuildOptions, Failure> {
        Ok(BuildOptions {
            mode: mode(self.list, self.dry_run),
            only: self.only,
            shard: self.shard.map(|shard| shard.shard(variables)).transpose()?,
            force: self.force,
            form: match (self.output_dir, self.format) {
                (Some(directory), _) => BuildForm::Contexts(directory),
                (None, Some(ListForm::GitlabChild)) => BuildForm::GitlabChild,
                (None, Some(ListForm::Text) | None) => BuildForm::Report(self.output.into()),
            },
            report_junit: self.report_junit,
        })
    }
}
