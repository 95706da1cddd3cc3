//! What a request asks for.

use hyper::{HeaderMap, Method, Uri};

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are called as in S3's own documentation")]
pub enum Call {
    AbortMultipartUpload,
    CompleteMultipartUpload,
    CreateMultipartUpload,
    DeleteObject,
    DeleteObjects,
    GetObject,
    HeadBucket,
    HeadObject,
    ListMultipartUploads,
    ListObjects,
    PutObject,
    UploadPart,
    /// Anything else.
    Other,
}

/// What a request is about, as far as its first line and its host tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) call: Call,
    pub(crate) bucket: String,
    /// The object, or the prefix of a listing.
    pub(crate) key: String,
}

impl Target {
    /// Reads it from a request, whose bucket is in the host's name where that ends with `domain`, else in the path.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, domain: &str) -> Self {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = decode(uri.path().trim_start_matches('/'));
        let (bucket, key) = match bucket_of_host(host, domain) {
            Some(bucket) => (bucket.to_owned(), path),
            None => {
                path.split_once('/').map_or((path.clone(), String::new()), |(bucket, key)| (bucket.into(), key.into()))
            }
        };
        let query = Query::of(uri);
        let call = kind(method, &key, &query);
        let key = if call == Call::ListObjects { query.value("prefix").unwrap_or_default() } else { key };
        Self { call, bucket, key }
    }
}

/// `bucket` of `bucket.domain:port`.
pub(crate) fn bucket_of_host<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let name = host.split(':').next().unwrap_or(host);
    name.strip_suffix(domain)?.strip_suffix('.')
}

fn kind(method: &Method, key: &str, query: &Query<'_>) -> Call {
    match (method.as_str(), key.is_empty()) {
        ("GET", true) if query.has("uploads") => Call::ListMultipartUploads,
        ("GET", true) if query.has("list-type") => Call::ListObjects,
        ("HEAD", true) => Call::HeadBucket,
        ("POST", true) if query.has("delete") => Call::DeleteObjects,
        ("GET", false) => Call::GetObject,
        ("HEAD", false) => Call::HeadObject,
        ("PUT", false) if query.has("partNumber") => Call::UploadPart,
        ("PUT", false) => Call::PutObject,
        ("POST", false) if query.has("uploads") => Call::CreateMultipartUpload,
        ("POST", false) if query.has("uploadId") => Call::CompleteMultipartUpload,
        ("DELETE", false) if query.has("uploadId") => Call::AbortMultipartUpload,
        ("DELETE", false) => Call::DeleteObject,
        _ => Call::Other,
    }
}

/// The query of a URI.
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn of(uri: &'a Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn has(&self, name: &str) -> bool {
        self.pairs().any(|(found, _)| found == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.pairs().find(|(found, _)| *found == name).map(|(_, value)| decode(value))
    }
}

/// Replaces `%20` and the like. What is no UTF-8 then gets marks in its place.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        let escaped = || u8::from_str_radix(text.get(position + 1..position + 3)?, 16).ok();
        let value = if byte == b'%' { escaped() } else { None };
        decoded.push(value.unwrap_or(byte));
        position += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str, host: &str) -> (Call, String, String) {
        let headers = HeaderMap::from_iter([(hyper::header::HOST, host.parse().unwrap())]);
        let Target { call, bucket, key } =
            Target::of(&method.parse().unwrap(), &uri.parse().unwrap(), &headers, "s3.test");
        (call, bucket, key)
    }

    #[test]
    fn a_request_is_known_by_its_first_line_and_host() {
        for (method, uri, host, call, key) in [
            ("GET", "/bucket/a%20b/c", "127.0.0.1:9000", Call::GetObject, "a b/c"),
            ("GET", "/a%20b/c", "bucket.s3.test:9000", Call::GetObject, "a b/c"),
            ("GET", "/bucket?list-type=2&prefix=x%2F", "s3.test", Call::ListObjects, "x/"),
            ("GET", "/?list-type=2", "bucket.s3.test", Call::ListObjects, ""),
            ("PUT", "/bucket/a?partNumber=1&uploadId=x", "localhost", Call::UploadPart, "a"),
            ("PUT", "/bucket/a", "localhost", Call::PutObject, "a"),
            ("POST", "/bucket/a?uploads=", "localhost", Call::CreateMultipartUpload, "a"),
            ("POST", "/bucket/a?uploadId=x", "localhost", Call::CompleteMultipartUpload, "a"),
            ("POST", "/bucket/?delete=", "localhost", Call::DeleteObjects, ""),
            ("DELETE", "/bucket/a?uploadId=x", "localhost", Call::AbortMultipartUpload, "a"),
            ("HEAD", "/bucket", "localhost", Call::HeadBucket, ""),
            ("PUT", "/bucket", "localhost", Call::Other, ""),
        ] {
            assert_eq!(target(method, uri, host), (call, "bucket".to_owned(), key.to_owned()), "{method} {uri}");
        }
    }
}
