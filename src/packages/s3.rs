//! A bucket of AWS S3 or of a server that speaks like it.
//!
//! The AWS SDK finds credentials, signs and reads answers. What it sends goes through the one
//! client, which tries again as for every other host; the SDK's own retries are off. Nothing relies
//! on conditional writes: not all servers know them, and no name is written twice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client as Sdk;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    RuntimeComponents, SharedHttpClient,
};
use aws_sdk_s3::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::probe;
use super::{FileName, FileSeen, LARGEST_FILE, Listing, PackageFiles, Scope};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::header::{HeaderMap, HeaderName, HeaderValue};
use crate::http::{self, Client, Method, RequestKind, SignedRequest, Url};
use crate::model::Secret;
use crate::model::media_type;
use crate::model::text::excerpt;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport};

const OBJECTS: RequestKind = RequestKind("objects");

/// The most pages of 1,000 objects that a listing is followed for.
const MOST_PAGES: usize = 10_000;

/// Where a bucket is.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The server, when it is not AWS. The bucket is then the first part of the path.
    pub endpoint: Option<Url>,
    pub name: String,
    pub region: String,
    /// `None`: as the SDK finds them (variables, profiles, single sign-on, web identities,
    /// container and instance metadata).
    pub keys: Option<Keys>,
}

/// An access key that was given.
#[derive(Clone, Debug)]
pub struct Keys {
    pub id: String,
    pub secret: Secret,
    pub session_token: Option<Secret>,
}

/// Objects in a bucket: `<prefix>/records/<repository>/<file>`.
pub struct S3Files {
    http: Arc<Client>,
    bucket: Bucket,
    sdk: OnceCell<Sdk>,
}

impl S3Files {
    /// Returns the objects in `bucket`, which is spoken to by `http`. Credentials are looked for
    /// with the first request.
    pub fn new(http: Arc<Client>, bucket: Bucket) -> S3Files {
        S3Files {
            http,
            bucket,
            sdk: OnceCell::new(),
        }
    }

    async fn sdk(&self) -> &Sdk {
        self.sdk
            .get_or_init(|| async {
                let Bucket {
                    endpoint,
                    region,
                    keys,
                    ..
                } = &self.bucket;
                let http = SharedHttpClient::new(Sender(Arc::clone(&self.http)));
                let region = Region::new(region.clone());
                let loader = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(http)
                    .region(region);
                let loader = match keys {
                    Some(keys) => loader.credentials_provider(keys.credentials()),
                    None => loader,
                };
                let shared = loader.load().await;
                let mut config = aws_sdk_s3::config::Builder::from(&shared)
                    .retry_config(RetryConfig::disabled())
                    // Servers other than AWS mostly know no checksums in trailers.
                    .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                    .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
                if let Some(endpoint) = endpoint {
                    config = config
                        .endpoint_url(endpoint.as_str())
                        .force_path_style(true);
                }
                Sdk::from_conf(config.build())
            })
            .await
    }

