//! Build records and data files above any place that holds files: how they are replaced without a
//! gap, and what of it readers see.
//!
//! To replace is to write a new file and then to delete those before it. Until they are gone
//! readers see both and take the last. What two writers leave behind at once has one last file as
//! well.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use super::kept::{Kept, Known};
use super::{
    Contents, Encoded, FileKey, FileName, FileSeen, PackageFiles, PackageName, Prefix, Scope,
};
use crate::cache::Cache;
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::model::text::printable;
use crate::model::{BuildRecord, Clock, ImageReference, Repository};
use crate::probe::{ProbeCredential, ProbeReport};

/// Requests for files in flight.
const IN_FLIGHT: usize = 16;

/// How often a package is listed anew since files of it were replaced before they could be read.
const ROUNDS: usize = 8;

/// The records and data files of one installation. Clones share everything.
#[derive(Clone)]
pub struct Records {
    files: Arc<dyn PackageFiles>,
    prefix: Prefix,
    cache: Cache,
    known: Arc<Known>,
    clock: Clock,
    requests: Arc<Semaphore>,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The newest record of each image, by image.
    pub records: Vec<BuildRecord>,
    /// Files that stand where records stand and are none, by name.
    pub unreadable: Vec<Unreadable>,
}

/// A file that is no record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// Its path, safe to show.
    pub file: String,
    /// What is wrong with it, in a few words.
    pub problem: String,
}

/// Says that what was there before could not be deleted. It does no harm, and tokens that may write
/// often may not delete.
pub fn tell_of_leftovers(what: &str, error: &ItemError) {
    let stays = format!("{what} is stored; what it replaces stays there and is not read any more");
    match error.kind {
        ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden => {
            tracing::info!("{stays}, since the token may not delete packages");
        }
        _ => tracing::warn!("{stays}: {}", chain(error)),
    }
}

/// What came of writing a record.
#[derive(Debug)]
pub struct Put {
    /// The path of the file that was written.
    pub file: String,
    /// The record that was there before.
    pub previous: Option<BuildRecord>,
    /// Why files of earlier records could not be deleted. Readers do not take them; the next write
    /// tries again.
    pub left_behind: Option<ItemError>,
}

/// What came of deleting a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    Done,
    /// It was gone already.
    Absent,
    /// Another record of the image is there, which stays.
    Replaced,
}

/// A file that is kept beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFile {
    EndOfLife,
    Inventory,
}

/// A data file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub bytes: Bytes,
    /// When it was written, as its name says.
    pub written_at: DateTime<Utc>,
}

impl DataFile {
    fn subject(self) -> Encoded {
        Encoded::of(match self {
            DataFile::EndOfLife => "eol-data",
            DataFile::Inventory => "inventory",
        })
    }

    fn what(self) -> &'static str {
        match self {
            DataFile::EndOfLife => "the end-of-life data",
            DataFile::Inventory => "the inventory",
        }
    }
}

