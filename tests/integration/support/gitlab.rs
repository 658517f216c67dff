//! A fake GitLab with generic packages and merge requests.
//!
//! Built after its documentation (`doc/api/packages.md`, `doc/user/packages/generic_packages`,
//! `doc/api/merge_requests.md`) and its sources (`lib/api/generic_packages.rb`, `package_files.rb`,
//! `lib/api/merge_requests.rb`, `lib/gitlab/pagination`).

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use super::fake_server::{FakeServer, ReceivedRequest, typed};

/// ID of the project with the packages.
pub(crate) const PROJECT: u64 = 42;

/// Valid tokens.
pub(crate) const MAINTAINER: &str = "glpat-maintainer-hunter2";
pub(crate) const DEVELOPER: &str = "glpat-developer-hunter2";
pub(crate) const JOB: &str = "glcbt-job-hunter2";
/// Token of a job whose project is not on the job token allowlist.
pub(crate) const OTHER_JOB: &str = "glcbt-other-hunter2";

/// Handling of a second file with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// Added; downloads return the last one.
    Added,
    /// Rejected with this status.
    Refused(u16),
}

/// Configuration of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) duplicates: Duplicates,
    /// True if downloads redirect to a storage on another host.
    pub(crate) storage: bool,
    /// Most entries of a listing that states its total.
    pub(crate) counted: usize,
    /// True if responses have `Link` headers; proxies may remove them.
    pub(crate) links: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            duplicates: Duplicates::Added,
            storage: false,
            counted: 10_000,
            links: true,
        }
    }
}

#[derive(Default)]
struct State {
    last_id: u64,
    packages: Vec<Package>,
    files: Vec<PackageFile>,
    /// Open merge requests.
    merge_requests: Vec<Value>,
}

struct Package {
    id: u64,
    name: String,
    version: String,
}

struct PackageFile {
    id: u64,
    package: u64,
    name: String,
    content: Bytes,
}

/// A running server.
pub(crate) struct Gitlab {
    pub(crate) server: FakeServer,
    pub(crate) storage: FakeServer,
    state: Arc<Mutex<State>>,
    rules: Rules,
}

impl Gitlab {
    pub(crate) fn start(rules: Rules) -> Gitlab {
        Gitlab::start_with(rules, |_| None)
    }

    /// Starts a server in which `fault` may replace a response.
    pub(crate) fn start_with(
        rules: Rules,
        fault: impl Fn(&ReceivedRequest) -> Option<Response> + Send + Sync + 'static,
    ) -> Gitlab {
        let state: Arc<Mutex<State>> = Arc::default();
        let stored = Arc::clone(&state);
        let storage = FakeServer::start(move |received| {
            let id = received
                .path
                .trim_start_matches("/objects/")
                .split('?')
                .next()
                .and_then(|id| id.parse::<u64>().ok());
            let state = stored.lock().expect("no panic");
            match state.files.iter().find(|file| Some(file.id) == id) {
                Some(file) => typed("application/octet-stream", file.content.clone()),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        });
        let (shared, objects) = (Arc::clone(&state), storage.host());
        let server = FakeServer::start(move |received| {
            fault(received).unwrap_or_else(|| {
                shared
                    .lock()
                    .expect("no panic")
                    .answer(received, rules, &objects)
            })
        });
        Gitlab {
            server,
            storage,
            state,
            rules,
        }
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}", self.server.host())
            .parse()
            .expect("a URL")
    }

    /// Adds files to a package without uploads.
    pub(crate) fn insert(
        &self,
        name: &str,
        version: &str,
        files: impl IntoIterator<Item = (String, Bytes)>,
    ) {
        let mut state = self.state.lock().expect("no panic");
        for (file, content) in files {
            state.add(name, version, &file, content);
        }
    }

    /// Replaces a file like a write and a deletion: the new file is the newest.
    pub(crate) fn replace(&self, file: &str, version: &str, name: &str) {
        let mut state = self.state.lock().expect("no panic");
        let (subject, _) = file.split_once('+').expect("a file's name");
        state.add(
            name,
            version,
            &format!("{subject}+20990101t000000.000000z+0000000000000000.json"),
            Bytes::new(),
        );
        state.files.retain(|known| known.name != file);
    }

