//! Keywords: the words that represent the values of enums in the file, the schema and `show`.

use super::selection::{CountBy, SortBy, SyncGroup};
use super::settings::{
    CheckDigest, EngineChoice, EolProvider, EolTarget, GraceMode, ImageType, MissingPlatforms,
    OnBaseChange, PlatformMode, ProvenanceMode, RetentionGroup, RetentionMatch,
};
use crate::model::eol::Phase;

/// An enum whose values are written as keywords in the file.
pub(super) trait Keyword: Copy + PartialEq + 'static {
    /// The keywords, in the order of `VALUES`.
    const KEYWORDS: &'static [&'static str];
    /// The value of each keyword.
    const VALUES: &'static [Self];

    /// Returns the value of a keyword, or `None` if there is no such keyword.
    fn from_keyword(word: &str) -> Option<Self> {
        Self::KEYWORDS
            .iter()
            .position(|keyword| *keyword == word)
            .and_then(|at| Self::VALUES.get(at))
            .copied()
    }

    /// Returns the keyword of the value.
    fn keyword(self) -> &'static str {
        Self::VALUES
            .iter()
            .position(|value| *value == self)
            .and_then(|at| Self::KEYWORDS.get(at))
            .copied()
            .unwrap_or_default()
    }
}

/// Kind of a package registry (`registry.provider`). [`super::RegistryProvider`] has its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProviderKind {
    Gitlab,
    Gitea,
    S3,
    File,
}

impl Keyword for ProviderKind {
    const KEYWORDS: &'static [&'static str] = &["gitlab", "gitea", "s3", "file"];
    const VALUES: &'static [ProviderKind] = &[
        ProviderKind::Gitlab,
        ProviderKind::Gitea,
        ProviderKind::S3,
        ProviderKind::File,
    ];
}

impl Keyword for bool {
    const KEYWORDS: &'static [&'static str] = &["true", "false"];
    const VALUES: &'static [bool] = &[true, false];
}

impl Keyword for SortBy {
    const KEYWORDS: &'static [&'static str] = &["version", "date"];
    const VALUES: &'static [SortBy] = &[SortBy::Version, SortBy::Date];
}

impl Keyword for SyncGroup {
    const KEYWORDS: &'static [&'static str] = &["variant", "minor", "major"];
    const VALUES: &'static [SyncGroup] = &[SyncGroup::Variant, SyncGroup::Minor, SyncGroup::Major];
}

impl Keyword for CountBy {
    const KEYWORDS: &'static [&'static str] = &["tags", "versions"];
    const VALUES: &'static [CountBy] = &[CountBy::Tags, CountBy::Versions];
}

impl Keyword for CheckDigest {
    const KEYWORDS: &'static [&'static str] = &["auto", "true", "false"];
    const VALUES: &'static [CheckDigest] =
        &[CheckDigest::Auto, CheckDigest::Always, CheckDigest::Never];
}

impl Keyword for MissingPlatforms {
    const KEYWORDS: &'static [&'static str] = &["warn", "skip", "fail"];
    const VALUES: &'static [MissingPlatforms] = &[
        MissingPlatforms::Warn,
        MissingPlatforms::Skip,
        MissingPlatforms::Fail,
    ];
}

impl Keyword for PlatformMode {
    const KEYWORDS: &'static [&'static str] = &["rewrite", "sparse"];
    const VALUES: &'static [PlatformMode] = &[PlatformMode::Rewrite, PlatformMode::Sparse];
}

impl Keyword for EngineChoice {
    const KEYWORDS: &'static [&'static str] =
        &["auto", "buildx", "docker", "buildah", "podman", "native"];
    const VALUES: &'static [EngineChoice] = &[
        EngineChoice::Auto,
        EngineChoice::Buildx,
        EngineChoice::Docker,
        EngineChoice::Buildah,
        EngineChoice::Podman,
        EngineChoice::Native,
    ];
}

impl Keyword for OnBaseChange {
    const KEYWORDS: &'static [&'static str] = &["skip", "rebuild", "fail"];
    const VALUES: &'static [OnBaseChange] = &[
        OnBaseChange::Skip,
        OnBaseChange::Rebuild,
        OnBaseChange::Fail,
    ];
}

impl Keyword for ProvenanceMode {
    const KEYWORDS: &'static [&'static str] = &["false", "min", "max"];
    const VALUES: &'static [ProvenanceMode] = &[
        ProvenanceMode::Off,
        ProvenanceMode::Min,
        ProvenanceMode::Max,
    ];
}

impl Keyword for ImageType {
    const KEYWORDS: &'static [&'static str] = &["core", "spe", "spe-dev"];
    const VALUES: &'static [ImageType] = &[
        ImageType::Core,
        ImageType::Special,
        ImageType::SpecialDevelopment,
    ];
}

impl Keyword for GraceMode {
    const KEYWORDS: &'static [&'static str] = &["wait", "retire"];
    const VALUES: &'static [GraceMode] = &[GraceMode::Wait, GraceMode::Retire];
}

impl Keyword for RetentionGroup {
    const KEYWORDS: &'static [&'static str] = &["repository", "minor", "variant"];
    const VALUES: &'static [RetentionGroup] = &[
        RetentionGroup::Repository,
        RetentionGroup::Minor,
        RetentionGroup::Variant,
    ];
}

impl Keyword for RetentionMatch {
    const KEYWORDS: &'static [&'static str] = &["all", "any"];
    const VALUES: &'static [RetentionMatch] = &[RetentionMatch::All, RetentionMatch::Any];
}

impl Keyword for EolProvider {
    const KEYWORDS: &'static [&'static str] = &["endoflife", "local"];
    const VALUES: &'static [EolProvider] = &[EolProvider::Endoflife, EolProvider::Local];
}

impl Keyword for EolTarget {
    const KEYWORDS: &'static [&'static str] = &["git", "pkgregistry"];
    const VALUES: &'static [EolTarget] = &[EolTarget::Git, EolTarget::PackageRegistry];
}

impl Keyword for Phase {
    const KEYWORDS: &'static [&'static str] = &["eoas", "eol", "eoes"];
    const VALUES: &'static [Phase] = &[
        Phase::ActiveSupport,
        Phase::EndOfLife,
        Phase::ExtendedSupport,
    ];
}
