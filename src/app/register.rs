//! `imglife register`: options, record store, the step, its result.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::configuration::load_configuration;
use super::image_stores::image_stores;
use super::records::records;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, runtime};
use crate::ci::CiJob;
use crate::error::{Exit, Failure};
use crate::model::text::excerpt;
use crate::model::{ImageReference, Platform};
use crate::process::Process;
use crate::steps::register::{self, RegisterError, RegisterRequest, World};

/// Options of `imglife register`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterOptions {
    pub image: ImageReference,
    pub base: Option<ImageReference>,
    pub platforms: Vec<String>,
    pub revision: Option<String>,
    pub project: Option<String>,
    /// Custom fields, each as `key=value`.
    pub fields: Vec<String>,
    pub built_at: Option<DateTime<Utc>>,
    /// True if a record of another project is not replaced.
    pub strict: bool,
    pub output: OutputForm,
}

impl RegisterOptions {
    /// Returns the request, completed from the variables of the CI server. Fails with a usage error
    /// when a value is missing or malformed.
    fn request(&self, process: &Process) -> Result<RegisterRequest, Failure> {
        let ci = CiJob::of(&process.variables);
        if self.image.tag.is_none() {
            return Err(
                Failure::usage(format!("the image {} has no tag", self.image))
                    .hint("add the tag, as in `--image registry.example.com/apps/web:1.2.0`"),
            );
        }
        let mut platforms: Vec<Platform> = Vec::new();
        for text in &self.platforms {
            platforms.extend(register::parse_platforms(text).ok_or_else(|| {
                Failure::usage(format!(
                    "`--platform {}` is not a list of platforms",
                    excerpt(text, 80)
                ))
                .hint("use the form `linux/amd64 linux/arm64`")
            })?);
        }
        let mut fields = BTreeMap::new();
        for text in &self.fields {
            let (name, value) = field(text)?;
            if fields.insert(name.to_owned(), Value::from(value)).is_some() {
                return Err(Failure::usage(format!("`--field {name}` is set twice")));
            }
        }
        for (name, value) in ci.fields {
            fields.entry(name).or_insert(Value::from(value));
        }
        Ok(RegisterRequest {
            image: self.image.resolved_below(&process.directory),
            base: self
                .base
                .as_ref()
                .map(|base| base.resolved_below(&process.directory)),
            platforms,
            revision: required("--revision", self.revision.as_deref(), ci.revision)?,
            project: required("--project", self.project.as_deref(), ci.project)?,
            fields,
            built_at: self.built_at.unwrap_or_else(|| process.clock.now()),
            is_strict: self.strict,
        })
    }
}

/// Returns the value of an option, or of the CI server if the option is not set. Fails with a usage
/// error when there is none or it is empty.
fn required(flag: &str, option: Option<&str>, ci: Option<String>) -> Result<String, Failure> {
    match option.map(|value| value.trim().to_owned()).or(ci) {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(Failure::usage(format!("`{flag}` is empty"))),
        None => Err(Failure::usage(format!("`{flag}` is missing")).hint(
            "outside CI set both, as in `--project team/web --revision $(git rev-parse HEAD)`",
        )),
    }
}

/// Splits `key=value`. Fails with a usage error when the key is not valid.
fn field(text: &str) -> Result<(&str, &str), Failure> {
    let is_valid_key = |name: &str| {
        !name.is_empty()
            && name.len() <= 100
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    text.split_once('=')
        .filter(|(name, _)| is_valid_key(name))
        .ok_or_else(|| {
            Failure::usage(format!("`--field {}` is not a field", excerpt(text, 80)))
                .hint("use `--field key=value`; keys consist of letters, digits, `_`, `-` and `.`")
        })
}

/// Stores a build record.
pub(super) fn run(
    options: &RegisterOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let request = &options.request(process)?;
    let config = load_configuration(global, process)?;
    let records = records(&config, process, Mode::Apply)?;
    runtime::run(context.deadline, |cancel| async move {
        let began = Instant::now();
        let work = async {
            let world = if request.needs_image() {
                let stores = image_stores(
                    &config,
                    register::repositories(request),
                    context,
                    Mode::DryRun,
                )?;
                register::observe(request, &stores).await.map_err(failure)?
            } else {
                World::default()
            };
            let plan = register::plan(request, &world).map_err(failure)?;
            if let Some(base) = &plan.record.base {
                tracing::info!("detected base {base} (from {})", plan.origin);
            }
            register::execute(plan, &records).await.map_err(failure)
        };
        let mut report = tokio::select! {
            report = work => report?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped; the record may not have been written")),
        };
        report.duration = began.elapsed();
        let mut result = CommandResult::reported(
            Exit::Done,
            options.output,
            "register",
            &report,
            report.document(),
        )?;
        result.outputs.extend(report.outputs());
        Ok(result.changed(true))
    })
}

fn failure(error: RegisterError) -> Failure {
    let hint = error.hint();
    hint.into_iter().fold(Failure::failed(error), Failure::hint)
}
