//! The same files built by buildah: the same tree, file by file, and the same configuration.

use std::os::unix::fs::symlink;

use flate2::Compression;

use super::*;

/// Builds with buildah and returns what is in its image.
async fn buildah(place: &Place, dockerfile: &str) -> images::Read {
    assert!(
        has_program("buildah"),
        "`buildah` is not installed: run `make setup`, or install the Debian package buildah"
    );
    let base = format!("{}:1", place.registry.repository("mirrors/base"));
    let target = place.registry.repository("bases/by-buildah");
    fs::write(
        place.world.path("Dockerfile"),
        dockerfile.replace("FROM base", &format!("FROM {base}")),
    )
    .expect("a file");
    fs::write(
        place.world.path("policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .expect("a policy");
    let work = place.world.path("");
    let storage = format!(
        "--root {0}/storage --runroot {0}/run --storage-driver vfs",
        work.display()
    );
    place
        .world
        .shell(&format!(
            "buildah {storage} bud --isolation chroot --tls-verify=false --signature-policy policy.json --layers=false \
             --build-arg 'GIVEN=by argument' --label from=request --format oci --timestamp 1772600767 -t app -f Dockerfile folder && \
             buildah {storage} push --tls-verify=false --signature-policy policy.json app docker://{target}:1"
        ))
        .succeeds();
    read(
        place.stores.of(&target),
        &target,
        &Reference::Tag("1".parse().expect("a tag")),
        "linux/amd64",
    )
    .await
}

/// Returns what differs between two images, a line each.
fn differences(native: &images::Read, other: &images::Read) -> Vec<String> {
    let mut lines = Vec::new();
    let paths: std::collections::BTreeSet<&String> =
        native.files.keys().chain(other.files.keys()).collect();
    // Unlike docker's BuildKit and this engine, buildah takes these bits from the files of `COPY`.
    let without_bits = |seen: &images::Seen| match seen.kind {
        'f' => images::Seen {
            mode: seen.mode & !0o6000,
            ..seen.clone()
        },
        _ => seen.clone(),
    };
    for path in paths {
        let (one, two) = (
            native.files.get(path).map(without_bits),
            other.files.get(path).map(without_bits),
        );
        if one != two {
            lines.push(format!("{path:?}: native {one:?}, buildah {two:?}"));
        }
    }
    for key in [
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Labels",
    ] {
        let (one, mut two) = (
            native.config["config"][key].clone(),
            other.config["config"][key].clone(),
        );
        if let Some(labels) = two.as_object_mut().filter(|_| key == "Labels") {
            labels.remove("io.buildah.version");
        }
        if one != two && (says(&one) || says(&two)) {
            lines.push(format!("{key}: native {one}, buildah {two}"));
        }
    }
    lines
}

async fn same_as_buildah(place: &Place, instructions: &str) {
    let dockerfile = format!("FROM base\n{instructions}\n");
    let built = place.built(&dockerfile, &["linux/amd64"]).await;
    let repository = place.registry.repository("bases/app");
    let native = read(
        place.stores.of(&repository),
        &repository,
        &Reference::Digest(built.digest),
        "linux/amd64",
    )
    .await;
    let differences = differences(&native, &buildah(place, &dockerfile).await);
    assert!(differences.is_empty(), "{instructions}\n{differences:#?}");
}

fn archive() -> Vec<u8> {
    let tar = images::layer(&[
        ("opt", 'd', 0o755, 0, ""),
        ("opt/tool", 'd', 0o750, 5, ""),
        ("opt/tool/run", 'f', 0o4711, 5, "run"),
        ("opt/tool/link", 'l', 0o777, 5, "../../etc/passwd"),
    ]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, &tar).expect("gzip");
    encoder.finish().expect("gzip")
}

async fn place() -> Place {
    let place = Place::new(Registry::plain(), &base(&["linux/amd64"])).await;
    for (path, mode) in [
        ("one.txt", 0o644),
        ("two.txt", 0o600),
        ("three.md", 0o755),
        ("tool", 0o4755),
        ("dir/a", 0o640),
        ("dir/sub/b", 0o444),
        ("dir/sub/deep/c", 0o755),
        ("skip/no.log", 0o644),
        ("skip/keep.log", 0o644),
        ("skip/deep/x.tmp", 0o644),
        ("odd name\n", 0o644),
        ("[x]", 0o644),
    ] {
        place.file(path, mode, path);
    }
    symlink("sub/b", place.world.path("folder/dir/inside")).expect("a link");
    symlink(
        "/usr/share/absolute",
        place.world.path("folder/dir/absolute"),
    )
    .expect("a link");
    fs::create_dir(place.world.path("folder/dir/empty")).expect("a directory");
    fs::set_permissions(
        place.world.path("folder/dir/empty"),
        fs::Permissions::from_mode(0o1777),
    )
    .expect("a mode");
    place.file("tool.tar.gz", 0o644, archive());
    place.file(
        ".dockerignore",
        0o644,
        "# comment\n*.md\nskip\n!skip/keep.log\n**/*.tmp\n",
    );
    place
}

#[tokio::test]
async fn files_directories_and_patterns_come_to_the_same_places() {
    let place = place().await;
    same_as_buildah(
        &place,
        "COPY one.txt /one\nCOPY one.txt two.txt /several/\nCOPY *.txt /globbed/\nCOPY tool /bin/\nCOPY tool /bin/renamed\n\
         COPY one.txt /srv/\nCOPY dir /as-dir\nCOPY dir/ /etc/\nCOPY dir/sub /x/y/z/\nCOPY skip /kept/\nCOPY . /whole/\n\
         WORKDIR /home/app\nCOPY dir/inside ./\nCOPY dir .\nCOPY one.txt new\nCOPY two.txt /\nCOPY d?r/[a-b] tool /mixed/\nCOPY [\"one.txt\", \"/json form/\"]",
    )
    .await;
}

#[tokio::test]
async fn owners_modes_and_archives_are_the_same() {
    let place = place().await;
    same_as_buildah(
        &place,
        "COPY --chown=app:staff one.txt /owned/one\nCOPY --chown=app dir /owned/dir\nCOPY --chown=7:8 two.txt /\n\
         COPY --chmod=751 dir/a /moded\nADD tool.tar.gz /unpacked/\nADD tool.tar.gz /\nADD one.txt /added/",
    )
    .await;
}

#[tokio::test]
async fn settings_are_the_same() {
    let place = place().await;
    same_as_buildah(
        &place,
        "ARG GIVEN\nARG DEFAULT=\"a b\"\nENV A=$GIVEN B=${DEFAULT} C=\"${NOT:-x$BASE}\" D='$A' E=a\\ b\nENV F=${A:+set}$PATH\nENV old style $B\n\
         LABEL one=\"$A\" two=2\nWORKDIR /job/$D\nWORKDIR sub\nUSER app:staff\nEXPOSE 80 53/udp\nVOLUME [\"/data\", \"/more\"]\n\
         STOPSIGNAL SIGINT\nENTRYPOINT [\"/bin/tool\", \"$A\"]\nCMD one \\\n  two",
    )
    .await;
}

#[tokio::test]
async fn what_is_written_for_other_builders_is_built_by_them() {
    let place = place().await;
    let host = place.registry.host();
    place.file(
        "Dockerfile.tmpl",
        0o644,
        "FROM {{ base }}\nARG WHO\nCOPY dir/ /srv/\nENV WHO=$WHO\n",
    );
    fs::write(
        place.world.path("imglife.yaml"),
        format!(
            "registry: {{ provider: file, insecure_registries: [{host:?}] }}\nbuild:\n  core_version: 1.0.0\n  registry: {host}/bases\n  images:\n    \
             - {{ name: app, folder: folder, type: core, mirror_image: {host}/mirrors/base, mirror_tag: '1', args: {{ WHO: us }} }}\n"
        ),
    )
    .expect("a file");
    place
        .world
        .imglife(["build", "--output-dir", "contexts"])
        .succeeds();
    assert!(
        place.registry.stored_tags("bases/app").is_empty(),
        "nothing is built"
    );
    let description: Value = serde_json::from_slice(
        &fs::read(place.world.path("contexts/app/build.json")).expect("a description"),
    )
    .expect("JSON");
    let storage = format!(
        "--root {0}/storage --runroot {0}/run --storage-driver vfs",
        place.world.path("").display()
    );
    fs::write(
        place.world.path("policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .expect("a policy");
    let (tag, inputs) = (
        description["tag"].as_str().expect("a tag"),
        description["inputs"].as_str().expect("a digest"),
    );
    place
        .world
        .shell(&format!(
            "buildah {storage} bud --isolation chroot --tls-verify=false --signature-policy policy.json --build-arg WHO=us \
             --label imglife.inputs={inputs} -t app contexts/app && \
             buildah {storage} push --tls-verify=false --signature-policy policy.json app docker://{tag}"
        ))
        .succeeds();
    let built = read(
        place.stores.of(&place.registry.repository("bases/app")),
        &place.registry.repository("bases/app"),
        &Reference::Tag("1-core1.0.0".parse().expect("a tag")),
        "linux/amd64",
    )
    .await;
    assert!(
        built.files.contains_key("srv/sub")
            || built.files.keys().any(|path| path.ends_with("srv/sub")),
        "{:?}",
        built.files.keys()
    );
    let bake: Value = serde_json::from_slice(
        &fs::read(place.world.path("contexts/docker-bake.json")).expect("a bake file"),
    )
    .expect("JSON");
    assert_eq!(bake["target"]["app"]["tags"][0], tag);
}
