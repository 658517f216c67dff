//! A record store in the generic packages of one owner on Gitea or Forgejo.
//!
//! Relies on this behaviour (`routers/api/packages/generic` and `routers/api/v1/packages` of
//! Gitea):
//!
//! - a file that exists is rejected with 409;
//! - names are compared without case;
//! - each version of a package is an entry of the listing;
//! - pages may be smaller than requested;
//! - a version is deleted with its last file.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::forge_api::{ForgeApi, encoded};
use super::probe;
use super::{
    FileListing, FileName, FileStream, ListedFile, PackageName, PackageScope, RecordStore,
};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::{Client, Method, StatusCode, Url};
use crate::model::env;
use crate::model::lock::lock;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport};

/// Maximum number of packages whose files are listed in parallel.
const MAX_CONCURRENT_LISTINGS: usize = 16;

/// Maximum number of complete listings, repeated because a package was deleted during the listing.
const MAX_LISTINGS: usize = 4;

const LIST: &str = "list the packages";

/// Location of the packages of an owner.
#[derive(Clone, Debug)]
pub struct GiteaLocation {
    /// URL of the server, below which files are read and written.
    pub url: Url,
    /// URL of the server's API.
    pub api_url: Url,
    pub owner: String,
    /// Repository that the packages are linked to.
    pub repository: Option<String>,
}

/// Record store in the generic packages of an owner.
pub struct GiteaPackages {
    files: ForgeApi,
    api: ForgeApi,
    owner: String,
    repository: Option<String>,
    /// Packages that this run tried to link to the repository.
    linked: Mutex<HashSet<PackageName>>,
}

/// A version of a package in a listing.
#[derive(Deserialize)]
struct GiteaPackageVersion {
    name: String,
    version: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Users that the tokens of jobs belong to, in Gitea and in Forgejo.
const JOB_USERS: [&str; 2] = ["gitea-actions", "forgejo-actions"];

#[derive(Deserialize)]
struct GiteaUser {
    login: String,
}

#[derive(Deserialize)]
struct GiteaPackageFile {
    name: String,
}

impl GiteaPackages {
    /// Returns the packages at `location`. Requests use the credentials of `http`.
    pub fn new(http: Arc<Client>, location: &GiteaLocation) -> Result<GiteaPackages, ItemError> {
        let GiteaLocation {
            url,
            api_url,
            owner,
            repository,
        } = location;
        let permissions = format!(
            "set GITEA_TOKEN to a token of a user who may publish packages of {owner}, with the scope `write:package` (to read, \
             `read:package`); the token of a job of Gitea Actions cannot publish packages, and a secret cannot be named GITEA_*, so \
             store the token in a secret with another name"
        );
        let name = format!("{}, owner {owner}", url.as_str().trim_end_matches('/'));
        Ok(GiteaPackages {
            files: ForgeApi::new(Arc::clone(&http), url, name.clone(), permissions.clone())?,
            api: ForgeApi::new(http, api_url, name, permissions)?,
            owner: encoded(owner),
            repository: repository.as_deref().map(encoded),
            linked: Mutex::default(),
        })
    }

    fn file(&self, name: &FileName) -> String {
        let (package, file) = (&name.package, encoded(&name.file.to_string()));
        format!(
            "/api/packages/{}/generic/{}/{}/{file}",
            self.owner,
            package.flat(),
            package.version()
        )
    }

