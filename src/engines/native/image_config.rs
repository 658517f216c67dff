//! The image configuration: that of the base image, changed by the instructions of the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::dockerfile::instructions::{
    CopyInstruction, CopySource, DockerfileAction, DockerfileCommand, Healthcheck, set,
};
use crate::model::text::excerpt;
use crate::model::{Digest, Platform};

/// Error for an invalid configuration or instruction.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum ImageConfigError {
    #[error("the JSON is not an image configuration")]
    Malformed,
    #[error("the image has {layers} layers, its configuration lists {diff_ids}")]
    Layers { layers: usize, diff_ids: usize },
    #[error("`{}` is not a port: expected for example `80`, `80/udp` or `8000-8010`", excerpt(.0, 60))]
    Port(String),
    #[error("more than {MAX_PORTS} ports are exposed")]
    TooManyPorts,
}

/// Maximum number of exposed ports: every port once.
const MAX_PORTS: usize = 65_536;

/// A configuration under construction.
#[derive(Clone, Debug)]
pub(super) struct ImageConfigDraft {
    /// The complete JSON object.
    all: Map<String, Value>,
    /// Creation time of the image.
    created: String,
    /// Shell that runs commands in shell form; empty for the default.
    shell: Vec<String>,
    /// True if the Dockerfile has a `CMD`.
    has_own_command: bool,
    /// Number of ports in all `EXPOSE` instructions, including repeated ones.
    ports: usize,
}

/// Effect of an instruction on the file system.
pub(super) enum StepResult<'a> {
    NoLayer,
    /// A layer, with the digest of its uncompressed content.
    Layer(&'a Digest),
}

