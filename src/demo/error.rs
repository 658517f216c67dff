//! Errors of the demo.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::ItemError;
use crate::model::ImageReference;
use crate::model::manifest::ManifestError;
use crate::model::reference::InvalidName;

/// Reason why the sample world could not be created.
#[derive(Debug, Error)]
pub(super) enum DemoError {
    #[error("cannot publish the sample image {image}")]
    Publish {
        image: Box<ImageReference>,
        #[source]
        source: Box<ItemError>,
    },
    #[error("cannot create a layer of a sample image")]
    Layer(#[source] io::Error),
    #[error("a sample image has an invalid manifest")]
    Manifest(#[source] ManifestError),
    #[error("a sample image has an invalid name")]
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
    #[error("{} already exists and was not written by the demo", .path.display())]
    Occupied { path: PathBuf },
}
