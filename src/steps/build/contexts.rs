//! Writing what images are made of into a directory, for other builders: `--output-dir`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::labels::{Making, Occasion};
use super::observe::World;
use super::plan::{Action, BaseDigest, Item, Plan};
use super::render::{Filling, Template, dockerfile};
use super::report::{BuildReport, ImageReport, Outcome};
use crate::config::{Build, BuildImage, Provenance};
use crate::error::chain;
use crate::model::{ImageReference, Platform};
use crate::steps::{Mode, Trouble};

/// Where contexts are written, and what else they tell.
#[derive(Clone, Debug)]
pub struct Contexts {
    pub directory: PathBuf,
    pub occasion: Occasion,
    pub ends: HashMap<usize, NaiveDate>,
}

#[derive(Debug, Error)]
enum WriteError {
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot copy {}", .0.display())]
    Copy(PathBuf, #[source] io::Error),
    #[error("{} is there, and was not written by `imglife build --output-dir`", .0.display())]
    Foreign(PathBuf),
}

/// Writes a folder for each image of the plan, whether it is published or not, and a file for `docker buildx bake`.
pub fn write_contexts(build: &Build, plan: &Plan, world: &World, contexts: &Contexts) -> BuildReport {
    let mut images = Vec::new();
    let mut targets = Map::new();
    let names = folder_names(build, plan);
    for item in &plan.items {
        let image = &build.images[item.position];
        let mut report = ImageReport::new(image, item);
        report.aliases = image.aliases.clone();
        report.outcome = match (plan.is_wrong, prepare(build, item, world, contexts)) {
            (_, Err(trouble)) => Outcome::Failed(trouble),
            (true, Ok(_)) => Outcome::NotStarted,
            (false, Ok(prepared)) => match write_context(image, &prepared, &contexts.directory.join(&names[&item.position])) {
                Ok(()) => {
                    let target = target_name(&names[&item.position]);
                    targets.insert(target, prepared.bake(image, &names[&item.position], base_target(item, &names).as_deref()));
                    Outcome::Written
                }
                Err(error) => {
                    let hint = matches!(error, WriteError::Foreign(_)).then(|| "name another directory, or remove it".to_owned());
                    Outcome::Failed(Trouble { side: None, cause: chain(&error), hint })
                }
            },
        };
        images.push(report);
    }
    let mut report = BuildReport::new(Mode::Apply, plan.is_wrong, images);
    if !targets.is_empty() {
        let all: Vec<&String> = targets.keys().collect();
        let bake = json!({ "group": { "default": { "targets": all } }, "target": targets });
        if let Err(error) = write_whole(&contexts.directory.join("docker-bake.json"), pretty(&bake).as_bytes()) {
            report.problem = Some(chain(&error));
        }
    }
    report
}

/// An image as it is written.
struct Prepared {
    reference: ImageReference,
    dockerfile: String,
    /// What `FROM` names.
    base: String,
    labels: BTreeMap<String, String>,
    inputs: String,
}

fn prepare(build: &Build, item: &Item, world: &World, contexts: &Contexts) -> Result<Prepared, Trouble> {
    let image = &build.images[item.position];
    let (Some(identity), Some(draft)) = (&item.identity, &item.draft) else {
        return Err(match &item.action {
            Action::Fail(trouble) => trouble.clone(),
            _ => Trouble::new("it is not known what to build"),
        });
    };
    let seen = world.images.get(&item.position).and_then(|seen| seen.base_digest.as_ref().ok()?.as_ref());
    let base_digest = match &item.action {
        // It is built by whoever builds from this directory.
        Action::Build { base: BaseDigest::Of(_), .. } => None,
        _ => seen,
    };
    if base_digest.is_none() && identity.built_on.is_none() {
        return Err(Trouble::new(format!("there is no {}", identity.base_reference())).hint("run `imglife sync` first"));
    }
    let eol = contexts.ends.get(&item.position).copied();
    let occasion = &contexts.occasion;
    let template = Template { name: &draft.template_name, text: &draft.template };
    let filling = base_digest.map_or(Filling::Blanks, |base_digest| Filling::Whole { base_digest, eol, occasion });
    let text = dockerfile(build, image, identity, &template, filling).map_err(|error| Trouble {
        side: None,
        cause: error.to_string(),
        hint: error.hint,
    })?;
    let base = ImageReference { digest: base_digest.cloned(), ..identity.base_reference() };
    let labels = Making { image, identity, base_digest, inputs: &draft.inputs, eol, occasion }.labels();
    let reference = ImageReference::tagged(image.repository.clone(), identity.tag.clone());
    Ok(Prepared { reference, dockerfile: text, base: base.to_string(), labels, inputs: draft.inputs.to_string() })
}

impl Prepared {
    /// Returns what other builders need to know.
    fn description(&self, image: &BuildImage) -> Value {
        json!({
            "tag": self.reference.to_string(),
            "aliases": aliases(image),
            "platforms": platforms(image),
            "labels": self.labels,
            "annotations": self.labels,
            "args": image.args,
            "base": self.base,
            "inputs": self.inputs,
        })
    }

