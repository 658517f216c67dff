//! Report of a build: as JSON, for the terminal and as JUnit.

use std::time::Duration;

use serde::Serialize;

use super::plan::{BuildAction, BuildItem, BuildReason};
use crate::config::BuildImage;
use crate::error::{Exit, ItemError};
use crate::model::env;
use crate::model::{Digest, Platform, Repository, Tag};
use crate::report::junit::{TestCase, TestSuite};
use crate::report::text::{human_bytes, human_duration};
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::diagnostics::{self, Diagnostic};
use crate::steps::hooks::HookReport;
use crate::steps::junit::{case, failure, hook_case};
use crate::steps::{Mode, seconds};

/// Result of a build.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildReport {
    #[serde(skip)]
    pub mode: Mode,
    pub dry_run: bool,
    /// True if the run was stopped before its end.
    pub interrupted: bool,
    /// True if a template or a build folder is invalid, so that no image was built.
    #[serde(skip)]
    pub has_invalid_input: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    pub totals: BuildTotals,
    pub images: Vec<ImageReport>,
    /// Error of the run as a whole.
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Numbers of images by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildTotals {
    pub images: usize,
    /// Built, or to be built in a run without changes.
    pub built: usize,
    pub up_to_date: usize,
    /// Kept although their base moved.
    pub base_moved: usize,
    pub failed: usize,
    /// Not built because the run was stopped.
    pub not_done: usize,
}

/// Result of one image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    pub name: String,
    pub repository: Repository,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Reference of the base, by tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    #[serde(flatten)]
    pub outcome: ImageOutcome,
    /// Reason for the build: `new`, `baseMoved` or `forced`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    pub platforms: Vec<String>,
    /// Stored size of all platforms, in bytes; each blob counts once.
    #[serde(rename = "bytes", skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Aliases that were moved, or are to be moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Tag>,
    /// Rendered Dockerfile, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// End of the output of the engine, if it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// Outcome of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome", content = "error")]
pub enum ImageOutcome {
    UpToDate,
    /// Kept although the tag of its base moved.
    BaseMoved,
    /// To be built, in a run without changes.
    Planned,
    Built,
    /// Not built; its build context was written to a directory.
    Written,
    Failed(ItemError),
    /// The run was stopped during the build; the tag is unchanged.
    Interrupted,
    /// Not built because the run was stopped or another template is invalid.
    NotStarted,
}

impl ImageOutcome {
    /// Returns the label for the terminal.
    fn label(&self) -> (&'static str, Tone) {
        match self {
            ImageOutcome::UpToDate => ("up to date", Tone::Quiet),
            ImageOutcome::BaseMoved => ("base moved", Tone::Warning),
            ImageOutcome::Planned => ("to build", Tone::Plain),
            ImageOutcome::Built => ("built", Tone::Good),
            ImageOutcome::Written => ("written", Tone::Good),
            ImageOutcome::Failed(_) => ("failed", Tone::Bad),
            ImageOutcome::Interrupted => ("interrupted", Tone::Warning),
            ImageOutcome::NotStarted => ("not started", Tone::Warning),
        }
    }
}

