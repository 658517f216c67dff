//! `imglife run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::build::BuildArguments;
use super::check::CheckArguments;
use super::cleanup::CleanupArguments;
use super::env_options::{arguments_of, option_names, parse};
use super::env_typos::typos;
use super::eol::UpdateArguments;
use super::output::OutputFormArgument;
use super::register::RegisterArguments;
use super::shard::ShardArgument;
use super::status::StatusArguments;
use super::sync::SyncArguments;
use crate::app::{
    self, BuildOptions, BuilderNode, BuildxBuilder, PipelineEvent, PushMode, RunOptions,
    StepOptions,
};
use crate::error::Failure;
use crate::model::Variables;

/// Run the steps of a pipeline
///
/// Runs the named steps in the order sync, build, eol-update, status, cleanup, check, register.
/// Without names, the event of the pipeline selects the steps: sync, build, eol-update and status
/// for a schedule or a manual run, build and status for a push; in CI, build only runs on the
/// default branch. The event is read from the variables of the CI server; outside CI it is
/// `manual`. eol-update and status run even if an earlier step failed; cleanup does not run after a
/// failed sync.
///
/// In CI on the default branch, changed files (`eol-data.yaml`, `README.md`) are committed and
/// pushed, the inventory is published, and end-of-life notifications are sent.
///
/// A step has the options of its own command. Pass them after `--` if one step is named, or set
/// them as environment variables: `IMGLIFE_CHECK_MAX_DAYS=30` is `--max-days 30` of check,
/// `IMGLIFE_STATUS_OVERWRITE=true` is `--overwrite` of status, and `IMGLIFE_RUN_PUSH=never` is
/// `--push never` of this command. Options that can be repeated have one value per line.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
Examples:
  imglife run
      run the steps that the event selects, for example in a scheduled job
  imglife run sync build
      run two steps
  imglife run --event schedule --push never
      run the steps of the nightly pipeline without committing anything
  imglife run check -- --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --strict
      run a step with options
  imglife run build --shard auto --reports imglife-reports
      build a part of the images in each of several parallel jobs, with reports for the CI server

Exit codes:
  0    all steps succeeded
  1    a step failed; later steps ran unless they depend on it
  2    invalid usage or configuration; nothing was changed
  3    success, but a policy that you set is violated
  130  stopped by Ctrl-C
  143  stopped by SIGTERM")]
pub(super) struct RunArguments {
    /// Steps to run [default: the steps that the event selects]
    #[arg(value_name = "STEP", value_enum)]
    steps: Vec<StepArgument>,

    /// Event that started the pipeline [default: from the CI server, outside CI manual]
    #[arg(long, value_name = "EVENT", value_enum)]
    event: Option<EventArgument>,

    /// When to commit and publish changes; `auto`: in CI on the default branch
    #[arg(long, value_name = "WHEN", value_enum)]
    push: Option<PushArgument>,

    /// Run no further steps after a failed step
    #[arg(long)]
    fail_fast: bool,

    /// Limit sync, build and cleanup to entries and images with this name; `*` and `?` are
    /// wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Limit sync, build and cleanup to part I of N equal parts; `auto` reads both from
    /// `CI_NODE_INDEX` and `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Write reports for the CI server into this directory: JUnit, OpenMetrics, code quality,
    /// dotenv, JSON
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum)]
    output: Option<OutputFormArgument>,

    /// BuildKit image for the buildx builder that is created if docker has only its default builder
    #[arg(long, value_name = "REF", help_heading = BUILDER)]
    builder_image: Option<String>,

    /// Machine that builds some platforms, such as `linux/arm64=ssh://user@host` (can be repeated)
    #[arg(long, value_name = "PLATFORMS=ENDPOINT", help_heading = BUILDER)]
    builder_node: Vec<BuilderNode>,

    /// Register emulators for other platforms before a buildx builder is created, with this image
    /// (`tonistiigi/binfmt`), which runs in privileged mode
    #[arg(long, value_name = "IMAGE", help_heading = BUILDER)]
    binfmt: Option<String>,

    /// Keep the created builder for later runs
    #[arg(long, help_heading = BUILDER)]
    keep_builder: bool,

    /// Options of the step, if exactly one is named
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

