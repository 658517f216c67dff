//! Object ids and tree entries.

/// Object id in hexadecimal: 40 digits (SHA-1) or 64 (SHA-256).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectId(String);

impl ObjectId {
    /// Parses a complete object id; `None` for an abbreviated or malformed one.
    pub fn parse(text: &str) -> Option<ObjectId> {
        let is_hexadecimal = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        (matches!(text.len(), 40 | 64) && is_hexadecimal).then(|| ObjectId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first eight digits, for display.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// Type of a tree entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Executable,
    Symlink,
    /// A directory or a submodule.
    Other,
}

impl FileKind {
    pub(super) fn of_mode(mode: &str) -> FileKind {
        match mode {
            "100644" | "100664" => FileKind::File,
            "100755" => FileKind::Executable,
            "120000" => FileKind::Symlink,
            _ => FileKind::Other,
        }
    }

    pub(super) fn mode(self) -> &'static str {
        match self {
            FileKind::File => "100644",
            FileKind::Executable => "100755",
            FileKind::Symlink => "120000",
            FileKind::Other => "040000",
        }
    }
}

/// Entry of a git tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    pub kind: FileKind,
    pub id: ObjectId,
}

impl TreeEntry {
    /// Returns true for a regular file, executable or not.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, FileKind::File | FileKind::Executable)
    }
}

/// Parses the output of `git ls-tree -z` into paths and entries.
pub(super) fn tree_entries(text: &str) -> Option<Vec<(String, TreeEntry)>> {
    let entry = |line: &str| {
        let (meta, path) = line.split_once('\t')?;
        let mut parts = meta.split(' ');
        let (mode, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        Some((
            path.to_owned(),
            TreeEntry {
                kind: FileKind::of_mode(mode),
                id: ObjectId::parse(id)?,
            },
        ))
    };
    text.split('\0')
        .filter(|line| !line.is_empty())
        .map(entry)
        .collect()
}
