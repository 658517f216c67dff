//! `imglife check`, `imglife latest` and `imglife base-args`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::OutputFormArgument;
use crate::app::{
    ArgumentsForm, BaseArgumentsOptions, CheckOptions, CheckOutput, LatestOptions, Policy,
    SourceOptions,
};
use crate::model::ImageReference;
use crate::model::env;

/// Check that the base of an application is current and supported
///
/// Reports whether a newer base exists, whether the tag of the base was rebuilt, and when the
/// support of the base ends. A base is current if the platform team currently builds it, in any of
/// its release lines; otherwise the newest image of the most similar line is shown.
///
/// The current bases are read from the inventory that `imglife status --publish` uploads, or from
/// the `imglife.yaml` of the base repository through the API of its server, or, with `--probe`,
/// from the tags in the registry. The repository of the application needs no configuration file:
/// the variables `IMGLIFE_REGISTRY_PROVIDER`, `IMGLIFE_REGISTRY_URL` and
/// `IMGLIFE_REGISTRY_PROJECT_ID` are enough.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife check
      check the base of ./Dockerfile
  imglife check --dockerfile docker/Dockerfile --build-arg VERSION=3.21.3-core1.0.0
      set a build argument, as in the build
  imglife check --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --strict --max-days 30
      exit with 3 if the base is outdated or its support ends within 30 days
  imglife check --output gitlab > gl-code-quality-report.json
      show findings at the FROM line in GitLab merge requests
  imglife check --output github
      show findings as annotations in GitHub Actions
  imglife check --probe --base registry.example.com/bases/alpine:3.21.3-core1.0.0
      compare with the tags in the registry, without an inventory

Exit codes:
  0  the check was made, whatever its findings
  1  the check could not be made
  2  invalid usage or configuration
  3  with --strict: the base is outdated, pinned and rebuilt, expired, or has fewer days left than --max-days")]
pub(super) struct CheckArguments {
    /// Base image [default: from the last stage of the Dockerfile]
    #[arg(long, value_name = "REF")]
    base: Option<ImageReference>,

    /// Dockerfile to read the base from [default: Dockerfile, unless --base is set]
    #[arg(long, value_name = "FILE")]
    dockerfile: Option<PathBuf>,

    /// Build argument, as passed to the build (can be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,

    /// Project whose last build is compared [default: `CI_PROJECT_PATH`, `GITHUB_REPOSITORY`]
    #[arg(long, value_name = env::PATH)]
    project: Option<String>,

    /// Exit with 3 if the base is outdated, pinned and rebuilt, or expired
    #[arg(long)]
    strict: bool,

    /// Always exit with 0, even if the check could not be made
    #[arg(long)]
    warn: bool,

    /// With --strict: exit with 3 also if fewer days of support are left
    #[arg(long, value_name = "DAYS")]
    max_days: Option<u32>,

    #[command(flatten)]
    sources: SourceArguments,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: CheckForm,

    /// Write a code quality report for GitLab
    #[arg(long, value_name = "FILE")]
    report_codequality: Option<PathBuf>,

    /// Write the result as variables for later jobs, as a dotenv report for GitLab
    #[arg(long, value_name = "FILE")]
    report_dotenv: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SourceArguments {
    /// Configuration of the base repository, to use instead of the inventory: an https URL or a
    /// file
    #[arg(long, value_name = "URL")]
    config_url: Option<String>,

    /// End-of-life data, to use instead of those of the base repository: an https URL or a file
    #[arg(long, value_name = "URL")]
    eol_data_url: Option<String>,

    /// Read the tags in the registry if no other source is available
    #[arg(long)]
    probe: bool,
}

impl From<SourceArguments> for SourceOptions {
    fn from(arguments: SourceArguments) -> SourceOptions {
        SourceOptions {
            config_url: arguments.config_url,
            eol_data_url: arguments.eol_data_url,
            probe: arguments.probe,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CheckForm {
    #[default]
    Text,
    Json,
    /// Code quality report
    Gitlab,
    /// Text and annotations
    Github,
}

impl CheckArguments {
    pub(super) fn options(self) -> CheckOptions {
        CheckOptions {
            base: self.base,
            dockerfile: self.dockerfile,
            build_arguments: self.build_arg,
            project: self.project,
            policy: Policy {
                strict: self.strict,
                max_days: self.max_days,
                warn_only: self.warn,
            },
            sources: self.sources.into(),
            output: match self.output {
                CheckForm::Text => CheckOutput::Text,
                CheckForm::Json => CheckOutput::Json,
                CheckForm::Gitlab => CheckOutput::Gitlab,
                CheckForm::Github => CheckOutput::Github,
            },
            report_codequality: self.report_codequality,
            report_dotenv: self.report_dotenv,
        }
    }
}

/// Print the newest reference of a base
///
/// Finds the newest image among the bases that the platform team currently builds, from the same
/// sources as `imglife check`. Prints only the reference, for use in a command line.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  docker build --build-arg BASE_IMAGE=$(imglife latest alpine) .
      build on the newest alpine base
  imglife latest golang --line 1.22 --variant slim
      print the newest base of a release line and variant
  imglife latest registry.example.com/bases/alpine --probe
      find the newest tag in the registry

Exit codes:
  0  success
  1  there is no such base, or no source is available
  2  invalid usage or configuration")]
pub(super) struct LatestArguments {
    /// Base: its repository, or the last path component of it
    #[arg(value_name = "NAME")]
    name: String,

    /// Only versions of this release line, such as `1.22`
    #[arg(long, value_name = "VERSION")]
    line: Option<String>,

    /// Only tags of this variant, such as `slim` or `alpine3.21`; empty for tags without a variant
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,

    #[command(flatten)]
    sources: SourceArguments,

    /// Format of the output on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl LatestArguments {
    pub(super) fn options(self) -> LatestOptions {
        LatestOptions {
            name: self.name,
            line: self.line,
            variant: self.variant,
            sources: self.sources.into(),
            output: self.output.into(),
        }
    }
}

/// Print build flags that record the base of an image
///
/// BuildKit does not record which base an image was built from. These flags set standard labels and
/// annotations, which `imglife register` and other tools read. The digest is included if it is part
/// of the reference, or available from the sources of `imglife check`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  docker buildx build $(imglife base-args \"$BASE_IMAGE\") --build-arg BASE_IMAGE=\"$BASE_IMAGE\" --push -t \"$IMAGE\" .
      do not quote the substitution: it expands to several words that need no quotes
  imglife base-args registry.example.com/bases/alpine:3.21.3-core1.0.0 --format json
      print the labels and annotations as JSON

Exit codes:
  0  success
  1  the reference cannot be written as shell words
  2  invalid usage or configuration")]
pub(super) struct BaseArgsArguments {
    /// Base image
    #[arg(value_name = "REF")]
    base: ImageReference,

    /// Format of the output on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    format: BaseArgsForm,

    #[command(flatten)]
    sources: SourceArguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum BaseArgsForm {
    #[default]
    Flags,
    Json,
}

impl BaseArgsArguments {
    pub(super) fn options(self) -> BaseArgumentsOptions {
        let form = match self.format {
            BaseArgsForm::Flags => ArgumentsForm::Flags,
            BaseArgsForm::Json => ArgumentsForm::Json,
        };
        BaseArgumentsOptions {
            base: self.base,
            form,
            sources: self.sources.into(),
        }
    }
}
