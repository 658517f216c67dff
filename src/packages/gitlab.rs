//! A record store in the generic packages of one GitLab project.
//!
//! Relies on this behaviour (`lib/api/generic_packages.rb`, `lib/api/project_packages.rb` and
//! `lib/api/package_files.rb` of GitLab):
//!
//! - a second file with the same name is added or rejected; imglife never repeats a name;
//! - a search for a package name also finds similar names;
//! - pages have no totals above 10,000 entries;
//! - a download may redirect to a storage on another host, which does not get the token.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::forge_api::{ForgeApi, encoded};
use super::probe::{self, GitlabProject};
use super::{
    FileListing, FileName, FileStream, GitlabFileIds, ListedFile, PackageName, PackageScope,
    RecordStore,
};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::{Client, Method, StatusCode, Url};
use crate::model::env;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport};

/// Maximum number of packages whose files are listed in parallel.
const MAX_CONCURRENT_LISTINGS: usize = 16;

/// Maximum number of complete listings, repeated because a package was deleted during the listing.
const MAX_LISTINGS: usize = 4;

const LIST: &str = "list the packages";

/// Clients for the requests of a record store. They differ in their credentials.
pub struct PackageClients {
    /// Client that reads and writes files.
    pub files: Arc<Client>,
    /// Client that lists and deletes packages.
    pub listings: Arc<Client>,
}

impl From<Arc<Client>> for PackageClients {
    fn from(http: Arc<Client>) -> PackageClients {
        PackageClients {
            files: Arc::clone(&http),
            listings: http,
        }
    }
}

/// Record store in the generic packages of a project.
pub struct GitlabPackages {
    /// API for files, which accepts deploy tokens.
    files: ForgeApi,
    api: ForgeApi,
    project: u64,
}

/// A package in a listing.
#[derive(Deserialize)]
struct GitlabPackage {
    id: u64,
    name: String,
    /// `None` in packages of some other types.
    version: Option<String>,
}

#[derive(Deserialize)]
struct GitlabPackageFile {
    id: u64,
    file_name: String,
}

impl GitlabPackages {
    /// Returns the packages of `project` on the GitLab server at `url`. Requests use the
    /// credentials of `http`; `token` is the variable that they come from.
    pub fn new(
        clients: impl Into<PackageClients>,
        url: &Url,
        project: u64,
        token: Option<&str>,
    ) -> Result<GitlabPackages, ItemError> {
        let roles = format!(
            "in project {project} the role Reporter to read, Developer to write, Maintainer to delete"
        );
        let permissions = match token {
            None => format!(
                "set GITLAB_TOKEN to a token with the scope `api` (to read, `read_api`), whose user has {roles}"
            ),
            Some(env::CI_JOB_TOKEN) => format!(
                "GitLab responds with 401, 403 or 404 if CI_JOB_TOKEN lacks permission: add the job's project to the job token allowlist of \
                 project {project}, and give the user who runs the job {roles}"
            ),
            Some(env::GITLAB_DEPLOY_TOKEN) => format!(
                "GitLab responds with 401, 403 or 404 if GITLAB_DEPLOY_TOKEN is invalid or lacks permission: it must be of project {project} or its \
                 group, with the scope `read_package_registry`, and `write_package_registry` to write; GitLab lists packages for CI_JOB_TOKEN \
                 or GITLAB_TOKEN only, unless the project is public"
            ),
            Some(token) => format!(
                "GitLab responds with 401, 403 or 404 if {token} is invalid, expired or lacks permission: it needs the scope `api` (to \
                 read, `read_api`), and its user {roles}"
            ),
        };
        let clients = clients.into();
        let store = format!("{}, project {project}", url.as_str().trim_end_matches('/'));
        Ok(GitlabPackages {
            files: ForgeApi::new(clients.files, url, store.clone(), permissions.clone())?,
            api: ForgeApi::new(clients.listings, url, store, permissions)?,
            project,
        })
    }

