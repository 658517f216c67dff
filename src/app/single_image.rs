//! `imglife copy` and `imglife tags`: what `sync` does, for one image or repository and without an
//! entry in the configuration.

use std::fmt::Write as _;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::configuration::load_configuration;
use super::image_stores::image_stores;
use super::result::CommandResult;
use super::sync::sync;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, runtime};
use crate::config::{self, CheckDigest, Config, SourceText, SyncConfig, SyncEntry, TagSelection};
use crate::error::{Exit, Failure};
use crate::model::{ImageReference, Platform, Repository, Tag};
use crate::process::Process;
use crate::report::{Block, Cell, Document, Table, Tone};
use crate::steps::sync::{self as step, LeftOutReason, SyncScope, TagDecision};

/// Name of the configuration that the arguments are read as, in messages.
const ARGUMENTS: &str = "arguments";

/// Target of the entry that `tags` selects with. Nothing is written to it.
const UNUSED_TARGET: &str = "ocidir://unused";

/// Options of `imglife copy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub mode: Mode,
    pub source: ImageReference,
    pub target: ImageReference,
    /// Platforms to copy; empty for all.
    pub platforms: Vec<Platform>,
    /// True if signatures and other attachments are copied.
    pub referrers: bool,
    /// True if the image that the tag had before is kept under another tag.
    pub keep_replaced: bool,
    pub output: OutputForm,
}

/// Options of `imglife tags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsOptions {
    pub source: Repository,
    /// Keys of an entry with their values, as in the configuration.
    pub rules: Vec<(&'static str, String)>,
    /// Tags of `include`.
    pub include: Vec<Tag>,
    /// True if all listed tags are printed, with the rule that left each out.
    pub all: bool,
    pub output: OutputForm,
}

/// Copies one image, like a `sync` with one entry that has a fixed tag.
pub(super) fn copy(
    options: &CopyOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let mut config = load_configuration(global, process)?;
    let source = options.source.resolved_below(&process.directory);
    let target = options.target.resolved_below(&process.directory);
    let tag = source
        .tag
        .clone()
        .or_else(|| source.digest.is_none().then(Tag::latest))
        .or_else(|| target.tag.clone())
        .ok_or_else(|| {
            Failure::usage(format!("{source} has a digest without a tag")).hint(format!(
                "add a tag to the target: `{}:TAG`",
                target.repository
            ))
        })?;
    if target.digest.is_some() {
        return Err(Failure::usage(format!("{target} has a digest"))
            .hint("a target is a repository with or without a tag"));
    }
    if source.repository == target.repository && target.tag.as_ref().is_none_or(|to| *to == tag) {
        return Err(Failure::usage(format!(
            "the source and the target are the same image, {}:{tag}",
            source.repository
        )));
    }
    let rules = [("tag", tag.to_string())];
    let entry = entry(&source.repository, &target.repository, &rules, &[], process)?;
    config.sync = Some(SyncConfig {
        parallelism: 1,
        entries: vec![SyncEntry {
            digest: source.digest.clone(),
            target_tag: target.tag.filter(|to| *to != tag),
            check_digest: CheckDigest::Always,
            keep_replaced: options.keep_replaced,
            platforms: (!options.platforms.is_empty()).then(|| options.platforms.clone()),
            referrers: options.referrers,
            ..entry
        }],
        post_sync: Vec::new(),
    });
    let scope = SyncScope::default();
    runtime::run(context.deadline, |cancel: CancellationToken| async {
        let Some(entries) = &config.sync else {
            return Err(Failure::failed("there is nothing to copy"));
        };
        let report = sync(&config, entries, &scope, options.mode, context, cancel).await?;
        let changed =
            options.mode == Mode::Apply && report.totals.copied + report.totals.attachments > 0;
        let result = CommandResult::reported(
            report.exit(),
            options.output,
            "copy",
            &report,
            report.document(),
        )?;
        Ok(result.changed(changed))
    })
}

/// Report of `imglife tags`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TagsReport {
    source: Repository,
    /// Number of listed tags.
    listed: usize,
    tags: Vec<TagDecision>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Prints the tags that the rules of an entry would select.
