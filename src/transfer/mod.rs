//! Copying an image, with everything it refers to, from one store to another.
//!
//! Owns the order of writes (blobs, children, the image, its tag last), the rule that each digest
//! crosses the network once in a run, and the platform filter. It works on the traits of `registry`
//! and does not depend on concrete stores.
//!
//! Files, each of which imports only files above it:
//!
//! - `error`, `platform_filter`, `descriptors`: values
//! - `request`: requests to copy an image, and their results
//! - `state`, `digest_cache`, `prefetch`: facts that a run keeps
//! - `context`: the transfer and the copies that are in progress
//! - `platforms`: applying the platform filter
//! - `blob`: copying one blob
//! - `graph`: copying the parts of an image
//! - `attachments`: copying signatures and other attachments
//! - `copy`: copying an image and setting its tag
//! - `refresh`: attachments of images that are at the target already
//! - `completeness`: finding and repairing missing parts
//! - `readable`: copies whose content is read at the target

mod attachments;
mod blob;
mod completeness;
mod context;
mod copy;
mod descriptors;
mod digest_cache;
mod error;
mod graph;
mod platform_filter;
mod platforms;
mod prefetch;
mod readable;
mod refresh;
mod request;
mod state;
#[cfg(test)]
mod tests;

pub use completeness::CompletenessRequest;
pub use context::Transfer;
pub use digest_cache::{DigestCache, no_cache};
pub use error::absent;
pub use platform_filter::{PlatformFilter, PlatformFilterMode};
pub use refresh::{AttachmentCheck, AttachmentState, RefreshRequest};
pub use request::{
    Attachments, CopiedBytes, CopiedImage, CopyRequest, ExpectedTag, ReadableCopyRequest,
    UpcomingCopy,
};
