//! The platforms of an image that are copied.

use crate::model::Platform;

/// Platforms of an image that are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformFilter {
    /// Every entry of the index, without changing its bytes.
    All,
    Only {
        platforms: Vec<Platform>,
        mode: PlatformFilterMode,
        /// If true, an image that lacks one of the platforms is an error.
        requires_all: bool,
    },
}

/// Treatment of an index of which only some entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformFilterMode {
    /// Write a new index with the kept entries. The same entries always give the same bytes.
    Rewrite,
    /// Keep the index unchanged and leave its other children out.
    Sparse,
}

impl PlatformFilter {
    /// Returns true if an index at the target proves that the children that this filter wants are
    /// there too.
    pub(super) fn trusts_an_index(&self) -> bool {
        !matches!(
            self,
            PlatformFilter::Only {
                mode: PlatformFilterMode::Sparse,
                ..
            }
        )
    }
}
