//! The tool's image, built by the project's own script from what this machine has.

use std::fs;

use imglife::model::Reference;
use serde_json::Value;

use super::runner::copy;
use crate::registries::client;
use crate::support::containers::prepared;
use crate::support::kit::project;
use crate::support::registry::Registry;
use crate::support::rootfs::debian_image_with_git;
use crate::support::world::World;

fn architecture() -> &'static str {
    if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "amd64"
    }
}

#[tokio::test]
async fn the_image_has_the_program_and_git_for_root_and_others() {
    use imglife::registry::ImageSource as _;

    let registry = Registry::plain();
    let graph = debian_image_with_git();
    graph
        .publish(&client(&registry), &registry.repository("library/debian"))
        .await;
    let base = format!("{}/library/debian:{}", registry.host(), graph.tags[0].0);
    let world = prepared(World::new(), &registry.host())
        .variable("BASE_IMAGE", &base)
        .variable("PACKAGES", "ca-certificates git")
        .variable("SOURCE_URL", "https://git.example.com/platform/imglife")
        .variable("BUILDAH_OPTIONS", "--isolation chroot")
        .variable("BUILDAH_PUSH_OPTIONS", "--tls-verify=false");
    copy(&project(".ci"), &world.path("project/.ci"), |text| text);
    for file in ["Dockerfile", ".dockerignore"] {
        fs::copy(project(file), world.path("project").join(file)).expect("a copied file");
    }
    let architecture = architecture();
    fs::create_dir(world.path("project/dist")).expect("a new directory");
    // Without what debuggers read, which is most of it.
    let program = world.path(&format!("project/dist/imglife-linux-{architecture}"));
    world
        .shell(&format!(
            "strip -o {} {}",
            program.display(),
            env!("CARGO_BIN_EXE_imglife")
        ))
        .succeeds();
    let image = registry.repository("platform/imglife");
    world
        .shell(&format!(
            "project/.ci/release image 1.2.3 {image} {architecture}"
        ))
        .succeeds();
    world
        .shell(&format!("project/.ci/release image 1.2.3 {image} s390x"))
        .exits(1);

    // A base, what is installed, the program.
    let places = client(&registry);
    let tag = Reference::Tag("1.2.3".parse().expect("a tag"));
    let index = places
        .manifest(&image, &tag)
        .await
        .expect("a manifest")
        .expect("an image");
    let index: Value = serde_json::from_slice(&index.bytes).expect("JSON");
    let digest = index["manifests"][0]["digest"]
        .as_str()
        .expect("an index")
        .parse()
        .expect("a digest");
    let manifest = places
        .manifest(&image, &Reference::Digest(digest))
        .await
        .expect("a manifest")
        .expect("an image");
    let manifest: Value = serde_json::from_slice(&manifest.bytes).expect("JSON");
    assert!(
        manifest["layers"].as_array().expect("layers").len() <= 4,
        "{manifest}"
    );

    let inside = "imglife --version && git --version && test -s /etc/ssl/certs/ca-certificates.crt && test -w \"$HOME\" && id -u";
    let container = world
        .shell(&format!("buildah from {image}:1.2.3"))
        .succeeds()
        .stdout;
    let container = container.trim();
    for (user, id) in [("root", "0"), ("imglife", "1000")] {
        let run =
            format!("buildah run --isolation chroot --user {user} {container} -- sh -c '{inside}'");
        let said = world.shell(&run).succeeds().stdout;
        let lines: Vec<&str> = said.lines().collect();
        assert!(
            lines[0].starts_with("imglife ")
                && lines[1].starts_with("git version ")
                && lines[2] == id,
            "{said}"
        );
    }
    let labels = world
        .shell(&format!(
            "buildah inspect --format '{{{{.OCIv1.Config.Labels}}}}' {container}"
        ))
        .succeeds()
        .stdout;
    for label in [
        "version:1.2.3",
        "source:https://git.example.com/platform/imglife",
        "title:imglife",
        "licenses:Apache-2.0",
    ] {
        assert!(
            labels.contains(&format!("org.opencontainers.image.{label}")),
            "{labels}"
        );
    }
}
