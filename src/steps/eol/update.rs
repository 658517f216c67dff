//! `eol update`: the data of every product that is looked after, as they are today.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::report::{FileOutcome, ProductOutcome, ProductReport, UpdateReport};
use crate::config::Config;
use crate::eol::{DataError, DataPlace, PlaceError, Products, Table};
use crate::model::eol::{Cycle, Phase, SupportEnd};
use crate::model::lifecycle::Product;
use crate::progress::{Event, Progress};
use crate::steps::{Mode, Trouble};

/// What there is: the data at hand, and what is known today.
#[derive(Clone, Debug)]
pub struct World {
    pub table: Table,
    pub answers: BTreeMap<Product, Answer>,
}

/// What is known of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Cycles(Vec<Cycle>),
    /// No product has these images.
    Untracked(Trouble),
    Failed(Trouble),
}

/// Why the data at hand cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("there is no {place}")]
    Missing { place: String },
    #[error("{place} is not understood")]
    Data { place: String, source: DataError },
}

/// Returns the data at hand. Fails when there are none.
pub async fn read(place: &dyn DataPlace) -> Result<Table, ReadError> {
    let bytes = place.read().await?.ok_or_else(|| ReadError::Missing {
        place: place.name(),
    })?;
    Table::read(&bytes).map_err(|source| ReadError::Data {
        place: place.name(),
        source,
    })
}

/// Returns the data at hand, and what `products` knows of each product that the configuration
/// names. Without `products` nobody is asked: what is at hand is what is known.
pub async fn observe(
    config: &Config,
    place: &dyn DataPlace,
    products: Option<&dyn Products>,
    progress: &Arc<dyn Progress>,
) -> Result<World, ReadError> {
    let table = match (read(place).await, products) {
        // There is no file before the first update.
        (Err(ReadError::Missing { .. }), Some(_)) => Table::default(),
        (result, _) => result?,
    };
    let answers = super::products(config).into_iter().map(|product| {
        let table = &table;
        async move {
            let answer = match products {
                Some(products) => ask(product, products, progress).await,
                None => known(product, table, place),
            };
            (product.clone(), answer)
        }
    });
    // The client bounds how many are asked for at once.
    let answers = join_all(answers).await.into_iter().collect();
    Ok(World { table, answers })
}

async fn ask(product: &Product, products: &dyn Products, progress: &Arc<dyn Progress>) -> Answer {
    progress.event(Event::Observing {
        what: &format!("end-of-life data of {product}"),
    });
    let error = match products.cycles(product).await {
        Ok(cycles) => return Answer::Cycles(cycles),
        Err(error) => error,
    };
    let trouble = Trouble::of(&error, error.hint()).shared(error.of_host());
    if error.is_untracked() {
        Answer::Untracked(trouble)
    } else {
        Answer::Failed(trouble)
    }
}

fn known(product: &Product, table: &Table, place: &dyn DataPlace) -> Answer {
    match table.cycles(product) {
        Some(cycles) => Answer::Cycles(cycles.to_vec()),
        None => Answer::Failed(Trouble::new(format!("{} has no `{product}`", place.name()))),
    }
}

/// What is to be written, and why.
#[derive(Clone, Debug)]
pub struct Plan {
    pub products: Vec<ProductReport>,
    /// Products that are in the data and not in the configuration. They stay.
    pub others: Vec<String>,
    /// The data that replace what there is; `None` when nothing has changed.
    pub table: Option<Table>,
}

/// Returns what becomes of the data. A product that failed keeps what is known of it.
pub fn plan(world: &World) -> Plan {
    let mut table = world.table.clone();
    let mut products = Vec::new();
    for (product, answer) in &world.answers {
        let before = world.table.cycles(product);
        let (outcome, changes, trouble) = match answer {
            Answer::Cycles(cycles) => {
                table.set(product, cycles.clone());
                // In the order in which they are kept.
                let now = table.cycles(product).unwrap_or_default();
                match before {
                    None => (ProductOutcome::Added, Vec::new(), None),
                    Some(before) if before == now => (ProductOutcome::Unchanged, Vec::new(), None),
                    Some(before) => (ProductOutcome::Updated, changes(before, now), None),
                }
            }
            Answer::Untracked(trouble) => {
                (ProductOutcome::Untracked, Vec::new(), Some(trouble.clone()))
            }
            Answer::Failed(trouble) => (ProductOutcome::Failed, Vec::new(), Some(trouble.clone())),
        };
        let cycles = table.cycles(product).map_or(0, <[Cycle]>::len);
        products.push(ProductReport {
            product: product.to_string(),
            outcome,
            cycles,
            changes,
            trouble,
        });
    }
    let configured = |name: &str| products.iter().any(|product| product.product == name);
    let others = table
        .products()
        .map(|(name, _)| name)
        .filter(|name| !configured(name))
        .map(str::to_owned)
        .collect();
    Plan {
        products,
        others,
        table: Some(table).filter(|table| *table != world.table),
    }
}

/// Returns what is different between the cycles of a product, in words.
fn changes(before: &[Cycle], now: &[Cycle]) -> Vec<String> {
    let mut changes = Vec::new();
    let mut only_releases = Vec::new();
    let same_name =
        |cycle: &Cycle, cycles: &[Cycle]| cycles.iter().position(|other| other.name == cycle.name);
    for cycle in now {
        let end = words(cycle.support_end(Phase::EndOfLife));
        match same_name(cycle, before).map(|at| &before[at]) {
            None => changes.push(format!("{} is new, ends: {end}", cycle.name)),
            Some(old) if old.end_of_life != cycle.end_of_life => {
                changes.push(format!(
                    "{} ends: {end}, was: {}",
                    cycle.name,
                    words(old.end_of_life)
                ));
            }
            Some(old)
                if (old.active_support, old.extended_support)
                    != (cycle.active_support, cycle.extended_support) =>
            {
                changes.push(format!("{}: other ends of support", cycle.name));
            }
            Some(old) if old != cycle => only_releases.push(cycle.name.as_str()),
            Some(_) => {}
        }
    }
    changes.extend(
        before
            .iter()
            .filter(|cycle| same_name(cycle, now).is_none())
            .map(|cycle| format!("{} is gone", cycle.name)),
    );
    if !only_releases.is_empty() {
        changes.push(format!("news of releases: {}", only_releases.join(", ")));
    }
    changes
}

fn words(ends: Option<SupportEnd>) -> String {
    match ends {
        Some(SupportEnd::On(date)) => date.to_string(),
        Some(SupportEnd::Ended) => "over".to_owned(),
        Some(SupportEnd::NotEnded) => "no date".to_owned(),
        None => "not known".to_owned(),
    }
}

/// Writes what the plan says, unless nothing is to be changed or nothing has changed.
pub async fn execute(
    plan: Plan,
    mode: Mode,
    place: &dyn DataPlace,
) -> Result<UpdateReport, PlaceError> {
    let file = match (&plan.table, mode) {
        (None, _) => FileOutcome::Unchanged,
        (Some(table), Mode::Apply) => {
            place.write(table.write().as_bytes()).await?;
            FileOutcome::Written
        }
        (Some(_), Mode::DryRun | Mode::List) => FileOutcome::Planned,
    };
    Ok(UpdateReport::new(plan, mode, place.name(), file))
}
