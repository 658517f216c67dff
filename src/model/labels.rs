//! Keys of image labels and annotations.
//!
//! Labels live in an image's configuration, annotations in manifests and descriptors. Most keys
//! are used as both. The keys are part of published images and never change.

/// When the image was built, in RFC 3339 (OCI image specification, "Annotations").
pub const CREATED: &str = "org.opencontainers.image.created";

/// Commit that the image was built from (OCI image specification, "Annotations").
pub const REVISION: &str = "org.opencontainers.image.revision";

/// URL of the repository that the image was built from (OCI image specification, "Annotations").
pub const SOURCE: &str = "org.opencontainers.image.source";

/// Name of the image for people (OCI image specification, "Annotations").
pub const TITLE: &str = "org.opencontainers.image.title";

/// Version of the image; for base images the tag (OCI image specification, "Annotations").
pub const VERSION: &str = "org.opencontainers.image.version";

/// Reference of the base image (OCI image specification, "Annotations").
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// Digest of the base image (OCI image specification, "Annotations").
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Tag of a manifest in the `index.json` of an OCI layout (OCI image specification, "Annotations").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Reference of the base image in images built by older pipelines.
pub const BASE_IMAGE_REF: &str = "BASE_IMAGE_REF";

/// Digest of everything that a base image was built from. `build` compares it to find out if the
/// image is up to date.
pub const INPUTS: &str = "imglife.inputs";

/// Reference that a base image was published under. Images that inherit the label name their base
/// by it.
pub const OWN_REFERENCE: &str = "imglife.ref";

/// Tier of the image: always [`TIER_BASE`] in images that `build` makes.
pub const TIER: &str = "imglife.tier";

/// Value of [`TIER`] in base images.
pub const TIER_BASE: &str = "base";

/// Platforms that the image was built for, separated by spaces.
pub const PLATFORMS: &str = "imglife.platforms";

/// End-of-life date of the product in the image, as `YYYY-MM-DD`.
pub const EOL: &str = "imglife.eol";

/// Digest of the image that an attestation manifest of an index describes. Written by BuildKit
/// (`docs/attestations/attestation-storage.md` in its repository).
pub const ATTESTATION_SUBJECT: &str = "vnd.docker.reference.digest";

/// Signature over a layer's content, in the manifests that cosign stores under
/// `sha256-<digest>.sig`.
pub const COSIGN_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
