//! `register`: from its options and the configuration to places, step, report and exit code.

use std::time::Instant;

use super::configuration::load_configuration;
use super::places::image_places;
use super::records::records;
use super::{Global, Mode, Output, Surroundings, runtime};
use crate::error::{Exit, Failure};
use crate::steps::register::{self, RegisterError, Request, World};

pub use crate::steps::register::Request as Registration;

/// What a registration was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterOptions {
    pub registration: Request,
    pub output: Output,
}

/// Records what an image was built on.
pub(super) fn run(options: &RegisterOptions, global: &Global, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    let request = &options.registration;
    let records = records(&config, process, Mode::Apply)?;
    runtime::run(|cancel| async move {
        let began = Instant::now();
        let work = async {
            let world = if request.needs_image() {
                let places = image_places(&config, register::repositories(request), process, Mode::DryRun)?;
                register::observe(request, &*places).await.map_err(failure)?
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
        surroundings.report(options.output, "register", &report, &report.document())?;
        Ok(Exit::Done)
    })
}

fn failure(error: RegisterError) -> Failure {
    let hint = error.hint();
    hint.into_iter().fold(Failure::failed(error), Failure::hint)
}
