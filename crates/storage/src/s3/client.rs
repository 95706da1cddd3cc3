//! Single requests to S3, each tried once.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use jiff::Timestamp;
use md5::{Digest, Md5};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpRequestBody, HttpResponse, HttpService};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Extensions, GetOptions, GetRange, ObjectMeta, ObjectStore, PutMultipartOptions, RetryConfig, TagSet,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::settings::{S3Settings, ServerEncryption, header};
use super::{credentials, document, failure};
use crate::error::ErrorKind;
use crate::network::{AnswerLimit, Failure, Transport};

/// The most objects that S3 deletes in one request.
pub(super) const DELETED_AT_ONCE: usize = 1000;
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// How names are written in addresses and signatures; slashes stay.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// How values are written in the query of addresses.
const VALUE: &AsciiSet = &NAME.add(b'/');

/// What S3 says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

/// One page of a listing, with whole names.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Meta)>,
    pub(super) directories: Vec<String>,
    pub(super) next: Option<String>,
}

/// A client of one bucket.
#[derive(Debug)]
pub(super) struct S3Client {
    store: AmazonS3,
    transport: Transport,
    credentials: AwsCredentialProvider,
    bucket_url: String,
    region: String,
    requester_pays: bool,
    tags: TagSet,
    /// What a request says that writes an object, or a part of one.
    of_object: HeaderMap,
    of_part: HeaderMap,
}

impl S3Client {
    pub(super) fn new(settings: &S3Settings) -> Result<Self, Failure> {
        settings.check()?;
        let transport = Transport::new(&settings.route())?;
        let credentials = credentials::provider(&settings.credentials, &settings.trust, settings.io_timeout)?;
        let bucket_url = settings.bucket_url();
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            // The address is the bucket's, whatever the style.
            .with_endpoint(&bucket_url)
            .with_virtual_hosted_style_request(true)
            .with_credentials(Arc::clone(&credentials))
            .with_request_payer(settings.requester_pays)
            .with_http_connector(transport.clone())
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let builder = match &settings.encryption {
            ServerEncryption::Default => builder,
            ServerEncryption::ManagedKey(key) => builder.with_sse_kms_encryption(key),
            ServerEncryption::CustomerKey(key) => builder.with_ssec_encryption(key.expose()),
        };
        // The message may quote a key.
        let store = builder.build().map_err(|_| Failure::new(ErrorKind::Settings, "its options don't make sense"))?;
        let mut tags = TagSet::default();
        for (name, value) in &settings.tags {
            tags.push(name, value);
        }
        let mut of_object = settings.encryption.headers_of_object()?;
        if !tags.is_empty() {
            of_object.insert("x-amz-tagging", header(tags.encoded())?);
        }
        Ok(Self {
            store,
            transport,
            credentials,
            bucket_url,
            region: settings.region.clone(),
            requester_pays: settings.requester_pays,
            tags,
            of_object,
            of_part: settings.encryption.headers_of_part()?,
        })
    }

    /// What is known of an object; proven absent for `None`.
    ///
    /// Asked by reading its first byte: an answer to `HEAD` has no body, which alone could say what is missing, the
    /// object, the bucket or S3.
    pub(super) async fn head(&self, path: &Path) -> Result<Option<Meta>, Failure> {
        match self.read(path, Some(GetRange::Bounded(0..1)), 1).await {
            Ok(part) => Ok(Some(part.meta)),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            // It has no first byte.
            Err(failure) if failure.kind == ErrorKind::TooShort => self.head_of_empty(path).await.map(Some),
            Err(failure) => Err(failure),
        }
    }