impl ImageConfigDraft {
    /// Parses the configuration of a base image with `layers` layers.
    ///
    /// `created` is the creation time of the new image.
    pub(super) fn of_base(
        bytes: &[u8],
        layers: usize,
        created: DateTime<Utc>,
    ) -> Result<ImageConfigDraft, ImageConfigError> {
        let mut all: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|_| ImageConfigError::Malformed)?;
        let diff_ids = all
            .get("rootfs")
            .and_then(|rootfs| rootfs["diff_ids"].as_array())
            .ok_or(ImageConfigError::Malformed)?
            .len();
        if diff_ids != layers {
            return Err(ImageConfigError::Layers { layers, diff_ids });
        }
        let created = created.to_rfc3339_opts(SecondsFormat::Secs, true);
        // Remove fields of Docker's format that describe the build of the base image.
        for key in [
            "id",
            "parent",
            "container",
            "container_config",
            "docker_version",
            "throwaway",
            "Size",
            "moby.buildkit.buildinfo.v1",
        ] {
            all.remove(key);
        }
        all.insert("created".to_owned(), json!(created));
        let history = all
            .get("history")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let of_layers = history
            .iter()
            .filter(|entry| entry["empty_layer"] != json!(true))
            .count();
        // An invalid history is replaced, because some tools reject images whose history does not
        // match the layers.
        let history = if of_layers == layers {
            history
        } else {
            vec![json!({ "created_by": "the base image" }); layers]
        };
        all.insert("history".to_owned(), history.into());
        if !all.get("config").is_some_and(Value::is_object) {
            all.insert("config".to_owned(), json!({}));
        }
        let mut config = ImageConfigDraft {
            all,
            created,
            shell: Vec::new(),
            has_own_command: false,
            ports: 0,
        };
        config.shell = strings(&config.section()["Shell"]);
        Ok(config)
    }

    /// Returns the platform of the image.
    pub(super) fn platform(&self) -> Platform {
        let text = |key: &str| {
            self.all
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        Platform {
            os: text("os").unwrap_or_else(|| "linux".to_owned()),
            architecture: text("architecture").unwrap_or_default(),
            variant: text("variant"),
            os_version: text("os.version"),
        }
    }

    /// Returns the first `ONBUILD` trigger of the base image, or `None`.
    pub(super) fn trigger(&self) -> Option<String> {
        strings(&self.section()["OnBuild"]).into_iter().next()
    }

    /// Returns the environment variables.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let pair = |text: String| {
            text.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        strings(&self.section()["Env"])
            .into_iter()
            .filter_map(pair)
            .collect()
    }

    /// Returns the user that programs run as, or `None` if none is set.
    pub(super) fn user(&self) -> Option<String> {
        self.section()["User"]
            .as_str()
            .filter(|user| !user.is_empty())
            .map(str::to_owned)
    }

    /// Returns the working directory as an absolute path.
    pub(super) fn working_directory(&self) -> String {
        let directory = self.section()["WorkingDir"].as_str().unwrap_or_default();
        format!("/{}", directory.trim_matches('/'))
    }

    /// Returns the object `config`.
    fn section(&self) -> &Value {
        static NULL: Value = Value::Null;
        self.all.get("config").unwrap_or(&NULL)
    }

    /// Sets a field of `config`.
    fn put(&mut self, key: &str, value: Value) {
        if let Some(section) = self.all.get_mut("config").and_then(Value::as_object_mut) {
            section.insert(key.to_owned(), value);
        }
    }

    /// Removes a field of `config`.
    fn remove(&mut self, key: &str) {
        if let Some(section) = self.all.get_mut("config").and_then(Value::as_object_mut) {
            section.remove(key);
        }
    }

    /// Adds names to a field of `config` that is an object with empty objects as values.
    fn extend(&mut self, key: &str, names: impl IntoIterator<Item = String>) {
        let Some(section) = self.all.get_mut("config").and_then(Value::as_object_mut) else {
            return;
        };
        let object = section.entry(key).or_insert(Value::Null);
        if !object.is_object() {
            *object = json!({});
        }
        if let Some(object) = object.as_object_mut() {
            object.extend(names.into_iter().map(|name| (name, json!({}))));
        }
    }

    /// Applies an instruction and adds it to the history.
    ///
    /// `result` is its effect on the file system.
    pub(super) fn apply(
        &mut self,
        action: &DockerfileAction,
        result: &StepResult<'_>,
    ) -> Result<(), ImageConfigError> {
        match action {
            DockerfileAction::Environment(pairs) => {
                let mut environment = self.environment();
                for (name, value) in pairs {
                    set(&mut environment, name, value);
                }
                self.put(
                    "Env",
                    environment
                        .into_iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect::<Vec<_>>()
                        .into(),
                );
            }
            DockerfileAction::Labels(pairs) => {
                self.label(pairs.iter().map(|(name, value)| (name, value)));
            }
            DockerfileAction::WorkingDirectory(path) => {
                let directory = if path.starts_with('/') {
                    path.clone()
                } else {
                    format!("{}/{path}", self.working_directory())
                };
                self.put(
                    "WorkingDir",
                    format!("/{}", crate::dockerfile::patterns::clean(&directory)).into(),
                );
            }
            DockerfileAction::User(user) => self.put("User", user.as_str().into()),
            DockerfileAction::Expose(words) => {
                let mut ports = BTreeSet::new();
                for word in words {
                    let range =
                        parse_ports(word).ok_or_else(|| ImageConfigError::Port(word.clone()))?;
                    self.ports += range.ports.clone().count();
                    if self.ports > MAX_PORTS {
                        return Err(ImageConfigError::TooManyPorts);
                    }
                    ports.extend(range.ports.map(|port| format!("{port}/{}", range.protocol)));
                }
                self.extend("ExposedPorts", ports);
            }
            DockerfileAction::Volumes(paths) => self.extend("Volumes", paths.iter().cloned()),
            DockerfileAction::Entrypoint(command) => {
                let words = self.words(command);
                self.put("Entrypoint", words.into());
                // The command of the base image belongs to its entry point.
                if !self.has_own_command {
                    self.remove("Cmd");
                }
            }
            DockerfileAction::Command(command) => {
                let words = self.words(command);
                self.put("Cmd", words.into());
                self.has_own_command = true;
            }
            DockerfileAction::StopSignal(signal) => self.put("StopSignal", signal.as_str().into()),
            DockerfileAction::Shell(words) => {
                self.shell.clone_from(words);
                self.put("Shell", words.clone().into());
            }
            DockerfileAction::Healthcheck(health) => {
                self.put("Healthcheck", healthcheck_json(health));
            }
            DockerfileAction::Author(author) => {
                drop(self.all.insert("author".to_owned(), author.as_str().into()));
            }
            DockerfileAction::Copy(_)
            | DockerfileAction::Argument(_)
            | DockerfileAction::From(_)
            | DockerfileAction::Run { .. }
            | DockerfileAction::OnBuild => {}
        }
        let Some(created_by) = history_text(action) else {
            return Ok(());
        };
        let mut entry = json!({ "created": self.created, "created_by": created_by });
        match result {
            StepResult::NoLayer => entry["empty_layer"] = true.into(),
            StepResult::Layer(diff_id) => {
                if let Some(diff_ids) = self
                    .all
                    .get_mut("rootfs")
                    .and_then(|rootfs| rootfs["diff_ids"].as_array_mut())
                {
                    diff_ids.push(json!(diff_id));
                }
            }
        }
        if let Some(history) = self.all.get_mut("history").and_then(Value::as_array_mut) {
            history.push(entry);
        }
        Ok(())
    }

    /// Adds labels. They replace existing labels with the same names.
    pub(super) fn label<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a String, &'a String)>) {
        let mut labels: BTreeMap<String, Value> = self.section()["Labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        labels.extend(
            pairs
                .into_iter()
                .map(|(name, value)| (name.clone(), value.as_str().into())),
        );
        self.put("Labels", Value::Object(labels.into_iter().collect()));
    }

    /// Returns the JSON of the configuration.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        Value::Object(self.all).to_string().into_bytes()
    }

    /// Returns a command in exec form.
    fn words(&self, command: &DockerfileCommand) -> Vec<String> {
        match command {
            DockerfileCommand::Exec(words) => words.clone(),
            DockerfileCommand::Shell(line) => self
                .shell_words()
                .into_iter()
                .chain([line.clone()])
                .collect(),
        }
    }

    /// Returns the shell, or the default shell.
    fn shell_words(&self) -> Vec<String> {
        if self.shell.is_empty() {
            vec!["/bin/sh".to_owned(), "-c".to_owned()]
        } else {
            self.shell.clone()
        }
    }
}

