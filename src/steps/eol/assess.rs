//! Assessment of images by the end-of-life data. Pure.

use chrono::NaiveDate;

use super::tracked_images::{ImageProduct, Versions};
use crate::config::PatternSelection;
use crate::eol::EolTable;
use crate::model::eol::{Calendar, Cycle, EolAssessment, EolStatus, Phase};
use crate::model::lifecycle::{CycleError, ImageLifecycle, Product};

/// Assesses images.
#[derive(Clone, Copy, Debug)]
pub struct EolAssessor<'a> {
    pub table: &'a EolTable,
    /// Phase that counts for images without `phase`.
    pub phase: Phase,
    pub calendar: Calendar,
}

/// Assessment of one product in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductAssessment {
    pub product: Product,
    /// Name of the release cycle; `None` if it is unknown.
    pub cycle: Option<String>,
    pub assessment: EolAssessment,
    /// Reason why the assessment is unknown.
    pub problem: Option<String>,
}

/// Assessment of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageAssessment {
    /// Status of the worst product, with the earliest date.
    pub overall: EolAssessment,
    /// Products, without duplicates.
    pub products: Vec<ProductAssessment>,
}

impl ImageAssessment {
    /// Returns the date for the label `imglife.eol`.
    pub fn date(&self) -> Option<NaiveDate> {
        self.overall.date
    }
}

impl EolAssessor<'_> {
    /// Returns the assessment of an image; unknown without products.
    pub fn image(&self, products: &[ImageProduct<'_>]) -> ImageAssessment {
        let mut assessments: Vec<ProductAssessment> = Vec::new();
        for assessment in products.iter().flat_map(|product| self.product(product)) {
            // Several patterns and tags can lead to one cycle.
            if !assessments.contains(&assessment) {
                assessments.push(assessment);
            }
        }
        let overall = EolAssessment::worst_of(assessments.iter().map(|product| product.assessment))
            .unwrap_or(EolAssessment::UNKNOWN);
        ImageAssessment {
            overall,
            products: assessments,
        }
    }

    /// Returns the assessment of a product in an image: one, or one for each cycle that the
    /// selected tags may belong to.
    pub fn product(&self, product: &ImageProduct<'_>) -> Vec<ProductAssessment> {
        match &product.versions {
            Versions::Tags(tags) => vec![self.tags(product.lifecycle, tags)],
            Versions::Selected(pattern) => self.selected(product.lifecycle, pattern),
        }
    }

    /// Returns the assessment of a product in an image with these tags. The first tag that matches
    /// a release cycle is used.
    pub fn tags(&self, lifecycle: &ImageLifecycle, tags: &[&str]) -> ProductAssessment {
        let Some(cycles) = self.table.cycles(&lifecycle.product) else {
            return no_data(lifecycle);
        };
        let matches: Vec<Result<&Cycle, CycleError>> = tags
            .iter()
            .map(|tag| lifecycle.extract.cycle(tag, cycles))
            .collect();
        let known = matches.iter().find_map(|found| found.as_ref().ok());
        match (known, matches.first()) {
            (Some(cycle), _) => self.cycle(lifecycle, cycle),
            (None, Some(Err(unmatched))) => unknown(lifecycle, unmatched.to_string()),
            (None, _) => unknown(
                lifecycle,
                "the configuration does not set its tag".to_owned(),
            ),
        }
    }

    /// Returns the assessment of each cycle that tags selected by a pattern may belong to.
    ///
    /// These are the cycles whose latest release the pattern selects, or all cycles if it selects
    /// none. Cycles that have ended are left out. If all of them have ended, the newest is
    /// returned.
    fn selected(
        &self,
        lifecycle: &ImageLifecycle,
        pattern: &PatternSelection,
    ) -> Vec<ProductAssessment> {
        let Some(cycles) = self.table.cycles(&lifecycle.product) else {
            return vec![no_data(lifecycle)];
        };
        let is_selected = |tag: &str| pattern.matches(tag);
        let selected: Vec<&Cycle> = cycles
            .iter()
            .filter(|cycle| cycle.latest.as_deref().is_some_and(is_selected))
            .collect();
        let candidates = if selected.is_empty() {
            cycles.iter().collect()
        } else {
            selected
        };
        let mut assessments: Vec<ProductAssessment> = candidates
            .iter()
            .map(|cycle| self.cycle(lifecycle, cycle))
            .collect();
        let has_ended =
            |product: &ProductAssessment| product.assessment.status == EolStatus::Expired;
        if assessments.iter().all(has_ended) {
            assessments.truncate(1);
        } else {
            assessments.retain(|product| !has_ended(product));
        }
        assessments
    }

    fn cycle(&self, lifecycle: &ImageLifecycle, cycle: &Cycle) -> ProductAssessment {
        let end = cycle.support_end(lifecycle.phase.unwrap_or(self.phase));
        let assessment = EolAssessment::of(end, lifecycle.accept.as_ref(), self.calendar);
        let problem = end
            .is_none()
            .then(|| format!("the data has no end-of-life date of {}", cycle.name));
        ProductAssessment {
            product: lifecycle.product.clone(),
            cycle: Some(cycle.name.clone()),
            assessment,
            problem,
        }
    }
}

fn unknown(lifecycle: &ImageLifecycle, problem: String) -> ProductAssessment {
    ProductAssessment {
        product: lifecycle.product.clone(),
        cycle: None,
        assessment: EolAssessment::UNKNOWN,
        problem: Some(problem),
    }
}

fn no_data(lifecycle: &ImageLifecycle) -> ProductAssessment {
    let problem = match lifecycle.product {
        Product::Named(_) => "there is no end-of-life data of this product",
        Product::OfImages(_) => "no product is known for these images",
    };
    unknown(lifecycle, problem.to_owned())
}
