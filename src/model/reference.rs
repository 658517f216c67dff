//! Names of images: hosts, repositories, tags and references.
//!
//! The grammar is that of the OCI distribution specification. Short names are completed as Docker
//! does: `alpine` is `docker.io/library/alpine`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use chrono::NaiveDate;
use thiserror::Error;

use super::digest::Digest;
use super::text::excerpt;

/// Host of names that do not include a host.
pub const DOCKER_HUB: &str = "docker.io";

/// Prefix of a repository that is an OCI image layout directory.
pub const LAYOUT_PREFIX: &str = "ocidir://";

/// Maximum length of a repository path, in bytes.
const MAX_PATH_LENGTH: usize = 255;

/// Maximum length of a tag, in bytes (distribution specification, "Pulling manifests").
const MAX_TAG_LENGTH: usize = 128;

/// Error for text that is not a name of the expected kind.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{}` is not {expected}: {reason}", excerpt(.text, 300))]
pub struct InvalidName {
    /// The rejected text.
    pub text: String,
    /// Expected kind of name, with an article: `a tag`.
    pub expected: &'static str,
    /// The rule that the text breaks.
    pub reason: String,
}

impl InvalidName {
    fn new(text: &str, expected: &'static str, reason: impl Into<String>) -> InvalidName {
        InvalidName {
            text: text.to_owned(),
            expected,
            reason: reason.into(),
        }
    }
}

/// Host of a registry as it appears in references: `docker.io`, `registry:5000`, `[::1]:5000`.
///
/// Always lower case. Other host names of Docker Hub, such as `index.docker.io`, become
/// `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// Returns the host, including its port if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host name or address without the port and without the brackets of an IPv6
    /// address.
    pub fn name(&self) -> &str {
        if let Some(rest) = self.0.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.0.split(':').next().unwrap_or(&self.0)
    }

    /// Returns true for Docker Hub, which uses other host names for its API and its credentials.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }
}

