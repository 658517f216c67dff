//! What a base image says of itself: labels, and the digest of what it was made of.

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

/// What differs from run to run and is no reason to build again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    pub created: DateTime<Utc>,
    pub revision: Option<String>,
    /// Where the templates are kept.
    pub source: Option<String>,
}

impl Occasion {
    /// Returns the time as labels and templates have it.
    pub fn created(&self) -> String {
        self.created.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// Returns the labels that tell the same for the same inputs.
pub(super) fn lasting(image: &BuildImage, identity: &Identity) -> BTreeMap<String, String> {
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

/// An image that is about to be built, with all that its labels tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'a> {
    pub image: &'a BuildImage,
    pub identity: &'a Identity,
    /// `None` when it is not known yet.
    pub base_digest: Option<&'a Digest>,
    pub inputs: &'a Digest,
    pub eol: Option<NaiveDate>,
    pub occasion: &'a Occasion,
}

impl Making<'_> {
    /// Returns all labels of the image.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = lasting(self.image, self.identity);
        let mut add = |name: &str, value: Option<String>| {
            labels.extend(value.map(|value| (name.to_owned(), value)));
        };
        add(labels::CREATED, Some(self.occasion.created()));
        add(labels::REVISION, self.occasion.revision.clone());
        add(labels::SOURCE, self.occasion.source.clone());
        add(
            labels::BASE_DIGEST,
            self.base_digest.map(ToString::to_string),
        );
        add(labels::INPUTS, Some(self.inputs.to_string()));
        add(labels::EOL, self.eol.map(|date| date.to_string()));
        labels
    }
}

/// Returns the digest of what an image is made of: the Dockerfile rendered without what differs
/// from run to run, the files that it reads, arguments, platforms and lasting labels. The base
/// counts by its tag; that its digest moved is told apart. OCI layouts count by their path below
/// `directory`, that of the configuration: a checkout elsewhere makes the same.
pub(super) fn inputs(
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
        "labels": lasting(image, identity),
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