const BUILDER: &str = "Options of the docker builder";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum StepArgument {
    Sync,
    Build,
    EolUpdate,
    Status,
    Cleanup,
    Check,
    Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EventArgument {
    Schedule,
    Push,
    Web,
    Manual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PushArgument {
    Auto,
    Always,
    Never,
}

/// Returns the names of the variables for all options of a run and its steps.
pub(super) fn option_variables() -> Vec<String> {
    [
        option_names::<RunArguments>("run"),
        option_names::<SyncArguments>("sync"),
        option_names::<BuildArguments>("build"),
        option_names::<UpdateArguments>("eol-update"),
        option_names::<StatusArguments>("status"),
        option_names::<CleanupArguments>("cleanup"),
        option_names::<CheckArguments>("check"),
        option_names::<RegisterArguments>("register"),
    ]
    .concat()
}

/// Steps that an event can select.
const STEPS_OF_EVENTS: [StepArgument; 4] = [
    StepArgument::Sync,
    StepArgument::Build,
    StepArgument::EolUpdate,
    StepArgument::Status,
];

impl RunArguments {
    /// Returns the options, from arguments and environment variables. Arguments take precedence.
    pub(super) fn options(self, variables: &Variables) -> Result<RunOptions, Failure> {
        let mut given = self.or(parse(
            "run",
            arguments_of::<RunArguments>("run", variables)?,
        )?);
        let mut steps = std::mem::take(&mut given.steps);
        steps.sort_unstable();
        steps.dedup();
        let are_named = !steps.is_empty();
        if !given.options.is_empty() && steps.len() != 1 {
            return Err(Failure::usage(
                "options after `--` need exactly one named step",
            )
            .hint("for several steps, set options as variables, such as IMGLIFE_STATUS_FAIL_ON=expired"));
        }
        let steps = if are_named {
            steps
        } else {
            STEPS_OF_EVENTS.to_vec()
        };
        Ok(RunOptions {
            steps: steps
                .into_iter()
                .map(|step| given.step(step, variables))
                .collect::<Result<_, Failure>>()?,
            are_named,
            event: given.event.map(|event| match event {
                EventArgument::Schedule => PipelineEvent::Schedule,
                EventArgument::Push => PipelineEvent::Push,
                EventArgument::Web => PipelineEvent::Web,
                EventArgument::Manual => PipelineEvent::Manual,
            }),
            push: match given.push {
                None | Some(PushArgument::Auto) => PushMode::Auto,
                Some(PushArgument::Always) => PushMode::Always,
                Some(PushArgument::Never) => PushMode::Never,
            },
            fail_fast: given.fail_fast,
            only: given.only,
            reports: given.reports,
            output: given.output.map_or(app::OutputForm::Text, Into::into),
            unknown_variables: typos(&option_variables(), variables),
        })
    }

    /// Returns the arguments, completed by those of `other` that are not set.
    fn or(self, other: RunArguments) -> RunArguments {
        fn filled<T>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
            if one.is_empty() { other } else { one }
        }
        RunArguments {
            steps: self.steps,
            event: self.event.or(other.event),
            push: self.push.or(other.push),
            fail_fast: self.fail_fast || other.fail_fast,
            only: filled(self.only, other.only),
            shard: self.shard.or(other.shard),
            reports: self.reports.or(other.reports),
            output: self.output.or(other.output),
            builder_image: self.builder_image.or(other.builder_image),
            builder_node: filled(self.builder_node, other.builder_node),
            binfmt: self.binfmt.or(other.binfmt),
            keep_builder: self.keep_builder || other.keep_builder,
            options: self.options,
        }
    }

    /// Returns the options of a step: from variables, from the options of the run, and after `--`.
    fn step(&self, step: StepArgument, variables: &Variables) -> Result<StepOptions, Failure> {
        Ok(match step {
            StepArgument::Sync => {
                let arguments: SyncArguments = self.arguments("sync", variables)?;
                StepOptions::Sync(arguments.within(self.shard).options(variables)?)
            }
            StepArgument::Build => {
                let arguments: BuildArguments = self.arguments("build", variables)?;
                StepOptions::Build(BuildOptions {
                    own_builder: Some(self.own_builder()),
                    ..arguments.within(self.shard).options(variables)?
                })
            }
            StepArgument::EolUpdate => StepOptions::EolUpdate(
                self.arguments::<UpdateArguments>("eol-update", variables)?
                    .options(),
            ),
            StepArgument::Status => StepOptions::Status(
                self.arguments::<StatusArguments>("status", variables)?
                    .options(),
            ),
            StepArgument::Cleanup => {
                let arguments: CleanupArguments = self.arguments("cleanup", variables)?;
                StepOptions::Cleanup(arguments.within(self.shard).options(variables)?)
            }
            StepArgument::Check => StepOptions::Check(
                self.arguments::<CheckArguments>("check", variables)?
                    .options(),
            ),
            StepArgument::Register => StepOptions::Register(
                self.arguments::<RegisterArguments>("register", variables)?
                    .options(),
            ),
        })
    }

    /// Returns the settings of the builder that is created if docker has only its default one.
    fn own_builder(&self) -> BuildxBuilder {
        BuildxBuilder {
            image: self.builder_image.clone(),
            nodes: self.builder_node.clone(),
            emulators: self.binfmt.clone(),
            keep: self.keep_builder,
            ..BuildxBuilder::default()
        }
    }

    fn arguments<T: Args>(&self, step: &'static str, variables: &Variables) -> Result<T, Failure> {
        let name = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
        let given: Vec<String> = self.options.iter().map(|option| name(option)).collect();
        // Without this, an option that can be repeated would have the values of both.
        let of_variables = arguments_of::<T>(step, variables)?
            .into_iter()
            .filter(|argument| !given.contains(&name(argument)));
        parse(step, of_variables.chain(self.options.iter().cloned()))
    }
}
