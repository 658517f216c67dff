//! Writing what images are made of into a directory, for other builders: `--output-dir`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use chrono::NaiveDate;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::labels::{Making, Occasion};
use super::observe::World;
use super::plan::{Action, BaseDigest, Item, Plan};
use super::render::{Filling, Template, dockerfile};
use super::report::{BuildReport, ImageReport, Outcome};
use crate::config::{BuildConfig, BuildImage, ProvenanceMode};
use crate::error::{ItemError, chain};
use crate::files;
use crate::model::text::printable;
use crate::model::{ImageReference, Platform};
use crate::steps::Mode;

const BAKE_FILE: &str = "docker-bake.json";

/// Written into each folder, whatever the folder of the image holds under these names.
const DOCKERFILE: &str = "Dockerfile";
const DESCRIPTION: &str = "build.json";

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
    #[error("{} is the folder of an image", .0.display())]
    Itself(PathBuf),
    #[error("`{}` is no name of a folder", printable(.0))]
    Name(String),
}

impl WriteError {
    /// Returns what the user can do, where there is something.
    fn hint(&self) -> Option<String> {
        match self {
            WriteError::Foreign(_) => Some("name another directory, or remove it".to_owned()),
            WriteError::Itself(_) => Some("name another directory".to_owned()),
            WriteError::Name(_) => Some("give the image another `name`".to_owned()),
            WriteError::Write(..) | WriteError::Copy(..) => None,
        }
    }
}

/// Writes a folder for each image of the plan, whether it is published or not, and a file for
/// `docker buildx bake`.
pub fn write_contexts(
    build: &BuildConfig,
    plan: &Plan,
    world: &World,
    contexts: &Contexts,
) -> BuildReport {
    let mut images = Vec::new();
    let mut targets = Map::new();
    let names = folder_names(build, world);
    for item in &plan.items {
        let image = &build.images[item.position];
        let mut report = ImageReport::new(image, item);
        report.aliases = image.aliases.clone();
        report.outcome = match (plan.is_wrong, prepare(build, item, world, contexts)) {
            (_, Err(error)) => Outcome::Failed(error),
            (true, Ok(_)) => Outcome::NotStarted,
            (false, Ok(prepared)) => match own_name(build, &names, item.position) {
                Err(error) => Outcome::Failed(error),
                Ok(name) => match write_context(image, &prepared, &contexts.directory, name) {
                    Ok(()) => {
                        targets.insert(
                            target_name(name),
                            prepared.bake(image, name, base_target(item, &names).as_deref()),
                        );
                        Outcome::Written
                    }
                    Err(error) => Outcome::Failed(ItemError::of(&error, error.hint())),
                },
            },
        };
        images.push(report);
    }
    let mut report = BuildReport::new(Mode::Apply, plan.is_wrong, images);
    if !targets.is_empty() {
        let all: Vec<&String> = targets.keys().collect();
        let bake = json!({ "group": { "default": { "targets": all } }, "target": targets });
        if let Err(error) = write_whole(
            &contexts.directory.join(BAKE_FILE),
            pretty(&bake).as_bytes(),
        ) {
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

fn prepare(
    build: &BuildConfig,
    item: &Item,
    world: &World,
    contexts: &Contexts,
) -> Result<Prepared, ItemError> {
    let image = &build.images[item.position];
    let (Some(identity), Some(draft)) = (&item.identity, &item.draft) else {
        return Err(match &item.action {
            Action::Fail(error) => error.clone(),
            _ => ItemError::other("it is not known what to build"),
        });
    };
    let seen = world
        .images
        .get(&item.position)
        .and_then(|seen| seen.base_digest.as_ref().ok()?.as_ref());
    let base_digest = match &item.action {
        // It is built by whoever builds from this directory.
        Action::Build {
            base: BaseDigest::Of(_),
            ..
        } => None,
        _ => seen,
    };
    if base_digest.is_none() && identity.built_on.is_none() {
        return Err(
            ItemError::other(format!("there is no {}", identity.base_reference()))
                .with_hint("run `imglife sync` first"),
        );
    }
    let eol = contexts.ends.get(&item.position).copied();
    let occasion = &contexts.occasion;
    let template = Template {
        name: &draft.template_name,
        text: &draft.template,
    };
    let filling = Filling::Whole {
        base_digest,
        eol,
        occasion,
    };
    let text = dockerfile(build, image, identity, &template, filling).map_err(|error| {
        ItemError::other(error.to_string()).with_optional_hint(error.hint.clone())
    })?;
    let base = ImageReference {
        digest: base_digest.cloned(),
        ..identity.base_reference()
    };
    let labels = Making {
        image,
        identity,
        base_digest,
        inputs: &draft.inputs,
        eol,
        occasion,
    }
    .labels();
    let reference = ImageReference::tagged(image.repository.clone(), identity.tag.clone());
    Ok(Prepared {
        reference,
        dockerfile: text,
        base: base.to_string(),
        labels,
        inputs: draft.inputs.to_string(),
    })
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
        let tags: Vec<String> = std::iter::once(self.reference.to_string())
            .chain(aliases(image))
            .collect();
        // BuildKit refuses annotations of an index where it makes none.
        let has_index =
            image.platforms.len() > 1 || image.sbom || image.provenance != ProvenanceMode::Off;
        let level = if has_index {
            "index,manifest"
        } else {
            "manifest"
        };
        let annotations: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{level}:{name}={value}"))
            .collect();
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
            ProvenanceMode::Off => "type=provenance,disabled=true".to_owned(),
            ProvenanceMode::Min => "type=provenance,mode=min".to_owned(),
            ProvenanceMode::Max => "type=provenance,mode=max".to_owned(),
        });
        target["attest"] = json!(attest);
        if let Some(base_target) = base_target {
            target["contexts"] = json!({ self.base.clone(): format!("target:{base_target}") });
        }
        target
    }
}

