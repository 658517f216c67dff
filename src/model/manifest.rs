//! Manifests and indexes: their exact bytes and the parsed content.
//!
//! Only the original bytes are pushed, so that digests never change. The parsed form is for
//! reading.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;

use super::descriptor::{Descriptor, annotations};
use super::digest::{Algorithm, Digest};
use super::media_type;
use super::text::excerpt;

/// Maximum size of a manifest that is read, in bytes.
///
/// 4 MiB is the size that registries must at least accept (distribution specification, "Pushing
/// Manifests").
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Maximum number of entries in an index. Clients keep referrers in an index too, and a scan every
/// night makes a thousand of them in three years.
pub const MAX_INDEX_ENTRIES: usize = 10_000;

/// Maximum number of layers in a manifest.
pub const MAX_LAYERS: usize = 10_000;

/// Maximum nesting depth of indexes.
pub const MAX_INDEX_NESTING: usize = 4;

/// A manifest or index: its original bytes, their digest and the parsed content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Original bytes, as read from the store.
    pub bytes: Bytes,
    /// Media type of the manifest.
    pub media_type: String,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Parsed references to other content.
    pub content: ManifestContent,
    /// Manifest that this one is attached to, if it is a referrer.
    pub subject: Option<Descriptor>,
    /// Type of the artifact.
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

/// The content that a manifest references.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few manifests are in memory at once, each next to its larger bytes"
)]
pub enum ManifestContent {
    /// An index or Docker manifest list, which references other manifests.
    Index { children: Vec<Descriptor> },
    /// An image or an artifact, which references a configuration and layers. An artifact may have
    /// neither.
    Image {
        config: Option<Descriptor>,
        layers: Vec<Descriptor>,
    },
}

