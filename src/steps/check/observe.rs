//! Reads the bases from the first source that has them.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use thiserror::Error;

use super::known_bases::{BaseSource, ConfiguredBases, KnownBase, KnownBases};
use crate::config::{
    ConfigErrors, DEFAULT_NAME, EolTarget, ForeignConfig, SourceText, load_foreign,
};
use crate::eol::{DataError, EolTable};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::forge::Forge;
use crate::model::eol::{Cycle, Phase};
use crate::model::inventory::InvalidInventory;
use crate::model::{Digest, ImageReference, Inventory, Reference, Repository, Tag, Variables};
use crate::packages::{DataFileKind, Records};
use crate::registry::ImageStores;

/// Age of an inventory above which a warning is added, in days.
const MAX_INVENTORY_AGE: i64 = 14;

/// Beginning of the reason why the bases are unknown if the records may not be read.
const UNREADABLE_RECORDS: &str = "the records may not be read";

/// Sources of the bases. Explicit sources take precedence.
#[derive(Clone, Copy)]
pub struct CheckSources<'a> {
    pub records: Option<&'a Records>,
    /// True if a token is set for the records and the base repository, other than the one that every
    /// job has.
    pub has_token: bool,
    /// Base repository at a forge.
    pub forge: Option<ForgeBranch<'a>>,
    /// Explicit configuration.
    pub configuration: Option<&'a SourceText>,
    /// Explicit end-of-life data: name and content.
    pub eol_data: Option<(&'a str, &'a [u8])>,
    /// Registries whose tags are listed if no other source has the base.
    pub stores: Option<&'a ImageStores>,
    pub now: DateTime<Utc>,
}

/// A repository at a forge, and the branch that is read.
#[derive(Clone, Copy)]
pub struct ForgeBranch<'a> {
    pub forge: &'a dyn Forge,
    pub reference: &'a str,
}

/// Reason why the bases are unknown.
#[derive(Debug, Error)]
pub enum CheckError {
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error("the inventory in {store} is invalid")]
    Inventory {
        store: String,
        source: InvalidInventory,
    },
    #[error("{name} is invalid")]
    Configuration { name: String, source: ConfigErrors },
    #[error("{name} is invalid")]
    EolData { name: String, source: DataError },
    #[error("the bases are unknown: {0}")]
    NoSource(String),
    #[error("the bases are unknown, and a registry cannot be searched by a short name: {0}")]
    NotProbed(String),
}

impl CheckError {
    /// Returns what the user can do; `None` if there is no suggestion.
    pub fn hint(&self) -> Option<String> {
        match self {
            CheckError::Item(error) => error.hint(),
            CheckError::NoSource(_) => Some(
                "run `imglife status --publish` in the base repository, pass its configuration with `--config-url`, or list the tags at the \
                 registry with `--probe`"
                    .to_owned(),
            ),
            CheckError::NotProbed(_) => Some("pass the full repository, such as `registry.example.com/bases/alpine`".to_owned()),
            CheckError::Inventory { .. } => Some("run `imglife status --publish` with this version of imglife".to_owned()),
            CheckError::Configuration { .. } | CheckError::EolData { .. } => None,
        }
    }
}

/// Returns the bases of the first source that has them. `requested` is the image to check; `None`
/// for `latest`.
pub async fn known(
    sources: &CheckSources<'_>,
    requested: Option<&ImageReference>,
) -> Result<KnownBases, CheckError> {
    match documented(sources, requested).await {
        Ok(mut known) => {
            if let Some((stores, requested)) = sources.stores.zip(requested)
                && known
                    .base(&requested.repository)
                    .is_none_or(|base| base.tags.is_empty() || !base.covers(requested))
                && let Some(mut base) = listed(stores, &requested.repository).await?
            {
                base.requested = known
                    .base(&requested.repository)
                    .and_then(|known| known.requested);
                known
                    .bases
                    .retain(|other| other.repository != base.repository);
                known.bases.push(base);
                known.source = BaseSource::Registry;
            }
            Ok(known)
        }
        Err(CheckError::NoSource(reason)) => {
            let (stores, requested) = match (sources.stores, requested) {
                (Some(stores), Some(requested)) => (stores, requested),
                (Some(_), None) => return Err(CheckError::NotProbed(reason)),
                (None, _) => return Err(CheckError::NoSource(reason)),
            };
            let base = listed(stores, &requested.repository).await?;
            Ok(KnownBases {
                source: BaseSource::Registry,
                bases: base.into_iter().collect(),
                warnings: Some(reason)
                    .filter(|reason| reason.starts_with(UNREADABLE_RECORDS))
                    .into_iter()
                    .collect(),
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
    let tags = tags?;
    Ok(tags.map(|tags| KnownBase::from_listing(repository, &tags)))
}

/// Returns the current digest of a tag at the registry; `None` after an error, which is logged.
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
                "cannot check if {repository}:{tag} was rebuilt: {}",
                chain(&error)
            );
            None
        }
    }
}

