//! Keys of the sections `registry` and `hosts`.

use super::spec::{SectionSpec, Shape, choice, key, whole};
use crate::config::keywords::ProviderKind;

pub(in crate::config) static REGISTRY: SectionSpec = SectionSpec {
    name: "registry",
    keys: &[
        key(
            "provider",
            choice::<ProviderKind>(),
            "Kind of the package registry.",
        )
        .default("gitlab"),
        key(
            "url",
            Shape::Url,
            "gitlab, gitea: URL of the instance. s3: URL of an S3-compatible endpoint other than AWS.",
        ),
        key(
            "api_url",
            Shape::Url,
            "gitlab, gitea: URL of the API, if it is not below `url`.",
        ),
        key(
            "project_id",
            whole(1, i64::MAX as u64),
            "gitlab: ID of the project that stores the packages.",
        ),
        key("owner", Shape::Text, "gitea: owner of the packages."),
        key(
            "repo",
            Shape::Text,
            "gitea: repository that files are read from.",
        ),
        key("bucket", Shape::Text, "s3: name of the bucket."),
        key("region", Shape::Text, "s3: region of the bucket.").default("us-east-1"),
        key(
            "path_style",
            Shape::Flag,
            "s3: if true, URLs have the bucket in their path, otherwise in the name of the host. The default is `true` with `url`, and `false` for AWS.",
        ),
        key(
            "prefix",
            Shape::Text,
            "Prefix of all package names, so that two installations can share a package registry. The default is `imglife`; s3 has no default prefix.",
        ),
        key(
            "path",
            Shape::Path,
            "file: directory that stores the packages.",
        )
        .default(".imglife/packages"),
        key(
            "insecure_registries",
            Shape::List(&Shape::Host),
            "Registry hosts to contact over plain HTTP.",
        )
        .default("[]"),
        key(
            "config_ref",
            Shape::Text,
            "gitlab, gitea: Git branch, tag or commit from which `check` reads files.",
        )
        .default("main"),
    ],
};

pub(in crate::config) static HOST: SectionSpec = SectionSpec {
    name: "hosts.<host>",
    keys: &[
        key(
            "endpoint",
            Shape::Url,
            "URL to send the requests for this host to, for example a pull-through cache. Image names do not change.",
        ),
        key(
            "ca_file",
            Shape::Path,
            "PEM file with certificates to trust in addition to those of the system: of authorities, or the self-signed one of the server.",
        ),
        key(
            "client_cert",
            Shape::Path,
            "PEM file with the client certificate. Requires `client_key`.",
        ),
        key(
            "client_key",
            Shape::Path,
            "PEM file with the key of the client certificate.",
        ),
        key(
            "insecure_skip_verify",
            Shape::Flag,
            "Do not verify the certificate of the host.",
        )
        .default("false"),
        key(
            "max_connections",
            whole(1, 1000),
            "Maximum number of open connections.",
        ),
        key(
            "requests_per_second",
            Shape::Rate,
            "Maximum number of requests started per second.",
        ),
    ],
};
