use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{TimeZone, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::command::RefusingRunner;
use crate::config::{BuildConfig, Config};
use crate::engines::{BuildOutcome, BuildRequest, Engine as BuildEngine, EngineError, EngineName};
use crate::error::Exit;
use crate::hooks::HookRunner;
use crate::model::media_type;
use crate::model::{
    Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag, Variables,
};
use crate::registry::memory::MemoryStore;
use crate::registry::{ImageSource, ImageStore, InMemory};
use crate::steps::Mode;

mod child_jobs;
mod contexts;

/// An engine that pushes an image with its labels and no layers.
struct LabellingEngine {
    name: EngineName,
    store: Arc<MemoryStore>,
    built: Mutex<Vec<BuildRequest>>,
    fails_for: Option<&'static str>,
}

#[async_trait]
impl BuildEngine for LabellingEngine {
    fn name(&self) -> EngineName {
        self.name
    }

    async fn available(&self) -> Result<String, EngineError> {
        Ok(String::new())
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome, EngineError> {
        if self.name == EngineName::Native && request.arguments.contains_key("TRIGGERS") {
            return Err(EngineError {
                requires_execution: true,
                ..EngineError::new(self.name, "the base has ONBUILD")
            });
        }
        self.built.lock().expect("the lock").push(request.clone());
        if self
            .fails_for
            .is_some_and(|name| request.repository.to_string().ends_with(name))
        {
            return Err(EngineError {
                log: "step 3: no such file".to_owned(),
                ..EngineError::new(self.name, "it ended with 1")
            });
        }
        let content = json!({ "architecture": "amd64", "os": "linux", "config": { "Labels": request.labels }, "text": request.dockerfile });
        let digest = publish(
            &self.store,
            &request.repository,
            request.tag.as_str(),
            &content.to_string(),
        )
        .await;
        Ok(BuildOutcome {
            digest,
            warnings: Vec::new(),
        })
    }
}

/// Pushes an image without layers to `repository` and returns its digest.
async fn publish(store: &MemoryStore, repository: &Repository, tag: &str, content: &str) -> Digest {
    let config = Descriptor::new(
        media_type::OCI_CONFIG,
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    store
        .put_blob(
            repository,
            &config,
            &InMemory(Bytes::from(content.to_owned())),
            None,
        )
        .await
        .expect("a blob");
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [] });
    let manifest = Manifest::parse(Bytes::from(manifest.to_string()), None, Algorithm::Sha256)
        .expect("a manifest");
    let tag: Tag = tag.parse().expect("a tag");
    store
        .put_manifest(repository, &Reference::Tag(tag), &manifest)
        .await
        .expect("an image");
    manifest.digest
}

/// Build folders, an image store with mirrors, and engines.
struct World {
    directory: tempfile::TempDir,
    store: Arc<MemoryStore>,
    engine: Arc<LabellingEngine>,
    /// Engine that can execute RUN.
    program: Option<Arc<LabellingEngine>>,
    /// Time of the build, in seconds since 1970.
    created: i64,
}

const SYNC: &str = "\
sync:
  entries:
    - { source: docker.io/library/alpine, target: r.example/mirrors/alpine, tag_regex: '3\\.\\d+\\.\\d+' }
";

impl World {
    async fn new() -> World {
        World::failing_for(None).await
    }

    async fn failing_for(fails_for: Option<&'static str>) -> World {
        let store = Arc::new(MemoryStore::default());
        let engine = Arc::new(LabellingEngine {
            name: EngineName::Native,
            store: Arc::clone(&store),
            built: Mutex::default(),
            fails_for,
        });
        let world = World {
            directory: tempfile::tempdir().expect("a directory"),
            store,
            engine,
            program: None,
            created: 1_700_000_000,
        };
        world.mirror("3.20.9", "twenty").await;
        world.mirror("3.21.3", "twenty-one").await;
        world.write(
            "images/alpine/Dockerfile.tmpl",
            "FROM {{ base }}\nLABEL made={{ created }} by={{ revision }}\nCOPY motd /etc/motd\n",
        );
        world.write("images/alpine/motd", "hello\n");
        world.write("images/alpine/README.md", "not copied\n");
        world
    }

    async fn mirror(&self, tag: &str, content: &str) -> Digest {
        publish(
            &self.store,
            &repository("mirrors/alpine"),
            tag,
            &json!({ "text": content }).to_string(),
        )
        .await
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn config(&self, build: &str) -> Config {
        let text =
            format!("{SYNC}build:\n  core_version: 1.0.0\n  registry: r.example/bases\n{build}");
        let path = self.directory.path().join("imglife.yaml");
        fs::write(&path, text).expect("a file");
        crate::config::open(Some(&path), &Variables::default(), self.directory.path())
            .expect("a configuration")
    }

    async fn plan(&self, config: &Config, forced: bool) -> (Plan, super::World) {
        let build = config.build.as_ref().expect("the section");
        let world = observe(
            config,
            build,
            &BuildScope::default(),
            &self.store.stores(),
            &*crate::progress::silent(),
        )
        .await;
        (plan(build, &world, forced), world)
    }

    async fn run(&self, config: &Config, mode: Mode, forced: bool) -> BuildReport {
        let (plan, _) = self.plan(config, forced).await;
        let execution = BuildExecution {
            mode,
            stores: self.store.stores(),
            engines: [Some(&self.engine), self.program.as_ref()]
                .into_iter()
                .flatten()
                .map(|engine| engine.clone() as Arc<dyn BuildEngine>)
                .collect(),
            progress: crate::progress::silent(),
            hooks: HookRunner::new(
                Arc::new(RefusingRunner),
                Variables::default(),
                self.directory.path().to_owned(),
            ),
            cancel: CancellationToken::new(),
            run_metadata: self.run_metadata(),
            eol_dates: HashMap::new(),
        };
        execute(
            config.build.as_ref().expect("the section"),
            &plan,
            &execution,
        )
        .await
    }

    fn run_metadata(&self) -> RunMetadata {
        let created = Utc.timestamp_opt(self.created, 0).single().expect("a time");
        RunMetadata {
            created,
            revision: Some(format!("commit{}", self.created)),
            source: None,
        }
    }

    fn built(&self) -> Vec<String> {
        let mut built = self.engine.built.lock().expect("the lock");
        built
            .drain(..)
            .map(|request| format!("{}:{} on {}", request.repository, request.tag, request.base))
            .collect()
    }

    async fn digest(&self, path: &str, tag: &str) -> Option<Digest> {
        let reference = Reference::Tag(tag.parse().expect("a tag"));
        self.store
            .resolve(&repository(path), &reference)
            .await
            .expect("an answer")
            .map(|found| found.digest)
    }
}

fn repository(path: &str) -> Repository {
    format!("r.example/{path}").parse().expect("a repository")
}

/// Returns the reference and outcome of each image.
fn outcomes(report: &BuildReport) -> Vec<String> {
    let outcome = |image: &ImageReport| match &image.outcome {
        ImageOutcome::Failed(error) => format!("failed: {error}"),
        outcome => format!("{outcome:?}"),
    };
    report
        .images
        .iter()
        .map(|image| {
            format!(
                "{} {}",
                image.reference().replace("r.example/", ""),
                outcome(image)
            )
        })
        .collect()
}

const ALPINE: &str = "  images:\n    - { name: alpine, folder: images/alpine, type: core, mirror_image: r.example/mirrors/alpine, aliases: [latest] }\n";

#[tokio::test]
async fn build_uses_the_newest_mirror_tag_and_does_not_rebuild_later() {
    let mut world = World::new().await;
    let config = world.config(ALPINE);
    let mirror = world
        .digest("mirrors/alpine", "3.21.3")
        .await
        .expect("the mirror");
    let report = world.run(&config, Mode::Apply, false).await;
    assert_eq!(outcomes(&report), ["bases/alpine:3.21.3-core1.0.0 Built"]);
    assert_eq!(
        world.built(),
        [format!(
            "r.example/bases/alpine:3.21.3-core1.0.0 on r.example/mirrors/alpine:3.21.3@{mirror}"
        )]
    );
    assert_eq!(
        world.digest("bases/alpine", "latest").await,
        world.digest("bases/alpine", "3.21.3-core1.0.0").await
    );
    world.created += 86_400;
    world.write("images/alpine/README.md", "changed\n");
    let again = world.run(&config, Mode::Apply, false).await;
    assert_eq!(
        (outcomes(&again), world.built().len()),
        (vec!["bases/alpine:3.21.3-core1.0.0 UpToDate".to_owned()], 0)
    );
    assert_eq!((report.exit(), again.exit()), (Exit::Done, Exit::Done));
}

#[tokio::test]
async fn labels_contain_reference_base_and_inputs() {
    let world = World::new().await;
    let config = world.config(ALPINE);
    world.run(&config, Mode::Apply, false).await;
    let built = world.engine.built.lock().expect("the lock");
    let labels = &built[0].labels;
    let mirror = built[0].base.digest.clone().expect("a digest").to_string();
    let inputs = labels["imglife.inputs"].clone();
    let expected: BTreeMap<String, String> = [
        ("imglife.inputs", inputs.as_str()),
        ("imglife.platforms", "linux/amd64"),
        ("imglife.ref", "r.example/bases/alpine:3.21.3-core1.0.0"),
        ("imglife.tier", "base"),
        ("org.opencontainers.image.base.digest", &mirror),
        (
            "org.opencontainers.image.base.name",
            "r.example/mirrors/alpine:3.21.3",
        ),
        ("org.opencontainers.image.created", "2023-11-14T22:13:20Z"),
        ("org.opencontainers.image.revision", "commit1700000000"),
        ("org.opencontainers.image.title", "alpine"),
        ("org.opencontainers.image.version", "3.21.3-core1.0.0"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    assert_eq!(*labels, expected);
    assert_eq!(
        built[0].dockerfile.lines().nth(1),
        Some("LABEL made=2023-11-14T22:13:20Z by=commit1700000000")
    );
}

#[tokio::test]
async fn a_published_tag_is_only_overwritten_with_other_inputs_if_forced() {
    let world = World::new().await;
    let config = world.config(ALPINE);
    world.run(&config, Mode::Apply, false).await;
    let before = world.digest("bases/alpine", "3.21.3-core1.0.0").await;
    world.write("images/alpine/motd", "other\n");
    let refused = world.run(&config, Mode::Apply, false).await;
    let cause = "already published with different inputs; a published tag is not overwritten";
    assert_eq!(
        outcomes(&refused),
        [format!("bases/alpine:3.21.3-core1.0.0 failed: {cause}")]
    );
    assert_eq!(
        (
            refused.exit(),
            world.digest("bases/alpine", "3.21.3-core1.0.0").await
        ),
        (Exit::Failed, before.clone())
    );
    let forced = world.run(&config, Mode::Apply, true).await;
    assert_eq!(outcomes(&forced), ["bases/alpine:3.21.3-core1.0.0 Built"]);
    assert_ne!(
        world.digest("bases/alpine", "3.21.3-core1.0.0").await,
        before
    );
    let foreign = World::new().await;
    publish(
        &foreign.store,
        &repository("bases/alpine"),
        "3.21.3-core1.0.0",
        "{}",
    )
    .await;
    let refused = foreign.run(&config_of(&foreign), Mode::Apply, false).await;
    assert!(
        outcomes(&refused)[0].contains("not built by imglife"),
        "{:?}",
        outcomes(&refused)
    );
}

fn config_of(world: &World) -> Config {
    world.config(ALPINE)
}

#[tokio::test]
async fn on_base_change_decides_about_an_image_whose_base_moved() {
    for (policy, expected) in [
        ("skip", "BaseMoved"),
        ("rebuild", "Built"),
        (
            "fail",
            "failed: base r.example/mirrors/alpine:3.21.3 moved since the image was built",
        ),
    ] {
        let world = World::new().await;
        let config = world.config(&format!("  on_base_change: {policy}\n{ALPINE}"));
        world.run(&config, Mode::Apply, false).await;
        world.mirror("3.21.3", "rebuilt upstream").await;
        let report = world.run(&config, Mode::Apply, false).await;
        assert_eq!(
            outcomes(&report),
            [format!("bases/alpine:3.21.3-core1.0.0 {expected}")]
        );
    }
}

const CHAIN: &str = "  images:
    - { name: app, folder: images/app, type: spe, mirror_image: r.example/bases/alpine }
    - { name: alpine, folder: images/alpine, type: core, mirror_image: r.example/mirrors/alpine }
";

#[tokio::test]
async fn images_are_built_after_their_base_and_on_its_new_digest() {
    let world = World::new().await;
    world.write("images/app/Dockerfile.tmpl", "FROM {{ .Base }}\n");
    let config = world.config(CHAIN);
    let report = world.run(&config, Mode::Apply, false).await;
    assert_eq!(
        outcomes(&report),
        [
            "bases/alpine:3.21.3-core1.0.0 Built",
            "bases/app:3.21.3-core1.0.0 Built"
        ]
    );
    let alpine = world
        .digest("bases/alpine", "3.21.3-core1.0.0")
        .await
        .expect("the base");
    assert_eq!(
        world.built()[1],
        format!(
            "r.example/bases/app:3.21.3-core1.0.0 on r.example/bases/alpine:3.21.3-core1.0.0@{alpine}"
        )
    );
    let again = world.run(&config, Mode::Apply, false).await;
    assert_eq!((again.totals.up_to_date, world.built().len()), (2, 0));
}

#[tokio::test]
async fn a_failed_image_stops_only_images_built_on_it() {
    let world = World::failing_for(Some("alpine")).await;
    world.write("images/app/Dockerfile.tmpl", "FROM {{ base }}\n");
    world.write("images/other/Dockerfile.tmpl", "FROM {{ base }}\n");
    let other = "    - { name: other, folder: images/other, type: core, mirror_image: r.example/mirrors/alpine, mirror_tag: 3.20.9 }\n";
    let report = world
        .run(
            &world.config(&format!("{CHAIN}{other}")),
            Mode::Apply,
            false,
        )
        .await;
    assert_eq!(
        outcomes(&report),
        [
            "bases/alpine:3.21.3-core1.0.0 failed: native: it ended with 1",
            "bases/app:3.21.3-core1.0.0 failed: base r.example/bases/alpine:3.21.3-core1.0.0 failed: native: it ended with 1",
            "bases/other:3.20.9-core1.0.0 Built",
        ]
    );
    assert_eq!(
        (report.images[0].log.as_str(), report.exit()),
        ("step 3: no such file", Exit::Failed)
    );
}

#[tokio::test]
async fn an_invalid_template_stops_all_builds() {
    let world = World::new().await;
    world.write(
        "images/app/Dockerfile.tmpl",
        "FROM {{ base }}\nRUN {{ vrsion }}\n",
    );
    let report = world.run(&world.config(CHAIN), Mode::Apply, false).await;
    assert_eq!(
        outcomes(&report),
        [
            "bases/alpine:3.21.3-core1.0.0 NotStarted",
            "bases/app:3.21.3-core1.0.0 failed: images/app/Dockerfile.tmpl:2: undefined value in `RUN {{ vrsion }}`"
        ]
    );
    assert_eq!((report.exit(), world.built().len()), (Exit::Usage, 0));
}

#[tokio::test]
async fn missing_bases_and_engines_are_reported_with_a_hint() {
    let world = World::new().await;
    let missing = ALPINE.replace("aliases", "mirror_tag: 3.19.0, aliases");
    let report = world.run(&world.config(&missing), Mode::Apply, false).await;
    let ImageOutcome::Failed(error) = &report.images[0].outcome else {
        panic!("{:?}", outcomes(&report))
    };
    assert_eq!(
        (error.to_string().as_str(), error.hint().as_deref()),
        (
            "base r.example/mirrors/alpine:3.19.0 does not exist",
            Some("run `imglife sync` first")
        )
    );
    world.write(
        "images/alpine/Dockerfile.tmpl",
        "FROM {{ base }}\n\nRUN true\n",
    );
    let native = world
        .run(
            &world.config(&format!("  engine: native\n{ALPINE}")),
            Mode::Apply,
            false,
        )
        .await;
    assert_eq!(
        outcomes(&native),
        [
            "bases/alpine:3.21.3-core1.0.0 failed: images/alpine/Dockerfile.tmpl:3: the engine `native` does not support RUN"
        ]
    );
    let auto = world.run(&world.config(ALPINE), Mode::Apply, false).await;
    assert!(
        outcomes(&auto)[0].contains("no engine that can execute RUN is available"),
        "{:?}",
        outcomes(&auto)
    );
}

#[tokio::test]
async fn engine_auto_uses_a_program_if_the_base_requires_execution() {
    let mut world = World::new().await;
    let program = LabellingEngine {
        name: EngineName::Buildah,
        store: Arc::clone(&world.store),
        built: Mutex::default(),
        fails_for: None,
    };
    world.program = Some(Arc::new(program));
    let triggers = ALPINE.replace("aliases", "args: { TRIGGERS: yes }, aliases");
    let named = world
        .run(
            &world.config(&format!("  engine: native\n{triggers}")),
            Mode::Apply,
            false,
        )
        .await;
    assert_eq!(
        outcomes(&named),
        ["bases/alpine:3.21.3-core1.0.0 failed: native: the base has ONBUILD"]
    );
    let auto = world
        .run(&world.config(&triggers), Mode::Apply, false)
        .await;
    assert_eq!(
        (outcomes(&auto), auto.images[0].engine.as_deref()),
        (
            vec!["bases/alpine:3.21.3-core1.0.0 Built".to_owned()],
            Some("buildah")
        )
    );
}

#[tokio::test]
async fn images_that_share_a_tag_all_fail() {
    let world = World::new().await;
    let shared = format!(
        "{ALPINE}    - {{ name: alpine, folder: images/alpine, type: core, mirror_image: r.example/mirrors/alpine, mirror_tag: 3.20.9, aliases: [3.21.3-core1.0.0] }}\n"
    );
    let report = world.run(&world.config(&shared), Mode::Apply, false).await;
    assert_eq!(report.totals.failed, 2);
    assert!(
        outcomes(&report)[0]
            .contains("build.images[0] and build.images[1] would all be published as r.example/bases/alpine:3.21.3-core1.0.0")
    );
}

#[tokio::test]
async fn dry_run_lists_the_images_of_the_real_run_and_changes_nothing() {
    let world = World::new().await;
    world.write("images/app/Dockerfile.tmpl", "FROM {{ base }}\n");
    let config = world.config(CHAIN);
    let dry = world.run(&config, Mode::DryRun, false).await;
    assert!(
        dry.images[0]
            .dockerfile
            .as_deref()
            .is_some_and(|text| text.starts_with("FROM r.example/mirrors/alpine:3.21.3@sha256:"))
    );
    assert_eq!(
        (
            world.built().len(),
            world.digest("bases/alpine", "3.21.3-core1.0.0").await
        ),
        (0, None)
    );
    let real = world.run(&config, Mode::Apply, false).await;
    assert_eq!(
        outcomes(&dry).join(" ").replace("Planned", "Built"),
        outcomes(&real).join(" ")
    );
}

#[tokio::test]
async fn an_outdated_alias_is_moved_without_a_build() {
    let world = World::new().await;
    let config = world.config(ALPINE);
    world.run(&config, Mode::Apply, false).await;
    publish(&world.store, &repository("bases/alpine"), "latest", "{}").await;
    world.built();
    let report = world.run(&config, Mode::Apply, false).await;
    assert_eq!(
        (outcomes(&report), world.built().len()),
        (vec!["bases/alpine:3.21.3-core1.0.0 UpToDate".to_owned()], 0)
    );
    assert_eq!(report.images[0].aliases.len(), 1);
    assert_eq!(
        world.digest("bases/alpine", "latest").await,
        world.digest("bases/alpine", "3.21.3-core1.0.0").await
    );
}

#[tokio::test]
async fn a_template_with_another_base_is_not_built_by_the_native_engine() {
    let mut world = World::new().await;
    let program = LabellingEngine {
        name: EngineName::Buildah,
        store: Arc::clone(&world.store),
        built: Mutex::default(),
        fails_for: None,
    };
    world.program = Some(Arc::new(program));
    world.write(
        "images/alpine/Dockerfile.tmpl",
        "FROM {{ mirror_image }}:3.20.9\nCOPY motd /etc/motd\n",
    );
    let native = world
        .run(
            &world.config(&format!("  engine: native\n{ALPINE}")),
            Mode::Apply,
            false,
        )
        .await;
    let cause = "images/alpine/Dockerfile.tmpl:1: the engine `native` does not support FROM r.example/mirrors/alpine:3.20.9, which is not \
                 the base image r.example/mirrors/alpine:3.21.3";
    assert_eq!(
        outcomes(&native),
        [format!("bases/alpine:3.21.3-core1.0.0 failed: {cause}")]
    );
    let auto = world.run(&world.config(ALPINE), Mode::Apply, false).await;
    assert_eq!(auto.images[0].engine.as_deref(), Some("buildah"));
}

#[tokio::test]
async fn inputs_digest_is_the_same_in_another_checkout() {
    let mut inputs = Vec::new();
    for _ in 0..2 {
        let world = World::new().await;
        let config = world.config(&ALPINE.replace(
            "r.example/mirrors/alpine,",
            "ocidir://mirrors/alpine, mirror_tag: 3.21.3,",
        ));
        let build = config.build.as_ref().expect("the section");
        let seen = observe(
            &config,
            build,
            &BuildScope::default(),
            &world.store.stores(),
            &*crate::progress::silent(),
        )
        .await;
        inputs.push(
            seen.images[&0]
                .inputs
                .as_ref()
                .expect("inputs")
                .digest
                .clone(),
        );
    }
    assert_eq!(inputs[0], inputs[1]);
}
