//! Client of the endoflife.date API.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::api::{self, Identifier};
use super::purl::is_of_images;
use crate::cache::Cache;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use crate::http::{
    self, AuthMode, Client, Method, Request, RequestAccess, RequestKind, RequestTarget, StatusCode,
    Url,
};
use crate::model::eol::Cycle;
use crate::model::lifecycle::{Product, ProductName};
use crate::model::media_type;
use crate::model::{Host, Repository};

/// Limit of a response, in bytes. The largest product has 200 kB, the list of identifiers about as
/// much.
const MAX_RESPONSE: usize = 3 << 20;

const REQUEST_KIND: RequestKind = RequestKind("end-of-life data");

/// A source of release cycles.
#[async_trait]
pub trait Products: Send + Sync {
    /// Returns the release cycles of a product; at least one.
    ///
    /// Fails with [`ItemErrorKind::Untracked`] if no product has the images of a
    /// [`Product::OfImages`], which is not a fault.
    async fn cycles(&self, product: &Product) -> Result<Vec<Cycle>, ItemError>;
}

/// Reason why the API returned no cycles, for the decision which request follows.
#[derive(Debug)]
enum LookupError {
    /// No product has the name.
    NoProduct,
    /// No product has the images of the repository.
    NoProductOfImages,
    /// Several products have the images of the repository.
    Ambiguous(String),
    Http(http::Error),
    /// The response for a path is malformed.
    Malformed(String, serde_json::Error),
    /// The response for a path has no release cycle.
    NoCycle(String),
    /// The list of identifiers could not be read.
    Identifiers(Arc<LookupError>),
}

impl LookupError {
    /// Returns true if the requested path does not exist.
    fn is_absence(&self) -> bool {
        match self {
            LookupError::Http(error) => matches!(
                error.status(),
                Some(StatusCode::NOT_FOUND | StatusCode::GONE)
            ),
            _ => false,
        }
    }

    /// Returns true if the other version of the API may exist where this one does not.
    fn is_for_the_other_version(&self) -> bool {
        self.is_absence() || matches!(self, LookupError::Malformed(..) | LookupError::NoCycle(_))
    }

    /// Returns the error of reading the cycles of `product` from `host`.
    fn to_item(&self, host: &Host, product: &Product) -> ItemError {
        let operation = match product {
            Product::Named(name) => format!("read product {name}"),
            Product::OfImages(images) => format!("find the product of {images}"),
        };
        let error = |kind, cause: &str| ItemError::new(host.as_str(), &*operation, kind, cause);
        let name_product = "set `product` in the `lifecycle` of the image";
        match self {
            LookupError::NoProduct => error(ItemErrorKind::Absent, "no product has this name")
                .with_hint(
                    "products have the name of their page on endoflife.date, as in `alpine-linux`",
                ),
            LookupError::NoProductOfImages => {
                error(ItemErrorKind::Untracked, "no product has these images")
                    .with_hint(name_product)
            }
            LookupError::Ambiguous(products) => error(
                ItemErrorKind::Other,
                &format!("several products have these images: {products}"),
            )
            .with_hint(name_product),
            LookupError::Http(error) => error.to_item(host.as_str(), operation),
            LookupError::Malformed(path, cause) => error(
                ItemErrorKind::Malformed,
                &format!("the response is malformed: {cause}"),
            )
            .with_request(format!("GET {path}")),
            LookupError::NoCycle(path) => error(
                ItemErrorKind::Malformed,
                "the response has no release cycle",
            )
            .with_request(format!("GET {path}")),
            LookupError::Identifiers(error) => error.to_item(host, product),
        }
    }
}

impl From<http::Error> for LookupError {
    fn from(error: http::Error) -> LookupError {
        LookupError::Http(error)
    }
}

/// The endoflife.date API, or a copy of it.
pub struct EndOfLifeDate {
    http: Arc<Client>,
    host: Host,
    address: Url,
    cache: Cache,
    identifiers: OnceCell<Result<Vec<Identifier>, Arc<LookupError>>>,
}

impl EndOfLifeDate {
    /// Returns a client of the API at `address` on `host`. Responses are stored in `cache` with
    /// their entity tag, by which a later run revalidates them.
    pub fn new(http: Arc<Client>, host: Host, address: Url, cache: Cache) -> EndOfLifeDate {
        EndOfLifeDate {
            http,
            host,
            address,
            cache,
            identifiers: OnceCell::new(),
        }
    }

    /// Returns the cycles of the product with a name. The API redirects from aliases and former
    /// names.
    async fn named(&self, name: &ProductName) -> Result<Vec<Cycle>, LookupError> {
        let error = match self
            .cycles_at(&format!("/v1/products/{name}"), api::product)
            .await
        {
            Err(error) if error.is_for_the_other_version() => error,
            result => return result,
        };
        match self
            .cycles_at(&format!("/{name}.json"), api::product_v0)
            .await
        {
            Err(other) if other.is_absence() && error.is_absence() => Err(LookupError::NoProduct),
            Err(other) if other.is_for_the_other_version() => Err(error),
            result => result,
        }
    }