/// Error for bytes that are not a manifest that imglife can copy.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("the manifest has {size} bytes, which is more than the limit of {MAX_MANIFEST_BYTES}")]
    TooLarge { size: usize },
    #[error("the index has {count} entries, which is more than the limit of {MAX_INDEX_ENTRIES}")]
    TooManyChildren { count: usize },
    #[error("the manifest has {count} layers, which is more than the limit of {MAX_LAYERS}")]
    TooManyLayers { count: usize },
    #[error(
        "Docker schema 1 manifests are not supported: the deprecated format contains the name and tag of the image and cannot be copied"
    )]
    SchemaOne,
    #[error("unsupported manifest: media type `{}`", excerpt(.media_type, 120))]
    UnknownType { media_type: String },
    #[error("the content is not a manifest")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses a manifest or index and computes its digest with `algorithm`.
    ///
    /// `content_type` is the media type that the store reports. The media type in `bytes` takes
    /// precedence, because the digest covers it.
    ///
    /// # Errors
    /// Fails for unsupported formats, for content that exceeds a limit, and for JSON that can be
    /// read both as an index and as an image.
    pub fn parse(
        bytes: Bytes,
        content_type: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Manifest, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { size: bytes.len() });
        }
        let content_type = content_type.map(|text| {
            text.split(';')
                .next()
                .unwrap_or(text)
                .trim()
                .to_ascii_lowercase()
        });
        let raw: RawManifest = serde_json::from_slice(&bytes).map_err(ManifestError::Malformed)?;
        let stated = raw
            .media_type
            .as_deref()
            .or(content_type.as_deref())
            .unwrap_or("");
        if raw.fs_layers.is_some()
            || raw.schema_version == Some(1)
            || matches!(
                stated,
                media_type::DOCKER_SCHEMA_1 | media_type::DOCKER_SCHEMA_1_SIGNED
            )
        {
            return Err(ManifestError::SchemaOne);
        }
        let is_index = matches!(stated, media_type::OCI_INDEX | media_type::DOCKER_LIST);
        let is_manifest = matches!(
            stated,
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST
        );
        let (content, fallback_type) = match (raw.manifests, raw.config, raw.layers.or(raw.blobs)) {
            // A body that is both an index and an image is a known attack: clients interpret it
            // differently.
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(ManifestError::UnknownType {
                    media_type: format!("{stated} (both an index and an image)"),
                });
            }
            (Some(children), None, None) if !is_manifest => {
                (ManifestContent::Index { children }, media_type::OCI_INDEX)
            }
            (None, None, None) if is_index => (
                ManifestContent::Index {
                    children: Vec::new(),
                },
                media_type::OCI_INDEX,
            ),
            (None, config, layers) if !is_index && (config.is_some() || layers.is_some()) => (
                ManifestContent::Image {
                    config,
                    layers: layers.unwrap_or_default(),
                },
                media_type::OCI_MANIFEST,
            ),
            _ => {
                return Err(ManifestError::UnknownType {
                    media_type: stated.to_owned(),
                });
            }
        };
        match &content {
            ManifestContent::Index { children } if children.len() > MAX_INDEX_ENTRIES => {
                return Err(ManifestError::TooManyChildren {
                    count: children.len(),
                });
            }
            ManifestContent::Image { layers, .. } if layers.len() > MAX_LAYERS => {
                return Err(ManifestError::TooManyLayers {
                    count: layers.len(),
                });
            }
            _ => {}
        }
        let media_type = raw
            .media_type
            .or(content_type.filter(|text| text.ends_with("+json") && text.contains("/vnd.")))
            .unwrap_or_else(|| fallback_type.to_owned());
        Ok(Manifest {
            digest: Digest::of(algorithm, &bytes),
            media_type,
            content,
            subject: raw.subject,
            artifact_type: raw.artifact_type,
            annotations: raw.annotations,
            bytes,
        })
    }

    /// Returns the descriptor with which an index references this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest.clone(),
            self.bytes.len() as u64,
        )
    }

    /// Returns the descriptor of this manifest for a list of referrers.
    ///
    /// It includes the annotations and the artifact type. An image without an artifact type has the
    /// media type of its configuration instead (distribution specification, "Listing Referrers").
    pub fn referrer(&self) -> Descriptor {
        let config_type = match &self.content {
            ManifestContent::Image {
                config: Some(config),
                ..
            } => Some(config.media_type.clone()),
            _ => None,
        };
        Descriptor {
            artifact_type: self
                .artifact_type
                .clone()
                .filter(|text| !text.is_empty())
                .or(config_type),
            annotations: self.annotations.clone(),
            ..self.descriptor()
        }
    }

    /// Returns the entries of an index, or `None` for an image.
    pub fn children(&self) -> Option<&[Descriptor]> {
        match &self.content {
            ManifestContent::Index { children } => Some(children),
            ManifestContent::Image { .. } => None,
        }
    }

    /// Returns the configuration and the layers of an image in their order, without duplicate
    /// digests. Empty for an index.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let ManifestContent::Image { config, layers } = &self.content else {
            return Vec::new();
        };
        let mut seen = std::collections::HashSet::new();
        config
            .iter()
            .chain(layers)
            .filter(|blob| seen.insert(&blob.digest))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(
            Bytes::copy_from_slice(text.as_bytes()),
            content_type,
            Algorithm::Sha256,
        )
    }

    fn descriptor_json(content: &[u8]) -> String {
        format!(
            r#"{{"mediaType":"x","digest":"{}","size":{},"unknown":[1]}}"#,
            Digest::sha256(content),
            content.len()
        )
    }

    #[test]
    fn parse_keeps_the_original_bytes_and_their_digest() {
        let text = format!(
            "{{\n  \"schemaVersion\": 2, \"config\": {}, \"layers\": [] }}\n",
            descriptor_json(b"c")
        );
        let manifest = parse(
            &text,
            Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
        )
        .expect("a manifest");
        assert_eq!(manifest.digest, Digest::sha256(text.as_bytes()));
        assert_eq!(manifest.bytes, text.as_bytes());
        assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
    }

    #[test]
    fn blobs_lists_a_repeated_layer_once() {
        let layer = descriptor_json(b"l");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{layer},{layer}]}}"#,
            descriptor_json(b"c")
        );
        assert_eq!(parse(&text, None).expect("a manifest").blobs().len(), 2);
    }

    #[test]
    fn parse_rejects_schema_1_by_media_type_and_by_content() {
        for (text, content_type) in [
            (r#"{"schemaVersion":1,"name":"a","tag":"b"}"#, None),
            (r#"{"fsLayers":[]}"#, None),
            ("{}", Some(media_type::DOCKER_SCHEMA_1_SIGNED)),
        ] {
            assert!(
                matches!(parse(text, content_type), Err(ManifestError::SchemaOne)),
                "{text}"
            );
        }
    }

    #[test]
    fn parse_rejects_a_body_that_is_both_index_and_image() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}}"#,
            descriptor_json(b"c")
        );
        assert!(matches!(
            parse(&text, None),
            Err(ManifestError::UnknownType { .. })
        ));
    }

    #[test]
    fn parse_rejects_an_image_with_the_media_type_of_an_index() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
            media_type::OCI_INDEX,
            descriptor_json(b"c")
        );
        assert!(matches!(
            parse(&text, None),
            Err(ManifestError::UnknownType { .. })
        ));
    }

    #[test]
    fn parse_reads_what_other_clients_copy() {
        let entry = |platform: &str| {
            let descriptor = descriptor_json(b"c");
            descriptor.replace(
                "\"unknown\"",
                &format!("\"platform\":{platform},\"unknown\""),
            )
        };
        for (platform, expected) in [
            ("null", None),
            ("{}", None),
            (r#"{"os":"linux"}"#, None),
            (r#"{"architecture":"amd64"}"#, None),
            (r#"{"os":"","architecture":""}"#, None),
            (
                r#"{"os":"linux","architecture":"amd64","features":null}"#,
                Some("linux/amd64"),
            ),
        ] {
            let text = format!(
                r#"{{"schemaVersion":2,"annotations":{{"a":null,"b":"1","b":"2"}},"manifests":[{}]}}"#,
                entry(platform)
            );
            let manifest = parse(&text, None).expect("an index");
            let children = manifest.children().expect("children");
            let found = children[0].platform.as_ref().map(ToString::to_string);
            assert_eq!(found.as_deref(), expected, "{platform}");
            assert_eq!(manifest.annotations["a"], "");
            assert_eq!(manifest.annotations["b"], "2");
            assert_eq!(manifest.bytes, text);
        }
        // Clients could read different images.
        let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        let error = parse(twice, None).expect_err("ambiguous");
        assert!(
            crate::error::chain(&error).contains("duplicate field `manifests`"),
            "{}",
            crate::error::chain(&error)
        );
    }

    #[test]
    fn parse_accepts_empty_and_null_lists() {
        let text = r#"{"schemaVersion":2,"manifests":[],"annotations":null}"#;
        let manifest = parse(text, None).expect("an index");
        assert_eq!(manifest.children(), Some(&[][..]));
        assert_eq!(manifest.media_type, media_type::OCI_INDEX);
    }

    #[test]
    fn parse_rejects_content_above_the_limits() {
        let large = " ".repeat(MAX_MANIFEST_BYTES + 1);
        assert!(matches!(
            parse(&large, None),
            Err(ManifestError::TooLarge { .. })
        ));
        let children = vec![descriptor_json(b"c"); MAX_INDEX_ENTRIES + 1].join(",");
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{children}]}}"#);
        assert!(matches!(
            parse(&text, None),
            Err(ManifestError::TooManyChildren { count: 10_001 })
        ));
    }

    #[test]
    fn parse_rejects_deeply_nested_json() {
        let text = format!("{}{}", r#"{"annotations":"#, "[".repeat(100_000));
        assert!(parse(&text, None).is_err());
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(Bytes::from(bytes), None, Algorithm::Sha256);
        }
    }
}
