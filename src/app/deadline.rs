//! Deadline of a run: from `--time-limit`, or from the time limit of the CI job.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::model::Variables;
use crate::model::env;
use crate::process::Process;

/// Time of a CI job that is reserved for the report and for later commands of the job.
const MARGIN: Duration = Duration::from_secs(60);

/// Returns the time at which the run must end, from `time_limit` or the time limit of the CI job.
/// `None`: no limit.
pub fn deadline(time_limit: Option<Duration>, process: &Process) -> Option<Instant> {
    let limit =
        time_limit.or_else(|| remaining_job_time(&process.variables, process.clock.now()))?;
    tracing::debug!(seconds = limit.as_secs(), "time limit of the run");
    Instant::now().checked_add(limit)
}

/// Returns the remaining time of a GitLab job minus [`MARGIN`]. Every job has its start time and
/// its time limit in seconds as variables. `None` outside a job, and if hardly any time remains:
/// then the variables probably belong to another job.
fn remaining_job_time(variables: &Variables, now: DateTime<Utc>) -> Option<Duration> {
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
    fn the_deadline_of_a_gitlab_job_follows_from_its_time_limit() {
        let now = DateTime::parse_from_rfc3339("2026-11-21T10:10:00Z")
            .expect("a time")
            .to_utc();
        let left = |started: &str, limit: &str| {
            let variables = [("CI_JOB_STARTED_AT", started), ("CI_JOB_TIMEOUT", limit)]
                .into_iter()
                .collect();
            remaining_job_time(&variables, now).map(|left| left.as_secs())
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
        assert_eq!(remaining_job_time(&Variables::default(), now), None);
    }
}
