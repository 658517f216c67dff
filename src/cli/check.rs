//! `imglife check`, `imglife latest` and `imglife base-args`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::OutputForm;
use crate::app::{
    ArgumentsForm, BaseArgumentsOptions, CheckOptions, CheckOutput, LatestOptions, Policy,
    SourceOptions,
};
use crate::model::ImageReference;

/// Tell whether the base of an application is current and alive
///
/// Reports whether a newer base exists, whether the same tag was rebuilt, and when its support
/// ends. A base is current when it is one of those that the platform team builds now, in any of its
/// lines; else the newest image of the likest line is named.
///
/// What is current is told by the inventory that `imglife status --publish` stores, else by the
/// `imglife.yaml` of the base repository, read through the forge, else with `--probe` by the tags
/// of the registry. An application's repository needs no file for this: the variables
/// `IMGLIFE_REGISTRY_PROVIDER`, `IMGLIFE_REGISTRY_URL` and `IMGLIFE_REGISTRY_PROJECT_ID` are
/// enough.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife check
      the base of ./Dockerfile
  imglife check --dockerfile docker/Dockerfile --build-arg VERSION=3.21.3-core1.0.0
      an argument that the build is given too
  imglife check --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --strict --max-days 30
      fail when it is outdated, or its support ends within 30 days
  imglife check --output gitlab > gl-code-quality-report.json
      findings at the line of the FROM, in GitLab's merge requests
  imglife check --output github
      the same in GitHub Actions, as annotations
  imglife check --probe --base registry.example.com/bases/alpine:3.21.3-core1.0.0
      without an inventory: by the tags of the registry

Exit codes:
  0  the check was made, whatever it found
  1  the check could not be made
  2  wrong usage or configuration
  3  with --strict: the base is outdated, pinned and rebuilt, expired, or has fewer days left than --max-days")]
pub(super) struct CheckArguments {
    /// The base [default: that of the Dockerfile's last stage]
    #[arg(long, value_name = "REF")]
    base: Option<ImageReference>,

    /// The Dockerfile that names the base [default: Dockerfile, unless --base is given]
    #[arg(long, value_name = "FILE")]
    dockerfile: Option<PathBuf>,

    /// A build argument, as the build is given it (can be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,

    /// The project whose last build is compared [default: `CI_PROJECT_PATH`, `GITHUB_REPOSITORY`]
    #[arg(long, value_name = "PATH")]
    project: Option<String>,

    /// Exit with 3 when the base is outdated, pinned and rebuilt, or expired
    #[arg(long)]
    strict: bool,

    /// Exit with 0 whatever is found, even when the check could not be made
    #[arg(long)]
    warn: bool,

    /// With --strict: also when fewer days of support are left
    #[arg(long, value_name = "DAYS")]
    max_days: Option<u32>,

    #[command(flatten)]
    sources: SourceArguments,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: CheckForm,

    /// Write a code quality report, as GitLab reads it
    #[arg(long, value_name = "FILE")]
    report_codequality: Option<PathBuf>,

    /// Write the result as variables for later jobs, as GitLab reads them
    #[arg(long, value_name = "FILE")]
    report_dotenv: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SourceArguments {
    /// The configuration of the base repository, instead of the inventory: an https address or a
    /// file
    #[arg(long, value_name = "URL")]
    config_url: Option<String>,

    /// End-of-life data, instead of those of the base repository: an https address or a file
    #[arg(long, value_name = "URL")]
    eol_data_url: Option<String>,

    /// Ask the registry where nothing else knows
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
    /// A code quality report
    Gitlab,
    /// Text, and annotations
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
/// The newest of those that the platform team builds now, from the sources that `imglife check`
/// has. Only the reference is printed, so that it can stand in a command.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  docker build --build-arg BASE_IMAGE=$(imglife latest alpine) .
      build on the newest alpine base
  imglife latest golang --line 1.22
      the newest of a line
  imglife latest registry.example.com/bases/alpine --probe
      by the tags of the registry

Exit codes:
  0  printed
  1  there is no such base, or nothing is known
  2  wrong usage or configuration")]
pub(super) struct LatestArguments {
    /// The base: its repository, or the last part of it
    #[arg(value_name = "NAME")]
    name: String,

    /// Only versions that begin like this, as in `1.22`
    #[arg(long, value_name = "VERSION")]
    line: Option<String>,

    #[command(flatten)]
    sources: SourceArguments,

    /// The form of the answer on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,
}

impl LatestArguments {
    pub(super) fn options(self) -> LatestOptions {
        LatestOptions {
            name: self.name,
            line: self.line,
            sources: self.sources.into(),
            output: self.output.into(),
        }
    }
}

/// Print the flags that tell a build which base it stands on
///
/// BuildKit does not write down which base an image was built from. These labels and annotations
/// do, for `imglife register` and for other tools that read the standard names. The digest is added
/// where it is known from the reference or from the sources that `imglife check` has.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  docker buildx build $(imglife base-args \"$BASE_IMAGE\") --build-arg BASE_IMAGE=\"$BASE_IMAGE\" --push -t \"$IMAGE\" .
      without quotes around the substitution: it stands for several words, none of which a shell changes
  imglife base-args registry.example.com/bases/alpine:3.21.3-core1.0.0 --format json
      the same for programs

Exit codes:
  0  printed
  1  the reference cannot be written as flags
  2  wrong usage or configuration")]
pub(super) struct BaseArgsArguments {
    /// The base
    #[arg(value_name = "REF")]
    base: ImageReference,

    /// The form of the answer on stdout
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
