//! Planning of the layers of `COPY`, `ADD` and `WORKDIR`.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use thiserror::Error;

use super::archive::{UnpackedArchive, unpack};
use super::context_folder::{ContextFolder, FolderEntry, FolderError, open};
use super::file_tree::{FileTree, LinkHandling, TreeError, TreeNode, join, parent};
use super::layer_plan::{
    EntryKind, LayerDraft, LayerEntry, LayerFileContent, LayerPlan, Owner, PlanError,
};
use super::users::{UsersError, owner};
use crate::dockerfile::instructions::{CopyInstruction, CopySource, CopyVerb};
use crate::dockerfile::patterns::{Glob, PatternError, clean, has_wildcard};
use crate::model::text::excerpt;

/// Maximum size of a copied `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_USERS_BYTES: u64 = 1024 * 1024;

/// Error of an instruction that copies files.
#[derive(Debug, Error)]
pub(super) enum LayerCopyError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("no source matches a file in the build context that `.dockerignore` does not exclude")]
    NoMatch,
    #[error("with several sources, the destination must end with `/`")]
    DestinationNotADirectory,
    #[error("cannot copy `{}`: {problem}", excerpt(.path, 120))]
    Unsupported { path: String, problem: &'static str },
    #[error("cannot read `{}`", excerpt(.path, 120))]
    Unreadable {
        path: String,
        #[source]
        error: std::io::Error,
    },
    #[error("cannot unpack `{}`: {error}", excerpt(.path, 120))]
    Archive { path: String, error: std::io::Error },
    #[error("`--chmod={}` is not a valid mode", excerpt(.0, 40))]
    Mode(String),
}

impl From<TreeError> for LayerCopyError {
    fn from(error: TreeError) -> LayerCopyError {
        LayerCopyError::Plan(error.into())
    }
}

/// State that all instructions of a build share.
pub(super) struct Copier {
    folder: ContextFolder,
    /// Unpacked archives by path; `None` for files that are not archives.
    archives: HashMap<String, Option<Arc<UnpackedArchive>>>,
    /// Modification time of all files, in seconds since 1970.
    modified: u64,
}

/// Attributes of copied files.
#[derive(Clone, Copy)]
struct CopyAttributes {
    owner: Owner,
    /// Mode of `--chmod`; `None` to keep the mode of the source.
    mode: Option<u32>,
}

/// A source of a copy.
enum CopyItem {
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
    /// Returns a copier for a build context.
    pub(super) fn new(folder: ContextFolder, modified: u64) -> Copier {
        Copier {
            folder,
            archives: HashMap::new(),
            modified,
        }
    }

    /// Plans the layer that creates the working directory `directory`, owned by `user`. `None` if
    /// the directory exists.
    pub(super) fn directory(
        &self,
        tree: &mut FileTree,
        directory: &str,
        user: Option<&str>,
    ) -> Result<Option<LayerPlan>, LayerCopyError> {
        let path = tree.resolve(directory, LinkHandling::Follow)?;
        if path.is_empty() || matches!(tree.get(&path), Some(TreeNode::Directory(_))) {
            return Ok(None);
        }
        let owner = user
            .map(|user| owner(user, tree))
            .transpose()?
            .unwrap_or_default();
        let mut draft = LayerDraft {
            tree,
            plan: LayerPlan::default(),
            modified: self.modified,
        };
        draft.ensure_directory(&path, owner)?;
        Ok(Some(draft.plan))
    }

