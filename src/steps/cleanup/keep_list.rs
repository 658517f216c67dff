//! Lists of images that are in use elsewhere (`retention.keep_from`): references, the output of
//! `kubectl get … -o json`, and compose files. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::ItemError;
use crate::model::text::excerpt;
use crate::model::{Digest, ImageReference, Tag};

/// Kinds of Kubernetes objects that always have containers.
const WORKLOADS: [&str; 9] = [
    "Pod",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "CronJob",
    "Job",
    "PodTemplate",
];

/// Images that one source names, or the reason why they are unknown.
#[derive(Clone, Debug)]
pub struct KeepList {
    /// Name of the source, for messages: a file, a URL or `standard input`.
    pub source: String,
    pub images: Result<BTreeSet<KeptName>, ItemError>,
}

/// Name of an image that is in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptName {
    /// A reference with a tag, a digest or both.
    Image(ImageReference),
    /// A digest in an unknown repository.
    Digest(Digest),
}

impl KeepList {
    /// Returns the images in the content of a source.
    pub fn parse(source: &str, content: &[u8]) -> KeepList {
        KeepList {
            source: source.to_owned(),
            images: images(content).map_err(ItemError::other),
        }
    }

    /// Returns a source that cannot be read.
    pub fn unreadable(source: &str, error: ItemError) -> KeepList {
        KeepList {
            source: source.to_owned(),
            images: Err(error),
        }
    }
}

/// Returns the images that `content` names; at least one. The error describes the problem.
fn images(content: &[u8]) -> Result<BTreeSet<KeptName>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let text = text.trim_start_matches('\u{feff}');
    let found = match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let documents = serde_json::Deserializer::from_str(text).into_iter();
            let documents: Result<Vec<ListedObject>, _> = documents.collect();
            of_documents(&documents.map_err(|error| format!("the JSON is malformed: {error}"))?)?
        }
        Some(b'[') => {
            let references: Vec<String> = serde_json::from_str(text)
                .map_err(|error| format!("the JSON is no list of references: {error}"))?;
            references
                .iter()
                .map(|text| name(text))
                .collect::<Result<_, _>>()?
        }
        _ => match of_lines(text) {
            Err(_) if text.lines().any(is_yaml) => {
                let options = serde_saphyr::options! { with_snippet: false };
                let documents: Vec<Option<ListedObject>> =
                    serde_saphyr::from_multiple_with_options(text, options)
                        .map_err(|error| format!("the YAML is malformed: {error}"))?;
                of_documents(&documents.into_iter().flatten().collect::<Vec<_>>())?
            }
            found => found?,
        },
    };
    if found.is_empty() {
        return Err("it names no image".to_owned());
    }
    Ok(found)
}

/// Returns true for lines that only YAML files have.
fn is_yaml(line: &str) -> bool {
    let line = line.trim_end();
    line == "---"
        || line.split_once(':').is_some_and(|(key, value)| match key {
            "services" => value.is_empty(),
            "apiVersion" | "kind" => value.starts_with(' '),
            _ => false,
        })
}

/// Returns the images in a list with one reference a line.
fn of_lines(text: &str) -> Result<BTreeSet<KeptName>, String> {
    let mut found = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
        if !line.is_empty() && !line.starts_with('#') {
            found.insert(name(line).map_err(|error| format!("line {number}: {error}"))?);
        }
    }
    Ok(found)
}

/// Parses the name of an image as people and container runtimes write it.
fn name(text: &str) -> Result<KeptName, String> {
    let invalid = || format!("`{}` is no image reference", excerpt(text, 120));
    let rest = ["docker-pullable://", "docker://"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    if rest.starts_with("sha256:") || rest.starts_with("sha512:") {
        return rest.parse().map(KeptName::Digest).map_err(|_| invalid());
    }
    let mut image: ImageReference = rest.parse().map_err(|_| invalid())?;
    if image.tag.is_none() && image.digest.is_none() {
        image.tag = Some(Tag::latest());
    }
    Ok(KeptName::Image(image))
}

/// A Kubernetes object, a list of them, or a compose file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedObject {
    kind: Option<String>,
    metadata: Option<ListMetadata>,
    items: Option<Vec<ListedObject>>,
    spec: Option<Spec>,
    template: Option<ObjectTemplate>,
    status: Option<ObjectStatus>,
    /// Services of a compose file.
    services: Option<BTreeMap<String, Service>>,
    include: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    r#continue: Option<String>,
    remaining_item_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    template: Option<ObjectTemplate>,
    job_template: Option<ObjectTemplate>,
}

