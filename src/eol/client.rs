//! Asking endoflife.date.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::OnceCell;

use super::api::{self, Identifier};
use super::purl::is_of_images;
use crate::cache::Cache;
use crate::http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use crate::http::{
    self, AuthMode, Client, Method, Request, RequestAccess, RequestKind, RequestTarget, StatusCode,
    Url,
};
use crate::model::eol::Cycle;
use crate::model::lifecycle::{Product, ProductName};
use crate::model::media_type;
use crate::model::{Host, Repository};

/// The largest answer that is read, in bytes. The longest of a product has 200 kB, the list of
/// identifiers about as much.
const LARGEST_ANSWER: usize = 3 << 20;

const LOOK_UP: RequestKind = RequestKind("end-of-life data");

/// Who knows the cycles of products.
#[async_trait]
pub trait Products: Send + Sync {
    /// Returns the cycles of a product; at least one.
    async fn cycles(&self, product: &Product) -> Result<Vec<Cycle>, ProductError>;
}

/// Why the cycles of a product are not known.
#[derive(Debug, Error)]
pub enum ProductError {
    #[error("{host} knows no product `{product}`")]
    NoProduct { host: Host, product: ProductName },
    #[error("{host} knows no product of these images")]
    NoProductOfImages { host: Host },
    #[error("{images} could be any of the products {products}")]
    Ambiguous {
        images: Repository,
        products: String,
    },
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error("the answer of {url} is not understood")]
    Malformed {
        url: String,
        source: serde_json::Error,
    },
    #[error("the answer of {url} names no release cycle")]
    NoCycle { url: String },
    #[error("cannot look up which product {images} is")]
    LookUp {
        images: Repository,
        source: Arc<ProductError>,
    },
}

impl ProductError {
    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            ProductError::NoProduct { .. } => Some(
                "products have the name of their page on endoflife.date, as in `alpine-linux`"
                    .to_owned(),
            ),
            ProductError::NoProductOfImages { .. } | ProductError::Ambiguous { .. } => {
                Some("name the `product` in the image's `lifecycle`".to_owned())
            }
            ProductError::Http(error) => error.hint(),
            ProductError::LookUp { source, .. } => source.hint(),
            ProductError::Malformed { .. } | ProductError::NoCycle { .. } => None,
        }
    }

    /// Returns what failed without what it failed for, when it would have failed so for any
    /// product.
    pub fn of_host(&self) -> Option<String> {
        match self {
            ProductError::Http(error) => error.of_host(),
            ProductError::LookUp { source, .. } => source.of_host(),
            _ => None,
        }
    }

    /// Returns whether this says that the images of a repository are of no known product: nothing
    /// failed.
    pub fn is_untracked(&self) -> bool {
        matches!(self, ProductError::NoProductOfImages { .. })
    }

    /// Returns whether what was asked for is not there, so that it may be elsewhere.
    fn is_absence(&self) -> bool {
        match self {
            ProductError::Http(error) => matches!(
                error.status(),
                Some(StatusCode::NOT_FOUND | StatusCode::GONE)
            ),
            _ => false,
        }
    }

    /// Returns whether the other version of the API may be there where this one is not.
    fn is_for_the_other_version(&self) -> bool {
        self.is_absence()
            || matches!(
                self,
                ProductError::Malformed { .. } | ProductError::NoCycle { .. }
            )
    }
}

/// The endoflife.date API, or a copy of it.
pub struct EndOfLifeDate {
    http: Arc<Client>,
    host: Host,
    address: Url,
    cache: Cache,
    identifiers: OnceCell<Result<Vec<Identifier>, Arc<ProductError>>>,
}

impl EndOfLifeDate {
    /// Returns the API at `address` of `host`. Answers are kept in `cache` with what tells that
    /// they are still true.
    pub fn new(http: Arc<Client>, host: Host, address: Url, cache: Cache) -> EndOfLifeDate {
        EndOfLifeDate {
            http,
            host,
            address,
            cache,
            identifiers: OnceCell::new(),
        }
    }

