//! Names of environment variables, each with its meaning and who sets it.
//!
//! The table below is the only definition of these names. The reference in `docs/configuration.md` and
//! the check for misspelt variables are made from it. Values are read from
//! [`Variables`](super::Variables).

use std::fmt;

/// Start of the names of imglife's own variables.
pub const PREFIX: &str = "IMGLIFE_";

/// Returns the variable that overrides the key `key` of the section `registry`:
/// `IMGLIFE_REGISTRY_PROJECT_ID` for `project_id`.
pub fn registry_key(key: &str) -> String {
    format!("{PREFIX}REGISTRY_{}", key.to_ascii_uppercase())
}

/// Returns the variable for an option of a command: `IMGLIFE_CHECK_MAX_DAYS` for `--max-days` of
/// `check`.
pub fn option(command: &str, long: &str) -> String {
    format!("{PREFIX}{command}_{long}")
        .to_ascii_uppercase()
        .replace('-', "_")
}

/// Variables with one purpose, under a heading of the reference.
#[derive(Debug)]
pub struct VariableGroup {
    pub title: &'static str,
    pub variables: &'static [EnvironmentVariable],
}

/// An environment variable that imglife reads or sets.
#[derive(Debug)]
pub struct EnvironmentVariable {
    pub name: &'static str,
    /// Meaning in one or two sentences, for the reference.
    pub meaning: &'static str,
    pub set_by: SetBy,
}

/// Party that sets a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// The user, in a shell or in the settings of the CI server.
    User,
    /// The user; imglife sets it for programs that it runs.
    UserOrImglife,
    /// The operating system or the shell.
    System,
    /// GitLab, for its jobs.
    GitlabCi,
    /// GitHub, Gitea or Forgejo, for the jobs of their Actions.
    Actions,
    /// Every CI server.
    Ci,
    /// imglife, for hooks, programs and later jobs.
    Imglife,
}

impl fmt::Display for SetBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SetBy::User => "you",
            SetBy::UserOrImglife => "you, imglife",
            SetBy::System => "system",
            SetBy::GitlabCi => "GitLab CI",
            SetBy::Actions => "Actions",
            SetBy::Ci => "CI server",
            SetBy::Imglife => "imglife",
        })
    }
}

