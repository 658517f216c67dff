//! Findings about the engines and emulators of a machine, for the images of a configuration.

use std::collections::BTreeSet;

use crate::config::{BuildConfig, BuildImage, EngineChoice, ProvenanceMode};
use crate::engines::{Emulators, EngineError, EngineName};
use crate::probe::ProbeFinding;

const AVAILABLE: &str = "engine.available";
const CHOICE: &str = "engine.choice";
const EMULATOR: &str = "engine.emulator";

/// An engine with its version, or the reason why it cannot be used.
pub struct DetectedEngine {
    pub name: EngineName,
    pub version: Result<String, EngineError>,
}

/// Returns true if an image needs an engine that runs programs: its template has `RUN` or several
/// stages, or attestations are configured.
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

/// Returns the findings about engines and emulators.
///
/// `executing` has the positions of the images that need an engine which runs programs. With
/// `is_remote` these run on another machine, whose emulators cannot be checked.
pub fn engines(
    build: Option<&BuildConfig>,
    detected: &[DetectedEngine],
    executing: &BTreeSet<usize>,
    emulators: &Emulators,
    is_remote: bool,
) -> Vec<ProbeFinding> {
    let named = build.and_then(|build| name(build.engine));
    let usable = |name: EngineName| {
        detected
            .iter()
            .any(|engine| engine.name == name && engine.version.is_ok())
    };
    let program = EngineName::PROGRAMS.into_iter().find(|name| usable(*name));
    let mut findings: Vec<ProbeFinding> = detected
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
                format!("auto finds no engine for {executed}, which needs one for `RUN`, several stages or attestations"),
            )
            .fix("install buildah, podman, or docker with buildx; templates without these need no engine (native)"),
        ),
        (EngineChoice::Native, _) if !executed.is_empty() => Some(
            ProbeFinding::wrong(
                CHOICE,
                "",
                format!("native does not support `RUN`, several stages or attestations, which {executed} needs"),
            )
            .fix("set `build.engine: auto`, or remove these from the template"),
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
        findings.push(match (is_remote, emulators.supports(platform)) {
            (true, _) => ProbeFinding::unknown(EMULATOR, about, "the builder is on another machine, whose emulators cannot be checked"),
            (false, Some(true)) => ProbeFinding::ok(EMULATOR, about, "runs here"),
            (false, None) => ProbeFinding::unknown(EMULATOR, about, "the emulators registered with the kernel cannot be read, as in most containers"),
            (false, Some(false)) => ProbeFinding::missing(EMULATOR, about, "no emulator is installed").fix(
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
