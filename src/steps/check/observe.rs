//! What is known of bases, from the first source that has it.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use thiserror::Error;

use super::known::{Configured, Known, KnownBase, Source};
use crate::config::{
    ConfigErrors, DEFAULT_NAME, EolTarget, ForeignConfig, SourceText, load_foreign,
};
use crate::eol::{DataError, Table};
use crate::error::{ItemError, chain};
use crate::forge::{Forge, ForgeError};
use crate::model::eol::{Cycle, Phase};
use crate::model::inventory::InvalidInventory;
use crate::model::{Digest, ImageReference, Inventory, Reference, Repository, Tag, Variables};
use crate::packages::{DataFile, Records};
use crate::registry::ImageStores;

/// An inventory older than this is told to be old, in days.
const STALE_AFTER: i64 = 14;

/// Where to look. What is given by hand goes before what is found.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub records: Option<&'a Records>,
    /// The base repository, where it is at a forge.
    pub forge: Option<Branch<'a>>,
    /// The configuration that was named.
    pub configuration: Option<&'a SourceText>,
    /// The end-of-life data that were named, with the name.
    pub eol_data: Option<(&'a str, &'a [u8])>,
    /// Where tags may be asked for when nothing else knows.
    pub stores: Option<&'a ImageStores>,
    pub now: DateTime<Utc>,
}

/// A repository at a forge, and the branch that is read.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    pub forge: &'a dyn Forge,
    pub reference: &'a str,
}

/// Why nothing is known.
#[derive(Debug, Error)]
pub enum CheckError {
    #[error(transparent)]
    Packages(ItemError),
    #[error("the inventory in {place} cannot be used")]
    Inventory {
        place: String,
        source: InvalidInventory,
    },
    #[error(transparent)]
    Forge(ForgeError),
    #[error("{name} cannot be used")]
    Configuration { name: String, source: ConfigErrors },
    #[error("{name} cannot be used")]
    EolData { name: String, source: DataError },
    #[error(transparent)]
    Place(ItemError),
    #[error("nothing is known of the bases: {0}")]
    NoSource(String),
    #[error(
        "nothing is known of the bases, and the registry cannot be asked for a name alone: {0}"
    )]
    NotProbed(String),
}

impl CheckError {
    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            CheckError::Packages(error) => error.hint(),
            CheckError::Forge(error) => error.hint(),
            CheckError::Place(error) => error.hint(),
            CheckError::NoSource(_) => Some(
                "run `imglife status --publish` in the base repository, name its configuration with `--config-url`, or ask the registry with \
                 `--probe`"
                    .to_owned(),
            ),
            CheckError::NotProbed(_) => Some("give the whole repository, as in `registry.example.com/bases/alpine`".to_owned()),
            CheckError::Inventory { .. } => Some("publish it anew with `imglife status --publish`, with this version".to_owned()),
            CheckError::Configuration { .. } | CheckError::EolData { .. } => None,
        }
    }
}

/// Returns what is known of bases. `asked` is the image that it is asked for, if it is one.
pub async fn known(
    sources: &Sources<'_>,
    asked: Option<&ImageReference>,
) -> Result<Known, CheckError> {
    match documented(sources, asked).await {
        Ok(mut known) => {
            if let Some((stores, asked)) = sources.stores.zip(asked)
                && known
                    .base(&asked.repository)
                    .is_none_or(|base| base.tags.is_empty() || !base.is_told(asked))
                && let Some(mut base) = listed(stores, &asked.repository).await?
            {
                base.asked = known.base(&asked.repository).and_then(|told| told.asked);
                known
                    .bases
                    .retain(|other| other.repository != base.repository);
                known.bases.push(base);
                known.source = Source::Registry;
            }
            Ok(known)
        }
        Err(CheckError::NoSource(reason)) => {
            let (stores, asked) = match (sources.stores, asked) {
                (Some(stores), Some(asked)) => (stores, asked),
                (Some(_), None) => return Err(CheckError::NotProbed(reason)),
                (None, _) => return Err(CheckError::NoSource(reason)),
            };
            let base = listed(stores, &asked.repository).await?;
            Ok(Known {
                source: Source::Registry,
                bases: base.into_iter().collect(),
                warnings: Vec::new(),
            })
        }
        Err(error) => Err(error),
    }
}

async fn listed(
    stores: &ImageStores,
    repository: &Repository,
) -> Result<Option<KnownBase>, CheckError> {
    let tags = stores.of(repository).tags(repository).await;
    let tags = tags.map_err(CheckError::Place)?;
    Ok(tags.map(|tags| KnownBase::of_listing(repository, &tags)))
}

/// Returns the digest that a tag names now, where the registry may be asked; `None` where that
/// fails, which is told.
pub async fn digest_now(
    stores: &ImageStores,
    repository: &Repository,
    tag: &Tag,
) -> Option<Digest> {
    match stores
        .of(repository)
        .resolve(repository, &Reference::from(tag.clone()))
        .await
    {
        Ok(found) => found.map(|descriptor| descriptor.digest),
        Err(error) => {
            tracing::warn!(
                "whether {repository}:{tag} was rebuilt is not known: {}",
                chain(&error)
            );
            None
        }
    }
}

