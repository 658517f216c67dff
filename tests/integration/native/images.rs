//! Base images to build on, and what is in an image as those see it who run it.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzDecoder;
use futures_util::TryStreamExt;
use imglife::model::media_type;
use imglife::model::{
    Descriptor, Digest, Manifest, ManifestContent, Platform, Reference, Repository,
};
use imglife::registry::ImageSource;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::support::images::Graph;

/// A file as it is in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `d`, `f` or `l`.
    pub(super) kind: char,
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
    /// The content of a file in short, or the target of a link.
    pub(super) content: String,
}

/// What is in an image, and what its configuration says.
pub(super) struct Read {
    pub(super) files: BTreeMap<String, Seen>,
    pub(super) config: Value,
    pub(super) manifest: Manifest,
}

/// Returns a layer of paths with a kind, a mode, an owner, and content or target.
pub(super) fn layer(entries: &[(&str, char, u32, u64, &str)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (path, kind, mode, owner, content) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        match kind {
            'd' => {
                header.set_entry_type(EntryType::Directory);
                archive
                    .append_data(&mut header, format!("{path}/"), &b""[..])
                    .expect("a directory");
            }
            'l' => {
                header.set_entry_type(EntryType::Symlink);
                archive
                    .append_link(&mut header, path, content)
                    .expect("a link");
            }
            _ => {
                header.set_size(content.len() as u64);
                archive
                    .append_data(&mut header, path, content.as_bytes())
                    .expect("a file");
            }
        }
    }
    archive.into_inner().expect("an archive")
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

const USERS: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:100:101:app:/home/app:/bin/sh\n";
const GROUPS: &str = "root:x:0:\napp:x:101:\nstaff:x:50:\n";

/// Returns a base with `/bin` as a link to `/usr/bin`, users and groups, for `platforms`; each has
/// a layer of its own.
pub(crate) fn base(platforms: &[&str]) -> Graph {
    let mut graph = Graph::default();
    let below = layer(&[
        ("bin", 'l', 0o777, 0, "usr/bin"),
        ("etc", 'd', 0o755, 0, ""),
        ("etc/alias", 'l', 0o777, 0, "issue"),
        ("etc/issue", 'f', 0o644, 0, "issue"),
        ("etc/passwd", 'f', 0o644, 0, USERS),
        ("etc/group", 'f', 0o644, 0, GROUPS),
        ("gone", 'd', 0o700, 0, ""),
        ("home", 'd', 0o755, 0, ""),
        ("home/app", 'd', 0o750, 100, ""),
        ("srv", 'l', 0o777, 0, "/var/srv"),
        ("tmp", 'd', 0o1777, 0, ""),
        ("usr", 'd', 0o755, 0, ""),
        ("usr/bin", 'd', 0o755, 0, ""),
        ("usr/bin/sh", 'f', 0o755, 0, "#!"),
        ("var", 'd', 0o755, 0, ""),
        ("var/srv", 'd', 0o711, 7, ""),
    ]);
    let children: Vec<Descriptor> = platforms
        .iter()
        .map(|name| {
            let own = layer(&[(".wh.gone", 'f', 0o644, 0, ""), ("etc", 'd', 0o755, 0, ""), ("etc/platform", 'f', 0o644, 0, name)]);
            let docker_layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
            let layers = [graph.blob(docker_layer, gzip(&below)), graph.blob(docker_layer, gzip(&own))];
            let platform: Platform = name.parse().expect("a platform");
            let mut config = json!(platform);
            config["config"] = json!({
                "Env": ["PATH=/usr/bin:/bin", "BASE=yes"], "Cmd": ["/bin/sh"], "Labels": { "from": "base", "kept": "base" },
            });
            config["rootfs"] = json!({ "type": "layers", "diff_ids": [Digest::sha256(&below), Digest::sha256(&own)] });
            config["history"] = json!([{ "created_by": "below" }, { "created_by": "own" }]);
            let config = graph.blob(media_type::DOCKER_CONFIG, config.to_string());
            let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": layers });
            Descriptor { platform: Some(platform), ..graph.manifest(media_type::DOCKER_MANIFEST, &manifest) }
        })
        .collect();
    let index =
        json!({ "schemaVersion": 2, "mediaType": media_type::DOCKER_LIST, "manifests": children });
    let index = graph.manifest(media_type::DOCKER_LIST, &index);
    graph.tag("1", &index);
    graph
}

/// Returns what a tag or digest holds: of an index, the image for `platform`.
pub(super) async fn read(
    store: &dyn ImageSource,
    repository: &Repository,
    reference: &Reference,
    platform: &str,
) -> Read {
    let root = store
        .manifest(repository, reference)
        .await
        .expect("an answer")
        .expect("a manifest");
    let manifest = match root.children() {
        None => root,
        Some(children) => {
            let wanted: Platform = platform.parse().expect("a platform");
            let child = children.iter().find(|child| {
                child
                    .platform
                    .as_ref()
                    .is_some_and(|platform| platform.matches(&wanted))
            });
            let digest = Reference::Digest(child.expect("a child for the platform").digest.clone());
            store
                .manifest(repository, &digest)
                .await
                .expect("an answer")
                .expect("a manifest")
        }
    };
    let ManifestContent::Image {
        config: Some(config),
        layers,
    } = &manifest.content
    else {
        panic!("no image")
    };
    let config: Value =
        serde_json::from_slice(&blob(store, repository, config).await).expect("JSON");
    let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("layers");
    assert_eq!(diff_ids.len(), layers.len());
    let mut files = BTreeMap::new();
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        let bytes = blob(store, repository, descriptor).await;
        assert_eq!(Digest::sha256(&bytes), descriptor.digest);
        let mut tar = Vec::new();
        match &bytes[..2] {
            [0x1f, 0x8b] => drop(
                GzDecoder::new(&bytes[..])
                    .read_to_end(&mut tar)
                    .expect("gzip"),
            ),
            _ => tar = bytes,
        }
        assert_eq!(
            json!(Digest::sha256(&tar)),
            *diff_id,
            "a layer is what the configuration says"
        );
        apply(&mut files, &tar);
    }
    let history = config["history"].as_array().expect("a history");
    let made = history
        .iter()
        .filter(|entry| entry["empty_layer"] != true)
        .count();
    assert_eq!(
        made,
        layers.len(),
        "the history counts the layers: {history:#?}"
    );
    Read {
        files,
        config,
        manifest,
    }
}

