//! The client with real registries: the contract of image stores, and images of every kind, with
//! each way to authenticate.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{TimeZone as _, Utc};
use futures_util::future::join_all;
use imglife::credentials::{Credential, CredentialError, Credentials};
use imglife::http::{Client, HostRules, Settings, Tls};
use imglife::model::{Clock, Host, RepositoryPath, Secret};
use imglife::registry::remote::RemoteRegistries;
use imglife::registry::{Deletion, DeletionSupport, ImageStore as _, Support};

use crate::contract::{DeletionEffect, TestedStore, holds_for};
use crate::support::images::copied_kinds;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::servers::Server;
use crate::support::tokens::TokenRules;

/// The login of alice, for every host that asks.
pub(crate) struct Alice;

#[async_trait]
impl Credentials for Alice {
    async fn credential(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(Credential::Basic {
            username: USER.to_owned(),
            password: Secret::new(PASSWORD),
        })
    }

    async fn source(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(Some("the test".to_owned()))
    }
}

pub(crate) fn client(registry: &Registry) -> RemoteRegistries {
    let host: Host = registry.host().parse().expect("a host");
    let settings = Settings {
        retry_delay: Duration::from_millis(10),
        ..Settings::default()
    };
    let settings = if registry.url().starts_with("https:") {
        let rules = HostRules {
            tls: Tls {
                ca_file: Some(registry.ca_file()),
                ..Tls::default()
            },
            ..HostRules::default()
        };
        Settings {
            hosts: BTreeMap::from([(host, rules)]),
            ..settings
        }
    } else {
        Settings {
            insecure: BTreeSet::from([host]),
            ..settings
        }
    };
    let clock = Clock::fixed(
        Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0)
            .single()
            .expect("a time"),
    );
    RemoteRegistries::new(Arc::new(Client::new(settings, Arc::new(Alice), clock)))
}

/// Checks that the registry keeps the contract and does not change images.
async fn serves_everything(registry: Registry) {
    let store = client(&registry);
    let repository = |name: &str| registry.repository(name);
    let DeletionSupport { tags, manifests } = registry.deletes();
    let name = registry.server().name();
    writeln!(
        std::io::stderr(),
        "{name}: deletion of tags {tags:?}, of manifests {manifests:?}"
    )
    .expect("standard error");
    let tested = TestedStore::new(&store, &repository);
    holds_for(&match registry.server() {
        // Both store manifests under SHA-256 only. The older one responds with 500 if a blob is
        // requested as a manifest.
        Server::DockerRegistry => TestedStore {
            sha512: false,
            separates_blobs: false,
            deletes: registry.deletes(),
            ..tested
        },
        Server::Distribution => TestedStore {
            sha512: false,
            deletes: registry.deletes(),
            ..tested
        },
        // Every name is a repository for it.
        Server::Olareg => TestedStore {
            reports_missing_repositories: false,
            lists_repositories: false,
            ..tested
        },
        // It supports SHA-256 only, has no mounts, rejects ranges without an end, does not check
        // manifests, and keeps the tags of deleted ones.
        Server::Crane => TestedStore {
            sha512: false,
            mounts: false,
            ranges: false,
            checks_manifests: false,
            deletion_effect: DeletionEffect::Digest,
            ..tested
        },
    })
    .await;
    for graph in copied_kinds() {
        // It requires foreign layers as well.
        if registry.server() == Server::Olareg
            && graph.tags[0].0.as_str() == "foreign-layer-elsewhere"
        {
            continue;
        }
        let repository = registry.repository("images/of/every-kind");
        graph.publish(&store, &repository).await;
        graph.assert_published(&store, &repository).await;
    }
}

#[tokio::test]
async fn every_registry_that_this_machine_has_takes_everything() {
    let servers = Server::found("the contract of image stores");
    join_all(
        servers
            .into_iter()
            .map(|server| serves_everything(Registry::of(server))),
    )
    .await;
}

#[tokio::test]
async fn registries_that_were_told_not_to_delete_keep_the_contract() {
    let servers = Server::found("the contract of image stores, without deletions")
        .into_iter()
        .filter(|server| server.is_distribution());
    join_all(servers.map(|server| {
        serves_everything(Registry::builder().server(server).without_deletes().start())
    }))
    .await;
}

#[tokio::test]
async fn what_a_registry_does_not_delete_is_learnt_once() {
    let registry = Registry::builder().without_deletes().start();
    let (store, repository) = (client(&registry), registry.repository("team/app"));
    let graph = &copied_kinds()[0];
    graph.publish(&store, &repository).await;
    let (tag, image) = &graph.tags[0];
    let mark = registry.mark();
    for _ in 0..10 {
        assert_eq!(
            store.delete_tag(&repository, tag).await.expect("an answer"),
            Deletion::Unsupported
        );
        assert_eq!(
            store
                .delete_manifest(&repository, &image.digest)
                .await
                .expect("an answer"),
            Deletion::Unsupported
        );
        let expected = DeletionSupport {
            tags: Support::Unsupported,
            manifests: Support::Unsupported,
        };
        assert_eq!(
            store.deletions(&repository).await.expect("an answer"),
            expected
        );
    }
    // Three methods to delete a tag, one to delete a manifest, and one request for the challenge of
    // a host that answered 404 although there is a credential.
    let requests = registry.requests_since(mark);
    assert_eq!(requests.len(), 5, "{requests:?}");
    graph.assert_published(&store, &repository).await;
}

#[tokio::test]
async fn a_registry_with_tls_takes_everything() {
    serves_everything(Registry::builder().tls().start()).await;
}

#[tokio::test]
async fn a_registry_with_passwords_takes_everything() {
    serves_everything(Registry::builder().htpasswd().tls().start()).await;
}

#[tokio::test]
async fn a_registry_with_tokens_takes_everything() {
    serves_everything(Registry::builder().tokens(TokenRules::default()).start()).await;
}

#[tokio::test]
async fn a_registry_with_oauth2_takes_everything() {
    serves_everything(
        Registry::builder()
            .tokens(TokenRules {
                oauth2: true,
                ..TokenRules::default()
            })
            .start(),
    )
    .await;
}
