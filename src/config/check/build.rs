//! Check of `build`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use super::hooks::hooks;
use super::lifecycle::products;
use super::reader::{CheckContext, Fields, Located};
use super::retention::{AppliedRetention, GeneralRetention};
use super::sync::{CheckedSync, MirrorTargets, platforms};
use crate::config::keywords::Keyword as _;
use crate::config::table::BUILD_HOOKS;
use crate::config::{BasePath, BuildConfig, BuildImage, EngineChoice, Hook, ProvenanceMode};
use crate::model::env;
use crate::model::text::printable;
use crate::model::{Platform, Repository, Tag};
use crate::template;

/// The section `build`.
pub(super) struct CheckedBuild {
    pub(super) build: BuildConfig,
    /// Retention of each image, in the order of the images.
    pub(super) applied: Vec<AppliedRetention>,
}

/// Settings of the section that images inherit.
struct BuildDefaults<'a> {
    registry: Option<BasePath>,
    core_version: Option<String>,
    platforms: Option<Vec<Platform>>,
    sbom: Option<bool>,
    provenance: Option<ProvenanceMode>,
    post_image_build: Vec<Hook>,
    engine: Option<EngineChoice>,
    general: &'a GeneralRetention,
    /// Source repository of each mirror, by target repository.
    sources: HashMap<Repository, Repository>,
}

/// The parts of an image that could be read.
struct PartialImage {
    /// The complete image; `None` if it has an error.
    image: Option<BuildImage>,
    applied: AppliedRetention,
    repository: Option<Repository>,
    mirror_image: Option<Located<Repository>>,
    name: Option<Located<String>>,
    mirror_tag: Option<String>,
    /// True if `mirror_tag` is set, even if its value is invalid.
    has_mirror_tag: bool,
    version: Option<String>,
    aliases: Vec<Located<Tag>>,
}

/// Reads the section, or returns `None` if it is not set or has an error.
pub(super) fn build(
    root: &Fields<'_>,
    general: &GeneralRetention,
    sync: Option<&CheckedSync>,
    mirrors: &MirrorTargets,
) -> Option<CheckedBuild> {
    if !root.has("build") {
        return None;
    }
    let context = root.context;
    let mut fields = root.section("build")?;
    fields.override_from("builder", env::IMGLIFE_BUILDER, true);
    let registry = fields
        .required::<BasePath>("registry")
        .map(|registry| registry.value);
    let core_version = fields
        .required::<Tag>("core_version")
        .map(|version| version.value.to_string());
    let engine = fields.value("engine");
    let builder = fields
        .optional::<String>("builder")
        .map(|builder| builder.value)
        .filter(|builder| !builder.is_empty());
    let tag_format = fields.value::<String>("tag_format");
    check_tag_format(&fields, tag_format.as_deref());
    let on_base_change = fields.value("on_base_change");
    let parallelism = fields.value("parallelism");
    let post_image_build = hooks(
        &fields.section_or_empty("hooks", &BUILD_HOOKS),
        "post_image_build",
    )
    .unwrap_or_default();
    let entries = sync.iter().flat_map(|checked| &checked.sync.entries);
    let sources = entries
        .map(|entry| (entry.target.clone(), entry.source.clone()))
        .collect();
    let given_platforms = platforms(&fields);
    check_engine(&fields, engine, given_platforms.as_deref());
    let (sbom, provenance) = (fields.value("sbom"), fields.value("provenance"));
    check_attestations(&fields, engine, sbom, provenance);
    let inherited = BuildDefaults {
        registry: registry.clone(),
        core_version: core_version.clone(),
        platforms: given_platforms.or_else(|| Some(fields.list_or_default("platforms"))),
        sbom,
        provenance,
        post_image_build: post_image_build.clone(),
        engine,
        general,
        sources,
    };
    fields.require("images");
    let sections = fields.sections("images").unwrap_or_default();
    let read: Vec<PartialImage> = sections
        .iter()
        .map(|fields| image(fields, &inherited))
        .collect();
    check_repeated(context, &read);
    check_aliases(context, &read);
    check_order(context, &read);
    check_mirrors(context, &read, mirrors);
    let (images, applied) = read
        .into_iter()
        .filter_map(|read| Some((read.image?, read.applied)))
        .unzip();
    let build = BuildConfig {
        core_version: core_version?,
        registry: registry?,
        engine: engine?,
        builder,
        tag_format: tag_format?,
        on_base_change: on_base_change?,
        parallelism: parallelism?,
        post_image_build,
        images,
    };
    Some(CheckedBuild { build, applied })
}

