//! A child pipeline for GitLab: a job for each image.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Scope, order};
use crate::config::BuildConfig;
use crate::model::env;

/// The most jobs that a pipeline may have here; GitLab's own limits are above it on most instances.
const MAX_JOBS: usize = 500;

/// The most jobs that a job may name as those it needs (GitLab's `ci_needs_size_limit`, by
/// default).
const MAX_NEEDS: usize = 50;

/// The stage of most jobs.
const STAGE: &str = "build";

const REPORTS: &str = "imglife-reports/build";

/// What the jobs of a child pipeline are given.
pub struct ChildPipeline<'a> {
    pub scope: &'a Scope,
    /// The file of the configuration.
    pub configuration: Option<&'a Path>,
    /// The directory that the jobs run in, which relative paths are relative to.
    pub directory: &'a Path,
    /// The tags of the runners that may take the jobs; none for any runner.
    pub tags: &'a [String],
    pub mode: ChildMode,
    /// How long what the jobs leave is kept, as GitLab's `expire_in` says it; `None`: as long as
    /// the server keeps it by itself.
    pub keep: Option<&'a str>,
}

/// What the jobs have to build with: of the component's modes those that need no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildMode {
    Native,
    Buildah,
}

impl ChildMode {
    /// Returns the mode that is called so.
    pub fn named(name: &str) -> Option<ChildMode> {
        match name {
            "native" => Some(ChildMode::Native),
            "buildah" => Some(ChildMode::Buildah),
            _ => None,
        }
    }

    /// Returns the variables that it takes, beside those of every job. Buildah works without
    /// privileges by them.
    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            ChildMode::Native => &[],
            ChildMode::Buildah => &[
                (env::BUILDAH_ISOLATION, "chroot"),
                (env::STORAGE_DRIVER, "vfs"),
            ],
        }
    }
}

/// Returns a pipeline, as JSON, which is YAML too, that builds each image in a job of its own,
/// after those that it is built on; of very many images each job builds a part. A job that needs
/// more others than it may name has a stage of its own after theirs. The variables of the job that
/// triggers it say which image of the tool is used (`IMGLIFE_IMAGE`).
pub fn child_pipeline(build: &BuildConfig, child: &ChildPipeline<'_>) -> String {
    let in_scope = child.scope.images(build);
    let mut names: Vec<&str> = Vec::new();
    for position in order(build)
        .into_iter()
        .filter(|position| in_scope.contains(position))
    {
        let name = build.images[position].name.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut jobs = Map::new();
    // The position of the stage of each image's job.
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &names {
        let Some(image) = build.images.iter().find(|image| image.name == *name) else {
            continue;
        };
        let versions = build.images.iter().filter(|other| other.name == image.name);
        let mut needs: Vec<&str> = Vec::new();
        for version in versions {
            let bases = build
                .images
                .iter()
                .filter(|base| base.repository == version.mirror_image && base.name != image.name);
            for base in bases
                .map(|base| base.name.as_str())
                .filter(|base| names.contains(base))
            {
                if !needs.contains(&base) {
                    needs.push(base);
                }
            }
        }
        let after = needs
            .iter()
            .filter_map(|base| stages.get(base))
            .max()
            .copied()
            .unwrap_or_default();
        let waits = needs.len() > MAX_NEEDS;
        let stage = if waits { after + 1 } else { after };
        stages.insert(&image.name, stage);
        let needs: Vec<String> = needs.into_iter().map(job_name).collect();
        let mut job = child.job(&needs, &["--only".to_owned(), globset::escape(&image.name)]);
        if let (true, Some(job)) = (waits, job.as_object_mut()) {
            // It begins when all of the stages before are done.
            job.remove("needs");
        }
        if stage > 0 {
            job["stage"] = json!(stage_name(stage));
        }
        jobs.insert(job_name(&image.name), job);
    }
    if jobs.len() > MAX_JOBS {
        let only: Vec<String> = child
            .scope
            .only
            .patterns()
            .flat_map(|pattern| ["--only".to_owned(), pattern.to_owned()])
            .collect();
        let part = |index: usize| format!("{index}/{MAX_JOBS}");
        let options = |index| [&["--shard".to_owned(), part(index)][..], &only].concat();
        stages.clear();
        jobs = (1..=MAX_JOBS)
            .map(|index| (job_name(&part(index)), child.job(&[], &options(index))))
            .collect();
    }
    if jobs.is_empty() {
        // GitLab refuses a child pipeline without jobs.
        jobs.insert(
            "nothing to build".to_owned(),
            json!({ "extends": ".imglife-build", "needs": [], "script": ["true"] }),
        );
    }
    let mut base = json!({
        "stage": STAGE,
        "image": { "name": "$IMGLIFE_IMAGE", "entrypoint": [""] },
        "variables": { (env::IMGLIFE_RUN_REPORTS): REPORTS },
        "artifacts": { "when": "always", "paths": [format!("{REPORTS}/")], "reports": { "junit": format!("{REPORTS}/*.xml") } },
        "retry": { "max": 1, "when": ["runner_system_failure"] },
    });
    for (name, value) in child.mode.variables() {
        base["variables"][name] = json!(value);
    }
    if let Some(keep) = child.keep {
        base["artifacts"]["expire_in"] = json!(keep);
    }
    if !child.tags.is_empty() {
        base["tags"] = json!(child.tags);
    }
    let mut pipeline = Map::new();
    let last = stages.values().max().copied().unwrap_or_default();
    pipeline.insert("stages".to_owned(), (0..=last).map(stage_name).collect());
    pipeline.insert(".imglife-build".to_owned(), base);
    pipeline.extend(jobs);
    format!("{:#}\n", Value::Object(pipeline))
}

impl ChildPipeline<'_> {
    fn job(&self, needs: &[String], options: &[String]) -> Value {
        let mut script = vec!["imglife".to_owned()];
        if let Some(file) = self.configuration {
            script.extend([
                "--config".to_owned(),
                file.strip_prefix(self.directory)
                    .unwrap_or(file)
                    .display()
                    .to_string(),
            ]);
        }
        // As options of the step they go before its variables, which may name several images.
        script.extend(["run", "build", "--"].map(str::to_owned));
        script.extend_from_slice(options);
        let script = shlex::try_join(script.iter().map(String::as_str)).unwrap_or_default();
        json!({ "extends": ".imglife-build", "needs": needs, "script": [script] })
    }
}

fn stage_name(position: usize) -> String {
    if position == 0 {
        STAGE.to_owned()
    } else {
        format!("{STAGE}-{}", position + 1)
    }
}

fn job_name(image: &str) -> String {
    format!("build {image}")
}
