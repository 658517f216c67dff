//! Build records and data files in a record store, and how they are replaced without a gap.
//!
//! Replacing writes a new file and then deletes the earlier ones. Until they are deleted, readers
//! see all of them and use the last. If two writers write at once, both files stay, and every
//! reader uses the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use super::large_record::{self, RecordContent, ReducedRecord};
use super::record_cache::{CachedPackage, RecordMemory};
use super::{
    EncodedName, FileKey, FileListing, FileName, ListedFile, PackageContents, PackageName,
    PackageScope, Prefix, RecordStore,
};
use crate::cache::Cache;
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::model::lock::lock;
use crate::model::record::MAX_RECORD_BYTES;
use crate::model::text::printable;
use crate::model::{BuildRecord, Clock, ImageReference, Repository};
use crate::probe::{ProbeCredential, ProbeReport};

/// Maximum number of parallel requests for files.
const MAX_CONCURRENT_READS: usize = 16;

/// Time limit for reading a record.
const READ_TIMEOUT: Duration = Duration::from_mins(5);

/// Maximum number of times that a package is listed because its files were replaced before they
/// were read.
const MAX_LISTINGS: usize = 8;

/// The records and data files of one installation. Clones share their state.
#[derive(Clone)]
pub struct Records {
    files: Arc<dyn RecordStore>,
    prefix: Prefix,
    cache: Cache,
    memory: Arc<RecordMemory>,
    clock: Clock,
    requests: Arc<Semaphore>,
    /// Files that are larger than a record may be and were logged.
    reduced: Arc<Mutex<BTreeSet<UnreadableFile>>>,
}

/// Fields of records that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordFields {
    /// Those that imglife defines, which are small.
    Defined,
    /// Also those that users added.
    All,
}

/// Records that were read from a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordSet {
    /// Newest record of each image, sorted by image.
    pub records: Vec<BuildRecord>,
    /// Files among the records that are not valid records, sorted by name.
    pub unreadable: Vec<UnreadableFile>,
    /// Files that are larger than a record may be, sorted by name. Their records are among
    /// `records`, without the fields that the problem names.
    pub reduced: Vec<UnreadableFile>,
    /// Time at which the earliest file that still exists was written; `None` if there is none or
    /// it is unknown.
    pub first_written: Option<DateTime<Utc>>,
}

/// A file that is not a valid record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadableFile {
    /// Path of the file, escaped for display.
    pub file: String,
    /// Short description of the problem, escaped for display.
    pub problem: String,
}

/// Logs that earlier files could not be deleted.
///
/// They do no harm, because readers ignore them. Tokens that may write often may not delete, so a
/// missing permission is logged as information only.
pub fn log_leftover_files(what: &str, error: &ItemError) {
    let stored = format!("{what} is stored; earlier versions were not deleted and are ignored");
    match error.kind {
        ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden => {
            tracing::info!("{stored}: the token has no permission to delete packages");
        }
        _ => tracing::warn!("{stored}: {}", chain(error)),
    }
}

/// Handling of an earlier record that belongs to another project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherProjects {
    Replace,
    Refuse,
}

/// Result of writing a record.
#[derive(Debug)]
pub struct WrittenRecord {
    /// Path of the file that was written.
    pub file: String,
    /// Record that was replaced; `None` if there was none.
    pub previous: Option<BuildRecord>,
    /// Error that kept earlier files from being deleted. Readers ignore those files, and the next
    /// write tries to delete them again.
    pub cleanup_error: Option<ItemError>,
}

/// Result of deleting a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordDeletion {
    /// The record was deleted.
    Done,
    /// The record did not exist.
    Absent,
    /// The image has a newer record, which was not deleted.
    Replaced,
}

/// Kind of a data file, which is stored next to the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFileKind {
    EndOfLife,
    Inventory,
}

/// Content of a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFileContent {
    pub bytes: Bytes,
    /// Time at which it was written, from its name.
    pub written_at: DateTime<Utc>,
}

impl DataFileKind {
    fn subject(self) -> EncodedName {
        EncodedName::of(match self {
            DataFileKind::EndOfLife => "eol-data",
            DataFileKind::Inventory => "inventory",
        })
    }

    /// Returns the name for messages.
    fn label(self) -> &'static str {
        match self {
            DataFileKind::EndOfLife => "the end-of-life data",
            DataFileKind::Inventory => "the inventory",
        }
    }
}

