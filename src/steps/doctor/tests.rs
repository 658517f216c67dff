use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::{Config, SourceText};
use crate::engines::{Emulators, EngineError, EngineName};
use crate::model::Variables;
use crate::probe::{ProbeFinding, ProbeState, RequiredAccess};

fn config(yaml: &str) -> Config {
    let source = SourceText {
        name: "imglife.yaml".to_owned(),
        text: yaml.to_owned(),
    };
    crate::config::load(&source, Path::new("/"), &Variables::default()).expect("a configuration")
}

const EVERYTHING: &str = "
sync:
  entries:
    - { source: alpine, target: r.example/mirror/alpine, tag_regex: '3.*', min_age: 3d }
    - { source: quay.io/org/tool, target: 'ocidir://tool', tag: '1', referrers: false }
build:
  registry: r.example/bases
  core_version: '1'
  images:
    - { name: alpine, folder: a, type: core, mirror_image: r.example/mirror/alpine }
    - { name: tool, folder: b, type: core, mirror_image: other.example/tool, mirror_tag: '1' }
retention: { keep_last: 2, archive: { enabled: true, registry: archive.example/old } }
";

#[test]
fn needs_combine_every_use_of_a_repository() {
    let needs = needs(&config(EVERYTHING));
    let of = |host: &str, path: &str| {
        let host = needs
            .hosts
            .iter()
            .find(|(known, _)| known.as_str() == host)
            .expect("the host")
            .1;
        *host
            .iter()
            .find(|(known, _)| known.as_str() == path)
            .unwrap_or_else(|| panic!("no {path} in {host:?}"))
            .1
    };
    let nothing = RequiredAccess::default();
    assert_eq!(
        of("docker.io", "library/alpine"),
        RequiredAccess {
            source: true,
            referrers: true,
            ..nothing
        }
    );
    // The source of a build that an earlier sync creates.
    assert_eq!(
        of("r.example", "mirror/alpine"),
        RequiredAccess {
            push: true,
            delete: true,
            referrers: true,
            ..nothing
        }
    );
    assert_eq!(
        of("r.example", "bases/tool"),
        RequiredAccess {
            push: true,
            delete: true,
            ..nothing
        }
    );
    assert_eq!(
        of("other.example", "tool"),
        RequiredAccess {
            source: true,
            ..nothing
        }
    );
    assert_eq!(
        of("archive.example", "old/bases/alpine"),
        RequiredAccess {
            push: true,
            delete: true,
            ..nothing
        }
    );
    assert_eq!(
        needs
            .layouts
            .iter()
            .map(|(_, access)| *access)
            .collect::<Vec<_>>(),
        [RequiredAccess {
            push: true,
            delete: true,
            ..nothing
        }]
    );
    assert_eq!(
        needs
            .dated
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["library/alpine"]
    );
    let without = EVERYTHING.split("retention:").next().expect("text");
    assert!(
        !super::needs(&config(without))
            .hosts
            .values()
            .flat_map(|host| host.values())
            .any(|access| access.delete)
    );
}

fn engine_findings(choice: &str, executing: &[usize], usable: &[EngineName]) -> Vec<ProbeFinding> {
    let config = config(&EVERYTHING.replace(
        "  core_version",
        &format!("  engine: {choice}\n  core_version"),
    ));
    let detected: Vec<DetectedEngine> = [EngineName::Native]
        .into_iter()
        .chain(EngineName::PROGRAMS)
        .map(|name| {
            let is_usable = name == EngineName::Native || usable.contains(&name);
            let version = if is_usable {
                Ok("1".to_owned())
            } else {
                Err(EngineError::new(name, "not installed").hint("install it"))
            };
            DetectedEngine { name, version }
        })
        .collect();
    engines(
        config.build.as_ref(),
        &detected,
        &executing.iter().copied().collect::<BTreeSet<_>>(),
        &Emulators::detect(),
        true,
    )
}

#[test]
fn engine_is_needed_only_for_images_that_native_does_not_support() {
    let problems = |findings: &[ProbeFinding]| {
        findings
            .iter()
            .filter(|finding| finding.is_problem())
            .map(|finding| finding.check)
            .collect::<Vec<_>>()
    };
    let choice = |findings: &[ProbeFinding]| {
        findings
            .iter()
            .find(|finding| finding.check == "engine.choice")
            .map(|finding| finding.detail.clone())
    };
    let native = engine_findings("auto", &[], &[]);
    assert_eq!(
        (problems(&native).len(), choice(&native).as_deref()),
        (0, Some("auto: native for alpine, tool"))
    );
    let mixed = engine_findings("auto", &[1], &[EngineName::Podman, EngineName::Buildah]);
    assert_eq!(
        (problems(&mixed).len(), choice(&mixed).as_deref()),
        (0, Some("auto: buildah for tool, native for alpine"))
    );
    assert_eq!(
        problems(&engine_findings("auto", &[1], &[])),
        ["engine.choice"]
    );
    assert_eq!(
        problems(&engine_findings("native", &[1], &[EngineName::Buildah])),
        ["engine.choice"]
    );
    assert_eq!(
        problems(&engine_findings("podman", &[], &[EngineName::Buildah])),
        ["engine.available"]
    );
    let elsewhere = engine_findings("auto", &[0], &[EngineName::Buildx]);
    assert!(
        elsewhere
            .iter()
            .any(|finding| finding.check == "engine.emulator"
                && finding.state == ProbeState::Unknown)
    );
}

#[test]
fn run_stages_and_attestations_need_an_engine() {
    let config = config(EVERYTHING);
    let mut image = config.build.expect("a build").images.remove(0);
    for (template, expected) in [
        ("FROM {{ base }}\nCOPY a /b\n", false),
        ("FROM {{ base }}\n  run true\n", true),
        ("FROM x AS y\nFROM {{ base }}\n", true),
        ("FROM {{ base }}\n# RUN true\nENV RUN=1\n", false),
    ] {
        assert_eq!(executes(&image, template), expected, "{template}");
    }
    image.sbom = true;
    assert!(executes(&image, "FROM {{ base }}"));
}