impl ImageReport {
    pub(super) fn new(image: &BuildImage, item: &BuildItem) -> ImageReport {
        let reason = match &item.action {
            BuildAction::Build {
                reason: BuildReason::New,
                ..
            } => Some("new"),
            BuildAction::Build {
                reason: BuildReason::BaseMoved,
                ..
            } => Some("baseMoved"),
            BuildAction::Build {
                reason: BuildReason::Forced,
                ..
            } => Some("forced"),
            _ => None,
        };
        ImageReport {
            name: image.name.clone(),
            repository: image.repository.clone(),
            tag: item.identity.as_ref().map(|identity| identity.tag.clone()),
            base: item
                .identity
                .as_ref()
                .map(|identity| identity.base_reference().to_string()),
            outcome: ImageOutcome::NotStarted,
            reason,
            digest: None,
            platforms: image.platforms.iter().map(Platform::to_string).collect(),
            size: None,
            engine: None,
            aliases: item.aliases.clone(),
            dockerfile: None,
            log: String::new(),
            warnings: Vec::new(),
            hooks: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    /// Returns the reference of the image, or its repository if the tag is unknown.
    pub fn reference(&self) -> String {
        self.tag.as_ref().map_or_else(
            || self.repository.to_string(),
            |tag| format!("{}:{tag}", self.repository),
        )
    }
}

impl BuildReport {
    /// Returns the outputs for later CI jobs, by variable name: reference and digest of the image
    /// if the run has exactly one.
    pub fn outputs(&self) -> Vec<(&'static str, String)> {
        let [image] = self.images.as_slice() else {
            return Vec::new();
        };
        let reference = image
            .tag
            .as_ref()
            .map(|tag| (env::IMGLIFE_IMAGE, format!("{}:{tag}", image.repository)));
        let digest = image
            .digest
            .as_ref()
            .map(|digest| (env::IMGLIFE_DIGEST, digest.to_string()));
        reference.into_iter().chain(digest).collect()
    }

    pub(super) fn new(
        mode: Mode,
        has_invalid_input: bool,
        images: Vec<ImageReport>,
    ) -> BuildReport {
        let mut totals = BuildTotals {
            images: images.len(),
            ..BuildTotals::default()
        };
        for image in &images {
            match image.outcome {
                ImageOutcome::UpToDate => totals.up_to_date += 1,
                ImageOutcome::BaseMoved => totals.base_moved += 1,
                ImageOutcome::Planned | ImageOutcome::Built | ImageOutcome::Written => {
                    totals.built += 1;
                }
                ImageOutcome::Failed(_) => totals.failed += 1,
                ImageOutcome::Interrupted | ImageOutcome::NotStarted => totals.not_done += 1,
            }
        }
        BuildReport {
            mode,
            dry_run: mode != Mode::Apply,
            interrupted: false,
            has_invalid_input,
            duration: Duration::ZERO,
            totals,
            images,
            problem: None,
        }
    }

    /// Returns the report of a run that was stopped before the plan.
    pub fn stopped(mode: Mode, duration: Duration) -> BuildReport {
        BuildReport {
            interrupted: true,
            duration,
            ..BuildReport::new(mode, false, Vec::new())
        }
    }

    /// Returns the exit status. An invalid template or build folder is a usage error.
    pub fn exit(&self) -> Exit {
        let hook_failed = self
            .images
            .iter()
            .any(|image| image.hooks.iter().any(HookReport::failed));
        match self.has_invalid_input {
            true => Exit::Usage,
            false if self.totals.failed > 0 || hook_failed || self.problem.is_some() => {
                Exit::Failed
            }
            false => Exit::Done,
        }
    }

    /// Returns the report for the terminal.
    pub fn document(&self) -> Document {
        let mut blocks = Vec::new();
        if self.mode == Mode::List {
            let rows = self.images.iter().map(|image| {
                let (label, tone) = image.outcome.label();
                vec![Cell::plain(image.reference()), Cell::toned(label, tone)]
            });
            blocks.push(Block::Table(Table {
                title: None,
                columns: Vec::new(),
                rows: rows.collect(),
            }));
        } else {
            if let Some(table) = self.table() {
                blocks.push(Block::Table(table));
            }
            blocks.extend(
                self.images
                    .iter()
                    .filter_map(|image| Some((image, image.dockerfile.as_ref()?)))
                    .map(|(image, text)| {
                        let heading = format!(
                            "--- {} ({})",
                            image.reference(),
                            image.engine.as_deref().unwrap_or_default()
                        );
                        Block::Lines(
                            std::iter::once(heading)
                                .chain(text.lines().map(str::to_owned))
                                .collect(),
                        )
                    }),
            );
        }
        let problems = self.problems();
        if !problems.is_empty() {
            blocks.push(Block::Lines(problems));
        }
        if self.mode != Mode::List {
            blocks.push(Block::Summary(self.summary()));
        }
        Document { blocks }
    }

    fn table(&self) -> Option<Table> {
        let is_built = |image: &&ImageReport| image.outcome == ImageOutcome::Built;
        let rows: Vec<Vec<Cell>> = self
            .images
            .iter()
            .map(|image| {
                let (label, tone) = image.outcome.label();
                let mut row = vec![Cell::plain(image.reference()), Cell::toned(label, tone)];
                if image.outcome == ImageOutcome::Built || image.outcome == ImageOutcome::Planned {
                    row.push(Cell::plain(image.platforms.join(" ")));
                    row.push(Cell::plain(image.engine.clone().unwrap_or_default()));
                }
                if image.outcome == ImageOutcome::Built {
                    row.push(Cell::plain(image.size.map(human_bytes).unwrap_or_default()));
                    row.push(Cell::plain(human_duration(image.duration)));
                    row.push(Cell::plain(
                        image
                            .digest
                            .as_ref()
                            .map(|digest| digest.short().to_owned())
                            .unwrap_or_default(),
                    ));
                }
                row
            })
            .collect();
        let columns: &[&str] = match self.images.iter().find(is_built) {
            Some(_) => &[
                "Image",
                "Result",
                "Platforms",
                "Engine",
                "Size",
                "Time",
                "Digest",
            ],
            None if self.totals.built > 0 => &["Image", "Result", "Platforms", "Engine"],
            None => &["Image", "Result"],
        };
        (!rows.is_empty()).then(|| Table {
            title: None,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows,
        })
    }

    fn problems(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .problem
            .iter()
            .map(|problem| format!("error: {problem}"))
            .collect();
        lines.extend(diagnostics::lines(self.images.iter().filter_map(
            |image| match &image.outcome {
                ImageOutcome::Failed(error) => Some(Diagnostic {
                    log: &image.log,
                    ..Diagnostic::error("images", image.reference(), error)
                }),
                _ => None,
            },
        )));
        for image in &self.images {
            let name = image.reference();
            lines.extend(
                image
                    .warnings
                    .iter()
                    .map(|warning| format!("warning: {name}: {warning}")),
            );
            if image.outcome == ImageOutcome::BaseMoved {
                lines.push(format!(
                    "note: {name}: base {} moved since the image was built",
                    image.base.as_deref().unwrap_or("image")
                ));
                lines.push(
                    "  hint: raise `core_version`, or set `on_base_change: rebuild`".to_owned(),
                );
            }
            lines.extend(image.hooks.iter().filter_map(HookReport::problem));
        }
        lines
    }

    fn summary(&self) -> Summary {
        let totals = &self.totals;
        let mut images = SummaryRow::new("Images", totals.images);
        let built = match self.dry_run {
            true => "To build",
            false
                if self
                    .images
                    .iter()
                    .any(|image| image.outcome == ImageOutcome::Written) =>
            {
                "Written"
            }
            false => "Built",
        };
        let failed = SummaryRow {
            tone: if totals.failed > 0 {
                Tone::Bad
            } else {
                Tone::Plain
            },
            ..SummaryRow::new("Failed", totals.failed)
        };
        images.children = vec![
            SummaryRow::new(built, totals.built),
            SummaryRow::new("Up to date", totals.up_to_date),
        ];
        if totals.base_moved > 0 {
            images.children.push(SummaryRow {
                tone: Tone::Warning,
                ..SummaryRow::new("Base moved", totals.base_moved)
            });
        }
        images.children.push(failed);
        if totals.not_done > 0 {
            images.children.push(SummaryRow {
                tone: Tone::Warning,
                ..SummaryRow::new("Not done", totals.not_done)
            });
        }
        Summary {
            title: "Build".to_owned(),
            dry_run: self.dry_run,
            duration: Some(self.duration),
            rows: vec![images],
        }
    }
}

impl BuildReport {
    /// Returns the JUnit report: a case for each image and each hook.
    pub fn test_suite(&self) -> TestSuite {
        let mut cases = Vec::new();
        for image in &self.images {
            let classname = image.repository.to_string();
            let failure = match &image.outcome {
                ImageOutcome::Failed(error) => Some(failure(error)),
                ImageOutcome::Interrupted | ImageOutcome::NotStarted => Some(failure(
                    &ItemError::other("the run was stopped before the image was built"),
                )),
                ImageOutcome::UpToDate
                | ImageOutcome::BaseMoved
                | ImageOutcome::Planned
                | ImageOutcome::Built
                | ImageOutcome::Written => None,
            };
            let name = image.tag.as_ref().map_or(image.name.as_str(), Tag::as_str);
            cases.push(TestCase {
                duration: image.duration,
                outcome: failure.into(),
                ..case(&classname, name)
            });
            cases.extend(image.hooks.iter().map(|hook| hook_case(&classname, hook)));
        }
        TestSuite {
            name: "imglife build".to_owned(),
            cases,
        }
    }
}
