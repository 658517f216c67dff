//! The sample world of `imglife demo`: upstream images that look like real ones, and a configuration that mirrors them.
//!
//! Owns what is in the world. Everything is generated and the same each time; nothing is downloaded.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::manifest::ManifestError;
use crate::model::reference::InvalidName;
use crate::model::{ImageReference, Repository};
use crate::registry::{ImageStore, PlaceError};

mod catalogue;
pub mod images;
mod tour;

pub use tour::{DemoOptions, run};

const CONFIGURATION: &str = include_str!("imglife.yaml");

/// Why the sample world could not be made.
#[derive(Debug, Error)]
pub enum DemoError {
    #[error("cannot publish the sample image {image}")]
    Publish {
        image: Box<ImageReference>,
        #[source]
        source: Box<PlaceError>,
    },
    #[error("cannot make a layer of a sample image")]
    Layer(#[source] io::Error),
    #[error("a sample image has a manifest that cannot be read")]
    Manifest(#[source] ManifestError),
    #[error("a sample image has a name that cannot be used")]
    Name(#[source] InvalidName),
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is there already and was not written by the demo", .path.display())]
    Occupied { path: PathBuf },
}

/// Writes the sample world into `directory`, which must be absolute: upstream image layouts below `upstream/`, and an
/// `imglife.yaml` that mirrors them to `mirrors/`. Returns the path of the configuration. A world that is there already is
/// completed; a configuration that differs is not overwritten.
pub async fn write_world(store: &dyn ImageStore, directory: &Path) -> Result<PathBuf, DemoError> {
    // First, so that nothing is put into somebody's repository.
    let configuration = write_configuration(directory)?;
    for upstream in catalogue::upstreams() {
        let repository = Repository::Layout { directory: directory.join("upstream").join(upstream.name) };
        for (image, tags) in upstream.images {
            let tags: Vec<_> = tags.iter().map(|tag| tag.parse()).collect::<Result<_, _>>().map_err(DemoError::Name)?;
            image.publish(store, &repository, &tags).await?;
        }
    }
    Ok(configuration)
}

fn write_configuration(directory: &Path) -> Result<PathBuf, DemoError> {
    let path = directory.join("imglife.yaml");
    let as_public_as_others = Permissions::from_mode(0o666);
    let written = tempfile::Builder::new().permissions(as_public_as_others).tempfile_in(directory).and_then(|mut file| {
        file.write_all(CONFIGURATION.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&path).map_err(|error| error.error)
    });
    match written {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::read(&path).map_err(|source| DemoError::Write { path: path.clone(), source })?;
            if found == CONFIGURATION.as_bytes() { Ok(path) } else { Err(DemoError::Occupied { path }) }
        }
        Err(source) => Err(DemoError::Write { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::registry::ImageSource;
    use crate::registry::layout::Layouts;

    fn size(path: &Path) -> u64 {
        if path.is_file() {
            return fs::metadata(path).expect("a file").len();
        }
        fs::read_dir(path).expect("a directory").map(|entry| size(&entry.expect("an entry").path())).sum()
    }

    #[tokio::test]
    async fn the_world_is_small_complete_and_written_twice_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut seen = Vec::new();
        for _ in 0..2 {
            write_world(&Layouts::default(), directory.path()).await.expect("to write the world");
            for name in ["alpine", "debian", "golang"] {
                let repository = Repository::Layout { directory: directory.path().join("upstream").join(name) };
                let tags = Layouts::default().tags(&repository).await.expect("a listing").expect("the repository");
                assert!(tags.len() >= 6 && tags.iter().any(|seen| seen.tag.as_str() == "latest"), "{name}: {tags:?}");
                seen.push(tags);
            }
        }
        assert_eq!(seen[..3], seen[3..]);
        assert!(size(directory.path()) < 2_000_000, "{} bytes", size(directory.path()));
    }

    #[tokio::test]
    async fn each_source_of_the_configuration_is_in_the_world() {
        let directory = tempfile::tempdir().expect("a directory");
        write_world(&Layouts::default(), directory.path()).await.expect("to write the world");
        let sources: Vec<_> = CONFIGURATION.lines().filter_map(|line| line.split_once("source: ocidir://")).collect();
        assert!(sources.len() >= 3);
        for (_, source) in sources {
            assert!(directory.path().join(source).join("index.json").is_file(), "{source}");
        }
    }

    #[tokio::test]
    async fn a_repository_of_the_user_is_left_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("imglife.yaml"), "mine").expect("to write");
        assert!(matches!(write_world(&Layouts::default(), directory.path()).await, Err(DemoError::Occupied { .. })));
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }
}
