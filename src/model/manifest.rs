//! Manifests and indexes: the exact bytes, and what they say.
//!
//! The bytes are what gets pushed; the parsed form beside them is only ever read.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;

use super::descriptor::Descriptor;
use super::digest::{Algorithm, Digest};
use super::media_type;
use super::text::excerpt;

/// The largest manifest that is read, in bytes; the distribution specification asks registries for
/// at least this.
pub const LARGEST_MANIFEST: usize = 4 * 1024 * 1024;

/// The most entries that an index may have.
pub const MOST_CHILDREN: usize = 1_000;

/// The most layers that a manifest may have.
pub const MOST_LAYERS: usize = 10_000;

/// How deep indexes may be nested.
pub const DEEPEST_NESTING: usize = 4;

/// A manifest or index as it was read: its bytes, their digest, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub bytes: Bytes,
    pub media_type: String,
    pub digest: Digest,
    pub content: ManifestContent,
    pub subject: Option<Descriptor>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few are held at once, and all of them beside their bytes"
)]
pub enum ManifestContent {
    /// An index or Docker manifest list: other manifests.
    Index { children: Vec<Descriptor> },
    /// An image or an artifact: a configuration and layers. Artifacts may have neither.
    Image {
        config: Option<Descriptor>,
        layers: Vec<Descriptor>,
    },
}

/// Why bytes are not a manifest that can be copied.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("the manifest has {size} bytes; more than {LARGEST_MANIFEST} are not read")]
    TooLarge { size: usize },
    #[error("the index has {count} entries; more than {MOST_CHILDREN} are refused")]
    TooManyChildren { count: usize },
    #[error("the manifest has {count} layers; more than {MOST_LAYERS} are refused")]
    TooManyLayers { count: usize },
    #[error(
        "it is a Docker schema 1 manifest: the format was withdrawn, its name and tag are part of it, and it cannot be copied"
    )]
    SchemaOne,
    #[error("it is no manifest that is known: media type `{}`", excerpt(.media_type, 120))]
    UnknownType { media_type: String },
    #[error("it is no manifest")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Returns the manifest in `bytes`. `content_type` is what the place said of it; the media type
    /// inside the bytes wins, since that is what the digest covers. The digest is computed with
    /// `algorithm`.
    pub fn parse(
        bytes: Bytes,
        content_type: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Manifest, ManifestError> {
        if bytes.len() > LARGEST_MANIFEST {
            return Err(ManifestError::TooLarge { size: bytes.len() });
        }
        let content_type = content_type.map(|text| {
            text.split(';')
                .next()
                .unwrap_or(text)
                .trim()
                .to_ascii_lowercase()
        });
        let raw: Raw = serde_json::from_slice(&bytes).map_err(ManifestError::Malformed)?;
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
            // A body that could be read both ways is a known attack on clients that disagree about
            // it.
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
            ManifestContent::Index { children } if children.len() > MOST_CHILDREN => {
                return Err(ManifestError::TooManyChildren {
                    count: children.len(),
                });
            }
            ManifestContent::Image { layers, .. } if layers.len() > MOST_LAYERS => {
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
            annotations: raw.annotations.unwrap_or_default(),
            bytes,
        })
    }

    /// Returns the descriptor by which an index would refer to this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest.clone(),
            self.bytes.len() as u64,
        )
    }

    /// Returns the descriptor by which a list of referrers names this manifest: with its
    /// annotations and its artifact type, which for an image without one is the media type of its
    /// configuration (distribution specification, "Listing Referrers").
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

    /// Returns the configuration and the layers of an image, each digest once, in their order;
    /// nothing for an index.
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
    fn the_bytes_and_their_digest_are_kept_as_read() {
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
    fn a_layer_that_stands_twice_is_one_blob() {
        let layer = descriptor_json(b"l");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{layer},{layer}]}}"#,
            descriptor_json(b"c")
        );
        assert_eq!(parse(&text, None).expect("a manifest").blobs().len(), 2);
    }

    #[test]
    fn schema_one_is_recognised_by_type_and_by_shape() {
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
    fn a_body_that_is_index_and_image_at_once_is_refused() {
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
    fn a_manifest_labelled_as_index_is_refused() {
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
    fn empty_and_null_lists_are_read() {
        let text = r#"{"schemaVersion":2,"manifests":[],"annotations":null}"#;
        let manifest = parse(text, None).expect("an index");
        assert_eq!(manifest.children(), Some(&[][..]));
        assert_eq!(manifest.media_type, media_type::OCI_INDEX);
    }

    #[test]
    fn large_manifests_and_indexes_are_refused() {
        let large = " ".repeat(LARGEST_MANIFEST + 1);
        assert!(matches!(
            parse(&large, None),
            Err(ManifestError::TooLarge { .. })
        ));
        let children = vec![descriptor_json(b"c"); MOST_CHILDREN + 1].join(",");
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{children}]}}"#);
        assert!(matches!(
            parse(&text, None),
            Err(ManifestError::TooManyChildren { count: 1001 })
        ));
    }

    #[test]
    fn deep_json_is_an_error_and_not_a_crash() {
        let text = format!("{}{}", r#"{"annotations":"#, "[".repeat(100_000));
        assert!(parse(&text, None).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_manifest_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(Bytes::from(bytes), None, Algorithm::Sha256);
        }
    }
}
