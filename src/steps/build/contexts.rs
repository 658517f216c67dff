//! Writes build contexts to a directory, for other builders (`--output-dir`).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use chrono::NaiveDate;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::labels::{ImageLabels, RunMetadata};
use super::observe::World;
use super::plan::{BaseDigest, BuildAction, BuildItem, Plan};
use super::render::{RunValues, Template, dockerfile};
use super::report::{BuildReport, ImageOutcome, ImageReport};
use crate::config::{BuildConfig, BuildImage, ProvenanceMode};
use crate::error::{ItemError, chain};
use crate::files;
use crate::model::text::printable;
use crate::model::{ImageReference, Platform};
use crate::steps::Mode;

/// File for `docker buildx bake` in the output directory.
const BAKE_FILE: &str = "docker-bake.json";

/// Files that are written to each context, instead of files with these names in the build folder.
const DOCKERFILE: &str = "Dockerfile";
const DESCRIPTION: &str = "build.json";

/// Output directory, and metadata for labels and templates.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    pub directory: PathBuf,
    pub run_metadata: RunMetadata,
    pub eol_dates: HashMap<usize, NaiveDate>,
}

/// Error while writing a build context.
#[derive(Debug, Error)]
enum ContextWriteError {
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot copy {}", .0.display())]
    Copy(PathBuf, #[source] io::Error),
    #[error("{} already exists and was not written by `imglife build --output-dir`", .0.display())]
    Foreign(PathBuf),
    #[error("{} is the build folder of an image", .0.display())]
    BuildFolder(PathBuf),
    #[error("`{}` is not a valid folder name", printable(.0))]
    Name(String),
}

impl ContextWriteError {
    /// Returns a suggestion for the user, or `None`.
    fn hint(&self) -> Option<String> {
        match self {
            ContextWriteError::Foreign(_) => {
                Some("delete it, or choose another `--output-dir`".to_owned())
            }
            ContextWriteError::BuildFolder(_) => Some("choose another `--output-dir`".to_owned()),
            ContextWriteError::Name(_) => Some("change the `name` of the image".to_owned()),
            ContextWriteError::Write(..) | ContextWriteError::Copy(..) => None,
        }
    }
}

/// Writes the build context of each image of the plan, published or not, and a file for
/// `docker buildx bake`.
pub fn write_contexts(
    build: &BuildConfig,
    plan: &Plan,
    world: &World,
    contexts: &ContextOptions,
) -> BuildReport {
    let mut images = Vec::new();
    let mut targets = Map::new();
    let names = folder_names(build, world);
    for item in &plan.items {
        let image = &build.images[item.position];
        let mut report = ImageReport::new(image, item);
        report.aliases = image.aliases.clone();
        report.outcome = match (
            plan.has_invalid_input,
            prepare(build, item, world, contexts),
        ) {
            (_, Err(error)) => ImageOutcome::Failed(error),
            (true, Ok(_)) => ImageOutcome::NotStarted,
            (false, Ok(prepared)) => match checked_folder_name(build, &names, item.position) {
                Err(error) => ImageOutcome::Failed(error),
                Ok(name) => match write_context(image, &prepared, &contexts.directory, name) {
                    Ok(()) => {
                        targets.insert(
                            target_name(name),
                            prepared.bake(image, name, base_target(item, &names).as_deref()),
                        );
                        ImageOutcome::Written
                    }
                    Err(error) => ImageOutcome::Failed(ItemError::of(&error, error.hint())),
                },
            },
        };
        images.push(report);
    }
    let mut report = BuildReport::new(Mode::Apply, plan.has_invalid_input, images);
    if !targets.is_empty() {
        let all: Vec<&String> = targets.keys().collect();
        let bake = json!({ "group": { "default": { "targets": all } }, "target": targets });
        if let Err(error) = write_file(
            &contexts.directory.join(BAKE_FILE),
            pretty(&bake).as_bytes(),
        ) {
            report.problem = Some(chain(&error));
        }
    }
    report
}

/// Values for the context of one image.
struct PreparedContext {
    reference: ImageReference,
    dockerfile: String,
    /// Reference of the base, by digest if it is known.
    base: String,
    labels: BTreeMap<String, String>,
    /// Digest of the inputs.
    inputs: String,
}

/// Renders the Dockerfile and the labels of an image.
fn prepare(
    build: &BuildConfig,
    item: &BuildItem,
    world: &World,
    contexts: &ContextOptions,
) -> Result<PreparedContext, ItemError> {
    let image = &build.images[item.position];
    let (Some(identity), Some(inputs)) = (&item.identity, &item.inputs) else {
        return Err(match &item.action {
            BuildAction::Fail(error) => error.clone(),
            _ => ItemError::other("the inputs of the image are unknown"),
        });
    };
    let observed = world
        .images
        .get(&item.position)
        .and_then(|image| image.base_digest.as_ref().ok()?.as_ref());
    let base_digest = match &item.action {
        // The other builder builds the base, so its digest is unknown.
        BuildAction::Build {
            base: BaseDigest::BuiltFirst(_),
            ..
        } => None,
        _ => observed,
    };
    if base_digest.is_none() && identity.built_on.is_none() {
        return Err(
            ItemError::other(format!("base {} does not exist", identity.base_reference()))
                .with_hint("run `imglife sync` first"),
        );
    }
    let eol = contexts.eol_dates.get(&item.position).copied();
    let run_metadata = &contexts.run_metadata;
    let template = Template {
        name: &inputs.template_name,
        text: &inputs.template,
    };
    let values = RunValues::Known {
        base_digest,
        eol,
        run_metadata,
    };
    let text = dockerfile(build, image, identity, &template, values).map_err(|error| {
        ItemError::other(error.to_string()).with_optional_hint(error.hint.clone())
    })?;
    let base = ImageReference {
        digest: base_digest.cloned(),
        ..identity.base_reference()
    };
    let labels = ImageLabels {
        image,
        identity,
        base_digest,
        inputs: &inputs.digest,
        eol,
        run_metadata,
    }
    .labels();
    let reference = ImageReference::tagged(image.repository.clone(), identity.tag.clone());
    Ok(PreparedContext {
        reference,
        dockerfile: text,
        base: base.to_string(),
        labels,
        inputs: inputs.digest.to_string(),
    })
}

impl PreparedContext {
    /// Returns the content of `build.json`, for other builders.
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
        // BuildKit rejects annotations of an index if it does not create one.
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

/// Returns the folder names of the images, by position: the name of the image, with its tag if
/// several images have the name. Names contain no slash, because each folder is replaced as a
/// whole. An image whose tag is needed and unknown is absent.
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

/// Returns the folder name of an image. Fails if it is unknown, or if another image has the same
/// bake target.
fn checked_folder_name<'a>(
    build: &BuildConfig,
    names: &'a HashMap<usize, String>,
    position: usize,
) -> Result<&'a str, ItemError> {
    let name = names.get(&position).ok_or_else(|| {
        ItemError::other("the folder name is unknown, because the tag of the image is unknown")
    })?;
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

/// Returns the bake target for a folder: only letters, digits, `-` and `_`.
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

/// Returns the bake target of the base, if the base is built in the same run.
fn base_target(item: &BuildItem, names: &HashMap<usize, String>) -> Option<String> {
    match &item.action {
        BuildAction::Build {
            base: BaseDigest::BuiltFirst(position),
            ..
        } => names.get(position).map(|name| target_name(name)),
        _ => None,
    }
}

/// Writes the context of an image to `directory/name`. It is completed in a temporary folder and
/// then renamed.
fn write_context(
    image: &BuildImage,
    prepared: &PreparedContext,
    directory: &Path,
    name: &str,
) -> Result<(), ContextWriteError> {
    let mut parts = Path::new(name).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    if !is_plain || name == BAKE_FILE {
        return Err(ContextWriteError::Name(name.to_owned()));
    }
    let context = directory.join(name);
    is_replaceable(&context)?;
    let cannot_create = |error| ContextWriteError::Write(directory.to_owned(), error);
    fs::create_dir_all(directory).map_err(cannot_create)?;
    let outputs = directory.canonicalize().map_err(cannot_create)?;
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(directory)
        .map_err(cannot_create)?;
    copy_folder(&image.folder, new.path(), &outputs)?;
    let write = |name: &str, text: &str| {
        let path = new.path().join(name);
        // `create_new` fails on an existing link instead of following it.
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| ContextWriteError::Write(path, error))
    };
    write(DOCKERFILE, &prepared.dockerfile)?;
    write(DESCRIPTION, &pretty(&prepared.description(image)))?;
    let unwritable = |error| ContextWriteError::Write(context.clone(), error);
    if is_replaceable(&context)? {
        fs::remove_dir_all(&context).map_err(unwritable)?;
    }
    let new = new.keep();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(unwritable)?;
    fs::rename(&new, &context).map_err(unwritable)
}

