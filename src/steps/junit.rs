//! Items of a run as JUnit test cases, which CI servers display as tests.

use std::time::Duration;

use super::hooks::HookReport;
use crate::error::ItemError;
use crate::report::junit::{CaseFailure, CaseOutcome, TestCase};

/// Returns a case that passed.
pub fn case(classname: &str, name: &str) -> TestCase {
    TestCase {
        name: name.to_owned(),
        classname: classname.to_owned(),
        duration: Duration::ZERO,
        outcome: CaseOutcome::Passed,
    }
}

/// Returns the case of a hook; it fails unless the hook succeeded or its failure is tolerated.
pub fn hook_case(classname: &str, hook: &HookReport) -> TestCase {
    let failure = hook.error.as_ref().filter(|_| !hook.tolerated);
    let failure = failure.map(|error| CaseFailure {
        message: error.clone(),
        text: error.clone(),
    });
    TestCase {
        outcome: failure.into(),
        ..case(classname, &format!("hook {}", hook.command))
    }
}

/// Returns the failure of a case whose item failed with `error`.
pub fn failure(error: &ItemError) -> CaseFailure {
    let side = error
        .side
        .map_or_else(String::new, |side| format!("side: {side}\n"));
    let hint = error
        .hint()
        .map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    CaseFailure {
        message: error.to_string(),
        text: format!("{error}\n{side}{hint}"),
    }
}
