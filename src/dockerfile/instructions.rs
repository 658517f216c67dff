//! The instructions of a Dockerfile as typed values, with their variables expanded.
//!
//! Variables are expanded as BuildKit does: in `ADD`, `ARG`, `COPY`, `ENV`, `EXPOSE`, `LABEL`,
//! `STOPSIGNAL`, `USER`, `VOLUME` and `WORKDIR`, but not in commands. `ENV` takes precedence over
//! an `ARG` with the same name.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parse_dockerfile as raw;
use parse_dockerfile::Instruction as Raw;

use super::arguments::{ExpandError, PREDEFINED};
use super::error::{DockerfileError, DockerfileProblem, MAX_FILE_BYTES, at};
use super::lexer::{Lexer, QuoteMode, VariableValue, pairs, split};
use super::preprocess::{escape_character, is_empty_list, preprocess};
use crate::model::Platform;

/// Maximum number of instructions in a Dockerfile.
const MAX_INSTRUCTIONS: usize = 2_000;

/// Maximum total length of all expanded values, in bytes.
const MAX_TOTAL_BYTES: usize = 4 * 1024 * 1024;

/// Sources of the values of variables in a stage.
#[derive(Clone, Copy, Debug)]
pub struct StageSettings<'a> {
    /// Build arguments, which take precedence over the defaults in the file.
    pub arguments: &'a BTreeMap<String, String>,
    /// Target platform; `None` if it is unknown.
    pub target: Option<&'a Platform>,
    /// Environment of the base image; `None` if it is unknown.
    pub environment: Option<&'a [(String, String)]>,
}

/// An instruction and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerfileStep {
    /// Line, starting at 1.
    pub line: usize,
    pub action: DockerfileAction,
}

/// The effect of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileAction {
    /// `FROM`: a stage starts.
    From(Box<Stage>),
    /// `ARG`: the declared arguments, in the form that the image history shows.
    Argument(String),
    /// `ENV`.
    Environment(Vec<(String, String)>),
    Labels(Vec<(String, String)>),
    Copy(Box<CopyInstruction>),
    WorkingDirectory(String),
    User(String),
    Expose(Vec<String>),
    Volumes(Vec<String>),
    Entrypoint(DockerfileCommand),
    Command(DockerfileCommand),
    StopSignal(String),
    Shell(Vec<String>),
    Healthcheck(Healthcheck),
    Author(String),
    /// `RUN`.
    Run {
        /// True if the command mounts the build context.
        binds: bool,
    },
    OnBuild,
}

/// A `FROM` instruction. Its arguments are not expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Image or previous stage.
    pub image: String,
    /// Value of `--platform`.
    pub platform: Option<String>,
}

/// A `COPY` or `ADD` instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyInstruction {
    pub verb: CopyVerb,
    pub sources: Vec<CopySource>,
    pub destination: String,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    /// Stage or image of `--from`.
    pub from: Option<String>,
    /// First flag other than the above and `--link`.
    pub other_flag: Option<String>,
}

/// The two instructions that copy files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyVerb {
    Copy,
    Add,
}

impl CopyVerb {
    /// Returns the keyword of the instruction.
    pub fn name(self) -> &'static str {
        match self {
            CopyVerb::Copy => "COPY",
            CopyVerb::Add => "ADD",
        }
    }
}

/// A source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern in the build context, or a URL.
    Path(String),
    /// A here-document with its name and its text.
    HereDocument { name: String, text: String },
    /// A source whose name depends on the base image or the target platform, which is unknown.
    Unknown,
}

impl CopyInstruction {
    /// Returns the first source of `ADD` that must be downloaded, or `None`.
    pub fn remote_source(&self) -> Option<&str> {
        let is_remote = |path: &str| {
            let lower = path.to_ascii_lowercase();
            ["http://", "https://", "git://", "ssh://", "ftp://", "git@"]
                .iter()
                .any(|scheme| lower.starts_with(scheme))
                || (lower.starts_with("github.com/") && lower.contains(".git"))
        };
        let paths = self.sources.iter().filter_map(|source| match source {
            CopySource::Path(path) => Some(path.as_str()),
            CopySource::HereDocument { .. } | CopySource::Unknown => None,
        });
        paths
            .filter(|_| self.verb == CopyVerb::Add)
            .find(|path| is_remote(path))
    }
}

