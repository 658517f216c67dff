//! Products and their cycles, as they are known at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use crate::model::TagVersion;
use crate::model::eol::Cycle;
use crate::model::lifecycle::Product;

/// The cycles of products. Products are sorted by name; the cycles of each, the newest first; so
/// that what is the same is written the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    products: BTreeMap<String, Vec<Cycle>>,
}

impl Table {
    /// Returns the cycles of a product, `None` when the product is not known.
    pub fn cycles(&self, product: &Product) -> Option<&[Cycle]> {
        self.products.get(&product.to_string()).map(Vec::as_slice)
    }

    /// Returns the names of all products, and their cycles.
    pub fn products(&self) -> impl Iterator<Item = (&str, &[Cycle])> {
        self.products
            .iter()
            .map(|(name, cycles)| (name.as_str(), cycles.as_slice()))
    }

    /// Takes in what is known of a product, in the place of what was. Of cycles with the same name
    /// the first counts.
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