impl Records {
    /// Returns the records below `prefix` in `files`. What is read is not read again, nor by later
    /// runs as far as `cache` keeps it; files are dated by `clock`.
    pub fn new(
        files: Arc<dyn PackageFiles>,
        prefix: Prefix,
        cache: Cache,
        clock: Clock,
    ) -> Records {
        Records {
            files,
            prefix,
            cache,
            known: Arc::default(),
            clock,
            requests: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }

    /// Returns the name of the place that they are in, for messages.
    pub fn place(&self) -> String {
        self.files.place()
    }

    /// Returns what a look at the place finds.
    pub async fn probe(&self, login: ProbeCredential) -> ProbeReport {
        self.files.probe(login).await
    }

    /// Returns the newest record of every image: all of them, or an error.
    pub async fn all(&self) -> Result<Reading, ItemError> {
        self.read(&Scope::AllRecords(self.prefix.clone())).await
    }

    /// Returns the newest records of the images of one repository: all of them, or an error.
    pub async fn of(&self, repository: &Repository) -> Result<Reading, ItemError> {
        self.read(&Scope::Package(self.package_of(repository)))
            .await
    }

    /// Writes a record, then removes the files of earlier ones of the same tag. Fields of the
    /// earlier record that neither this version nor `record` knows are kept.
    pub async fn put(&self, record: &BuildRecord) -> Result<Put, ItemError> {
        let name = self.name_of(&record.image)?;
        let seen = self.files_about(&name).await?;
        let previous = match seen.last() {
            Some(last) => self.record_in(&last.name).await?,
            None => None,
        };
        let mut record = record.clone();
        for (field, value) in previous.iter().flat_map(|previous| &previous.unknown) {
            record
                .unknown
                .entry(field.clone())
                .or_insert_with(|| value.clone());
        }
        let bytes = record.to_bytes().map_err(|error| {
            ItemError::new(
                self.place(),
                format!("write the record of {}", record.image),
                ItemErrorKind::Malformed,
                "",
            )
            .caused_by(error)
        })?;
        let (file, left_behind) = self.replace(name, &seen, bytes.into()).await?;
        Ok(Put {
            file: file.to_string(),
            previous,
            left_behind,
        })
    }

    /// Removes a record with all its files, unless another took its place since it was read.
    pub async fn delete(&self, record: &BuildRecord) -> Result<Deletion, ItemError> {
        let files = self.files_about(&self.name_of(&record.image)?).await?;
        let Some(last) = files.last() else {
            return Ok(Deletion::Absent);
        };
        if self.record_in(&last.name).await?.as_ref() != Some(record) {
            return Ok(Deletion::Replaced);
        }
        // What is written from now on is not among them. The last one goes last: stopped on the
        // way, it is still there, and not one that it had replaced.
        for file in &files {
            self.files.delete(file).await?;
        }
        Ok(Deletion::Done)
    }

    /// Returns a data file, or `None` when there is none.
    pub async fn read_data(&self, file: DataFile) -> Result<Option<Data>, ItemError> {
        let subject = self.data(file);
        for _ in 0..ROUNDS {
            let Some(last) = self.files_about(&subject).await?.pop() else {
                return Ok(None);
            };
            let Some(bytes) = self.files.get(&last.name).await? else {
                continue;
            };
            if !last.name.file.is_of(&bytes) {
                return Err(self.error(
                    format!("read {}", last.name),
                    ItemErrorKind::Malformed,
                    NOT_AS_WRITTEN,
                ));
            }
            return Ok(Some(Data {
                bytes,
                written_at: last.name.file.time(),
            }));
        }
        Err(self.unsettled(&subject.package))
    }

    /// Writes a data file in the place of the one before.
    pub async fn write_data(&self, file: DataFile, bytes: Bytes) -> Result<(), ItemError> {
        let subject = self.data(file);
        let seen = self.files_about(&subject).await?;
        if let (_, Some(error)) = self.replace(subject, &seen, bytes).await? {
            tell_of_leftovers(file.what(), &error);
        }
        Ok(())
    }

    /// Returns the files about a subject, the last one last.
    async fn files_about(&self, subject: &Subject) -> Result<Vec<FileSeen>, ItemError> {
        let mut files = self
            .files
            .list(&Scope::Package(subject.package.clone()))
            .await?
            .files;
        files.retain(|file| file.name.file.subject == subject.name);
        files.sort();
        Ok(files)
    }

    /// Writes a file after those that were seen, which are then deleted. Returns its name, and why
    /// one was not deleted.
    async fn replace(
        &self,
        subject: Subject,
        seen: &[FileSeen],
        bytes: Bytes,
    ) -> Result<(FileName, Option<ItemError>), ItemError> {
        let newest = seen.last().map(|file| file.name.file.time());
        let file = FileKey::new(subject.name, &bytes, self.clock.now(), newest);
        let name = FileName {
            package: subject.package,
            file,
        };
        self.files.put(&name, bytes).await?;
        let mut problem = None;
        for file in seen {
            // Who may write may often not delete. The record counts all the same.
            problem = self.files.delete(file).await.err().or(problem);
        }
        Ok((name, problem))
    }

    /// Returns the record in a file; `None` when that is gone or no record.
    async fn record_in(&self, name: &FileName) -> Result<Option<BuildRecord>, ItemError> {
        let content = self.files.get(name).await?;
        Ok(content.and_then(|content| record(name, &content).ok()))
    }

    async fn read(&self, scope: &Scope) -> Result<Reading, ItemError> {
        let listing = self.files.list(scope).await?;
        let foreign = listing
            .foreign
            .iter()
            .map(|file| Unreadable::new(file, "it has no name that records have"));
        let mut reading = Reading {
            records: Vec::new(),
            unreadable: foreign.collect(),
        };
        let mut packages: BTreeMap<PackageName, Vec<FileKey>> = BTreeMap::new();
        for file in listing.files {
            packages
                .entry(file.name.package)
                .or_default()
                .push(file.name.file);
        }
        let mut readings = stream::iter(packages)
            .map(|(package, files)| self.read_package(package, files))
            .buffer_unordered(IN_FLIGHT);
        while let Some(package) = readings.try_next().await? {
            reading.records.extend(package.records);
            reading.unreadable.extend(package.unreadable);
        }
        drop(readings);
        reading
            .records
            .sort_by(|one, other| one.image.cmp(&other.image));
        reading.unreadable.sort();
        Ok(reading)
    }

    /// Returns what the last file about each tag holds.
    async fn read_package(
        &self,
        package: PackageName,
        mut files: Vec<FileKey>,
    ) -> Result<Reading, ItemError> {
        for _ in 0..ROUNDS {
            if let Some(reading) = self.read_last(&package, files).await? {
                return Ok(reading);
            }
            // A file was replaced between the listing and now.
            files = self
                .files
                .list(&Scope::Package(package.clone()))
                .await?
                .files
                .into_iter()
                .map(|file| file.name.file)
                .collect();
        }
        Err(self.unsettled(&package))
    }

    /// Returns what the last one of these files about each tag holds; `None` when one of them is
    /// gone.
    async fn read_last(
        &self,
        package: &PackageName,
        mut files: Vec<FileKey>,
    ) -> Result<Option<Reading>, ItemError> {
        files.sort();
        let last: BTreeMap<Encoded, FileKey> = files
            .into_iter()
            .map(|file| (file.subject.clone(), file))
            .collect();
        let mut kept = Kept::open(&self.cache, &self.known, &self.place(), package);
        let (known, unknown): (Vec<FileKey>, Vec<FileKey>) = last
            .into_values()
            .partition(|file| kept.get(file).is_some());
        let mut contents: Vec<(FileKey, Bytes)> = Vec::with_capacity(known.len() + unknown.len());
        for file in known {
            let content = kept
                .get(&file)
                .map(|text| Bytes::copy_from_slice(text.as_bytes()));
            contents.extend(content.map(|content| (file, content)));
        }
        let mut fetched = stream::iter(unknown)
            .map(|file| self.fetch(package, file))
            .buffer_unordered(IN_FLIGHT);
        let mut is_whole = true;
        while let Some((file, content)) = fetched.try_next().await? {
            match content {
                Some(content) => contents.push((file, content)),
                None => is_whole = false,
            }
        }
        drop(fetched);
        let mut reading = Reading::default();
        for (file, content) in contents {
            kept.add(&file, &content);
            let name = FileName {
                package: package.clone(),
                file,
            };
            match record(&name, &content) {
                Ok(record) => reading.records.push(record),
                Err(problem) => reading
                    .unreadable
                    .push(Unreadable::new(&name.path(), problem)),
            }
        }
        kept.close();
        Ok(is_whole.then_some(reading))
    }

    async fn fetch(
        &self,
        package: &PackageName,
        file: FileKey,
    ) -> Result<(FileKey, Option<Bytes>), ItemError> {
        // The semaphore is never closed, so there is always a permit in the end.
        let _permit = self.requests.acquire().await.ok();
        let name = FileName {
            package: package.clone(),
            file,
        };
        let content = self.files.get(&name).await?;
        Ok((name.file, content))
    }

    fn package_of(&self, repository: &Repository) -> PackageName {
        PackageName {
            prefix: self.prefix.clone(),
            contents: Contents::RecordsOf(Encoded::of(&repository.to_string())),
        }
    }

    fn name_of(&self, image: &ImageReference) -> Result<Subject, ItemError> {
        let untagged = || {
            self.error(
                format!("name the record of {image}"),
                ItemErrorKind::Malformed,
                "the image has no tag",
            )
        };
        let tag = image.tag.as_ref().ok_or_else(untagged)?;
        Ok(Subject {
            package: self.package_of(&image.repository),
            name: Encoded::of(tag.as_str()),
        })
    }

    fn data(&self, file: DataFile) -> Subject {
        Subject {
            package: PackageName {
                prefix: self.prefix.clone(),
                contents: Contents::Data,
            },
            name: file.subject(),
        }
    }

    fn error(&self, action: String, kind: ItemErrorKind, detail: &str) -> ItemError {
        ItemError::new(self.place(), action, kind, detail)
    }

    fn unsettled(&self, package: &PackageName) -> ItemError {
        let action = format!("read {}", package.directory());
        self.error(
            action,
            ItemErrorKind::Unsettled,
            "its files are replaced faster than they can be read",
        )
    }
}

const NOT_AS_WRITTEN: &str = "its content is not what was written under its name";

/// What a file is about, in its package.
struct Subject {
    package: PackageName,
    name: Encoded,
}

/// Returns the record in a file's content, or what is wrong with it.
fn record(name: &FileName, content: &[u8]) -> Result<BuildRecord, String> {
    if !name.file.is_of(content) {
        return Err(NOT_AS_WRITTEN.to_owned());
    }
    let record = BuildRecord::parse(content).map_err(|error| chain(&error))?;
    let is_own = name.package.contents
        == Contents::RecordsOf(Encoded::of(&record.image.repository.to_string()))
        && record
            .image
            .tag
            .as_ref()
            .is_some_and(|tag| Encoded::of(tag.as_str()) == name.file.subject);
    if is_own {
        Ok(record)
    } else {
        Err(format!(
            "it is the record of another image, {}",
            record.image
        ))
    }
}

impl Unreadable {
    fn new(file: &str, problem: impl Into<String>) -> Unreadable {
        Unreadable {
            file: printable(file).into_owned(),
            problem: printable(&problem.into()).into_owned(),
        }
    }
}
