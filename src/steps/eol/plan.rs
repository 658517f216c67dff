//! The plan of `eol update`: the new data, and the changes of each product. Pure.

use serde::Serialize;

use super::observe::{ProductLookup, World};
use crate::eol::EolTable;
use crate::error::ItemError;
use crate::model::eol::{Cycle, Phase, SupportEnd};

/// Data to write, and the changes in it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub products: Vec<ProductChange>,
    /// Products that are in the data and not in the configuration. They are kept.
    pub others: Vec<String>,
    /// New data; `None` if nothing changed.
    pub table: Option<EolTable>,
}

/// Change of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductChange {
    /// Name in the data.
    pub product: String,
    pub outcome: ProductOutcome,
    /// Number of cycles in the new data.
    pub cycles: usize,
    /// Differences between the old and the new cycles, as text.
    pub changes: Vec<String>,
    /// Reason why the product was not updated.
    pub error: Option<ItemError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProductOutcome {
    Added,
    Updated,
    Unchanged,
    /// No product was found for an image whose `lifecycle` names none.
    Untracked,
    /// The lookup failed; existing data is kept.
    Failed,
}

/// Returns the plan for `world`. A product whose lookup failed keeps its existing data.
pub fn plan(world: &World) -> Plan {
    let mut table = world.table.clone();
    let mut products = Vec::new();
    for (product, lookup) in &world.lookups {
        let before = world.table.cycles(product);
        let (outcome, changes, error) = match lookup {
            ProductLookup::Cycles(cycles) => {
                table.set(product, cycles.clone());
                // The table sorts cycles.
                let now = table.cycles(product).unwrap_or_default();
                match before {
                    None => (ProductOutcome::Added, Vec::new(), None),
                    Some(before) if before == now => (ProductOutcome::Unchanged, Vec::new(), None),
                    Some(before) => (ProductOutcome::Updated, changes(before, now), None),
                }
            }
            ProductLookup::Untracked(error) => {
                (ProductOutcome::Untracked, Vec::new(), Some(error.clone()))
            }
            ProductLookup::Failed(error) => {
                (ProductOutcome::Failed, Vec::new(), Some(error.clone()))
            }
        };
        let cycles = table.cycles(product).map_or(0, <[Cycle]>::len);
        products.push(ProductChange {
            product: product.to_string(),
            outcome,
            cycles,
            changes,
            error,
        });
    }
    let is_configured = |name: &str| products.iter().any(|product| product.product == name);
    let others = table
        .products()
        .map(|(name, _)| name)
        .filter(|name| !is_configured(name))
        .map(str::to_owned)
        .collect();
    Plan {
        products,
        others,
        table: Some(table).filter(|table| *table != world.table),
    }
}

/// Returns the differences between the cycles of a product, as text.
fn changes(before: &[Cycle], now: &[Cycle]) -> Vec<String> {
    let mut changes = Vec::new();
    let mut only_releases = Vec::new();
    let position =
        |cycle: &Cycle, cycles: &[Cycle]| cycles.iter().position(|other| other.name == cycle.name);
    for cycle in now {
        let end = words(cycle.support_end(Phase::EndOfLife));
        match position(cycle, before).map(|at| &before[at]) {
            None => changes.push(format!("{} added, end of life: {end}", cycle.name)),
            Some(old) if old.end_of_life != cycle.end_of_life => {
                changes.push(format!(
                    "{} end of life: {end}, was: {}",
                    cycle.name,
                    words(old.end_of_life)
                ));
            }
            Some(old)
                if (old.active_support, old.extended_support)
                    != (cycle.active_support, cycle.extended_support) =>
            {
                changes.push(format!("{} support dates changed", cycle.name));
            }
            Some(old) if old != cycle => only_releases.push(cycle.name.as_str()),
            Some(_) => {}
        }
    }
    changes.extend(
        before
            .iter()
            .filter(|cycle| position(cycle, now).is_none())
            .map(|cycle| format!("{} removed", cycle.name)),
    );
    if !only_releases.is_empty() {
        changes.push(format!(
            "release data changed: {}",
            only_releases.join(", ")
        ));
    }
    changes
}

fn words(end: Option<SupportEnd>) -> String {
    match end {
        Some(SupportEnd::On(date)) => date.to_string(),
        Some(SupportEnd::Ended) => "ended".to_owned(),
        Some(SupportEnd::NotEnded) => "no date".to_owned(),
        None => "unknown".to_owned(),
    }
}
