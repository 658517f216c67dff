//! `register`: writes the build record of an application image.
//!
//! `observe` reads the image if base or platforms are not given, `plan` makes the record, and
//! `execute` writes it. `detect` finds the base in labels and annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::{ItemError, ItemErrorKind, chain};
use crate::model::env;
use crate::model::record::{InvalidRecord, REPLACED_RECORD_LIMIT};
use crate::model::text::printable;
use crate::model::{BuildRecord, ImageReference, Platform, Reference, Repository, Tag};
use crate::packages::{Records, log_leftover_files};
use crate::registry::ImageStores;
use crate::report::{Block, Document, Summary, SummaryRow};

mod detect;
#[cfg(test)]
mod tests;

pub use crate::steps::image::{ImageFacts, read_facts};
pub use detect::{BaseOrigin, DetectedBase, RegisteredImage, parse_platforms, same_image};

/// Data of the record.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterRequest {
    /// Image with a tag.
    pub image: ImageReference,
    /// Base; `None` to detect it.
    pub base: Option<ImageReference>,
    /// Platforms; empty to read them from the image.
    pub platforms: Vec<Platform>,
    pub revision: String,
    pub project: String,
    pub fields: BTreeMap<String, Value>,
    pub built_at: DateTime<Utc>,
    /// True if a record of another project is not replaced.
    pub is_strict: bool,
}

impl RegisterRequest {
    /// Returns true if the image must be read.
    pub fn needs_image(&self) -> bool {
        self.base.is_none() || self.platforms.is_empty()
    }
}

/// Images that were read; empty if none was needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub image: Option<ImageFacts>,
    /// Image from which labels or annotations were inherited.
    pub parent: Option<ImageFacts>,
    /// Image that the reference of the base names now.
    pub base: Option<ImageFacts>,
}

/// Reason why there is no record.
#[derive(Debug, Error)]
pub enum RegisterError {
    #[error("there is no image {0}")]
    NoImage(ImageReference),
    #[error("{0} has no label or annotation that names its base")]
    NoBase(ImageReference),
    #[error("the platforms of {0} are unknown")]
    NoPlatforms(ImageReference),
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error("the record cannot be written")]
    Record(#[source] InvalidRecord),
}

impl RegisterError {
    /// Returns what the user can do; `None` if there is no suggestion.
    pub fn hint(&self) -> Option<String> {
        match self {
            RegisterError::NoImage(_) => Some("push the image before registering it, or pass `--base` and `--platform`".to_owned()),
            RegisterError::NoBase(_) => Some(
                "pass `--base REF`, or build the image with the flags that `imglife base-args REF` prints; labels inherited from the base \
                 do not count"
                    .to_owned(),
            ),
            RegisterError::NoPlatforms(_) => Some("pass them, for example `--platform linux/amd64`".to_owned()),
            RegisterError::Item(error) => error.hint(),
            RegisterError::Record(_) => None,
        }
    }
}

/// Reads the image, and the base that it names.
pub async fn observe(
    request: &RegisterRequest,
    stores: &ImageStores,
) -> Result<World, RegisterError> {
    let mut world = World::default();
    if !request.needs_image() {
        return Ok(world);
    }
    let found = read_facts(
        stores.of(&request.image.repository),
        &request.image.repository,
        &manifest_reference(&request.image),
        None,
    )
    .await?;
    let facts = found.ok_or_else(|| RegisterError::NoImage(request.image.clone()))?;
    let subject = RegisteredImage {
        image: &request.image,
        facts: &facts,
        revision: &request.revision,
    };
    let inherited_from = subject.inherited_from();
    if let Some(parent) = &inherited_from {
        world.parent = read_base(stores, &parent.base, &facts).await;
    }
    let base = request.base.clone().or_else(|| {
        subject
            .base(world.parent.as_ref())
            .map(|detected| detected.base)
    });
    if let Some(base) = base.filter(|base| base.digest.is_none()) {
        world.base = match &inherited_from {
            Some(parent) if same_image(&parent.base, &base) => world.parent.clone(),
            _ => read_base(stores, &base, &facts).await,
        };
    }
    world.image = Some(facts);
    Ok(world)
}

/// Reads an image that may be the base of `facts`. An error is logged and treated like a missing
/// image.
async fn read_base(
    stores: &ImageStores,
    image: &ImageReference,
    facts: &ImageFacts,
) -> Option<ImageFacts> {
    match read_facts(
        stores.of(&image.repository),
        &image.repository,
        &manifest_reference(image),
        facts.config.platform.as_ref(),
    )
    .await
    {
        Ok(Some(found)) => Some(found),
        Ok(None) => {
            tracing::warn!(%image, "the base was not found, so its digest is not recorded");
            None
        }
        Err(error) => {
            tracing::warn!(%image, "the base cannot be read, so its digest is not recorded: {}", chain(&error));
            None
        }
    }
}

/// Returns the reference of an image's manifest: `latest` without tag and digest, as in builders.
fn manifest_reference(image: &ImageReference) -> Reference {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => digest.clone().into(),
        (None, Some(tag)) => tag.clone().into(),
        (None, None) => Tag::latest().into(),
    }
}

