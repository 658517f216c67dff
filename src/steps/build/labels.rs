//! Labels of a base image, and the digest of its inputs.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde_json::json;

use super::context::FileDigest;
use super::identity::Identity;
use crate::config::BuildImage;
use crate::model::labels;
use crate::model::reference::LAYOUT_PREFIX;
use crate::model::{Digest, ImageReference};

/// Metadata that differs between runs. A change of it does not cause a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMetadata {
    pub created: DateTime<Utc>,
    pub revision: Option<String>,
    /// URL of the repository with the templates.
    pub source: Option<String>,
}

impl RunMetadata {
    /// Returns `created` in the form for labels and templates: RFC 3339 in UTC, in seconds.
    pub fn created(&self) -> String {
        self.created.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// Returns the labels that depend on the inputs only, not on the run.
pub(super) fn stable_labels(image: &BuildImage, identity: &Identity) -> BTreeMap<String, String> {
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    let reference = ImageReference::tagged(image.repository.clone(), identity.tag.clone());
    [
        (labels::TITLE, image.name.clone()),
        (labels::VERSION, identity.tag.to_string()),
        (labels::BASE_NAME, identity.base_reference().to_string()),
        (labels::OWN_REFERENCE, reference.to_string()),
        (labels::TIER, labels::TIER_BASE.to_owned()),
        (labels::PLATFORMS, platforms.join(" ")),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Values for the labels of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImageLabels<'a> {
    pub image: &'a BuildImage,
    pub identity: &'a Identity,
    /// `None` if the base is not built yet.
    pub base_digest: Option<&'a Digest>,
    /// Digest from [`inputs_digest`].
    pub inputs: &'a Digest,
    pub eol: Option<NaiveDate>,
    pub run_metadata: &'a RunMetadata,
}

impl ImageLabels<'_> {
    /// Returns all labels of the image.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = stable_labels(self.image, self.identity);
        let mut add = |name: &str, value: Option<String>| {
            labels.extend(value.map(|value| (name.to_owned(), value)));
        };
        add(labels::CREATED, Some(self.run_metadata.created()));
        add(labels::REVISION, self.run_metadata.revision.clone());
        add(labels::SOURCE, self.run_metadata.source.clone());
        add(
            labels::BASE_DIGEST,
            self.base_digest.map(ToString::to_string),
        );
        add(labels::INPUTS, Some(self.inputs.to_string()));
        add(labels::EOL, self.eol.map(|date| date.to_string()));
        labels
    }
}

/// Returns the digest of the inputs of an image: the Dockerfile rendered without
/// [`RunMetadata`], the files that it reads, arguments, platforms and stable labels.
///
/// The base is included by tag; a new digest of the tag is detected separately. Paths of OCI
/// layouts are made relative to `directory`, that of the configuration, so that every checkout has
/// the same digest.
pub(super) fn inputs_digest(
    image: &BuildImage,
    identity: &Identity,
    dockerfile: &str,
    files: &[FileDigest],
    directory: &Path,
) -> Digest {
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    let description = json!({
        "dockerfile": dockerfile,
        "files": files.iter().map(|file| json!([file.path, file.kind, file.digest])).collect::<Vec<_>>(),
        "args": image.args,
        "platforms": platforms,
        "labels": stable_labels(image, identity),
    });
    let here = format!(
        "{LAYOUT_PREFIX}{}/",
        directory.display().to_string().trim_end_matches('/')
    );
    Digest::sha256(
        description
            .to_string()
            .replace(&here, LAYOUT_PREFIX)
            .as_bytes(),
    )
}
