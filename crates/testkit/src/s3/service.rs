//! S3's operations on the state.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::BodyExt;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
#[allow(clippy::wildcard_imports, reason = "the types of every operation")]
use s3s::dto::*;
use s3s::host::{S3Host, VirtualHost};
use s3s::path::S3Path;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::call::{Query, bucket_of_host};
use super::fault::Effect as Fault;
use super::objects::{Bucket, Condition, Object, hex};
use super::state::State;

/// The service: the state, and how s3s asks it.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<State>);

/// The effect of a fault on a request, which the operation itself must see to.
#[derive(Clone, Debug)]
pub(crate) struct Inject(pub(crate) Fault);

fn fault<T>(request: &S3Request<T>) -> Option<&Fault> {
    request.extensions.get().map(|Inject(fault)| fault)
}

#[async_trait]
impl S3Auth for Service {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let found = self.0.credentials(access_key);
        found.map(|found| SecretKey::from(found.secret)).ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

impl S3Host for Service {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let domain = &self.0.settings.domain;
        let whole = VirtualHost::new(domain);
        Ok(match bucket_of_host(host, domain) {
            Some(bucket) => whole.with_bucket(bucket),
            None => whole,
        })
    }
}

#[async_trait]
impl S3Access for Service {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied));
        }
        let (bucket, key) = match context.s3_path() {
            S3Path::Root => ("", ""),
            S3Path::Bucket { bucket } => (&**bucket, ""),
            S3Path::Object { bucket, key } => (&**bucket, &**key),
        };
        let action = match context.s3_op().name() {
            "GetObject" | "HeadObject" => "s3:GetObject",
            "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => "s3:PutObject",
            "ListObjectsV2" | "HeadBucket" => "s3:ListBucket",
            "ListMultipartUploads" => "s3:ListBucketMultipartUploads",
            "AbortMultipartUpload" => "s3:AbortMultipartUpload",
            "DeleteObject" => "s3:DeleteObject",
            // Each of its objects is looked at by itself.
            "DeleteObjects" => return Ok(()),
            other => panic!("'{other}' is not thought of here"),
        };
        let tags = context.headers().contains_key("x-amz-tagging");
        let tagging_denied = tags && !self.0.allows("s3:PutObjectTagging", bucket, key);
        if tagging_denied || !self.0.allows(action, bucket, key) {
            return Err(s3_error!(AccessDenied));
        }
        Ok(())
    }
}

impl Service {
    fn with_bucket<T>(&self, name: &str, act: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut buckets = self.0.buckets();
        act(buckets.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket))?)
    }

    /// An object, or what S3 says where there is none: whoever may not list is not told.
    fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let found = self.with_bucket(bucket, |bucket| Ok(bucket.get(key)))?;
        let may_know = self.0.allows("s3:ListBucket", bucket, "");
        found.ok_or_else(|| if may_know { s3_error!(NoSuchKey) } else { s3_error!(AccessDenied) })
    }

    fn has_object_lock(&self) -> bool {
        self.0.settings.object_lock
    }
}

/// The condition of a write, as far as a fault lets it count.
fn condition<T>(
    request: &S3Request<T>,
    absent: Option<&ETagCondition>,
    etag: Option<&ETagCondition>,
) -> S3Result<Condition> {
    if matches!(fault(request), Some(Fault::IgnoreConditions)) {
        return Ok(Condition::default());
    }
    if absent.is_some_and(|absent| !absent.is_any()) {
        return Err(s3_error!(NotImplemented));
    }
    let etag = etag.and_then(ETagCondition::as_etag).map(|etag| etag.value().to_owned());
    Ok(Condition { absent: absent.is_some(), etag })
}

/// The checksums that a request brings along for its body.
#[derive(Default)]
struct Sums {
    md5: Option<String>,
    crc32: Option<String>,
    crc32c: Option<String>,
    crc64nvme: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
}

macro_rules! sums {
    ($input:expr) => {
        Sums {
            md5: $input.content_md5.clone(),
            crc32: $input.checksum_crc32.clone(),
            crc32c: $input.checksum_crc32c.clone(),
            crc64nvme: $input.checksum_crc64nvme.clone(),
            sha1: $input.checksum_sha1.clone(),
            sha256: $input.checksum_sha256.clone(),
        }
    };
}

impl Sums {
    fn any(&self) -> bool {
        let Self { md5, crc32, crc32c, crc64nvme, sha1, sha256 } = self;
        [md5, crc32, crc32c, crc64nvme, sha1, sha256].into_iter().any(Option::is_some)
    }