impl FromStr for Host {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Host, InvalidName> {
        let invalid = |reason: &str| InvalidName::new(text, "a registry host", reason);
        if text.contains("://") {
            return Err(invalid(
                "remove the scheme; list hosts that use plain HTTP in `registry.insecure_registries`",
            ));
        }
        let host = text.to_ascii_lowercase();
        let (name, port) = if let Some(rest) = host.strip_prefix('[') {
            let (address, after) = rest
                .split_once(']')
                .ok_or_else(|| invalid("`]` is missing"))?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(invalid(
                    "the text between `[` and `]` is not an IPv6 address",
                ));
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return Err(invalid("only `:` and a port may follow `]`")),
            }
        } else {
            match host.split_once(':') {
                Some((name, port)) => (Some(name), Some(port)),
                None => (Some(host.as_str()), None),
            }
        };
        if let Some(name) = name {
            let label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            };
            if name.len() > 253 || !name.split('.').all(label) {
                return Err(invalid(
                    "a host consists of letters, digits, `-` and `.`, optionally followed by `:` and a port",
                ));
            }
        }
        if let Some(port) = port
            && !(port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0))
        {
            return Err(invalid("the port must be a number from 1 to 65535"));
        }
        let docker_hub = [
            "index.docker.io",
            "registry-1.docker.io",
            "registry.hub.docker.com",
        ];
        Ok(Host(if docker_hub.contains(&host.as_str()) {
            DOCKER_HUB.to_owned()
        } else {
            host
        }))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Path of a repository on its host: `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPath(String);

impl RepositoryPath {
    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryPath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<RepositoryPath, InvalidName> {
        let invalid = |reason: String| InvalidName::new(text, "a repository path", reason);
        if text.len() > MAX_PATH_LENGTH {
            return Err(invalid(format!(
                "it is longer than {MAX_PATH_LENGTH} characters"
            )));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("repository names must be lower case".to_owned()));
        }
        match text.split('/').find(|part| !is_path_component(part)) {
            None => Ok(RepositoryPath(text.to_owned())),
            Some("") => Err(invalid("a path component is empty".to_owned())),
            Some(part) => Err(invalid(format!(
                "`{}` may only contain lower-case letters and digits, separated by `.`, `_`, `__` or dashes",
                excerpt(part, 80)
            ))),
        }
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Returns true if `part` matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution specification,
/// "Pulling manifests").
fn is_path_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().copied().is_some_and(is_word) || !bytes.last().copied().is_some_and(is_word) {
        return false;
    }
    part.split(|character: char| character.is_ascii() && is_word(character as u8))
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

/// A repository: the images of one name in a registry, or in an OCI image layout directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repository {
    /// A repository in a registry.
    Remote { host: Host, path: RepositoryPath },
    /// An OCI image layout directory.
    Layout { directory: PathBuf },
}

impl Repository {
    /// Returns the host of the registry, or `None` for a directory.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Repository::Remote { host, .. } => Some(host),
            Repository::Layout { .. } => None,
        }
    }

    /// Returns the repository with its directory resolved against `base`.
    ///
    /// `.` and `..` are removed, so that two spellings of the same directory compare equal.
    /// Repositories in registries are returned unchanged.
    pub fn resolved_below(&self, base: &Path) -> Repository {
        match self {
            Repository::Remote { .. } => self.clone(),
            Repository::Layout { directory } => Repository::Layout {
                directory: normalized(&base.join(directory)),
            },
        }
    }

    /// Returns true if blobs can be shared between the repositories without uploading them: within
    /// one registry host, and between directories.
    pub fn shares_blobs_with(&self, other: &Repository) -> bool {
        match (self, other) {
            (Repository::Remote { host, .. }, Repository::Remote { host: other, .. }) => {
                host == other
            }
            (Repository::Layout { .. }, Repository::Layout { .. }) => true,
            _ => false,
        }
    }
}

/// Returns `path` with `.` and `..` removed, without accessing the file system.
///
/// `..` is kept where it has no parent to remove. Symbolic links are not followed.
pub fn normalized(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(clean.components().next_back(), Some(Component::Normal(_))) =>
            {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

impl FromStr for Repository {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Repository, InvalidName> {
        let invalid = |reason: &str| InvalidName::new(text, "a repository", reason);
        if let Some(directory) = text.strip_prefix(LAYOUT_PREFIX) {
            if directory.is_empty() || directory.contains('\0') {
                return Err(invalid("`ocidir://` must be followed by a directory"));
            }
            return Ok(Repository::Layout {
                directory: PathBuf::from(directory),
            });
        }
        if text.contains("://") {
            return Err(invalid("the only supported scheme is `ocidir://`"));
        }
        if text.starts_with("ocidir:") || text.starts_with(['/', '.', '~']) {
            return Err(invalid("write a directory as `ocidir://<path>`"));
        }
        let (first, rest) = text.split_once('/').unwrap_or(("", text));
        let names_host = first.contains(['.', ':', '[']) || first == "localhost";
        let (host, path): (Host, String) = if names_host {
            (first.parse()?, rest.to_owned())
        } else if text.is_empty() {
            return Err(invalid("it is empty"));
        } else {
            (Host(DOCKER_HUB.to_owned()), text.to_owned())
        };
        let path = if host.is_docker_hub() && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        if path.contains('@') {
            return Err(invalid("a repository must not include a digest"));
        }
        if path.contains(':') {
            return Err(invalid("a repository must not include a tag"));
        }
        Ok(Repository::Remote {
            host,
            path: path.parse()?,
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repository::Remote { host, path } => write!(formatter, "{host}/{path}"),
            Repository::Layout { directory } => {
                write!(
                    formatter,
                    "{LAYOUT_PREFIX}{}",
                    super::text::printable(&directory.to_string_lossy())
                )
            }
        }
    }
}