    fn failed<E>(&self, action: &str, error: &SdkError<E, HttpResponse>) -> ItemError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default();
        let transport = match error {
            SdkError::DispatchFailure(failure) => failure
                .as_connector_error()
                .and_then(std::error::Error::source),
            _ => None,
        };
        let sent = transport.and_then(|error| error.downcast_ref::<http::Error>());
        let kind = match (error, status) {
            (SdkError::ServiceError(_), Some(200..300)) => ItemErrorKind::Malformed,
            (SdkError::ServiceError(_), Some(401)) => ItemErrorKind::Unauthorized,
            (SdkError::ServiceError(_), Some(400 | 403)) if UNKNOWN_KEYS.contains(&code) => {
                ItemErrorKind::Unauthorized
            }
            (SdkError::ServiceError(_), Some(403)) => ItemErrorKind::Forbidden,
            (SdkError::ServiceError(_), Some(404)) => ItemErrorKind::Absent,
            (SdkError::ServiceError(_), Some(429 | 500..)) => ItemErrorKind::ServerError,
            (SdkError::ServiceError(_), _) => ItemErrorKind::Refused,
            (SdkError::ResponseError(_), _) => ItemErrorKind::Malformed,
            (SdkError::DispatchFailure(_), _) => match sent {
                Some(http::Error::Refused(_)) => ItemErrorKind::ServerError,
                Some(http::Error::TooLarge { .. } | http::Error::Malformed { .. }) => {
                    ItemErrorKind::Malformed
                }
                Some(_) => ItemErrorKind::Unreachable,
                // Nothing was sent: there was nothing to sign with.
                None => ItemErrorKind::Unauthorized,
            },
            _ => ItemErrorKind::Unreachable,
        };
        let detail = match (code, error.message()) {
            ("", _) => sent.map_or_else(|| chain(error), chain_of),
            (code, None) => code.to_owned(),
            (code, Some(message)) => format!("{code}: {message}"),
        };
        let hint = sent
            .and_then(http::Error::hint)
            .or_else(|| self.hint(kind, code));
        ItemError::new(self.place(), action, kind, excerpt(&detail, 500)).hinting(hint)
    }

    fn hint(&self, kind: ItemErrorKind, code: &str) -> Option<String> {
        let bucket = &self.bucket.name;
        match kind {
            ItemErrorKind::Unauthorized => Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if there is one), or let the AWS SDK find \
                 credentials in another of its ways (a profile, a role of the job or machine)"
                    .to_owned(),
            ),
            ItemErrorKind::Forbidden => Some(format!(
                "the access key needs s3:ListBucket on the bucket {bucket}, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
            )),
            ItemErrorKind::Absent => Some(format!("make the bucket {bucket}, or correct `registry.bucket`")),
            ItemErrorKind::Refused
                if matches!(code, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") =>
            {
                Some(format!("the bucket {bucket} may be in another region than {}: set `registry.region`", self.bucket.region))
            }
            _ => None,
        }
    }
}

/// What servers call an access key, or a signature by it, that they do not take.
const UNKNOWN_KEYS: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidClientTokenId",
];

fn chain_of(error: &http::Error) -> String {
    chain(error)
}

impl Keys {
    fn credentials(&self) -> Credentials {
        let session = self
            .session_token
            .as_ref()
            .map(|token| token.expose().to_owned());
        Credentials::new(
            self.id.clone(),
            self.secret.expose(),
            session,
            None,
            "imglife",
        )
    }
}

#[async_trait]
impl PackageFiles for S3Files {
    fn place(&self) -> String {
        match &self.bucket.endpoint {
            Some(endpoint) => format!(
                "{}/{}",
                endpoint.as_str().trim_end_matches('/'),
                self.bucket.name
            ),
            None => format!("s3://{} in {}", self.bucket.name, self.bucket.region),
        }
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        let request = self
            .sdk()
            .await
            .put_object()
            .bucket(&self.bucket.name)
            .key(file.path());
        let sent = request
            .content_type(media_type::JSON)
            .body(ByteStream::from(content))
            .send()
            .await;
        sent.map(drop)
            .map_err(|error| self.failed(&format!("write {file}"), &error))
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        let action = format!("read {file}");
        match self
            .sdk()
            .await
            .get_object()
            .bucket(&self.bucket.name)
            .key(file.path())
            .send()
            .await
        {
            Ok(object) => match object.body.collect().await {
                Ok(content) => Ok(Some(content.into_bytes())),
                Err(error) => {
                    Err(
                        ItemError::new(self.place(), action, ItemErrorKind::Malformed, "")
                            .caused_by(error),
                    )
                }
            },
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_no_such_key()) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed(&action, &error)),
        }
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError> {
        const LIST: &str = "list the objects";
        let malformed =
            |detail: &str| ItemError::new(self.place(), LIST, ItemErrorKind::Malformed, detail);
        let (directory, mut listing, mut token) = (scope.directory(), Listing::default(), None);
        for _ in 0..MOST_PAGES {
            let request = self
                .sdk()
                .await
                .list_objects_v2()
                .bucket(&self.bucket.name)
                .prefix(&directory);
            let page = request
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| self.failed(LIST, &error))?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                // Consoles make objects that stand for directories.
                let Some(path) = key
                    .strip_prefix(&directory)
                    .filter(|path| !path.is_empty() && !path.ends_with('/'))
                else {
                    continue;
                };
                match scope.file(path) {
                    Some(Ok((package, file))) => listing.add(&package, file, None),
                    _ => listing.foreign.push(key.to_owned()),
                }
            }
            token = page.next_continuation_token;
            match (page.is_truncated.unwrap_or_default(), &token) {
                (false, _) => {
                    listing.sort();
                    return Ok(listing);
                }
                (true, None) => return Err(malformed("it goes on, without saying where")),
                (true, Some(_)) => {}
            }
        }
        Err(malformed("it has no end"))
    }

    async fn probe(&self, _: ProbeCredential) -> ProbeReport {
        let mut look = ProbeReport::default();
        if let Some(endpoint) = &self.bucket.endpoint
            && let Some(host) = http::host_of(endpoint)
        {
            match self.http.inspect(&host, "/").await {
                Ok(answer) => {
                    look.ahead = self.http.clock_offset(&answer);
                    look.findings
                        .push(ProbeFinding::ok(probe::REACHABLE, "", "answers"));
                }
                Err(error) => {
                    let fix = probe::unreachable_fix(&error);
                    return vec![ProbeFinding::wrong(probe::REACHABLE, "", chain(&error)).fix(fix)]
                        .into();
                }
            }
        }
        match self
            .sdk()
            .await
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .max_keys(1)
            .send()
            .await
        {
            Ok(_) => {
                look.findings.push(ProbeFinding::ok(
                    probe::READ,
                    "",
                    "the keys are taken, and may list the bucket",
                ));
                look.findings.push(ProbeFinding::unknown(
                    probe::WRITE,
                    "",
                    "S3 tells nothing beforehand: the first write shows it",
                ));
            }
            Err(error) => {
                let error = self.failed("list the objects", &error);
                look.findings.push(probe::of_error(
                    probe::READ,
                    &error,
                    self.bucket.keys.is_some(),
                ));
            }
        }
        look
    }

    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError> {
        let action = format!("delete {}", file.name);
        let sent = self
            .sdk()
            .await
            .delete_object()
            .bucket(&self.bucket.name)
            .key(file.name.path())
            .send()
            .await;
        sent.map(drop).map_err(|error| self.failed(&action, &error))
    }
}