/// Reports several platforms with an engine that builds only one.
fn check_engine(fields: &Fields<'_>, engine: Option<EngineChoice>, platforms: Option<&[Platform]>) {
    if engine == Some(EngineChoice::Docker)
        && platforms.is_some_and(|platforms| platforms.len() > 1)
    {
        fields.context.error(
            &fields.location("platforms"),
            "the engine `docker` builds for only one platform",
            "keep one platform, or set `build.engine` to `buildx`, `buildah` or `auto`",
        );
    }
}

/// Reports a tag format that is not a valid template or uses unknown variables.
fn check_tag_format(fields: &Fields<'_>, format: Option<&str>) {
    let checked = format.map_or(Ok(()), |format| {
        template::check(
            "tag_format",
            format,
            &["name", "type", "version", "core_version"],
        )
    });
    if let Err(error) = checked {
        let hint = error.hint.unwrap_or_else(|| {
            "write for example `{{ version }}-core{{ core_version }}`".to_owned()
        });
        fields
            .context
            .error(&fields.location("tag_format"), error.problem, hint);
    }
}

/// Reports attestations that the engine does not support.
fn check_attestations(
    fields: &Fields<'_>,
    engine: Option<EngineChoice>,
    sbom: Option<bool>,
    provenance: Option<ProvenanceMode>,
) {
    let Some(engine) =
        engine.filter(|engine| !matches!(engine, EngineChoice::Auto | EngineChoice::Buildx))
    else {
        return;
    };
    let requested = [
        ("sbom", sbom == Some(true)),
        (
            "provenance",
            provenance.is_some_and(|provenance| provenance != ProvenanceMode::Off),
        ),
    ];
    for (key, _) in requested
        .into_iter()
        .filter(|(_, is_requested)| *is_requested)
    {
        fields.context.error(
            &fields.location(key),
            format!("the engine `{}` does not support `{key}`", engine.keyword()),
            "set `build.engine` to `buildx` or `auto`, or remove it",
        );
    }
}

/// Reports aliases that several images with the same name have.
fn check_aliases(context: &CheckContext<'_>, images: &[PartialImage]) {
    let mut first: HashMap<(&Repository, &Tag), (usize, usize)> = HashMap::new();
    for (position, image) in images.iter().enumerate() {
        let Some(repository) = &image.repository else {
            continue;
        };
        for alias in &image.aliases {
            let here = (position, alias.at.span.map_or(0, |span| span.line));
            let (other, line) = *first.entry((repository, &alias.value)).or_insert(here);
            if other != position {
                let message = format!(
                    "the alias `{}` is already used by an image with the same name in line {line}",
                    alias.value
                );
                context.error(&alias.at, message, "keep the alias for only one of them");
            }
        }
    }
}