    /// Plans the layer of a `COPY` or `ADD`. Its destination is relative to `working_directory`.
    pub(super) fn copy(
        &mut self,
        tree: &mut FileTree,
        copying: &CopyInstruction,
        working_directory: &str,
    ) -> Result<LayerPlan, LayerCopyError> {
        let explicit_owner = copying
            .chown
            .as_deref()
            .map(|text| owner(text, tree))
            .transpose()?;
        let mode = |text: &String| {
            u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(|| LayerCopyError::Mode(text.clone()))
        };
        let attributes = CopyAttributes {
            owner: explicit_owner.unwrap_or_default(),
            mode: copying.chmod.as_ref().map(mode).transpose()?,
        };
        let items = self.items(copying)?;
        let written = &copying.destination;
        let destination = if written.starts_with('/') {
            written.clone()
        } else {
            format!("{working_directory}/{written}")
        };
        let ends_like_directory =
            written.ends_with('/') || matches!(written.rsplit('/').next(), Some("." | ".."));
        let destination = tree.resolve(&destination, LinkHandling::Follow)?;
        let is_directory =
            ends_like_directory || matches!(tree.get(&destination), Some(TreeNode::Directory(_)));
        if !is_directory && (items.len() > 1 || copying.sources.len() > 1) {
            return Err(LayerCopyError::DestinationNotADirectory);
        }
        let mut draft = LayerDraft {
            tree,
            plan: LayerPlan::default(),
            modified: self.modified,
        };
        for item in &items {
            if let (CopyVerb::Add, CopyItem::File { path, .. }) = (copying.verb, item)
                && let Some(archive) = self.archive(path)?
            {
                draft.ensure_directory(&destination, attributes.owner)?;
                archive.add_to(&mut draft, &destination, explicit_owner)?;
                continue;
            }
            self.copy_item(&mut draft, item, &destination, is_directory, attributes)?;
        }
        update_users(&mut draft)?;
        Ok(draft.plan)
    }

    /// Adds one source to the plan.
    fn copy_item(
        &self,
        draft: &mut LayerDraft<'_>,
        item: &CopyItem,
        destination: &str,
        is_directory: bool,
        attributes: CopyAttributes,
    ) -> Result<(), LayerCopyError> {
        let (name, content, mode) = match item {
            CopyItem::Directory { path, mode } => {
                return self.copy_directory(draft, path, *mode, destination, attributes);
            }
            CopyItem::File {
                path,
                name,
                mode,
                size,
            } => (
                name,
                LayerFileContent::Disk {
                    path: self.folder.path(path),
                    size: *size,
                },
                *mode,
            ),
            CopyItem::Text { name, text } => (name, LayerFileContent::Text(text.clone()), 0o644),
        };
        let path = if is_directory {
            join(destination, name)
        } else {
            destination.to_owned()
        };
        draft.ensure_directory(parent(&path), attributes.owner)?;
        draft.add(
            &path,
            self.entry(EntryKind::File(content), mode, attributes),
        )?;
        Ok(())
    }

    /// Adds the content of the directory `source` to `destination`.
    fn copy_directory(
        &self,
        draft: &mut LayerDraft<'_>,
        source: &str,
        mode: u32,
        destination: &str,
        attributes: CopyAttributes,
    ) -> Result<(), LayerCopyError> {
        if draft.tree.get(destination).is_none() {
            draft.ensure_directory(parent(destination), attributes.owner)?;
            draft.add(
                destination,
                self.entry(EntryKind::Directory, mode, attributes),
            )?;
        } else {
            draft.ensure_directory(destination, attributes.owner)?;
        }
        // Final path of each directory, which depends on links in the image.
        let mut final_paths = BTreeMap::from([("", destination.to_owned())]);
        for (path, found) in self.folder.below(source) {
            let (kind, mode) = match found {
                FolderEntry::Directory { mode } => (EntryKind::Directory, *mode),
                FolderEntry::File { mode, size } => (
                    EntryKind::File(LayerFileContent::Disk {
                        path: self.folder.path(&join(source, path)),
                        size: *size,
                    }),
                    *mode,
                ),
                FolderEntry::Link { target } => (EntryKind::Link(target.clone()), 0o777),
                FolderEntry::Unsupported(problem) => {
                    return Err(LayerCopyError::Unsupported {
                        path: join(source, path),
                        problem,
                    });
                }
            };
            let Some(directory) = final_paths.get(parent(path)) else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_directory = kind == EntryKind::Directory;
            let final_path =
                draft.add(&join(directory, name), self.entry(kind, mode, attributes))?;
            if is_directory {
                final_paths.insert(path, final_path);
            }
        }
        Ok(())
    }

