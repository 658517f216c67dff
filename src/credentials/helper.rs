//! Credential helpers: programs named `docker-credential-<name>`, spoken to in docker's protocol.

use std::time::Duration;

use serde::Deserialize;

use super::Credential;
use crate::command::{ProgramCommand, ProgramStatus, Runner};
use crate::error::chain;
use crate::model::text::excerpt;
use crate::model::{Secret, Variables};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The user name by which a helper says that the secret is an identity token.
const IDENTITY_TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Returns what the helper `name` knows for `server`, or `None` when it knows nothing. An error
/// says what is wrong; it shows nothing of the helper's output but its error stream, masked.
pub(super) async fn ask(
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
            "the name of the credential helper `{}` is no plain name",
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
    let said = |ending: &str| {
        let stderr = excerpt(&variables.masker().mask(&output.stderr.text()), 300);
        if stderr.is_empty() {
            format!("`{program}` {ending}")
        } else {
            format!("`{program}` {ending}: {stderr}")
        }
    };
    match output.status {
        ProgramStatus::Exited(0) => {}
        // Helpers report their errors on standard output, and this one is not an error.
        ProgramStatus::Exited(_) if output.stdout.text().contains("credentials not found") => {
            return Ok(None);
        }
        ProgramStatus::Exited(code) => return Err(said(&format!("ended with exit code {code}"))),
        ProgramStatus::Signalled => return Err(said("was killed")),
        ProgramStatus::TimedOut => {
            return Err(said(&format!(
                "did not answer within {} seconds",
                TIMEOUT.as_secs()
            )));
        }
    }
    let answer: Answer = serde_json::from_slice(&output.stdout.bytes)
        .map_err(|_| said("gave no answer in docker's form"))?;
    match (answer.username.as_str(), answer.secret) {
        ("", secret) if secret.is_empty() => Ok(None),
        (_, secret) if secret.is_empty() => Err(said("gave a user name without a secret")),
        (IDENTITY_TOKEN, secret) => Ok(Some(Credential::RefreshToken {
            token: Secret::new(secret),
        })),
        ("", _) => Err(said("gave a secret without a user name")),
        (_, secret) => Ok(Some(Credential::Basic {
            username: answer.username,
            password: Secret::new(secret),
        })),
    }
}