/// A command in exec form or shell form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileCommand {
    Exec(Vec<String>),
    Shell(String),
}

/// A `HEALTHCHECK` instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    None,
    Check {
        command: DockerfileCommand,
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u64>,
    },
}

/// Parses the instructions of a Dockerfile, starting at the first `FROM`.
///
/// If the environment of the base image or the target platform is unknown, instructions whose
/// values depend on it are omitted. Of `COPY` and `ADD`, only the affected sources are replaced by
/// [`CopySource::Unknown`].
pub fn steps(
    text: &str,
    setting: &StageSettings<'_>,
) -> Result<Vec<DockerfileStep>, DockerfileError> {
    let whole = |problem| DockerfileError {
        line: None,
        problem,
    };
    if text.len() > MAX_FILE_BYTES {
        return Err(whole(DockerfileProblem::TooLarge));
    }
    let syntax = |error: raw::Error| match error.line() {
        0 => whole(DockerfileProblem::NoStage),
        line => at(line, DockerfileProblem::Syntax(format!("{error:#}"))),
    };
    // The parser does not count a byte order mark in offsets.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_at = |offset: usize| ends.partition_point(|end| *end < offset) + 1;
    let preprocessed = preprocess(text, escape_character(text))?;
    let mut reader = InstructionReader {
        text,
        escape: escape_character(text),
        setting,
        global: BTreeMap::new(),
        arguments: BTreeMap::new(),
        environment: Vec::new(),
        base: setting.environment,
        unknown: BTreeSet::new(),
        in_stage: false,
        size: Cell::new(0),
    };
    let mut steps = Vec::new();
    for (count, instruction) in raw::parse_iter(&preprocessed).map_err(syntax)?.enumerate() {
        let instruction = instruction.map_err(syntax)?;
        let line = line_at(start(&instruction));
        if count == MAX_INSTRUCTIONS {
            return Err(at(line, DockerfileProblem::TooManyInstructions));
        }
        let names = set_variables(&instruction, reader.escape);
        match reader.read(instruction) {
            Ok(Some(action)) => steps.push(DockerfileStep { line, action }),
            Ok(None) => {}
            Err(problem) if setting.environment.is_none() && depends_on_base(&problem) => {
                reader.unknown.extend(names);
            }
            Err(problem) => return Err(at(line, problem)),
        }
    }
    Ok(steps)
}

/// Returns true if the problem may only exist because the environment of the base image is unknown.
fn depends_on_base(problem: &DockerfileProblem) -> bool {
    matches!(
        problem,
        DockerfileProblem::EmptyValue
            | DockerfileProblem::Argument(ExpandError::Unknown(_) | ExpandError::Required { .. })
    )
}

/// Returns the names of the variables that an instruction sets.
fn set_variables(instruction: &Raw<'_>, escape: char) -> Vec<String> {
    let name = |word: &str| {
        word.split_once('=')
            .map_or(word, |(name, _)| name)
            .to_owned()
    };
    match instruction {
        Raw::Env(environment) => {
            let pairs = pairs(&environment.arguments.value, escape).unwrap_or_default();
            pairs.into_iter().map(|(name, _)| name.to_owned()).collect()
        }
        Raw::Arg(argument) => split(&argument.arguments.value, escape)
            .unwrap_or_default()
            .into_iter()
            .map(name)
            .collect(),
        _ => Vec::new(),
    }
}