    /// Returns the cycles of a product by its name, an alias or one it had, which the API redirects
    /// from.
    async fn named(&self, name: &ProductName) -> Result<Vec<Cycle>, ProductError> {
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
            Err(other) if other.is_absence() && error.is_absence() => {
                Err(ProductError::NoProduct {
                    host: self.host.clone(),
                    product: name.clone(),
                })
            }
            Err(other) if other.is_for_the_other_version() => Err(error),
            result => result,
        }
    }

    async fn cycles_at(
        &self,
        path: &str,
        read: Reader<Vec<Cycle>>,
    ) -> Result<Vec<Cycle>, ProductError> {
        let cycles = self.get(path, read).await?;
        if cycles.is_empty() {
            Err(ProductError::NoCycle {
                url: self.url(path),
            })
        } else {
            Ok(cycles)
        }
    }

    /// Returns the cycles of the product that the images of a repository are of: by their package
    /// URL, else by the last part of their name.
    async fn of_images(&self, images: &Repository) -> Result<Vec<Cycle>, ProductError> {
        let identifiers = self.identifiers.get_or_init(|| self.look_up()).await;
        let identifiers = identifiers
            .as_ref()
            .map_err(|source| ProductError::LookUp {
                images: images.clone(),
                source: Arc::clone(source),
            })?;
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
                return Err(ProductError::Ambiguous {
                    images: images.clone(),
                    products: several.join(", "),
                });
            }
        };
        let none = || ProductError::NoProductOfImages {
            host: self.host.clone(),
        };
        let name: ProductName = name.parse().map_err(|_| none())?;
        match self.named(&name).await {
            Err(ProductError::NoProduct { .. }) => Err(none()),
            result => result,
        }
    }

    async fn look_up(&self) -> Result<Vec<Identifier>, Arc<ProductError>> {
        match self.get("/v1/identifiers/purl", api::identifiers).await {
            // A copy may have products only.
            Err(error) if error.is_for_the_other_version() => Ok(Vec::new()),
            result => result.map_err(Arc::new),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address.as_str().trim_end_matches('/'))
    }

    /// Returns what is at `path`, from the cache when the API says that it has not changed.
    async fn get<T>(&self, path: &str, read: Reader<T>) -> Result<T, ProductError> {
        let url = self.url(path);
        let kept = self
            .cache
            .get("endoflife", &url)
            .and_then(|text| Kept::read(&text, read));
        let target = RequestTarget::Path(format!(
            "{}{path}",
            self.address.path().trim_end_matches('/')
        ));
        let mut request = Request::new(
            Method::GET,
            &self.host,
            target,
            LOOK_UP,
            RequestAccess::default(),
        )
        .header(ACCEPT, HeaderValue::from_static(media_type::JSON));
        if let Some(kept) = &kept {
            request = request.header(IF_NONE_MATCH, kept.tag.clone());
        }
        request.limit = LARGEST_ANSWER;
        request.auth_mode = AuthMode::Never;
        let answer = match (self.http.send(request).await, kept) {
            (Err(error), Some(kept)) if error.status() == Some(StatusCode::NOT_MODIFIED) => {
                return Ok(kept.value);
            }
            (result, _) => result?,
        };
        let value = read(&answer.body).map_err(|source| ProductError::Malformed {
            url: url.clone(),
            source,
        })?;
        if let (Some(tag), Ok(body)) = (
            answer.header(ETAG.as_str()),
            std::str::from_utf8(&answer.body),
        ) {
            self.cache.put("endoflife", &url, &format!("{tag}\n{body}"));
        }
        Ok(value)
    }
}

type Reader<T> = fn(&[u8]) -> Result<T, serde_json::Error>;

/// An answer of an earlier run.
struct Kept<T> {
    tag: HeaderValue,
    value: T,
}

impl<T> Kept<T> {
    fn read(text: &str, read: Reader<T>) -> Option<Kept<T>> {
        let (tag, body) = text.split_once('\n')?;
        Some(Kept {
            tag: tag.parse().ok()?,
            value: read(body.as_bytes()).ok()?,
        })
    }
}

#[async_trait]
impl Products for EndOfLifeDate {
    async fn cycles(&self, product: &Product) -> Result<Vec<Cycle>, ProductError> {
        match product {
            Product::Named(name) => self.named(name).await,
            Product::OfImages(images) => self.of_images(images).await,
        }
    }
}