/// Returns a health check as JSON. Durations are in nanoseconds.
fn healthcheck_json(health: &Healthcheck) -> Value {
    let Healthcheck::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = health
    else {
        return json!({ "Test": ["NONE"] });
    };
    let test: Vec<String> = match command {
        DockerfileCommand::Exec(words) => ["CMD".to_owned()]
            .into_iter()
            .chain(words.iter().cloned())
            .collect(),
        DockerfileCommand::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let mut check = json!({ "Test": test });
    for (key, time) in [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ] {
        if let Some(nanoseconds) = time.and_then(|time| u64::try_from(time.as_nanos()).ok()) {
            check[key] = nanoseconds.into();
        }
    }
    if let Some(retries) = retries {
        check["Retries"] = (*retries).into();
    }
    check
}

/// Returns the strings in a JSON array.
fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The ports in one word of `EXPOSE`.
#[derive(Debug, PartialEq, Eq)]
struct ExposedPorts {
    ports: RangeInclusive<u16>,
    protocol: String,
}

/// Parses a word of `EXPOSE`. `None` if it is malformed.
fn parse_ports(word: &str) -> Option<ExposedPorts> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(ExposedPorts {
        ports: first..=last,
        protocol,
    })
}

/// Returns an instruction in the form of the image history. `None` for instructions that are not
/// part of the history.
fn history_text(action: &DockerfileAction) -> Option<String> {
    let pairs = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let command = |command: &DockerfileCommand| match command {
        DockerfileCommand::Exec(words) => json!(words).to_string(),
        DockerfileCommand::Shell(line) => line.clone(),
    };
    Some(match action {
        DockerfileAction::From(_) | DockerfileAction::Run { .. } | DockerfileAction::OnBuild => {
            return None;
        }
        DockerfileAction::Argument(text) => format!("ARG {text}"),
        DockerfileAction::Environment(list) => format!("ENV {}", pairs(list)),
        DockerfileAction::Labels(list) => format!("LABEL {}", pairs(list)),
        DockerfileAction::Copy(copying) => copy_history_text(copying),
        DockerfileAction::WorkingDirectory(path) => format!("WORKDIR {path}"),
        DockerfileAction::User(user) => format!("USER {user}"),
        DockerfileAction::Expose(ports) => format!("EXPOSE {}", ports.join(" ")),
        DockerfileAction::Volumes(paths) => format!("VOLUME {}", json!(paths)),
        DockerfileAction::Entrypoint(line) => format!("ENTRYPOINT {}", command(line)),
        DockerfileAction::Command(line) => format!("CMD {}", command(line)),
        DockerfileAction::StopSignal(signal) => format!("STOPSIGNAL {signal}"),
        DockerfileAction::Shell(words) => format!("SHELL {}", json!(words)),
        DockerfileAction::Healthcheck(Healthcheck::None) => "HEALTHCHECK NONE".to_owned(),
        DockerfileAction::Healthcheck(Healthcheck::Check { command: line, .. }) => {
            format!("HEALTHCHECK CMD {}", command(line))
        }
        DockerfileAction::Author(author) => format!("MAINTAINER {author}"),
    })
}