/// Defines a constant for each variable and lists all of them in [`GROUPS`]. The doc comment of a
/// variable is its meaning in the reference.
macro_rules! variables {
    ($($title:literal { $($(#[doc = $meaning:literal])+ $name:ident: $set_by:ident,)+ })+) => {
        $($($(#[doc = $meaning])+ pub const $name: &str = stringify!($name);)+)+

        /// All variables, by purpose.
        pub static GROUPS: &[VariableGroup] = &[$(VariableGroup {
            title: $title,
            variables: &[$(EnvironmentVariable {
                name: $name,
                meaning: concat!($($meaning),+),
                set_by: SetBy::$set_by,
            }),+],
        }),+];
    };
}

variables! {
    "Options and configuration" {
        /// Path of the configuration file, like `--config`.
        IMGLIFE_CONFIG: User,
        /// Format of log lines, like `--log-format`.
        IMGLIFE_LOG_FORMAT: User,
        /// Lowest level that is logged, like `--log-level`.
        IMGLIFE_LOG_LEVEL: User,
        /// Overrides `registry.provider`.
        IMGLIFE_REGISTRY_PROVIDER: User,
        /// Overrides `registry.url`.
        IMGLIFE_REGISTRY_URL: User,
        /// Overrides `registry.api_url`.
        IMGLIFE_REGISTRY_API_URL: User,
        /// Overrides `registry.project_id`.
        IMGLIFE_REGISTRY_PROJECT_ID: User,
        /// Overrides `registry.owner`.
        IMGLIFE_REGISTRY_OWNER: User,
        /// Overrides `registry.repo`.
        IMGLIFE_REGISTRY_REPO: User,
        /// Overrides `registry.bucket`.
        IMGLIFE_REGISTRY_BUCKET: User,
        /// Overrides `registry.region`.
        IMGLIFE_REGISTRY_REGION: User,
        /// Overrides `registry.prefix`.
        IMGLIFE_REGISTRY_PREFIX: User,
        /// Overrides `sync.parallelism`.
        IMGLIFE_SYNC_PARALLELISM: User,
        /// Overrides `build.builder`.
        IMGLIFE_BUILDER: User,
        /// Overrides `lifecycle.warn_days`.
        IMGLIFE_ALERT_CRITICAL_DAYS: User,
        /// Further variables that an untrusted job may expand, separated by commas or spaces. Set it
        /// only in the settings of the CI server.
        IMGLIFE_VARIABLES: User,
        /// Creation time of built images, in seconds since 1970. The current time when not set.
        SOURCE_DATE_EPOCH: UserOrImglife,
    }
    "Credentials" {
        /// Token for GitLab: packages, files of repositories, commits and merge requests.
        GITLAB_TOKEN: User,
        /// Deploy token for GitLab: files of packages, if `GITLAB_TOKEN` is not set.
        GITLAB_DEPLOY_TOKEN: User,
        /// Token for Gitea or Forgejo: packages, files of repositories, commits and pull requests,
        /// and images of the server's own registry.
        GITEA_TOKEN: User,
        /// Host that the tokens for GitLab and Gitea may be sent to although it does not run the
        /// job. Set it only in the settings of the CI server.
        IMGLIFE_TOKEN_HOST: User,
        /// URL of the S3 service that an untrusted job may send its access key to, if it is not AWS.
        AWS_ENDPOINT_URL: User,
        /// Like `AWS_ENDPOINT_URL`, and preferred to it.
        AWS_ENDPOINT_URL_S3: User,
        /// Region of the S3 bucket, if `registry.region` is not set.
        AWS_REGION: User,
        /// Like `AWS_REGION`, which is preferred to it.
        AWS_DEFAULT_REGION: User,
        /// Profile of the AWS configuration. Its region counts if no other is set.
        AWS_PROFILE: User,
        /// Access key for S3. Without it the AWS SDK searches its other sources of credentials.
        AWS_ACCESS_KEY_ID: User,
        /// Secret of the access key for S3.
        AWS_SECRET_ACCESS_KEY: User,
        /// Session token of a temporary access key for S3.
        AWS_SESSION_TOKEN: User,
        /// Content of a docker configuration file with registry credentials.
        DOCKER_AUTH_CONFIG: User,
        /// Directory with docker's `config.json`. `~/.docker` when not set.
        DOCKER_CONFIG: UserOrImglife,
        /// Path of podman's file with registry credentials.
        REGISTRY_AUTH_FILE: UserOrImglife,
        /// Directory with podman's `containers/auth.json`, if `REGISTRY_AUTH_FILE` is not set.
        XDG_RUNTIME_DIR: System,
    }
    "Build engines" {
        /// Address of the docker engine.
        DOCKER_HOST: User,
        /// Connect to the docker engine with TLS and verify its certificate.
        DOCKER_TLS_VERIFY: UserOrImglife,
        /// Directory with the client certificate for the docker engine.
        DOCKER_CERT_PATH: UserOrImglife,
        /// Directory in which a `docker:dind` service stores certificates. Used as
        /// `DOCKER_CERT_PATH` if only this variable and `DOCKER_HOST` are set.
        DOCKER_TLS_CERTDIR: User,
        /// Use BuildKit for `docker build`.
        DOCKER_BUILDKIT: UserOrImglife,
        /// Address of a BuildKit daemon that buildx builds with.
        BUILDKITD_ADDR: User,
        /// Directory with the builders of buildx. The directory `buildx` below `DOCKER_CONFIG` when
        /// not set.
        BUILDX_CONFIG: UserOrImglife,
        /// Stops buildx from attaching attestations that the configuration does not ask for.
        BUILDX_NO_DEFAULT_ATTESTATIONS: Imglife,
        /// Isolation of `RUN` in buildah. In a container, imglife sets it to `chroot` when not set.
        BUILDAH_ISOLATION: UserOrImglife,
        /// Storage driver of buildah. Set in child pipelines that build with buildah.
        STORAGE_DRIVER: UserOrImglife,
        /// Path of the `registries.conf` of buildah and podman. imglife sets it to a copy that adds
        /// the hosts of `insecure_registries`.
        CONTAINERS_REGISTRIES_CONF: UserOrImglife,
        /// Directory with `containers/registries.conf`. `~/.config` when not set.
        XDG_CONFIG_HOME: System,
        /// Set in every pod of Kubernetes, which shows that the engine runs in a container.
        KUBERNETES_SERVICE_HOST: System,
    }
    "GitLab CI" {
        /// Any CI job. Progress bars are off, and tokens go only to the server that runs the job.
        CI: Ci,
        /// A job of GitLab.
        GITLAB_CI: GitlabCi,
        /// URL of GitLab's API.
        CI_API_V4_URL: GitlabCi,
        /// Branch of the pipeline. Not set for tags and merge requests.
        CI_COMMIT_BRANCH: GitlabCi,
        /// Branch or tag of the pipeline, for build records.
        CI_COMMIT_REF_NAME: GitlabCi,
        /// `true` if the branch or tag of the pipeline is protected. Other CI servers can set it to
        /// mark jobs that may be trusted.
        CI_COMMIT_REF_PROTECTED: GitlabCi,
        /// Commit of the pipeline, for labels and build records.
        CI_COMMIT_SHA: GitlabCi,
        /// Tag of the pipeline.
        CI_COMMIT_TAG: GitlabCi,
        /// Default branch of the project.
        CI_DEFAULT_BRANCH: GitlabCi,
        /// Start time of the job. With `CI_JOB_TIMEOUT`, ends a run before the job is stopped.
        CI_JOB_STARTED_AT: GitlabCi,
        /// Time limit of the job in seconds.
        CI_JOB_TIMEOUT: GitlabCi,
        /// Token of the job. Used for packages and files if `GITLAB_TOKEN` is not set.
        CI_JOB_TOKEN: GitlabCi,
        /// Number of the merge request that the pipeline runs for.
        CI_MERGE_REQUEST_IID: GitlabCi,
        /// ID of the project that the merge request was opened in.
        CI_MERGE_REQUEST_PROJECT_ID: GitlabCi,
        /// Target branch of the merge request.
        CI_MERGE_REQUEST_TARGET_BRANCH_NAME: GitlabCi,
        /// Number of this job among parallel jobs, from 1, for `--shard auto`.
        CI_NODE_INDEX: GitlabCi,
        /// Number of parallel jobs, for `--shard auto`.
        CI_NODE_TOTAL: GitlabCi,
        /// Event that started the pipeline.
        CI_PIPELINE_SOURCE: GitlabCi,
        /// URL of the pipeline, for build records.
        CI_PIPELINE_URL: GitlabCi,
        /// Directory of the checkout.
        CI_PROJECT_DIR: GitlabCi,
        /// ID of the project.
        CI_PROJECT_ID: GitlabCi,
        /// Name of the project.
        CI_PROJECT_NAME: GitlabCi,
        /// Group of the project.
        CI_PROJECT_NAMESPACE: GitlabCi,
        /// Path of the project.
        CI_PROJECT_PATH: GitlabCi,
        /// Top-level group of the project.
        CI_PROJECT_ROOT_NAMESPACE: GitlabCi,
        /// URL of the project, for labels and build records.
        CI_PROJECT_URL: GitlabCi,
        /// Host of GitLab's container registry.
        CI_REGISTRY: GitlabCi,
        /// Repository of the project in GitLab's container registry.
        CI_REGISTRY_IMAGE: GitlabCi,
        /// Password for GitLab's container registry.
        CI_REGISTRY_PASSWORD: GitlabCi,
        /// User name for GitLab's container registry.
        CI_REGISTRY_USER: GitlabCi,
        /// Host of the GitLab server.
        CI_SERVER_HOST: GitlabCi,
        /// Port of the GitLab server.
        CI_SERVER_PORT: GitlabCi,
        /// Certificates that git trusts for the GitLab server.
        CI_SERVER_TLS_CA_FILE: GitlabCi,
        /// URL of the GitLab server.
        CI_SERVER_URL: GitlabCi,
        /// E-mail address of the user who started the pipeline, for commits.
        GITLAB_USER_EMAIL: GitlabCi,
        /// Name of the user who started the pipeline, for commits.
        GITLAB_USER_NAME: GitlabCi,
    }
    "GitHub, Gitea and Forgejo Actions" {
        /// A job of GitHub Actions, or of a compatible runner.
        GITHUB_ACTIONS: Actions,
        /// A job of Gitea Actions.
        GITEA_ACTIONS: Actions,
        /// A job of Forgejo Actions.
        FORGEJO_ACTIONS: Actions,
        /// User who started the workflow, for commits.
        GITHUB_ACTOR: Actions,
        /// Target branch of the pull request.
        GITHUB_BASE_REF: Actions,
        /// Event that started the workflow.
        GITHUB_EVENT_NAME: Actions,
        /// Path of a file that describes the event, with the default branch.
        GITHUB_EVENT_PATH: Actions,
        /// Path of the file for the outputs of the step.
        GITHUB_OUTPUT: Actions,
        /// Full ref of the workflow: a branch, a tag or a pull request.
        GITHUB_REF: Actions,
        /// Short name of the ref.
        GITHUB_REF_NAME: Actions,
        /// `true` if the ref is protected.
        GITHUB_REF_PROTECTED: Actions,
        /// Type of the ref: `branch` or `tag`.
        GITHUB_REF_TYPE: Actions,
        /// Owner and name of the repository.
        GITHUB_REPOSITORY: Actions,
        /// Owner of the repository.
        GITHUB_REPOSITORY_OWNER: Actions,
        /// ID of the workflow run.
        GITHUB_RUN_ID: Actions,
        /// Number of the workflow run. Gitea and Forgejo use it in the URL of the run.
        GITHUB_RUN_NUMBER: Actions,
        /// URL of the server.
        GITHUB_SERVER_URL: Actions,
        /// Commit of the workflow, for labels and build records.
        GITHUB_SHA: Actions,
        /// Path of the file for the summary of the job.
        GITHUB_STEP_SUMMARY: Actions,
        /// Token of the job. Used if `GITEA_TOKEN` is not set: to push commits, and to read
        /// records, files and images at the server of the job.
        GITHUB_TOKEN: Actions,
        /// Directory of the checkout.
        GITHUB_WORKSPACE: Actions,
        /// Short name of the ref. Preferred to `GITHUB_REF_NAME`.
        GITEA_REF_NAME: Actions,
        /// Owner and name of the repository. Preferred to `GITHUB_REPOSITORY`.
        GITEA_REPOSITORY: Actions,
        /// Owner of the repository.
        GITEA_REPOSITORY_OWNER: Actions,
        /// URL of the server.
        GITEA_SERVER_URL: Actions,
        /// Commit of the workflow. Preferred to `GITHUB_SHA`.
        GITEA_SHA: Actions,
    }
    "Network and system" {
        /// Proxy for HTTPS, as a URL. In lower case too.
        HTTPS_PROXY: User,
        /// Proxy for plain HTTP, as a URL. In lower case too.
        HTTP_PROXY: User,
        /// Proxy for HTTP and HTTPS, as a URL. In lower case too.
        ALL_PROXY: User,
        /// Hosts that are reached without a proxy, separated by commas. In lower case too.
        NO_PROXY: User,
        /// File with the certificates to trust. Replaces those of the system.
        SSL_CERT_FILE: User,
        /// Directory with the certificates to trust. Replaces those of the system.
        SSL_CERT_DIR: User,
        /// Home directory: docker's configuration, podman's configuration, the cache.
        HOME: System,
        /// Directories that programs are searched in.
        PATH: System,
        /// Directory for temporary files. `/tmp` when not set.
        TMPDIR: System,
        /// Directory of the cache. `~/.cache` when not set.
        XDG_CACHE_HOME: System,
        /// Disables colours, with any value.
        NO_COLOR: User,
        /// Type of the terminal. With `dumb`, output has no colours and no progress bars.
        TERM: System,
    }
    "Variables for hooks" {
        /// Reference of the image that was copied or built. `build` and `register` write it to
        /// `run.env` as well. In a child pipeline of `build`, the image of imglife for its jobs.
        IMGLIFE_IMAGE: Imglife,
        /// Digest of the image.
        IMGLIFE_DIGEST: Imglife,
        /// Repository that the image was copied from.
        IMGLIFE_SOURCE: Imglife,
        /// Repository that the image was copied to.
        IMGLIFE_TARGET: Imglife,
        /// Tag of the image.
        IMGLIFE_TAG: Imglife,
    }
    "Results for later jobs" {
        /// Result of `imglife run`.
        IMGLIFE_RESULT: Imglife,
        /// `true` if `imglife run` changed anything, otherwise `false`.
        IMGLIFE_CHANGED: Imglife,
        /// Base image that `check` or `register` detected.
        IMGLIFE_BASE: Imglife,
        /// Newest release of the base image.
        IMGLIFE_LATEST: Imglife,
        /// `true` if the image is built on the newest release, otherwise `false` or `unknown`.
        IMGLIFE_UP_TO_DATE: Imglife,
        /// `true` if the base image was rebuilt under the same tag since the last build, otherwise
        /// `false` or `unknown`.
        IMGLIFE_REBUILT: Imglife,
        /// End-of-life date of the base image.
        IMGLIFE_EOL_DATE: Imglife,
        /// End-of-life status: `ok`, `warning`, `expired`, `accepted` or `unknown`.
        IMGLIFE_EOL_STATUS: Imglife,
        /// Days until the end-of-life date. Negative after it.
        IMGLIFE_DAYS_LEFT: Imglife,
    }
    "Child pipelines and CI templates" {
        /// Tags of the runners for the jobs of a child pipeline, as a JSON list.
        IMGLIFE_CHILD_TAGS: User,
        /// Mode of a child pipeline: `native` or `buildah`.
        IMGLIFE_CHILD_MODE: User,
        /// Time for which GitLab keeps the reports of a child pipeline, such as `7 days`.
        IMGLIFE_CHILD_KEEP: User,
        /// Names of the images that `build` is limited to, one per line, like `--only`.
        IMGLIFE_BUILD_ONLY: User,
        /// Directory for the reports of `imglife run`, like `--reports`.
        IMGLIFE_RUN_REPORTS: UserOrImglife,
        /// Path of the end-of-life data that a job passes to later jobs. `eol update` fails if the
        /// configuration names another file.
        IMGLIFE_EOL_ARTIFACT: User,
        /// Image of imglife that the CI components use. Not read by imglife itself.
        IMGLIFE_RELEASE_IMAGE: User,
        /// URL of the binary that the action `setup` downloads. Not read by imglife itself.
        IMGLIFE_URL: User,
        /// Checksum of the binary that the action `setup` downloads. Not read by imglife itself.
        IMGLIFE_SHA256: User,
    }
    "git" {
        /// Program that git connects over SSH with. imglife sets it to `ssh -oBatchMode=yes` unless
        /// another is configured.
        GIT_SSH_COMMAND: UserOrImglife,
        /// Program that git connects over SSH with.
        GIT_SSH: User,
        /// Program that git asks for credentials. Empty when imglife pushes with a token.
        GIT_ASKPASS: UserOrImglife,
        /// Program that ssh asks for credentials. Empty when imglife pushes with a token.
        SSH_ASKPASS: UserOrImglife,
        /// Number of settings in the environment. imglife adds its own to yours.
        GIT_CONFIG_COUNT: UserOrImglife,
        /// Always `0`: git does not prompt for credentials.
        GIT_TERMINAL_PROMPT: Imglife,
        /// Always `0`: git does not lock the index to read it.
        GIT_OPTIONAL_LOCKS: Imglife,
        /// Always `1`: paths are names, not patterns.
        GIT_LITERAL_PATHSPECS: Imglife,
        /// Always `C`: git writes English.
        LC_ALL: Imglife,
        /// Removed, so that git writes English.
        LANGUAGE: User,
        /// Replaced by the repository that imglife reads or writes.
        GIT_DIR: UserOrImglife,
        /// Replaced by the checkout that imglife reads.
        GIT_WORK_TREE: UserOrImglife,
        /// Replaced by an index of imglife's own.
        GIT_INDEX_FILE: UserOrImglife,
        /// Replaced by a directory of imglife's own.
        GIT_OBJECT_DIRECTORY: UserOrImglife,
        /// Removed.
        GIT_ALTERNATE_OBJECT_DIRECTORIES: User,
        /// Removed.
        GIT_COMMON_DIR: User,
        /// Removed.
        GIT_INDEX_VERSION: User,
        /// Removed.
        GIT_QUARANTINE_PATH: User,
        /// Removed.
        GIT_NAMESPACE: User,
        /// Removed.
        GIT_PREFIX: User,
        /// Removed.
        GIT_SHALLOW_FILE: User,
        /// Removed.
        GIT_GRAFT_FILE: User,
        /// Removed.
        GIT_REPLACE_REF_BASE: User,
        /// Removed.
        GIT_CONFIG: User,
        /// Removed, because git would print credentials.
        GIT_CURL_VERBOSE: User,
        /// Removed, because git would print cookies.
        GIT_REDACT_COOKIES: User,
        /// Removed, with all variables that begin with it, because git would print credentials.
        GIT_TRACE: User,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;
    use crate::process::Process;

    const BEGIN: &str = "<!-- variables:begin -->\n";
    const END: &str = "<!-- variables:end -->\n";

    #[test]
    fn each_variable_is_listed_once() {
        let mut seen = BTreeSet::new();
        for variable in GROUPS.iter().flat_map(|group| group.variables) {
            assert!(
                seen.insert(variable.name),
                "{} is listed twice",
                variable.name
            );
        }
    }

    #[test]
    fn registry_key_and_option_make_names_of_the_table() {
        assert_eq!(registry_key("project_id"), IMGLIFE_REGISTRY_PROJECT_ID);
        assert_eq!(option("run", "reports"), IMGLIFE_RUN_REPORTS);
        assert_eq!(
            option("eol-update", "data-file"),
            "IMGLIFE_EOL_UPDATE_DATA_FILE"
        );
    }

    fn reference() -> String {
        let mut text = String::new();
        for group in GROUPS {
            // Writing to a string does not fail.
            let _done = write!(
                text,
                "\n### {}\n\n| variable | set by | meaning |\n|---|---|---|\n",
                group.title
            );
            for variable in group.variables {
                let _done = writeln!(
                    text,
                    "| `{}` | {} | {} |",
                    variable.name,
                    variable.set_by,
                    variable.meaning.trim()
                );
            }
        }
        text
    }

    /// Checks the tables of variables in `docs/configuration.md`. `UPDATE_DOCS=1 cargo test
    /// model::env` writes them; the text around them is written by hand.
    #[test]
    fn the_reference_lists_every_variable() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let committed = std::fs::read_to_string(path).expect("docs/configuration.md");
        let (before, rest) = committed
            .split_once(BEGIN)
            .expect("the line before the tables");
        let (_, after) = rest.split_once(END).expect("the line after the tables");
        let expected = format!("{before}{BEGIN}{}\n{END}{after}", reference());
        let update = Process::current()
            .variables
            .get_filled("UPDATE_DOCS")
            .is_some();
        if update {
            std::fs::write(path, &expected).expect("docs/configuration.md is writable");
        }
        assert!(
            update || committed == expected,
            "docs/configuration.md is out of date; run `UPDATE_DOCS=1 cargo test model::env` and review the change"
        );
    }
}
