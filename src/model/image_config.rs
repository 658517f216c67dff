//! Image configurations: labels, platform, layers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Platform;

/// Maximum size of an image configuration that is read, in bytes.
pub const MAX_IMAGE_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// The parts of an image configuration that imglife uses (OCI image specification, "Image
/// Configuration").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Labels of the image, including those inherited from its base image.
    pub labels: BTreeMap<String, String>,
    /// Platform that the image runs on; `None` if the configuration lacks the operating system or
    /// the architecture.
    pub platform: Option<Platform>,
    /// Digests of the uncompressed layers (`rootfs.diff_ids`), bottom layer first.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
struct RawImageConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<RawContainerConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawContainerConfig {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

impl ImageConfig {
    /// Parses the JSON of an image configuration. Labels that are not strings are ignored.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, serde_json::Error> {
        let raw: RawImageConfig = serde_json::from_slice(bytes)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let platform = filled(raw.os)
            .zip(filled(raw.architecture))
            .map(|(os, architecture)| Platform {
                os,
                architecture,
                variant: filled(raw.variant),
                os_version: None,
            });
        let labels = raw
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default()
            .into_iter();
        Ok(ImageConfig {
            labels: labels
                .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
                .collect(),
            platform,
            layers: raw
                .rootfs
                .and_then(|rootfs| rootfs.diff_ids)
                .unwrap_or_default(),
        })
    }

    /// Returns true if this image is built on `base`: its bottom layers are all layers of `base`.
    ///
    /// An image without layers is the base of no image.
    pub fn is_based_on(&self, base: &ImageConfig) -> bool {
        !base.layers.is_empty() && self.layers.starts_with(&base.layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_missing_and_null_fields_as_empty() {
        for text in [
            "{}",
            r#"{"config":null,"rootfs":null}"#,
            r#"{"config":{"Labels":null},"os":"","architecture":"amd64"}"#,
        ] {
            assert_eq!(
                ImageConfig::parse(text.as_bytes()).expect("a configuration"),
                ImageConfig::default(),
                "{text}"
            );
        }
        let text = r#"{"os":"linux","architecture":"arm","variant":"v7","config":{"Labels":{"a":"b"}},"rootfs":{"diff_ids":["x","y"]}}"#;
        let config = ImageConfig::parse(text.as_bytes()).expect("a configuration");
        assert_eq!(
            config
                .platform
                .map(|platform| platform.to_string())
                .as_deref(),
            Some("linux/arm/v7")
        );
        assert_eq!((config.labels["a"].as_str(), config.layers.len()), ("b", 2));
        assert!(ImageConfig::parse(b"[1").is_err());
    }

    #[test]
    fn is_based_on_compares_the_bottom_layers() {
        let of = |layers: &[&str]| ImageConfig {
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            ..ImageConfig::default()
        };
        assert!(of(&["a", "b", "c"]).is_based_on(&of(&["a", "b"])));
        assert!(of(&["a"]).is_based_on(&of(&["a"])));
        assert!(!of(&["a", "c"]).is_based_on(&of(&["a", "b"])));
        assert!(!of(&["a"]).is_based_on(&of(&[])));
    }
}
