//! A record store in a bucket of AWS S3 or of a compatible server.
//!
//! The AWS SDK finds credentials, signs requests and parses responses. The crate's HTTP client
//! sends the requests and retries them as for every other host; the SDK's own retries are off.
//! Conditional writes are not used: not all servers support them, and no name is written twice.

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
use futures_util::{StreamExt, stream};
use tokio::sync::OnceCell;

use super::probe;
use super::{
    FileListing, FileName, FileStream, ListedFile, MAX_FILE_SIZE, PackageScope, RecordStore,
};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::header::{HeaderMap, HeaderName, HeaderValue};
use crate::http::{self, Client, Method, RequestKind, SignedRequest, Url};
use crate::model::Secret;
use crate::model::media_type;
use crate::model::text::excerpt;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport};

/// Kind of these requests in logs and limits.
const OBJECTS: RequestKind = RequestKind("objects");

/// Region if neither the configuration nor the profile names one.
const DEFAULT_REGION: Region = Region::from_static("us-east-1");

/// Maximum number of pages of a listing. Each page has up to 1,000 objects.
const MAX_PAGES: usize = 10_000;

/// Location of a bucket, and the access key for it.
#[derive(Clone, Debug)]
pub struct S3Bucket {
    /// URL of a server other than AWS.
    pub endpoint: Option<Url>,
    pub name: String,
    /// Region; empty for that of the profile.
    pub region: String,
    /// Access key; `None` to use the credentials that the SDK finds (variables, profiles, single
    /// sign-on, web identities, container and instance metadata).
    pub keys: Option<S3Keys>,
}

/// A configured access key.
#[derive(Clone, Debug)]
pub struct S3Keys {
    pub id: String,
    pub secret: Secret,
    pub session_token: Option<Secret>,
}

/// Size of the parts that a file is read in, in bytes.
const PART_SIZE: u64 = 1024 * 1024;

/// Record store in a bucket: `<prefix>/records/<repository>/<file>`.
#[derive(Clone)]
pub struct S3Files {
    http: Arc<Client>,
    bucket: S3Bucket,
    /// True if URLs have the bucket in their path; `None` for the default.
    path_style: Option<bool>,
    sdk: Arc<OnceCell<Sdk>>,
}

impl S3Files {
    /// Returns the store in `bucket`. Requests are sent by `http`. Credentials are resolved with
    /// the first request.
    pub fn new(http: Arc<Client>, bucket: S3Bucket) -> S3Files {
        S3Files {
            http,
            bucket,
            path_style: None,
            sdk: Arc::default(),
        }
    }

    /// Sets whether URLs have the bucket in their path, or in the name of the host. By default, they
    /// have it in the path at servers other than AWS.
    #[must_use]
    pub fn with_path_style(self, path_style: Option<bool>) -> S3Files {
        S3Files { path_style, ..self }
    }

    async fn sdk(&self) -> &Sdk {
        self.sdk
            .get_or_init(|| async {
                let S3Bucket {
                    endpoint,
                    region,
                    keys,
                    ..
                } = &self.bucket;
                let http = SharedHttpClient::new(SdkHttpClient(Arc::clone(&self.http)));
                let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
                if !region.is_empty() {
                    loader = loader.region(Region::new(region.clone()));
                }
                let loader = match keys {
                    Some(keys) => loader.credentials_provider(keys.credentials()),
                    None => loader,
                };
                let shared = loader.load().await;
                let mut config = aws_sdk_s3::config::Builder::from(&shared)
                    .region(shared.region().cloned().unwrap_or(DEFAULT_REGION))
                    .retry_config(RetryConfig::disabled())
                    // Most servers other than AWS do not support checksums in trailers.
                    .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                    .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
                if let Some(endpoint) = endpoint {
                    config = config.endpoint_url(endpoint.as_str());
                }
                let is_in_path = self.path_style.unwrap_or(endpoint.is_some());
                let config = config.force_path_style(is_in_path);
                Sdk::from_conf(config.build())
            })
            .await
    }