fn image(fields: &Fields<'_>, inherited: &BuildDefaults<'_>) -> PartialImage {
    let context = fields.context;
    let name = fields.required::<String>("name").filter(|name| {
        // Registries reject such names, but in an OCI layout they would point outside of it.
        let stays_below = name
            .value
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
        if !stays_below {
            let message = format!(
                "`{}` is not an image name: a path component is empty, `.` or `..`",
                printable(&name.value)
            );
            context.error(
                &name.at,
                message,
                "an image is pushed to `<build.registry>/<name>`",
            );
        }
        stays_below
    });
    let repository = name
        .as_ref()
        .zip(inherited.registry.as_ref())
        .and_then(|(name, registry)| match registry.join(&name.value) {
            Ok(repository) => {
                let repository = repository.resolved_below(context.directory);
                context.check_layout(&repository, &name.at);
                Some(repository)
            }
            Err(error) => {
                context.error(
                    &name.at,
                    error.to_string(),
                    "an image is pushed to `<build.registry>/<name>`",
                );
                None
            }
        });
    let folder = fields.required::<PathBuf>("folder").map(|folder| {
        let path = context.directory.join(folder.value);
        context.check_inside(&path, &folder.at);
        path
    });
    let template = file_name(fields);
    if let (Some(folder), Some(template)) = (&folder, &template) {
        let key = if fields.has("tmpl") { "tmpl" } else { "folder" };
        // A folder that is outside was reported.
        if !context.is_outside(folder) {
            context.check_inside(&folder.join(template), &fields.location(key));
        }
    }
    let image_type = fields.required("type").map(|image_type| image_type.value);
    let mirror_image = fields
        .required::<Repository>("mirror_image")
        .map(|repository| context.resolve(&repository));
    let mirror_tag = fields.optional::<Tag>("mirror_tag").map(|tag| tag.value);
    let version = fields
        .optional::<Tag>("version")
        .map(|version| version.value.to_string());
    let core_version = fields
        .optional::<Tag>("core_version")
        .map(|version| version.value.to_string());
    let args = fields.map::<String>("args").unwrap_or_default();
    let aliases = fields.list::<Tag>("aliases").unwrap_or_default();
    let own_platforms = platforms(fields);
    check_engine(fields, inherited.engine, own_platforms.as_deref());
    let sbom = fields.optional("sbom").map(|sbom| sbom.value);
    let provenance = fields
        .optional("provenance")
        .map(|provenance| provenance.value);
    check_attestations(fields, inherited.engine, sbom, provenance);
    let own_hooks = fields
        .section("hooks")
        .and_then(|fields| hooks(&fields, "post_image_build"));
    let applied = inherited.general.applied(fields);
    let mirror = mirror_image.as_ref().map(|mirror| &mirror.value);
    let origin = mirror.map(|mirror| inherited.sources.get(mirror).unwrap_or(mirror));
    let lifecycle = products(fields, origin);
    let build = || {
        Some(BuildImage {
            name: name.clone()?.value,
            repository: repository.clone()?,
            folder: folder?,
            template: template?,
            image_type: image_type?,
            mirror_image: mirror_image.clone()?.value,
            mirror_tag: mirror_tag.clone(),
            version: version.clone(),
            core_version: core_version.or_else(|| inherited.core_version.clone())?,
            args,
            aliases: aliases.iter().map(|alias| alias.value.clone()).collect(),
            platforms: own_platforms.or_else(|| inherited.platforms.clone())?,
            sbom: sbom.or(inherited.sbom)?,
            provenance: provenance.or(inherited.provenance)?,
            post_image_build: own_hooks.unwrap_or_else(|| inherited.post_image_build.clone()),
            retention: applied.retention.clone(),
            lifecycle,
        })
    };
    let image = build();
    let has_mirror_tag = fields.is_set_or_misspelt("mirror_tag");
    let mirror_tag = mirror_tag.map(|tag| tag.to_string());
    PartialImage {
        image,
        applied,
        repository,
        mirror_image,
        name,
        mirror_tag,
        has_mirror_tag,
        version,
        aliases,
    }
}

/// Reads the name of the template, which must be inside of its folder.
fn file_name(fields: &Fields<'_>) -> Option<String> {
    let name = fields.value::<String>("tmpl")?;
    let inside = PathBuf::from(&name)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        fields.context.error(
            &fields.location("tmpl"),
            "the template is outside of `folder`",
            "set a path inside of `folder`",
        );
    }
    inside.then_some(name)
}

