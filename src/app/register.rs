//! `register`: from its options and the configuration to places, step, report and exit code.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::configuration::load_configuration;
use super::places::image_places;
use super::records::records;
use super::{Global, Mode, Output, Surroundings, runtime};
use crate::ci::Build;
use crate::error::{Exit, Failure};
use crate::model::text::excerpt;
use crate::model::{ImageReference, Platform};
use crate::process::Process;
use crate::steps::register::{self, RegisterError, RegisterRequest, World};

/// What a registration was asked to do, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterOptions {
    pub image: ImageReference,
    pub base: Option<ImageReference>,
    pub platforms: Vec<String>,
    pub revision: Option<String>,
    pub project: Option<String>,
    /// `key=value` each.
    pub fields: Vec<String>,
    pub built_at: Option<DateTime<Utc>>,
    pub output: Output,
}

impl RegisterOptions {
    /// Returns what is to be recorded, completed by what the CI server tells. Fails when something
    /// is missing or not of its form.
    fn request(&self, process: &Process) -> Result<RegisterRequest, Failure> {
        let ci = Build::of(&process.variables);
        if self.image.tag.is_none() {
            return Err(
                Failure::usage(format!("the image {} has no tag", self.image)).hint(
                    "name it as it was pushed, as in `--image registry.example.com/apps/web:1.2.0`",
                ),
            );
        }
        let mut platforms: Vec<Platform> = Vec::new();
        for text in &self.platforms {
            platforms.extend(register::parse_platforms(text).ok_or_else(|| {
                Failure::usage(format!(
                    "`--platform {}` names no platforms",
                    excerpt(text, 80)
                ))
                .hint("write them as in `linux/amd64 linux/arm64`")
            })?);
        }
        let mut fields = BTreeMap::new();
        for text in &self.fields {
            let (name, value) = field(text)?;
            if fields.insert(name.to_owned(), Value::from(value)).is_some() {
                return Err(Failure::usage(format!("`--field {name}` is given twice")));
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
            revision: filled("--revision", self.revision.as_deref(), ci.revision)?,
            project: filled("--project", self.project.as_deref(), ci.project)?,
            fields,
            built_at: self.built_at.unwrap_or_else(|| process.clock.now()),
        })
    }
}

fn filled(flag: &str, given: Option<&str>, known: Option<String>) -> Result<String, Failure> {
    match given.map(|value| value.trim().to_owned()).or(known) {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(Failure::usage(format!("`{flag}` is empty"))),
        None => Err(Failure::usage(format!("`{flag}` is missing"))
            .hint("jobs of a CI server know both; elsewhere say them, as in `--project team/web --revision $(git rev-parse HEAD)`")),
    }
}

fn field(text: &str) -> Result<(&str, &str), Failure> {
    let is_fit = |name: &str| {
        !name.is_empty()
            && name.len() <= 100
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    text.split_once('=').filter(|(name, _)| is_fit(name)).ok_or_else(|| {
        Failure::usage(format!("`--field {}` is no field", excerpt(text, 80)))
            .hint("write it as `--field key=value`; keys consist of letters, digits, `_`, `-` and `.`")
    })
}

/// Records what an image was built on.
pub(super) fn run(
    options: &RegisterOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let request = &options.request(process)?;
    let config = load_configuration(global, process)?;
    let records = records(&config, process, Mode::Apply)?;
    runtime::run(surroundings.deadline, |cancel| async move {
        let began = Instant::now();
        let work = async {
            let world = if request.needs_image() {
                let stores = image_places(
                    &config,
                    register::repositories(request),
                    surroundings,
                    Mode::DryRun,
                )?;
                register::observe(request, &stores).await.map_err(failure)?
            } else {
                World::default()
            };
            let plan = register::plan(request, &world).map_err(failure)?;
            tracing::info!(base = %plan.record.base.as_ref().map(ToString::to_string).unwrap_or_default(), "the base is told by {}", plan.origin);
            register::execute(plan, &records).await.map_err(failure)
        };
        let mut report = tokio::select! {
            report = work => report?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped before the record was known to be written")),
        };
        report.duration = began.elapsed();
        surroundings.note(true, report.outputs());
        surroundings.report(options.output, "register", &report, &report.document())?;
        Ok(Exit::Done)
    })
}

fn failure(error: RegisterError) -> Failure {
    let hint = error.hint();
    hint.into_iter().fold(Failure::failed(error), Failure::hint)
}
