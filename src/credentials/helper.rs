//! Credential helpers: programs named `docker-credential-<name>`, called by docker's protocol.

use std::time::Duration;

use serde::Deserialize;

use super::Credential;
use crate::command::{ProgramCommand, ProgramStatus, Runner};
use crate::error::chain;
use crate::model::text::excerpt;
use crate::model::{Secret, Variables};

const TIMEOUT: Duration = Duration::from_secs(30);

/// User name with which a helper marks the secret as an identity token.
const IDENTITY_TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperResponse {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Returns the credential that the helper `name` has for `server`; `None` if it has none. The error
/// quotes only the helper's standard error, with secrets masked.
pub(super) async fn credential(
    runner: &dyn Runner,
    variables: &Variables,
    name: &str,
    server: &str,
) -> Result<Option<Credential>, String> {
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return Err(format!(
            "invalid name of a credential helper: `{}`",
            excerpt(name, 80)
        ));
    }
    let program = format!("docker-credential-{name}");
    let command = ProgramCommand {
        program: program.clone(),
        arguments: vec!["get".to_owned()],
        environment: variables.clone(),
        directory: None,
        stdin: Some(Secret::new(server)),
        timeout: TIMEOUT,
    };
    let output = runner.run(command).await.map_err(|error| chain(&error))?;
    let failure = |problem: &str| {
        let stderr = excerpt(&variables.masker().mask(&output.stderr.text()), 300);
        if stderr.is_empty() {
            format!("`{program}` {problem}")
        } else {
            format!("`{program}` {problem}: {stderr}")
        }
    };
    match output.status {
        ProgramStatus::Exited(0) => {}
        // Helpers report errors on standard output. This one means that there is no credential.
        ProgramStatus::Exited(_) if output.stdout.text().contains("credentials not found") => {
            return Ok(None);
        }
        ProgramStatus::Exited(code) => {
            return Err(failure(&format!("failed with exit code {code}")));
        }
        ProgramStatus::Signalled => return Err(failure("was killed by a signal")),
        ProgramStatus::TimedOut => {
            return Err(failure(&format!(
                "did not answer within {} seconds",
                TIMEOUT.as_secs()
            )));
        }
    }
    let response: HelperResponse = serde_json::from_slice(&output.stdout.bytes).map_err(|_| {
        failure("returned an invalid response (docker's protocol for credential helpers)")
    })?;
    match (response.username.as_str(), response.secret) {
        ("", secret) if secret.is_empty() => Ok(None),
        (_, secret) if secret.is_empty() => Err(failure("returned a user name without a secret")),
        (IDENTITY_TOKEN, secret) => Ok(Some(Credential::RefreshToken {
            token: Secret::new(secret),
        })),
        ("", _) => Err(failure("returned a secret without a user name")),
        (_, secret) => Ok(Some(Credential::Basic {
            username: response.username,
            password: Secret::new(secret),
        })),
    }
}
