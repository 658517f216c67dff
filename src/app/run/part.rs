//! What a step tells the run that it is part of, besides what it prints.

use std::sync::Mutex;

use serde::Serialize;
use serde_json::Value;

use super::OwnBuilder;
use crate::model::lock::lock;

/// A step's side of a run.
pub struct Part {
    /// How builders are made where none is there.
    pub(in crate::app) builder: OwnBuilder,
    told: Mutex<Told>,
}

/// What a step told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Its reports for programs, each with its name.
    pub(super) reports: Vec<(String, Value)>,
    /// Whether it changed anything anywhere.
    pub(super) changed: bool,
    /// What later jobs may want to know, by the name of a variable.
    pub(super) outputs: Vec<(&'static str, String)>,
    /// What violates a policy.
    pub(super) violations: Vec<String>,
}

impl Part {
    pub(super) fn new(builder: OwnBuilder) -> Part {
        Part {
            builder,
            told: Mutex::default(),
        }
    }

    /// Takes a report.
    pub(in crate::app) fn report<T: Serialize>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), serde_json::Error> {
        let report = serde_json::to_value(value)?;
        self.with(|told| told.reports.push((name.to_owned(), report)));
        Ok(())
    }

    /// Takes whether anything was changed.
    pub(in crate::app) fn changed(&self, changed: bool) {
        self.with(|told| told.changed |= changed);
    }

    /// Takes what later jobs may want to know.
    pub(in crate::app) fn outputs(
        &self,
        outputs: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        self.with(|told| told.outputs.extend(outputs));
    }

    /// Takes what violates a policy.
    pub(in crate::app) fn violated(&self, violations: &[String]) {
        self.with(|told| told.violations.extend_from_slice(violations));
    }

    pub(super) fn told(&self) -> Told {
        let mut told = Told::default();
        self.with(|own| told = own.clone());
        told
    }

    fn with(&self, work: impl FnOnce(&mut Told)) {
        work(&mut lock(&self.told));
    }
}