/// Returns the offset of the keyword of an instruction.
fn start(instruction: &Raw<'_>) -> usize {
    let keyword = match instruction {
        Raw::Add(instruction) => &instruction.add,
        Raw::Arg(instruction) => &instruction.arg,
        Raw::Cmd(instruction) => &instruction.cmd,
        Raw::Copy(instruction) => &instruction.copy,
        Raw::Entrypoint(instruction) => &instruction.entrypoint,
        Raw::Env(instruction) => &instruction.env,
        Raw::Expose(instruction) => &instruction.expose,
        Raw::From(instruction) => &instruction.from,
        Raw::Healthcheck(instruction) => &instruction.healthcheck,
        Raw::Label(instruction) => &instruction.label,
        Raw::Maintainer(instruction) => &instruction.maintainer,
        Raw::Onbuild(instruction) => &instruction.onbuild,
        Raw::Run(instruction) => &instruction.run,
        Raw::Shell(instruction) => &instruction.shell,
        Raw::Stopsignal(instruction) => &instruction.stopsignal,
        Raw::User(instruction) => &instruction.user,
        Raw::Volume(instruction) => &instruction.volume,
        Raw::Workdir(instruction) => &instruction.workdir,
        _ => return 0,
    };
    keyword.span.start
}

/// Parser state: the variables of the current stage.
struct InstructionReader<'a> {
    text: &'a str,
    /// Escape character of the file.
    escape: char,
    setting: &'a StageSettings<'a>,
    /// Arguments that were declared before the first `FROM`.
    global: BTreeMap<String, Option<String>>,
    /// Arguments that were declared in this stage.
    arguments: BTreeMap<String, Option<String>>,
    /// Variables that `ENV` set in this stage.
    environment: Vec<(String, String)>,
    /// Environment of the base image of this stage; `None` if it is unknown.
    base: Option<&'a [(String, String)]>,
    /// Variables whose values are unknown, because they depend on the base image or the platform.
    unknown: BTreeSet<String>,
    /// True after the first `FROM`.
    in_stage: bool,
    /// Total length of all values so far, in bytes.
    size: Cell<usize>,
}

