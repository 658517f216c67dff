//! Rendering of templates to Dockerfiles.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;

use super::identity::{Identity, type_name};
use super::labels::RunMetadata;
use crate::config::{BuildConfig, BuildImage};
use crate::model::{Digest, ImageReference};
use crate::template::{self, TemplateError};

/// Variables of a template.
#[derive(Serialize)]
struct TemplateVariables<'a> {
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

/// Values of a template that are not known from the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) enum RunValues<'a> {
    /// Values of this run, for a build. `base_digest` is `None` if the base is not built yet.
    Known {
        base_digest: Option<&'a Digest>,
        eol: Option<NaiveDate>,
        run_metadata: &'a RunMetadata,
    },
    /// Empty values, for the digest of the inputs: the same in each run.
    Blank,
}

/// Renders a template to a Dockerfile.
pub(super) fn dockerfile(
    build: &BuildConfig,
    image: &BuildImage,
    identity: &Identity,
    template: &Template<'_>,
    values: RunValues<'_>,
) -> Result<String, TemplateError> {
    let by_tag = identity.base_reference();
    let (mirror_digest, base, revision, created, eol_date) = match values {
        RunValues::Blank => (
            String::new(),
            by_tag.to_string(),
            "",
            String::new(),
            String::new(),
        ),
        RunValues::Known {
            base_digest,
            eol,
            run_metadata,
        } => (
            base_digest.map(Digest::to_string).unwrap_or_default(),
            ImageReference {
                digest: base_digest.cloned(),
                ..by_tag
            }
            .to_string(),
            run_metadata.revision.as_deref().unwrap_or_default(),
            run_metadata.created(),
            eol.map(|date| date.to_string()).unwrap_or_default(),
        ),
    };
    let variables = TemplateVariables {
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

/// Name and text of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template<'a> {
    /// Path of the file for messages.
    pub name: &'a str,
    pub text: &'a str,
}