/// Returns true if `context` was written by an earlier run, false if it does not exist. Fails if it
/// is anything else.
fn is_replaceable(context: &Path) -> Result<bool, ContextWriteError> {
    let is = |path: &Path, kind: fn(&fs::Metadata) -> bool| match path.symlink_metadata() {
        Ok(metadata) => Ok(kind(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ContextWriteError::Write(path.to_owned(), error)),
    };
    if !is(context, |_| true)? {
        return Ok(false);
    }
    if is(context, fs::Metadata::is_dir)? && is(&context.join(DESCRIPTION), fs::Metadata::is_file)?
    {
        return Ok(true);
    }
    Err(ContextWriteError::Foreign(context.to_owned()))
}

/// Copies a build folder without the files that the context replaces and without `outputs`, the
/// canonical path of the output directory.
fn copy_folder(from: &Path, to: &Path, outputs: &Path) -> Result<(), ContextWriteError> {
    let top = from
        .canonicalize()
        .map_err(|error| ContextWriteError::Copy(from.to_owned(), error))?;
    if top == outputs {
        return Err(ContextWriteError::BuildFolder(from.to_owned()));
    }
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let here = from.join(&directory);
        let unreadable = |error| ContextWriteError::Copy(here.clone(), error);
        for entry in fs::read_dir(&here).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = directory.join(entry.file_name());
            if path == Path::new(DOCKERFILE)
                || path == Path::new(DESCRIPTION)
                || top.join(&path) == outputs
            {
                continue;
            }
            let (source, target) = (from.join(&path), to.join(&path));
            let cannot_copy = |error| ContextWriteError::Copy(source.clone(), error);
            let kind = entry.file_type().map_err(cannot_copy)?;
            if kind.is_dir() {
                fs::create_dir(&target).map_err(cannot_copy)?;
                directories.push(path);
            } else if kind.is_symlink() {
                // Links are copied unresolved: they are resolved inside the image.
                let link = fs::read_link(&source).map_err(cannot_copy)?;
                std::os::unix::fs::symlink(link, &target).map_err(cannot_copy)?;
            } else if kind.is_file() {
                fs::copy(&source, &target).map_err(cannot_copy)?;
            }
        }
    }
    Ok(())
}

/// Replaces the file at `path` atomically and creates its directory if necessary.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ContextWriteError> {
    let failed = |error| ContextWriteError::Write(path.to_owned(), error);
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(failed)?;
    files::replace(path, 0o644, bytes).map_err(failed)
}

/// Returns indented JSON with a final newline.
fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
