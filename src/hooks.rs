//! Running the hook commands of the configuration. A shell never parses a value.
//!
//! In a shell command, a placeholder becomes a reference to a variable that is set in the
//! environment of the hook only. In an argument of a program it becomes the value itself, because
//! arguments are not parsed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::command::{CommandError, ProgramCommand, ProgramOutput, ProgramStatus, Runner};
use crate::model::Variables;
use crate::model::hook::{CommandPart, Hook, HookCommand, Placeholder, parts};
use crate::model::text::{Masker, excerpt};

/// Length limit of the output in an error, in characters.
const MAX_SHOWN_OUTPUT: usize = 400;

/// Values for the placeholders of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookValues(BTreeMap<Placeholder, String>);

impl HookValues {
    /// Sets the value of `placeholder`.
    #[must_use]
    pub fn with(mut self, placeholder: Placeholder, value: &impl ToString) -> HookValues {
        self.0.insert(placeholder, value.to_string());
        self
    }

    fn get(&self, placeholder: Placeholder) -> &str {
        self.0.get(&placeholder).map_or("", String::as_str)
    }
}

/// Failure of a hook.
#[derive(Debug, Error)]
pub enum HookError {
    #[error("cannot be run")]
    NotRun(#[from] CommandError),
    #[error("stopped after its time limit of {seconds} s")]
    TimedOut { seconds: u64 },
    #[error("failed with {ending}{output}")]
    Failed { ending: String, output: String },
    #[error("the command is empty")]
    Empty,
}

/// Runs hooks with the environment variables of the run.
#[derive(Clone)]
pub struct HookRunner {
    runner: Arc<dyn Runner>,
    variables: Variables,
    directory: PathBuf,
    masker: Masker,
}

impl HookRunner {
    /// Returns a runner of hooks in `directory` with `variables` as their environment.
    pub fn new(runner: Arc<dyn Runner>, variables: Variables, directory: PathBuf) -> HookRunner {
        HookRunner {
            runner,
            masker: variables.masker(),
            variables,
            directory,
        }
    }

    /// Runs a hook and waits for its end. Its output is logged, with secrets redacted.
    pub async fn run(&self, hook: &Hook, values: &HookValues) -> Result<(), HookError> {
        let (program, arguments) = command_line(&hook.command, values)?;
        let mut environment = self.variables.clone();
        for placeholder in Placeholder::ALL {
            environment.set(placeholder.variable(), values.get(placeholder));
        }
        let output = self
            .runner
            .run(ProgramCommand {
                program,
                arguments,
                environment,
                directory: Some(self.directory.clone()),
                stdin: None,
                timeout: hook.timeout,
            })
            .await?;
        let shown = self.shown(&hook.command);
        for line in output
            .stdout
            .text()
            .lines()
            .chain(output.stderr.text().lines())
        {
            tracing::info!(hook = %shown, "{}", self.masker.mask(line));
        }
        let omitted = output.stdout.omitted + output.stderr.omitted;
        if omitted > 0 {
            tracing::warn!(hook = %shown, "{omitted} bytes of output omitted");
        }
        match output.status {
            ProgramStatus::Exited(0) => Ok(()),
            ProgramStatus::TimedOut => Err(HookError::TimedOut {
                seconds: hook.timeout.as_secs(),
            }),
            ProgramStatus::Exited(code) => Err(HookError::Failed {
                ending: format!("exit code {code}"),
                output: self.last_line(&output),
            }),
            ProgramStatus::Signalled => Err(HookError::Failed {
                ending: "a signal".to_owned(),
                output: self.last_line(&output),
            }),
        }
    }

    /// Returns the command as written in the configuration, with secrets redacted.
    pub fn shown(&self, command: &HookCommand) -> String {
        let text = match command {
            HookCommand::Shell(line) => line.clone(),
            HookCommand::Program(words) => words.join(" "),
        };
        excerpt(&self.masker.mask(&text), 120)
    }

