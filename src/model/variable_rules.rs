//! Rules for environment variables: those that hold secrets, and those that an untrusted job may
//! expand.
//!
//! One list decides about both masking and expansion.

use std::sync::LazyLock;

use regex::RegexSet;

/// Words that mark a secret anywhere in the name of a variable.
const SECRET_PARTS: [&str; 4] = ["TOKEN", "PASSWORD", "SECRET", "WEBHOOK"];

/// Words that mark a secret if they are a whole word between underscores.
const SECRET_WORDS: [&str; 13] = [
    "PAT",
    "PASS",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "JWT",
    "CREDENTIAL",
    "CREDENTIALS",
    "PRIVATE",
    "APIKEY",
    "BEARER",
    "NETRC",
    "DSN",
];

/// Like [`SECRET_WORDS`], for words that also occur in the names of ordinary settings.
const AMBIGUOUS_WORDS: [&str; 5] = ["AUTH", "KEY", "KEYS", "COOKIE", "COOKIES"];

/// Variables with credentials whose names do not show it.
const CREDENTIAL_VARIABLES: [&str; 3] = [
    // A URL with the token of the job.
    "CI_REPOSITORY_URL",
    // A URL whose path is the permission to request a token.
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "KUBECONFIG",
];

/// Variables of a shell whose names look like those of secrets.
const SHELL_VARIABLES: [&str; 1] = ["PWD"];

/// Evidence that a variable is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretName {
    /// The name has a word that also occurs in ordinary settings, such as `CACHE_KEY`.
    Ambiguous,
    Certain,
}

/// Returns the evidence in the name of an environment variable; `None` for ordinary names.
pub fn secret_name(name: &str) -> Option<SecretName> {
    let name = name.to_ascii_uppercase();
    if SHELL_VARIABLES.contains(&name.as_str()) {
        return None;
    }
    let has_word = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    if CREDENTIAL_VARIABLES.contains(&name.as_str())
        || SECRET_PARTS.iter().any(|part| name.contains(part))
        || has_word(&SECRET_WORDS)
    {
        return Some(SecretName::Certain);
    }
    has_word(&AMBIGUOUS_WORDS).then_some(SecretName::Ambiguous)
}

/// Returns true if the name of an environment variable suggests that its value is a secret.
pub fn names_a_secret(name: &str) -> bool {
    secret_name(name).is_some()
}

/// Forms of tokens and keys, by the documentation of the services that issue them.
const TOKEN_FORMS: [&str; 14] = [
    // GitLab, "Token prefixes".
    r"\bgl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[0-9A-Za-z_.-]{6,}",
    // GitHub, "About authentication to GitHub".
    r"\bgh[opusr]_[0-9A-Za-z]{16,}",
    r"\bgithub_pat_[0-9A-Za-z_]{16,}",
    // Docker Hub, access tokens of users and organisations.
    r"\bdckr_[po]at_[0-9A-Za-z_-]{6,}",
    // AWS, "Unique identifiers".
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    // Slack, "Token types" and incoming webhooks.
    r"\bxox[abeoprs]-[0-9A-Za-z-]{8,}",
    r"\bxapp-[0-9A-Za-z-]{8,}",
    r"(?i)https://hooks\.slack\.com/\w+/\S+",
    r"(?i)https://[^/\s]+/api/webhooks/\S+",
    // npm and PyPI.
    r"\bnpm_[0-9A-Za-z]{20,}",
    r"\bpypi-[0-9A-Za-z_-]{16,}",
    // Google API keys.
    r"\bAIza[0-9A-Za-z_-]{30,}",
    // JSON Web Tokens (RFC 7519).
    r"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.",
    // Private keys (RFC 7468), and URLs with a password.
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#\s@]*:[^/?#\s@]+@",
];

/// Returns true if `value` contains text in the form of a known token, a private key, or a URL with
/// a password.
pub fn looks_like_a_token(value: &str) -> bool {
    static FORMS: LazyLock<Option<RegexSet>> = LazyLock::new(|| RegexSet::new(TOKEN_FORMS).ok());
    FORMS.as_ref().is_none_or(|forms| forms.is_match(value))
}

