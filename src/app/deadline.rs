//! When a run must be over: as it was told, or before the CI server ends its job without a word.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::model::Variables;
use crate::model::env;
use crate::process::Process;

/// What is left of a job's time for the report and for the steps after it.
const MARGIN: Duration = Duration::from_secs(60);

/// Returns the time by which the run must have ended, by its own `time_limit` or that of the CI
/// job; `None`: it may take as long as it needs.
pub fn deadline(time_limit: Option<Duration>, process: &Process) -> Option<Instant> {
    let limit = time_limit.or_else(|| left_of_job(&process.variables, process.clock.now()))?;
    tracing::debug!(seconds = limit.as_secs(), "the time that the run may take");
    Instant::now().checked_add(limit)
}

/// Returns the time that a GitLab job has left, less a margin: its start and its time limit in
/// seconds are variables of every job. `None` outside of a job, and when little is left: then the
/// variables are not about this run, or there is nothing to save.
fn left_of_job(variables: &Variables, now: DateTime<Utc>) -> Option<Duration> {
    let started =
        DateTime::parse_from_rfc3339(variables.get_filled(env::CI_JOB_STARTED_AT)?).ok()?;
    let limit: u32 = variables.get_filled(env::CI_JOB_TIMEOUT)?.parse().ok()?;
    let passed = (now - started.to_utc()).to_std().unwrap_or_default();
    let left = Duration::from_secs(limit.into())
        .checked_sub(passed)?
        .checked_sub(MARGIN)?;
    (left >= MARGIN).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gitlab_job_has_what_is_left_of_its_time_limit() {
        let now = DateTime::parse_from_rfc3339("2026-11-21T10:10:00Z")
            .expect("a time")
            .to_utc();
        let left = |started: &str, limit: &str| {
            let variables = [("CI_JOB_STARTED_AT", started), ("CI_JOB_TIMEOUT", limit)]
                .into_iter()
                .collect();
            left_of_job(&variables, now).map(|left| left.as_secs())
        };
        assert_eq!(left("2026-11-21T10:00:00Z", "3600"), Some(3600 - 600 - 60));
        assert_eq!(
            left("2026-11-21T10:11:00Z", "3600"),
            Some(3600 - 60),
            "the server's clock is ahead"
        );
        assert_eq!(left("2026-11-21T10:00:00Z", "650"), None);
        assert_eq!(
            left("2026-11-20T10:00:00Z", "3600"),
            None,
            "variables of another day"
        );
        assert_eq!(left("soon", "3600"), None);
        assert_eq!(left("2026-11-21T10:00:00Z", "-1"), None);
        assert_eq!(left_of_job(&Variables::default(), now), None);
    }
}
