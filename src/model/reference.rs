//! Names of places and images: hosts, repositories, tags, references.
//!
//! The grammar is that of the OCI distribution specification; short names are completed as Docker
//! completes them.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use chrono::NaiveDate;
use thiserror::Error;

use super::digest::Digest;
use super::text::excerpt;

/// The host that names without one belong to.
pub const DOCKER_HUB: &str = "docker.io";

/// The prefix of an OCI image layout directory used as a repository.
pub const LAYOUT_PREFIX: &str = "ocidir://";

const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// Why a text is not a name of the kind that was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{}` is not {expected}: {reason}", excerpt(.text, 300))]
pub struct InvalidName {
    pub text: String,
    pub expected: &'static str,
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

/// A registry's host as references name it: `docker.io`, `registry:5000`, `[::1]:5000`. Lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// Returns the host with its port, if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name without a port and without the brackets of an IPv6 address.
    pub fn name(&self) -> &str {
        if let Some(rest) = self.0.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.0.split(':').next().unwrap_or(&self.0)
    }

    /// Returns whether this is Docker Hub, whose API and credentials have names of their own.
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
                "leave out the scheme; name hosts that speak plain HTTP in `registry.insecure_registries`",
            ));
        }
        let host = text.to_ascii_lowercase();
        let (name, port) = if let Some(rest) = host.strip_prefix('[') {
            let (address, after) = rest
                .split_once(']')
                .ok_or_else(|| invalid("`[` without `]`"))?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(invalid(
                    "what stands between `[` and `]` is no IPv6 address",
                ));
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return Err(invalid("after `]` only a port may follow")),
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
                    "a host consists of letters, digits, `-` and `.`, and may end in `:` and a port",
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

/// The path of a repository on its host: `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPath(String);

impl RepositoryPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryPath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<RepositoryPath, InvalidName> {
        let invalid = |reason: String| InvalidName::new(text, "a repository path", reason);
        if text.len() > LONGEST_NAME {
            return Err(invalid(format!(
                "it is longer than {LONGEST_NAME} characters"
            )));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("repository names are lower case".to_owned()));
        }
        match text.split('/').find(|part| !is_path_component(part)) {
            None => Ok(RepositoryPath(text.to_owned())),
            Some("") => Err(invalid("a part between two slashes is empty".to_owned())),
            Some(part) => Err(invalid(format!(
                "`{}` may only have lower-case letters and digits, parted by `.`, `_`, `__` or dashes",
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

/// Returns whether `part` is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
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

/// Where images of one name live: a repository of a registry, or an OCI image layout directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repository {
    Remote { host: Host, path: RepositoryPath },
    Layout { directory: PathBuf },
}

impl Repository {
    /// Returns the registry host, or `None` for a directory.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Repository::Remote { host, .. } => Some(host),
            Repository::Layout { .. } => None,
        }
    }

    /// Returns the repository with a relative directory resolved below `base`, and `.` and `..`
    /// taken out of it, so that two spellings of one directory compare equal. Names on registries
    /// are returned as they are.
    pub fn resolved_below(&self, base: &Path) -> Repository {
        match self {
            Repository::Remote { .. } => self.clone(),
            Repository::Layout { directory } => Repository::Layout {
                directory: normalized(&base.join(directory)),
            },
        }
    }

    /// Returns whether blobs of one can become part of the other without being sent: within a host,
    /// and among directories.
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

/// Returns `path` without `.` and `..`, as far as that can be told without looking.
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
            return Err(invalid("leave out the scheme; only `ocidir://` is known"));
        }
        if text.starts_with("ocidir:") || text.starts_with(['/', '.', '~']) {
            return Err(invalid("a directory is named with `ocidir://` before it"));
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
            return Err(invalid("a repository is named without a digest"));
        }
        if path.contains(':') {
            return Err(invalid("a repository is named without a tag"));
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

/// A tag, checked against the grammar of the distribution specification, so it can stand in a URL
/// or a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tag that is meant where none is named.
    pub fn latest() -> Tag {
        Tag("latest".to_owned())
    }

    /// Returns the tag under which clients keep the list of what refers to `subject`, on a registry
    /// that keeps none (distribution specification, "Referrers Tag Schema").
    pub fn of_referrers(subject: &Digest) -> Tag {
        Tag(format!(
            "{}-{}",
            subject.algorithm().name(),
            &subject.hex()[..64]
        ))
    }

    /// Returns the tags under which cosign keeps signatures, attestations and SBOMs of `subject`.
    pub fn of_cosign(subject: &Digest) -> [Tag; 3] {
        let base = Tag::of_referrers(subject);
        ["sig", "att", "sbom"].map(|kind| Tag(format!("{base}.{kind}")))
    }

    /// Returns the tag that an image had, and the day on which `sync` gave it this one instead:
    /// `<tag>-replaced.<YYYYMMDD>`, with a number behind it where that was not the first of the
    /// day. `None` for tags of another shape.
    pub fn replaced(&self) -> Option<(Tag, NaiveDate)> {
        let (tag, rest) = self.0.rsplit_once("-replaced.")?;
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (day, number) = rest.split_once('.').unwrap_or((rest, "1"));
        let day = NaiveDate::parse_from_str(day, "%Y%m%d")
            .ok()
            .filter(|_| day.len() == 8 && is_number(day) && is_number(number))?;
        Some((tag.parse().ok()?, day))
    }

    /// Returns whether the tag holds attachments of an image by the conventions for registries
    /// without the referrers API: the fallback tag `sha256-<hex>`, and cosign's `sha256-<hex>.sig`,
    /// `.att`, `.sbom`.
    pub fn is_attachment(&self) -> bool {
        let Some((algorithm, rest)) = self.0.split_once('-') else {
            return false;
        };
        let hex = rest.split('.').next().unwrap_or(rest);
        matches!(algorithm, "sha256" | "sha512")
            && hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
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
        if text.len() > LONGEST_TAG {
            return Err(invalid(format!(
                "it is longer than {LONGEST_TAG} characters"
            )));
        }
        if !text.bytes().next().is_some_and(is_word)
            || !text
                .bytes()
                .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
        {
            return Err(invalid("tags consist of letters, digits, `_`, `.` and `-`, and start with none of the last two".to_owned()));
        }
        Ok(Tag(text.to_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What names a manifest within its repository: a tag or a digest (`<reference>` in the
/// distribution specification).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    /// Returns the text that stands in a registry's URL.
    pub fn as_str(&self) -> &str {
        match self {
            Reference::Tag(tag) => tag.as_str(),
            Reference::Digest(digest) => digest.as_str(),
        }
    }

    /// Returns `:tag` or `@digest`, as it is appended to a repository.
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

/// An image as people write it: `registry:5000/team/app:1.2@sha256:…`, `alpine`,
/// `ocidir://mirrors/alpine:3.21`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    pub repository: Repository,
    pub tag: Option<Tag>,
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// Returns the image that `tag` names in `repository`.
    pub fn tagged(repository: Repository, tag: Tag) -> ImageReference {
        ImageReference {
            repository,
            tag: Some(tag),
            digest: None,
        }
    }

    /// Returns the same image, its repository as [`Repository::resolved_below`] has it.
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
        // A colon after the last slash starts a tag; one before it is a port or belongs to a
        // directory.
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
    fn short_names_are_completed_as_docker_does() {
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
        assert!(repository("quay.io/a:1").contains("without a tag"));
        for directory in [
            "ocidir:mirrors",
            "./mirrors",
            "../mirrors",
            "/srv/mirrors",
            "~/mirrors",
        ] {
            assert!(
                repository(directory).contains("named with `ocidir://` before it"),
                "{directory}"
            );
        }
        assert!(repository("quay.io/A").contains("lower case"));
        assert!(repository("quay.io/a//b").contains("empty"));
        assert!(repository("quay.io/../etc").contains("may only have"));
        assert!(repository("quay.io:99999/a").contains("port"));
        assert!(repository("ocidir://").contains("directory"));
        assert!(repository("").contains("empty"));
    }

    #[test]
    fn a_host_without_its_port_is_known() {
        let host: Host = "[::1]:5000".parse().expect("a host");
        assert_eq!(host.name(), "::1");
        let host: Host = "registry:5000".parse().expect("a host");
        assert_eq!(host.name(), "registry");
    }

    #[test]
    fn tags_that_could_leave_a_directory_or_run_in_a_shell_are_refused() {
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
    fn attachment_tags_are_told_from_versions() {
        let hex = "a".repeat(64);
        for (text, attachment) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
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
    fn tags_of_replaced_images_are_told_from_others() {
        let replaced = |text: &str| {
            text.parse::<Tag>()
                .expect("a tag")
                .replaced()
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
    fn image_references_have_tag_digest_or_both() {
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
    fn spellings_of_one_directory_compare_equal() {
        let base = Path::new("/base");
        let one: Repository = "ocidir://a/../b/./c".parse().expect("a layout");
        let other: Repository = "ocidir:///base/b/c".parse().expect("a layout");
        assert_eq!(one.resolved_below(base), other.resolved_below(base));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_is_accepted_survives_a_round_trip(text in "\\PC{0,60}") {
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
