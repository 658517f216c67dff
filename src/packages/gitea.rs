//! Generic packages of Gitea and Forgejo, of one owner.
//!
//! What is relied on (`routers/api/packages/generic`, `routers/api/v1/packages` of Gitea): a file
//! that exists is refused with 409; names are compared without case; each version of a package is
//! an entry of the listing, whose pages are smaller than asked for where the server says so; a
//! version goes with its last file.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::interface::{Interface, encoded};
use super::probe;
use super::{FileName, FileSeen, Listing, PackageFiles, PackageName, Scope};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::{Client, Method, StatusCode, Url};
use crate::model::lock::lock;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport};

/// Packages whose files are listed at once.
const IN_FLIGHT: usize = 16;

/// How often everything is listed anew since a package was deleted meanwhile.
const ROUNDS: usize = 4;

const LIST: &str = "list the packages";

/// Where the packages of an owner are.
#[derive(Clone, Debug)]
pub struct GiteaPlace {
    /// The instance, below which packages are.
    pub url: Url,
    /// Where its API is.
    pub api_url: Url,
    pub owner: String,
    /// The repository that packages are shown with.
    pub repository: Option<String>,
}

/// Generic packages of an owner.
pub struct GiteaPackages {
    files: Interface,
    api: Interface,
    owner: String,
    repository: Option<String>,
    /// Packages that were linked to the repository in this run, or cannot be.
    linked: Mutex<HashSet<PackageName>>,
}