    async fn cycles_at(
        &self,
        path: &str,
        parse: ResponseParser<Vec<Cycle>>,
    ) -> Result<Vec<Cycle>, LookupError> {
        let cycles = self.get(path, parse).await?;
        if cycles.is_empty() {
            Err(LookupError::NoCycle(self.path(path)))
        } else {
            Ok(cycles)
        }
    }

    /// Returns the cycles of the product that the images of a repository contain. The product is
    /// found by the package URL of the images, or else by the last part of their name.
    async fn of_images(&self, images: &Repository) -> Result<Vec<Cycle>, LookupError> {
        let identifiers = self
            .identifiers
            .get_or_init(|| self.read_identifiers())
            .await;
        let identifiers = identifiers
            .as_ref()
            .map_err(|error| LookupError::Identifiers(Arc::clone(error)))?;
        let of_images = identifiers
            .iter()
            .filter(|identifier| is_of_images(&identifier.identifier, images));
        let products: BTreeSet<&str> = of_images
            .map(|identifier| identifier.product.as_str())
            .collect();
        let image = images.to_string();
        let name = match products.iter().copied().collect::<Vec<_>>().as_slice() {
            [] => image.rsplit('/').next().unwrap_or_default(),
            [product] => product,
            several => {
                return Err(LookupError::Ambiguous(several.join(", ")));
            }
        };
        let name: ProductName = name.parse().map_err(|_| LookupError::NoProductOfImages)?;
        match self.named(&name).await {
            Err(LookupError::NoProduct) => Err(LookupError::NoProductOfImages),
            result => result,
        }
    }

    /// Returns the package URLs of all products; none if the API has no such list.
    async fn read_identifiers(&self) -> Result<Vec<Identifier>, Arc<LookupError>> {
        match self.get("/v1/identifiers/purl", api::identifiers).await {
            // Copies of the API may have products only.
            Err(error) if error.is_for_the_other_version() => Ok(Vec::new()),
            result => result.map_err(Arc::new),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address.as_str().trim_end_matches('/'))
    }

    /// Returns `path` after the path of the API's address.
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.address.path().trim_end_matches('/'))
    }

    /// Returns the resource at `path`, from the cache if the API responds that it has not changed.
    async fn get<T>(&self, path: &str, parse: ResponseParser<T>) -> Result<T, LookupError> {
        let url = self.url(path);
        let cached = self
            .cache
            .get("endoflife", &url)
            .and_then(|text| CachedResponse::parse(&text, parse));
        let target = RequestTarget::Path(self.path(path));
        let mut request = Request::new(
            Method::GET,
            &self.host,
            target,
            REQUEST_KIND,
            RequestAccess::default(),
        )
        .header(ACCEPT, HeaderValue::from_static(media_type::JSON));
        if let Some(cached) = &cached {
            request = request.header(IF_NONE_MATCH, cached.entity_tag.clone());
        }
        request.limit = MAX_RESPONSE;
        request.auth_mode = AuthMode::Never;
        let answer = match (self.http.send(request).await, cached) {
            (Err(error), Some(cached)) if error.status() == Some(StatusCode::NOT_MODIFIED) => {
                return Ok(cached.value);
            }
            (result, _) => result?,
        };
        let value =
            parse(&answer.body).map_err(|error| LookupError::Malformed(self.path(path), error))?;
        if let (Some(entity_tag), Ok(body)) = (
            answer.header(ETAG.as_str()),
            std::str::from_utf8(&answer.body),
        ) {
            self.cache
                .put("endoflife", &url, &format!("{entity_tag}\n{body}"));
        }
        Ok(value)
    }
}

/// Function that parses the body of a response.
type ResponseParser<T> = fn(&[u8]) -> Result<T, serde_json::Error>;

/// Response of an earlier run.
struct CachedResponse<T> {
    entity_tag: HeaderValue,
    value: T,
}

impl<T> CachedResponse<T> {
    /// Parses a file of the cache: the entity tag in the first line, then the body. Returns `None`
    /// if it is malformed.
    fn parse(text: &str, parse: ResponseParser<T>) -> Option<CachedResponse<T>> {
        let (entity_tag, body) = text.split_once('\n')?;
        Some(CachedResponse {
            entity_tag: entity_tag.parse().ok()?,
            value: parse(body.as_bytes()).ok()?,
        })
    }
}

#[async_trait]
impl Products for EndOfLifeDate {
    async fn cycles(&self, product: &Product) -> Result<Vec<Cycle>, ItemError> {
        let cycles = match product {
            Product::Named(name) => self.named(name).await,
            Product::OfImages(images) => self.of_images(images).await,
        };
        cycles.map_err(|error| error.to_item(&self.host, product))
    }
}