/// Variables of CI servers without secrets, which an untrusted job may expand.
///
/// Sources: GitLab, "Predefined CI/CD variables reference"; GitHub, "Variables reference". Gitea and
/// Forgejo set the variables of GitHub.
const CI_VARIABLES: [&str; 118] = [
    "CI",
    "CI_API_GRAPHQL_URL",
    "CI_API_V4_URL",
    "CI_COMMIT_BEFORE_SHA",
    "CI_COMMIT_BRANCH",
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_REF_PROTECTED",
    "CI_COMMIT_REF_SLUG",
    "CI_COMMIT_SHA",
    "CI_COMMIT_SHORT_SHA",
    "CI_COMMIT_TAG",
    "CI_COMMIT_TIMESTAMP",
    "CI_CONCURRENT_ID",
    "CI_CONCURRENT_PROJECT_ID",
    "CI_CONFIG_PATH",
    "CI_DEFAULT_BRANCH",
    "CI_DEFAULT_BRANCH_SLUG",
    "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX",
    "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX",
    "CI_DEPENDENCY_PROXY_SERVER",
    "CI_ENVIRONMENT_ID",
    "CI_ENVIRONMENT_NAME",
    "CI_ENVIRONMENT_SLUG",
    "CI_ENVIRONMENT_TIER",
    "CI_JOB_GROUP_NAME",
    "CI_JOB_ID",
    "CI_JOB_IMAGE",
    "CI_JOB_NAME",
    "CI_JOB_NAME_SLUG",
    "CI_JOB_STAGE",
    "CI_JOB_STARTED_AT",
    "CI_JOB_TIMEOUT",
    "CI_JOB_URL",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA",
    "CI_MERGE_REQUEST_DIFF_ID",
    "CI_MERGE_REQUEST_ID",
    "CI_MERGE_REQUEST_IID",
    "CI_MERGE_REQUEST_PROJECT_ID",
    "CI_MERGE_REQUEST_PROJECT_PATH",
    "CI_MERGE_REQUEST_PROJECT_URL",
    "CI_MERGE_REQUEST_REF_PATH",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_PROTECTED",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_URL",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
    "CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED",
    "CI_MERGE_REQUEST_TARGET_BRANCH_SHA",
    "CI_NODE_INDEX",
    "CI_NODE_TOTAL",
    "CI_PAGES_DOMAIN",
    "CI_PAGES_URL",
    "CI_PIPELINE_CREATED_AT",
    "CI_PIPELINE_ID",
    "CI_PIPELINE_IID",
    "CI_PIPELINE_NAME",
    "CI_PIPELINE_SOURCE",
    "CI_PIPELINE_URL",
    "CI_PROJECT_CLASSIFICATION_LABEL",
    "CI_PROJECT_DIR",
    "CI_PROJECT_ID",
    "CI_PROJECT_NAME",
    "CI_PROJECT_NAMESPACE",
    "CI_PROJECT_NAMESPACE_ID",
    "CI_PROJECT_NAMESPACE_SLUG",
    "CI_PROJECT_PATH",
    "CI_PROJECT_PATH_SLUG",
    "CI_PROJECT_REPOSITORY_LANGUAGES",
    "CI_PROJECT_ROOT_NAMESPACE",
    "CI_PROJECT_TITLE",
    "CI_PROJECT_URL",
    "CI_PROJECT_VISIBILITY",
    "CI_REGISTRY",
    "CI_REGISTRY_IMAGE",
    "CI_RUNNER_DESCRIPTION",
    "CI_RUNNER_EXECUTABLE_ARCH",
    "CI_RUNNER_ID",
    "CI_RUNNER_TAGS",
    "CI_RUNNER_VERSION",
    "CI_SERVER",
    "CI_SERVER_FQDN",
    "CI_SERVER_HOST",
    "CI_SERVER_NAME",
    "CI_SERVER_PORT",
    "CI_SERVER_PROTOCOL",
    "CI_SERVER_REVISION",
    "CI_SERVER_SHELL_SSH_HOST",
    "CI_SERVER_SHELL_SSH_PORT",
    "CI_SERVER_TLS_CA_FILE",
    "CI_SERVER_URL",
    "CI_SERVER_VERSION",
    "CI_TEMPLATE_REGISTRY_HOST",
    "GITLAB_CI",
    "GITLAB_USER_ID",
    "GITLAB_USER_LOGIN",
    "GITHUB_ACTIONS",
    "GITHUB_ACTOR",
    "GITHUB_API_URL",
    "GITHUB_BASE_REF",
    "GITHUB_EVENT_NAME",
    "GITHUB_HEAD_REF",
    "GITHUB_JOB",
    "GITHUB_REF",
    "GITHUB_REF_NAME",
    "GITHUB_REF_TYPE",
    "GITHUB_REPOSITORY",
    "GITHUB_REPOSITORY_OWNER",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_NUMBER",
    "GITHUB_SERVER_URL",
    "GITHUB_SHA",
    "GITHUB_WORKSPACE",
    "GITEA_ACTIONS",
    "FORGEJO_ACTIONS",
    // Base image of an application, as jobs pass it to `check` and `register`.
    "BASE_IMAGE",
    // Variables of GitLab for the working directory of a job.
    "CI_BUILDS_DIR",
];