#[derive(Deserialize)]
struct Version {
    name: String,
    version: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The users that the tokens of jobs belong to, in Gitea and in Forgejo.
const JOB_USERS: [&str; 2] = ["gitea-actions", "forgejo-actions"];

#[derive(Deserialize)]
struct User {
    login: String,
}

#[derive(Deserialize)]
struct PackageFile {
    name: String,
}

impl GiteaPackages {
    /// Returns the packages at `place`. Requests bring the header that `http` has as credential.
    pub fn new(http: Arc<Client>, place: &GiteaPlace) -> Result<GiteaPackages, ItemError> {
        let GiteaPlace {
            url,
            api_url,
            owner,
            repository,
        } = place;
        let permissions = format!(
            "set GITEA_TOKEN to the token of a user who may publish packages of {owner}, with the scope `write:package` (to read, \
             `read:package`); the token that a job of Gitea Actions is given cannot publish packages, and since no secret may be named \
             GITEA_*, the job takes the token from a secret of another name"
        );
        let name = format!("{}, owner {owner}", url.as_str().trim_end_matches('/'));
        Ok(GiteaPackages {
            files: Interface::new(Arc::clone(&http), url, name.clone(), permissions.clone())?,
            api: Interface::new(http, api_url, name, permissions)?,
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

    /// Returns the packages in `scope`, and what only looks like one.
    async fn packages(&self, scope: &Scope) -> Result<(Vec<PackageName>, Vec<String>), ItemError> {
        let path = format!(
            "/api/v1/packages/{}?type=generic&q={}&limit=50",
            self.owner,
            encoded(&scope.flat())
        );
        let found = self.api.list(LIST, &path, |entry: Version| {
            let package = scope
                .package(&entry.name, &entry.version)
                .filter(|_| entry.kind == "generic")?;
            Some(package.map_err(|_| format!("{}/{}", entry.name, entry.version)))
        });
        let Some(entries) = found.await? else {
            let detail = "the owner is not there, or may not be seen";
            let error = self.api.wrong(LIST, ItemErrorKind::Absent, detail);
            return Err(error.hinting(Some(self.api.permissions.clone())));
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

    /// Returns the files of a package; `None` when there is no such package.
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
        let files: Vec<PackageFile> = serde_json::from_slice(&body).map_err(|error| {
            let detail = "the answer is not of the form it must have";
            self.api
                .wrong(&action, ItemErrorKind::Malformed, detail)
                .caused_by(error)
        })?;
        Ok((
            package,
            Some(files.into_iter().map(|file| file.name).collect()),
        ))
    }

    /// Returns what is in `scope`; `None` when a package was deleted in the meantime.
    async fn try_list(&self, scope: &Scope) -> Result<Option<Listing>, ItemError> {
        let mut listing = Listing::default();
        let packages = match scope {
            Scope::Package(package) => vec![package.clone()],
            Scope::AllRecords(_) => {
                let (packages, foreign) = self.packages(scope).await?;
                listing.foreign = foreign;
                packages
            }
        };
        let mut found = stream::iter(packages)
            .map(|package| self.files_of(package))
            .buffer_unordered(IN_FLIGHT);
        while let Some((package, files)) = found.try_next().await? {
            match files {
                Some(files) => files
                    .iter()
                    .for_each(|file| listing.add(&package, file, None)),
                // An owner that may not be seen has no packages either; the listing tells one from
                // the other.
                None if matches!(scope, Scope::Package(_))
                    && self.packages(scope).await?.0.is_empty() => {}
                None => return Ok(None),
            }
        }
        drop(found);
        listing.sort();
        Ok(Some(listing))
    }

    /// Shows a package with its repository. It is as good without, and servers before 1.24 cannot.
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
            // Not known to this server, no such repository, or linked already.
            Err(error)
                if matches!(
                    error.status().map(|status| status.as_u16()),
                    Some(400 | 404 | 405)
                ) =>
            {
                tracing::debug!(package = package.flat(), %error, "the package was not linked to its repository");
            }
            Err(error) => {
                tracing::warn!(package = package.flat(), %error, "the package could not be linked to its repository");
            }
        }
    }
}

#[async_trait]
impl PackageFiles for GiteaPackages {
    fn place(&self) -> String {
        self.files.place.clone()
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

    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError> {
        for _ in 0..ROUNDS {
            if let Some(listing) = self.try_list(scope).await? {
                return Ok(listing);
            }
        }
        Err(self.api.unsettled(LIST))
    }

    async fn probe(&self, login: ProbeCredential) -> ProbeReport {
        let mut look = match self.api.reach("/api/v1/version").await {
            Ok(look) => look,
            Err(finding) => return vec![finding].into(),
        };
        let mut scopes = None;
        if login.variable.is_some() {
            match self.api.document::<User>("/api/v1/user").await {
                Ok(user) => {
                    let user = user.map(|user| user.login).unwrap_or_default();
                    if JOB_USERS.contains(&user.as_str()) {
                        let finding = ProbeFinding::wrong(
                            probe::TOKEN,
                            "",
                            "GITEA_TOKEN is the job's own, which cannot publish packages",
                        );
                        look.findings.push(finding.fix(&self.api.permissions));
                        return look;
                    }
                    look.findings.push(ProbeFinding::ok(
                        probe::TOKEN,
                        "",
                        format!("valid; of {user}"),
                    ));
                }
                Err(error) if probe::is(&error, StatusCode::UNAUTHORIZED) => {
                    let finding = ProbeFinding::wrong(
                        probe::TOKEN,
                        "",
                        "the server does not take GITEA_TOKEN: it is wrong, or was deleted",
                    );
                    look.findings.push(finding.fix(&self.api.permissions));
                    return look;
                }
                Err(error) => match probe::gitea_scopes(&error) {
                    Some(told) => {
                        look.findings.push(ProbeFinding::ok(
                            probe::TOKEN,
                            "",
                            format!("valid; {}", told.join(", ")),
                        ));
                        scopes = Some(told);
                    }
                    None => {
                        look.findings
                            .push(ProbeFinding::unknown(probe::TOKEN, "", chain(&error)))
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
            look.findings.push(if absent {
                ProbeFinding::wrong(
                    probe::PROJECT,
                    "",
                    "there is no such owner, or it may not be seen",
                )
                .fix(format!(
                    "correct `registry.owner`; {}",
                    self.api.permissions
                ))
            } else {
                probe::of_error(probe::READ, &error, login.variable.is_some())
            });
            return look;
        }
        look.findings
            .push(ProbeFinding::ok(probe::READ, "", "allowed"));
        look.findings.push(match (login.variable, scopes) {
            (None, _) => {
                ProbeFinding::missing(probe::WRITE, "", "GITEA_TOKEN is not set, and strangers do not write").fix(&self.api.permissions)
            }
            (_, Some(scopes)) if !probe::gitea_may_write(&scopes) => {
                ProbeFinding::wrong(probe::WRITE, "", "the token has not the scope `write:package`").fix(&self.api.permissions)
            }
            (_, Some(_)) => ProbeFinding::ok(probe::WRITE, "", "allowed, by the token's scope"),
            (_, None) => ProbeFinding::unknown(
                probe::WRITE,
                "",
                "the server does not tell the token's scopes: it takes `write:package`, and the first write shows it",
            ),
        });
        look
    }

    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError> {
        self.files
            .delete(&format!("delete {}", file.name), &self.file(&file.name))
            .await
    }
}