    /// Returns a hint about the role that the user of a token needs.
    fn role(&self) -> String {
        format!(
            "its user needs the role Developer in project {} to write, Maintainer to delete",
            self.project
        )
    }

    fn packages(&self) -> String {
        format!("/api/v4/projects/{}/packages", self.project)
    }

    fn file(&self, name: &FileName) -> String {
        let file = encoded(&name.file.to_string());
        format!(
            "{}/generic/{}/{}/{file}",
            self.packages(),
            name.package.flat(),
            name.package.version()
        )
    }

    /// Returns the files in `scope`; `None` if a package was deleted during the listing.
    async fn try_list(&self, scope: &PackageScope) -> Result<Option<FileListing>, ItemError> {
        let path = format!(
            "{}?package_type=generic&package_name={}&per_page=100",
            self.packages(),
            encoded(&scope.flat())
        );
        let found = self.api.list(LIST, &path, |package: GitlabPackage| {
            let version = package.version.unwrap_or_default();
            let name = scope.package(&package.name, &version)?;
            Some((
                package.id,
                name.map_err(|_| format!("{}/{version}", package.name)),
            ))
        });
        let Some(packages) = found.await? else {
            let detail = "the project does not exist or is not visible";
            let error = self.api.error(LIST, ItemErrorKind::Absent, detail);
            return Err(error.with_optional_hint(Some(self.api.permissions.clone())));
        };
        let mut listing = FileListing::default();
        let mut found_packages = Vec::new();
        for (id, package) in packages {
            match package {
                Ok(package) => found_packages.push((id, package)),
                Err(foreign) => listing.foreign.push(foreign),
            }
        }
        let mut files = stream::iter(found_packages)
            .map(|(id, package)| self.files(id, package))
            .buffer_unordered(MAX_CONCURRENT_LISTINGS);
        while let Some((id, package, files)) = files.try_next().await? {
            let Some(files) = files else { return Ok(None) };
            for (file, name) in files {
                listing.add(&package, &name, Some(GitlabFileIds { package: id, file }));
            }
        }
        drop(files);
        listing.sort();
        Ok(Some(listing))
    }

    async fn files(
        &self,
        id: u64,
        package: PackageName,
    ) -> Result<(u64, PackageName, Option<Vec<(u64, String)>>), ItemError> {
        let path = format!("{}/{id}/package_files?per_page=100", self.packages());
        let action = format!("list the files of {}", package.flat());
        let files = self
            .api
            .list(&action, &path, |file: GitlabPackageFile| {
                Some((file.id, file.file_name))
            })
            .await?;
        Ok((id, package, files))
    }
}

