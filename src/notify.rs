//! Messages about ends of life, and the webhooks that take them.
//!
//! The address of a webhook is a secret as a whole: whoever knows it can write there. It is in no
//! message, error or log.

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

/// Applications that a message for people names; the others are counted.
const MOST_NAMED: usize = 20;

/// What is told of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub image: String,
    /// What of it ends, the soonest first.
    pub ends: Vec<End>,
    /// What stands on it, by name.
    pub applications: Vec<Application>,
}

/// The end of a product within an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The last day before it.
    pub date: NaiveDate,
    /// Negative afterwards.
    pub days_left: i64,
    pub product: String,
    pub cycle: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Application {
    pub image: String,
    pub project: String,
}

/// Takes messages to people or programs.
#[async_trait]
pub trait Messenger: Send + Sync {
    /// Returns what it is called in reports.
    fn name(&self) -> &'static str;

    async fn send(&self, message: &Message) -> Result<(), NotifyError>;
}

/// The form that a webhook takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A text in Slack's markup (docs.slack.dev, "Sending messages using incoming webhooks");
    /// Mattermost and others take it too.
    Slack,
    /// The message as JSON, `imglife/eol-notice/v1`.
    Json,
}

/// Why a message was not taken. Says nothing of the address.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotifyError {
    #[error("it is no http or https address")]
    Address,
    #[error("the webhook answered with status {0}")]
    Refused(u16),
    #[error("the webhook could not be reached")]
    Unreachable,
    #[error("the message could not be written as JSON")]
    Json,
}

/// A webhook.
pub struct Webhook {
    service: Service,
    host: Host,
    target: RequestTarget,
    client: Arc<Client>,
}

/// Returns the address that a variable holds.
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
    /// Returns the webhook at `url`. `client` must have no credential for it.
    pub fn new(service: Service, url: &Url, client: Arc<Client>) -> Result<Webhook, NotifyError> {
        let host = host_of(url).ok_or(NotifyError::Address)?;
        let query = url
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let target = RequestTarget::Path(format!("{}{query}", url.path()));
        Ok(Webhook {
            service,
            host,
            target,
            client,
        })
    }
}

#[async_trait]
impl Messenger for Webhook {
    fn name(&self) -> &'static str {
        match self.service {
            Service::Slack => "Slack",
            Service::Json => "webhook",
        }
    }

    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let body = match self.service {
            Service::Slack => json!({ "text": message.slack() }).to_string(),
            Service::Json => versioned("eol-notice", message).map_err(|_| NotifyError::Json)?,
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
        // The client logs addresses, which is right everywhere else.
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

impl Message {
    /// Returns the message in Slack's markup, in which three characters mean something.
    fn slack(&self) -> String {
        let escaped = |text: &str| {
            printable(text)
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('`', "'")
        };
        let mut lines = vec![format!("*End of life:* `{}`", escaped(&self.image))];
        lines.extend(self.ends.iter().map(|end| {
            format!(
                "• {} {} {}",
                escaped(&end.product),
                escaped(&end.cycle),
                end.when()
            )
        }));
        match self.applications.len() {
            0 => lines.push("No registered application stands on it.".to_owned()),
            count => {
                lines.push(format!(
                    "{count} {} on it:",
                    if count == 1 {
                        "application stands"
                    } else {
                        "applications stand"
                    }
                ));
                let named = self.applications.iter().take(MOST_NAMED);
                lines.extend(named.map(|user| {
                    format!("• `{}` ({})", escaped(&user.image), escaped(&user.project))
                }));
                if count > MOST_NAMED {
                    lines.push(format!("• and {} more", count - MOST_NAMED));
                }
            }
        }
        lines.join("\n")
    }
}

impl End {
    /// Returns when it is, in words.
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

    fn message(applications: usize) -> Message {
        let end = |days_left, cycle: &str| End {
            date: "2026-11-01".parse().expect("a date"),
            days_left,
            product: "alpine".to_owned(),
            cycle: cycle.to_owned(),
        };
        let application = |number| Application {
            image: format!("r.example/apps/a{number}:1"),
            project: "team/<!channel>".to_owned(),
        };
        Message {
            image: "r.example/bases/alpine:3.21`&".to_owned(),
            ends: vec![end(30, "3.21"), end(-7, "3.20")],
            applications: (0..applications).map(application).collect(),
        }
    }

    #[test]
    fn a_message_for_people_names_what_is_affected_and_mentions_nobody() {
        insta::assert_snapshot!(message(1).slack(), @"
        *End of life:* `r.example/bases/alpine:3.21'&amp;`
        • alpine 3.21 ends in 30 days (2026-11-01)
        • alpine 3.20 ended 7 days ago (2026-11-01)
        1 application stands on it:
        • `r.example/apps/a0:1` (team/&lt;!channel&gt;)
        ");
        assert!(
            message(0)
                .slack()
                .ends_with("\nNo registered application stands on it.")
        );
        let long = message(300).slack();
        assert!(
            long.ends_with("\n• and 280 more") && long.lines().count() == 25,
            "{long}"
        );
    }

    #[test]
    fn an_address_is_one_of_the_web() {
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
