//! Observation for `eol update`: the existing data, and the current release cycles of each product.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::tracked_images::products;
use crate::config::Config;
use crate::eol::{DataError, EolDataStore, EolTable, Products};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::eol::Cycle;
use crate::model::lifecycle::Product;
use crate::progress::{Event, Progress};

/// Existing data and current release cycles.
#[derive(Clone, Debug)]
pub struct World {
    pub table: EolTable,
    pub lookups: BTreeMap<Product, ProductLookup>,
}

/// Result of requesting the cycles of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProductLookup {
    Cycles(Vec<Cycle>),
    /// No product has these images.
    Untracked(ItemError),
    Failed(ItemError),
}

/// Reason why the existing data cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error("there is no {store}")]
    Missing { store: String },
    #[error("cannot parse {store}")]
    Data { store: String, source: DataError },
}

/// Returns the existing data. Fails with [`ReadError::Missing`] if there is none.
pub async fn read(store: &dyn EolDataStore) -> Result<EolTable, ReadError> {
    let bytes = store.read().await?.ok_or_else(|| ReadError::Missing {
        store: store.name(),
    })?;
    EolTable::read(&bytes).map_err(|source| ReadError::Data {
        store: store.name(),
        source,
    })
}

/// Returns the existing data and the cycles of each configured product.
///
/// Without `client` no request is sent, and the cycles are those of the existing data.
pub async fn observe(
    config: &Config,
    store: &dyn EolDataStore,
    client: Option<&dyn Products>,
    progress: &Arc<dyn Progress>,
) -> Result<World, ReadError> {
    let table = match (read(store).await, client) {
        // There is no file before the first update.
        (Err(ReadError::Missing { .. }), Some(_)) => EolTable::default(),
        (result, _) => result?,
    };
    let lookups = products(config).into_iter().map(|product| {
        let table = &table;
        async move {
            let lookup = match client {
                Some(client) => request(product, client, progress).await,
                None => existing(product, table, store),
            };
            (product.clone(), lookup)
        }
    });
    // The client limits concurrent requests.
    let lookups = join_all(lookups).await.into_iter().collect();
    Ok(World { table, lookups })
}

async fn request(
    product: &Product,
    client: &dyn Products,
    progress: &Arc<dyn Progress>,
) -> ProductLookup {
    progress.event(Event::Observing {
        what: &format!("end-of-life data of {product}"),
    });
    match client.cycles(product).await {
        Ok(cycles) => ProductLookup::Cycles(cycles),
        Err(error) if error.kind == ItemErrorKind::Untracked => ProductLookup::Untracked(error),
        Err(error) => ProductLookup::Failed(error),
    }
}

fn existing(product: &Product, table: &EolTable, store: &dyn EolDataStore) -> ProductLookup {
    match table.cycles(product) {
        Some(cycles) => ProductLookup::Cycles(cycles.to_vec()),
        None => ProductLookup::Failed(ItemError::other(format!(
            "{} has no `{product}`",
            store.name()
        ))),
    }
}