    /// Returns an entry with the attributes of the instruction.
    fn entry(&self, kind: EntryKind, mode: u32, attributes: CopyAttributes) -> LayerEntry {
        let mode = if matches!(kind, EntryKind::Link(_)) {
            0o777
        } else {
            attributes.mode.unwrap_or(mode)
        };
        LayerEntry {
            kind,
            mode,
            uid: attributes.owner.uid,
            gid: attributes.owner.gid,
            modified: self.modified,
        }
    }

    /// Returns the sources of an instruction.
    fn items(&self, copying: &CopyInstruction) -> Result<Vec<CopyItem>, LayerCopyError> {
        let mut items = Vec::new();
        for source in &copying.sources {
            match source {
                CopySource::HereDocument { name, text } => items.push(CopyItem::Text {
                    name: name.clone(),
                    text: text.as_str().into(),
                }),
                CopySource::Path(path) if has_wildcard(path) => {
                    for path in self.folder.matching(&Glob::new(path)?) {
                        items.push(self.item(path)?);
                    }
                }
                CopySource::Path(path) => items.push(self.item(path)?),
                CopySource::Unknown => {}
            }
        }
        if items.is_empty() {
            Err(LayerCopyError::NoMatch)
        } else {
            Ok(items)
        }
    }

    /// Returns the source at a path.
    fn item(&self, named: &str) -> Result<CopyItem, LayerCopyError> {
        let path = self.folder.resolve(named)?;
        match self.folder.get(&path) {
            Some(FolderEntry::Directory { mode }) => Ok(CopyItem::Directory { mode: *mode, path }),
            Some(FolderEntry::File { mode, size }) => {
                let name = clean(named)
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                Ok(CopyItem::File {
                    name,
                    mode: *mode,
                    size: *size,
                    path,
                })
            }
            Some(FolderEntry::Unsupported(problem)) => {
                Err(LayerCopyError::Unsupported { path, problem })
            }
            Some(FolderEntry::Link { .. }) | None => Err(FolderError::NotFound(path).into()),
        }
    }