impl Records {
    /// Returns the records below `prefix` in the store `files`.
    ///
    /// A file is fetched once in this run, and not again by later runs while `cache` has it. New
    /// files get the time of `clock`.
    pub fn new(files: Arc<dyn RecordStore>, prefix: Prefix, cache: Cache, clock: Clock) -> Records {
        Records {
            files,
            prefix,
            cache,
            memory: Arc::default(),
            clock,
            requests: Arc::new(Semaphore::new(MAX_CONCURRENT_READS)),
            reduced: Arc::default(),
        }
    }

    /// Returns the name of the store, for messages.
    pub fn store_name(&self) -> String {
        self.files.name()
    }

    /// Checks the store without changing it, see [`RecordStore::probe`].
    pub async fn probe(&self, login: ProbeCredential) -> ProbeReport {
        self.files.probe(login).await
    }

    /// Returns the newest record of every image, without custom fields. Fails if one cannot be
    /// read.
    pub async fn all(&self) -> Result<RecordSet, ItemError> {
        let all = PackageScope::AllRecords(self.prefix.clone());
        self.read(&all, RecordFields::Defined).await
    }

    /// Like [`all`](Records::all), with custom fields.
    pub async fn all_with_custom_fields(&self) -> Result<RecordSet, ItemError> {
        let all = PackageScope::AllRecords(self.prefix.clone());
        self.read(&all, RecordFields::All).await
    }

    /// Returns the newest records of the images in one repository, without custom fields. Fails if
    /// one cannot be read.
    pub async fn of(&self, repository: &Repository) -> Result<RecordSet, ItemError> {
        let package = PackageScope::Package(self.package_of(repository));
        self.read(&package, RecordFields::Defined).await
    }

    /// Writes a record, then deletes the earlier ones of the same tag.
    ///
    /// Unknown fields of the earlier record, written by a newer version of imglife, are preserved
    /// unless `record` has them too. If the earlier record belongs to another project, it still
    /// protects its base for some time ([`BuildRecord::replace`]).
    pub async fn put(&self, record: &BuildRecord) -> Result<WrittenRecord, ItemError> {
        self.write(record, OtherProjects::Replace).await
    }

    /// Like [`put`](Records::put), but fails if the earlier record belongs to another project.
    pub async fn put_own(&self, record: &BuildRecord) -> Result<WrittenRecord, ItemError> {
        self.write(record, OtherProjects::Refuse).await
    }

    async fn write(
        &self,
        record: &BuildRecord,
        others: OtherProjects,
    ) -> Result<WrittenRecord, ItemError> {
        let name = self.name_of(&record.image)?;
        let existing = self.files_about(&name).await?;
        let previous = match existing.last() {
            Some(last) => self.record_in(&last.name).await?,
            None => None,
        };
        let mut record = record.clone();
        if let Some(previous) = &previous {
            if others == OtherProjects::Refuse && previous.project != record.project {
                return Err(self.error(
                    format!("write the record of {}", record.image),
                    ItemErrorKind::Refused,
                    &format!(
                        "the image is registered by project {}, not by {}",
                        printable(&previous.project),
                        printable(&record.project)
                    ),
                ));
            }
            record.replace(previous, self.clock.now());
        }
        for (field, value) in previous.iter().flat_map(|previous| &previous.unknown) {
            record
                .unknown
                .entry(field.clone())
                .or_insert_with(|| value.clone());
        }
        let bytes = record.to_bytes().map_err(|error| {
            ItemError::new(
                self.store_name(),
                format!("write the record of {}", record.image),
                ItemErrorKind::Malformed,
                "",
            )
            .caused_by(error)
        })?;
        let (file, cleanup_error) = self.replace(name, &existing, bytes.into()).await?;
        Ok(WrittenRecord {
            file: file.to_string(),
            previous,
            cleanup_error,
        })
    }

    /// Deletes all files of a record, unless it was replaced since it was read.
    pub async fn delete(&self, record: &BuildRecord) -> Result<RecordDeletion, ItemError> {
        let files = self.files_about(&self.name_of(&record.image)?).await?;
        let Some(last) = files.last() else {
            return Ok(RecordDeletion::Absent);
        };
        if self.record_in(&last.name).await?.as_ref() != Some(record) {
            return Ok(RecordDeletion::Replaced);
        }
        // The newest file is deleted last: if this stops halfway, the current record remains, not
        // one that it replaced. Files that are written from now on are not in the list.
        for file in &files {
            self.files.delete(file).await?;
        }
        Ok(RecordDeletion::Done)
    }

