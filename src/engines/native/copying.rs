//! `COPY`, `ADD` and `WORKDIR`: from the folder to the plan of a layer.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use thiserror::Error;

use super::archive::{Archive, unpack};
use super::folder::{Folder, FolderError, Found, open};
use super::plan::{Content, Drafting, Entry, Kind, Owner, Plan, PlanError};
use super::tree::{Last, Node, Tree, TreeError, join, parent};
use super::users::{UsersError, owner};
use crate::dockerfile::instructions::{Copying, Source, Verb};
use crate::dockerfile::patterns::{Glob, PatternError, clean, has_wildcard};
use crate::model::text::excerpt;

/// The longest file of users that is read out of the folder, in bytes.
const LONGEST_USERS: u64 = 1024 * 1024;

#[derive(Debug, Error)]
pub(super) enum CopyingError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("no source matches a file of the folder that `.dockerignore` does not leave out")]
    Nothing,
    #[error("there are several sources, so the destination must end with `/`")]
    SeveralToOne,
    #[error("`{}` cannot be put into an image: {problem}", excerpt(.path, 120))]
    Odd { path: String, problem: &'static str },
    #[error("`{}` cannot be read", excerpt(.path, 120))]
    Unreadable {
        path: String,
        #[source]
        error: std::io::Error,
    },
    #[error("`{}` cannot be unpacked: {error}", excerpt(.path, 120))]
    Archive { path: String, error: std::io::Error },
    #[error("`--chmod={}` is not understood", excerpt(.0, 40))]
    Mode(String),
}

impl From<TreeError> for CopyingError {
    fn from(error: TreeError) -> CopyingError {
        CopyingError::Plan(error.into())
    }
}

/// What all copies of a build share.
pub(super) struct Copier {
    folder: Folder,
    /// The archives that were unpacked; `None` for files that are none.
    archives: HashMap<String, Option<Arc<Archive>>>,
    /// The time that files are of, in seconds since 1970.
    modified: u64,
}

/// How files arrive.
#[derive(Clone, Copy)]
struct Look {
    owner: Owner,
    mode: Option<u32>,
}

/// A source that was found.
enum Item {
    Directory {
        path: String,
        mode: u32,
    },
    File {
        path: String,
        name: String,
        mode: u32,
        size: u64,
    },
    Text {
        name: String,
        text: Arc<str>,
    },
}

impl Copier {
    pub(super) fn new(folder: Folder, modified: u64) -> Copier {
        Copier {
            folder,
            archives: HashMap::new(),
            modified,
        }
    }

    /// Returns the layer that makes `directory`, which has a link followed, for the user of the
    /// image; `None` when it is there.
    pub(super) fn directory(
        &self,
        tree: &mut Tree,
        directory: &str,
        user: Option<&str>,
    ) -> Result<Option<Plan>, CopyingError> {
        let path = tree.resolve(directory, Last::Followed)?;
        if path.is_empty() || matches!(tree.get(&path), Some(Node::Directory(_))) {
            return Ok(None);
        }
        let owner = user
            .map(|user| owner(user, tree))
            .transpose()?
            .unwrap_or_default();
        let mut drafting = Drafting {
            tree,
            plan: Plan::default(),
            modified: self.modified,
        };
        drafting.ensure_directory(&path, owner)?;
        Ok(Some(drafting.plan))
    }

    /// Returns the layer of `copying`, whose destination is relative to `working_directory`.
    pub(super) fn copy(
        &mut self,
        tree: &mut Tree,
        copying: &Copying,
        working_directory: &str,
    ) -> Result<Plan, CopyingError> {
        let given = copying
            .chown
            .as_deref()
            .map(|text| owner(text, tree))
            .transpose()?;
        let mode = |text: &String| {
            u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(|| CopyingError::Mode(text.clone()))
        };
        let look = Look {
            owner: given.unwrap_or_default(),
            mode: copying.chmod.as_ref().map(mode).transpose()?,
        };
        let items = self.items(copying)?;
        let written = &copying.destination;
        let destination = if written.starts_with('/') {
            written.clone()
        } else {
            format!("{working_directory}/{written}")
        };
        let says_directory =
            written.ends_with('/') || matches!(written.rsplit('/').next(), Some("." | ".."));
        let destination = tree.resolve(&destination, Last::Followed)?;
        let is_directory =
            says_directory || matches!(tree.get(&destination), Some(Node::Directory(_)));
        if !is_directory && (items.len() > 1 || copying.sources.len() > 1) {
            return Err(CopyingError::SeveralToOne);
        }
        let mut drafting = Drafting {
            tree,
            plan: Plan::default(),
            modified: self.modified,
        };
        for item in &items {
            if let (Verb::Add, Item::File { path, .. }) = (copying.verb, item)
                && let Some(archive) = self.archive(path)?
            {
                drafting.ensure_directory(&destination, look.owner)?;
                archive.place(&mut drafting, &destination, given)?;
                continue;
            }
            self.copy_item(&mut drafting, item, &destination, is_directory, look)?;
        }
        note_users(&mut drafting)?;
        Ok(drafting.plan)
    }

