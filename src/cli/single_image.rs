//! `imglife copy` and `imglife tags`.

use clap::Args;

use super::output::{OutputFormArgument, mode};
use crate::app::{CopyOptions, TagsOptions};
use crate::model::{ImageReference, Platform, Repository, Tag};

/// Copy one image
///
/// Does for one image what `imglife sync` does for each selected tag: copies the image bit for bit,
/// with its signatures and other attachments, writes the tag last, and does nothing if the target
/// already has the image. Needs no configuration; hosts and plain HTTP registries of an existing one
/// apply.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife copy alpine:3.21.3 registry.example.com/mirrors/alpine
      copy an image under the same tag
  imglife copy registry.example.com/a:1.0 registry.example.com/b:stable
      copy an image under another tag
  imglife copy --platform linux/amd64 golang:1.24 ocidir://golang
      copy one platform into a directory

Exit codes:
  0  the image is at the target
  1  the image could not be copied
  2  invalid usage or configuration; nothing was changed")]
pub(super) struct CopyArguments {
    /// Image to copy: a repository with a tag (default `latest`) or a digest
    #[arg(value_name = "SOURCE")]
    source: ImageReference,

    /// Repository to copy to, with or without another tag
    #[arg(value_name = "TARGET")]
    target: ImageReference,

    /// Only this platform, such as `linux/amd64` (can be repeated)
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<Platform>,

    /// Do not copy signatures, SBOMs and attestations
    #[arg(long)]
    no_referrers: bool,

    /// Keep the old image of an overwritten tag as `<tag>-replaced.<YYYYMMDD>`
    #[arg(long)]
    keep_replaced: bool,

    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl CopyArguments {
    pub(super) fn options(self) -> CopyOptions {
        CopyOptions {
            mode: mode(false, self.dry_run),
            source: self.source,
            target: self.target,
            platforms: self.platforms,
            referrers: !self.no_referrers,
            keep_replaced: self.keep_replaced,
            output: self.output.into(),
        }
    }
}

/// List the tags that the rules of a `sync` entry would select
///
/// The flags are the keys of an entry of the configuration. Prints the selected tags, newest first,
/// and the number of tags that each rule left out.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife tags alpine --semver '>=3.20' --keep-last 2 --per minor
      list the newest two patches of each release line from 3.20
  imglife tags golang --tag-regex '1\\.\\d+\\.\\d+-alpine.*' --keep-last 3 --all
      list all tags, with the rule that left each out

Exit codes:
  0  success
  1  the repository could not be listed, or no tag is selected
  2  invalid usage or configuration")]
pub(super) struct TagsArguments {
    /// Repository
    #[arg(value_name = "SOURCE")]
    source: Repository,

    /// Regular expression that must match the complete tag
    #[arg(long, value_name = "REGEX")]
    tag_regex: Option<String>,

    /// Range of release numbers, such as `>=3.20, <4`
    #[arg(long, value_name = "RANGE")]
    semver: Option<String>,

    /// Tag that is selected in any case (can be repeated)
    #[arg(long, value_name = "TAG")]
    include: Vec<Tag>,

    /// Regular expression of the tags to leave out
    #[arg(long, value_name = "REGEX")]
    exclude_regex: Option<String>,

    /// Minimum time since a tag was pushed
    #[arg(long, value_name = "DURATION")]
    min_age: Option<String>,

    /// Select pre-releases (`true`) or leave them out (`false`)
    #[arg(long, value_name = "BOOL")]
    prereleases: Option<String>,

    /// Order of the tags: `version` or `date`
    #[arg(long, value_name = "ORDER")]
    sort: Option<String>,

    /// Number of newest tags, in each group of `--per`
    #[arg(long, value_name = "NUMBER")]
    keep_last: Option<String>,

    /// Groups that `--keep-last` counts in: `variant`, `minor` or `major`
    #[arg(long, value_name = "GROUP")]
    per: Option<String>,

    /// Number of newest groups
    #[arg(long, value_name = "NUMBER")]
    keep_groups: Option<String>,

    /// Unit of `--keep-last`: `tags` or `versions`
    #[arg(long, value_name = "UNIT")]
    count: Option<String>,

    /// Print all listed tags, with the rule that left each out
    #[arg(long)]
    all: bool,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl TagsArguments {
    pub(super) fn options(self) -> TagsOptions {
        let rules = [
            ("tag_regex", self.tag_regex),
            ("semver", self.semver),
            ("exclude_regex", self.exclude_regex),
            ("min_age", self.min_age),
            ("prereleases", self.prereleases),
            ("sort", self.sort),
            ("keep_last", self.keep_last),
            ("per", self.per),
            ("keep_groups", self.keep_groups),
            ("count", self.count),
        ];
        TagsOptions {
            source: self.source,
            rules: rules
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .collect(),
            include: self.include,
            all: self.all,
            output: self.output.into(),
        }
    }
}
