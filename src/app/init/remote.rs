//! The git remote of a directory, and its branch.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::command::{ProgramCommand, ProgramStatus, Runner};
use crate::model::{Host, Variables};

/// Time limit of a git command.
const GIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers of Gitea and Forgejo that everybody can register at.
const PUBLIC_SERVERS: [&str; 2] = ["codeberg.org", "gitea.com"];

/// Forge whose CI runs the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InitForge {
    Gitlab,
    /// Gitea or Forgejo.
    Gitea,
}

/// Git remote and branch of a checkout.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GitCheckout {
    pub(super) remote: Option<GitRemote>,
    pub(super) branch: Option<String>,
}

impl GitCheckout {
    /// Reads the remote and branch of `directory`. Both are `None` outside a repository or without
    /// git.
    pub(super) async fn read(
        runner: &dyn Runner,
        variables: &Variables,
        directory: &Path,
    ) -> GitCheckout {
        if !directory.is_dir() {
            return GitCheckout::default();
        }
        let git = |arguments: &[&str]| {
            let command = ProgramCommand {
                program: "git".to_owned(),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                environment: variables.clone(),
                directory: Some(directory.to_owned()),
                stdin: None,
                timeout: GIT_TIMEOUT,
            };
            async move {
                let output = runner
                    .run(command)
                    .await
                    .ok()
                    .filter(|output| output.status == ProgramStatus::Exited(0))?;
                Some(output.stdout.text().trim().to_owned())
            }
        };
        let remote = git(&["config", "--get", "remote.origin.url"])
            .await
            .and_then(|url| GitRemote::parse(&url));
        // The default branch of the remote. The current branch counts only before the first commit.
        let default = git(&["symbolic-ref", "--short", "refs/remotes/origin/HEAD"]).await;
        let default = default.and_then(|branch| branch.strip_prefix("origin/").map(str::to_owned));
        let is_new = git(&["rev-parse", "--verify", "--quiet", "HEAD"])
            .await
            .is_none();
        let checked_out = if is_new {
            git(&["symbolic-ref", "--short", "HEAD"]).await
        } else {
            None
        };
        let branch = default.or(checked_out).filter(|branch| is_plain(branch));
        GitCheckout { remote, branch }
    }
}

/// Repository on a forge. Its parts need no escaping in the created files: they contain no special
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GitRemote {
    /// `https://gitea.example.com`, without a slash at its end.
    pub(super) server: String,
    /// Host with its port.
    pub(super) host: String,
    /// `owner/repository`; on GitLab with all groups.
    pub(super) project: String,
}

impl GitRemote {
    /// Parses the URL of a remote: `http`, `https`, `ssh`, or `user@host:path`. Returns `None` for
    /// any other form, and for characters that need escaping.
    pub(super) fn parse(address: &str) -> Option<GitRemote> {
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme @ ("https" | "http"), rest)) => (scheme, rest),
            Some(("ssh" | "git+ssh", rest)) => ("ssh", rest),
            Some(_) => return None,
            None => ("ssh", address),
        };
        let (authority, path) = if address.contains("://") {
            rest.split_once('/')?
        } else {
            rest.split_once(':')?
        };
        // A user name or even a password may precede the host.
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        // The port of ssh is not that of the web server.
        let host = if scheme == "ssh" {
            authority.split(':').next()?
        } else {
            authority
        };
        let path = path.trim_matches('/').trim_end_matches(".git");
        let is_valid = path.contains('/')
            && path
                .split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.'))
            && is_plain(path);
        let host: Host = host.parse().ok().filter(|_| is_valid)?;
        let scheme = if scheme == "http" { "http" } else { "https" };
        Some(GitRemote {
            server: format!("{scheme}://{host}"),
            host: host.to_string(),
            project: path.to_owned(),
        })
    }

    /// Returns the remote of a server that has only owners and repositories: further parts of the
    /// path belong to the URL of the server, such as `https://forge.example.org/git`.
    pub(super) fn with_server_path(mut self) -> GitRemote {
        let mut parts: Vec<&str> = self.project.split('/').collect();
        if parts.len() > 2 {
            let project = parts.split_off(parts.len() - 2).join("/");
            self.server = format!("{}/{}", self.server, parts.join("/"));
            self.project = project;
        }
        self
    }

    /// Returns true for a server that everybody can register at, where the names of others are
    /// taken.
    pub(super) fn is_public(&self) -> bool {
        PUBLIC_SERVERS.contains(&self.host_name())
    }

    /// Returns an example, for a repository that has no remote yet.
    pub(super) fn example(forge: InitForge) -> GitRemote {
        let name = match forge {
            InitForge::Gitlab => "gitlab.example.com",
            InitForge::Gitea => "gitea.example.com",
        };
        GitRemote {
            server: format!("https://{name}"),
            host: name.to_owned(),
            project: "platform/base-images".to_owned(),
        }
    }

    /// Detects the forge from the host name. Returns `None` if it matches none or several.
    pub(super) fn forge(&self) -> Option<InitForge> {
        let name = self.host_name();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match (has(&["gitlab"]), has(&["gitea", "forgejo", "codeberg"])) {
            (true, false) => Some(InitForge::Gitlab),
            (false, true) => Some(InitForge::Gitea),
            _ => None,
        }
    }

    /// Returns the host without its port.
    pub(super) fn host_name(&self) -> &str {
        self.host
            .rsplit_once(':')
            .map_or(&self.host, |(name, _)| name)
    }

    pub(super) fn owner(&self) -> &str {
        self.project.rsplit_once('/').map_or("", |(owner, _)| owner)
    }

    pub(super) fn repository(&self) -> &str {
        self.project
            .rsplit_once('/')
            .map_or(&self.project, |(_, repository)| repository)
    }
}

