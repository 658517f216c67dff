//! Requests to a server that responds as a test wants.

mod blobs;
mod listings;
mod manifests;
mod mounts;
mod tag_case;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;

use super::registries::RemoteRegistries;
use crate::credentials::Credential;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::Settings;
use crate::http::testing::{Fake, ReceivedRequest, client, client_with, quick, shown};
use crate::model::{Descriptor, Digest, Host, Reference, Repository};
use crate::registry::InMemory;
use crate::registry::blob::{BlobContent, BlobPut, BlobStream};
use crate::registry::store::{ImageSource, ImageStore};

pub(super) fn repository(host: &Host, path: &str) -> Repository {
    format!("{host}/{path}").parse().expect("a repository")
}

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().expect("a tag"))
}

pub(super) fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new(
        "application/octet-stream",
        Digest::sha256(content),
        content.len() as u64,
    )
}

/// Returns registries for `fake`, and its repository `a`.
fn registry(fake: &Fake) -> (RemoteRegistries, Repository) {
    (
        RemoteRegistries::new(Arc::new(client([&fake.host()], Credential::Anonymous))),
        repository(&fake.host(), "a"),
    )
}

pub(super) fn registry_at(host: &Host) -> (RemoteRegistries, Repository) {
    let settings = Settings {
        stall: Duration::from_millis(500),
        ..quick()
    };
    (
        RemoteRegistries::new(Arc::new(client_with(
            settings,
            [host],
            Credential::Anonymous,
        ))),
        repository(host, "a"),
    )
}

fn not_found(code: &str) -> Response {
    (
        StatusCode::NOT_FOUND,
        format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#),
    )
        .into_response()
}

/// Checks the kind of an error and returns its text.
pub(super) fn shown_as(kind: ItemErrorKind, error: &ItemError) -> String {
    let text = shown(error);
    assert_eq!(error.kind, kind, "{text}");
    text
}

pub(super) async fn read(
    registry: &RemoteRegistries,
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Vec<u8>, ItemError> {
    let chunks: Vec<_> = registry
        .blob(repository, descriptor, offset)
        .await?
        .try_collect()
        .await?;
    Ok(chunks.concat())
}

/// Content of a blob in another repository.
pub(super) struct OtherRepository<'a> {
    pub(super) registry: &'a RemoteRegistries,
    pub(super) repository: Repository,
    pub(super) descriptor: Descriptor,
}

#[async_trait]
impl BlobContent for OtherRepository<'_> {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        self.registry
            .blob(&self.repository, &self.descriptor, from_offset)
            .await
    }
}

pub(super) const CONTENT: &[u8] = b"some content of a layer";

/// Responds like a registry: opens uploads at a relative URL with state in its query, and accepts
/// their content.
pub(super) fn plain_registry(seen: &ReceivedRequest) -> Response {
    match seen.method.as_str() {
        "POST" => (
            StatusCode::ACCEPTED,
            [("location", "/v2/a/blobs/uploads/1?_state=a%2Bb%3D&x")],
        )
            .into_response(),
        "PUT" => StatusCode::CREATED.into_response(),
        "DELETE" => StatusCode::NO_CONTENT.into_response(),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

pub(super) async fn put(
    fake: &Fake,
    content: &dyn BlobContent,
    descriptor: &Descriptor,
    mount_from: Option<&str>,
) -> Result<BlobPut, ItemError> {
    let (registry, target) = registry(fake);
    let from = mount_from.map(|path| repository(&fake.host(), path));
    registry
        .put_blob(&target, descriptor, content, from.as_ref())
        .await
}

pub(super) fn content() -> InMemory {
    InMemory(CONTENT.into())
}

pub(super) const CANCELLED: &str = "DELETE /v2/a/blobs/uploads/1?_state=a%2Bb%3D&x";

pub(super) fn put_line(descriptor: &Descriptor) -> String {
    format!(
        "PUT /v2/a/blobs/uploads/1?_state=a%2Bb%3D&x&digest=sha256%3A{}",
        descriptor.digest.hex()
    )
}

#[tokio::test]
async fn layouts_are_rejected() {
    let fake = Fake::start(plain_registry).await;
    let (registry, _) = registry(&fake);
    let directory: Repository = "ocidir://x".parse().expect("a repository");
    shown_as(
        ItemErrorKind::Unsupported,
        &registry.tags(&directory).await.expect_err("a directory"),
    );
}
