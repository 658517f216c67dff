//! The sample world of `imglife demo`: upstream images that look like real ones, templates of base
//! images, a configuration, and what was mirrored, built and recorded there half a year ago.
//!
//! Owns what is in the world. Everything is generated, and the same each time but for dates;
//! nothing is downloaded.

use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use thiserror::Error;

use self::images::SampleImage;
use crate::model::manifest::ManifestError;
use crate::model::reference::InvalidName;
use crate::model::{ImageReference, Repository, Tag};
use crate::registry::{ImageStore, PlaceError};

mod catalogue;
mod history;
pub mod images;
mod tour;

pub use tour::{DemoOptions, run};

/// A file of the world: its path, and what it holds.
type WorldFile = (&'static str, &'static str);

/// The configuration comes first: where it is somebody else's, nothing is written.
const FILES: [WorldFile; 8] = [
    ("imglife.yaml", include_str!("world/imglife.yaml")),
    ("earlier.yaml", include_str!("world/earlier.yaml")),
    (
        "images/debian/Dockerfile.tmpl",
        include_str!("world/images/debian/Dockerfile.tmpl"),
    ),
    (
        "images/debian/rootfs/bin/about",
        include_str!("world/images/debian/rootfs/bin/about"),
    ),
    (
        "images/debian/rootfs/etc/motd",
        include_str!("world/images/debian/rootfs/etc/motd"),
    ),
    (
        "images/alpine/Dockerfile.tmpl",
        include_str!("world/images/alpine/Dockerfile.tmpl"),
    ),
    (
        "images/alpine/motd",
        include_str!("world/images/alpine/motd"),
    ),
    (
        "images/tools/Dockerfile.tmpl",
        include_str!("world/images/tools/Dockerfile.tmpl"),
    ),
];

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
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is there already and was not written by the demo", .path.display())]
    Occupied { path: PathBuf },
}

/// Writes the sample world into `directory`, which must be absolute, as it is on the day `today`:
/// upstream image layouts below `upstream/`, templates below `images/`, an `imglife.yaml` that
/// mirrors the ones to `mirrors/` and builds the others into `bases/`, end-of-life data, and an
/// application image. A world that is there already is completed; files that differ are not
/// overwritten.
pub async fn write_world(
    store: &dyn ImageStore,
    directory: &Path,
    today: NaiveDate,
) -> Result<(), DemoError> {
    // First, so that nothing is put into somebody's repository.
    for (path, content) in FILES {
        write_file(&directory.join(path), content)?;
    }
    let data = directory.join("eol-data.yaml");
    if !data.exists() {
        write_file(&data, &history::end_of_life(today))?;
    }
    for upstream in catalogue::upstreams() {
        let repository = Repository::Layout {
            directory: directory.join("upstream").join(upstream.name),
        };
        for (image, tags) in upstream.images {
            publish(store, &image, &repository, tags).await?;
        }
    }
    let base = directory.join("bases/alpine").display().to_string();
    let application = catalogue::application(&format!("ocidir://{base}:3.22.1-core1.0.0"));
    publish(
        store,
        &application,
        &Repository::Layout {
            directory: directory.join("apps/web"),
        },
        &["1.0.0"],
    )
    .await
}

async fn publish(
    store: &dyn ImageStore,
    image: &SampleImage,
    repository: &Repository,
    tags: &[&str],
) -> Result<(), DemoError> {
    let tags: Vec<Tag> = tags
        .iter()
        .map(|tag| tag.parse())
        .collect::<Result<_, _>>()
        .map_err(DemoError::Name)?;
    image.publish(store, repository, &tags).await.map(|_| ())
}

fn write_file(path: &Path, content: &str) -> Result<(), DemoError> {
    let failed = |source| DemoError::Write {
        path: path.to_owned(),
        source,
    };
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(failed)?;
    let mode = if content.starts_with("#!") {
        0o777
    } else {
        0o666
    };
    match crate::files::create(path, mode, content.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::read(path).map_err(failed)?;
            if found == content.as_bytes() {
                Ok(())
            } else {
                Err(DemoError::Occupied {
                    path: path.to_owned(),
                })
            }
        }
        Err(source) => Err(failed(source)),
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
        fs::read_dir(path)
            .expect("a directory")
            .map(|entry| size(&entry.expect("an entry").path()))
            .sum()
    }

    #[tokio::test]
    async fn the_world_is_small_complete_and_written_twice_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut seen = Vec::new();
        for _ in 0..2 {
            write_world(&Layouts::default(), directory.path(), NaiveDate::MIN)
                .await
                .expect("to write the world");
            for name in ["alpine", "debian", "golang"] {
                let repository = Repository::Layout {
                    directory: directory.path().join("upstream").join(name),
                };
                let tags = Layouts::default()
                    .tags(&repository)
                    .await
                    .expect("a listing")
                    .expect("the repository");
                assert!(
                    tags.len() >= 6 && tags.iter().any(|seen| seen.tag.as_str() == "latest"),
                    "{name}: {tags:?}"
                );
                seen.push(tags);
            }
        }
        assert_eq!(seen[..3], seen[3..]);
        assert!(
            size(directory.path()) < 2_000_000,
            "{} bytes",
            size(directory.path())
        );
    }

    #[tokio::test]
    async fn each_source_of_the_configuration_is_in_the_world() {
        let directory = tempfile::tempdir().expect("a directory");
        write_world(&Layouts::default(), directory.path(), NaiveDate::MIN)
            .await
            .expect("to write the world");
        let sources: Vec<_> = FILES[0]
            .1
            .lines()
            .filter_map(|line| line.split_once("source: ocidir://"))
            .collect();
        assert!(sources.len() >= 3);
        for (_, source) in sources {
            assert!(
                directory.path().join(source).join("index.json").is_file(),
                "{source}"
            );
        }
    }

    #[tokio::test]
    async fn a_repository_of_the_user_is_left_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("imglife.yaml"), "mine").expect("to write");
        assert!(matches!(
            write_world(&Layouts::default(), directory.path(), NaiveDate::MIN).await,
            Err(DemoError::Occupied { .. })
        ));
        assert_eq!(
            fs::read_dir(directory.path()).expect("a directory").count(),
            1
        );
    }
}
