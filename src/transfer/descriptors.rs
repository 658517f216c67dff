//! Properties of descriptors that decide how their content is copied.

use crate::model::Descriptor;
use crate::model::media_type;

/// Returns true if an image is usable without this layer, because clients fetch it from its `urls`.
pub(super) fn may_be_left_out(layer: &Descriptor) -> bool {
    layer.is_foreign_layer() || !layer.urls.is_empty()
}

/// Returns true if an entry of an index can be a plain blob, as old build caches list them.
pub(super) fn may_be_blob(entry: &Descriptor) -> bool {
    !entry.media_type.is_empty()
        && !media_type::ACCEPTED_MANIFESTS.contains(&entry.media_type.as_str())
}

pub(super) fn is_index_type(text: &str) -> bool {
    matches!(text, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}
