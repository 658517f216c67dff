//! End-of-life notices and the webhooks that they are sent to.
//!
//! The URL of a webhook is a secret as a whole, because it is all that is needed to post there. No
//! message, error or log contains it.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use thiserror::Error;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::http::header::{CONTENT_TYPE, HeaderValue};
use crate::http::{
    AuthMode, Body, Client, Error, Method, Request, RequestAccess, RequestKind, RequestTarget, Url,
    host_of,
};
use crate::model::media_type;
use crate::model::text::printable;
use crate::model::{Host, Secret};
use crate::report::json::versioned;

/// Number of applications that a message in Slack's markup names; the rest is counted.
const MAX_NAMED: usize = 20;

/// Notice about one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EolNotice {
    pub image: String,
    /// Products in the image that reach end of life, the earliest first.
    pub ends: Vec<ProductEnd>,
    /// Applications that are based on the image, sorted by name.
    pub applications: Vec<AffectedApplication>,
}

/// End of life of a product in an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductEnd {
    /// Last day with support.
    pub date: NaiveDate,
    /// Days until `date`; negative after it.
    pub days_left: i64,
    pub product: String,
    pub cycle: String,
}

/// Application that is based on an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AffectedApplication {
    pub image: String,
    pub project: String,
}

/// Recipient of notices.
#[async_trait]
pub trait Messenger: Send + Sync {
    /// Returns the name of the recipient for reports.
    fn name(&self) -> &'static str;

    /// Sends a notice.
    async fn send(&self, notice: &EolNotice) -> Result<(), NotifyError>;
}

/// Format of the notices that a webhook accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Text in Slack's markup (docs.slack.dev, "Sending messages using incoming webhooks"), which
    /// Mattermost and others accept as well.
    Slack,
    /// JSON document `imglife/eol-notice/v1`.
    Json,
}

/// Error of sending a notice. Contains no part of the URL.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotifyError {
    #[error("not an http or https URL")]
    Address,
    #[error("the webhook responded with status {0}")]
    Refused(u16),
    #[error("cannot connect to the webhook")]
    Unreachable,
    #[error("cannot write the notice as JSON")]
    Json,
}

/// Client of a webhook.
pub struct Webhook {
    format: WebhookFormat,
    host: Host,
    target: RequestTarget,
    client: Arc<Client>,
}

/// Parses the URL of a webhook in the value of a variable.
pub fn address(text: &Secret) -> Result<Url, NotifyError> {
    let url: Url = text
        .expose()
        .trim()
        .parse()
        .map_err(|_| NotifyError::Address)?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(NotifyError::Address)
    }
}

impl Webhook {
    /// Returns a client of the webhook at `url`. `client` must not have credentials for its host.
    pub fn new(
        format: WebhookFormat,
        url: &Url,
        client: Arc<Client>,
    ) -> Result<Webhook, NotifyError> {
        let host = host_of(url).ok_or(NotifyError::Address)?;
        let query = url
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let target = RequestTarget::Path(format!("{}{query}", url.path()));
        Ok(Webhook {
            format,
            host,
            target,
            client,
        })
    }
}

#[async_trait]
impl Messenger for Webhook {
    fn name(&self) -> &'static str {
        match self.format {
            WebhookFormat::Slack => "Slack",
            WebhookFormat::Json => "webhook",
        }
    }

    async fn send(&self, notice: &EolNotice) -> Result<(), NotifyError> {
        let body = match self.format {
            WebhookFormat::Slack => json!({ "text": notice.slack() }).to_string(),
            WebhookFormat::Json => {
                versioned("eol-notice", notice).map_err(|_| NotifyError::Json)?
            }
        };
        let mut request = Request::new(
            Method::POST,
            &self.host,
            self.target.clone(),
            RequestKind("notice"),
            RequestAccess::default(),
        )
        .header(CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
        request.auth_mode = AuthMode::Never;
        request.body = Body::Bytes(Bytes::from(body));
        // The client logs URLs, and this one is a secret.
        let sent = self
            .client
            .send(request)
            .with_subscriber(NoSubscriber::new())
            .await;
        sent.map(drop).map_err(|error: Error| {
            error.status().map_or(NotifyError::Unreachable, |status| {
                NotifyError::Refused(status.as_u16())
            })
        })
    }
}