    /// Returns the content of a data file; `None` if it does not exist.
    pub async fn read_data(
        &self,
        file: DataFileKind,
    ) -> Result<Option<DataFileContent>, ItemError> {
        let subject = self.data(file);
        for _ in 0..MAX_LISTINGS {
            let Some(last) = self.files_about(&subject).await?.pop() else {
                return Ok(None);
            };
            let Some(bytes) = self.files.get(&last.name).await? else {
                continue;
            };
            if !last.name.file.matches(&bytes) {
                return Err(self.error(
                    format!("read {}", last.name),
                    ItemErrorKind::Malformed,
                    HASH_MISMATCH,
                ));
            }
            return Ok(Some(DataFileContent {
                bytes,
                written_at: last.name.file.time(),
            }));
        }
        Err(self.unsettled(&subject.package))
    }

    /// Writes a data file, then deletes the earlier one.
    pub async fn write_data(&self, file: DataFileKind, bytes: Bytes) -> Result<(), ItemError> {
        let subject = self.data(file);
        let existing = self.files_about(&subject).await?;
        if let (_, Some(error)) = self.replace(subject, &existing, bytes).await? {
            log_leftover_files(file.label(), &error);
        }
        Ok(())
    }

    /// Returns the package of data files and documents.
    pub(super) fn data_package(&self) -> PackageName {
        PackageName {
            prefix: self.prefix.clone(),
            contents: PackageContents::Data,
        }
    }