impl InstructionReader<'_> {
    /// Returns the effect of an instruction; `None` for an `ARG` before the first `FROM`.
    fn read(
        &mut self,
        instruction: Raw<'_>,
    ) -> Result<Option<DockerfileAction>, DockerfileProblem> {
        Ok(Some(match instruction {
            Raw::From(from) => DockerfileAction::From(Box::new(self.from(&from))),
            Raw::Arg(argument) => match self.declare(&argument.arguments.value)? {
                shown if self.in_stage => DockerfileAction::Argument(shown),
                _ => return Ok(None),
            },
            Raw::Env(environment) => {
                let pairs = self.pairs(&environment.arguments.value)?;
                for (name, value) in &pairs {
                    set(&mut self.environment, name, value);
                }
                DockerfileAction::Environment(pairs)
            }
            Raw::Label(label) => DockerfileAction::Labels(self.pairs(&label.arguments.value)?),
            Raw::Copy(copy) => DockerfileAction::Copy(Box::new(self.copy_instruction(
                CopyVerb::Copy,
                &copy.options,
                &copy.src,
                &copy.dest,
            )?)),
            Raw::Add(add) => DockerfileAction::Copy(Box::new(self.copy_instruction(
                CopyVerb::Add,
                &add.options,
                &add.src,
                &add.dest,
            )?)),
            Raw::Workdir(workdir) => {
                DockerfileAction::WorkingDirectory(self.expand_non_empty(&workdir.arguments.value)?)
            }
            Raw::User(user) => {
                DockerfileAction::User(self.expand_non_empty(&user.arguments.value)?)
            }
            Raw::Stopsignal(signal) => {
                DockerfileAction::StopSignal(self.expand_non_empty(&signal.arguments.value)?)
            }
            Raw::Expose(expose) => {
                let mut ports = Vec::new();
                for port in &expose.arguments {
                    // A variable may contain several ports.
                    ports.extend(
                        self.expand(&port.value)?
                            .split_whitespace()
                            .map(str::to_owned),
                    );
                }
                DockerfileAction::Expose(ports)
            }
            Raw::Volume(volume) => {
                let paths = match &volume.arguments {
                    raw::JsonOrStringArray::Json(array) => &array.value[..],
                    raw::JsonOrStringArray::String(words) => &words[..],
                };
                DockerfileAction::Volumes(
                    paths
                        .iter()
                        .map(|path| self.expand_non_empty(&path.value))
                        .collect::<Result<_, _>>()?,
                )
            }
            Raw::Cmd(command) => DockerfileAction::Command(self.command(&command.arguments)?),
            Raw::Entrypoint(entrypoint) => {
                DockerfileAction::Entrypoint(self.command(&entrypoint.arguments)?)
            }
            Raw::Shell(shell) => DockerfileAction::Shell(texts(&shell.arguments)),
            Raw::Healthcheck(check) => DockerfileAction::Healthcheck(self.health(&check)?),
            Raw::Maintainer(maintainer) => {
                DockerfileAction::Author(maintainer.name.value.into_owned())
            }
            Raw::Run(run) => DockerfileAction::Run {
                binds: run.options.iter().any(|flag| {
                    let kind = flag.value.as_ref().map_or("", |value| &value.value);
                    flag.name.value == "mount"
                        && (!kind.contains("type=")
                            || kind.contains("type=bind")
                            || kind.contains('$'))
                }),
            },
            Raw::Onbuild(_) => DockerfileAction::OnBuild,
            _ => return Err(DockerfileProblem::Syntax("unknown instruction".to_owned())),
        }))
    }

    /// Starts a stage.
    fn from(&mut self, from: &raw::FromInstruction<'_>) -> Stage {
        if self.in_stage {
            // `setting.environment` is that of the base image of the first stage.
            self.base = None;
        }
        self.in_stage = true;
        self.arguments.clear();
        self.environment.clear();
        self.unknown.clear();
        let platform = from
            .options
            .iter()
            .find(|flag| flag.name.value == "platform");
        Stage {
            image: from.image.value.to_string(),
            platform: platform.map(|flag| {
                flag.value
                    .as_ref()
                    .map_or(String::new(), |value| value.value.to_string())
            }),
        }
    }

    /// Declares the arguments in `text`, which follows `ARG`. Returns them in the form that the
    /// image history shows.
    fn declare(&mut self, text: &str) -> Result<String, DockerfileProblem> {
        let mut shown = Vec::new();
        for word in split(text, self.escape)? {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(self.expand(default)?)),
                None => (word, None),
            };
            let inherited = || self.global.get(name).cloned().flatten();
            let given = self.setting.arguments.get(name).cloned();
            let value = given
                .or(default)
                .or_else(|| if self.in_stage { inherited() } else { None });
            self.grow(value.as_ref().map_or(0, String::len))?;
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
            let scope = if self.in_stage {
                &mut self.arguments
            } else {
                &mut self.global
            };
            scope.insert(name.to_owned(), value);
        }
        Ok(shown.join(" "))
    }

    /// Adds to the total length of all values. Fails if that exceeds the limit.
    fn grow(&self, length: usize) -> Result<(), ExpandError> {
        self.size.set(self.size.get().saturating_add(length));
        if self.size.get() > MAX_TOTAL_BYTES {
            Err(ExpandError::TooLong)
        } else {
            Ok(())
        }
    }

    /// Returns the value of a variable.
    fn lookup(&self, name: &str) -> VariableValue {
        if self.unknown.contains(name) {
            return VariableValue::Unknown;
        }
        if !self.in_stage {
            return match self.global.get(name) {
                Some(value) => value
                    .clone()
                    .map_or(VariableValue::Unset, VariableValue::Set),
                None => self.predefined(name),
            };
        }
        if let Some((_, value)) = self
            .environment
            .iter()
            .find(|(existing, _)| existing == name)
        {
            return VariableValue::Set(value.clone());
        }
        if let Some((_, value)) = self
            .base
            .and_then(|base| base.iter().find(|(existing, _)| existing == name))
        {
            return VariableValue::Set(value.clone());
        }
        match self.arguments.get(name) {
            Some(Some(value)) => VariableValue::Set(value.clone()),
            Some(None) if PREDEFINED.contains(&name) => self.predefined(name),
            _ if self.base.is_none() => VariableValue::Unknown,
            Some(None) => VariableValue::Unset,
            None => VariableValue::Unset,
        }
    }

    /// Returns the value of a predefined argument (Dockerfile reference, "Automatic platform ARGs
    /// in the global scope").
    fn predefined(&self, name: &str) -> VariableValue {
        if !PREDEFINED.contains(&name) {
            return VariableValue::Unset;
        }
        if let Some(value) = self.setting.arguments.get(name) {
            return VariableValue::Set(value.clone());
        }
        let (platform, part) = if let Some(part) = name.strip_prefix("TARGET") {
            match self.setting.target {
                Some(target) => (Cow::Borrowed(target), part),
                None => return VariableValue::Unknown,
            }
        } else {
            (
                Cow::Owned(host_platform()),
                name.trim_start_matches("BUILD"),
            )
        };
        VariableValue::Set(match part {
            "PLATFORM" => platform.to_string(),
            "OS" => platform.os.clone(),
            "ARCH" => platform.architecture.clone(),
            _ => platform.variant.clone().unwrap_or_default(),
        })
    }

    /// Removes quotes and escapes from `text` and expands its variables.
    fn expand(&self, text: &str) -> Result<String, ExpandError> {
        let expanded = Lexer {
            escape: self.escape,
            quotes: QuoteMode::Group,
            lookup: &|name| self.lookup(name),
        }
        .expand(text)?;
        self.grow(expanded.len())?;
        Ok(expanded)
    }

    /// Like [`expand`](Self::expand), but fails if the result is empty.
    fn expand_non_empty(&self, text: &str) -> Result<String, DockerfileProblem> {
        match self.expand(text)? {
            value if value.is_empty() => Err(DockerfileProblem::EmptyValue),
            value => Ok(value),
        }
    }

    /// Expands `text` with `expand`, or returns it unchanged if its value depends on an unknown
    /// base image. For values that are only used if the base image is known.
    fn expand_if_known(
        &self,
        text: &str,
        expand: impl Fn(&Self, &str) -> Result<String, DockerfileProblem>,
    ) -> Result<String, DockerfileProblem> {
        match expand(self, text) {
            Err(problem) if self.setting.environment.is_none() && depends_on_base(&problem) => {
                Ok(text.to_owned())
            }
            result => result,
        }
    }

    /// Expands the pairs of `ENV` or `LABEL`.
    fn pairs(&self, text: &str) -> Result<Vec<(String, String)>, DockerfileProblem> {
        pairs(text, self.escape)?
            .into_iter()
            .map(|(name, value)| Ok((self.expand_non_empty(name)?, self.expand(value)?)))
            .collect()
    }

    /// Parses a `COPY` or `ADD`.
    fn copy_instruction(
        &self,
        verb: CopyVerb,
        flags: &[raw::Flag<'_>],
        sources: &[raw::Source<'_>],
        destination: &raw::UnescapedString<'_>,
    ) -> Result<CopyInstruction, DockerfileProblem> {
        let mut copying = CopyInstruction {
            verb,
            sources: Vec::new(),
            destination: self.expand_if_known(&destination.value, Self::expand_non_empty)?,
            chown: None,
            chmod: None,
            from: None,
            other_flag: None,
        };
        for flag in flags {
            let expand = |value: &raw::UnescapedString<'_>| {
                self.expand_if_known(&value.value, |reader, text| Ok(reader.expand(text)?))
            };
            let value = || flag.value.as_ref().map_or(Ok(String::new()), expand);
            match &*flag.name.value {
                "chown" => copying.chown = Some(value()?),
                "chmod" => copying.chmod = Some(value()?),
                "from" => {
                    copying.from = Some(
                        flag.value
                            .as_ref()
                            .map_or(String::new(), |value| value.value.to_string()),
                    );
                }
                "link" => {}
                other => drop(
                    copying
                        .other_flag
                        .get_or_insert_with(|| format!("--{other}")),
                ),
            }
        }
        for source in sources {
            copying.sources.push(match source {
                raw::Source::Path(path) => match self.expand_non_empty(&path.value) {
                    Ok(path) => CopySource::Path(path),
                    Err(problem)
                        if self.setting.environment.is_none() && depends_on_base(&problem) =>
                    {
                        CopySource::Unknown
                    }
                    Err(problem) => return Err(problem),
                },
                raw::Source::HereDoc(document) => self.here_document(document)?,
                _ => {
                    return Err(DockerfileProblem::Syntax(
                        "unknown kind of source".to_owned(),
                    ));
                }
            });
        }
        Ok(copying)
    }

    fn here_document(&self, document: &raw::HereDoc<'_>) -> Result<CopySource, DockerfileProblem> {
        // The parser keeps only the text. The name is in the line that terminates it.
        let name = self.text[document.span.end..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r')
            .to_owned();
        let lexer = Lexer {
            escape: '\\',
            quotes: QuoteMode::Literal,
            lookup: &|name| self.lookup(name),
        };
        let text = if document.expand {
            self.expand_if_known(&document.value, |_, text| Ok(lexer.expand(text)?))?
        } else {
            document.value.to_string()
        };
        self.grow(text.len())?;
        Ok(CopySource::HereDocument { name, text })
    }

    fn command(&self, command: &raw::Command<'_>) -> Result<DockerfileCommand, DockerfileProblem> {
        match command {
            raw::Command::Exec(words) => Ok(DockerfileCommand::Exec(texts(&words.value))),
            // The parser sees a placeholder for an empty list, so the original text is checked.
            raw::Command::Shell(line)
                if self.text.get(line.span.clone()).is_some_and(is_empty_list) =>
            {
                Ok(DockerfileCommand::Exec(Vec::new()))
            }
            raw::Command::Shell(line) => Ok(DockerfileCommand::Shell(join_lines(
                line.value,
                self.escape,
            ))),
            _ => Err(DockerfileProblem::Syntax(
                "unknown form of a command".to_owned(),
            )),
        }
    }

    fn health(
        &self,
        check: &raw::HealthcheckInstruction<'_>,
    ) -> Result<Healthcheck, DockerfileProblem> {
        let raw::HealthcheckArguments::Cmd { arguments, .. } = &check.arguments else {
            return Ok(Healthcheck::None);
        };
        let (mut interval, mut timeout, mut start_period, mut start_interval, mut retries) =
            (None, None, None, None, None);
        for flag in &check.options {
            let value = flag.value.as_ref().map_or("", |value| &*value.value);
            let invalid = || DockerfileProblem::Flag {
                flag: format!("--{}", flag.name.value),
                value: value.to_owned(),
            };
            let time = || duration(value).ok_or_else(invalid);
            match &*flag.name.value {
                "interval" => interval = Some(time()?),
                "timeout" => timeout = Some(time()?),
                "start-period" => start_period = Some(time()?),
                "start-interval" => start_interval = Some(time()?),
                "retries" => retries = Some(value.parse().map_err(|_| invalid())?),
                _ => return Err(invalid()),
            }
        }
        Ok(Healthcheck::Check {
            command: self.command(arguments)?,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        })
    }
}

/// Sets the variable `name`. An existing variable keeps its position in the list.
pub fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    match variables.iter_mut().find(|(existing, _)| existing == name) {
        Some((_, existing)) => value.clone_into(existing),
        None => variables.push((name.to_owned(), value.to_owned())),
    }
}

