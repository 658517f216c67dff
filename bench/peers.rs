//! Tools that are compared: how to find them, and how to make each mirror a corpus. This module
//! does not depend on measurements.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::BenchResult;
use crate::corpus::Corpus;
use crate::measure::{Home, Invocation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Imglife,
    Skopeo,
    Crane,
    Oras,
    Regsync,
}

impl Tool {
    pub(crate) const PEERS: [Tool; 4] = [Tool::Skopeo, Tool::Crane, Tool::Oras, Tool::Regsync];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Imglife => "imglife",
            Tool::Skopeo => "skopeo",
            Tool::Crane => "crane",
            Tool::Oras => "oras",
            Tool::Regsync => "regsync",
        }
    }

    fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Tool::Imglife | Tool::Skopeo => &["--version"],
            Tool::Crane | Tool::Oras | Tool::Regsync => &["version"],
        }
    }
}

/// Installed tool.
#[derive(Clone, Debug)]
pub(crate) struct InstalledTool {
    pub(crate) tool: Tool,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
    /// Name of its rows in the tables.
    pub(crate) label: &'static str,
}

impl InstalledTool {
    /// Returns the tool at the path `program`, or `None` if it does not run.
    pub(crate) fn at(tool: Tool, program: &Path) -> Option<InstalledTool> {
        let output = Command::new(program)
            .args(tool.version_arguments())
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .lines()
            .flat_map(str::split_whitespace)
            .find(|word| word.contains('.') && word.contains(|c: char| c.is_ascii_digit()));
        Some(InstalledTool {
            tool,
            program: program.to_owned(),
            version: version.unwrap_or("(version unknown)").to_owned(),
            label: tool.name(),
        })
    }

    /// Returns a peer from the directory `installed`, where `tests/setup.sh` installs them, or else
    /// from `PATH`.
    pub(crate) fn find(tool: Tool, installed: &Path) -> Option<InstalledTool> {
        InstalledTool::at(tool, &installed.join(tool.name()))
            .or_else(|| InstalledTool::at(tool, Path::new(tool.name())))
    }
}

/// Task to mirror a corpus from one registry to another, with the same repository names.
pub(crate) struct Job<'a> {
    pub(crate) corpus: &'a Corpus,
    /// Host and port.
    pub(crate) source: String,
    pub(crate) target: String,
    /// CA certificate of the registries; `None` for plain HTTP.
    pub(crate) authority: Option<PathBuf>,
    /// True if imglife compares the digests of tags that exist at the target. Its peers always do.
    pub(crate) check_digest: bool,
}

impl Job<'_> {
    /// Writes the configuration files that a tool needs for this job and returns the programs to
    /// run.
    pub(crate) fn invocations(
        &self,
        found: &InstalledTool,
        home: &Home,
    ) -> BenchResult<Vec<Invocation>> {
        let repositories = &self.corpus.repositories;
        let pairs = repositories.iter().map(|repository| {
            [&self.source, &self.target].map(|host| format!("{host}/{}", repository.path))
        });
        let program = &found.program;
        let insecure = self.authority.is_none();
        Ok(match found.tool {
            Tool::Imglife => {
                let entries = pairs.map(
                    |[source, target]| json!({ "source": source, "target": target, "tag_regex": ".*", "check_digest": self.check_digest }),
                );
                let configuration = self.imglife_configuration(&entries.collect::<Vec<_>>());
                fs::write(
                    home.directory.join("imglife.yaml"),
                    configuration.to_string(),
                )?;
                vec![Invocation::new(program, &["sync"])]
            }
            Tool::Skopeo => {
                let images: serde_json::Map<_, _> = repositories
                    .iter()
                    .map(|repository| (repository.path.clone(), json!([])))
                    .collect();
                let list =
                    json!({ self.source.as_str(): { "tls-verify": !insecure, "images": images } });
                fs::write(home.directory.join("list.yaml"), list.to_string())?;
                // Skopeo appends the last part of a repository's name to the target.
                let parent = repositories
                    .first()
                    .and_then(|repository| repository.path.rsplit_once('/'))
                    .map_or("", |(parent, _)| parent);
                let target = format!("{}/{parent}", self.target);
                let verify = format!("--dest-tls-verify={}", !insecure);
                let arguments = [
                    "--insecure-policy",
                    "sync",
                    "--all",
                    "--src",
                    "yaml",
                    "--dest",
                    "docker",
                    &verify,
                    "list.yaml",
                    &target,
                ];
                vec![Invocation::new(program, &arguments)]
            }
            Tool::Crane => {
                let copy = pairs.map(|[source, target]| {
                    let mut invocation =
                        Invocation::new(program, &["copy", "--all-tags", &source, &target]);
                    invocation
                        .arguments
                        .extend(insecure.then(|| "--insecure".to_owned()));
                    invocation
                });
                copy.collect()
            }
            Tool::Oras => {
                let copies = repositories.iter().flat_map(|repository| {
                    repository.images.iter().map(|image| {
                        let [source, target] = [&self.source, &self.target]
                            .map(|host| format!("{host}/{}:{}", repository.path, image.tag));
                        let mut invocation =
                            Invocation::new(program, &["cp", "--no-tty", &source, &target]);
                        if insecure {
                            invocation.arguments.extend(
                                ["--from-plain-http", "--to-plain-http"].map(str::to_owned),
                            );
                        }
                        invocation
                    })
                });
                copies.collect()
            }
            Tool::Regsync => {
                let tls = if insecure { "disabled" } else { "enabled" };
                let hosts: Vec<_> = [&self.source, &self.target]
                    .iter()
                    .map(|host| json!({ "registry": host, "tls": tls }))
                    .collect();
                let entries: Vec<_> =
                    pairs.map(|[source, target]| json!({ "source": source, "target": target, "type": "repository" })).collect();
                // Same concurrency as imglife.
                let configuration = json!({ "version": 1, "creds": hosts, "defaults": { "parallel": 4 }, "sync": entries });
                fs::write(
                    home.directory.join("regsync.yaml"),
                    configuration.to_string(),
                )?;
                vec![Invocation::new(program, &["once", "-c", "regsync.yaml"])]
            }
        })
    }

    /// Returns a configuration of imglife with the given `sync` entries.
    pub(crate) fn imglife_configuration(&self, entries: &[serde_json::Value]) -> serde_json::Value {
        let hosts = [&self.source, &self.target];
        let mut configuration = json!({ "registry": { "provider": "file" } });
        if let Some(authority) = &self.authority {
            configuration["hosts"] = hosts
                .iter()
                .map(|host| ((*host).clone(), json!({ "ca_file": authority })))
                .collect();
        } else {
            configuration["registry"]["insecure_registries"] = json!(hosts);
        }
        if !entries.is_empty() {
            configuration["sync"] = json!({ "entries": entries });
        }
        configuration
    }
}
