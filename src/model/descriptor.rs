//! Content descriptors: media type, digest and size of content that a manifest references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::labels;
use super::media_type;
use super::platform::Platform;

/// A content descriptor (OCI image specification, "Content Descriptors").
///
/// Fields that are missing or `null` read as empty. Manifests that are copied keep their original
/// bytes and are never serialised from this type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content; empty if the manifest gives none.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Platform that the content runs on. Only set for entries of an index.
    ///
    /// `None` also if the descriptor gives no operating system or no architecture, as some tools
    /// write it: such an entry is for no known platform.
    #[serde(
        default,
        deserialize_with = "complete_platform",
        skip_serializing_if = "Option::is_none"
    )]
    pub platform: Option<Platform>,
    #[serde(
        default,
        deserialize_with = "annotations",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Type of the artifact that the descriptor points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Addresses from which the content may also be downloaded.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
}

/// Reads `null` as the default value.
fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads annotations. `null` reads as empty, also for a single value.
pub(super) fn annotations<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let read = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
    let values = read.unwrap_or_default().into_iter();
    Ok(values
        .map(|(name, value)| (name, value.unwrap_or_default()))
        .collect())
}

/// Reads a platform; `None` if a required field is missing or empty.
fn complete_platform<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Platform>, D::Error> {
    #[derive(Deserialize)]
    struct AnyPlatform {
        os: Option<String>,
        architecture: Option<String>,
        variant: Option<String>,
        #[serde(rename = "os.version")]
        os_version: Option<String>,
    }
    let Some(read) = Option::<AnyPlatform>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (Some(os), Some(architecture)) = (filled(read.os), filled(read.architecture)) else {
        return Ok(None);
    };
    Ok(Some(Platform {
        os,
        architecture,
        variant: read.variant,
        os_version: read.os_version,
    }))
}

impl Descriptor {
    /// Returns a descriptor with only the three required fields set.
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

    /// Returns the digest of the entry that this one is an attestation of.
    ///
    /// `None` if the descriptor is not an attestation in BuildKit's format.
    pub fn attests_to(&self) -> Option<&str> {
        self.annotations
            .get(labels::ATTESTATION_SUBJECT)
            .map(String::as_str)
    }

    /// Returns true if the content is a non-distributable layer, which registries may not serve.
    ///
    /// Such layers are deprecated since version 1.1 of the OCI image specification, but Windows
    /// images still have them.
    pub fn is_foreign_layer(&self) -> bool {
        self.media_type
            .starts_with(media_type::DOCKER_FOREIGN_PREFIX)
            || self
                .media_type
                .starts_with(media_type::OCI_NONDISTRIBUTABLE_PREFIX)
    }
}
