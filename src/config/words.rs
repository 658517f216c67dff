//! The words that stand for the values of enumerations: what the file may say, what editors offer,
//! what `show` writes.

use super::{
    CondemnedBy, EngineChoice, EolProvider, EolTarget, ImageType, OnBaseChange, Phase,
    PlatformMode, Provenance, SortBy,
};

/// A type whose values are words in the file.
pub(super) trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [&'static str];
    /// What the words mean, in their order.
    const VALUES: &'static [Self];

    fn of(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .position(|known| *known == word)
            .and_then(|at| Self::VALUES.get(at))
            .copied()
    }

    fn word(self) -> &'static str {
        Self::VALUES
            .iter()
            .position(|value| *value == self)
            .and_then(|at| Self::WORDS.get(at))
            .copied()
            .unwrap_or_default()
    }
}

/// Which place keeps records; what it needs is in [`super::Provider`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProviderName {
    Gitlab,
    Gitea,
    S3,
    File,
}

impl Words for ProviderName {
    const WORDS: &'static [&'static str] = &["gitlab", "gitea", "s3", "file"];
    const VALUES: &'static [ProviderName] = &[
        ProviderName::Gitlab,
        ProviderName::Gitea,
        ProviderName::S3,
        ProviderName::File,
    ];
}

impl Words for bool {
    const WORDS: &'static [&'static str] = &["true", "false"];
    const VALUES: &'static [bool] = &[true, false];
}

impl Words for SortBy {
    const WORDS: &'static [&'static str] = &["version", "date"];
    const VALUES: &'static [SortBy] = &[SortBy::Version, SortBy::Date];
}

impl Words for PlatformMode {
    const WORDS: &'static [&'static str] = &["rewrite", "sparse"];
    const VALUES: &'static [PlatformMode] = &[PlatformMode::Rewrite, PlatformMode::Sparse];
}

impl Words for EngineChoice {
    const WORDS: &'static [&'static str] =
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

impl Words for OnBaseChange {
    const WORDS: &'static [&'static str] = &["skip", "rebuild", "fail"];
    const VALUES: &'static [OnBaseChange] = &[
        OnBaseChange::Skip,
        OnBaseChange::Rebuild,
        OnBaseChange::Fail,
    ];
}

impl Words for Provenance {
    const WORDS: &'static [&'static str] = &["false", "min", "max"];
    const VALUES: &'static [Provenance] = &[Provenance::Off, Provenance::Min, Provenance::Max];
}

impl Words for ImageType {
    const WORDS: &'static [&'static str] = &["core", "spe", "spe-dev"];
    const VALUES: &'static [ImageType] = &[
        ImageType::Core,
        ImageType::Special,
        ImageType::SpecialDevelopment,
    ];
}

impl Words for CondemnedBy {
    const WORDS: &'static [&'static str] = &["all", "any"];
    const VALUES: &'static [CondemnedBy] = &[CondemnedBy::All, CondemnedBy::Any];
}

impl Words for EolProvider {
    const WORDS: &'static [&'static str] = &["endoflife", "local"];
    const VALUES: &'static [EolProvider] = &[EolProvider::Endoflife, EolProvider::Local];
}

impl Words for EolTarget {
    const WORDS: &'static [&'static str] = &["git", "pkgregistry"];
    const VALUES: &'static [EolTarget] = &[EolTarget::Git, EolTarget::PackageRegistry];
}

impl Words for Phase {
    const WORDS: &'static [&'static str] = &["eoas", "eol", "eoes"];
    const VALUES: &'static [Phase] = &[
        Phase::ActiveSupport,
        Phase::EndOfLife,
        Phase::ExtendedSupport,
    ];
}