/// Returns what somebody wrote down: in the inventory, or in the configuration.
async fn documented(
    sources: &Sources<'_>,
    asked: Option<&ImageReference>,
) -> Result<Known, CheckError> {
    if let Some(source) = sources.configuration {
        return configured(sources, source, &Variables::default(), asked).await;
    }
    if let Some(records) = sources.records
        && let Some(data) = records
            .read_data(DataFile::Inventory)
            .await
            .map_err(CheckError::Packages)?
    {
        let inventory = Inventory::parse(&data.bytes);
        let mut inventory = inventory.map_err(|source| CheckError::Inventory {
            place: records.place(),
            source,
        })?;
        // Who names end-of-life data wants them to count.
        if let Some((name, bytes)) = sources.eol_data {
            let table = Table::read(bytes).map_err(|source| CheckError::EolData {
                name: name.to_owned(),
                source,
            })?;
            end_by(&mut inventory, &table);
        }
        let mut known = Known::of_inventory(&inventory, sources.now);
        let age = sources.now - inventory.time;
        if age > Duration::days(STALE_AFTER) {
            known.warnings.push(format!(
                "the inventory is {} days old; newer bases may not be in it",
                age.num_days()
            ));
        }
        return Ok(known);
    }
    let Some(Branch { forge, reference }) = sources.forge else {
        return Err(CheckError::NoSource("no inventory is published".to_owned()));
    };
    let file = forge
        .file(DEFAULT_NAME, reference)
        .await
        .map_err(CheckError::Forge)?;
    let Some(file) = file else {
        let (name, scope) = (forge.name(), forge.scope());
        let reason = format!(
            "no inventory is published, and at {reference} of {name} there is no {DEFAULT_NAME}, or the token may not read it (scope `{scope}`)"
        );
        return Err(CheckError::NoSource(reason));
    };
    let name = format!("{DEFAULT_NAME} of {}", forge.name());
    let source = SourceText {
        name,
        text: String::from_utf8_lossy(&file).into_owned(),
    };
    let variables = forge.variables().await.map_err(CheckError::Forge)?;
    configured(sources, &source, &variables, asked).await
}

/// Takes the ends of an inventory from `table`, where that has the cycle. The phase that its team
/// judges by is not known.
fn end_by(inventory: &mut Inventory, table: &Table) {
    let cycles: BTreeMap<&str, &[Cycle]> = table.products().collect();
    for part in inventory
        .bases
        .iter_mut()
        .flat_map(|base| &mut base.tags)
        .flat_map(|tag| &mut tag.eol)
    {
        let cycle = cycles
            .get(part.product.as_str())
            .into_iter()
            .copied()
            .flatten();
        let cycle = part
            .cycle
            .as_ref()
            .and_then(|name| cycle.into_iter().find(|cycle| cycle.name == *name));
        part.ends = cycle.map_or(part.ends, |cycle| cycle.support_end(Phase::EndOfLife));
    }
}

async fn configured(
    sources: &Sources<'_>,
    source: &SourceText,
    variables: &Variables,
    asked: Option<&ImageReference>,
) -> Result<Known, CheckError> {
    let wrong = |error| CheckError::Configuration {
        name: source.name.clone(),
        source: error,
    };
    let ForeignConfig {
        config,
        skipped: left_out,
    } = load_foreign(source, variables).map_err(wrong)?;
    let mut warnings: Vec<String> = left_out
        .into_iter()
        .map(|item| format!("not understood: {item}"))
        .collect();
    let table = match eol_data(sources, &config).await {
        Ok(table) => table,
        Err(error @ CheckError::EolData { .. }) if sources.eol_data.is_some() => return Err(error),
        Err(error) => {
            warnings.push(format!("there are no end-of-life data: {}", chain(&error)));
            None
        }
    };
    let configured = Configured {
        name: &source.name,
        config: &config,
        table: table.as_ref(),
        now: sources.now,
    };
    let mut known = configured.known(asked);
    known.warnings.extend(warnings);
    Ok(known)
}

/// Returns the end-of-life data that go with a configuration.
async fn eol_data(
    sources: &Sources<'_>,
    config: &crate::config::Config,
) -> Result<Option<Table>, CheckError> {
    let (name, bytes) = if let Some((name, bytes)) = sources.eol_data {
        (name.to_owned(), bytes.to_vec())
    } else if config.lifecycle.target == EolTarget::PackageRegistry {
        let Some(records) = sources.records else {
            return Ok(None);
        };
        let data = records
            .read_data(DataFile::EndOfLife)
            .await
            .map_err(CheckError::Packages)?;
        let Some(data) = data else { return Ok(None) };
        (
            format!("the end-of-life data in {}", records.place()),
            data.bytes.to_vec(),
        )
    } else if let Some(Branch { forge, reference }) =
        sources.forge.filter(|_| sources.configuration.is_none())
    {
        let path = config.lifecycle.data_file.to_string_lossy();
        let Some(file) = forge
            .file(path.trim_start_matches("./"), reference)
            .await
            .map_err(CheckError::Forge)?
        else {
            return Ok(None);
        };
        (format!("{path} of {}", forge.name()), file.to_vec())
    } else {
        return Ok(None);
    };
    Table::read(&bytes)
        .map(Some)
        .map_err(|source| CheckError::EolData { name, source })
}
