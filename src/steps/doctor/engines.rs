//! What follows from the engines and emulators that a machine has, for the images of a
//! configuration.

use std::collections::BTreeSet;

use crate::config::{BuildConfig, BuildImage, EngineChoice, ProvenanceMode};
use crate::engines::{Emulators, EngineError, EngineName};
use crate::probe::ProbeFinding;

const AVAILABLE: &str = "engine.available";
const CHOICE: &str = "engine.choice";
const EMULATOR: &str = "engine.emulator";

/// An engine as it was found: its version, or why it cannot be used.
pub struct Seen {
    pub name: EngineName,
    pub version: Result<String, EngineError>,
}

/// Returns whether an image takes an engine that runs programs, by the text of its template: it has
/// `RUN` or several stages, or attestations are asked for.
pub fn executes(image: &BuildImage, template: &str) -> bool {
    let first_words = || {
        template
            .lines()
            .filter_map(|line| line.split_whitespace().next())
    };
    let count = |word: &str| {
        first_words()
            .filter(|first| first.eq_ignore_ascii_case(word))
            .count()
    };
    image.sbom || image.provenance != ProvenanceMode::Off || count("RUN") > 0 || count("FROM") > 1
}

/// Returns how the engines stand. `executing` are the positions of the images that take one which
/// runs programs. `elsewhere` says that programs run on another machine, whose emulators are not
/// seen.
pub fn engines(
    build: Option<&BuildConfig>,
    seen: &[Seen],
    executing: &BTreeSet<usize>,
    emulators: &Emulators,
    elsewhere: bool,
) -> Vec<ProbeFinding> {
    let named = build.and_then(|build| name(build.engine));
    let usable = |name: EngineName| {
        seen.iter()
            .any(|seen| seen.name == name && seen.version.is_ok())
    };
    let program = EngineName::PROGRAMS.into_iter().find(|name| usable(*name));
    let mut findings: Vec<ProbeFinding> = seen
        .iter()
        .map(|engine| {
            let about = engine.name.to_string();
            match &engine.version {
                Ok(version) => ProbeFinding::ok(AVAILABLE, about, version),
                Err(error) => {
                    let finding = ProbeFinding::missing(AVAILABLE, about, &error.problem);
                    let finding = error
                        .hint
                        .as_ref()
                        .map_or(finding.clone(), |hint| finding.fix(hint));
                    if named == Some(engine.name) {
                        finding
                    } else {
                        ProbeFinding {
                            fix: None,
                            ..finding
                        }
                        .optional()
                    }
                }
            }
        })
        .collect();
    let Some(build) = build else { return findings };
    let names = |executing_ones: bool| -> String {
        let images = build
            .images
            .iter()
            .enumerate()
            .filter(|(position, _)| executing.contains(position) == executing_ones);
        let names: BTreeSet<&str> = images.map(|(_, image)| image.name.as_str()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let (executed, written) = (names(true), names(false));
    findings.extend(match (build.engine, program) {
        (EngineChoice::Auto, _) if executed.is_empty() => Some(ProbeFinding::ok(CHOICE, "", format!("auto: native for {written}"))),
        (EngineChoice::Auto, Some(program)) => {
            let native = if written.is_empty() { String::new() } else { format!(", native for {written}") };
            Some(ProbeFinding::ok(CHOICE, "", format!("auto: {program} for {executed}{native}")))
        }
        (EngineChoice::Auto, None) => Some(
            ProbeFinding::missing(
                CHOICE,
                "",
                format!("auto finds no engine for {executed}, which `RUN`, a second stage or attestations call for"),
            )
            .fix("install buildah, podman, or docker with buildx; a template without them is built by imglife itself (native)"),
        ),
        (EngineChoice::Native, _) if !executed.is_empty() => Some(
            ProbeFinding::wrong(
                CHOICE,
                "",
                format!("native builds neither `RUN` nor a second stage nor attestations, which {executed} asks for"),
            )
            .fix("set `build.engine` to `auto`, or take that out"),
        ),
        (EngineChoice::Native | EngineChoice::Buildx | EngineChoice::Docker | EngineChoice::Buildah | EngineChoice::Podman, _) => None,
    });
    let platforms: BTreeSet<_> = executing
        .iter()
        .filter_map(|position| build.images.get(*position))
        .flat_map(|image| &image.platforms)
        .collect();
    for platform in platforms {
        let about = platform.to_string();
        findings.push(match (elsewhere, emulators.run(platform)) {
            (true, _) => ProbeFinding::unknown(EMULATOR, about, "the builder is on another machine, and may have its own"),
            (false, Some(true)) => ProbeFinding::ok(EMULATOR, about, "runs here"),
            (false, None) => ProbeFinding::unknown(EMULATOR, about, "what is registered with the kernel cannot be seen here, as in most containers"),
            (false, Some(false)) => ProbeFinding::missing(EMULATOR, about, "this machine runs no programs of it").fix(
                "install emulators (Debian: qemu-user-static; elsewhere `docker run --privileged --rm tonistiigi/binfmt --install all`), or \
                 build for fewer platforms",
            ),
        });
    }
    findings
}

fn name(choice: EngineChoice) -> Option<EngineName> {
    match choice {
        EngineChoice::Auto => None,
        EngineChoice::Native => Some(EngineName::Native),
        EngineChoice::Buildx => Some(EngineName::Buildx),
        EngineChoice::Docker => Some(EngineName::Docker),
        EngineChoice::Buildah => Some(EngineName::Buildah),
        EngineChoice::Podman => Some(EngineName::Podman),
    }
}