#[async_trait]
impl RecordStore for GitlabPackages {
    fn name(&self) -> String {
        self.api.store.clone()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        self.files
            .put(&format!("write {file}"), &self.file(file), content)
            .await
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
        let mut report = match self.api.reach("/api/v4/version").await {
            Ok(report) => report,
            Err(finding) => return vec![finding].into(),
        };
        let mut token = None;
        match credential.variable {
            Some(env::CI_JOB_TOKEN) => {
                match self.api.document::<serde_json::Value>("/api/v4/job").await {
                    Ok(_) => {
                        report.findings.push(ProbeFinding::ok(
                            probe::TOKEN,
                            "",
                            "valid while the job runs",
                        ));
                    }
                    Err(error) if probe::is(&error, StatusCode::UNAUTHORIZED) => {
                        let finding =
                            ProbeFinding::wrong(probe::TOKEN, "", "GitLab rejected CI_JOB_TOKEN");
                        report.findings.push(finding.fix("use CI_JOB_TOKEN only while its job runs, or set GITLAB_TOKEN to a token with the scope `api`"));
                        return report;
                    }
                    Err(error) => {
                        report.findings.push(ProbeFinding::unknown(
                            probe::TOKEN,
                            "",
                            chain(&error),
                        ));
                    }
                }
            }
            Some(env::GITLAB_DEPLOY_TOKEN) => report.findings.push(
                ProbeFinding::unknown(
                    probe::TOKEN,
                    "",
                    "GITLAB_DEPLOY_TOKEN, whose scopes GitLab does not report",
                )
                .fix(&self.api.permissions),
            ),
            Some(_) => match self
                .api
                .document::<probe::GitlabToken>("/api/v4/personal_access_tokens/self")
                .await
            {
                Ok(found) => {
                    report.findings.push(found.as_ref().map_or_else(
                        || {
                            ProbeFinding::unknown(
                                probe::TOKEN,
                                "",
                                "the response of GitLab about the token is malformed",
                            )
                        },
                        |found| found.finding(self.api.today()),
                    ));
                    report
                        .findings
                        .extend(found.as_ref().and_then(probe::GitlabToken::excess));
                    token = found;
                }
                Err(error) if probe::is(&error, StatusCode::UNAUTHORIZED) => {
                    let finding = ProbeFinding::wrong(
                        probe::TOKEN,
                        "",
                        "GitLab rejected GITLAB_TOKEN: it is invalid, expired or revoked",
                    );
                    report.findings.push(finding.fix(format!(
                        "create a token with the scope `api` and set GITLAB_TOKEN to it; {}",
                        self.role()
                    )));
                    return report;
                }
                Err(error) => {
                    report
                        .findings
                        .push(ProbeFinding::unknown(probe::TOKEN, "", chain(&error)));
                }
            },
            None => {}
        }
        let project = match (
            credential.variable,
            self.api
                .document::<GitlabProject>(&format!("/api/v4/projects/{}", self.project))
                .await,
        ) {
            (_, Ok(project)) => {
                let project = project.unwrap_or_default();
                report
                    .findings
                    .push(ProbeFinding::ok(probe::PROJECT, "", project.name()));
                Some(project)
            }
            // These tokens may read the packages of a project without permission to read the
            // project.
            (Some(env::CI_JOB_TOKEN | env::GITLAB_DEPLOY_TOKEN), Err(_)) => None,
            (_, Err(error)) if probe::is(&error, StatusCode::NOT_FOUND) => {
                let detail = format!("project {} does not exist or is not visible", self.project);
                let finding = ProbeFinding::wrong(probe::PROJECT, "", detail);
                report.findings.push(finding.fix(format!(
                    "correct `registry.project_id` (in GitLab: Settings, General); {}",
                    self.role()
                )));
                return report;
            }
            (_, Err(_)) => None,
        };
        let list = format!("{}?package_type=generic&per_page=1", self.packages());
        if let Err(error) = self.api.send_once(Method::GET, &list).await {
            let error = self.api.failed(LIST, error);
            report.findings.push(probe::of_error(
                probe::READ,
                &error,
                credential.variable.is_some(),
            ));
            return report;
        }
        report
            .findings
            .push(ProbeFinding::ok(probe::READ, "", "allowed"));
        match credential.variable {
            None => {
                let fix = format!(
                    "set GITLAB_TOKEN to a token with the scope `api`; {}",
                    self.role()
                );
                report.findings.push(
                    ProbeFinding::missing(
                        probe::WRITE,
                        "",
                        "no token is set, and writing needs one",
                    )
                    .fix(fix),
                );
            }
            Some(_) => report.findings.extend(
                project
                    .unwrap_or_default()
                    .rights(token.as_ref(), self.project),
            ),
        }
        report
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        let action = format!("delete {}", file.name);
        let Some(GitlabFileIds { package, file }) = file.ids else {
            return Err(self.api.error(
                &action,
                ItemErrorKind::Refused,
                "it was not listed by this store",
            ));
        };
        self.api
            .delete(
                &action,
                &format!("{}/{package}/package_files/{file}", self.packages()),
            )
            .await
    }
}
