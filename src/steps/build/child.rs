//! A child pipeline for GitLab: a job for each image.

use std::path::Path;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{Scope, order};
use crate::config::Build;

/// The most jobs that a pipeline may have here; GitLab's own limits are above it on most instances.
const MOST_JOBS: usize = 500;

/// There are more images than a pipeline may have jobs.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a child pipeline would have {0} jobs, one for each image; {MOST_JOBS} are the most")]
pub struct TooManyJobs(usize);

/// Returns a pipeline, as JSON, which is YAML too, that builds each image in a job of its own, after those that it is built on. The
/// variables of the job that triggers it say which image of the tool is used and how it builds (`IMGLIFE_IMAGE`).
pub fn child_pipeline(build: &Build, scope: &Scope, configuration: Option<&Path>, directory: &Path) -> Result<String, TooManyJobs> {
    let in_scope = scope.images(build);
    let mut names: Vec<&str> = Vec::new();
    for position in order(build).into_iter().filter(|position| in_scope.contains(position)) {
        let name = build.images[position].name.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() > MOST_JOBS {
        return Err(TooManyJobs(names.len()));
    }
    let mut jobs = Map::new();
    for name in &names {
        let Some(image) = build.images.iter().find(|image| image.name == *name) else { continue };
        let versions = build.images.iter().filter(|other| other.name == image.name);
        let mut needs: Vec<&str> = Vec::new();
        for version in versions {
            let bases = build.images.iter().filter(|base| base.repository == version.mirror_image && base.name != image.name);
            for base in bases.map(|base| base.name.as_str()).filter(|base| names.contains(base)) {
                if !needs.contains(&base) {
                    needs.push(base);
                }
            }
        }
        let mut script = vec!["imglife".to_owned()];
        if let Some(file) = configuration {
            script.extend(["--config".to_owned(), file.strip_prefix(directory).unwrap_or(file).display().to_string()]);
        }
        script.extend(["build".to_owned(), "--only".to_owned(), literal(&image.name)]);
        let script = shlex::try_join(script.iter().map(String::as_str)).unwrap_or_default();
        let needs: Vec<String> = needs.into_iter().map(job_name).collect();
        jobs.insert(job_name(&image.name), json!({ "extends": ".imglife-build", "needs": needs, "script": [script] }));
    }
    if jobs.is_empty() {
        // GitLab refuses a child pipeline without jobs.
        jobs.insert("nothing to build".to_owned(), json!({ "extends": ".imglife-build", "needs": [], "script": ["true"] }));
    }
    let mut pipeline = Map::new();
    pipeline.insert("stages".to_owned(), json!(["build"]));
    let base = json!({ "stage": "build", "image": { "name": "$IMGLIFE_IMAGE", "entrypoint": [""] }, "retry": { "max": 1, "when": ["runner_system_failure"] } });
    pipeline.insert(".imglife-build".to_owned(), base);
    pipeline.extend(jobs);
    Ok(format!("{:#}\n", Value::Object(pipeline)))
}

fn job_name(image: &str) -> String {
    format!("build {image}")
}

/// Returns a pattern that matches `name` only.
fn literal(name: &str) -> String {
    globset::escape(name)
}