/// The one client, as the SDK wants it.
struct Sender(Arc<Client>);

impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sender")
    }
}

impl HttpClient for Sender {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            http: Arc::clone(&self.0),
            patience: settings
                .connect_timeout()
                .zip(settings.read_timeout())
                .map(|(connect, read)| connect + read),
        })
    }
}

struct Connector {
    http: Arc<Client>,
    /// How long the SDK waits, where it says so: it looks for credentials at addresses that only
    /// some machines answer at.
    patience: Option<Duration>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (http, patience) = (Arc::clone(&self.http), self.patience);
        HttpConnectorFuture::new(async move {
            let request = relayed(&request)
                .ok_or_else(|| ConnectorError::user("the request cannot be sent".into()))?;
            let sent = async {
                let answer = http
                    .send_signed(request)
                    .await
                    .map_err(|error| ConnectorError::other(error.into(), None))?;
                response(answer)
                    .ok_or_else(|| ConnectorError::user("the answer cannot be read".into()))
            };
            match patience {
                Some(patience) => tokio::time::timeout(patience, sent)
                    .await
                    .map_err(|error| ConnectorError::timeout(error.into()))?,
                None => sent.await,
            }
        })
    }
}

fn relayed(request: &HttpRequest) -> Option<SignedRequest> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        // Those that the client sets by itself, to the same.
        if !matches!(name, "host" | "content-length") {
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            headers.append(HeaderName::try_from(name).ok()?, value);
        }
    }
    Some(SignedRequest {
        method: Method::try_from(request.method()).ok()?,
        url: Url::parse(request.uri()).ok()?,
        headers,
        body: Bytes::copy_from_slice(request.body().bytes()?),
        kind: OBJECTS,
        limit: LARGEST_FILE,
    })
}

fn response(answer: http::Response) -> Option<HttpResponse> {
    let mut response = HttpResponse::new(
        StatusCode::try_from(answer.status.as_u16()).ok()?,
        SdkBody::from(answer.body),
    );
    for (name, value) in &answer.headers {
        if let Ok(value) = value.to_str() {
            response
                .headers_mut()
                .try_append(name.as_str().to_owned(), value.to_owned())
                .ok()?;
        }
    }
    Some(response)
}
