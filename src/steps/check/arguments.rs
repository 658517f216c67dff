//! Build arguments that record the base of an image.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::ImageReference;
use crate::model::labels;

/// Labels and annotations of a base (OCI image specification, "Pre-Defined Annotation Keys").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaseArguments {
    pub labels: BTreeMap<&'static str, String>,
    /// Annotations of manifests. BuildKit rejects annotations of an index if the build creates
    /// none.
    pub annotations: BTreeMap<&'static str, String>,
}

/// Returns the arguments for `base`, with its digest separate from its name.
pub fn base_arguments(base: &ImageReference) -> BaseArguments {
    let name = ImageReference {
        digest: if base.tag.is_some() {
            None
        } else {
            base.digest.clone()
        },
        ..base.clone()
    };
    let mut values = BTreeMap::from([(labels::BASE_NAME, name.to_string())]);
    values.extend(
        base.digest
            .as_ref()
            .map(|digest| (labels::BASE_DIGEST, digest.to_string())),
    );
    BaseArguments {
        labels: values.clone(),
        annotations: values,
    }
}

impl BaseArguments {
    /// Returns the flags for a build; `None` if a value has characters that a shell would
    /// interpret.
    ///
    /// The output is meant for `$(...)`, in which quotes have no effect.
    pub fn flags(&self) -> Option<String> {
        let is_plain = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'+' | b'=')
        };
        let flags = |flag: &'static str, values: &BTreeMap<&'static str, String>| {
            values
                .iter()
                .map(|(name, value)| format!("{flag} {name}={value}"))
                .collect::<Vec<_>>()
        };
        let fits = self
            .labels
            .values()
            .chain(self.annotations.values())
            .all(|value| value.bytes().all(is_plain));
        fits.then(|| {
            [
                flags("--label", &self.labels),
                flags("--annotation", &self.annotations),
            ]
            .concat()
            .join(" ")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_safe_in_a_shell_or_missing() {
        let of = |text: &str| base_arguments(&text.parse().expect("a reference"));
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            of("r.example/a:1").flags().as_deref(),
            Some(
                "--label org.opencontainers.image.base.name=r.example/a:1 --annotation org.opencontainers.image.base.name=r.example/a:1"
            )
        );
        let pinned = of(&format!("r.example/a:1@{digest}"));
        assert_eq!(
            pinned.labels["org.opencontainers.image.base.name"],
            "r.example/a:1"
        );
        assert_eq!(
            pinned.annotations["org.opencontainers.image.base.digest"],
            digest
        );
        assert_eq!(
            of(&format!("r.example/a@{digest}")).labels["org.opencontainers.image.base.name"],
            format!("r.example/a@{digest}")
        );
        assert_eq!(of("ocidir://my images/*/$(id):1").flags(), None);
    }
}
