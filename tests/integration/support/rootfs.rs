//! A realistic image: the essential packages of Debian, installed by `mmdebstrap` from the mirror
//! that this machine uses.
//!
//! Building it takes about half a minute. The layer is cached below the target directory.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use imglife::model::Digest;
use imglife::model::media_type;
use serde_json::json;

use super::images::Graph;

/// Version of the cached layers. Increase it to build them again.
const EDITION: u32 = 1;

/// Returns an image of a Debian root file system, tagged with the name of the release.
pub(crate) fn debian_image() -> Graph {
    static LAYER: OnceLock<(String, Bytes)> = OnceLock::new();
    let (suite, layer) = LAYER.get_or_init(|| {
        let suite = suite();
        let file =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rootfs-{suite}-{EDITION}.tar.gz"));
        if !file.exists() {
            make_layer(&suite, &file, &["--variant=essential"]);
        }
        (suite, fs::read(&file).expect("a layer").into())
    });
    image_of(suite, layer.clone())
}

/// Returns an image of Debian with its package manager and git. It has no package sources, so
/// nothing else can be installed and no mirror is contacted.
pub(crate) fn debian_image_with_git() -> Graph {
    let suite = suite();
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rootfs-git-{suite}-{EDITION}.tar.gz"));
    if !file.exists() {
        let without_sources =
            "--customize-hook=rm -rf \"$1\"/etc/apt/sources.list \"$1\"/etc/apt/sources.list.d/*";
        let without_pages = ["doc", "locale", "man"]
            .map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*"));
        let [doc, locale, man] = &without_pages;
        make_layer(
            &suite,
            &file,
            &[
                "--variant=apt",
                "--include=ca-certificates,git",
                doc,
                locale,
                man,
                without_sources,
            ],
        );
    }
    image_of(&suite, fs::read(&file).expect("a layer").into())
}

/// Returns an image of Debian with a shell, `sleep` and their libraries only, for tests that unpack
/// it many times.
pub(crate) fn small_debian_image() -> Graph {
    static LAYER: OnceLock<(String, Bytes)> = OnceLock::new();
    let (suite, layer) = LAYER.get_or_init(|| {
        let graph = debian_image();
        let layer = graph
            .blobs
            .iter()
            .find(|blob| blob.descriptor.media_type == media_type::OCI_LAYER_GZIP)
            .expect("a layer");
        (
            graph.tags[0].0.to_string(),
            only_a_shell(&unpacked(&layer.bytes)).into(),
        )
    });
    image_of(suite, layer.clone())
}

fn only_a_shell(tar: &[u8]) -> Vec<u8> {
    let mut archive = tar::Archive::new(tar);
    let mut small = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for entry in archive.entries().expect("a tar file") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_program =
            ["sh", "dash", "sleep", "libc.so.6"].contains(&name) || name.starts_with("ld-linux");
        let is_top = path.components().count() <= 2 && !entry.header().entry_type().is_file();
        if is_program
            || is_top
            || path.ends_with("usr/bin")
            || path.parent().is_some_and(|parent| parent.ends_with("usr"))
        {
            let mut header = entry.header().clone();
            match entry
                .link_name()
                .expect("a name")
                .map(|target| target.into_owned())
            {
                Some(target) => small
                    .append_link(&mut header, &path, target)
                    .expect("a written link"),
                None => small
                    .append_data(&mut header, &path, &mut entry)
                    .expect("a written entry"),
            }
        }
    }
    small
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("a packed file")
}

fn image_of(suite: &str, layer: Bytes) -> Graph {
    let mut graph = Graph::default();
    let config = json!({
        "os": "linux", "architecture": architecture(),
        "config": { "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&unpacked(&layer))] },
    });
    let config = graph.blob(media_type::OCI_CONFIG, config.to_string());
    let layer = graph.blob(media_type::OCI_LAYER_GZIP, layer);
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer] });
    let image = graph.manifest(media_type::OCI_MANIFEST, &manifest);
    graph.tag(suite, &image);
    graph
}

fn unpacked(layer: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(layer)
        .read_to_end(&mut tar)
        .expect("a gzip file");
    tar
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the code name of this machine's Debian release.
fn suite() -> String {
    let release = fs::read_to_string("/etc/os-release").expect("the file that names the release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.expect("a release with a name")
        .trim_matches('"')
        .to_owned()
}

/// Writes the layer to `file`. The file appears when it is complete, because another run may build
/// it at the same time.
fn make_layer(suite: &str, file: &Path, options: &[&str]) {
    let directory = file.parent().expect("a parent");
    let scratch = tempfile::Builder::new()
        .prefix("rootfs-")
        .tempdir_in(directory)
        .expect("a temporary directory");
    let tar = scratch.path().join("rootfs.tar");
    let run = Command::new("mmdebstrap")
        .args(["--quiet", "--format=tar"])
        .args(options)
        .arg(suite)
        .arg(&tar)
        .args(sources(suite))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .env("LC_ALL", "C.UTF-8")
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "`mmdebstrap` is not installed: run `make setup`, or install the Debian package mmdebstrap"
            )
        }
        Err(error) => panic!("`mmdebstrap` cannot be started: {error}"),
    };
    assert!(
        output.status.success(),
        "mmdebstrap failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let packed = scratch.path().join("rootfs.tar.gz");
    let mut encoder = GzEncoder::new(
        File::create(&packed).expect("a new file"),
        Compression::fast(),
    );
    std::io::copy(&mut File::open(&tar).expect("a tar file"), &mut encoder).expect("a packed file");
    encoder
        .finish()
        .and_then(|mut written| written.flush())
        .expect("a packed file");
    fs::rename(packed, file).expect("a named file");
}

/// Returns this machine's package source files that offer `suite`. Others would install third-party
/// packages.
fn sources(suite: &str) -> Vec<PathBuf> {
    let more = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = more
        .chain([PathBuf::from("/etc/apt/sources.list")])
        .collect();
    files.sort();
    files.retain(|file| {
        matches!(
            file.extension().and_then(|extension| extension.to_str()),
            Some("list" | "sources")
        ) && fs::read_to_string(file).is_ok_and(|text| offers(&text, suite))
    });
    assert!(
        !files.is_empty(),
        "no file below /etc/apt offers {suite}: cannot build a root file system"
    );
    files
}

/// Returns true if a line that is not a comment contains the suite as a word.
fn offers(text: &str, suite: &str) -> bool {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .any(|line| line.split_whitespace().any(|word| word == suite))
}

#[test]
fn debian_image_contains_a_shell_and_has_the_right_diff_id() {
    let graph = debian_image();
    let [config, layer] = graph.blobs.as_slice() else {
        panic!("two blobs")
    };
    let tar = unpacked(&layer.bytes);
    let config: serde_json::Value = serde_json::from_slice(&config.bytes).expect("JSON");
    assert_eq!(config["rootfs"]["diff_ids"], json!([Digest::sha256(&tar)]));
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut entries = archive
        .entries()
        .expect("a tar file")
        .map(|entry| entry.expect("an entry"));
    assert!(entries.any(|entry| entry.path().is_ok_and(|path| path.ends_with("bin/dash"))));
    assert!(layer.descriptor.size > 10_000_000);
}

#[test]
fn sources_of_other_suites_are_ignored() {
    assert!(offers(
        "Types: deb\nSuites: bookworm bookworm-updates\n",
        "bookworm"
    ));
    assert!(offers("deb mirror bookworm main\n", "bookworm"));
    assert!(!offers(
        "# deb mirror bookworm main\nSuites: nodistro bookworm-security\n",
        "bookworm"
    ));
}
