//! Looking at a layout directory, without changing it.

use super::Layouts;
use crate::model::Repository;
use crate::probe::{ProbeFinding, ProbeReport, RequiredAccess, check_writable_directory};
use crate::registry::ImageSource;

const UNREADABLE: &str = "correct the path, or give this user the right to read it";

impl Layouts {
    /// Returns whether a directory holds what is read from it, and can be written where that is
    /// wanted.
    pub async fn probe(&self, repository: &Repository, wanted: RequiredAccess) -> ProbeReport {
        let Repository::Layout { directory } = repository else {
            return ProbeReport::default();
        };
        let name = repository.to_string();
        let mut findings = Vec::new();
        match self.tags(repository).await {
            Ok(Some(tags)) => findings.push(ProbeFinding::ok(
                "layout.read",
                &name,
                format!("{} tags", tags.len()),
            )),
            Ok(None) if wanted.source => {
                findings.push(
                    ProbeFinding::missing("layout.read", &name, "there is no image layout")
                        .fix("copy one there, or correct the path"),
                );
            }
            Ok(None) => {}
            Err(error) => findings.push(ProbeFinding::failed(
                "layout.read",
                &name,
                &error,
                Some(UNREADABLE.to_owned()),
            )),
        }
        if wanted.push || wanted.delete {
            findings.push(check_writable_directory("layout.write", &name, directory));
        }
        findings.into()
    }
}