/// Variables that programs need to run and that hold no secrets.
const SYSTEM_VARIABLES: [&str; 32] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "TMPDIR",
    "TZ",
    "TERM",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "NO_COLOR",
    "NO_PROXY",
    "no_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SOURCE_DATE_EPOCH",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_CERTDIR",
    "BUILDKITD_ADDR",
    "BUILDAH_ISOLATION",
    "STORAGE_DRIVER",
];

/// Returns true if the variable is one of a CI server that holds no secret.
pub fn is_ci_variable(name: &str) -> bool {
    CI_VARIABLES.contains(&name)
}

/// Returns true if the variable is one that programs need to run.
pub fn is_system_variable(name: &str) -> bool {
    SYSTEM_VARIABLES.contains(&name) || name.starts_with("XDG_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognised_by_their_words() {
        for name in [
            "GITLAB_TOKEN",
            "MYPASSWORD",
            "client_secret_1",
            "DOCKER_AUTH_CONFIG",
            "SSH_PRIVATE_KEY",
            "GITLAB_PAT",
            "CI_JOB_JWT_V2",
            "TEAM_WEBHOOK",
            "DB_PASS",
            "MYSQL_PWD",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "CI_REPOSITORY_URL",
            "CI_DEPENDENCY_PROXY_PASSWORD",
            "SESSION_COOKIE",
            "KEY",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "COMPASS",
            "KEYBOARD",
            "KEYCLOAK_URL",
            "AUTHOR",
            "SPATIAL_INDEX",
            "CI_REGISTRY_IMAGE",
            "PRIVATELY",
        ] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn values_in_the_form_of_tokens_are_recognised() {
        for value in [
            "glpat-hunter2",
            "x-glpat-aBcDeF1234567890abcd",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "dckr_pat_hunter2hunter2",
            "AKIAIOSFODNN7EXAMPLE",
            "https://hooks.slack.com/services/T00/B00/x",
            "https://user:hunter2@git.example/a.git",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
        ] {
            assert!(looks_like_a_token(value), "{value}");
        }
        for value in [
            "registry.example.com/mirrors",
            "https://gitlab.example:8443/team/app",
            "3.21.3-alpine",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "git@gitlab.example:team/app.git",
            "",
        ] {
            assert!(!looks_like_a_token(value), "{value}");
        }
    }

    #[test]
    fn variables_that_may_be_expanded_are_no_secrets_and_are_listed_once() {
        let mut names = CI_VARIABLES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(
            names.len(),
            CI_VARIABLES.len(),
            "a variable is listed twice"
        );
        for name in CI_VARIABLES {
            assert!(!names_a_secret(name), "{name}");
        }
    }
}
