//! Package URLs of images (the types `docker` and `oci` of the purl specification).

use crate::model::Repository;

/// Returns true if a package URL denotes the images of `repository`.
///
/// `pkg:docker/library/golang` is on Docker Hub unless `repository_url` names another registry. The
/// `repository_url` of `pkg:oci/app` is the repository with or without its last part; some package
/// URLs contain the address of a web page of Quay instead.
pub(super) fn is_of_images(purl: &str, repository: &Repository) -> bool {
    let Repository::Remote { host, path } = repository else {
        return false;
    };
    let own = format!("{host}/{path}");
    let is_own = |image: &String| {
        *image == own || image.replacen("quay.io/repository/", "quay.io/", 1) == own
    };
    images(purl).is_some_and(|images| images.iter().any(is_own))
}

/// Returns the full names of the repositories that a package URL may denote.
fn images(purl: &str) -> Option<Vec<String>> {
    let (rest, _subpath) = purl.split_once('#').unwrap_or((purl, ""));
    let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
    let (rest, _version) = rest.split_once('@').unwrap_or((rest, ""));
    let (kind, path) = rest
        .strip_prefix("pkg:")?
        .trim_start_matches('/')
        .split_once('/')?;
    let name = path.rsplit('/').next()?;
    let registry = url::form_urlencoded::parse(qualifiers.as_bytes())
        .find(|(key, _)| key == "repository_url")
        .map(|(_, value)| {
            let value = value
                .strip_prefix("https://")
                .or_else(|| value.strip_prefix("http://"))
                .unwrap_or(&value);
            value.trim_end_matches('/').to_owned()
        });
    let images = match (kind.to_ascii_lowercase().as_str(), registry) {
        ("docker", None) if path.contains('/') => vec![format!("docker.io/{path}")],
        ("docker", None) => vec![format!("docker.io/library/{path}")],
        ("docker", Some(registry)) => vec![format!("{registry}/{path}")],
        ("oci", Some(registry)) => vec![format!("{registry}/{name}"), registry],
        _ => return None,
    };
    Some(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_denote_repositories() {
        for (purl, repository, expected) in [
            ("pkg:docker/library/golang", "golang", true),
            ("pkg:docker/golang", "docker.io/library/golang", true),
            (
                "pkg:docker/bitnami/golang@1.22#x",
                "docker.io/bitnami/golang",
                true,
            ),
            (
                "pkg:docker/library/golang",
                "r.example/library/golang",
                false,
            ),
            (
                "pkg:docker/team/app?repository_url=r.example",
                "r.example/team/app",
                true,
            ),
            (
                "pkg:oci/prometheus?repository_url=quay.io/prometheus/prometheus",
                "quay.io/prometheus/prometheus",
                true,
            ),
            (
                "pkg:oci/prometheus?repository_url=quay.io%2Frepository%2Fprometheus",
                "quay.io/prometheus/prometheus",
                true,
            ),
            (
                "pkg:oci/x?arch=arm64&repository_url=https://ghcr.io/y/",
                "ghcr.io/y/x",
                true,
            ),
            ("pkg:oci/x?repository_url=ghcr.io/y", "ghcr.io/y/z", false),
            ("pkg:oci/x?repository_url=", "docker.io/library/x", false),
            ("pkg:oci/x", "docker.io/library/x", false),
            ("pkg:generic/golang", "golang", false),
            ("pkg:docker", "golang", false),
            ("", "golang", false),
            (
                "pkg:docker/library/alpine",
                "ocidir:///srv/library/alpine",
                false,
            ),
        ] {
            assert_eq!(
                is_of_images(purl, &repository.parse().expect("a repository")),
                expected,
                "{purl} for {repository}"
            );
        }
    }
}