/// Returns a `COPY` or `ADD` in the form of the image history.
fn copy_history_text(copying: &CopyInstruction) -> String {
    let mut words = vec![copying.verb.name().to_owned()];
    words.extend(copying.chown.iter().map(|owner| format!("--chown={owner}")));
    words.extend(copying.chmod.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(copying.sources.iter().map(|source| match source {
        CopySource::Path(path) => path.clone(),
        CopySource::HereDocument { name, .. } => format!("<<{name}"),
        CopySource::Unknown => String::new(),
    }));
    words.push(copying.destination.clone());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::instructions::{StageSettings, steps};

    fn base(config: &Value) -> ImageConfigDraft {
        let all = json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "container": "x", "docker_version": "1",
            "config": config, "rootfs": { "type": "layers", "diff_ids": ["sha256:one"] }, "history": [{ "created_by": "base" }],
        });
        let created = "2026-01-02T03:04:05Z".parse().expect("a time");
        ImageConfigDraft::of_base(all.to_string().as_bytes(), 1, created).expect("a configuration")
    }

    fn built(config: &Value, lines: &str) -> Value {
        let mut config = base(config);
        let (arguments, environment) = (BTreeMap::new(), config.environment());
        let setting = StageSettings {
            arguments: &arguments,
            target: None,
            environment: Some(&environment),
        };
        for step in steps(&format!("FROM a\n{lines}"), &setting).expect("steps") {
            config
                .apply(&step.action, &StepResult::NoLayer)
                .expect("a change");
        }
        serde_json::from_slice(&config.into_bytes()).expect("JSON")
    }

    #[test]
    fn apply_changes_the_configuration_of_the_base_image() {
        let config = json!({
            "Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "WorkingDir": "/srv", "Labels": { "x": "base", "y": "base" },
            "ExposedPorts": { "80/tcp": {} }, "User": "nobody",
        });
        let lines = "ENV A=2 B=$PATH\nLABEL x=own z=\"a b\"\nEXPOSE 81/UDP 90-91\nVOLUME /data\nWORKDIR sub/../app\nENTRYPOINT [\"run\"]\n\
                     STOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s --retries=2 CMD check it\nMAINTAINER me\nARG X=1";
        let built = built(&config, lines);
        let expected = json!({
            "Env": ["PATH=/bin", "A=2", "B=/bin"], "WorkingDir": "/srv/app", "Labels": { "x": "own", "y": "base", "z": "a b" },
            "ExposedPorts": { "80/tcp": {}, "81/udp": {}, "90/tcp": {}, "91/tcp": {} }, "User": "nobody", "Volumes": { "/data": {} },
            "Entrypoint": ["run"], "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD-SHELL", "check it"], "Interval": 5_000_000_000_u64, "Retries": 2 },
        });
        assert_eq!(built["config"], expected);
        assert_eq!(
            (&built["author"], &built["created"], &built["variant"]),
            (&json!("me"), &json!("2026-01-02T03:04:05Z"), &json!("v8"))
        );
        assert!(built.get("container").is_none() && built.get("docker_version").is_none());
        let history: Vec<&str> = built["history"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["created_by"].as_str())
            .collect();
        assert_eq!(
            history[..3],
            ["base", "ENV A=2 B=/bin", "LABEL x=own z=a b"]
        );
        assert_eq!((history.len(), history.last()), (11, Some(&"ARG X=1")));
    }

    #[test]
    fn entry_point_removes_only_the_command_of_the_base_image() {
        let config = json!({ "Cmd": ["sh"], "Entrypoint": ["base"] });
        assert_eq!(
            built(&config, "CMD [\"x\"]\nENTRYPOINT y")["config"],
            json!({ "Cmd": ["x"], "Entrypoint": ["/bin/sh", "-c", "y"] })
        );
        assert_eq!(
            built(&config, "SHELL [\"bash\"]\nENTRYPOINT y")["config"],
            json!({ "Entrypoint": ["bash", "y"], "Shell": ["bash"] })
        );
        assert_eq!(
            built(&config, "CMD [\"x\"]")["config"],
            json!({ "Cmd": ["x"], "Entrypoint": ["base"] })
        );
    }

    #[test]
    fn of_base_checks_layers_and_replaces_an_invalid_history() {
        let mut config = base(&Value::Null);
        config
            .apply(
                &DockerfileAction::WorkingDirectory("/x".to_owned()),
                &StepResult::Layer(&Digest::sha256(b"two")),
            )
            .expect("a change");
        let bytes = config.into_bytes();
        let read: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(
            read["rootfs"]["diff_ids"],
            json!(["sha256:one", Digest::sha256(b"two")])
        );
        assert_eq!(read["history"][1]["empty_layer"], Value::Null);
        let created = DateTime::<Utc>::UNIX_EPOCH;
        assert_eq!(
            ImageConfigDraft::of_base(&bytes, 3, created).err(),
            Some(ImageConfigError::Layers {
                layers: 3,
                diff_ids: 2
            })
        );
        assert_eq!(
            ImageConfigDraft::of_base(b"[]", 0, created).err(),
            Some(ImageConfigError::Malformed)
        );
        let bare = json!({ "rootfs": { "diff_ids": ["a", "b"] } }).to_string();
        let read: Value = serde_json::from_slice(
            &ImageConfigDraft::of_base(bare.as_bytes(), 2, created)
                .expect("a base")
                .into_bytes(),
        )
        .expect("JSON");
        assert_eq!(read["history"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn empty_entry_point_replaces_that_of_the_base_image() {
        let config = json!({ "Cmd": ["sh"], "Entrypoint": ["base"] });
        assert_eq!(
            built(&config, "ENTRYPOINT []")["config"],
            json!({ "Entrypoint": [] })
        );
        assert_eq!(
            built(&config, "ENTRYPOINT [ ]\nCMD [\"x\"]")["config"],
            json!({ "Entrypoint": [], "Cmd": ["x"] })
        );
    }

    #[test]
    fn exposed_ports_are_limited() {
        let mut config = base(&json!({}));
        let all = DockerfileAction::Expose(vec!["1-65535/udp".to_owned()]);
        config.apply(&all, &StepResult::NoLayer).expect("all ports");
        assert_eq!(
            config.section()["ExposedPorts"].as_object().map(Map::len),
            Some(65_535)
        );
        assert_eq!(
            config.apply(&all, &StepResult::NoLayer),
            Err(ImageConfigError::TooManyPorts)
        );
        let many = DockerfileAction::Expose(vec!["1-65535".to_owned(); 100_000]);
        assert_eq!(
            base(&json!({})).apply(&many, &StepResult::NoLayer),
            Err(ImageConfigError::TooManyPorts)
        );
    }

    #[test]
    fn parse_ports_rejects_invalid_ports() {
        for word in ["", "x", "70000", "5-4", "80/icmp", "1-2-3"] {
            assert_eq!(parse_ports(word), None, "{word}");
        }
    }

    #[test]
    fn fuzzing_base_image_configurations() {
        let seed = json!({
            "architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1", "created": "2026-01-01T00:00:00Z",
            "config": { "Env": ["PATH=/bin", "X"], "Labels": { "a": "b" }, "User": "a:b", "WorkingDir": "x", "OnBuild": ["RUN x"], "Healthcheck": {},
                "ExposedPorts": { "80/tcp": {} }, "Volumes": null, "Entrypoint": ["a"], "Cmd": null },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:one"] }, "history": [{ "created_by": "base", "empty_layer": true }],
        })
        .to_string();
        let created = "2026-01-02T03:04:05Z".parse().expect("a time");
        crate::model::fuzz_tests::fuzz("base image configurations", &[&seed], |input| {
            let Ok(mut config) = ImageConfigDraft::of_base(input, 1, created) else {
                return;
            };
            drop((
                config.platform(),
                config.trigger(),
                config.user(),
                config.working_directory(),
            ));
            let (arguments, environment) = (BTreeMap::new(), config.environment());
            let setting = StageSettings {
                arguments: &arguments,
                target: None,
                environment: Some(&environment),
            };
            let lines = "FROM a\nENV A=$PATH\nLABEL a=c\nUSER b\nWORKDIR y\nEXPOSE 81\nVOLUME /z\nCMD x\nSTOPSIGNAL 9\nHEALTHCHECK NONE\n";
            for step in steps(lines, &setting).unwrap_or_default() {
                drop(config.apply(&step.action, &StepResult::NoLayer));
            }
            assert!(serde_json::from_slice::<Value>(&config.into_bytes()).is_ok());
        });
    }
}