/// A record and the origin of its base.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub record: BuildRecord,
    pub origin: BaseOrigin,
    /// True if a record of another project is not replaced.
    pub is_strict: bool,
}

/// Returns the record of the image.
pub fn plan(request: &RegisterRequest, world: &World) -> Result<Plan, RegisterError> {
    let image = &request.image;
    let subject = world.image.as_ref().map(|facts| RegisteredImage {
        image,
        facts,
        revision: &request.revision,
    });
    let detected = match &request.base {
        Some(base) => Some(DetectedBase {
            base: base.clone(),
            origin: BaseOrigin::Flag,
        }),
        None => subject.and_then(|subject| subject.base(world.parent.as_ref())),
    };
    let DetectedBase { base, origin } =
        detected.ok_or_else(|| RegisterError::NoBase(image.clone()))?;
    let platforms = match subject {
        Some(subject) if request.platforms.is_empty() => subject.platforms(world.parent.as_ref()),
        _ => request.platforms.clone(),
    };
    if platforms.is_empty() {
        return Err(RegisterError::NoPlatforms(image.clone()));
    }
    let base_digest = subject.map_or_else(
        || base.digest.clone(),
        |subject| subject.base_digest(&base, world.base.as_ref()),
    );
    let record = BuildRecord {
        digest: image
            .digest
            .clone()
            .or_else(|| world.image.as_ref().map(|facts| facts.digest.clone())),
        image: ImageReference {
            digest: None,
            ..image.clone()
        },
        // With a tag, the digest is a separate field, so that all records of a base have the same
        // reference.
        base: Some(if base.tag.is_some() {
            ImageReference {
                digest: None,
                ..base
            }
        } else {
            base
        }),
        base_digest,
        revision: request.revision.clone(),
        project: request.project.clone(),
        platforms,
        built_at: request.built_at,
        custom_fields: request.fields.clone(),
        replaced: Vec::new(),
        unknown: Map::new(),
    };
    Ok(Plan {
        record,
        origin,
        is_strict: request.is_strict,
    })
}

/// Report of `register`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterReport {
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    pub duration: Duration,
    pub record: BuildRecord,
    /// Origin of the base.
    pub base_from: BaseOrigin,
    /// Project of the record that was replaced, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_project: Option<String>,
}

/// Writes the record, which replaces an older one of the same tag.
///
/// A record of another project is replaced with a warning, or is an error if the request is strict.
pub async fn execute(plan: Plan, records: &Records) -> Result<RegisterReport, RegisterError> {
    plan.record.to_bytes().map_err(RegisterError::Record)?;
    let put = if plan.is_strict {
        records.put_own(&plan.record).await.map_err(|error| {
            let hint = (error.kind == ItemErrorKind::Refused)
                .then_some("check `--image` and `--project`; run without `--strict` to replace it");
            hint.into_iter().fold(error, ItemError::with_hint)
        })?
    } else {
        records.put(&plan.record).await?
    };
    let replaced = put
        .previous
        .filter(|previous| previous.project != plan.record.project);
    if let Some(previous) = &replaced {
        let (image, project) = (&plan.record.image, printable(&plan.record.project));
        tracing::warn!(
            "the record of {image} belonged to project {} and was replaced by the one of project \
             {project}; `cleanup` keeps the base of the replaced record for {} days",
            printable(&previous.project),
            REPLACED_RECORD_LIMIT.num_days(),
        );
    }
    if let Some(error) = put.cleanup_error {
        log_leftover_files("the record", &error);
    }
    Ok(RegisterReport {
        duration: Duration::ZERO,
        record: plan.record,
        base_from: plan.origin,
        replaced_project: replaced.map(|previous| previous.project),
    })
}

impl RegisterReport {
    /// Returns the variables for later jobs.
    pub fn outputs(&self) -> Vec<(&'static str, String)> {
        let of = |name, value: Option<String>| value.map(|value| (name, value));
        let BuildRecord {
            image,
            base,
            digest,
            ..
        } = &self.record;
        let outputs = [
            of(env::IMGLIFE_IMAGE, Some(image.to_string())),
            of(env::IMGLIFE_BASE, base.as_ref().map(ToString::to_string)),
            of(
                env::IMGLIFE_DIGEST,
                digest.as_ref().map(ToString::to_string),
            ),
        ];
        outputs.into_iter().flatten().collect()
    }

    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let rows = vec![
            SummaryRow::new("Project", &self.record.project),
            SummaryRow::new("Revision", &self.record.revision),
            SummaryRow::new("Image", &self.record.image),
        ];
        let summary = Summary {
            title: "Register".to_owned(),
            dry_run: false,
            duration: Some(self.duration),
            rows,
        };
        Document {
            blocks: vec![Block::Summary(summary)],
        }
    }
}

/// Returns the repositories that are known before the base is detected.
pub fn repositories(request: &RegisterRequest) -> impl Iterator<Item = &Repository> {
    std::iter::once(&request.image)
        .chain(&request.base)
        .map(|image| &image.repository)
}