    /// Returns the open merge requests.
    pub(crate) fn merge_requests(&self) -> Vec<Value> {
        self.state.lock().expect("no panic").merge_requests.clone()
    }

    /// Responds to a request that another server received.
    pub(crate) fn forward(&self, received: &ReceivedRequest) -> Response {
        self.state
            .lock()
            .expect("no panic")
            .answer(received, self.rules, &self.storage.host())
    }

    /// Returns the names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        self.state
            .lock()
            .expect("no panic")
            .files
            .iter()
            .map(|file| file.name.clone())
            .collect()
    }
}

impl State {
    fn answer(&mut self, received: &ReceivedRequest, rules: Rules, objects: &str) -> Response {
        let url: Url = format!("http://gitlab{}", received.path)
            .parse()
            .expect("a path");
        let query = |name: &str| {
            url.query_pairs()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        if url.path() == format!("/api/v4/projects/{PROJECT}/merge_requests") {
            return self.merge_request(received, &url);
        }
        let Some(rest) = url
            .path()
            .strip_prefix(&format!("/api/v4/projects/{PROJECT}/packages"))
        else {
            return message(404, "404 Project Not Found");
        };
        let parts: Vec<String> = rest.split('/').skip(1).map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        // Reporter, Developer, Maintainer.
        let role = match (
            text(&received.headers, "private-token"),
            text(&received.headers, "job-token"),
        ) {
            (Some(MAINTAINER), _) => 3,
            (Some(DEVELOPER), _) | (None, Some(JOB)) => 2,
            (None, Some(OTHER_JOB)) => return message(403, "403 Forbidden"),
            (None, None) => return message(404, "404 Project Not Found"),
            _ => return message(401, "401 Unauthorized"),
        };
        match (received.method.as_str(), &parts[..]) {
            ("GET", []) => {
                assert_eq!(query("package_type").as_deref(), Some("generic"));
                let wanted = query("package_name").unwrap_or_default().to_lowercase();
                // The filter may match anywhere in a name.
                let found = self.packages.iter().filter(|package| {
                    package
                        .name
                        .to_lowercase()
                        .contains(wanted.trim_matches('.'))
                });
                let entries = found.map(|package| {
                    json!({"id": package.id, "name": package.name, "version": package.version, "package_type": "generic", "status": "default"})
                });
                page(entries.collect(), &url, rules)
            }
            ("GET", [id, "package_files"]) => {
                let Some(package) = self
                    .packages
                    .iter()
                    .find(|package| package.id.to_string() == *id)
                else {
                    return message(404, "404 Not found");
                };
                let files = self.files.iter().filter(|file| file.package == package.id);
                let entries =
                    files.map(|file| json!({"id": file.id, "package_id": package.id, "file_name": file.name, "size": file.content.len()}));
                page(entries.collect(), &url, rules)
            }
            ("DELETE", [_, "package_files", _]) if role < 3 => message(403, "403 Forbidden"),
            ("DELETE", [package, "package_files", id]) => {
                let before = self.files.len();
                self.files.retain(|file| {
                    file.id.to_string() != *id || file.package.to_string() != *package
                });
                if self.files.len() < before {
                    StatusCode::NO_CONTENT.into_response()
                } else {
                    message(404, "404 Not found")
                }
            }
            ("PUT", ["generic", name, version, file]) => {
                let fits = |text: &str, more: &str| {
                    !text.is_empty()
                        && text.len() <= 255
                        && text.chars().all(|c| {
                            c.is_ascii_alphanumeric() || "._-+".contains(c) || more.contains(c)
                        })
                };
                if !fits(name, "")
                    || !fits(version, "")
                    || version.contains("..")
                    || !fits(file, "~")
                    || file.starts_with('~')
                {
                    return message(400, "package_name is invalid");
                }
                let there = self
                    .files
                    .iter()
                    .any(|known| known.name == **file && self.is_in(known, name, version));
                match rules.duplicates {
                    Duplicates::Refused(status) if there => {
                        message(status, "Duplicate package is not allowed")
                    }
                    _ => {
                        self.add(name, version, file, received.body.clone());
                        message(201, "201 Created")
                    }
                }
            }
            ("GET", ["generic", name, version, file]) => {
                let Some(found) = self
                    .files
                    .iter()
                    .rev()
                    .find(|known| known.name == **file && self.is_in(known, name, version))
                else {
                    return message(404, "404 Not found");
                };
                if rules.storage {
                    let location = format!(
                        "http://{objects}/objects/{}?X-Amz-Signature=hunter2",
                        found.id
                    );
                    return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
                }
                typed("application/octet-stream", found.content.clone())
            }
            _ => message(404, "404 Not Found"),
        }
    }

    /// Lists or creates merge requests. Tokens of jobs are rejected.
    fn merge_request(&mut self, received: &ReceivedRequest, url: &Url) -> Response {
        if !matches!(
            text(&received.headers, "private-token"),
            Some(MAINTAINER | DEVELOPER)
        ) {
            return message(401, "401 Unauthorized");
        }
        if received.method == "GET" {
            let wanted = |request: &&Value| {
                url.query_pairs().all(|(key, value)| {
                    if key == "state" {
                        value == "opened"
                    } else {
                        request[&*key] == *value
                    }
                })
            };
            let found: Vec<Value> = self.merge_requests.iter().filter(wanted).cloned().collect();
            return typed("application/json", Value::from(found).to_string());
        }
        let wanted: Value = serde_json::from_slice(&received.body).expect("JSON");
        if ["source_branch", "target_branch", "title"]
            .iter()
            .any(|key| wanted[key].as_str().is_none_or(str::is_empty))
        {
            return message(400, "title is missing");
        }
        let same = |known: &Value| {
            ["source_branch", "target_branch"]
                .iter()
                .all(|key| known[key] == wanted[key])
        };
        if self.merge_requests.iter().any(same) {
            return message(
                409,
                "Another open merge request already exists for this source branch: !1",
            );
        }
        let mut request = wanted;
        let number = self.merge_requests.len() + 1;
        request["iid"] = number.into();
        request["web_url"] =
            format!("https://gitlab.example/team/base/-/merge_requests/{number}").into();
        self.merge_requests.push(request.clone());
        (
            StatusCode::CREATED,
            typed("application/json", request.to_string()),
        )
            .into_response()
    }

    fn is_in(&self, file: &PackageFile, name: &str, version: &str) -> bool {
        self.packages.iter().any(|package| {
            package.id == file.package && package.name == name && package.version == version
        })
    }

    fn add(&mut self, name: &str, version: &str, file: &str, content: Bytes) {
        let known = self
            .packages
            .iter()
            .find(|package| package.name == name && package.version == version)
            .map(|package| package.id);
        let package = known.unwrap_or_else(|| {
            self.last_id += 1;
            self.packages.push(Package {
                id: self.last_id,
                name: name.to_owned(),
                version: version.to_owned(),
            });
            self.last_id
        });
        self.last_id += 1;
        self.files.push(PackageFile {
            id: self.last_id,
            package,
            name: file.to_owned(),
            content,
        });
    }
}

/// Returns a page with 20 entries, or the requested number up to 100. Links use the host name that
/// GitLab is configured with, which is not the one of the request.
fn page(entries: Vec<Value>, url: &Url, rules: Rules) -> Response {
    let number = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.parse::<usize>().ok())
    };
    let (number, size) = (
        number("page").unwrap_or(1).max(1),
        number("per_page").unwrap_or(20).clamp(1, 100),
    );
    let (total, start) = (entries.len(), (number - 1) * size);
    let shown: Vec<Value> = entries.into_iter().skip(start).take(size).collect();
    let link = |page: usize, relation: &str| {
        format!(
            "<https://gitlab.internal{}?page={page}>; rel=\"{relation}\"",
            url.path()
        )
    };
    let mut links = vec![link(1, "first")];
    let mut headers = HeaderMap::new();
    if start + size < total {
        links.push(link(number + 1, "next"));
    }
    if total <= rules.counted {
        links.push(link(total.div_ceil(size).max(1), "last"));
        headers.insert("x-total", total.into());
    }
    if rules.links {
        headers.insert(header::LINK, links.join(", ").parse().expect("a header"));
    }
    (
        headers,
        typed("application/json", Value::from(shown).to_string()),
    )
        .into_response()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().expect("text"))
}

pub(super) fn decoded(part: &str) -> String {
    let form = part.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={form}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn message(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        Body::from(json!({ "message": text }).to_string()),
    )
        .into_response()
}