#[derive(Deserialize)]
struct ObjectTemplate {
    spec: Option<Box<Spec>>,
}

#[derive(Deserialize)]
struct Container {
    image: Option<String>,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
}

#[derive(Deserialize)]
struct Volume {
    image: Option<VolumeImage>,
}

#[derive(Deserialize)]
struct VolumeImage {
    reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectStatus {
    container_statuses: Option<Vec<Container>>,
    init_container_statuses: Option<Vec<Container>>,
    ephemeral_container_statuses: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Service {
    image: Option<String>,
    build: Option<IgnoredAny>,
}

fn of_documents(documents: &[ListedObject]) -> Result<BTreeSet<KeptName>, String> {
    let mut found = BTreeSet::new();
    for document in documents {
        document.add_images(None, &mut found)?;
    }
    Ok(found)
}

impl ListedObject {
    /// Adds the images of the object and of all items. Items of a typed list have no kind of their
    /// own.
    fn add_images(
        &self,
        list_kind: Option<&str>,
        found: &mut BTreeSet<KeptName>,
    ) -> Result<(), String> {
        let kind = self.kind.as_deref().or(list_kind).unwrap_or_default();
        if self.include.is_some() {
            return Err(
                "the compose file includes others; use the output of `docker compose config`"
                    .to_owned(),
            );
        }
        for (name, service) in self.services.iter().flatten() {
            match &service.image {
                Some(image) => drop(found.insert(self::name(image)?)),
                None if service.build.is_some() => {}
                None => {
                    return Err(format!(
                        "service `{}` has no image; use the output of `docker compose config`",
                        excerpt(name, 80)
                    ));
                }
            }
        }
        if let Some(items) = &self.items {
            let is_partial = self.metadata.as_ref().is_some_and(|metadata| {
                metadata
                    .r#continue
                    .as_ref()
                    .is_some_and(|token| !token.is_empty())
                    || metadata.remaining_item_count.is_some_and(|count| count > 0)
            });
            if is_partial {
                return Err("the list is incomplete: it ends with a `continue` token".to_owned());
            }
            let of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
            for item in items {
                item.add_images(of_items, found)?;
            }
        } else if kind.ends_with("List") {
            return Err("the list has no `items`".to_owned());
        }
        let mut names = Vec::new();
        if let Some(spec) = &self.spec {
            spec.add_names(&mut names);
        }
        let template = self
            .template
            .iter()
            .filter_map(|template| template.spec.as_ref());
        template.for_each(|spec| spec.add_names(&mut names));
        if WORKLOADS.contains(&kind) && names.is_empty() {
            return Err(format!("an object of kind {kind} has no container image"));
        }
        if let Some(status) = &self.status {
            let statuses = [
                &status.container_statuses,
                &status.init_container_statuses,
                &status.ephemeral_container_statuses,
            ];
            for container in statuses.into_iter().flatten().flatten() {
                // Both are empty until the image was pulled.
                names.extend(container.image.as_deref().filter(|image| !image.is_empty()));
                names.extend(container.image_id.as_deref().filter(|id| !id.is_empty()));
            }
        }
        for name in names {
            found.insert(self::name(name)?);
        }
        Ok(())
    }
}

impl Spec {
    fn add_names<'a>(&'a self, names: &mut Vec<&'a str>) {
        let containers = [
            &self.containers,
            &self.init_containers,
            &self.ephemeral_containers,
        ];
        let images = containers
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|container| container.image.as_deref());
        names.extend(images);
        let volumes = self.volumes.iter().flatten();
        let images = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        names.extend(images);
        for template in [&self.template, &self.job_template].into_iter().flatten() {
            if let Some(spec) = &template.spec {
                spec.add_names(names);
            }
        }
    }
}
