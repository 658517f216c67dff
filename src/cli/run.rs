//! `imglife run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::build::BuildArguments;
use super::check::CheckArguments;
use super::cleanup::CleanupArguments;
use super::eol::UpdateArguments;
use super::misspelt::misspelt;
use super::output::OutputForm;
use super::register::RegisterArguments;
use super::shard::ShardArgument;
use super::status::StatusArguments;
use super::sync::SyncArguments;
use super::written::{names, parsed, written};
use crate::app::{self, Event, Node, OwnBuilder, Push, RunOptions, StepOptions};
use crate::error::Failure;
use crate::model::Variables;

/// Run the steps of a pipeline
///
/// Runs the steps in the order sync, build, eol-update, status, cleanup, check, register. Without
/// names those that the event calls for: sync, build, eol-update and status on a schedule or by
/// hand, build and status after a push; in CI, build on the default branch only. The event is the
/// CI server's, outside of CI `manual`. eol-update and status run although a step before them
/// failed; cleanup does not after a failed sync.
///
/// On the default branch in CI, what changed is also committed and pushed (`eol-data.yaml`,
/// `README.md`), the inventory is published, and the messages of `lifecycle.notify` are sent.
///
/// The options of a step are those of its own command. They follow `--` where one step is named, or
/// are variables: `IMGLIFE_CHECK_MAX_DAYS=30` is `--max-days 30` of check,
/// `IMGLIFE_STATUS_OVERWRITE=true` is `--overwrite` of status, and `IMGLIFE_RUN_PUSH=never` is
/// `--push never` of this command. What can be repeated is one value a line.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
Examples:
  imglife run
      all that the event calls for: the one line of a scheduled job
  imglife run sync build
      two of the steps
  imglife run --event schedule --push never
      what the nightly pipeline would do, without committing anything
  imglife run check -- --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --strict
      a step with options of its own
  imglife run build --shard auto --reports imglife-reports
      a part of the images in each of several jobs, with reports for the CI server

Exit codes:
  0    all steps are done
  1    a step failed; those after it ran where that makes sense
  2    wrong usage or configuration; nothing was done
  3    done, and a policy that was asked for is violated
  130  stopped by Ctrl-C
  143  stopped by SIGTERM")]
pub(super) struct RunArguments {
    /// The steps to run [default: those that the event calls for]
    #[arg(value_name = "STEP", value_enum)]
    steps: Vec<Step>,

    /// Why the pipeline runs [default: as the CI server says, else manual]
    #[arg(long, value_name = "EVENT", value_enum)]
    event: Option<EventName>,

    /// Whether to commit and publish what changed; `auto`: in CI on the default branch
    #[arg(long, value_name = "WHEN", value_enum)]
    push: Option<PushChoice>,

    /// Run nothing after a step that failed
    #[arg(long)]
    fail_fast: bool,

    /// Narrows sync, build and cleanup to entries and images of this name; `*` and `?` are
    /// wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Narrows sync, build and cleanup to the I-th of N equal parts; `auto` takes both from
    /// `CI_NODE_INDEX` and `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Write the reports for CI servers into this directory: JUnit, OpenMetrics, code quality,
    /// dotenv, JSON
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum)]
    output: Option<OutputForm>,

    /// The image of BuildKit, for the builder that is made where docker has only its own
    #[arg(long, value_name = "REF", help_heading = BUILDER)]
    builder_image: Option<String>,

    /// A machine that builds some platforms, as in `linux/arm64=ssh://user@host` (can be repeated)
    #[arg(long, value_name = "PLATFORMS=ENDPOINT", help_heading = BUILDER)]
    builder_node: Vec<Node>,

    /// Where a buildx builder is made for the run: register emulators for other platforms first, by
    /// this image (`tonistiigi/binfmt`), which is run with all privileges
    #[arg(long, value_name = "IMAGE", help_heading = BUILDER)]
    binfmt: Option<String>,

    /// Keep the builder, for runs to come
    #[arg(long, help_heading = BUILDER)]
    keep_builder: bool,

    /// The options of the step, where one is named
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

