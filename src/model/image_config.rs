//! Image configurations: labels, platform, layers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Platform;

/// The largest configuration that is read, in bytes.
pub const LARGEST_CONFIG: u64 = 8 * 1024 * 1024;

/// What an image configuration says, as far as it matters here (OCI image specification, "Image
/// Configuration").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// With those that were inherited from the image that this one is built on.
    pub labels: BTreeMap<String, String>,
    pub platform: Option<Platform>,
    /// The digests of the unpacked layers, from the lowest on.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<RawConfig>,
    rootfs: Option<RawLayers>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct RawLayers {
    diff_ids: Option<Vec<String>>,
}

impl ImageConfig {
    /// Returns the configuration in `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(bytes)?;
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

    /// Returns whether this image has all layers of `base` below its own.
    pub fn stands_on(&self, base: &ImageConfig) -> bool {
        !base.layers.is_empty() && self.layers.starts_with(&base.layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builders_leave_out_or_write_as_null_is_nothing() {
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
    fn an_image_stands_on_another_when_its_lowest_layers_are_all_of_that_one() {
        let of = |layers: &[&str]| ImageConfig {
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            ..ImageConfig::default()
        };
        assert!(of(&["a", "b", "c"]).stands_on(&of(&["a", "b"])));
        assert!(of(&["a"]).stands_on(&of(&["a"])));
        assert!(!of(&["a", "c"]).stands_on(&of(&["a", "b"])));
        assert!(!of(&["a"]).stands_on(&of(&[])));
    }
}