    /// Returns the packages in `scope`, and the names of foreign ones among them.
    async fn packages(
        &self,
        scope: &PackageScope,
    ) -> Result<(Vec<PackageName>, Vec<String>), ItemError> {
        let path = format!(
            "/api/v1/packages/{}?type=generic&q={}&limit=50",
            self.owner,
            encoded(&scope.flat())
        );
        let found = self.api.list(LIST, &path, |entry: GiteaPackageVersion| {
            let package = scope
                .package(&entry.name, &entry.version)
                .filter(|_| entry.kind == "generic")?;
            Some(package.map_err(|_| format!("{}/{}", entry.name, entry.version)))
        });
        let Some(entries) = found.await? else {
            let detail = "the owner does not exist or is not visible";
            let error = self.api.error(LIST, ItemErrorKind::Absent, detail);
            return Err(error.with_optional_hint(Some(self.api.permissions.clone())));
        };
        let (mut packages, mut foreign) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Ok(package) => packages.push(package),
                Err(name) => foreign.push(name),
            }
        }
        Ok((packages, foreign))
    }

    /// Returns the files of a package; `None` if the package does not exist.
    async fn files_of(
        &self,
        package: PackageName,
    ) -> Result<(PackageName, Option<Vec<String>>), ItemError> {
        let path = format!(
            "/api/v1/packages/{}/generic/{}/{}/files",
            self.owner,
            package.flat(),
            package.version()
        );
        let action = format!("list the files of {}", package.flat());
        let Some(body) = self.api.get(&action, &path).await? else {
            return Ok((package, None));
        };
        let files: Vec<GiteaPackageFile> = serde_json::from_slice(&body).map_err(|error| {
            let detail = "the response is malformed";
            self.api
                .error(&action, ItemErrorKind::Malformed, detail)
                .caused_by(error)
        })?;
        Ok((
            package,
            Some(files.into_iter().map(|file| file.name).collect()),
        ))
    }

    /// Returns the files in `scope`; `None` if a package was deleted during the listing.
    async fn try_list(&self, scope: &PackageScope) -> Result<Option<FileListing>, ItemError> {
        let mut listing = FileListing::default();
        let packages = match scope {
            PackageScope::Package(package) => vec![package.clone()],
            PackageScope::AllRecords(_) => {
                let (packages, foreign) = self.packages(scope).await?;
                listing.foreign = foreign;
                packages
            }
        };
        let mut found = stream::iter(packages)
            .map(|package| self.files_of(package))
            .buffer_unordered(MAX_CONCURRENT_LISTINGS);
        while let Some((package, files)) = found.try_next().await? {
            match files {
                Some(files) => files
                    .iter()
                    .for_each(|file| listing.add(&package, file, None)),
                // An invisible owner has no packages either, but listing its packages fails.
                None if matches!(scope, PackageScope::Package(_))
                    && self.packages(scope).await?.0.is_empty() => {}
                None => return Ok(None),
            }
        }
        drop(found);
        listing.sort();
        Ok(Some(listing))
    }

    /// Links a package to its repository, which only affects how the forge shows it. Servers before
    /// version 1.24 cannot do this.
    async fn link(&self, package: &PackageName) {
        let Some(repository) = &self.repository else {
            return;
        };
        if !lock(&self.linked).insert(package.clone()) {
            return;
        }
        let path = format!(
            "/api/v1/packages/{}/generic/{}/-/link/{repository}",
            self.owner,
            package.flat()
        );
        match self.api.send_once(Method::POST, &path).await {
            Ok(_) => {}
            // Unsupported by the server, no such repository, or linked already.
            Err(error)
                if matches!(
                    error.status().map(|status| status.as_u16()),
                    Some(400 | 404 | 405)
                ) =>
            {
                tracing::debug!(package = package.flat(), %error, "the package was not linked to its repository");
            }
            Err(error) => {
                tracing::warn!(package = package.flat(), %error, "cannot link the package to its repository");
            }
        }
    }
}

#[async_trait]
impl RecordStore for GiteaPackages {
    fn name(&self) -> String {
        self.files.store.clone()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        self.files
            .put(&format!("write {file}"), &self.file(file), content)
            .await?;
        self.link(&file.package).await;
        Ok(())
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.files
            .get(&format!("read {file}"), &self.file(file))
            .await
    }

    async fn open(&self, file: &FileName) -> Result<Option<FileStream>, ItemError> {
        self.files
            .open(&format!("read {file}"), &self.file(file))
            .await
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        for _ in 0..MAX_LISTINGS {
            if let Some(listing) = self.try_list(scope).await? {
                return Ok(listing);
            }
        }
        Err(self.api.unsettled(LIST))
    }