const BUILDER: &str = "Options of docker's builder";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Step {
    Sync,
    Build,
    EolUpdate,
    Status,
    Cleanup,
    Check,
    Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EventName {
    Schedule,
    Push,
    Web,
    Manual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PushChoice {
    Auto,
    Always,
    Never,
}

/// Returns the names of all variables that stand for options, of a run and of its steps.
pub(super) fn option_variables() -> Vec<String> {
    [
        names::<RunArguments>("run"),
        names::<SyncArguments>("sync"),
        names::<BuildArguments>("build"),
        names::<UpdateArguments>("eol-update"),
        names::<StatusArguments>("status"),
        names::<CleanupArguments>("cleanup"),
        names::<CheckArguments>("check"),
        names::<RegisterArguments>("register"),
    ]
    .concat()
}

/// What an event can call for.
const CALLED_FOR: [Step; 4] = [Step::Sync, Step::Build, Step::EolUpdate, Step::Status];

impl RunArguments {
    /// Returns what is asked for, by arguments and by variables.
    pub(super) fn options(self, variables: &Variables) -> Result<RunOptions, Failure> {
        let mut given = self.or(parsed("run", written::<RunArguments>("run", variables)?)?);
        let mut steps = std::mem::take(&mut given.steps);
        steps.sort_unstable();
        steps.dedup();
        let are_named = !steps.is_empty();
        if !given.options.is_empty() && steps.len() != 1 {
            return Err(Failure::usage(
                "options after `--` are those of a step, so one step must be named",
            )
            .hint("for several give them as variables, as in IMGLIFE_STATUS_FAIL_ON=expired"));
        }
        let steps = if are_named {
            steps
        } else {
            CALLED_FOR.to_vec()
        };
        Ok(RunOptions {
            steps: steps
                .into_iter()
                .map(|step| given.step(step, variables))
                .collect::<Result<_, Failure>>()?,
            are_named,
            event: given.event.map(|event| match event {
                EventName::Schedule => Event::Schedule,
                EventName::Push => Event::Push,
                EventName::Web => Event::Web,
                EventName::Manual => Event::Manual,
            }),
            push: match given.push {
                None | Some(PushChoice::Auto) => Push::Auto,
                Some(PushChoice::Always) => Push::Always,
                Some(PushChoice::Never) => Push::Never,
            },
            fail_fast: given.fail_fast,
            only: given.only,
            reports: given.reports,
            output: given.output.map_or(app::Output::Text, Into::into),
            builder: OwnBuilder {
                image: given.builder_image,
                nodes: given.builder_node,
                emulators: given.binfmt,
                keep: given.keep_builder,
                ..OwnBuilder::default()
            },
            unheard_of: misspelt(&option_variables(), variables),
        })
    }

    /// Returns the arguments, with those of `other` where there are none.
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

    /// Returns what a step is asked to do: by variables, by the options of the run, and after `--`.
    fn step(&self, step: Step, variables: &Variables) -> Result<StepOptions, Failure> {
        Ok(match step {
            Step::Sync => {
                let arguments: SyncArguments = self.arguments("sync", variables)?;
                StepOptions::Sync(arguments.within(self.shard).options(variables)?)
            }
            Step::Build => {
                let arguments: BuildArguments = self.arguments("build", variables)?;
                StepOptions::Build(arguments.within(self.shard).options(variables)?)
            }
            Step::EolUpdate => StepOptions::EolUpdate(
                self.arguments::<UpdateArguments>("eol-update", variables)?
                    .options(),
            ),
            Step::Status => StepOptions::Status(
                self.arguments::<StatusArguments>("status", variables)?
                    .options(),
            ),
            Step::Cleanup => {
                let arguments: CleanupArguments = self.arguments("cleanup", variables)?;
                StepOptions::Cleanup(arguments.within(self.shard).options(variables)?)
            }
            Step::Check => StepOptions::Check(
                self.arguments::<CheckArguments>("check", variables)?
                    .options(),
            ),
            Step::Register => StepOptions::Register(
                self.arguments::<RegisterArguments>("register", variables)?
                    .options(),
            ),
        })
    }

    fn arguments<T: Args>(&self, step: &'static str, variables: &Variables) -> Result<T, Failure> {
        let name = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
        let given: Vec<String> = self.options.iter().map(|option| name(option)).collect();
        // What can be repeated would come to both.
        let written = written::<T>(step, variables)?
            .into_iter()
            .filter(|argument| !given.contains(&name(argument)));
        parsed(step, written.chain(self.options.iter().cloned()))
    }
}