    /// Returns the files in `scope`.
    pub(super) async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        self.files.list(scope).await
    }

    /// Returns the content of a file; `None` if it does not exist.
    pub(super) async fn get_file(&self, name: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.files.get(name).await
    }

    /// Writes a file of the data package, with a time after `newest`.
    pub(super) async fn put_file(
        &self,
        subject: EncodedName,
        newest: Option<DateTime<Utc>>,
        bytes: Bytes,
    ) -> Result<(), ItemError> {
        let name = FileName {
            package: self.data_package(),
            file: FileKey::new(subject, &bytes, self.clock.now(), newest),
        };
        self.files.put(&name, bytes).await
    }

    /// Deletes a file.
    pub(super) async fn delete_file(&self, file: &ListedFile) -> Result<(), ItemError> {
        self.files.delete(file).await
    }

    /// Returns the files with a subject, sorted by age, the newest last.
    async fn files_about(&self, subject: &RecordSubject) -> Result<Vec<ListedFile>, ItemError> {
        let mut files = self
            .files
            .list(&PackageScope::Package(subject.package.clone()))
            .await?
            .files;
        files.retain(|file| file.name.file.subject == subject.name);
        files.sort();
        Ok(files)
    }

    /// Writes a file and then deletes the `existing` ones. Returns the name of the file, and the
    /// error if a file was not deleted.
    async fn replace(
        &self,
        subject: RecordSubject,
        existing: &[ListedFile],
        bytes: Bytes,
    ) -> Result<(FileName, Option<ItemError>), ItemError> {
        let newest = existing.last().map(|file| file.name.file.time());
        let file = FileKey::new(subject.name, &bytes, self.clock.now(), newest);
        let name = FileName {
            package: subject.package,
            file,
        };
        self.files.put(&name, bytes).await?;
        let mut cleanup_error = None;
        for file in existing {
            // Credentials that may write often may not delete. The new file counts anyway.
            cleanup_error = self.files.delete(file).await.err().or(cleanup_error);
        }
        Ok((name, cleanup_error))
    }

    /// Returns the record in a file; `None` if the file does not exist or is not a valid record.
    async fn record_in(&self, name: &FileName) -> Result<Option<BuildRecord>, ItemError> {
        let content = self.content(name).await?;
        Ok(content.and_then(|content| record(name, &content).ok()))
    }

    /// Returns the content of a file with a record; `None` if the file does not exist.
    async fn content(&self, name: &FileName) -> Result<Option<RecordContent>, ItemError> {
        let read = async {
            match self.files.open(name).await? {
                Some(content) => large_record::read(&name.file, content).await.map(Some),
                None => Ok(None),
            }
        };
        match tokio::time::timeout(READ_TIMEOUT, read).await {
            Ok(content) => content,
            Err(_) => Err(self.error(
                format!("read {name}"),
                ItemErrorKind::Unreachable,
                &format!(
                    "it was not complete after {} seconds",
                    READ_TIMEOUT.as_secs()
                ),
            )),
        }
    }

    async fn read(
        &self,
        scope: &PackageScope,
        fields: RecordFields,
    ) -> Result<RecordSet, ItemError> {
        let listing = self.files.list(scope).await?;
        let foreign = listing
            .foreign
            .iter()
            .map(|file| UnreadableFile::new(file, "its name is not that of a record"));
        let mut reading = RecordSet {
            records: Vec::new(),
            unreadable: foreign.collect(),
            reduced: Vec::new(),
            first_written: listing.files.iter().map(|file| file.name.file.time()).min(),
        };
        let mut packages: BTreeMap<PackageName, Vec<FileKey>> = BTreeMap::new();
        for file in listing.files {
            packages
                .entry(file.name.package)
                .or_default()
                .push(file.name.file);
        }
        let mut readings = stream::iter(packages)
            .map(|(package, files)| self.read_package(package, files, fields))
            .buffer_unordered(MAX_CONCURRENT_READS);
        while let Some(package) = readings.try_next().await? {
            reading.records.extend(package.records);
            reading.unreadable.extend(package.unreadable);
            reading.reduced.extend(package.reduced);
        }
        drop(readings);
        reading
            .records
            .sort_by(|one, other| one.image.cmp(&other.image));
        reading.unreadable.sort();
        reading.reduced.sort();
        Ok(reading)
    }

    /// Returns the record in the newest file of each tag.
    async fn read_package(
        &self,
        package: PackageName,
        mut files: Vec<FileKey>,
        fields: RecordFields,
    ) -> Result<RecordSet, ItemError> {
        for _ in 0..MAX_LISTINGS {
            if let Some(reading) = self.read_newest(&package, files, fields).await? {
                return Ok(reading);
            }
            // A file was replaced after it was listed.
            files = self
                .files
                .list(&PackageScope::Package(package.clone()))
                .await?
                .files
                .into_iter()
                .map(|file| file.name.file)
                .collect();
        }
        Err(self.unsettled(&package))
    }

    /// Returns the record in the newest of these files for each tag; `None` if one of them does not
    /// exist any more.
    async fn read_newest(
        &self,
        package: &PackageName,
        mut files: Vec<FileKey>,
        fields: RecordFields,
    ) -> Result<Option<RecordSet>, ItemError> {
        files.sort();
        let newest: BTreeMap<EncodedName, FileKey> = files
            .into_iter()
            .map(|file| (file.subject.clone(), file))
            .collect();
        let mut package_cache =
            CachedPackage::open(&self.cache, &self.memory, &self.store_name(), package);
        let (cached, missing): (Vec<FileKey>, Vec<FileKey>) = newest
            .into_values()
            .partition(|file| package_cache.get(file).is_some());
        let mut reading = RecordSet::default();
        for file in cached {
            let content = package_cache
                .get(&file)
                .map(|text| RecordContent::Whole(Bytes::copy_from_slice(text.as_bytes())));
            if let Some(content) = content {
                self.add(
                    &mut reading,
                    &mut package_cache,
                    (package, file),
                    content,
                    fields,
                );
            }
        }
        let mut fetched = stream::iter(missing)
            .map(|file| self.fetch(package, file))
            .buffer_unordered(MAX_CONCURRENT_READS);
        let mut is_complete = true;
        while let Some((file, content)) = fetched.try_next().await? {
            match content {
                Some(content) => {
                    self.add(
                        &mut reading,
                        &mut package_cache,
                        (package, file),
                        content,
                        fields,
                    );
                }
                None => is_complete = false,
            }
        }
        drop(fetched);
        package_cache.close();
        Ok(is_complete.then_some(reading))
    }

    /// Adds the record in a file to a reading, and its content to the cache.
    fn add(
        &self,
        reading: &mut RecordSet,
        cache: &mut CachedPackage<'_>,
        (package, file): (&PackageName, FileKey),
        content: RecordContent,
        fields: RecordFields,
    ) {
        if let RecordContent::Whole(content) = &content {
            cache.add(&file, content);
        }
        let name = FileName {
            package: package.clone(),
            file,
        };
        match record(&name, &content) {
            Ok(mut record) => {
                if fields == RecordFields::Defined {
                    record.drop_custom_fields();
                }
                reading.records.push(record);
                if let RecordContent::Reduced(reduced) = content {
                    let file = UnreadableFile::new(&name.path(), reduced_problem(&reduced));
                    if lock(&self.reduced).insert(file.clone()) {
                        tracing::warn!("{}: {}", file.file, file.problem);
                    }
                    reading.reduced.push(file);
                }
            }
            Err(problem) => reading
                .unreadable
                .push(UnreadableFile::new(&name.path(), problem)),
        }
    }

    async fn fetch(
        &self,
        package: &PackageName,
        file: FileKey,
    ) -> Result<(FileKey, Option<RecordContent>), ItemError> {
        // The semaphore is never closed, so this always gets a permit.
        let _permit = self.requests.acquire().await.ok();
        let name = FileName {
            package: package.clone(),
            file,
        };
        let content = self.content(&name).await?;
        Ok((name.file, content))
    }

    fn package_of(&self, repository: &Repository) -> PackageName {
        PackageName {
            prefix: self.prefix.clone(),
            contents: PackageContents::RecordsOf(EncodedName::of(&repository.to_string())),
        }
    }

    fn name_of(&self, image: &ImageReference) -> Result<RecordSubject, ItemError> {
        let untagged = || {
            self.error(
                format!("name the record of {image}"),
                ItemErrorKind::Malformed,
                "the image has no tag",
            )
        };
        let tag = image.tag.as_ref().ok_or_else(untagged)?;
        Ok(RecordSubject {
            package: self.package_of(&image.repository),
            name: EncodedName::of(tag.as_str()),
        })
    }

    fn data(&self, file: DataFileKind) -> RecordSubject {
        RecordSubject {
            package: self.data_package(),
            name: file.subject(),
        }
    }

    pub(super) fn error(&self, action: String, kind: ItemErrorKind, detail: &str) -> ItemError {
        ItemError::new(self.store_name(), action, kind, detail)
    }

    fn unsettled(&self, package: &PackageName) -> ItemError {
        let action = format!("read {}", package.directory());
        self.error(
            action,
            ItemErrorKind::Unsettled,
            "its files change faster than they can be read",
        )
    }
}

