//! A fake Gitea with generic packages and pull requests.
//!
//! Built after its documentation (`docs/usage/packages/generic`, the description of the API) and
//! its sources (`routers/api/packages/generic`, `routers/api/v1/packages`,
//! `routers/api/v1/repo/pull.go`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use super::fake_server::{FakeServer, ReceivedRequest, typed};
use super::gitlab::{decoded, text};

pub(crate) const OWNER: &str = "platform";
pub(crate) const REPOSITORY: &str = "base-images";

/// Token of a user who may write packages.
pub(crate) const TOKEN: &str = "gitea-hunter2";
/// Token of a job, which may only read packages.
pub(crate) const JOB: &str = "gitea-job-hunter2";

/// Behaviour of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// `Ok` if packages can be linked to repositories, otherwise the status of the response.
    pub(crate) links: Result<(), u16>,
    /// Most entries on a page (`MAX_RESPONSE_ITEMS`).
    pub(crate) page: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            links: Ok(()),
            page: 50,
        }
    }
}

/// Stored packages, the oldest version first.
#[derive(Default)]
struct State {
    versions: Vec<Version>,
    linked: BTreeMap<String, String>,
    /// Open pull requests.
    pull_requests: Vec<Value>,
}

struct Version {
    name: String,
    version: String,
    files: BTreeMap<String, Bytes>,
}

/// A running server.
pub(crate) struct Gitea {
    pub(crate) server: FakeServer,
    state: Arc<Mutex<State>>,
}

impl Gitea {
    pub(crate) fn start(rules: Rules) -> Gitea {
        Gitea::start_with(rules, |_| None)
    }

    /// Starts a server in which `fault` may replace a response.
    pub(crate) fn start_with(
        rules: Rules,
        fault: impl Fn(&ReceivedRequest) -> Option<Response> + Send + Sync + 'static,
    ) -> Gitea {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let server = FakeServer::start(move |received| {
            fault(received)
                .unwrap_or_else(|| shared.lock().expect("no panic").answer(received, rules))
        });
        Gitea { server, state }
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
            state.version(name, version).files.insert(file, content);
        }
    }

    /// Removes a package.
    pub(crate) fn remove(&self, name: &str) {
        self.state
            .lock()
            .expect("no panic")
            .versions
            .retain(|version| version.name != name);
    }

    /// Returns the names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        self.state
            .lock()
            .expect("no panic")
            .versions
            .iter()
            .flat_map(|version| version.files.keys().cloned())
            .collect()
    }

    /// Returns the open pull requests.
    pub(crate) fn pull_requests(&self) -> Vec<Value> {
        self.state.lock().expect("no panic").pull_requests.clone()
    }

    /// Returns the linked packages with their repositories.
    pub(crate) fn linked(&self) -> BTreeMap<String, String> {
        self.state.lock().expect("no panic").linked.clone()
    }
}

impl State {
    fn answer(&mut self, received: &ReceivedRequest, rules: Rules) -> Response {
        let url: Url = format!("http://gitea{}", received.path)
            .parse()
            .expect("a path");
        let parts: Vec<String> = url.path().split('/').skip(1).map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let may_write = match text(&received.headers, "authorization") {
            Some(token) if token == format!("token {TOKEN}") => true,
            Some(token) if token == format!("token {JOB}") => false,
            _ => return message(401, "token is required"),
        };
        match (received.method.as_str(), &parts[..]) {
            (_, ["api", "packages", owner, ..] | ["api", "v1", "packages", owner, ..])
                if *owner != OWNER =>
            {
                message(404, "GetUserByName")
            }
            ("GET", ["api", "v1", "packages", _]) => self.list(&url, rules),
            (
                "GET",
                [
                    "api",
                    "v1",
                    "packages",
                    _,
                    "generic",
                    name,
                    version,
                    "files",
                ],
            ) => match self.find(name, version) {
                Some(found) => {
                    let files = found.files.iter().map(
                        |(name, content)| json!({"id": 1, "name": name, "Size": content.len()}),
                    );
                    typed(
                        "application/json",
                        Value::from(files.collect::<Vec<_>>()).to_string(),
                    )
                }
                None => message(404, "package does not exist"),
            },
            (
                "POST",
                [
                    "api",
                    "v1",
                    "packages",
                    _,
                    "generic",
                    name,
                    "-",
                    "link",
                    repository,
                ],
            ) => match rules.links {
                Err(status) => message(status, "Not Found"),
                Ok(()) if *repository != REPOSITORY => message(404, "repository does not exist"),
                Ok(()) => {
                    self.linked
                        .insert((*name).to_owned(), (*repository).to_owned());
                    StatusCode::CREATED.into_response()
                }
            },
            (method, ["api", "v1", "repos", OWNER, REPOSITORY, "pulls"]) => {
                self.pulls(method, &received.body)
            }
            ("PUT" | "DELETE", ["api", "packages", ..]) if !may_write => {
                message(403, "token does not have the required scope")
            }
            ("PUT", ["api", "packages", _, "generic", name, version, file]) => {
                let fits = |text: &str| {
                    text.chars()
                        .all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
                        && !matches!(text, "" | "." | "..")
                };
                if ![name, version, file].into_iter().all(|part| fits(part)) {
                    return message(400, "invalid package name or filename");
                }
                let files = &mut self.version(name, version).files;
                if files.contains_key(&file.to_lowercase()) {
                    return message(409, "package file already exists");
                }
                files.insert(file.to_lowercase(), received.body.clone());
                StatusCode::CREATED.into_response()
            }
            ("GET", ["api", "packages", _, "generic", name, version, file]) => {
                match self
                    .find(name, version)
                    .and_then(|found| found.files.get(&file.to_lowercase()))
                {
                    Some(content) => typed("application/octet-stream", content.clone()),
                    None => message(404, "package file does not exist"),
                }
            }
            ("DELETE", ["api", "packages", _, "generic", name, version, file]) => {
                let Some(found) = self.find(name, version) else {
                    return message(404, "package does not exist");
                };
                if found.files.remove(&file.to_lowercase()).is_none() {
                    return message(404, "package file does not exist");
                }
                // A version is deleted with its last file.
                self.versions.retain(|version| !version.files.is_empty());
                StatusCode::NO_CONTENT.into_response()
            }
            _ => message(404, "Not Found"),
        }
    }

