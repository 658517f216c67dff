//! The files and images of the sample world.

use std::io;
use std::path::Path;

use chrono::NaiveDate;

use super::catalogue;
use super::end_of_life::end_of_life;
use super::error::DemoError;
use super::images::SampleImage;
use crate::model::{Repository, Tag};
use crate::registry::ImageStore;

/// Path and content of a file.
type WorldFile = (&'static str, &'static str);

/// Files of the world. The configuration comes first: if the user has another one, nothing else is
/// written.
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

/// Writes the sample world as of `today` into `directory`, which must be absolute.
///
/// The world has upstream image layouts below `upstream/`, templates below `images/`, an
/// `imglife.yaml` that mirrors the images to `mirrors/` and builds the templates to `bases/`,
/// end-of-life data, and an application image. An existing world is completed. Fails with
/// [`DemoError::Occupied`] if a file exists and differs.
pub(super) async fn write_world(
    store: &dyn ImageStore,
    directory: &Path,
    today: NaiveDate,
) -> Result<(), DemoError> {
    // Before any image, so that nothing is written into a user's repository.
    for (path, content) in FILES {
        write_file(&directory.join(path), content)?;
    }
    let data = directory.join("eol-data.yaml");
    if !data.exists() {
        write_file(&data, &end_of_life(today))?;
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
    async fn world_is_small_and_complete_and_written_the_same_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut listings = Vec::new();
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
                    tags.len() >= 6 && tags.iter().any(|listed| listed.tag.as_str() == "latest"),
                    "{name}: {tags:?}"
                );
                listings.push(tags);
            }
        }
        assert_eq!(listings[..3], listings[3..]);
        assert!(
            size(directory.path()) < 2_000_000,
            "{} bytes",
            size(directory.path())
        );
    }

    #[tokio::test]
    async fn world_has_every_source_of_the_configuration() {
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
    async fn configuration_of_the_user_is_not_overwritten() {
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
