//! The end-of-life data of all products.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use crate::model::TagVersion;
use crate::model::eol::Cycle;
use crate::model::lifecycle::Product;

/// Release cycles of products.
///
/// Products are sorted by name, the cycles of each with the newest first, so that the same data
/// results in the same file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EolTable {
    products: BTreeMap<String, Vec<Cycle>>,
}

impl EolTable {
    /// Returns the cycles of a product, or `None` if the table does not have it.
    pub fn cycles(&self, product: &Product) -> Option<&[Cycle]> {
        self.products.get(&product.to_string()).map(Vec::as_slice)
    }

    /// Returns all products with their cycles.
    pub fn products(&self) -> impl Iterator<Item = (&str, &[Cycle])> {
        self.products
            .iter()
            .map(|(name, cycles)| (name.as_str(), cycles.as_slice()))
    }

    /// Replaces the cycles of a product. Of several cycles with the same name, the first is kept.
    pub fn set(&mut self, product: &Product, cycles: Vec<Cycle>) {
        self.insert(product.to_string(), cycles);
    }

    pub(super) fn insert(&mut self, name: String, mut cycles: Vec<Cycle>) {
        let mut names = HashSet::new();
        cycles.retain(|cycle| names.insert(cycle.name.clone()));
        cycles.sort_by_cached_key(|cycle| Reverse(TagVersion::of(&cycle.name)));
        self.products.insert(name, cycles);
    }
}