    /// Returns the last line of output for an error; that of stderr is preferred.
    fn last_line(&self, output: &ProgramOutput) -> String {
        let (stdout, stderr) = (output.stdout.text(), output.stderr.text());
        let last = stdout.lines().rev().filter(|line| !line.trim().is_empty());
        let last = stderr
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .chain(last)
            .next();
        last.map_or_else(String::new, |line| {
            format!(
                ", last output: {}",
                excerpt(&self.masker.mask(line), MAX_SHOWN_OUTPUT)
            )
        })
    }
}

/// Returns the program that a command runs and its arguments.
fn command_line(
    command: &HookCommand,
    values: &HookValues,
) -> Result<(String, Vec<String>), HookError> {
    match command {
        HookCommand::Shell(line) => {
            let line: String = parts(line)
                .into_iter()
                .map(|part| match part {
                    CommandPart::Text(text) => text.to_owned(),
                    CommandPart::Value(placeholder) => format!("${{{}}}", placeholder.variable()),
                })
                .collect();
            Ok(("sh".to_owned(), vec!["-c".to_owned(), line]))
        }
        HookCommand::Program(words) => {
            let mut words = words.iter().map(|word| {
                let pieces = parts(word).into_iter().map(|part| match part {
                    CommandPart::Text(text) => text,
                    CommandPart::Value(placeholder) => values.get(placeholder),
                });
                pieces.collect::<String>()
            });
            let program = words
                .next()
                .filter(|program| !program.is_empty())
                .ok_or(HookError::Empty)?;
            Ok((program, words.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tracing::field::Field;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;
    use crate::command::SystemRunner;

    fn runner(variables: &[(&str, &str)], directory: &std::path::Path) -> HookRunner {
        let path = [("PATH", "/usr/bin:/bin")];
        let variables = path.iter().chain(variables).copied().collect();
        HookRunner::new(Arc::new(SystemRunner), variables, directory.to_owned())
    }

    fn shell(line: &str) -> Hook {
        Hook {
            command: HookCommand::Shell(line.to_owned()),
            timeout: Duration::from_secs(20),
            continue_on_error: false,
        }
    }

    /// Layer that stores the messages of log records.
    struct Logs(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Logs {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
                if field.name() == "message" {
                    self.0.lock().expect("no panic").push(format!("{value:?}"));
                }
            });
        }
    }

    fn logs() -> (Arc<Mutex<Vec<String>>>, tracing::Dispatch) {
        let logs = Arc::default();
        let dispatch =
            tracing::Dispatch::new(tracing_subscriber::registry().with(Logs(Arc::clone(&logs))));
        (logs, dispatch)
    }

    #[tokio::test]
    async fn value_is_never_parsed_by_the_shell() {
        let directory = tempfile::tempdir().expect("a directory");
        let values = HookValues::default().with(
            Placeholder::Tag,
            &"$(touch pwned)`touch pwned`; touch pwned",
        );
        let hook = shell(r#"printf '%s' "{{ tag }}" > seen; echo {{tag}} > /dev/null"#);
        runner(&[], directory.path())
            .run(&hook, &values)
            .await
            .expect("the hook runs");
        let seen = std::fs::read_to_string(directory.path().join("seen")).expect("the hook wrote");
        assert_eq!(seen, "$(touch pwned)`touch pwned`; touch pwned");
        assert!(!directory.path().join("pwned").exists());
    }

    #[tokio::test]
    async fn program_receives_values_as_arguments() {
        let directory = tempfile::tempdir().expect("a directory");
        let command = HookCommand::Program(vec!["touch".to_owned(), "a {{ tag }}".to_owned()]);
        let hook = Hook {
            command,
            ..shell("")
        };
        runner(&[], directory.path())
            .run(&hook, &HookValues::default().with(Placeholder::Tag, &"$x;"))
            .await
            .expect("the hook runs");
        assert!(directory.path().join("a $x;").exists());
    }

    #[tokio::test]
    async fn failure_shows_the_last_line_without_secrets() {
        let directory = tempfile::tempdir().expect("a directory");
        let runner = runner(&[("API_TOKEN", "hunter2")], directory.path());
        let error = runner
            .run(
                &shell("echo no access with $API_TOKEN >&2; exit 3"),
                &HookValues::default(),
            )
            .await
            .expect_err("it fails");
        assert_eq!(
            error.to_string(),
            "failed with exit code 3, last output: no access with ***"
        );
    }

    #[tokio::test]
    async fn omitted_output_is_logged() {
        let (logs, dispatch) = logs();
        let _guard = tracing::dispatcher::set_default(&dispatch);
        let directory = tempfile::tempdir().expect("a directory");
        let hook = shell("head -c 1500000 /dev/zero | tr '\\0' x");
        runner(&[], directory.path())
            .run(&hook, &HookValues::default())
            .await
            .expect("the hook runs");
        let logged = logs.lock().expect("no panic").clone();
        assert!(
            logged
                .iter()
                .any(|line| line == "451424 bytes of output omitted"),
            "{} lines",
            logged.len()
        );
    }

    #[tokio::test]
    async fn timed_out_hook_is_stopped_with_its_children() {
        let directory = tempfile::tempdir().expect("a directory");
        let hook = Hook {
            timeout: Duration::from_millis(300),
            ..shell("(sleep 2; touch late) & sleep 30")
        };
        let error = runner(&[], directory.path())
            .run(&hook, &HookValues::default())
            .await
            .expect_err("it times out");
        assert!(matches!(error, HookError::TimedOut { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(
            !directory.path().join("late").exists(),
            "a child outlived the hook"
        );
    }
}