impl EolNotice {
    /// Returns the notice in Slack's markup.
    fn slack(&self) -> String {
        let mut lines = vec![format!("*End of life:* {}", chat_code(&self.image))];
        lines.extend(self.ends.iter().map(|end| {
            let cycle = format!("{} {}", end.product, end.cycle);
            format!("• {} {}", chat_code(&cycle), end.when())
        }));
        match self.applications.len() {
            0 => lines.push("No registered application is based on it.".to_owned()),
            count => {
                lines.push(format!(
                    "{count} {} based on it:",
                    if count == 1 {
                        "application is"
                    } else {
                        "applications are"
                    }
                ));
                let named = self.applications.iter().take(MAX_NAMED);
                lines.extend(named.map(|user| {
                    format!(
                        "• {} ({})",
                        chat_code(&user.image),
                        chat_code(&user.project)
                    )
                }));
                if count > MAX_NAMED {
                    lines.push(format!("• and {} more", count - MAX_NAMED));
                }
            }
        }
        lines.join("\n")
    }
}

/// Returns untrusted text as inline code for a chat: nobody is mentioned, nothing becomes a link or
/// other markup.
///
/// Slack reserves `&`, `<` and `>`. Other chats accept Slack's form, but read Markdown, and some of
/// them notify people also within code.
fn chat_code(text: &str) -> String {
    let mut code = String::from("`");
    let mut previous = ' ';
    for character in printable(text).trim().chars() {
        match character {
            '&' => code.push_str("&amp;"),
            '<' => code.push_str("&lt;"),
            '>' => code.push_str("&gt;"),
            '`' => code.push('\''),
            // An address or a digest has a name before it, a mention has not.
            '@' if !previous.is_alphanumeric() => code.push('＠'),
            other => code.push(other),
        }
        previous = character;
    }
    code.push('`');
    code
}

impl ProductEnd {
    /// Returns the end of life in words: `ends in 30 days (2026-11-01)`.
    pub fn when(&self) -> String {
        match self.days_left {
            0 => format!("ends today ({})", self.date),
            1 => format!("ends tomorrow ({})", self.date),
            left @ 2.. => format!("ends in {left} days ({})", self.date),
            left => format!(
                "ended {} {} ago ({})",
                -left,
                if left == -1 { "day" } else { "days" },
                self.date
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(applications: usize) -> EolNotice {
        let end = |days_left, cycle: &str| ProductEnd {
            date: "2026-11-01".parse().expect("a date"),
            days_left,
            product: "alpine".to_owned(),
            cycle: cycle.to_owned(),
        };
        let application = |number| AffectedApplication {
            image: format!("r.example/apps/a{number}:1"),
            project: "team/<!channel>".to_owned(),
        };
        EolNotice {
            image: "r.example/bases/alpine:3.21`&".to_owned(),
            ends: vec![end(30, "3.21"), end(-7, "3.20")],
            applications: (0..applications).map(application).collect(),
        }
    }

    #[test]
    fn slack_notice_names_applications_and_escapes_mentions() {
        insta::assert_snapshot!(notice(1).slack(), @"
        *End of life:* `r.example/bases/alpine:3.21'&amp;`
        • `alpine 3.21` ends in 30 days (2026-11-01)
        • `alpine 3.20` ended 7 days ago (2026-11-01)
        1 application is based on it:
        • `r.example/apps/a0:1` (`team/&lt;!channel&gt;`)
        ");
        assert!(
            notice(0)
                .slack()
                .ends_with("\nNo registered application is based on it.")
        );
        let long = notice(300).slack();
        assert!(
            long.ends_with("\n• and 280 more") && long.lines().count() == 25,
            "{long}"
        );
    }

    #[test]
    fn untrusted_text_is_inert_in_every_chat() {
        for (text, expected) in [
            ("@channel and @here", "`＠channel and ＠here`"),
            ("team/@all", "`team/＠all`"),
            ("r.example/a:1@sha256:00", "`r.example/a:1@sha256:00`"),
            (
                "<!here> <@U1> <https://x|y>",
                "`&lt;!here&gt; &lt;＠U1&gt; &lt;https://x|y&gt;`",
            ),
            ("a`b` *c* [d](https://x)", "`a'b' *c* [d](https://x)`"),
            ("a\n# b\u{e0041}", r"`a\u{a}# b\u{e0041}`"),
            (" ", "``"),
        ] {
            assert_eq!(chat_code(text), expected);
        }
    }

    #[test]
    fn webhook_url_must_be_http_or_https() {
        assert!(address(&Secret::new(" https://hooks.example/T/B/x\n")).is_ok());
        for text in [
            "",
            "hooks.example/T",
            "file:///etc/passwd",
            "mailto:a@b.example",
        ] {
            assert_eq!(
                address(&Secret::new(text)),
                Err(NotifyError::Address),
                "{text}"
            );
        }
    }
}