    async fn head_of_empty(&self, path: &Path) -> Result<Meta, Failure> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.store.get_opts(path, options).await.map_err(|error| failure::of_store(&error))?;
        Ok(meta(&found.meta))
    }

    /// Reads an object or a range of it, at most `limit` bytes.
    pub(super) async fn read(&self, path: &Path, range: Option<GetRange>, limit: u64) -> Result<Part, Failure> {
        let mut extensions = Extensions::new();
        extensions.insert(AnswerLimit(limit));
        let options = GetOptions { range, extensions, ..GetOptions::default() };
        let found = self.store.get_opts(path, options).await.map_err(|error| failure::of_store(&error))?;
        let (meta, range) = (meta(&found.meta), found.range.clone());
        let bytes = found.bytes().await.map_err(|error| failure::of_store(&error))?;
        if bytes.len() as u64 != range.end - range.start {
            let reason = format!("the answer has {} bytes where it announced {range:?}", bytes.len());
            return Err(Failure::new(ErrorKind::Unavailable, reason).retry(crate::network::Retry::Later));
        }
        Ok(Part { bytes, meta })
    }

    /// Writes an object, if it is absent or whatever is there.
    pub(super) async fn put(&self, path: &Path, bytes: Bytes, only_if_absent: bool) -> Result<(), Failure> {
        let mut headers = self.of_object.clone();
        if only_if_absent {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        headers.insert(CONTENT_MD5, checksum(&bytes));
        self.ask(Method::PUT, Some(path), &[], headers, bytes).await.map(drop)
    }

    /// One page of the names that begin with `prefix`, from the one that `token` stands for.
    pub(super) async fn list(&self, prefix: &str, by_directory: bool, token: Option<String>) -> Result<Page, Failure> {
        let options = PaginatedListOptions {
            delimiter: by_directory.then_some("/".into()),
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let page = self.store.list_paginated(prefix, options).await.map_err(|error| failure::of_store(&error))?;
        let object = |object: ObjectMeta| (object.location.to_string(), meta(&object));
        Ok(Page {
            objects: page.result.objects.into_iter().map(object).collect(),
            directories: page.result.common_prefixes.iter().map(ToString::to_string).collect(),
            next: page.page_token,
        })
    }

    /// Deletes an object, absent or not.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), Failure> {
        match self.ask(Method::DELETE, Some(path), &[], HeaderMap::new(), Bytes::new()).await {
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Deletes objects in one request, at most [`DELETED_AT_ONCE`], absent or not.
    pub(super) async fn delete_all(&self, paths: &[Path]) -> Result<(), Failure> {
        let document = Bytes::from(document::deletion(paths.iter().map(Path::as_ref)));
        let headers = HeaderMap::from_iter([(CONTENT_MD5, checksum(&document))]);
        let answer = self.ask(Method::POST, None, &[("delete", "")], headers, document).await?;
        match document::deletion_errors(&answer)?.into_iter().next() {
            None => Ok(()),
            Some(error) => Err(failure::of_one(&error)),
        }
    }

    /// The uploads in parts below `prefix` that are neither finished nor given up, a thousand at most: names and ids.
    pub(super) async fn uploads(&self, prefix: &str) -> Result<Vec<(Path, String)>, Failure> {
        let query = [("uploads", ""), ("prefix", prefix)];
        let answer = self.ask(Method::GET, None, &query, HeaderMap::new(), Bytes::new()).await?;
        let uploads = document::uploads(&answer)?.into_iter();
        Ok(uploads.filter_map(|(name, id)| Some((Path::parse(name).ok()?, id))).collect())
    }

    /// Begins an upload in parts; gives its id.
    pub(super) async fn begin_upload(&self, path: &Path) -> Result<String, Failure> {
        let options = PutMultipartOptions { tags: self.tags.clone(), ..PutMultipartOptions::default() };
        self.store.create_multipart_opts(path, options).await.map_err(|error| failure::of_store(&error))
    }

    /// Sends one part, counted from 0; gives what the service calls it.
    pub(super) async fn put_part(&self, path: &Path, id: &str, index: usize, bytes: Bytes) -> Result<String, Failure> {
        let mut headers = self.of_part.clone();
        headers.insert(CONTENT_MD5, checksum(&bytes));
        let number = (index + 1).to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", id)];
        let answer = self.send(Method::PUT, Some(path), &query, headers, bytes).await?;
        let name = answer.headers().get(ETAG).and_then(|name| name.to_str().ok());
        name.map(ToOwned::to_owned).ok_or_else(|| failure::not_s3("it does not name the part"))
    }

    /// Makes an object of the parts.
    pub(super) async fn complete_upload(
        &self,
        path: &Path,
        id: &str,
        parts: &[String],
        only_if_absent: bool,
    ) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        if only_if_absent {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let document = document::completion(parts);
        self.ask(Method::POST, Some(path), &[("uploadId", id)], headers, document.into()).await.map(drop)
    }

    /// Gives up an upload in parts.
    pub(super) async fn abort_upload(&self, path: &Path, id: &str) -> Result<(), Failure> {
        self.store.abort_multipart(path, &id.to_owned()).await.map_err(|error| failure::of_store(&error))
    }

    /// A request that the store does not offer, on an object or on the bucket.
    async fn ask(
        &self,
        method: Method,
        path: Option<&Path>,
        query: &[(&str, &str)],
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let answer = self.send(method, path, query, headers, body).await?;
        Ok(answer.into_body().collect().await.map_err(|error| failure::of_http(&error))?.to_bytes())
    }

    async fn send(
        &self,
        method: Method,
        path: Option<&Path>,
        query: &[(&str, &str)],
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<HttpResponse, Failure> {
        let request = self.signed(method, path, query, headers, body).await?;
        self.transport.call(request).await.map_err(|error| failure::of_http(&error))
    }

    async fn signed(
        &self,
        method: Method,
        path: Option<&Path>,
        query: &[(&str, &str)],
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<HttpRequestBody>, Failure> {
        let path = path.map_or_else(String::new, |path| format!("/{}", utf8_percent_encode(path.as_ref(), NAME)));
        let query = query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, VALUE)));
        let query: Vec<_> = query.collect();
        let question = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{question}{}", self.bucket_url, query.join("&"));
        let invalid = |what: &str| Failure::new(ErrorKind::Invalid, what.to_owned());
        let length = HeaderValue::from(body.len());
        let request = Request::builder().method(method).uri(url).body(HttpRequestBody::from(body));
        let mut request = request.map_err(|_| invalid("its name makes no valid address"))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(CONTENT_LENGTH, length);
        let credential = self.credentials.get_credential().await.map_err(|error| failure::of_store(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_request_payer(self.requester_pays)
            .try_authorize(&mut request, None)
            .map_err(|_| invalid("the request can't be signed"))?;
        Ok(request)
    }
}

/// An object or a range of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// Of the whole object.
    pub(super) meta: Meta,
}

/// What S3 wants to see of an object for a bucket with Object Lock, and of a request to delete several: of its checksums
/// the one that every service knows.
fn checksum(bytes: &Bytes) -> HeaderValue {
    let checksum = BASE64_STANDARD.encode(Md5::digest(bytes));
    HeaderValue::from_str(&checksum).expect("base64 is ASCII")
}

/// In whole seconds, as not all answers have more.
fn meta(object: &ObjectMeta) -> Meta {
    let modified = Timestamp::from_second(object.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH);
    Meta { size: object.size, modified }
}