pub(super) fn tags(
    options: &TagsOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    let source = options.source.resolved_below(&process.directory);
    let target: Repository = UNUSED_TARGET.parse().map_err(Failure::usage)?;
    let mut rules = options.rules.clone();
    let has_rule = |name: &str| rules.iter().any(|(key, _)| *key == name);
    if !has_rule("tag_regex") && !has_rule("semver") && options.include.is_empty() {
        rules.push(("tag_regex", ".*".to_owned()));
    }
    let entry = entry(&source, &target, &rules, &options.include, process)?;
    let TagSelection::Pattern(pattern) = &entry.selection else {
        return Err(Failure::usage("no rule selects tags"));
    };
    runtime::read(context.deadline, async {
        let stores = image_stores(&config, [&source].into_iter(), context, Mode::List)?;
        let progress = &*context.progress;
        let listing = step::listing(&entry, &stores, progress)
            .await
            .map_err(Failure::failed)?;
        let selection = step::explain(pattern, &listing, process.clock.now());
        let report = TagsReport {
            source: source.clone(),
            listed: listing.len(),
            tags: selection.tags,
            warnings: selection.warnings,
        };
        let exit = if selection.error.is_some() {
            Exit::Failed
        } else {
            Exit::Done
        };
        let mut document = report.document(options.all);
        if let Some(error) = &selection.error {
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
            document
                .blocks
                .push(Block::Lines(vec![format!("error: {}{hint}", error.line())]));
        }
        CommandResult::reported(exit, options.output, "tags", &report, document)
    })
}

impl TagsReport {
    /// Returns the selected tags, or all tags with their reasons, and the number of tags that each
    /// rule left out.
    fn document(&self, all: bool) -> Document {
        let rows = self
            .tags
            .iter()
            .filter(|decision| all || decision.left_out.is_none())
            .map(|decision| {
                let mut row = vec![Cell::plain(decision.tag.to_string())];
                if all {
                    row.push(match decision.left_out {
                        None => Cell::toned("selected", Tone::Good),
                        Some(reason) => Cell::toned(reason.text(), Tone::Quiet),
                    });
                }
                row
            })
            .collect();
        let mut summary = format!(
            "{} of {} tags selected",
            self.tags
                .iter()
                .filter(|decision| decision.left_out.is_none())
                .count(),
            self.listed
        );
        let mut separator = "; left out: ";
        for reason in LeftOutReason::ALL {
            let count = self
                .tags
                .iter()
                .filter(|decision| decision.left_out == Some(reason))
                .count();
            if count > 0 {
                let _ = write!(summary, "{separator}{count} {}", reason.text());
                separator = ", ";
            }
        }
        let mut lines = vec![summary];
        lines.extend(
            self.warnings
                .iter()
                .map(|warning| format!("warning: {warning}")),
        );
        Document {
            blocks: vec![
                Block::Table(Table {
                    title: None,
                    columns: Vec::new(),
                    rows,
                }),
                Block::Lines(lines),
            ],
        }
    }
}

/// Returns the entry that arguments describe, read and checked like an entry of the file.
fn entry(
    source: &Repository,
    target: &Repository,
    rules: &[(&'static str, String)],
    include: &[Tag],
    process: &Process,
) -> Result<SyncEntry, Failure> {
    let mut text = "sync:\n  entries:\n    - ".to_owned();
    let include: Vec<String> = include.iter().map(ToString::to_string).collect();
    let repositories = [
        ("source", source.to_string()),
        ("target", target.to_string()),
    ];
    for (key, value) in repositories.iter().chain(rules) {
        // A JSON string is a YAML string.
        let _ = write!(
            text,
            "{key}: {}\n      ",
            serde_json::Value::from(value.as_str())
        );
    }
    if !include.is_empty() {
        let _ = write!(text, "include: {}", serde_json::Value::from(include));
    }
    let source = SourceText {
        name: ARGUMENTS.to_owned(),
        text,
    };
    let variables = crate::model::Variables::default();
    let config: Config =
        config::load(&source, &process.directory, &variables).map_err(Failure::usage)?;
    config
        .sync
        .and_then(|sync| sync.entries.into_iter().next())
        .ok_or_else(|| Failure::usage("the arguments name no image"))
}
