//! `imglife import`: converts the file of another mirroring tool.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::result::CommandResult;
use super::{CommandContext, OutputForm};
use crate::config::import::{self, ImportedFile};
use crate::config::{DEFAULT_NAME, SourceText};
use crate::error::{Exit, Failure};
use crate::files;
use crate::report::{Block, Document};

/// Permissions of the written file.
const FILE_MODE: u32 = 0o644;

/// Maximum size of a file, in bytes.
const MAX_IMPORT_BYTES: u64 = 16 << 20;

/// Options of `imglife import`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// File of the other tool.
    pub file: PathBuf,
    /// File to write; `None` for `imglife.yaml`. `-` is standard output.
    pub to: Option<PathBuf>,
    /// Start of the targets, if the file does not contain them.
    pub target: Option<String>,
    /// True if an existing file is replaced.
    pub force: bool,
    pub output: OutputForm,
}

/// Report of `imglife import`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImportReport {
    tool: &'static str,
    file: Option<PathBuf>,
    entries: usize,
    /// Settings without an equivalent.
    remarks: Vec<String>,
}

/// Converts a file and writes the configuration.
pub(super) fn run(
    options: &ImportOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let text = read(&process.directory.join(&options.file), &options.file)?;
    let source = SourceText {
        name: options.file.display().to_string(),
        text,
    };
    let prefix = options
        .target
        .as_deref()
        .unwrap_or(import::DEFAULT_TARGET_PREFIX)
        .trim_end_matches('/');
    let converted = import::import(&source, prefix).map_err(Failure::usage)?;
    let name = options
        .to
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_NAME));
    if name.as_os_str() == "-" {
        return Ok(CommandResult::text(converted.text));
    }
    write(
        &process.directory.join(&name),
        &name,
        options.force,
        &converted,
    )?;
    let report = ImportReport {
        tool: converted.tool.name(),
        file: Some(name.clone()),
        entries: converted.entries,
        remarks: converted.remarks,
    };
    let mut lines = vec![format!(
        "{} converted from {} to {}: {} entries",
        options.file.display(),
        report.tool,
        name.display(),
        report.entries
    )];
    lines.extend(
        report
            .remarks
            .iter()
            .map(|remark| format!("note: {remark}")),
    );
    lines.push("run `imglife sync --list` to see what the entries select".to_owned());
    let document = Document {
        blocks: vec![Block::Lines(lines)],
    };
    Ok(
        CommandResult::reported(Exit::Done, options.output, "import", &report, document)?
            .changed(true),
    )
}

fn read(path: &Path, name: &Path) -> Result<String, Failure> {
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_IMPORT_BYTES).read_to_string(&mut text)?;
        Ok(text)
    });
    text.map_err(|error| Failure::usage(format!("cannot read {}: {error}", name.display())))
}

fn write(path: &Path, name: &Path, force: bool, file: &ImportedFile) -> Result<(), Failure> {
    let content = file.text.as_bytes();
    let written = if force {
        files::replace(path, FILE_MODE, content)
    } else {
        files::create(path, FILE_MODE, content)
    };
    written.map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let failure = Failure::usage(format!("cannot write {}: {error}", name.display()));
        if exists {
            failure.hint("pass `--force` to replace it, or another file with `--to`")
        } else {
            failure
        }
    })
}