    fn check(&self, content: &[u8]) -> S3Result<()> {
        let mut hasher = ChecksumHasher {
            crc32: self.crc32.as_ref().map(|_| s3s::crypto::Crc32::new()),
            crc32c: self.crc32c.as_ref().map(|_| s3s::crypto::Crc32c::new()),
            crc64nvme: self.crc64nvme.as_ref().map(|_| s3s::crypto::Crc64Nvme::new()),
            sha1: self.sha1.as_ref().map(|_| s3s::crypto::Sha1::new()),
            sha256: self.sha256.as_ref().map(|_| s3s::crypto::Sha256::new()),
        };
        hasher.update(content);
        let real = hasher.finalize();
        let md5 = self.md5.as_ref().map(|_| BASE64.encode(Md5::checksum(content)));
        let right = md5 == self.md5
            && real.checksum_crc32 == self.crc32
            && real.checksum_crc32c == self.crc32c
            && real.checksum_crc64nvme == self.crc64nvme
            && real.checksum_sha1 == self.sha1
            && real.checksum_sha256 == self.sha256;
        if right { Ok(()) } else { Err(s3_error!(BadDigest)) }
    }
}

/// Reads the body of a write and checks what the request says of it.
async fn receive(body: Option<StreamingBlob>, sums: Sums, must_have_sum: bool) -> S3Result<Object> {
    if must_have_sum && !sums.any() {
        return Err(s3_error!(
            InvalidRequest,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        ));
    }
    let content = match body {
        Some(body) => Body::from(body).collect().await.map_err(|_| s3_error!(IncompleteBody))?.to_bytes(),
        None => Bytes::new(),
    };
    sums.check(&content)?;
    Ok(Object::new(content))
}

/// What the token of a listing stands for, and back. It is not the name itself, so that nobody can do without it.
fn token(cursor: &str) -> String {
    hex(cursor.as_bytes())
}

fn cursor(token: &str) -> S3Result<String> {
    let digits = token.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Option<Vec<u8>> = digits.collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| s3_error!(InvalidArgument))
}

/// As a name stands in a listing with `encoding-type=url`.
fn encode(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(escape).collect()
}

fn size(object: &Object) -> i64 {
    i64::try_from(object.content.len()).expect("it is in memory")
}

fn modified(object: &Object) -> Timestamp {
    std::time::SystemTime::from(object.modified).into()
}

