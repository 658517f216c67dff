//! Media types of image content and of HTTP bodies.

/// Index of the OCI image specification.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Manifest of the OCI image specification.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Image configuration of the OCI image specification.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Start of the media types of all OCI layers.
pub const OCI_LAYER_PREFIX: &str = "application/vnd.oci.image.layer.";

/// Uncompressed OCI layer.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// OCI layer compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// OCI layer compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Start of the media types of OCI layers that registries may not distribute (deprecated in
/// version 1.1 of the image specification).
pub const OCI_NONDISTRIBUTABLE_PREFIX: &str = "application/vnd.oci.image.layer.nondistributable.";

/// OCI layer that registries may not distribute, compressed with gzip.
pub const OCI_NONDISTRIBUTABLE_GZIP: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// Docker's manifest list, the counterpart of [`OCI_INDEX`].
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Docker's manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Start of the media types of all Docker layers.
pub const DOCKER_LAYER_PREFIX: &str = "application/vnd.docker.image.rootfs.";

/// Uncompressed Docker layer.
pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Docker layer compressed with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Docker layer compressed with zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// Start of the media types of Docker layers that registries may not distribute.
pub const DOCKER_FOREIGN_PREFIX: &str = "application/vnd.docker.image.rootfs.foreign.diff.";

/// Docker layer that registries may not distribute, compressed with gzip.
pub const DOCKER_FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Docker's manifest, version 2, schema 1. Recognised to be rejected.
pub const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// Signed form of [`DOCKER_SCHEMA_1`].
pub const DOCKER_SCHEMA_1_SIGNED: &str =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// Start of the media types of BuildKit's cache configurations.
pub const BUILDKIT_CACHE_PREFIX: &str = "application/vnd.buildkit.cacheconfig.";

/// JSON document.
pub const JSON: &str = "application/json";

/// Bytes of any kind, such as a part of a blob.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Fields of an HTML form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Media types of every manifest that a client must accept, on HEAD and GET alike.
///
/// A registry that does not find a manifest's own type in the list converts the manifest, which
/// changes its digest. Schema 1 is in the list only so that it can be recognised.
pub const ACCEPTED_MANIFESTS: [&str; 6] = [
    OCI_INDEX,
    OCI_MANIFEST,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA_1_SIGNED,
    DOCKER_SCHEMA_1,
];