    fn pulls(&mut self, method: &str, body: &[u8]) -> Response {
        if method == "GET" {
            return typed(
                "application/json",
                Value::from(self.pull_requests.clone()).to_string(),
            );
        }
        let wanted: Value = serde_json::from_slice(body).expect("JSON");
        let same = |known: &Value| {
            known["head"]["ref"] == wanted["head"] && known["base"]["ref"] == wanted["base"]
        };
        if self.pull_requests.iter().any(same) {
            return message(409, "pull request already exists for these targets [id: 1]");
        }
        let number = self.pull_requests.len() + 1;
        let request = json!({
            "number": number,
            "title": wanted["title"],
            "html_url": format!("https://gitea.example/{OWNER}/{REPOSITORY}/pulls/{number}"),
            "head": { "ref": wanted["head"] },
            "base": { "ref": wanted["base"] },
        });
        self.pull_requests.push(request.clone());
        (
            StatusCode::CREATED,
            typed("application/json", request.to_string()),
        )
            .into_response()
    }

    fn list(&self, url: &Url, rules: Rules) -> Response {
        let query = |name: &str| {
            url.query_pairs()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let number = |name: &str| query(name).and_then(|value| value.parse::<usize>().ok());
        assert_eq!(query("type").as_deref(), Some("generic"));
        let wanted = query("q").unwrap_or_default().to_lowercase();
        let found: Vec<&Version> = self
            .versions
            .iter()
            .rev()
            .filter(|version| version.name.to_lowercase().contains(&wanted))
            .collect();
        let (number, size) = (
            number("page").unwrap_or(1).max(1),
            number("limit").unwrap_or(rules.page).clamp(1, rules.page),
        );
        let start = (number - 1) * size;
        let entries: Vec<Value> = found
            .iter()
            .skip(start)
            .take(size)
            .map(|version| json!({"id": 1, "type": "generic", "name": version.name, "version": version.version, "repository": null}))
            .collect();
        let mut headers =
            HeaderMap::from_iter([("x-total-count".parse().expect("a name"), found.len().into())]);
        if start + size < found.len() {
            let link = format!(
                "<https://gitea.internal/api/v1/packages/{OWNER}?page={}>; rel=\"next\"",
                number + 1
            );
            headers.insert(header::LINK, link.parse().expect("a header"));
        } else if number > 1 {
            headers.insert(
                header::LINK,
                "<https://gitea.internal/>; rel=\"first\""
                    .parse()
                    .expect("a header"),
            );
        }
        (
            headers,
            typed("application/json", Value::from(entries).to_string()),
        )
            .into_response()
    }

    /// Returns the version of a package. Upper and lower case are equal in names.
    fn find(&mut self, name: &str, version: &str) -> Option<&mut Version> {
        self.versions.iter_mut().find(|known| {
            known.name.eq_ignore_ascii_case(name) && known.version.eq_ignore_ascii_case(version)
        })
    }

    fn version(&mut self, name: &str, version: &str) -> &mut Version {
        if self.find(name, version).is_none() {
            self.versions.push(Version {
                name: name.to_owned(),
                version: version.to_owned(),
                files: BTreeMap::new(),
            });
        }
        self.find(name, version).expect("it was added")
    }
}

fn message(status: u16, text: &str) -> Response {
    (
        StatusCode::from_u16(status).expect("a status"),
        typed("application/json", json!({ "message": text }).to_string()),
    )
        .into_response()
}
