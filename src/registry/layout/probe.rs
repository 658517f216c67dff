//! Checking a layout directory without changing it.

use super::layouts::Layouts;
use crate::model::Repository;
use crate::probe::{ProbeFinding, ProbeReport, RequiredAccess, check_writable_directory};
use crate::registry::store::ImageSource;

const UNREADABLE: &str = "correct the path, or grant this user the permission to read it";

impl Layouts {
    /// Checks if a layout can be read and, if `wanted`, written.
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
                    ProbeFinding::missing("layout.read", &name, "the image layout does not exist")
                        .fix("copy an image layout there, or correct the path"),
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
