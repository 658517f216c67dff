//! `doctor`: from the configuration to what is looked at, side by side and each for a short time
//! only, to the report.

mod machine;
mod places;

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::configuration::load_configuration;
use super::{Global, Output, Surroundings, runtime};
use crate::config::{self, Config, ConfigErrors, DEFAULT_NAME};
use crate::error::{Exit, Failure};
use crate::probe::{ProbeFinding, ProbeReport};
use crate::progress::{Event, ItemOutcome};
use crate::steps::doctor::{DoctorGroup, DoctorReport, clock};

/// What is looked at side by side.
const IN_FLIGHT: usize = 12;

/// How long is looked at one place, whatever it does.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a doctor was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorOptions {
    pub output: Output,
}

/// Something to look at.
struct Task<'a> {
    /// The group of the report that it belongs to; what has the same name is shown together.
    group: String,
    /// What is said where it takes too long.
    check: &'static str,
    work: Pin<Box<dyn Future<Output = ProbeReport> + 'a>>,
}

impl<'a> Task<'a> {
    fn new(
        group: impl Into<String>,
        check: &'static str,
        work: impl Future<Output = ProbeReport> + 'a,
    ) -> Task<'a> {
        Task {
            group: group.into(),
            check,
            work: Box::pin(work),
        }
    }
}

/// Looks at everything.
pub(super) fn run(
    options: &DoctorOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let began = Instant::now();
    let (config, findings) = match load_configuration(global, process) {
        Ok(config) => {
            let findings = configured(&config, &process.directory);
            (Some(config), findings)
        }
        // What cannot be read at all is told as every command tells it; what is wrong in it is a
        // finding among others.
        Err(failure) => match failure.error.downcast_ref::<ConfigErrors>() {
            Some(errors) => (None, invalid(errors)),
            None => return Err(failure),
        },
    };
    // Of a configuration of nothing there is nothing to look at but the machine.
    let config = config.filter(|config| config.file.is_some() || config.registry.is_some());
    runtime::run(surroundings.deadline, |cancel| async {
        let mut tasks = Vec::new();
        if let Some(config) = &config {
            tasks.extend(places::tasks(config, surroundings));
        }
        tasks.extend(machine::tasks(config.as_ref(), surroundings));
        let mut groups = vec![DoctorGroup {
            name: "Configuration".to_owned(),
            checks: findings,
        }];
        let mut ahead = Vec::new();
        let is_cancelled = cancel.clone();
        for (group, look) in looked(tasks, surroundings, cancel).await {
            ahead.extend(look.ahead.map(|seconds| (group.clone(), seconds)));
            match groups.iter_mut().find(|known| known.name == group) {
                Some(known) => known.checks.extend(look.findings),
                None => groups.push(DoctorGroup {
                    name: group,
                    checks: look.findings,
                }),
            }
        }
        if let Some(machine) = groups
            .iter_mut()
            .find(|group| group.name == machine::MACHINE)
        {
            machine.checks.insert(0, clock(&ahead));
        }
        let report = DoctorReport::new(groups, began.elapsed());
        surroundings.report(options.output, "doctor", &report, &report.document())?;
        Ok(if is_cancelled.is_cancelled() {
            Exit::Failed
        } else {
            report.exit()
        })
    })
}

/// Returns what the tasks found, in their order.
async fn looked(
    tasks: Vec<Task<'_>>,
    surroundings: &Surroundings,
    cancel: CancellationToken,
) -> Vec<(String, ProbeReport)> {
    let progress = &surroundings.progress;
    progress.event(Event::Planned { items: tasks.len() });
    let looks = tasks.into_iter().map(|Task { group, check, work }| {
        let cancel = cancel.clone();
        async move {
            progress.event(Event::Started { item: &group });
            let look = tokio::select! {
                biased;
                () = cancel.cancelled() => ProbeReport::from(vec![ProbeFinding::unknown(check, "", "not looked at: the run was stopped before")]),
                look = tokio::time::timeout(PATIENCE, work) => look.unwrap_or_else(|_| {
                    let detail = format!("no end after {} seconds", PATIENCE.as_secs());
                    ProbeReport::from(vec![ProbeFinding::wrong(check, "", detail).fix("see what keeps it from answering; `--log-level debug` shows each request")])
                }),
            };
            let problems = look.findings.iter().filter(|finding| finding.is_problem()).count();
            let detail = match problems {
                0 => String::new(),
                1 => "1 problem".to_owned(),
                count => format!("{count} problems"),
            };
            progress.event(Event::Finished { item: &group, outcome: ItemOutcome::Done { detail: &detail } });
            (group, look)
        }
    });
    stream::iter(looks).buffered(IN_FLIGHT).collect().await
}

/// Returns what is found of a valid configuration.
fn configured(config: &Config, directory: &std::path::Path) -> Vec<ProbeFinding> {
    const CHECK: &str = "configuration.file";
    let Some(file) = &config.file else {
        if config.registry.is_some() {
            return vec![ProbeFinding::ok(
                CHECK,
                "",
                "there is no file; variables say where records are",
            )];
        }
        let detail = format!(
            "there is no {DEFAULT_NAME} in {}: only this machine is looked at",
            directory.display()
        );
        let finding = ProbeFinding::missing(CHECK, "", detail).optional();
        return vec![
            finding
                .fix("name one with `--config PATH` or IMGLIFE_CONFIG; `imglife demo` shows one"),
        ];
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
        ProbeFinding::missing("configuration.commands", "", "it suffices for no command")
            .fix("`imglife config check` says what each lacks")
    } else {
        ProbeFinding::ok(
            "configuration.commands",
            "",
            format!("enough for {}", names(&enough)),
        )
    });
    if !lacking.is_empty() && !enough.is_empty() {
        let finding = ProbeFinding::missing(
            "configuration.commands",
            "",
            format!("not enough for {}", names(&lacking)),
        )
        .optional();
        findings.push(finding.fix("`imglife config check` says what each lacks"));
    }
    findings
}

/// Returns what is wrong with a configuration, which are unset variables too.
fn invalid(errors: &ConfigErrors) -> Vec<ProbeFinding> {
    let findings = errors.findings.iter().map(|error| {
        let place = error
            .span
            .map(|span| format!("{}:{}", span.line, span.column));
        let about = [
            place,
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
        "hosts and credentials are looked at once the configuration is valid",
    );
    findings.chain(more).chain([rest]).collect()
}
