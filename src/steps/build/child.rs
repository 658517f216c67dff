//! Child pipelines for GitLab, with a job for each image.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{BuildScope, order};
use crate::config::BuildConfig;
use crate::model::env;
use crate::model::{JobTrust, Permissions, UntrustedReason};

/// Maximum number of jobs of a child pipeline. Most GitLab instances have a higher limit.
const MAX_JOBS: usize = 500;

/// Maximum number of jobs in `needs` of a job (default of GitLab's `ci_needs_size_limit`).
const MAX_NEEDS: usize = 50;

/// Name of the first stage, and prefix of the later ones.
const STAGE: &str = "build";

/// Directory of the JUnit reports, relative to the project.
const REPORTS: &str = "imglife-reports/build";

/// Settings of a child pipeline and its jobs.
pub struct ChildPipeline<'a> {
    pub scope: &'a BuildScope,
    /// Permissions of the run, which the jobs get as options.
    pub permissions: Permissions,
    /// Configuration file; `None` for the default one.
    pub configuration: Option<&'a Path>,
    /// Working directory of the jobs; the configuration file is passed relative to it.
    pub directory: &'a Path,
    /// Runner tags of the jobs; empty if any runner may run them.
    pub tags: &'a [String],
    pub mode: ChildMode,
    /// Lifetime of the job artifacts, in the syntax of GitLab's `expire_in`; `None` for the default
    /// of the server.
    pub expire_in: Option<&'a str>,
}

/// Build mode of the jobs: the modes of the CI component that need no service container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildMode {
    Native,
    Buildah,
}

impl ChildMode {
    /// Returns the mode called `name`, or `None` if a child pipeline does not support it.
    pub fn named(name: &str) -> Option<ChildMode> {
        match name {
            "native" => Some(ChildMode::Native),
            "buildah" => Some(ChildMode::Buildah),
            _ => None,
        }
    }

    /// Returns the CI variables that this mode adds to each job. Those of Buildah let it run
    /// without privileges.
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

/// Returns a pipeline that builds each image in a separate job, after the jobs of its bases.
///
/// The result is JSON, which is valid YAML. With more than `MAX_JOBS` images, each job builds a
/// shard. A job with more than `MAX_NEEDS` bases has no `needs` and runs in a later stage than
/// their jobs. The job that triggers the pipeline sets the image of the jobs in the variable
/// `IMGLIFE_IMAGE`.
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
    // Position of the stage of each image's job.
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
        let base_stage = needs
            .iter()
            .filter_map(|base| stages.get(base))
            .max()
            .copied()
            .unwrap_or_default();
        let exceeds_needs = needs.len() > MAX_NEEDS;
        let stage = if exceeds_needs {
            base_stage + 1
        } else {
            base_stage
        };
        stages.insert(&image.name, stage);
        let needs: Vec<String> = needs.into_iter().map(job_name).collect();
        let mut job = child.job(&needs, &["--only".to_owned(), globset::escape(&image.name)]);
        if let (true, Some(job)) = (exceeds_needs, job.as_object_mut()) {
            // Without `needs`, the job starts after all jobs of the earlier stages.
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
        // GitLab rejects a child pipeline without jobs.
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
    if let Some(expire_in) = child.expire_in {
        base["artifacts"]["expire_in"] = json!(expire_in);
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
        script.extend(permission_options(self.permissions).map(str::to_owned));
        // Passed as options of the step, which take precedence over its variables: these may name
        // several images.
        script.extend(["run", "build", "--"].map(str::to_owned));
        script.extend_from_slice(options);
        let script = shlex::try_join(script.iter().map(String::as_str)).unwrap_or_default();
        json!({ "extends": ".imglife-build", "needs": needs, "script": [script] })
    }
}

/// Returns the options that give a job the same permissions. Each job sees its branch itself, but not
/// the merge request of its parent.
fn permission_options(permissions: Permissions) -> impl Iterator<Item = &'static str> {
    let is_limited = matches!(
        permissions.trust,
        JobTrust::Untrusted(UntrustedReason::Option | UntrustedReason::MergeRequest)
    );
    [
        ("--untrusted", is_limited),
        ("--allow-commands", permissions.commands),
        ("--allow-outside", permissions.outside),
    ]
    .into_iter()
    .filter_map(|(option, is_set)| is_set.then_some(option))
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
