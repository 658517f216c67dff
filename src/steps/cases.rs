//! Items of a run as the cases that CI servers show as tests.

use std::time::Duration;

use super::Trouble;
use super::hooks::HookReport;
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

/// Returns the case of a hook.
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

/// Returns the failure that a trouble is.
pub fn failure(trouble: &Trouble) -> CaseFailure {
    let side = trouble
        .side
        .map_or_else(String::new, |side| format!("side: {side}\n"));
    let hint = trouble
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    CaseFailure {
        message: trouble.cause.clone(),
        text: format!("{}\n{side}{hint}", trouble.cause),
    }
}
