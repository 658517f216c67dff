//! Execution of `eol update`: writes the data.

use super::plan::Plan;
use super::report::{FileOutcome, UpdateReport};
use crate::eol::EolDataStore;
use crate::error::ItemError;
use crate::steps::Mode;

/// Writes the new data, unless it is unchanged or the run changes nothing.
pub async fn execute(
    plan: Plan,
    mode: Mode,
    store: &dyn EolDataStore,
) -> Result<UpdateReport, ItemError> {
    let file = match (&plan.table, mode) {
        (None, _) => FileOutcome::Unchanged,
        (Some(table), Mode::Apply) => {
            store.write(table.write().as_bytes()).await?;
            FileOutcome::Written
        }
        (Some(_), Mode::DryRun | Mode::List) => FileOutcome::Planned,
    };
    Ok(UpdateReport::new(plan, mode, store.name(), file))
}
