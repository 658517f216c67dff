//! `register`: the record of what an application image was built on.
//!
//! `observe` looks at the image where something must be found out, `plan` makes the record,
//! `execute` writes it. What names a base is told by `detect`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::{ItemError, chain};
use crate::model::env;
use crate::model::record::InvalidRecord;
use crate::model::{BuildRecord, ImageReference, Platform, Reference, Repository, Tag};
use crate::packages::{Records, tell_of_leftovers};
use crate::registry::ImageStores;
use crate::report::{Block, Document, Summary, SummaryRow};

mod detect;
#[cfg(test)]
mod tests;

pub use crate::steps::image::{ImageFacts, look};
pub use detect::{Detected, Origin, Subject, parse_platforms, same_image};

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// With a tag.
    pub image: ImageReference,
    /// `None`: what the image names.
    pub base: Option<ImageReference>,
    /// Empty: what the image has.
    pub platforms: Vec<Platform>,
    pub revision: String,
    pub project: String,
    pub fields: BTreeMap<String, Value>,
    pub built_at: DateTime<Utc>,
}

impl Request {
    /// Returns whether the image must be looked at.
    pub fn needs_image(&self) -> bool {
        self.base.is_none() || self.platforms.is_empty()
    }
}

/// What was found at the registries; nothing where nothing had to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub image: Option<ImageFacts>,
    /// The image that labels or annotations were inherited from.
    pub parent: Option<ImageFacts>,
    /// What the base's reference names today.
    pub base: Option<ImageFacts>,
}

/// Why there is no record.
#[derive(Debug, Error)]
pub enum RegisterError {
    #[error("there is no image {0}")]
    NoImage(ImageReference),
    #[error("{0} does not tell which base it was built from")]
    NoBase(ImageReference),
    #[error("{0} does not tell its platforms")]
    NoPlatforms(ImageReference),
    #[error(transparent)]
    Place(ItemError),
    #[error("the record cannot be written")]
    Record(#[source] InvalidRecord),
    #[error(transparent)]
    Packages(ItemError),
}

impl RegisterError {
    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            RegisterError::NoImage(_) => Some("register an image after it was pushed, or give `--base` and `--platform`".to_owned()),
            RegisterError::NoBase(_) => Some(
                "give it with `--base REF`, or build the image with the flags that `imglife base-args REF` prints; labels that the image \
                 has inherited do not count"
                    .to_owned(),
            ),
            RegisterError::NoPlatforms(_) => Some("give them with `--platform linux/amd64`".to_owned()),
            RegisterError::Place(error) => error.hint(),
            RegisterError::Packages(error) => error.hint(),
            RegisterError::Record(_) => None,
        }
    }
}

/// Looks at the image, and at the base that it names.
pub async fn observe(request: &Request, stores: &ImageStores) -> Result<World, RegisterError> {
    let mut world = World::default();
    if !request.needs_image() {
        return Ok(world);
    }
    let found = look(
        stores.of(&request.image.repository),
        &request.image.repository,
        &named(&request.image),
        None,
    )
    .await
    .map_err(RegisterError::Place)?;
    let facts = found.ok_or_else(|| RegisterError::NoImage(request.image.clone()))?;
    let subject = Subject {
        image: &request.image,
        facts: &facts,
        revision: &request.revision,
    };
    let inherited_from = subject.inherited_from();
    if let Some(parent) = &inherited_from {
        world.parent = looked_up(stores, &parent.base, &facts).await;
    }
    let base = request.base.clone().or_else(|| {
        subject
            .base(world.parent.as_ref())
            .map(|detected| detected.base)
    });
    if let Some(base) = base.filter(|base| base.digest.is_none()) {
        world.base = match &inherited_from {
            Some(parent) if same_image(&parent.base, &base) => world.parent.clone(),
            _ => looked_up(stores, &base, &facts).await,
        };
    }
    world.image = Some(facts);
    Ok(world)
}

/// Returns what an image says of itself that `facts` may stand on. That it cannot be read is no
/// failure: less is known then.
async fn looked_up(
    stores: &ImageStores,
    image: &ImageReference,
    facts: &ImageFacts,
) -> Option<ImageFacts> {
    match look(
        stores.of(&image.repository),
        &image.repository,
        &named(image),
        facts.config.platform.as_ref(),
    )
    .await
    {
        Ok(Some(found)) => Some(found),
        Ok(None) => {
            tracing::warn!(%image, "the base is not there any more; its digest is not recorded");
            None
        }
        Err(error) => {
            tracing::warn!(%image, "the base cannot be looked at, its digest is not recorded: {}", chain(&error));
            None
        }
    }
}

/// Returns what names the manifest of an image; without tag and digest that is `latest`, as for
/// builders.
fn named(image: &ImageReference) -> Reference {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => digest.clone().into(),
        (None, Some(tag)) => tag.clone().into(),
        (None, None) => Tag::latest().into(),
    }
}

/// A record, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub record: BuildRecord,
    pub origin: Origin,
}

/// Returns the record of the image.
pub fn plan(request: &Request, world: &World) -> Result<Plan, RegisterError> {
    let image = &request.image;
    let subject = world.image.as_ref().map(|facts| Subject {
        image,
        facts,
        revision: &request.revision,
    });
    let detected = match &request.base {
        Some(base) => Some(Detected {
            base: base.clone(),
            origin: Origin::Flag,
        }),
        None => subject.and_then(|subject| subject.base(world.parent.as_ref())),
    };
    let Detected { base, origin } = detected.ok_or_else(|| RegisterError::NoBase(image.clone()))?;
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
        // Where there is a tag, the digest stands apart, so that all records of one base name it
        // the same.
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
        unknown: Map::new(),
    };
    Ok(Plan { record, origin })
}

/// What was recorded.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterReport {
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    pub duration: Duration,
    pub record: BuildRecord,
    /// What named the base.
    pub base_from: Origin,
}

/// Writes the record, in the place of an older one of the same tag.
pub async fn execute(plan: Plan, records: &Records) -> Result<RegisterReport, RegisterError> {
    plan.record.to_bytes().map_err(RegisterError::Record)?;
    let put = records
        .put(&plan.record)
        .await
        .map_err(RegisterError::Packages)?;
    if let Some(error) = put.left_behind {
        tell_of_leftovers("the record", &error);
    }
    Ok(RegisterReport {
        duration: Duration::ZERO,
        record: plan.record,
        base_from: plan.origin,
    })
}

impl RegisterReport {
    /// Returns what later jobs may want to know, by the names of variables.
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

    /// Returns the report for people.
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

/// Returns the repositories that a registration may speak to before it knows the base.
pub fn repositories(request: &Request) -> impl Iterator<Item = &Repository> {
    std::iter::once(&request.image)
        .chain(&request.base)
        .map(|image| &image.repository)
}