    async fn probe(&self, credential: ProbeCredential) -> ProbeReport {
        let mut report = match self.api.reach("/api/v1/version").await {
            Ok(report) => report,
            Err(finding) => return vec![finding].into(),
        };
        let (mut scopes, mut is_job_token) = (None, false);
        if credential.variable.is_some() {
            match self.api.document::<GiteaUser>("/api/v1/user").await {
                Ok(user) => {
                    let user = user.map(|user| user.login).unwrap_or_default();
                    if credential.variable == Some(env::GITHUB_TOKEN) {
                        is_job_token = true;
                        report.findings.push(ProbeFinding::ok(
                            probe::TOKEN,
                            "",
                            "GITHUB_TOKEN, the token of the job, which may only read",
                        ));
                    } else if JOB_USERS.contains(&user.as_str()) {
                        let finding = ProbeFinding::wrong(
                            probe::TOKEN,
                            "",
                            "GITEA_TOKEN is the token of the job, which cannot publish packages",
                        );
                        report.findings.push(finding.fix(&self.api.permissions));
                        return report;
                    } else {
                        report.findings.push(ProbeFinding::ok(
                            probe::TOKEN,
                            "",
                            format!("valid; belongs to {user}"),
                        ));
                    }
                }
                Err(error) if probe::is(&error, StatusCode::UNAUTHORIZED) => {
                    let finding = ProbeFinding::wrong(
                        probe::TOKEN,
                        "",
                        format!(
                            "the server rejected {}: it is invalid or was deleted",
                            credential.variable.unwrap_or(env::GITEA_TOKEN)
                        ),
                    );
                    report.findings.push(finding.fix(&self.api.permissions));
                    return report;
                }
                Err(error) => match probe::gitea_scopes(&error) {
                    Some(found) => {
                        report.findings.push(ProbeFinding::ok(
                            probe::TOKEN,
                            "",
                            format!("valid; {}", found.join(", ")),
                        ));
                        scopes = Some(found);
                    }
                    None => {
                        report.findings.push(ProbeFinding::unknown(
                            probe::TOKEN,
                            "",
                            chain(&error),
                        ));
                    }
                },
            }
        }
        let list = format!(
            "/api/v1/packages/{}?type=generic&limit=1&page=1",
            self.owner
        );
        if let Err(error) = self.api.send_once(Method::GET, &list).await {
            let absent = probe::is(&error, StatusCode::NOT_FOUND);
            let error = self.api.failed(LIST, error);
            report.findings.push(if absent {
                ProbeFinding::wrong(
                    probe::PROJECT,
                    "",
                    "the owner does not exist or is not visible",
                )
                .fix(format!(
                    "correct `registry.owner`; {}",
                    self.api.permissions
                ))
            } else {
                probe::of_error(probe::READ, &error, credential.variable.is_some())
            });
            return report;
        }
        report
            .findings
            .push(ProbeFinding::ok(probe::READ, "", "allowed"));
        report
            .findings
            .extend(scopes.as_deref().and_then(probe::gitea_excess));
        report.findings.push(match (credential.variable, scopes) {
            (variable, _) if variable.is_none() || is_job_token => ProbeFinding::missing(
                probe::WRITE,
                "",
                "GITEA_TOKEN is not set, and writing needs a token",
            )
            .fix(&self.api.permissions),
            (_, Some(scopes)) if !probe::gitea_may_write(&scopes) => ProbeFinding::wrong(
                probe::WRITE,
                "",
                "the token lacks the scope `write:package`",
            )
            .fix(&self.api.permissions),
            (_, Some(_)) => ProbeFinding::ok(probe::WRITE, "", "allowed by the scope of the token"),
            (_, None) => ProbeFinding::unknown(
                probe::WRITE,
                "",
                "the server does not report the scopes of the token; writing needs `write:package`",
            ),
        });
        report
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        self.files
            .delete(&format!("delete {}", file.name), &self.file(&file.name))
            .await
    }
}
