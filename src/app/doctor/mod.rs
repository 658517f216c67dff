//! `imglife doctor`: runs the checks in parallel, each with a time limit, and reports their
//! findings.

mod job;
mod machine;
mod services;
mod task;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::configuration::load_configuration;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, OutputForm, runtime};
use crate::config::{self, Config, ConfigErrors, DEFAULT_NAME};
use crate::error::{Exit, Failure};
use crate::probe::{ProbeFinding, ProbeReport};
use crate::progress::{Event, ItemOutcome};
use crate::steps::doctor::{DoctorGroup, DoctorReport, clock};
use task::DoctorTask;

/// Maximum number of checks in parallel.
const MAX_CHECKS_IN_PARALLEL: usize = 12;

/// Time limit of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// Options of `imglife doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorOptions {
    pub output: OutputForm,
}

/// Runs all checks.
pub(super) fn run(
    options: &DoctorOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let began = Instant::now();
    let (config, findings) = match load_configuration(global, process) {
        Ok(config) => {
            let findings = configured(&config, &process.directory);
            (Some(config), findings)
        }
        // A file that cannot be read is a failure; errors in its content are findings.
        Err(failure) => match failure.error.downcast_ref::<ConfigErrors>() {
            Some(errors) => (None, invalid(errors)),
            None => return Err(failure),
        },
    };
    // Without a file or a record store, only the machine is checked.
    let config = config.filter(|config| config.file.is_some() || config.registry.is_some());
    runtime::run(context.deadline, |cancel| async {
        let mut tasks = Vec::new();
        if let Some(config) = &config {
            tasks.extend(services::tasks(config, context));
        }
        tasks.extend(machine::tasks(config.as_ref(), context));
        let mut groups = vec![DoctorGroup {
            name: "Configuration".to_owned(),
            checks: findings,
        }];
        let of_job = job::findings(&process.variables);
        if !of_job.is_empty() {
            groups.push(DoctorGroup {
                name: "Job".to_owned(),
                checks: of_job,
            });
        }
        let mut clock_offsets = Vec::new();
        let is_cancelled = cancel.clone();
        for (group, report) in run_checks(tasks, context, cancel).await {
            clock_offsets.extend(report.clock_offset.map(|seconds| (group.clone(), seconds)));
            match groups.iter_mut().find(|known| known.name == group) {
                Some(existing) => existing.checks.extend(report.findings),
                None => groups.push(DoctorGroup {
                    name: group,
                    checks: report.findings,
                }),
            }
        }
        if let Some(machine) = groups
            .iter_mut()
            .find(|group| group.name == machine::MACHINE)
        {
            machine.checks.insert(0, clock(&clock_offsets));
        }
        let report = DoctorReport::new(groups, began.elapsed());
        let exit = if is_cancelled.is_cancelled() {
            Exit::Failed
        } else {
            report.exit()
        };
        CommandResult::reported(exit, options.output, "doctor", &report, report.document())
    })
}

/// Runs the checks and returns their findings, in the order of `tasks`.
async fn run_checks(
    tasks: Vec<DoctorTask<'_>>,
    context: &CommandContext,
    cancel: CancellationToken,
) -> Vec<(String, ProbeReport)> {
    let progress = &context.progress;
    progress.event(Event::Planned { items: tasks.len() });
    let looks = tasks.into_iter().map(|DoctorTask { group, check, work }| {
        let cancel = cancel.clone();
        async move {
            progress.event(Event::Started { item: &group });
            let report = tokio::select! {
                biased;
                () = cancel.cancelled() => ProbeReport::from(vec![ProbeFinding::unknown(check, "", "not checked: the run was stopped")]),
                report = tokio::time::timeout(CHECK_TIMEOUT, work) => report.unwrap_or_else(|_| {
                    let detail = format!("no result after {} seconds", CHECK_TIMEOUT.as_secs());
                    ProbeReport::from(vec![ProbeFinding::wrong(check, "", detail).fix("run with `--log-level debug` to see each request")])
                }),
            };
            let problems = report.findings.iter().filter(|finding| finding.is_problem()).count();
            let detail = match problems {
                0 => String::new(),
                1 => "1 problem".to_owned(),
                count => format!("{count} problems"),
            };
            progress.event(Event::Finished { item: &group, outcome: ItemOutcome::Done { detail: &detail } });
            (group, report)
        }
    });
    stream::iter(looks)
        .buffered(MAX_CHECKS_IN_PARALLEL)
        .collect()
        .await
}

/// Returns the findings for a valid configuration.
fn configured(config: &Config, directory: &std::path::Path) -> Vec<ProbeFinding> {
    const CHECK: &str = "configuration.file";
    let Some(file) = &config.file else {
        if config.registry.is_some() {
            return vec![ProbeFinding::ok(
                CHECK,
                "",
                "there is no file; environment variables configure the record store",
            )];
        }
        let detail = format!(
            "there is no {DEFAULT_NAME} in {}: only this machine is checked",
            directory.display()
        );
        let finding = ProbeFinding::missing(CHECK, "", detail).optional();
        return vec![finding.fix(
            "set its path with `--config PATH` or IMGLIFE_CONFIG; `imglife init` creates one",
        )];
    };
    let (enough, lacking): (Vec<_>, Vec<_>) = config::readiness(config)
        .into_iter()
        .partition(|(_, enough)| enough.is_ok());
    let names = |commands: &[(&'static str, Result<(), String>)]| {
        commands
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let name = file.strip_prefix(directory).unwrap_or(file).display();
    let mut findings = vec![ProbeFinding::ok(CHECK, "", format!("{name} is valid"))];
    findings.push(if enough.is_empty() {
        ProbeFinding::missing(
            "configuration.commands",
            "",
            "the file is not complete enough for any command",
        )
        .fix("run `imglife config check` to see which settings are missing")
    } else {
        ProbeFinding::ok(
            "configuration.commands",
            "",
            format!("complete enough for {}", names(&enough)),
        )
    });
    if !lacking.is_empty() && !enough.is_empty() {
        let finding = ProbeFinding::missing(
            "configuration.commands",
            "",
            format!("not complete enough for {}", names(&lacking)),
        )
        .optional();
        findings.push(finding.fix("run `imglife config check` to see which settings are missing"));
    }
    findings
}

/// Returns the errors of an invalid configuration as findings, unset variables included.
fn invalid(errors: &ConfigErrors) -> Vec<ProbeFinding> {
    let findings = errors.findings.iter().map(|error| {
        let position = error
            .span
            .map(|span| format!("{}:{}", span.line, span.column));
        let about = [
            position,
            Some(error.path.clone()).filter(|path| !path.is_empty()),
        ];
        let about = about.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let finding = ProbeFinding::wrong(
            "configuration.file",
            format!("{}:{about}", errors.name),
            &error.message,
        );
        error
            .hint
            .as_ref()
            .map_or(finding.clone(), |hint| finding.fix(hint))
    });
    let more = (errors.omitted > 0).then(|| {
        ProbeFinding::wrong(
            "configuration.file",
            &errors.name,
            format!("and {} more", errors.omitted),
        )
    });
    let rest = ProbeFinding::unknown(
        "configuration.places",
        "",
        "hosts and credentials are checked once the configuration is valid",
    );
    findings.chain(more).chain([rest]).collect()
}