/// A tag. Always matches the grammar of the distribution specification, so that it is safe in URLs
/// and file names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if the tag has letters in upper case.
    pub fn has_upper_case(&self) -> bool {
        self.0.bytes().any(|byte| byte.is_ascii_uppercase())
    }

    /// Returns the tag in lower case, as Gitea stores it.
    #[must_use]
    pub fn lower_case(&self) -> Tag {
        Tag(self.0.to_ascii_lowercase())
    }

    /// Returns the tag in upper case, or `None` if it has no letters.
    pub fn upper_case(&self) -> Option<Tag> {
        self.0
            .bytes()
            .any(|byte| byte.is_ascii_alphabetic())
            .then(|| Tag(self.0.to_ascii_uppercase()))
    }

    /// Returns `latest`, the default for references without a tag.
    pub fn latest() -> Tag {
        Tag("latest".to_owned())
    }

    /// Returns the tag of the referrers list of `subject` in a registry without the referrers API
    /// (distribution specification, "Referrers Tag Schema").
    pub fn of_referrers(subject: &Digest) -> Tag {
        Tag(format!(
            "{}-{}",
            subject.algorithm().name(),
            &subject.hex()[..64]
        ))
    }

    /// Returns the tags that cosign uses for signatures, attestations and SBOMs of `subject`.
    pub fn of_cosign(subject: &Digest) -> [Tag; 3] {
        let base = Tag::of_referrers(subject);
        ["sig", "att", "sbom"].map(|kind| Tag(format!("{base}.{kind}")))
    }

    /// Parses the tag of a replaced image, which `sync` creates when it moves a tag to a new
    /// digest.
    ///
    /// Returns the original tag and the day of the replacement. The format is
    /// `<tag>-replaced.<YYYYMMDD>`, followed by `.<number>` for further replacements on the same
    /// day. `None` for all other tags.
    pub fn parse_replaced(&self) -> Option<(Tag, NaiveDate)> {
        self.parse_former("-replaced.")
    }

    fn parse_former(&self, word: &str) -> Option<(Tag, NaiveDate)> {
        let (tag, rest) = self.0.rsplit_once(word)?;
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (day, number) = rest.split_once('.').unwrap_or((rest, "1"));
        let day = NaiveDate::parse_from_str(day, "%Y%m%d")
            .ok()
            .filter(|_| day.len() == 8 && is_number(day) && is_number(number))?;
        Some((tag.parse().ok()?, day))
    }

    /// Returns true if the tag has the form in which `sync` and `cleanup` keep former images:
    /// `<tag>-replaced.<YYYYMMDD>`, `-archived` or `-retired`, with `.<number>` for further ones of
    /// the same day.
    pub fn is_former_image(&self) -> bool {
        ["-replaced.", "-archived.", "-retired."]
            .into_iter()
            .any(|word| self.parse_former(word).is_some())
    }

    /// Returns true if the tag has the form of an attachment in registries without the referrers
    /// API: the fallback tag `sha256-<hex>`, or cosign's `sha256-<hex>.sig`, `.att` and `.sbom`.
    ///
    /// Images can have tags of the first form too: imgpkg tags them with their own digest. Only the
    /// manifest shows whether such a tag is a list of referrers.
    pub fn is_attachment(&self) -> bool {
        self.named_subject().is_some()
    }

    /// Returns the tag that [`Tag::of_referrers`] returns for the image that this tag names as its
    /// subject, if the tag has the form of an attachment.
    pub fn named_subject(&self) -> Option<Tag> {
        let (digest, kind) = self.0.split_once('.').unwrap_or((&self.0, ""));
        let (algorithm, hex) = digest.split_once('-')?;
        let is_subject = matches!(kind, "" | "sig" | "att" | "sbom")
            && self.0.len() == digest.len() + kind.len() + usize::from(!kind.is_empty())
            && matches!(algorithm, "sha256" | "sha512")
            && hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        is_subject.then(|| Tag(digest.to_owned()))
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Tag, InvalidName> {
        let invalid = |reason: String| InvalidName::new(text, "a tag", reason);
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if text.is_empty() {
            return Err(invalid("it is empty".to_owned()));
        }
        if text.len() > MAX_TAG_LENGTH {
            return Err(invalid(format!(
                "it is longer than {MAX_TAG_LENGTH} characters"
            )));
        }
        if !text.bytes().next().is_some_and(is_word)
            || !text
                .bytes()
                .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
        {
            return Err(invalid("a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`".to_owned()));
        }
        Ok(Tag(text.to_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A tag or a digest, which identifies a manifest in a repository (`<reference>` in the
/// distribution specification).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    /// Returns the reference as it appears in a registry URL.
    pub fn as_str(&self) -> &str {
        match self {
            Reference::Tag(tag) => tag.as_str(),
            Reference::Digest(digest) => digest.as_str(),
        }
    }

    /// Returns `:tag` or `@digest`, the suffix to append to the repository.
    pub fn suffix(&self) -> String {
        match self {
            Reference::Tag(tag) => format!(":{tag}"),
            Reference::Digest(digest) => format!("@{digest}"),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Reference {
        Reference::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Reference {
        Reference::Digest(digest)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A reference to an image: a repository with an optional tag and an optional digest.
///
/// Examples: `alpine`, `registry:5000/team/app:1.2@sha256:…`, `ocidir://mirrors/alpine:3.21`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    pub repository: Repository,
    pub tag: Option<Tag>,
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// Returns the reference to `tag` in `repository`.
    pub fn tagged(repository: Repository, tag: Tag) -> ImageReference {
        ImageReference {
            repository,
            tag: Some(tag),
            digest: None,
        }
    }

    /// Returns the reference with its directory resolved against `base`; see
    /// [`Repository::resolved_below`].
    pub fn resolved_below(&self, base: &Path) -> ImageReference {
        ImageReference {
            repository: self.repository.resolved_below(base),
            ..self.clone()
        }
    }
}

impl FromStr for ImageReference {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<ImageReference, InvalidName> {
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if digest.starts_with("sha") => {
                let digest = digest.parse().map_err(|error| {
                    InvalidName::new(text, "an image reference", format!("{error}"))
                })?;
                (rest, Some(digest))
            }
            _ => (text, None),
        };
        // A colon after the last slash starts a tag. A colon before it starts a port or is part of
        // a directory name.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[name_start..].split_once(':') {
            Some((name, tag)) => (&rest[..name_start + name.len()], Some(tag.parse()?)),
            None => (rest, None),
        };
        Ok(ImageReference {
            repository: repository.parse()?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// Implements `Serialize` and `Deserialize` as a JSON string.
macro_rules! as_text_in_json {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text_in_json!(Host, RepositoryPath, Repository, Tag, ImageReference);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repository(text: &str) -> String {
        text.parse::<Repository>().map_or_else(
            |error| format!("error: {}", error.reason),
            |repository| repository.to_string(),
        )
    }

    #[test]
    fn repository_completes_short_names_as_docker_does() {
        assert_eq!(repository("alpine"), "docker.io/library/alpine");
        assert_eq!(repository("grafana/grafana"), "docker.io/grafana/grafana");
        assert_eq!(
            repository("index.docker.io/alpine"),
            "docker.io/library/alpine"
        );
        assert_eq!(repository("localhost/alpine"), "localhost/alpine");
        assert_eq!(repository("registry:5000/a/b"), "registry:5000/a/b");
        assert_eq!(
            repository("Quay.IO/prometheus/prometheus"),
            "quay.io/prometheus/prometheus"
        );
        assert_eq!(repository("[::1]:5000/a"), "[::1]:5000/a");
        assert_eq!(
            repository("ocidir://mirrors/alpine"),
            "ocidir://mirrors/alpine"
        );
    }

    #[test]
    fn malformed_names_say_what_is_wrong() {
        assert!(repository("https://quay.io/a").contains("scheme"));
        assert!(repository("quay.io/a:1").contains("must not include a tag"));
        for directory in [
            "ocidir:mirrors",
            "./mirrors",
            "../mirrors",
            "/srv/mirrors",
            "~/mirrors",
        ] {
            assert!(
                repository(directory).contains("write a directory as `ocidir://<path>`"),
                "{directory}"
            );
        }
        assert!(repository("quay.io/A").contains("lower case"));
        assert!(repository("quay.io/a//b").contains("empty"));
        assert!(repository("quay.io/../etc").contains("may only contain"));
        assert!(repository("quay.io:99999/a").contains("port"));
        assert!(repository("ocidir://").contains("directory"));
        assert!(repository("").contains("empty"));
    }

    #[test]
    fn host_name_excludes_port_and_brackets() {
        let host: Host = "[::1]:5000".parse().expect("a host");
        assert_eq!(host.name(), "::1");
        let host: Host = "registry:5000".parse().expect("a host");
        assert_eq!(host.name(), "registry");
    }

    #[test]
    fn tag_rejects_path_and_shell_characters() {
        for text in [
            "",
            ".",
            "..",
            "-x",
            "../x",
            "a/b",
            "$(id)",
            "a b",
            "a\n",
            &"a".repeat(129),
        ] {
            assert!(text.parse::<Tag>().is_err(), "{text:?}");
        }
        assert!("v1.2_3-alpine".parse::<Tag>().is_ok());
    }

    #[test]
    fn is_attachment_distinguishes_attachments_from_versions() {
        let hex = "a".repeat(64);
        for (text, attachment) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}.imgpkg"), false),
            (format!("sha256-{hex}.sig.old"), false),
            (format!("sha256-{hex}."), false),
            (format!("sha256-{}", "A".repeat(64)), false),
            ("sha256-abc".to_owned(), false),
            ("3.21".to_owned(), false),
        ] {
            assert_eq!(
                text.parse::<Tag>().expect("a tag").is_attachment(),
                attachment,
                "{text}"
            );
        }
    }

    #[test]
    fn former_images_have_a_day_in_their_tag() {
        for (text, is_former) in [
            ("3.0-replaced.20261121", true),
            ("3.0-archived.20261121", true),
            ("3.0-retired.20261121.2", true),
            ("3.0-retired", false),
            ("3.0-retired.2026112", false),
            ("3.0-archived.20261399", false),
            ("-retired.20261121", false),
        ] {
            let Ok(tag) = text.parse::<Tag>() else {
                assert!(!is_former, "{text}");
                continue;
            };
            assert_eq!(tag.is_former_image(), is_former, "{text}");
        }
    }

    #[test]
    fn parse_replaced_accepts_only_tags_of_replaced_images() {
        let replaced = |text: &str| {
            text.parse::<Tag>()
                .expect("a tag")
                .parse_replaced()
                .map(|(tag, day)| format!("{tag} {day}"))
        };
        assert_eq!(
            replaced("3.0-replaced.20261121").as_deref(),
            Some("3.0 2026-11-21")
        );
        assert_eq!(
            replaced("3.0-replaced.20261121.12").as_deref(),
            Some("3.0 2026-11-21")
        );
        for text in [
            "3.0",
            "3.0-replaced",
            "3.0-replaced.2026112",
            "3.0-replaced.20261321",
            "3.0-replaced.20261121.x",
            "3.0-replaced.20261121.",
        ] {
            assert_eq!(replaced(text), None, "{text}");
        }
    }

    #[test]
    fn image_reference_has_an_optional_tag_and_digest() {
        let digest = Digest::sha256(b"");
        for text in [
            "docker.io/library/alpine".to_owned(),
            "registry:5000/a:1.2".to_owned(),
            format!("registry:5000/a@{digest}"),
            format!("registry:5000/a:1.2@{digest}"),
            "ocidir:///tmp/a:3.21".to_owned(),
        ] {
            assert_eq!(
                text.parse::<ImageReference>()
                    .expect("a reference")
                    .to_string(),
                text
            );
        }
    }

    #[test]
    fn resolved_below_makes_spellings_of_a_directory_equal() {
        let base = Path::new("/base");
        let one: Repository = "ocidir://a/../b/./c".parse().expect("a layout");
        let other: Repository = "ocidir:///base/b/c".parse().expect("a layout");
        assert_eq!(one.resolved_below(base), other.resolved_below(base));
    }

    proptest! {
        #[test]
        fn parsed_references_survive_a_round_trip(text in "\\PC{0,60}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                let again = reference.to_string().parse::<ImageReference>();
                prop_assert_eq!(again, Ok(reference));
            }
        }

        #[test]
        fn ordinary_references_survive_a_round_trip(text in "[a-z0-9]{1,8}(\\.[a-z]{2,3})?(:[1-9][0-9]{1,3})?/[a-z0-9]{1,6}(/[a-z0-9]{1,6})?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,10})?") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>(), Ok(reference));
            }
        }
    }
}
