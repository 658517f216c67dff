//! Platforms: operating system, architecture and variant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::text::excerpt;

/// A platform as indexes and image configurations declare it: `linux/arm/v7`.
///
/// The text form has no operating system version; only the JSON form has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Platform {
    /// Operating system, as in Go's `GOOS`.
    pub os: String,
    /// Processor architecture, as in Go's `GOARCH`.
    pub architecture: String,
    /// Variant of the architecture, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system. Windows images have one.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
}

/// Error for text that is not a platform.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{}` is not a platform: expected `os/architecture` or `os/architecture/variant`, for example `linux/amd64` or `linux/arm/v7`", excerpt(.0, 80))]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// Returns true if `other` is the same platform once both are normalised.
    ///
    /// Default variants are filled in as containerd does: `arm64` is `arm64/v8`, `arm` is `arm/v7`,
    /// `amd64` is `amd64/v1`. The version of the operating system is not compared.
    pub fn matches(&self, other: &Platform) -> bool {
        self.os.eq_ignore_ascii_case(&other.os)
            && normalized_architecture(&self.architecture)
                == normalized_architecture(&other.architecture)
            && self.normalized_variant() == other.normalized_variant()
    }

    /// Returns true for `unknown/unknown`, the platform of index entries that are not images, such
    /// as attestations.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    fn normalized_variant(&self) -> String {
        let variant = self.variant.as_deref().unwrap_or("").to_ascii_lowercase();
        match (
            normalized_architecture(&self.architecture).as_str(),
            variant.as_str(),
        ) {
            ("arm64", "" | "8") => "v8".to_owned(),
            ("arm", "" | "7") => "v7".to_owned(),
            ("arm", "5" | "6" | "8") => format!("v{variant}"),
            ("amd64", "") => "v1".to_owned(),
            _ => variant,
        }
    }
}

fn normalized_architecture(architecture: &str) -> String {
    let architecture = architecture.to_ascii_lowercase();
    match architecture.as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "armhf" => "arm".to_owned(),
        "i386" => "386".to_owned(),
        _ => architecture,
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Platform, InvalidPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_word) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        Ok(Platform {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).map(|&variant| variant.to_owned()),
            os_version: None,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(one: &str, other: &str) -> bool {
        let parse = |text: &str| text.parse::<Platform>().expect("a platform");
        parse(one).matches(&parse(other))
    }

    #[test]
    fn matches_fills_in_default_variants() {
        assert!(matches("linux/arm64", "linux/arm64/v8"));
        assert!(matches("linux/arm", "linux/arm/v7"));
        assert!(!matches("linux/arm", "linux/arm/v6"));
        assert!(!matches("linux/amd64", "linux/amd64/v3"));
        assert!(!matches("linux/amd64", "windows/amd64"));
    }

    #[test]
    fn from_str_rejects_invalid_platforms() {
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/v7/x",
            "linux/a b",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
