//! GitLab's generic packages, in one project.
//!
//! What is relied on (`lib/api/generic_packages.rb`, `lib/api/project_packages.rb`,
//! `lib/api/package_files.rb` of GitLab): a second file of a name is added or refused, and names
//! here never repeat; names are searched for loosely; pages tell no totals above 10,000 entries; a
//! download may lead to a storage on another host, where the token does not go.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::interface::{Interface, encoded};
use super::probe::{self, GitlabProject};
use super::{FileName, FileSeen, Ids, Listing, PackageFiles, PackageName, Scope};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::{Client, Method, StatusCode, Url};
use crate::model::env;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport};

/// Packages whose files are listed at once.
const IN_FLIGHT: usize = 16;

/// How often everything is listed anew since a package was deleted meanwhile.
const ROUNDS: usize = 4;

const LIST: &str = "list the packages";

/// Generic packages of a project.
pub struct GitlabPackages {
    interface: Interface,
    project: u64,
}

#[derive(Deserialize)]
struct Package {
    id: u64,
    name: String,
    /// Missing in packages of some other types.
    version: Option<String>,
}

#[derive(Deserialize)]
struct PackageFile {
    id: u64,
    file_name: String,
}

impl GitlabPackages {
    /// Returns the packages of `project` at the instance `url`. Requests bring the header that
    /// `http` has as credential, which is that of the variable `token`.
    pub fn new(
        http: Arc<Client>,
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
                "GitLab says so, with 401, 403 or 404, where CI_JOB_TOKEN may not do this: put the job's project on the job token allowlist of \
                 project {project}, and see that who runs the job has {roles}"
            ),
            Some(token) => format!(
                "GitLab says so, with 401, 403 or 404, where {token} is wrong, has ended, or may not do this: it needs the scope `api` (to \
                 read, `read_api`), and its user {roles}"
            ),
        };
        let place = format!("{}, project {project}", url.as_str().trim_end_matches('/'));
        Ok(GitlabPackages {
            interface: Interface::new(http, url, place, permissions)?,
            project,
        })
    }

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

    /// Returns what is in `scope`; `None` when a package was deleted in the meantime.
    async fn try_list(&self, scope: &Scope) -> Result<Option<Listing>, ItemError> {
        let path = format!(
            "{}?package_type=generic&package_name={}&per_page=100",
            self.packages(),
            encoded(&scope.flat())
        );
        let found = self.interface.list(LIST, &path, |package: Package| {
            let version = package.version.unwrap_or_default();
            let known = scope.package(&package.name, &version)?;
            Some((
                package.id,
                known.map_err(|_| format!("{}/{version}", package.name)),
            ))
        });
        let Some(packages) = found.await? else {
            let detail = "the project is not there, or may not be seen";
            let error = self.interface.wrong(LIST, ItemErrorKind::Absent, detail);
            return Err(error.hinting(Some(self.interface.permissions.clone())));
        };
        let mut listing = Listing::default();
        let mut known = Vec::new();
        for (id, package) in packages {
            match package {
                Ok(package) => known.push((id, package)),
                Err(foreign) => listing.foreign.push(foreign),
            }
        }
        let mut files = stream::iter(known)
            .map(|(id, package)| self.files(id, package))
            .buffer_unordered(IN_FLIGHT);
        while let Some((id, package, files)) = files.try_next().await? {
            let Some(files) = files else { return Ok(None) };
            for (file, name) in files {
                listing.add(&package, &name, Some(Ids { package: id, file }));
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
            .interface
            .list(&action, &path, |file: PackageFile| {
                Some((file.id, file.file_name))
            })
            .await?;
        Ok((id, package, files))
    }
}

#[async_trait]
impl PackageFiles for GitlabPackages {
    fn place(&self) -> String {
        self.interface.place.clone()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        self.interface
            .put(&format!("write {file}"), &self.file(file), content)
            .await
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.interface
            .get(&format!("read {file}"), &self.file(file))
            .await
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError> {
        for _ in 0..ROUNDS {
            if let Some(listing) = self.try_list(scope).await? {
                return Ok(listing);
            }
        }
        Err(self.interface.unsettled(LIST))
    }

    async fn probe(&self, login: ProbeCredential) -> ProbeReport {
        let mut look = match self.interface.reach("/api/v4/version").await {
            Ok(look) => look,
            Err(finding) => return vec![finding].into(),
        };
        let mut token = None;
        match login.variable {
            Some(env::CI_JOB_TOKEN) => match self
                .interface
                .document::<serde_json::Value>("/api/v4/job")
                .await
            {
                Ok(_) => {
                    look.findings.push(ProbeFinding::ok(
                        probe::TOKEN,
                        "",
                        "valid while the job runs",
                    ));
                }
                Err(error) if probe::is(&error, StatusCode::UNAUTHORIZED) => {
                    let finding =
                        ProbeFinding::wrong(probe::TOKEN, "", "GitLab does not take CI_JOB_TOKEN");
                    look.findings.push(finding.fix("use it within its own job only, or set GITLAB_TOKEN to a token with the scope `api`"));
                    return look;
                }
                Err(error) => {
                    look.findings
                        .push(ProbeFinding::unknown(probe::TOKEN, "", chain(&error)))
                }
            },
            Some(_) => match self
                .interface
                .document::<probe::GitlabToken>("/api/v4/personal_access_tokens/self")
                .await
            {
                Ok(told) => {
                    look.findings.push(told.as_ref().map_or_else(
                        || {
                            ProbeFinding::unknown(
                                probe::TOKEN,
                                "",
                                "GitLab's answer about it is not understood",
                            )
                        },
                        |told| told.finding(self.interface.today()),
                    ));
                    token = told;
                }
                Err(error) if probe::is(&error, StatusCode::UNAUTHORIZED) => {
                    let finding = ProbeFinding::wrong(
                        probe::TOKEN,
                        "",
                        "GitLab does not take GITLAB_TOKEN: it is wrong, has ended, or was revoked",
                    );
                    look.findings.push(finding.fix(format!(
                        "make a token with the scope `api`, and set GITLAB_TOKEN to it; {}",
                        self.role()
                    )));
                    return look;
                }
                Err(error) => {
                    look.findings
                        .push(ProbeFinding::unknown(probe::TOKEN, "", chain(&error)))
                }
            },
            None => {}
        }
        let project = match (
            login.variable,
            self.interface
                .document::<GitlabProject>(&format!("/api/v4/projects/{}", self.project))
                .await,
        ) {
            (_, Ok(project)) => {
                let project = project.unwrap_or_default();
                look.findings
                    .push(ProbeFinding::ok(probe::PROJECT, "", project.name()));
                Some(project)
            }
            // A job's token may read the packages of a project that it may not ask about.
            (Some(env::CI_JOB_TOKEN), Err(_)) => None,
            (_, Err(error)) if probe::is(&error, StatusCode::NOT_FOUND) => {
                let detail = format!(
                    "there is no project {}, or it may not be seen",
                    self.project
                );
                let finding = ProbeFinding::wrong(probe::PROJECT, "", detail);
                look.findings.push(finding.fix(format!(
                    "correct `registry.project_id` (in GitLab: Settings, General); {}",
                    self.role()
                )));
                return look;
            }
            (_, Err(_)) => None,
        };
        let list = format!("{}?package_type=generic&per_page=1", self.packages());
        if let Err(error) = self.interface.send_once(Method::GET, &list).await {
            let error = self.interface.failed(LIST, error);
            look.findings.push(probe::of_error(
                probe::READ,
                &error,
                login.variable.is_some(),
            ));
            return look;
        }
        look.findings
            .push(ProbeFinding::ok(probe::READ, "", "allowed"));
        match login.variable {
            None => {
                let fix = format!(
                    "set GITLAB_TOKEN to a token with the scope `api`; {}",
                    self.role()
                );
                look.findings.push(
                    ProbeFinding::missing(
                        probe::WRITE,
                        "",
                        "no token is set, and strangers do not write",
                    )
                    .fix(fix),
                );
            }
            Some(_) => look.findings.extend(
                project
                    .unwrap_or_default()
                    .rights(token.as_ref(), self.project),
            ),
        }
        look
    }

    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError> {
        let action = format!("delete {}", file.name);
        let Some(Ids { package, file }) = file.ids else {
            return Err(self.interface.wrong(
                &action,
                ItemErrorKind::Refused,
                "it was not listed here",
            ));
        };
        self.interface
            .delete(
                &action,
                &format!("{}/{package}/package_files/{file}", self.packages()),
            )
            .await
    }
}