fn aliases(image: &BuildImage) -> Vec<String> {
    image
        .aliases
        .iter()
        .map(|alias| ImageReference::tagged(image.repository.clone(), alias.clone()).to_string())
        .collect()
}

fn platforms(image: &BuildImage) -> Vec<String> {
    image.platforms.iter().map(Platform::to_string).collect()
}

/// Returns the names of the folders by the positions of the images: what these are called, with
/// their tag where a name repeats. No folder is in another, since each is replaced as a whole.
fn folder_names(build: &BuildConfig, world: &World) -> HashMap<usize, String> {
    let name_of = |position: usize| {
        let image = &build.images[position];
        let repeats = build
            .images
            .iter()
            .filter(|other| other.name == image.name)
            .count()
            > 1;
        let name = image.name.replace('/', "__");
        match (repeats, world.identities.get(position)) {
            (false, _) => Some(name),
            (true, Some(Ok(identity))) => Some(format!("{name}-{}", identity.tag)),
            (true, _) => None,
        }
    };
    (0..build.images.len())
        .filter_map(|position| Some((position, name_of(position)?)))
        .collect()
}

/// Returns the name of an image's folder, which no other image of the configuration has, as a
/// folder or as a target.
fn own_name<'a>(
    build: &BuildConfig,
    names: &'a HashMap<usize, String>,
    position: usize,
) -> Result<&'a str, ItemError> {
    let name = names
        .get(&position)
        .ok_or_else(|| ItemError::other("what its folder is called is not known"))?;
    let target = target_name(name);
    let other = names
        .iter()
        .filter(|(other, name)| **other != position && target_name(name) == target)
        .map(|(other, _)| other)
        .min();
    match other {
        None => Ok(name),
        Some(&other) => Err(ItemError::other(format!(
            "`{}` and `{}` (build.images[{other}]) would both be the target `{target}` of {BAKE_FILE}",
            build.images[position].name, build.images[other].name
        ))
        .with_hint("give them names that differ in letters or digits")),
    }
}

/// Returns the name of a target: letters, digits, `-` and `_` only.
fn target_name(folder: &str) -> String {
    folder
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || character == '_' {
                character
            } else {
                '-'
            }
        })
        .collect()
}

fn base_target(item: &Item, names: &HashMap<usize, String>) -> Option<String> {
    match &item.action {
        Action::Build {
            base: BaseDigest::Of(position),
            ..
        } => names.get(position).map(|name| target_name(name)),
        _ => None,
    }
}

/// Writes the folder of an image beside its place in `directory` and puts it there whole.
fn write_context(
    image: &BuildImage,
    prepared: &Prepared,
    directory: &Path,
    name: &str,
) -> Result<(), WriteError> {
    let mut parts = Path::new(name).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    if !is_plain || name == BAKE_FILE {
        return Err(WriteError::Name(name.to_owned()));
    }
    let place = directory.join(name);
    is_replaceable(&place)?;
    let unwritten = |error| WriteError::Write(directory.to_owned(), error);
    fs::create_dir_all(directory).map_err(unwritten)?;
    let outputs = directory.canonicalize().map_err(unwritten)?;
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(directory)
        .map_err(unwritten)?;
    copy_folder(&image.folder, new.path(), &outputs)?;
    let write = |name: &str, text: &str| {
        let path = new.path().join(name);
        // Not through a link, should one be there.
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| WriteError::Write(path, error))
    };
    write(DOCKERFILE, &prepared.dockerfile)?;
    write(DESCRIPTION, &pretty(&prepared.description(image)))?;
    let unplaced = |error| WriteError::Write(place.clone(), error);
    if is_replaceable(&place)? {
        fs::remove_dir_all(&place).map_err(unplaced)?;
    }
    let new = new.keep();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(unplaced)?;
    fs::rename(&new, &place).map_err(unplaced)
}

/// Returns whether a folder that was written earlier is at `place`. Fails when something else is.
fn is_replaceable(place: &Path) -> Result<bool, WriteError> {
    let is = |path: &Path, kind: fn(&fs::Metadata) -> bool| match path.symlink_metadata() {
        Ok(metadata) => Ok(kind(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(WriteError::Write(path.to_owned(), error)),
    };
    if !is(place, |_| true)? {
        return Ok(false);
    }
    if is(place, fs::Metadata::is_dir)? && is(&place.join(DESCRIPTION), fs::Metadata::is_file)? {
        return Ok(true);
    }
    Err(WriteError::Foreign(place.to_owned()))
}

/// Copies a folder without what is written anew and without `outputs`, an absolute path without
/// links.
fn copy_folder(from: &Path, to: &Path, outputs: &Path) -> Result<(), WriteError> {
    let top = from
        .canonicalize()
        .map_err(|error| WriteError::Copy(from.to_owned(), error))?;
    if top == outputs {
        return Err(WriteError::Itself(from.to_owned()));
    }
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let here = from.join(&directory);
        let unread = |error| WriteError::Copy(here.clone(), error);
        for entry in fs::read_dir(&here).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let path = directory.join(entry.file_name());
            if path == Path::new(DOCKERFILE)
                || path == Path::new(DESCRIPTION)
                || top.join(&path) == outputs
            {
                continue;
            }
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
    files::replace(path, 0o644, bytes).map_err(failed)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