    /// Returns the unpacked archive at a path, or `None` if the file is not an archive.
    fn archive(&mut self, path: &str) -> Result<Option<Arc<UnpackedArchive>>, LayerCopyError> {
        if let Some(archive) = self.archives.get(path) {
            return Ok(archive.clone());
        }
        let file = open(&self.folder.path(path)).map_err(|error| LayerCopyError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let archive = unpack(file, self.modified)
            .map_err(|error| LayerCopyError::Archive {
                path: path.to_owned(),
                error,
            })?
            .map(Arc::new);
        self.archives.insert(path.to_owned(), archive.clone());
        Ok(archive)
    }
}

/// Updates the users and groups of the tree from the plan, for names in later instructions.
fn update_users(draft: &mut LayerDraft<'_>) -> Result<(), LayerCopyError> {
    for path in ["etc/passwd", "etc/group"] {
        let text = match draft.plan.entries.get(path).map(|entry| &entry.kind) {
            Some(EntryKind::File(LayerFileContent::Text(text))) => Some(text.to_string()),
            Some(EntryKind::File(LayerFileContent::Disk { path: file, .. })) => {
                let mut bytes = Vec::new();
                let read =
                    open(file).and_then(|file| file.take(MAX_USERS_BYTES).read_to_end(&mut bytes));
                read.map_err(|error| LayerCopyError::Unreadable {
                    path: path.to_owned(),
                    error,
                })?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            // Files of an archive are not read, so their names are unknown; numbers still work.
            Some(_) => None,
            None => continue,
        };
        if path == "etc/passwd" {
            draft.tree.passwd = text;
        } else {
            draft.tree.group = text;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::engines::native::file_tree::Attributes;

    struct Case {
        _directory: tempfile::TempDir,
        copier: Copier,
        tree: FileTree,
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
        let mut tree = FileTree::default();
        let directory_node = |mode| {
            TreeNode::Directory(Attributes {
                mode,
                uid: 1,
                gid: 1,
            })
        };
        for (path, node) in [
            ("usr", directory_node(0o755)),
            ("usr/bin", directory_node(0o700)),
            ("bin", TreeNode::Link("usr/bin".to_owned())),
            ("etc", directory_node(0o711)),
            ("etc/conf", TreeNode::File),
            ("etc/alias", TreeNode::Link("conf".to_owned())),
        ] {
            tree.put(path, node);
        }
        tree.passwd = Some("root:x:0:0:::\napp:x:100:101:::\n".to_owned());
        let copier = Copier::new(ContextFolder::read(directory.path()).expect("a folder"), 7);
        Case {
            _directory: directory,
            copier,
            tree,
        }
    }

    fn copying(sources: &[&str], destination: &str) -> CopyInstruction {
        CopyInstruction {
            verb: CopyVerb::Copy,
            sources: sources
                .iter()
                .map(|path| CopySource::Path((*path).to_owned()))
                .collect(),
            destination: destination.to_owned(),
            chown: None,
            chmod: None,
            from: None,
            other_flag: None,
        }
    }

    /// Returns the paths of a layer with a letter for their type and with their modes.
    fn copied(sources: &[&str], destination: &str) -> Result<Vec<String>, String> {
        let mut case = case();
        let plan = case
            .copier
            .copy(&mut case.tree, &copying(sources, destination), "/job")
            .map_err(|error| error.to_string())?;
        let letter = |kind: &EntryKind| match kind {
            EntryKind::Directory => 'd',
            EntryKind::File(_) => 'f',
            EntryKind::Link(_) => 'l',
        };
        Ok(plan
            .entries
            .iter()
            .map(|(path, entry)| format!("{}{:o} {path}", letter(&entry.kind), entry.mode))
            .collect())
    }

    #[test]
    fn copy_uses_the_destinations_of_docker() {
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
    fn copy_rejects_invalid_sources_and_destinations() {
        for (sources, destination, message) in [
            (
                &["none"][..],
                "/x",
                "`none` is not in the build context, or `.dockerignore` excludes it",
            ),
            (
                &["*.none"],
                "/x/",
                "no source matches a file in the build context that `.dockerignore` does not exclude",
            ),
            (
                &["a.txt", "b.txt"],
                "/x",
                "with several sources, the destination must end with `/`",
            ),
            (
                &["*.txt"],
                "/x",
                "with several sources, the destination must end with `/`",
            ),
            (
                &["d"],
                "/etc/conf",
                "`/etc/conf` is not a directory in the image",
            ),
            (
                &["a.txt"],
                "/etc/conf/x",
                "`/etc/conf` is not a directory in the image",
            ),
            (
                &["d/link"],
                "/x",
                "`d/link` leads out of the build context through a symbolic link",
            ),
        ] {
            assert_eq!(copied(sources, destination).expect_err(message), message);
        }
    }

    #[test]
    fn copy_applies_chown_and_chmod() {
        let mut case = case();
        let instruction = CopyInstruction {
            chown: Some("app".to_owned()),
            chmod: Some("4711".to_owned()),
            ..copying(&["d"], "/new/x")
        };
        let plan = case
            .copier
            .copy(&mut case.tree, &instruction, "/")
            .expect("a plan");
        let attributes: Vec<_> = plan
            .entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry.mode, entry.uid, entry.gid))
            .collect();
        assert_eq!(attributes[0], ("new", 0o755, 100, 101));
        assert_eq!(attributes[1], ("new/x", 0o4711, 100, 101));
        assert_eq!(attributes[5], ("new/x/link", 0o777, 100, 101));
        assert!(plan.entries.values().all(|entry| entry.modified == 7));
    }

    #[test]
    fn directory_creates_a_missing_working_directory() {
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
        // Existing directories keep their owner.
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