async fn blob(
    store: &dyn ImageSource,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Vec<u8> {
    let stream = store.blob(repository, descriptor, 0).await.expect("a blob");
    stream
        .try_collect::<Vec<_>>()
        .await
        .expect("a whole blob")
        .concat()
}

/// Unpacks a layer on top of files. The names in it must not lead through links.
fn apply(files: &mut BTreeMap<String, Seen>, tar: &[u8]) {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("text");
        let path = path.trim_start_matches("./").trim_matches('/').to_owned();
        if path.is_empty() {
            continue;
        }
        for (end, _) in path.match_indices('/') {
            let parent = files.get(&path[..end]);
            assert!(
                parent.is_none_or(|parent| parent.kind == 'd'),
                "{path} leads through something that is no directory"
            );
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(name) = name.strip_prefix(".wh.") {
            let gone = if parent.is_empty() {
                name.to_owned()
            } else {
                format!("{parent}/{name}")
            };
            files.retain(|path, _| *path != gone && !path.starts_with(&format!("{gone}/")));
            continue;
        }
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode().expect("a mode") & 0o7777;
        let owner = (
            header.uid().expect("a user"),
            header.gid().expect("a group"),
        );
        let link = entry
            .link_name_bytes()
            .map(|target| String::from_utf8_lossy(&target).into_owned());
        let seen = if kind.is_dir() {
            Seen {
                kind: 'd',
                mode,
                owner,
                content: String::new(),
            }
        } else if kind.is_symlink() {
            Seen {
                kind: 'l',
                mode: 0o777,
                owner,
                content: link.expect("a target"),
            }
        } else if kind.is_hard_link() {
            files[link
                .expect("a name")
                .trim_start_matches("./")
                .trim_start_matches('/')]
            .clone()
        } else {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("content");
            let content = if bytes.len() > 60 {
                Digest::sha256(&bytes).to_string()
            } else {
                String::from_utf8_lossy(&bytes).into_owned()
            };
            Seen {
                kind: 'f',
                mode,
                owner,
                content,
            }
        };
        files.insert(path, seen);
    }
}