#[async_trait]
impl S3 for Service {
    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.with_bucket(&request.input.bucket, |_| Ok(()))?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { bucket, key, range, .. } = &request.input;
        let object = self.object(bucket, key)?;
        let whole = object.content.len() as u64;
        let (content, content_range) = match range {
            None => (object.content.clone(), None),
            Some(_) if whole == 0 => return Err(s3_error!(InvalidRange)),
            Some(range) => {
                let part = range.check(whole)?;
                let content_range = format!("bytes {}-{}/{whole}", part.start, part.end - 1);
                let index = |position: u64| usize::try_from(position).expect("it is in memory");
                (object.content.slice(index(part.start)..index(part.end)), Some(content_range))
            }
        };
        let status = content_range.as_ref().map(|_| hyper::StatusCode::PARTIAL_CONTENT);
        let output = GetObjectOutput {
            content_length: Some(i64::try_from(content.len()).expect("it is in memory")),
            body: Some(Body::from(content).into()),
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            last_modified: Some(modified(&object)),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            ..GetObjectOutput::default()
        };
        Ok(S3Response { status, ..S3Response::new(output) })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.object(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(size(&object)),
            accept_ranges: Some("bytes".to_owned()),
            last_modified: Some(modified(&object)),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let body = request.input.body.take();
        let object = receive(body, sums!(request.input), self.has_object_lock()).await?;
        let PutObjectInput { bucket, key, if_none_match, if_match, .. } = &request.input;
        let condition = condition(&request, if_none_match.as_ref(), if_match.as_ref())?;
        let etag = self.with_bucket(bucket, |bucket| match fault(&request) {
            Some(Fault::LoseObject) => Ok(object.etag.clone()),
            _ => bucket.put(key, object, &condition),
        })?;
        let output = PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..PutObjectOutput::default() };
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, .. } = request.input;
        let id = self.with_bucket(&bucket, |bucket| Ok(bucket.begin_upload(&key)))?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, mut request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let body = request.input.body.take();
        let part = receive(body, sums!(request.input), self.has_object_lock()).await?;
        let UploadPartInput { bucket, key, upload_id, part_number, .. } = &request.input;
        if !(1..=10_000).contains(part_number) {
            return Err(s3_error!(InvalidArgument));
        }
        let etag = part.etag.clone();
        self.with_bucket(bucket, |bucket| {
            let upload = bucket.upload(upload_id, key)?;
            if !matches!(fault(&request), Some(Fault::LoseObject)) {
                upload.parts.insert(*part_number, part);
            }
            Ok(())
        })?;
        let output = UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..UploadPartOutput::default() };
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, upload_id, multipart_upload, if_none_match, if_match, .. } =
            &request.input;
        let condition = condition(&request, if_none_match.as_ref(), if_match.as_ref())?;
        let parts = multipart_upload.as_ref().and_then(|upload| upload.parts.clone()).unwrap_or_default();
        let named: Vec<_> = parts
            .into_iter()
            .map(|part| (part.part_number.unwrap_or(0), part.e_tag.map(ETag::into_value).unwrap_or_default()))
            .collect();
        let etag = self.with_bucket(bucket, |bucket| {
            let etag = bucket.complete(upload_id, key, &named, &condition)?;
            if matches!(fault(&request), Some(Fault::LoseObject)) {
                bucket.remove(key);
            }
            Ok(etag)
        })?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(bucket.clone()),
            key: Some(key.clone()),
            e_tag: Some(ETag::Strong(etag)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = &request.input;
        self.with_bucket(bucket, |bucket| {
            bucket.upload(upload_id, key)?;
            bucket.uploads.remove(upload_id);
            Ok(())
        })?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let prefix = request.input.prefix.clone().unwrap_or_default();
        let uploads = self.with_bucket(&request.input.bucket, |bucket| {
            let all = bucket.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix));
            let listed = all.map(|(id, upload)| MultipartUpload {
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                ..MultipartUpload::default()
            });
            Ok(listed.collect())
        })?;
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(request.input.bucket),
            uploads: Some(uploads),
            is_truncated: Some(false),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.with_bucket(&request.input.bucket, |bucket| {
            bucket.remove(&request.input.key);
            Ok(())
        })?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket: name, delete, .. } = request.input;
        if delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML));
        }
        let mut output =
            DeleteObjectsOutput { deleted: Some(Vec::new()), errors: Some(Vec::new()), ..Default::default() };
        self.with_bucket(&name, |bucket| {
            for object in delete.objects {
                if self.0.allows("s3:DeleteObject", &name, &object.key) {
                    bucket.remove(&object.key);
                    let deleted = DeletedObject { key: Some(object.key), ..DeletedObject::default() };
                    output.deleted.get_or_insert_default().push(deleted);
                } else {
                    let (code, message) = (Some("AccessDenied".to_owned()), Some("Access Denied".to_owned()));
                    let error = Error { key: Some(object.key), code, message, ..Error::default() };
                    output.errors.get_or_insert_default().push(error);
                }
            }
            Ok(())
        })?;
        if delete.quiet == Some(true) {
            output.deleted = None;
        }
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input { bucket, prefix, delimiter, max_keys, .. } = &request.input;
        let prefix = prefix.clone().unwrap_or_default();
        let wanted = max_keys.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1000);
        let limit = wanted.min(self.0.page_size());
        let start = match (&request.input.continuation_token, &request.input.start_after) {
            (Some(token), _) => cursor(token)?,
            (None, Some(after)) => format!("{after}\0"),
            (None, None) => String::new(),
        };
        let mut page =
            self.with_bucket(bucket, |bucket| Ok(bucket.list(&prefix, delimiter.as_deref(), &start, limit)))?;
        if let Some(Fault::EndListing(keys)) = fault(&request) {
            page.objects.truncate(*keys);
            page.next = None;
        }
        let url = Query::of(&request.uri).value("encoding-type").as_deref() == Some("url");
        let name = |name: String| if url { encode(&name) } else { name };
        let contents = page.objects.iter().map(|(key, object)| s3s::dto::Object {
            key: Some(name(key.clone())),
            size: Some(size(object)),
            last_modified: Some(modified(object)),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            ..Default::default()
        });
        let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(name(prefix.clone())) });
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(bucket.clone()),
            key_count: i32::try_from(page.length()).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(token),
            contents: Some(contents.collect()),
            common_prefixes: Some(prefixes.collect()),
            prefix: Some(name(prefix)),
            max_keys: i32::try_from(wanted).ok(),
            encoding_type: request.input.encoding_type.clone(),
            ..ListObjectsV2Output::default()
        }))
    }
}