/// Reports images with the same name and version, which would get the same tag.
fn check_repeated(context: &CheckContext<'_>, images: &[PartialImage]) {
    let mut lines: HashMap<(&str, Option<&String>), usize> = HashMap::new();
    for image in images {
        let Some(name) = &image.name else { continue };
        let version = image.version.as_ref().or(image.mirror_tag.as_ref());
        let line = name.at.span.map_or(0, |span| span.line);
        match lines.entry((&name.value, version)) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(line);
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let which = version.map_or_else(
                    || "without a version".to_owned(),
                    |version| format!("with version `{version}`"),
                );
                let message = format!(
                    "the image `{}` {which} is already listed in line {}",
                    name.value,
                    first.get()
                );
                context.error(
                    &name.at,
                    message,
                    "set a different `version` for one of them",
                );
            }
        }
    }
}

/// Reports images that are built on each other in a cycle.
fn check_order(context: &CheckContext<'_>, images: &[PartialImage]) {
    let mut bases: BTreeMap<&Repository, Vec<&Located<Repository>>> = BTreeMap::new();
    for image in images {
        if let Some((repository, mirror)) =
            image.repository.as_ref().zip(image.mirror_image.as_ref())
        {
            bases.entry(repository).or_default().push(mirror);
        }
    }
    let mut done: HashSet<&Repository> = HashSet::new();
    for start in bases.keys() {
        // Depth-first search with an explicit stack: repositories, each with the index of its next
        // base image.
        let mut path: Vec<(&Repository, usize)> = if done.contains(start) {
            Vec::new()
        } else {
            vec![(start, 0)]
        };
        let mut on_path: HashSet<&Repository> =
            path.iter().map(|(repository, _)| *repository).collect();
        while let Some((repository, next)) = path.last_mut() {
            let repository = *repository;
            let Some(base) = bases.get(repository).and_then(|bases| bases.get(*next)) else {
                done.insert(repository);
                on_path.remove(repository);
                path.pop();
                continue;
            };
            *next += 1;
            if on_path.contains(&base.value) {
                let cycle = path
                    .iter()
                    .map(|(repository, _)| *repository)
                    .skip_while(|repository| **repository != base.value)
                    .chain([&base.value]);
                let cycle: Vec<String> =
                    cycle.map(|repository| format!("`{repository}`")).collect();
                let message = format!(
                    "the images are built on each other in a cycle: {}",
                    cycle.join(" on ")
                );
                context.error(
                    &base.at,
                    message,
                    "set the `mirror_image` of one of them to a mirror",
                );
            } else if bases.contains_key(&base.value) && !done.contains(&base.value) {
                on_path.insert(&base.value);
                path.push((&base.value, 0));
            }
        }
    }
}

/// Reports images without `mirror_tag` whose tag cannot be determined from exactly one mirror.
fn check_mirrors(context: &CheckContext<'_>, images: &[PartialImage], mirrors: &MirrorTargets) {
    let built: HashSet<&Repository> = images
        .iter()
        .filter_map(|image| image.repository.as_ref())
        .collect();
    for image in images.iter().filter(|image| !image.has_mirror_tag) {
        let Some(mirror) = image
            .mirror_image
            .as_ref()
            .filter(|mirror| !built.contains(&mirror.value))
        else {
            continue;
        };
        let targets = mirrors
            .targets
            .iter()
            .filter(|target| target.value == mirror.value);
        let lines: Vec<String> = targets
            .filter_map(|target| target.at.span)
            .map(|span| span.line.to_string())
            .collect();
        match lines.as_slice() {
            [_] => {}
            [] => context.error(
                &mirror.at,
                format!("no sync entry has the target `{}`, and `mirror_tag` is not set", mirror.value),
                "add `mirror_tag:`, or set `mirror_image` to the target of a sync entry or to another image in this list",
            ),
            lines => context.error(
                &mirror.at,
                format!(
                    "several sync entries have the target `{}` (lines {}), and `mirror_tag` is not set",
                    mirror.value,
                    lines.join(", ")
                ),
                "add `mirror_tag:` with the tag to build from",
            ),
        }
    }
}
