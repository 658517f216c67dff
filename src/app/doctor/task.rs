//! A check of `doctor` that runs in parallel with others.

use std::pin::Pin;

use crate::probe::ProbeReport;

/// Check that runs in parallel with others.
pub(super) struct DoctorTask<'a> {
    /// Group of the report that the findings belong to. Tasks with the same group are shown
    /// together.
    pub(super) group: String,
    /// Name of the check that a timeout is reported under.
    pub(super) check: &'static str,
    pub(super) work: Pin<Box<dyn Future<Output = ProbeReport> + 'a>>,
}

impl<'a> DoctorTask<'a> {
    pub(super) fn new(
        group: impl Into<String>,
        check: &'static str,
        work: impl Future<Output = ProbeReport> + 'a,
    ) -> DoctorTask<'a> {
        DoctorTask {
            group: group.into(),
            check,
            work: Box::pin(work),
        }
    }
}