    /// Returns the target of a bake file (Docker, "Bake file reference").
    fn bake(&self, image: &BuildImage, folder: &str, base_target: Option<&str>) -> Value {
        let tags: Vec<String> = std::iter::once(self.reference.to_string()).chain(aliases(image)).collect();
        // BuildKit refuses annotations of an index where it makes none.
        let has_index = image.platforms.len() > 1 || image.sbom || image.provenance != Provenance::Off;
        let level = if has_index { "index,manifest" } else { "manifest" };
        let annotations: Vec<String> = self.labels.iter().map(|(name, value)| format!("{level}:{name}={value}")).collect();
        let mut target = json!({
            "context": folder,
            "dockerfile": "Dockerfile",
            "tags": tags,
            "platforms": platforms(image),
            "labels": self.labels,
            "annotations": annotations,
            "args": image.args,
        });
        let mut attest = Vec::new();
        if image.sbom {
            attest.push("type=sbom".to_owned());
        }
        attest.push(match image.provenance {
            Provenance::Off => "type=provenance,disabled=true".to_owned(),
            Provenance::Min => "type=provenance,mode=min".to_owned(),
            Provenance::Max => "type=provenance,mode=max".to_owned(),
        });
        target["attest"] = json!(attest);
        if let Some(base_target) = base_target {
            target["contexts"] = json!({ self.base.clone(): format!("target:{base_target}") });
        }
        target
    }
}

fn aliases(image: &BuildImage) -> Vec<String> {
    image.aliases.iter().map(|alias| ImageReference::tagged(image.repository.clone(), alias.clone()).to_string()).collect()
}

fn platforms(image: &BuildImage) -> Vec<String> {
    image.platforms.iter().map(Platform::to_string).collect()
}

/// Returns the names of the folders: those of the images, with their tag where a name repeats.
fn folder_names(build: &Build, plan: &Plan) -> HashMap<usize, String> {
    let name_of = |item: &Item| {
        let image = &build.images[item.position];
        let repeats = build.images.iter().filter(|other| other.name == image.name).count() > 1;
        match item.identity.as_ref().filter(|_| repeats) {
            Some(identity) => format!("{}-{}", image.name, identity.tag),
            None => image.name.clone(),
        }
    };
    plan.items.iter().map(|item| (item.position, name_of(item))).collect()
}

/// Returns the name of a target: letters, digits, `-` and `_` only.
fn target_name(folder: &str) -> String {
    folder.chars().map(|character| if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' }).collect()
}

fn base_target(item: &Item, names: &HashMap<usize, String>) -> Option<String> {
    match &item.action {
        Action::Build { base: BaseDigest::Of(position), .. } => names.get(position).map(|name| target_name(name)),
        _ => None,
    }
}

/// Writes the folder of an image beside its place and puts it there whole.
fn write_context(image: &BuildImage, prepared: &Prepared, place: &Path) -> Result<(), WriteError> {
    if place.exists() && !place.join("build.json").is_file() {
        return Err(WriteError::Foreign(place.to_owned()));
    }
    let parent = place.parent().unwrap_or(place);
    fs::create_dir_all(parent).map_err(|error| WriteError::Write(parent.to_owned(), error))?;
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(|error| WriteError::Write(parent.to_owned(), error))?;
    copy_folder(&image.folder, new.path())?;
    let write = |name: &str, text: &str| {
        let path = new.path().join(name);
        fs::write(&path, text).map_err(|error| WriteError::Write(path, error))
    };
    write("Dockerfile", &prepared.dockerfile)?;
    write("build.json", &pretty(&prepared.description(image)))?;
    let unplaced = |error| WriteError::Write(place.to_owned(), error);
    if place.exists() {
        fs::remove_dir_all(place).map_err(unplaced)?;
    }
    let new = new.keep();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(unplaced)?;
    fs::rename(&new, place).map_err(unplaced)
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), WriteError> {
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let here = from.join(&directory);
        let unread = |error| WriteError::Copy(here.clone(), error);
        for entry in fs::read_dir(&here).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let path = directory.join(entry.file_name());
            let (source, target) = (from.join(&path), to.join(&path));
            let failed = |error| WriteError::Copy(source.clone(), error);
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                fs::create_dir(&target).map_err(failed)?;
                directories.push(path);
            } else if kind.is_symlink() {
                // As it is: where it leads is a matter of the image that it comes into.
                let link = fs::read_link(&source).map_err(failed)?;
                std::os::unix::fs::symlink(link, &target).map_err(failed)?;
            } else if kind.is_file() {
                fs::copy(&source, &target).map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |error| WriteError::Write(path.to_owned(), error);
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
