//! Base images.

use insta::assert_snapshot;

use super::tests::{image, loaded, told};
use crate::config::EngineChoice;

#[test]
fn images_are_checked() {
    assert_snapshot!(told(&image("type: base\nversion: a b\naliases: [latest, '-x']\ntmpl: ../x\nargs: [a]\nplatform: x")), @r#"
    imglife.yaml:14:7: build.images[0].type: duplicate key, first given in line 12
      remove one of the two
    imglife.yaml:15:16: build.images[0].version: `a b` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    imglife.yaml:16:25: build.images[0].aliases[1]: `-x` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    imglife.yaml:17:7: build.images[0].tmpl: the template lies outside of `folder`
      name a file below `folder`
    imglife.yaml:18:13: build.images[0].args: expected a mapping, found a list
    imglife.yaml:19:7: build.images[0].platform: unknown key
      did you mean `platforms`?
    "#);
    assert_snapshot!(told("build:\n  core_version: ''\n  registry: Registry/x\n  tag_format: ''\n  images:\n    - name: a\n"), @r#"
    imglife.yaml:2:17: build.core_version: expected a tag, found an empty text
    imglife.yaml:3:13: build.registry: `Registry/x` is not a base path: repository names must be lower case
    imglife.yaml:4:15: build.tag_format: expected text, found an empty text
    imglife.yaml:6:7: build.images[0]: `folder` is missing
      add `folder:` with a path
    imglife.yaml:6:7: build.images[0]: `type` is missing
      add `type:` with `core`, `spe` or `spe-dev`
    imglife.yaml:6:7: build.images[0]: `mirror_image` is missing
      add `mirror_image:` with a repository
    "#);
}

#[test]
fn the_name_of_an_image_leads_nowhere_else() {
    for registry in ["ocidir://bases/sub", "registry.example.com/bases"] {
        for name in ["..", "../../esc", "a/../b", "/abs", "a//b", "./a", "a/"] {
            let text = image("").replace(
                "registry: registry.example.com/bases",
                &format!("registry: {registry}"),
            );
            let found = told(&text.replace("name: alpine", &format!("name: '{name}'")));
            assert!(
                found.contains("is no name of an image: a part of it is empty, `.` or `..`"),
                "{registry} {name}: {found}"
            );
        }
    }
}

#[test]
fn the_docker_engine_builds_one_platform() {
    let text = |engine: &str| {
        image("platforms: [linux/amd64, linux/arm64]")
            .replace("  images:", &format!("  engine: {engine}\n  images:"))
    };
    assert_eq!(
        loaded(&text("buildx"), &[]).build.map(|build| build.engine),
        Some(EngineChoice::Buildx)
    );
    assert_snapshot!(told(&text("docker")), @r#"
    imglife.yaml:15:7: build.images[0].platforms: the engine `docker` builds for one platform only
      keep one platform, or set `build.engine` to `buildx`, `buildah` or `auto`
    "#);
}

#[test]
fn what_an_image_is_built_on_must_be_known() {
    loaded(&image(""), &[]);
    let unknown = image("").replace(
        "      mirror_image: registry.example.com/mirrors/alpine",
        "      mirror_image: registry.example.com/mirrors/debian",
    );
    assert_snapshot!(told(&unknown), @r#"
    imglife.yaml:13:21: build.images[0].mirror_image: no sync entry has the target `registry.example.com/mirrors/debian`, and `mirror_tag` is not given
      add `mirror_tag:`, or name the target of a sync entry or another image of this list
    "#);
    loaded(&format!("{unknown}      mirror_tag: '12'\n"), &[]);
    let several =
        image("").replace("build:\n", "    - { source: alpine, target: registry.example.com/mirrors/alpine, tag: '3.20' }\nbuild:\n");
    assert_snapshot!(told(&several), @r#"
    imglife.yaml:14:21: build.images[0].mirror_image: several sync entries have the target `registry.example.com/mirrors/alpine` (lines 4, 6), and `mirror_tag` is not given
      add `mirror_tag:` to say which tag to build on
    "#);
}

#[test]
fn images_built_in_a_circle_or_twice_are_refused() {
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
    assert_snapshot!(told(&build(&[one("a", "b", ""), one("b", "c", ""), one("c", "a", ""), one("d", "a", ""), one("e", "e", "")])), @r#"
    imglife.yaml:7:55: build.images[2].mirror_image: images are built on one another in a circle: `r.example.com/a` on `r.example.com/b` on `r.example.com/c` on `r.example.com/a`
      build one of them on a mirror
    imglife.yaml:9:55: build.images[4].mirror_image: images are built on one another in a circle: `r.example.com/e` on `r.example.com/e`
      build one of them on a mirror
    "#);
    assert_snapshot!(told(&build(&[one("a", "x", ", mirror_tag: 1"), one("a", "x", ", mirror_tag: 2, version: '1'")])), @r#"
    imglife.yaml:6:15: build.images[1].name: the image `a` in version `1` is already listed in line 5
      give the two different values of `version`
    "#);
}

#[test]
fn what_no_build_could_do_is_told_with_the_configuration() {
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
        let told = told(&text(
            &format!("  engine: {engine}\n  sbom: true\n"),
            &image("1", ", provenance: max"),
        ));
        let expected = [
            "5:3: build.sbom: the engine",
            "7:85: build.images[0].provenance: the engine",
        ];
        expected
            .iter()
            .for_each(|part| assert!(told.contains(part), "{told}"));
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
    let told_twice = told(&text(
        "",
        &(image("1", ", aliases: [latest]") + &image("2", ", aliases: [latest, '2']")),
    ));
    let expected = "build.images[1].aliases[0]: `latest` is the alias of an image of the same name already, in line 5\n";
    assert!(told_twice.contains(expected), "{told_twice}");
    for (format, problem) in [
        ("{{ versio }}", "there is no variable `versio`"),
        ("{{ version", "syntax error"),
    ] {
        let told = told(&text(
            &format!("  tag_format: '{format}'\n"),
            &image("1", ""),
        ));
        assert!(
            told.starts_with("imglife.yaml:4:3: build.tag_format: ") && told.contains(problem),
            "{told}"
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