const HASH_MISMATCH: &str = "its content does not match the hash in its name";

/// Subject of files, and the package that they are in.
struct RecordSubject {
    package: PackageName,
    name: EncodedName,
}

/// Parses the record in `content` and checks that it belongs in the file `name`. The error
/// describes the problem for people.
fn record(name: &FileName, content: &RecordContent) -> Result<BuildRecord, String> {
    let json: &[u8] = match content {
        RecordContent::Whole(content) if name.file.matches(content) => content,
        RecordContent::Whole(_) => return Err(HASH_MISMATCH.to_owned()),
        RecordContent::Reduced(reduced) => reduced.json.as_deref().ok_or_else(|| {
            format!("it is larger than {MAX_RECORD_BYTES} bytes, and not a complete record")
        })?,
    };
    let record = BuildRecord::parse(json).map_err(|error| chain(&error))?;
    let is_own = name.package.contents
        == PackageContents::RecordsOf(EncodedName::of(&record.image.repository.to_string()))
        && record
            .image
            .tag
            .as_ref()
            .is_some_and(|tag| EncodedName::of(tag.as_str()) == name.file.subject);
    if is_own {
        Ok(record)
    } else {
        Err(format!(
            "it is the record of another image, {}",
            record.image
        ))
    }
}

/// Returns the description of what is missing of a record that is too large.
fn reduced_problem(reduced: &ReducedRecord) -> String {
    let fields: Vec<String> = reduced
        .dropped
        .iter()
        .map(|field| format!("`{field}`"))
        .collect();
    let fields = if fields.is_empty() {
        "the rest".to_owned()
    } else {
        fields.join(", ")
    };
    format!(
        "the record is larger than {MAX_RECORD_BYTES} bytes; it still protects its base, and {fields} was not read"
    )
}

impl UnreadableFile {
    fn new(file: &str, problem: impl Into<String>) -> UnreadableFile {
        UnreadableFile {
            file: printable(file).into_owned(),
            problem: printable(&problem.into()).into_owned(),
        }
    }
}
