//! `imglife register`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use super::output::OutputForm;
use crate::app::{RegisterOptions, Registration, parse_platforms};
use crate::ci::Build;
use crate::error::Failure;
use crate::model::text::excerpt;
use crate::model::{ImageReference, Platform};
use crate::process::Process;

/// Record what an application image was built on
///
/// Stores a record of the image, its base, the commit and the project in the Package Registry, in the place of an older record of the
/// same tag. `status` and `check` tell from these records who uses a base, and `cleanup` keeps the bases that they name.
///
/// The base is found out from the image when `--base` is not given: from the annotation `org.opencontainers.image.base.name`, the
/// label `BASE_IMAGE_REF`, the label `imglife.ref` that every image inherits from a base of `imglife build`, or the label
/// `org.opencontainers.image.base.name`. What the image inherited from its base names the base's own base, and does not count.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife register --image \"$CI_REGISTRY_IMAGE:$CI_COMMIT_TAG\"
      in GitLab CI, after the push: commit and project are known, base and platforms are found out from the image
  imglife register --image registry.example.com/apps/web:1.2.0 --revision 4f2a91c --project team/web \\
      --base registry.example.com/bases/alpine:3.21.3-core1.0.0 --platform 'linux/amd64 linux/arm64'
      everything given: no image registry is asked
  imglife register --image registry.example.com/apps/web:1.2.0 --field team=payments --field tier=1
      with fields of one's own, which reports show

Exit codes:
  0  the record is stored
  1  it is not
  2  wrong usage or configuration; nothing was done")]
pub(super) struct RegisterArguments {
    /// The image that was pushed, with its tag
    #[arg(long, value_name = "REF")]
    image: ImageReference,

    /// The commit it was built from [default: CI_COMMIT_SHA, GITHUB_SHA]
    #[arg(long, value_name = "SHA")]
    revision: Option<String>,

    /// The path of the project it belongs to [default: CI_PROJECT_PATH, GITHUB_REPOSITORY]
    #[arg(long, value_name = "PATH")]
    project: Option<String>,

    /// The base it was built on [default: what the image tells]
    #[arg(long, value_name = "REF")]
    base: Option<ImageReference>,

    /// Its platforms, as in `linux/amd64 linux/arm64` [default: what the image tells]
    #[arg(long, value_name = "PLATFORMS")]
    platform: Vec<String>,

    /// A field of one's own (can be repeated); in CI `ci_ref` and `ci_pipeline_url` are there by themselves
    #[arg(long, value_name = "KEY=VALUE")]
    field: Vec<String>,

    /// When it was built, as in `2026-11-21T07:30:00Z` [default: now]
    #[arg(long, value_name = "TIME")]
    built_at: Option<DateTime<Utc>>,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,
}

impl RegisterArguments {
    /// Returns what is asked for, completed by what the CI server tells. Fails when something is missing or not of its form.
    pub(super) fn options(self, process: &Process) -> Result<RegisterOptions, Failure> {
        let ci = Build::of(&process.variables);
        if self.image.tag.is_none() {
            return Err(Failure::usage(format!("the image {} has no tag", self.image)).hint("name it as it was pushed: `--image registry/app:1.2.0`"));
        }
        let revision = filled("--revision", self.revision.or(ci.revision))?;
        let project = filled("--project", self.project.or(ci.project))?;
        let mut platforms: Vec<Platform> = Vec::new();
        for text in &self.platform {
            let given = parse_platforms(text).ok_or_else(|| {
                Failure::usage(format!("`--platform {}` names no platforms", excerpt(text, 80))).hint("write them as `linux/amd64 linux/arm64`")
            })?;
            platforms.extend(given);
        }
        let mut fields = BTreeMap::new();
        for text in &self.field {
            let (name, value) = field(text)?;
            if fields.insert(name.to_owned(), Value::from(value)).is_some() {
                return Err(Failure::usage(format!("`--field {name}=…` is given twice")));
            }
        }
        for (name, value) in ci.fields {
            fields.entry(name).or_insert(Value::from(value));
        }
        let registration = Registration {
            image: self.image,
            base: self.base,
            platforms,
            revision,
            project,
            fields,
            built_at: self.built_at.unwrap_or_else(|| process.clock.now()),
        };
        Ok(RegisterOptions { registration, output: self.output.into() })
    }
}

fn filled(flag: &str, value: Option<String>) -> Result<String, Failure> {
    match value.map(|value| value.trim().to_owned()) {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(Failure::usage(format!("`{flag}` is empty"))),
        None => Err(Failure::usage(format!("`{flag}` is missing")).hint("it is known by itself only in the jobs of a CI server")),
    }
}

fn field(text: &str) -> Result<(&str, &str), Failure> {
    let is_fit = |name: &str| {
        !name.is_empty() && name.len() <= 100 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    text.split_once('=').filter(|(name, _)| is_fit(name)).ok_or_else(|| {
        Failure::usage(format!("`--field {}` is no field", excerpt(text, 80)))
            .hint("write it as `--field key=value`; keys consist of letters, digits, `_`, `-` and `.`")
    })
}