/// Returns the words as strings.
fn texts(words: &[raw::UnescapedString<'_>]) -> Vec<String> {
    words.iter().map(|word| word.value.to_string()).collect()
}

/// Returns the platform of this machine in the notation of images.
fn host_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
        os_version: None,
    }
}

/// Joins the lines of a command: removes escape characters at the ends of lines, and the comments
/// between them.
fn join_lines(text: &str, escape: char) -> String {
    let mut line = String::new();
    for (count, part) in text.lines().enumerate() {
        if count > 0 && (part.trim_start().starts_with('#') || part.trim().is_empty()) {
            continue;
        }
        let trimmed = part.trim_end();
        line.push_str(trimmed.strip_suffix(escape).unwrap_or(part));
    }
    line.trim().to_owned()
}

/// Parses a duration in Go's notation: `1m30s`, `1.5h`, `300ms`. `None` if it is malformed.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|character: char| !(character.is_ascii_digit() || character == '.'))
            .filter(|length| *length > 0)?;
        let unit_end =
            rest[number..].find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, after) = rest[number..].split_at(unit_end.unwrap_or(rest.len() - number));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += rest[..number].parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total)
        .ok()
        .filter(|duration| duration.as_nanos() < i64::MAX as u128)
}

#[cfg(test)]
mod tests;