/// Returns the bases of the explicit configuration, the inventory, or the configuration at the
/// forge.
async fn documented(
    sources: &CheckSources<'_>,
    requested: Option<&ImageReference>,
) -> Result<KnownBases, CheckError> {
    if let Some(source) = sources.configuration {
        return configured(sources, source, &Variables::default(), requested).await;
    }
    let mut unreadable = None;
    let data = match sources.records {
        Some(records) => match records.read_data(DataFileKind::Inventory).await {
            Ok(data) => data.map(|data| (records, data)),
            Err(error) if is_optional(sources, &error) => {
                unreadable = Some(error);
                None
            }
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    if let Some((records, data)) = data {
        let inventory = Inventory::parse(&data.bytes);
        let mut inventory = inventory.map_err(|source| CheckError::Inventory {
            store: records.store_name(),
            source,
        })?;
        // Explicit end-of-life data replaces that of the inventory.
        if let Some((name, bytes)) = sources.eol_data {
            let table = EolTable::read(bytes).map_err(|source| CheckError::EolData {
                name: name.to_owned(),
                source,
            })?;
            set_ends(&mut inventory, &table);
        }
        let mut known = KnownBases::of_inventory(&inventory, sources.now);
        let age = sources.now - inventory.time;
        if age > Duration::days(MAX_INVENTORY_AGE) {
            known.warnings.push(format!(
                "the inventory is {} days old and may not have newer bases",
                age.num_days()
            ));
        }
        return Ok(known);
    }
    let no_inventory = match unreadable {
        Some(error) => format!("{UNREADABLE_RECORDS}: {}", error.line()),
        None => "no inventory is published".to_owned(),
    };
    let Some(ForgeBranch { forge, reference }) = sources.forge else {
        return Err(CheckError::NoSource(no_inventory));
    };
    let file = match forge.file(DEFAULT_NAME, reference).await {
        Ok(file) => file,
        Err(error) if is_optional(sources, &error) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(file) = file else {
        let (name, scope) = (forge.name(), forge.scope());
        let reason = format!(
            "{no_inventory}, and {name} has no {DEFAULT_NAME} at {reference}, or the token lacks the scope `{scope}`"
        );
        return Err(CheckError::NoSource(reason));
    };
    let name = format!("{DEFAULT_NAME} of {}", forge.name());
    let source = SourceText {
        name,
        text: String::from_utf8_lossy(&file).into_owned(),
    };
    let variables = forge.variables().await?;
    configured(sources, &source, &variables, requested).await
}

/// Returns true if a source that may not be read is left out: no token is set, as for the merge
/// request of a fork, and the tags can be read at the registry.
fn is_optional(sources: &CheckSources<'_>, error: &ItemError) -> bool {
    sources.stores.is_some()
        && !sources.has_token
        && matches!(
            error.kind,
            ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden | ItemErrorKind::Absent
        )
}

/// Replaces the end-of-life dates in an inventory by those of `table`, for cycles that the table
/// has. The support phase that the base repository configures is unknown, so the end of life is
/// used.
fn set_ends(inventory: &mut Inventory, table: &EolTable) {
    let cycles: BTreeMap<&str, &[Cycle]> = table.products().collect();
    for product in inventory
        .bases
        .iter_mut()
        .flat_map(|base| &mut base.tags)
        .flat_map(|tag| &mut tag.eol)
    {
        let cycle = cycles
            .get(product.product.as_str())
            .into_iter()
            .copied()
            .flatten();
        let cycle = product
            .cycle
            .as_ref()
            .and_then(|name| cycle.into_iter().find(|cycle| cycle.name == *name));
        product.ends = cycle.map_or(product.ends, |cycle| cycle.support_end(Phase::EndOfLife));
    }
}

async fn configured(
    sources: &CheckSources<'_>,
    source: &SourceText,
    variables: &Variables,
    requested: Option<&ImageReference>,
) -> Result<KnownBases, CheckError> {
    let invalid = |error| CheckError::Configuration {
        name: source.name.clone(),
        source: error,
    };
    let ForeignConfig { config, skipped } = load_foreign(source, variables).map_err(invalid)?;
    let mut warnings: Vec<String> = skipped
        .into_iter()
        .map(|item| format!("skipped: {item}"))
        .collect();
    let table = match eol_data(sources, &config).await {
        Ok(table) => table,
        Err(error @ CheckError::EolData { .. }) if sources.eol_data.is_some() => return Err(error),
        Err(error) => {
            warnings.push(format!("there is no end-of-life data: {}", chain(&error)));
            None
        }
    };
    let configured = ConfiguredBases {
        name: &source.name,
        config: &config,
        table: table.as_ref(),
        now: sources.now,
    };
    let mut known = configured.known(requested);
    known.warnings.extend(warnings);
    Ok(known)
}

/// Returns the end-of-life data of a configuration.
async fn eol_data(
    sources: &CheckSources<'_>,
    config: &crate::config::Config,
) -> Result<Option<EolTable>, CheckError> {
    let (name, bytes) = if let Some((name, bytes)) = sources.eol_data {
        (name.to_owned(), bytes.to_vec())
    } else if config.lifecycle.target == EolTarget::PackageRegistry {
        let Some(records) = sources.records else {
            return Ok(None);
        };
        let data = records.read_data(DataFileKind::EndOfLife).await?;
        let Some(data) = data else { return Ok(None) };
        (
            format!("the end-of-life data in {}", records.store_name()),
            data.bytes.to_vec(),
        )
    } else if let Some(ForgeBranch { forge, reference }) =
        sources.forge.filter(|_| sources.configuration.is_none())
    {
        let path = config.lifecycle.data_file.to_string_lossy();
        let Some(file) = forge.file(path.trim_start_matches("./"), reference).await? else {
            return Ok(None);
        };
        (format!("{path} of {}", forge.name()), file.to_vec())
    } else {
        return Ok(None);
    };
    EolTable::read(&bytes)
        .map(Some)
        .map_err(|source| CheckError::EolData { name, source })
}
