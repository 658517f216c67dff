//! How images stand by the data that are at hand. Pure.

use chrono::NaiveDate;

use super::tracked::{Part, Versions};
use crate::config::PatternSelection;
use crate::eol::Table;
use crate::model::eol::{Calendar, Cycle, EolAssessment, EolStatus, Phase};
use crate::model::lifecycle::{CycleError, ImageLifecycle, Product};

/// Tells how images stand.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    pub table: &'a Table,
    /// What counts for images that do not say.
    pub phase: Phase,
    pub calendar: Calendar,
}

/// How one product within an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub product: Product,
    /// The cycle's name; `None` when it is not known.
    pub cycle: Option<String>,
    pub standing: EolAssessment,
    /// Why nothing is known.
    pub problem: Option<String>,
}

/// How an image stands as a whole: as its worst part does, at the earliest date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub standing: EolAssessment,
    /// Its parts, each once.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// Returns the day that the label `imglife.eol` tells.
    pub fn date(&self) -> Option<NaiveDate> {
        self.standing.date
    }
}

impl Judge<'_> {
    /// Returns how an image stands; unknown when nobody says what it consists of.
    pub fn image(&self, parts: &[Part<'_>]) -> Judgement {
        let mut findings: Vec<Finding> = Vec::new();
        for found in parts.iter().flat_map(|part| self.part(part)) {
            // One cycle can be found by several patterns and tags.
            if !findings.contains(&found) {
                findings.push(found);
            }
        }
        let standing = EolAssessment::worst_of(findings.iter().map(|finding| finding.standing))
            .unwrap_or(EolAssessment::UNKNOWN);
        Judgement { standing, findings }
    }

    /// Returns how a product within an image stands: once, or for each cycle that the tags selected
    /// may be of.
    pub fn part(&self, part: &Part<'_>) -> Vec<Finding> {
        match &part.versions {
            Versions::Tags(tags) => vec![self.tags(part.lifecycle, tags)],
            Versions::Selected(pattern) => self.selected(part.lifecycle, pattern),
        }
    }

    /// Returns how a product stands of which an image with these tags is; the first that names a
    /// known cycle counts.
    pub fn tags(&self, lifecycle: &ImageLifecycle, tags: &[&str]) -> Finding {
        let Some(cycles) = self.table.cycles(&lifecycle.product) else {
            return no_data(lifecycle);
        };
        let found: Vec<Result<&Cycle, CycleError>> = tags
            .iter()
            .map(|tag| lifecycle.extract.cycle(tag, cycles))
            .collect();
        let known = found.iter().find_map(|found| found.as_ref().ok());
        match (known, found.first()) {
            (Some(cycle), _) => self.cycle(lifecycle, cycle),
            (None, Some(Err(unmatched))) => unknown(lifecycle, unmatched.to_string()),
            (None, _) => unknown(
                lifecycle,
                "the configuration does not tell its tag".to_owned(),
            ),
        }
    }

    /// Returns how the cycles stand that tags selected by a pattern may be of: those whose latest
    /// release it selects, or all when their releases are not what tags look like. Of these, those
    /// that are over are left out unless all are: then the newest is what the pattern is about.
    fn selected(&self, lifecycle: &ImageLifecycle, pattern: &PatternSelection) -> Vec<Finding> {
        let Some(cycles) = self.table.cycles(&lifecycle.product) else {
            return vec![no_data(lifecycle)];
        };
        let is_selected = |tag: &str| {
            let excluded = pattern
                .exclude_regex
                .as_ref()
                .is_some_and(|exclude| exclude.regex.is_match(tag));
            pattern.tag_regex.regex.is_match(tag) && !excluded
        };
        let named: Vec<&Cycle> = cycles
            .iter()
            .filter(|cycle| cycle.latest.as_deref().is_some_and(is_selected))
            .collect();
        let candidates = if named.is_empty() {
            cycles.iter().collect()
        } else {
            named
        };
        let mut findings: Vec<Finding> = candidates
            .iter()
            .map(|cycle| self.cycle(lifecycle, cycle))
            .collect();
        if findings
            .iter()
            .any(|finding| finding.standing.status != EolStatus::Expired)
        {
            findings.retain(|finding| finding.standing.status != EolStatus::Expired);
        } else {
            findings.truncate(1);
        }
        findings
    }

    fn cycle(&self, lifecycle: &ImageLifecycle, cycle: &Cycle) -> Finding {
        let ends = cycle.support_end(lifecycle.phase.unwrap_or(self.phase));
        let standing = EolAssessment::of(ends, lifecycle.accept.as_ref(), self.calendar);
        let problem = ends
            .is_none()
            .then(|| format!("the data say nothing of the end of {}", cycle.name));
        Finding {
            product: lifecycle.product.clone(),
            cycle: Some(cycle.name.clone()),
            standing,
            problem,
        }
    }
}

fn unknown(lifecycle: &ImageLifecycle, problem: String) -> Finding {
    Finding {
        product: lifecycle.product.clone(),
        cycle: None,
        standing: EolAssessment::UNKNOWN,
        problem: Some(problem),
    }
}

fn no_data(lifecycle: &ImageLifecycle) -> Finding {
    let problem = match lifecycle.product {
        Product::Named(_) => "there are no data of this product",
        Product::OfImages(_) => "which product these images are is not known",
    };
    unknown(lifecycle, problem.to_owned())
}