    fn copy_item(
        &self,
        drafting: &mut Drafting<'_>,
        item: &Item,
        destination: &str,
        is_directory: bool,
        look: Look,
    ) -> Result<(), CopyingError> {
        let (name, content, mode) = match item {
            Item::Directory { path, mode } => {
                return self.copy_directory(drafting, path, *mode, destination, look);
            }
            Item::File {
                path,
                name,
                mode,
                size,
            } => (
                name,
                Content::Disk {
                    path: self.folder.path(path),
                    size: *size,
                },
                *mode,
            ),
            Item::Text { name, text } => (name, Content::Text(text.clone()), 0o644),
        };
        let path = if is_directory {
            join(destination, name)
        } else {
            destination.to_owned()
        };
        drafting.ensure_directory(parent(&path), look.owner)?;
        drafting.place(&path, self.entry(Kind::File(content), mode, look))?;
        Ok(())
    }

    /// Copies what is in the directory `source` into `destination`.
    fn copy_directory(
        &self,
        drafting: &mut Drafting<'_>,
        source: &str,
        mode: u32,
        destination: &str,
        look: Look,
    ) -> Result<(), CopyingError> {
        if drafting.tree.get(destination).is_none() {
            drafting.ensure_directory(parent(destination), look.owner)?;
            drafting.place(destination, self.entry(Kind::Directory, mode, look))?;
        } else {
            drafting.ensure_directory(destination, look.owner)?;
        }
        // Where each directory came to be, which a link of the image can have a part in.
        let mut places = BTreeMap::from([("", destination.to_owned())]);
        for (path, found) in self.folder.below(source) {
            let (kind, mode) = match found {
                Found::Directory { mode } => (Kind::Directory, *mode),
                Found::File { mode, size } => (
                    Kind::File(Content::Disk {
                        path: self.folder.path(&join(source, path)),
                        size: *size,
                    }),
                    *mode,
                ),
                Found::Link { target } => (Kind::Link(target.clone()), 0o777),
                Found::Odd(problem) => {
                    return Err(CopyingError::Odd {
                        path: join(source, path),
                        problem,
                    });
                }
            };
            let Some(place) = places.get(parent(path)) else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_directory = kind == Kind::Directory;
            let arrived = drafting.place(&join(place, name), self.entry(kind, mode, look))?;
            if is_directory {
                places.insert(path, arrived);
            }
        }
        Ok(())
    }

    fn entry(&self, kind: Kind, mode: u32, look: Look) -> Entry {
        let mode = if matches!(kind, Kind::Link(_)) {
            0o777
        } else {
            look.mode.unwrap_or(mode)
        };
        Entry {
            kind,
            mode,
            uid: look.owner.uid,
            gid: look.owner.gid,
            modified: self.modified,
        }
    }

    fn items(&self, copying: &Copying) -> Result<Vec<Item>, CopyingError> {
        let mut items = Vec::new();
        for source in &copying.sources {
            match source {
                Source::Text { name, text } => items.push(Item::Text {
                    name: name.clone(),
                    text: text.as_str().into(),
                }),
                Source::Path(path) if has_wildcard(path) => {
                    for path in self.folder.matching(&Glob::new(path)?) {
                        items.push(self.item(path)?);
                    }
                }
                Source::Path(path) => items.push(self.item(path)?),
                Source::Untold => {}
            }
        }
        if items.is_empty() {
            Err(CopyingError::Nothing)
        } else {
            Ok(items)
        }
    }

    fn item(&self, named: &str) -> Result<Item, CopyingError> {
        let path = self.folder.resolve(named)?;
        match self.folder.get(&path) {
            Some(Found::Directory { mode }) => Ok(Item::Directory { mode: *mode, path }),
            Some(Found::File { mode, size }) => {
                let name = clean(named)
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                Ok(Item::File {
                    name,
                    mode: *mode,
                    size: *size,
                    path,
                })
            }
            Some(Found::Odd(problem)) => Err(CopyingError::Odd { path, problem }),
            Some(Found::Link { .. }) | None => Err(FolderError::Absent(path).into()),
        }
    }