    /// Returns the part of a file that begins at `offset`, which is empty at its end; `None` if the
    /// file does not exist. Servers that ignore ranges return the whole file.
    async fn part(&self, file: &FileName, offset: u64) -> Result<Option<Bytes>, ItemError> {
        let action = format!("read {file}");
        let request = self
            .sdk()
            .await
            .get_object()
            .bucket(&self.bucket.name)
            .key(file.path())
            .range(format!("bytes={offset}-{}", offset + PART_SIZE - 1));
        match request.send().await {
            Ok(object) => match object.body.collect().await {
                Ok(content) => Ok(Some(content.into_bytes())),
                Err(error) => {
                    Err(
                        ItemError::new(self.name(), action, ItemErrorKind::Malformed, "")
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
            Err(error) if error.code() == Some("InvalidRange") => Ok(Some(Bytes::new())),
            Err(error) => Err(self.failed(&action, &error)),
        }
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
        // A request that failed below the SDK.
        if let Some(error) = transport.and_then(|error| error.downcast_ref::<http::Error>()) {
            return error.to_item(self.name(), action);
        }
        let kind = match (error, status) {
            (SdkError::ServiceError(_), Some(200..300)) => ItemErrorKind::Malformed,
            (SdkError::ServiceError(_), Some(401)) => ItemErrorKind::Unauthorized,
            (SdkError::ServiceError(_), Some(400 | 403 | 404))
                if REJECTED_KEY_CODES.contains(&code) =>
            {
                ItemErrorKind::Unauthorized
            }
            (SdkError::ServiceError(_), Some(403)) => ItemErrorKind::Forbidden,
            (SdkError::ServiceError(_), Some(404)) if code == NO_SUCH_BUCKET => {
                ItemErrorKind::Absent
            }
            (SdkError::ServiceError(_), Some(429 | 500..)) => ItemErrorKind::ServerError,
            (SdkError::ServiceError(_), _) => ItemErrorKind::Refused,
            (SdkError::ResponseError(_), _) => ItemErrorKind::Malformed,
            // The request was not sent: there are no credentials to sign it with.
            (SdkError::DispatchFailure(_), _) => ItemErrorKind::Unauthorized,
            _ => ItemErrorKind::Unreachable,
        };
        let is_unsigned = matches!(error, SdkError::DispatchFailure(_));
        let detail = match (code, error.message()) {
            ("", _) if is_unsigned && self.bucket.keys.is_none() => {
                "the AWS SDK found no credentials to sign the request with".to_owned()
            }
            ("", _) => chain(error),
            (code, None) => code.to_owned(),
            (code, Some(message)) => format!("{code}: {message}"),
        };
        // Messages of the SDK can have several lines.
        let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        ItemError::new(self.name(), action, kind, excerpt(&detail, 500))
            .with_optional_hint(self.hint(kind, code))
    }

    fn hint(&self, kind: ItemErrorKind, code: &str) -> Option<String> {
        let bucket = &self.bucket.name;
        match kind {
            ItemErrorKind::Unauthorized => Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for a temporary key), or provide credentials in \
                 another way that the AWS SDK supports (a profile, a role of the job or machine)"
                    .to_owned(),
            ),
            ItemErrorKind::Forbidden => Some(format!(
                "the access key needs s3:ListBucket on the bucket {bucket}, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
            )),
            ItemErrorKind::Absent => Some(format!("create the bucket {bucket}, or correct `registry.bucket`")),
            ItemErrorKind::Refused if code.is_empty() => Some(
                "check `registry.url`: the server does not respond as an S3 service does".to_owned(),
            ),
            ItemErrorKind::Refused
                if matches!(code, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") =>
            {
                Some(format!("the bucket {bucket} may be in another region than {}: set `registry.region`", self.bucket.region))
            }
            _ => None,
        }
    }
}

/// Error codes for an access key, or a signature with it, that the server rejected.
const REJECTED_KEY_CODES: [&str; 8] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidClientTokenId",
    "XAdminUserNotFound",
    "NoSuchAccessKey",
];

/// Error code for a bucket that does not exist. Other errors have the status 404 too.
const NO_SUCH_BUCKET: &str = "NoSuchBucket";

impl S3Keys {
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
impl RecordStore for S3Files {
    fn name(&self) -> String {
        match &self.bucket.endpoint {
            Some(endpoint) => format!(
                "{}/{}",
                endpoint.as_str().trim_end_matches('/'),
                self.bucket.name
            ),
            None if self.bucket.region.is_empty() => format!("s3://{}", self.bucket.name),
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
                        ItemError::new(self.name(), action, ItemErrorKind::Malformed, "")
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

    async fn open(&self, file: &FileName) -> Result<Option<FileStream>, ItemError> {
        let Some(first) = self.part(file, 0).await? else {
            return Ok(None);
        };
        let (store, file) = (self.clone(), file.clone());
        let parts = stream::try_unfold((0, Some(first)), move |(offset, part)| {
            let (store, file) = (store.clone(), file.clone());
            async move {
                let part = match part {
                    Some(part) => Some(part),
                    None => store.part(&file, offset).await?,
                };
                let Some(part) = part.filter(|part| !part.is_empty()) else {
                    return Ok(None);
                };
                // A shorter part is the last one, a longer one is the whole object: the server
                // ignores ranges.
                let next = offset + part.len() as u64;
                let rest = (part.len() as u64 != PART_SIZE).then(Bytes::new);
                Ok(Some((part, (next, rest))))
            }
        });
        Ok(Some(parts.boxed()))
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        const LIST: &str = "list the objects";
        let malformed =
            |detail: &str| ItemError::new(self.name(), LIST, ItemErrorKind::Malformed, detail);
        let (directory, mut listing, mut token) = (scope.directory(), FileListing::default(), None);
        for _ in 0..MAX_PAGES {
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
                // Web consoles create objects that represent directories.
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
                (true, None) => {
                    return Err(malformed(
                        "the listing is incomplete and has no continuation token",
                    ));
                }
                (true, Some(_)) => {}
            }
        }
        Err(malformed("the listing has no end"))
    }

    async fn probe(&self, _: ProbeCredential) -> ProbeReport {
        let mut report = ProbeReport::default();
        if let Some(endpoint) = &self.bucket.endpoint
            && let Some(host) = http::host_of(endpoint)
        {
            match self.http.inspect(&host, "/").await {
                Ok(answer) => {
                    report.clock_offset = self.http.clock_offset(&answer);
                    report
                        .findings
                        .push(ProbeFinding::ok(probe::REACHABLE, "", "responds"));
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
                report.findings.push(ProbeFinding::ok(
                    probe::READ,
                    "",
                    "the access key is valid and may list the bucket",
                ));
                report.findings.push(ProbeFinding::unknown(
                    probe::WRITE,
                    "",
                    "S3 does not report write permission before a write",
                ));
            }
            Err(error) => {
                let error = self.failed("list the objects", &error);
                report.findings.push(probe::of_error(
                    probe::READ,
                    &error,
                    self.bucket.keys.is_some(),
                ));
            }
        }
        report
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
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

/// Adapter of the crate's HTTP client for the SDK.
struct SdkHttpClient(Arc<Client>);

impl fmt::Debug for SdkHttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SdkHttpClient")
    }
}

impl HttpClient for SdkHttpClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(SdkConnector {
            http: Arc::clone(&self.0),
            timeout: settings
                .connect_timeout()
                .zip(settings.read_timeout())
                .map(|(connect, read)| connect + read),
        })
    }
}

/// Connector that sends requests of the SDK with one timeout.
struct SdkConnector {
    http: Arc<Client>,
    /// Timeout that the SDK sets. It searches credentials at addresses that respond on some
    /// machines only.
    timeout: Option<Duration>,
}

impl fmt::Debug for SdkConnector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SdkConnector")
    }
}

impl HttpConnector for SdkConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (http, timeout) = (Arc::clone(&self.http), self.timeout);
        HttpConnectorFuture::new(async move {
            let request = relayed(&request)
                .ok_or_else(|| ConnectorError::user("the request cannot be sent".into()))?;
            let sent = async {
                let answer = http
                    .send_signed(request)
                    .await
                    .map_err(|error| ConnectorError::other(error.into(), None))?;
                response(answer)
                    .ok_or_else(|| ConnectorError::user("the response is malformed".into()))
            };
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, sent)
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
        // The client sets these two headers itself, to the same values.
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
        limit: MAX_FILE_SIZE,
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
