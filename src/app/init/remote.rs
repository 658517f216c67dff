//! What git knows of the directory: the address of its remote, and the branch.

use std::path::Path;
use std::time::Duration;

use super::InitForge;
use crate::command::{ProgramCommand, ProgramStatus, Runner};
use crate::model::{Host, Variables};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A checkout, as far as it is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checkout {
    pub(super) remote: Option<Remote>,
    pub(super) branch: Option<String>,
}

impl Checkout {
    /// Returns what git says of `directory`; nothing where it is no repository or there is no git.
    pub(super) async fn look(
        runner: &dyn Runner,
        variables: &Variables,
        directory: &Path,
    ) -> Checkout {
        if !directory.is_dir() {
            return Checkout::default();
        }
        let ask = |arguments: &[&str]| {
            let command = ProgramCommand {
                program: "git".to_owned(),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                environment: variables.clone(),
                directory: Some(directory.to_owned()),
                stdin: None,
                timeout: TIMEOUT,
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
        let remote = ask(&["config", "--get", "remote.origin.url"])
            .await
            .and_then(|url| Remote::parse(&url));
        // The remote's default branch; the one that is checked out only where there is no commit
        // yet.
        let default = ask(&["symbolic-ref", "--short", "refs/remotes/origin/HEAD"]).await;
        let default = default.and_then(|branch| branch.strip_prefix("origin/").map(str::to_owned));
        let is_new = ask(&["rev-parse", "--verify", "--quiet", "HEAD"])
            .await
            .is_none();
        let checked_out = if is_new {
            ask(&["symbolic-ref", "--short", "HEAD"]).await
        } else {
            None
        };
        let branch = default.or(checked_out).filter(|branch| is_plain(branch));
        Checkout { remote, branch }
    }
}

/// A repository at a forge. Its parts can be written into files as they are: they have no
/// characters that mean something there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// `https://gitea.example.com`, without a slash at its end.
    pub(super) server: String,
    /// With its port.
    pub(super) host: String,
    /// `owner/repository`; at GitLab with as many groups as there are.
    pub(super) project: String,
}

impl Remote {
    /// Reads the address of a remote: that of a web server, of ssh, or `user@host:path`. Returns
    /// `None` for anything else.
    pub(super) fn parse(address: &str) -> Option<Remote> {
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
        // A name, or even a password, may stand before the host.
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        // A port of ssh says nothing of the web server.
        let host = if scheme == "ssh" {
            authority.split(':').next()?
        } else {
            authority
        };
        let path = path.trim_matches('/').trim_end_matches(".git");
        let is_whole = path.contains('/')
            && path
                .split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.'))
            && is_plain(path);
        let host: Host = host.parse().ok().filter(|_| is_whole)?;
        let scheme = if scheme == "http" { "http" } else { "https" };
        Some(Remote {
            server: format!("{scheme}://{host}"),
            host: host.to_string(),
            project: path.to_owned(),
        })
    }

    /// Returns what stands for a repository that has no remote yet.
    pub(super) fn example(forge: InitForge) -> Remote {
        let name = match forge {
            InitForge::Gitlab => "gitlab.example.com",
            InitForge::Gitea => "gitea.example.com",
        };
        Remote {
            server: format!("https://{name}"),
            host: name.to_owned(),
            project: "platform/base-images".to_owned(),
        }
    }

    /// Returns the forge, where the name of the host tells it.
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
    fn addresses_of_remotes_are_understood() {
        let parsed = |address| Remote::parse(address).map(|remote| (remote.server, remote.project));
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
    fn what_is_no_address_or_means_something_in_files_is_none() {
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
            assert_eq!(Remote::parse(address), None, "{address}");
        }
    }

    #[test]
    fn the_forge_is_told_by_the_host() {
        let forge = |host: &str| {
            Remote::parse(&format!("https://{host}/a/b"))
                .expect("a remote")
                .forge()
        };
        assert_eq!(forge("gitlab.com"), Some(InitForge::Gitlab));
        assert_eq!(forge("git.gitea.example"), Some(InitForge::Gitea));
        assert_eq!(forge("codeberg.org"), Some(InitForge::Gitea));
        assert_eq!(forge("git.example.com"), None);
    }

    #[test]
    fn fuzzing_addresses_of_remotes() {
        let seeds = [
            "https://user:hunter2@git.example:8443/a/b/c.git",
            "git@git.example:team/base.git",
            "ssh://git@git.example:2222/team/base",
        ];
        crate::model::fuzz_tests::fuzz("addresses of remotes", &seeds, |input| {
            if let Some(remote) = Remote::parse(&crate::model::fuzz_tests::text(input)) {
                remote.forge();
                let parts = [remote.host_name(), remote.owner(), remote.repository()];
                assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
                // What stands before an @ is nobody's to see.
                assert!(!remote.server.contains('@'), "{}", remote.server);
            }
        });
    }
}