    fn archive(&mut self, path: &str) -> Result<Option<Arc<Archive>>, CopyingError> {
        if let Some(archive) = self.archives.get(path) {
            return Ok(archive.clone());
        }
        let file = open(&self.folder.path(path)).map_err(|error| CopyingError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let archive = unpack(file, self.modified)
            .map_err(|error| CopyingError::Archive {
                path: path.to_owned(),
                error,
            })?
            .map(Arc::new);
        self.archives.insert(path.to_owned(), archive.clone());
        Ok(archive)
    }
}

/// Takes in the users and groups that a layer brings, for the names in what follows.
fn note_users(drafting: &mut Drafting<'_>) -> Result<(), CopyingError> {
    for path in ["etc/passwd", "etc/group"] {
        let text = match drafting.plan.entries.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(Content::Text(text))) => Some(text.to_string()),
            Some(Kind::File(Content::Disk { path: file, .. })) => {
                let mut bytes = Vec::new();
                let read =
                    open(file).and_then(|file| file.take(LONGEST_USERS).read_to_end(&mut bytes));
                read.map_err(|error| CopyingError::Unreadable {
                    path: path.to_owned(),
                    error,
                })?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            // Names out of an archive are not known; numbers are.
            Some(_) => None,
            None => continue,
        };
        if path == "etc/passwd" {
            drafting.tree.passwd = text;
        } else {
            drafting.tree.group = text;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::engines::native::tree::Attributes;

    struct Case {
        _directory: tempfile::TempDir,
        copier: Copier,
        tree: Tree,
    }

    fn case() -> Case {
        let directory = tempfile::tempdir().expect("a directory");
        for path in [
            "a.txt",
            "b.txt",
            "d/e/f",
            "d/g",
            "root/bin/tool",
            "root/etc/conf",
        ] {
            let file = directory.path().join(path);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
            std::fs::write(&file, path).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640))
                .expect("a mode");
        }
        std::fs::set_permissions(
            directory.path().join("d"),
            std::fs::Permissions::from_mode(0o750),
        )
        .expect("a mode");
        symlink("/usr/share/x", directory.path().join("d/link")).expect("a link");
        symlink("a.txt", directory.path().join("alias")).expect("a link");
        let mut tree = Tree::default();
        let directory_node = |mode| {
            Node::Directory(Attributes {
                mode,
                uid: 1,
                gid: 1,
            })
        };
        for (path, node) in [
            ("usr", directory_node(0o755)),
            ("usr/bin", directory_node(0o700)),
            ("bin", Node::Link("usr/bin".to_owned())),
            ("etc", directory_node(0o711)),
            ("etc/conf", Node::File),
            ("etc/alias", Node::Link("conf".to_owned())),
        ] {
            tree.put(path, node);
        }
        tree.passwd = Some("root:x:0:0:::\napp:x:100:101:::\n".to_owned());
        let copier = Copier::new(Folder::read(directory.path()).expect("a folder"), 7);
        Case {
            _directory: directory,
            copier,
            tree,
        }
    }

    fn copying(sources: &[&str], destination: &str) -> Copying {
        Copying {
            verb: Verb::Copy,
            sources: sources
                .iter()
                .map(|path| Source::Path((*path).to_owned()))
                .collect(),
            destination: destination.to_owned(),
            chown: None,
            chmod: None,
            from: None,
            other_flag: None,
        }
    }

    /// Returns the paths of a layer with a letter for their kind and their modes.
    fn copied(sources: &[&str], destination: &str) -> Result<Vec<String>, String> {
        let mut case = case();
        let plan = case
            .copier
            .copy(&mut case.tree, &copying(sources, destination), "/job")
            .map_err(|error| error.to_string())?;
        let letter = |kind: &Kind| match kind {
            Kind::Directory => 'd',
            Kind::File(_) => 'f',
            Kind::Link(_) => 'l',
        };
        Ok(plan
            .entries
            .iter()
            .map(|(path, entry)| format!("{}{:o} {path}", letter(&entry.kind), entry.mode))
            .collect())
    }

