//! Verifying content while it streams.

use futures_util::StreamExt;

use super::{BlobStream, PlaceError, PlaceErrorKind};
use crate::model::{Descriptor, Hasher};

/// Returns `stream` such that it only ends well when it had the size and digest of `descriptor`. The last bytes are held back
/// until they are known to be right, so a receiver that counts bytes cannot take wrong content for whole.
///
/// The stream must begin at the start of the content; `place` is named in the error.
pub fn verified(stream: BlobStream, descriptor: &Descriptor, place: impl Into<String>) -> BlobStream {
    struct State {
        stream: BlobStream,
        hasher: Option<Hasher>,
        left: u64,
        descriptor: Descriptor,
        place: String,
    }
    let state = State {
        stream,
        hasher: Some(Hasher::new(descriptor.digest.algorithm())),
        left: descriptor.size,
        descriptor: descriptor.clone(),
        place: place.into(),
    };
    let corrupt = |state: &State, detail: String| {
        PlaceError::new(state.place.clone(), format!("read blob {}", state.descriptor.digest), PlaceErrorKind::Corrupt, detail)
    };
    Box::pin(futures_util::stream::try_unfold(state, move |mut state| async move {
        let Some(mut hasher) = state.hasher.take() else { return Ok(None) };
        loop {
            match state.stream.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    let length = chunk.len() as u64;
                    if length > state.left {
                        let detail = format!("it has more than the {} bytes that its descriptor says", state.descriptor.size);
                        return Err(corrupt(&state, detail));
                    }
                    hasher.update(&chunk);
                    state.left -= length;
                    if state.left > 0 {
                        state.hasher = Some(hasher);
                        return Ok(Some((chunk, state)));
                    }
                    let found = hasher.finish();
                    if found != state.descriptor.digest {
                        return Err(corrupt(&state, format!("its content has the digest {found}")));
                    }
                    return Ok(Some((chunk, state)));
                }
                Some(Err(error)) => return Err(error),
                None if state.left == 0 => {
                    let found = hasher.finish();
                    if found != state.descriptor.digest {
                        return Err(corrupt(&state, format!("its content has the digest {found}")));
                    }
                    return Ok(None);
                }
                None => {
                    let read = state.descriptor.size - state.left;
                    return Err(corrupt(&state, format!("it ended after {read} of {} bytes", state.descriptor.size)));
                }
            }
        }
    }))
}
