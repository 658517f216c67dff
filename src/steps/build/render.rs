//! Dockerfiles from templates.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;

use super::identity::{Identity, type_name};
use super::labels::Occasion;
use crate::config::{BuildConfig, BuildImage};
use crate::model::{Digest, ImageReference};
use crate::template::{self, TemplateError};

/// The variables of a template.
#[derive(Serialize)]
struct Variables<'a> {
    name: &'a str,
    r#type: &'static str,
    version: &'a str,
    core_version: &'a str,
    registry: String,
    tag: String,
    image: String,
    mirror_image: String,
    mirror_tag: String,
    mirror_digest: String,
    base: String,
    platforms: Vec<String>,
    args: &'a BTreeMap<String, String>,
    revision: &'a str,
    created: String,
    eol_date: String,
}

/// What is put into a template besides the image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filling<'a> {
    /// Everything, for a build; `None` where the base is built first.
    Whole {
        base_digest: Option<&'a Digest>,
        eol: Option<NaiveDate>,
        occasion: &'a Occasion,
    },
    /// Blanks for what differs from run to run, and for the digest of the base.
    Blanks,
}

/// Returns the Dockerfile that a template makes. `name` is what messages call the template.
pub(super) fn dockerfile(
    build: &BuildConfig,
    image: &BuildImage,
    identity: &Identity,
    template: &Template<'_>,
    filling: Filling<'_>,
) -> Result<String, TemplateError> {
    let by_tag = identity.base_reference();
    let (mirror_digest, base, revision, created, eol_date) = match filling {
        Filling::Blanks => (
            String::new(),
            by_tag.to_string(),
            "",
            String::new(),
            String::new(),
        ),
        Filling::Whole {
            base_digest,
            eol,
            occasion,
        } => (
            base_digest.map(Digest::to_string).unwrap_or_default(),
            ImageReference {
                digest: base_digest.cloned(),
                ..by_tag
            }
            .to_string(),
            occasion.revision.as_deref().unwrap_or_default(),
            occasion.created(),
            eol.map(|date| date.to_string()).unwrap_or_default(),
        ),
    };
    let variables = Variables {
        name: &image.name,
        r#type: type_name(image.image_type),
        version: &identity.version,
        core_version: &image.core_version,
        registry: build.registry.to_string(),
        tag: identity.tag.to_string(),
        image: ImageReference::tagged(image.repository.clone(), identity.tag.clone()).to_string(),
        mirror_image: identity.base.to_string(),
        mirror_tag: identity.base_tag.to_string(),
        mirror_digest,
        base,
        platforms: image.platforms.iter().map(ToString::to_string).collect(),
        args: &image.args,
        revision,
        created,
        eol_date,
    };
    template::render(template.name, template.text, variables)
}

/// A template as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template<'a> {
    /// The file, as the user knows it.
    pub name: &'a str,
    pub text: &'a str,
}
