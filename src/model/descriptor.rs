//! Descriptors: what a manifest says of the content it refers to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::labels;
use super::media_type;
use super::platform::Platform;

/// A content descriptor of the OCI image specification. For reading: manifests that are copied are
/// never written from it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Descriptor {
    /// Returns a descriptor with the three required fields only.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            artifact_type: None,
            urls: Vec::new(),
        }
    }

    /// Returns the digest of the entry that this one attests to, when it is an attestation in
    /// BuildKit's form.
    pub fn attests_to(&self) -> Option<&str> {
        self.annotations
            .get(labels::ATTESTATION_SUBJECT)
            .map(String::as_str)
    }

    /// Returns whether the content is a layer that its maker did not allow registries to hand out
    /// (deprecated since version 1.1 of the image specification, still found in Windows images).
    pub fn is_foreign_layer(&self) -> bool {
        self.media_type
            .starts_with(media_type::DOCKER_FOREIGN_PREFIX)
            || self
                .media_type
                .starts_with(media_type::OCI_NONDISTRIBUTABLE_PREFIX)
    }
}
