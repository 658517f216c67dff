//! Tests of `build`.

use insta::assert_snapshot;

use super::tests::{findings_of, image, loaded};
use crate::config::EngineChoice;

#[test]
fn images_with_errors_are_reported() {
    assert_snapshot!(findings_of(&image("type: base\nversion: a b\naliases: [latest, '-x']\ntmpl: ../x\nargs: [a]\nplatform: x")), @r#"
    imglife.yaml:14:7: build.images[0].type: duplicate key, first set in line 12
      remove one of the two
    imglife.yaml:15:16: build.images[0].version: `a b` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    imglife.yaml:16:25: build.images[0].aliases[1]: `-x` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    imglife.yaml:17:7: build.images[0].tmpl: the template is outside of `folder`
      set a path inside of `folder`
    imglife.yaml:18:13: build.images[0].args: expected a mapping, found a list
    imglife.yaml:19:7: build.images[0].platform: unknown key
      did you mean `platforms`?
    "#);
    assert_snapshot!(findings_of("build:\n  core_version: ''\n  registry: Registry/x\n  tag_format: ''\n  images:\n    - name: a\n"), @r#"
    imglife.yaml:2:17: build.core_version: expected a tag, found an empty string
    imglife.yaml:3:13: build.registry: `Registry/x` is not a base path: repository names must be lower case
    imglife.yaml:4:15: build.tag_format: expected a string, found an empty string
    imglife.yaml:6:7: build.images[0]: `folder` is missing
      add `folder:` with a path
    imglife.yaml:6:7: build.images[0]: `type` is missing
      add `type:` with `core`, `spe` or `spe-dev`
    imglife.yaml:6:7: build.images[0]: `mirror_image` is missing
      add `mirror_image:` with a repository
    "#);
}

#[test]
fn image_names_cannot_leave_the_base_path() {
    for registry in ["ocidir://bases/sub", "registry.example.com/bases"] {
        for name in ["..", "../../esc", "a/../b", "/abs", "a//b", "./a", "a/"] {
            let text = image("").replace(
                "registry: registry.example.com/bases",
                &format!("registry: {registry}"),
            );
            let found = findings_of(&text.replace("name: alpine", &format!("name: '{name}'")));
            assert!(
                found.contains("is not an image name: a path component is empty, `.` or `..`"),
                "{registry} {name}: {found}"
            );
        }
    }
}

#[test]
fn docker_engine_rejects_several_platforms() {
    let text = |engine: &str| {
        image("platforms: [linux/amd64, linux/arm64]")
            .replace("  images:", &format!("  engine: {engine}\n  images:"))
    };
    assert_eq!(
        loaded(&text("buildx"), &[]).build.map(|build| build.engine),
        Some(EngineChoice::Buildx)
    );
    assert_snapshot!(findings_of(&text("docker")), @r#"
    imglife.yaml:15:7: build.images[0].platforms: the engine `docker` builds for only one platform
      keep one platform, or set `build.engine` to `buildx`, `buildah` or `auto`
    "#);
}

#[test]
fn images_without_a_single_mirror_need_a_mirror_tag() {
    loaded(&image(""), &[]);
    let unknown = image("").replace(
        "      mirror_image: registry.example.com/mirrors/alpine",
        "      mirror_image: registry.example.com/mirrors/debian",
    );
    assert_snapshot!(findings_of(&unknown), @r#"
    imglife.yaml:13:21: build.images[0].mirror_image: no sync entry has the target `registry.example.com/mirrors/debian`, and `mirror_tag` is not set
      add `mirror_tag:`, or set `mirror_image` to the target of a sync entry or to another image in this list
    "#);
    loaded(&format!("{unknown}      mirror_tag: '12'\n"), &[]);
    let several =
        image("").replace("build:\n", "    - { source: alpine, target: registry.example.com/mirrors/alpine, tag: '3.20' }\nbuild:\n");
    assert_snapshot!(findings_of(&several), @r#"
    imglife.yaml:14:21: build.images[0].mirror_image: several sync entries have the target `registry.example.com/mirrors/alpine` (lines 4, 6), and `mirror_tag` is not set
      add `mirror_tag:` with the tag to build from
    "#);
}

#[test]
fn image_cycles_and_duplicates_are_reported() {
    let one = |name: &str, on: &str, more: &str| {
        format!(
            "    - {{ name: {name}, folder: f, type: core, mirror_image: 'r.example.com/{on}'{more} }}\n"
        )
    };
    let build = |images: &[String]| {
        format!(
            "build:\n  core_version: 1\n  registry: r.example.com/\n  images:\n{}",
            images.concat()
        )
    };
    loaded(
        &build(&[
            one("a", "b", ""),
            one("b", "x", ", mirror_tag: 1"),
            one("c", "b", ""),
            one("b", "x", ", mirror_tag: 2"),
        ]),
        &[],
    );
    assert_snapshot!(findings_of(&build(&[one("a", "b", ""), one("b", "c", ""), one("c", "a", ""), one("d", "a", ""), one("e", "e", "")])), @r#"
    imglife.yaml:7:55: build.images[2].mirror_image: the images are built on each other in a cycle: `r.example.com/a` on `r.example.com/b` on `r.example.com/c` on `r.example.com/a`
      set the `mirror_image` of one of them to a mirror
    imglife.yaml:9:55: build.images[4].mirror_image: the images are built on each other in a cycle: `r.example.com/e` on `r.example.com/e`
      set the `mirror_image` of one of them to a mirror
    "#);
    assert_snapshot!(findings_of(&build(&[one("a", "x", ", mirror_tag: 1"), one("a", "x", ", mirror_tag: 2, version: '1'")])), @r#"
    imglife.yaml:6:15: build.images[1].name: the image `a` with version `1` is already listed in line 5
      set a different `version` for one of them
    "#);
}

#[test]
fn unsupported_build_settings_are_reported() {
    let text = |section: &str, images: &str| {
        format!(
            "build:\n  core_version: 1.0.0\n  registry: r.example/bases\n{section}  images:\n{images}"
        )
    };
    let image = |version: &str, rest: &str| {
        format!(
            "    - {{ name: a, folder: f, type: core, mirror_image: m.example/a, mirror_tag: '{version}'{rest} }}\n"
        )
    };
    for engine in ["native", "docker", "buildah", "podman"] {
        let findings = findings_of(&text(
            &format!("  engine: {engine}\n  sbom: true\n"),
            &image("1", ", provenance: max"),
        ));
        let expected = [
            "5:3: build.sbom: the engine",
            "7:85: build.images[0].provenance: the engine",
        ];
        expected
            .iter()
            .for_each(|part| assert!(findings.contains(part), "{findings}"));
    }
    for engine in ["auto", "buildx"] {
        loaded(
            &text(
                &format!("  engine: {engine}\n  sbom: true\n"),
                &image("1", ", provenance: max"),
            ),
            &[],
        );
    }
    loaded(
        &text(
            "  engine: native\n",
            &image("1", ", sbom: false, provenance: false"),
        ),
        &[],
    );
    let findings = findings_of(&text(
        "",
        &(image("1", ", aliases: [latest]") + &image("2", ", aliases: [latest, '2']")),
    ));
    let expected = "build.images[1].aliases[0]: the alias `latest` is already used by an image with the same name in line 5\n";
    assert!(findings.contains(expected), "{findings}");
    for (format, problem) in [
        ("{{ versio }}", "there is no variable `versio`"),
        ("{{ version", "syntax error"),
    ] {
        let findings = findings_of(&text(
            &format!("  tag_format: '{format}'\n"),
            &image("1", ""),
        ));
        assert!(
            findings.starts_with("imglife.yaml:4:3: build.tag_format: ")
                && findings.contains(problem),
            "{findings}"
        );
    }
    for format in [
        "{{ .Version }}-{{ name | upper }}",
        "{{ version.split('.')[2] }}",
        "{% for i in range(2) %}{{ i }}{% endfor %}{{ type }}",
    ] {
        loaded(
            &text(&format!("  tag_format: \"{format}\"\n"), &image("1", "")),
            &[],
        );
    }
}