    #[test]
    fn files_and_directories_come_to_where_docker_puts_them() {
        for (sources, destination, expected) in [
            (&["a.txt"][..], "/x", &["f640 x"][..]),
            (
                &["a.txt"],
                "x/",
                &["d755 job", "d755 job/x", "f640 job/x/a.txt"],
            ),
            (
                &["a.txt"],
                "/bin",
                &["d700 usr/bin", "d755 usr", "f640 usr/bin/a.txt"],
            ),
            (
                &["a.txt"],
                "/bin/x",
                &["d700 usr/bin", "d755 usr", "f640 usr/bin/x"],
            ),
            (&["a.txt"], "/etc/alias", &["d711 etc", "f640 etc/conf"]),
            (&["alias"], "/x/", &["d755 x", "f640 x/alias"]),
            (
                &["*.txt"],
                "/x/",
                &["d755 x", "f640 x/a.txt", "f640 x/b.txt"],
            ),
            (
                &["d"],
                "/x",
                &[
                    "d750 x",
                    "d755 x/e",
                    "f640 x/e/f",
                    "f640 x/g",
                    "l777 x/link",
                ],
            ),
            (&["d/e", "d/g"], "/x/", &["d755 x", "f640 x/f", "f640 x/g"]),
            (
                &["root"],
                "/",
                &[
                    "d700 usr/bin",
                    "d755 etc",
                    "d755 usr",
                    "f640 etc/conf",
                    "f640 usr/bin/tool",
                ],
            ),
        ] {
            let mut found =
                copied(sources, destination).unwrap_or_else(|error| panic!("{sources:?}: {error}"));
            found.sort();
            assert_eq!(found, expected, "{sources:?} {destination}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (sources, destination, message) in [
            (
                &["none"][..],
                "/x",
                "`none` is not in the folder, or `.dockerignore` leaves it out",
            ),
            (
                &["*.none"],
                "/x/",
                "no source matches a file of the folder that `.dockerignore` does not leave out",
            ),
            (
                &["a.txt", "b.txt"],
                "/x",
                "there are several sources, so the destination must end with `/`",
            ),
            (
                &["*.txt"],
                "/x",
                "there are several sources, so the destination must end with `/`",
            ),
            (
                &["d"],
                "/etc/conf",
                "`/etc/conf` is no directory in the image",
            ),
            (
                &["a.txt"],
                "/etc/conf/x",
                "`/etc/conf` is no directory in the image",
            ),
            (
                &["d/link"],
                "/x",
                "`d/link` leads out of the folder through a link",
            ),
        ] {
            assert_eq!(copied(sources, destination).expect_err(message), message);
        }
    }

    #[test]
    fn owners_and_modes_are_those_that_are_asked_for() {
        let mut case = case();
        let asked = Copying {
            chown: Some("app".to_owned()),
            chmod: Some("4711".to_owned()),
            ..copying(&["d"], "/new/x")
        };
        let plan = case
            .copier
            .copy(&mut case.tree, &asked, "/")
            .expect("a plan");
        let looks: Vec<_> = plan
            .entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry.mode, entry.uid, entry.gid))
            .collect();
        assert_eq!(looks[0], ("new", 0o755, 100, 101));
        assert_eq!(looks[1], ("new/x", 0o4711, 100, 101));
        assert_eq!(looks[5], ("new/x/link", 0o777, 100, 101));
        assert!(plan.entries.values().all(|entry| entry.modified == 7));
    }

    #[test]
    fn a_working_directory_is_made_where_it_is_missing() {
        let mut case = case();
        assert_eq!(
            case.copier
                .directory(&mut case.tree, "/bin", Some("nobody"))
                .expect("a plan"),
            None
        );
        let plan = case
            .copier
            .directory(&mut case.tree, "/bin/x/y", Some("app"))
            .expect("a plan")
            .expect("a layer");
        assert_eq!(
            plan.entries.keys().map(String::as_str).collect::<Vec<_>>(),
            ["usr", "usr/bin", "usr/bin/x", "usr/bin/x/y"]
        );
        // What was there keeps its owner.
        assert_eq!(
            plan.entries
                .values()
                .map(|entry| (entry.uid, entry.gid))
                .collect::<Vec<_>>(),
            [(1, 1), (1, 1), (100, 101), (100, 101)]
        );
        assert!(
            case.copier
                .directory(&mut case.tree, "/new", Some("none"))
                .is_err()
        );
        assert_eq!(
            case.copier
                .directory(&mut case.tree, "/usr/bin/x", None)
                .expect("a plan"),
            None
        );
    }
}