/// Returns true if `text` needs no escaping in the created files.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_urls_are_parsed() {
        let parsed =
            |address| GitRemote::parse(address).map(|remote| (remote.server, remote.project));
        let is = |server: &str, project: &str| Some((server.to_owned(), project.to_owned()));
        assert_eq!(
            parsed("https://gitea.example.com/team/bases.git"),
            is("https://gitea.example.com", "team/bases")
        );
        assert_eq!(
            parsed("https://oauth2:hunter2@gitlab.example.com:8443/a/b/c/"),
            is("https://gitlab.example.com:8443", "a/b/c")
        );
        assert_eq!(
            parsed("http://127.0.0.1:3000/team/bases"),
            is("http://127.0.0.1:3000", "team/bases")
        );
        assert_eq!(
            parsed("ssh://git@gitea.example.com:2222/team/bases.git"),
            is("https://gitea.example.com", "team/bases")
        );
        assert_eq!(
            parsed("git@gitea.example.com:team/bases.git"),
            is("https://gitea.example.com", "team/bases")
        );
    }

    #[test]
    fn a_server_below_a_path_keeps_the_path() {
        let of = |address| {
            let remote = GitRemote::parse(address)
                .expect("a remote")
                .with_server_path();
            (remote.server, remote.project)
        };
        assert_eq!(
            of("https://forge.example.org/git/platform/base.git"),
            (
                "https://forge.example.org/git".to_owned(),
                "platform/base".to_owned()
            )
        );
        assert_eq!(
            of("https://gitea.example.com/team/bases"),
            (
                "https://gitea.example.com".to_owned(),
                "team/bases".to_owned()
            )
        );
    }

    #[test]
    fn remote_urls_with_special_characters_are_rejected() {
        for address in [
            "/srv/git/bases.git",
            "file:///srv/git/bases.git",
            "../bases",
            "https://gitea.example.com/bases",
            "https://gitea.example.com/../bases",
            "https://gitea.example.com/team/a\nb: c",
            "https://gitea.example.com/team/${{ secrets.A }}",
            "https://gitea.example.com/team/'$(id)'",
            "git@exa mple:team/bases",
            "",
        ] {
            assert_eq!(GitRemote::parse(address), None, "{address}");
        }
    }

    #[test]
    fn the_forge_is_detected_from_the_host_name() {
        let forge = |host: &str| {
            GitRemote::parse(&format!("https://{host}/a/b"))
                .expect("a remote")
                .forge()
        };
        assert_eq!(forge("gitlab.com"), Some(InitForge::Gitlab));
        assert_eq!(forge("git.gitea.example"), Some(InitForge::Gitea));
        assert_eq!(forge("codeberg.org"), Some(InitForge::Gitea));
        assert_eq!(forge("git.example.com"), None);
    }

    #[test]
    fn fuzzing_remote_urls() {
        let seeds = [
            "https://user:hunter2@git.example:8443/a/b/c.git",
            "git@git.example:team/base.git",
            "ssh://git@git.example:2222/team/base",
        ];
        crate::model::fuzz_tests::fuzz("addresses of remotes", &seeds, |input| {
            if let Some(remote) = GitRemote::parse(&crate::model::fuzz_tests::text(input)) {
                remote.forge();
                let parts = [remote.host_name(), remote.owner(), remote.repository()];
                assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
                // User and password before an @ are secrets.
                assert!(!remote.server.contains('@'), "{}", remote.server);
            }
        });
    }
}
