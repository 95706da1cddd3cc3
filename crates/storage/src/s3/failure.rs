//! What an answer of S3 that is no success means.

use std::error::Error as StdError;

use http::StatusCode;
use serde::Deserialize;

use super::document::ObjectError;
use crate::error::{ErrorKind, Origin};
use crate::network::{Broken, Failure, Rejection, Retry, find};
use crate::operation::Operation;

/// The header by which S3 tells where a bucket is.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// The document of an error:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses>.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Document {
    code: Option<String>,
    message: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    /// The token service puts the error one level lower.
    error: Option<Box<Self>>,
}

/// What an error of the client means.
pub(super) fn of_store(error: &object_store::Error) -> Failure {
    // What is none of ours is the client's: it could not understand the answer.
    of(error).unwrap_or_else(|| not_s3(&error.to_string()))
}

/// The failure of an answer that S3 would not give.
pub(super) fn not_s3(what: &str) -> Failure {
    Failure::new(ErrorKind::Io, format!("the answer is not one of S3: {what}")).origin(Origin::Service).hint(NOT_S3)
}

/// What an error of the transport means.
pub(super) fn of_http(error: &object_store::client::HttpError) -> Failure {
    of(error).unwrap_or_else(|| Failure::new(ErrorKind::Io, error.to_string()))
}

fn of(error: &(dyn StdError + 'static)) -> Option<Failure> {
    if let Some(rejection) = find::<Rejection>(error) {
        return Some(of_rejection(rejection));
    }
    if let Some(failure) = find::<Failure>(error) {
        return Some(failure.clone());
    }
    find::<Broken>(error).map(Broken::to_failure)
}

/// What is wrong with one object of a request on many.
pub(super) fn of_one(error: &ObjectError) -> Failure {
    let message = (!error.message.is_empty()).then(|| error.message.clone());
    let document = Document { code: Some(error.code.clone()), message, ..Document::default() };
    classify(StatusCode::OK, &document, None).on(&error.key)
}

/// The most letters that are told of what a service says; those that are known say far less.
const SAID_MAX: usize = 1000;

const NOT_S3: &str = "check repoN-s3-endpoint: what answers there may be no S3 service";

fn of_rejection(rejection: &Rejection) -> Failure {
    let document: Document = quick_xml::de::from_reader(&*rejection.body).unwrap_or_default();
    let document = match document.error {
        Some(inner) => *inner,
        None => document,
    };
    let region = rejection.headers.get(REGION_HEADER).and_then(|value| value.to_str().ok());
    classify(rejection.status, &document, region)
}

fn classify(status: StatusCode, document: &Document, region_header: Option<&str>) -> Failure {
    let code = document.code.as_deref();
    let (kind, retry) = meaning(status, code.unwrap_or_default());
    let mut reason = match (code, &document.message) {
        (Some(code), Some(message)) => {
            format!("the answer was {}: {}", in_a_line(code), in_a_line(message.trim_end_matches('.')))
        }
        (Some(code), None) => format!("the answer was {}", in_a_line(code)),
        (None, _) => format!("the answer was {status}"),
    };
    let region = region_header.or(document.region.as_deref());
    if kind == ErrorKind::Settings
        && let Some(region) = region
    {
        reason = format!("{reason}; the bucket is in region '{region}'");
    }
    let failure = Failure::new(kind, reason).origin(Origin::Service).retry(retry).code(code);
    match hint(status, code.unwrap_or_default(), region, document.endpoint.as_deref()) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What somebody else says, so that it does no harm to a log or a terminal.
fn in_a_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SAID_MAX).collect()
}

/// What kind of error it is, and whether to try again. Codes come first: some share a status.
fn meaning(status: StatusCode, code: &str) -> (ErrorKind, Retry) {
    let temporary = (ErrorKind::Unavailable, Retry::Later);
    match code {
        "NoSuchKey" => (ErrorKind::NotFound, Retry::Never),
        "NoSuchUpload" => (ErrorKind::Io, Retry::Never),
        "NoSuchBucket" => (ErrorKind::RootMissing, Retry::Never),
        "ConditionalRequestConflict"
        | "OperationAborted"
        | "InternalError"
        | "SlowDown"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "IDPCommunicationError" => temporary,
        "PreconditionFailed" => (ErrorKind::AlreadyExists, Retry::Never),
        "InvalidRange" => (ErrorKind::TooShort, Retry::Never),
        "QuotaExceeded" | "InsufficientCapacity" | "XMinioStorageFull" | "InsufficientStorage" => {
            (ErrorKind::NoSpace, Retry::Never)
        }
        // Damage on the way: the same bytes may get through next time.
        "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody" => {
            (ErrorKind::Io, Retry::Later)
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName"
        | "KMS.NotFoundException"
        | "KMS.DisabledException" => (ErrorKind::Settings, Retry::Never),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "ExpiredTokenException" => {
            (ErrorKind::Denied, Retry::Never)
        }
        "AccessDenied" | "InvalidObjectState" | "ObjectLocked" => (ErrorKind::Denied, Retry::Never),
        "NotImplemented" | "MethodNotAllowed" => (ErrorKind::Unsupported, Retry::Never),
        _ => match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (ErrorKind::Denied, Retry::Never),
            StatusCode::PRECONDITION_FAILED => (ErrorKind::AlreadyExists, Retry::Never),
            StatusCode::RANGE_NOT_SATISFIABLE => (ErrorKind::TooShort, Retry::Never),
            StatusCode::NOT_IMPLEMENTED => (ErrorKind::Unsupported, Retry::Never),
            StatusCode::INSUFFICIENT_STORAGE => (ErrorKind::NoSpace, Retry::Never),
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => temporary,
            _ if status.is_server_error() => temporary,
            _ if status.is_redirection() => (ErrorKind::Settings, Retry::Never),
            _ => (ErrorKind::Io, Retry::Never),
        },
    }
}

/// What to do where the service denies an operation.
pub(super) fn right(operation: Operation) -> &'static str {
    match operation {
        Operation::List | Operation::ListDirectory => "the key needs the right s3:ListBucket on the bucket",
        Operation::Put | Operation::Create | Operation::Write | Operation::Finish => {
            "the key needs the rights s3:GetObject and s3:PutObject on the objects, and s3:PutObjectTagging where repoN-storage-tag is set"
        }
        Operation::Delete => "the key needs the right s3:DeleteObject on the objects",
        Operation::Sweep => {
            "the key needs the rights s3:ListBucketMultipartUploads on the bucket and s3:AbortMultipartUpload on the objects"
        }
        _ => {
            "the key needs the right s3:GetObject on the objects; without s3:ListBucket on the bucket this is also the answer for an object that is absent"
        }
    }
}

fn hint(status: StatusCode, code: &str, region: Option<&str>, endpoint: Option<&str>) -> Option<String> {
    let hint = match code {
        "NoSuchBucket" => {
            "create the bucket, or check repoN-s3-bucket, repoN-s3-endpoint, repoN-s3-region and repoN-s3-uri-style"
        }
        "NoSuchUpload" => {
            "the service has given up the upload before it was finished: look for a rule of the bucket that does so after too short a time"
        }
        "InvalidAccessKeyId" => "the service does not know the access key: check repoN-s3-key and repoN-s3-endpoint",
        "SignatureDoesNotMatch" => "the secret is not the access key's: check repoN-s3-key-secret",
        "RequestTimeTooSkewed" => {
            "this machine's clock and the service's differ too much: set the clock, and let NTP keep it right"
        }
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken" => {
            "temporary keys have expired or their token is missing: renew repoN-s3-key, repoN-s3-key-secret and repoN-s3-token, or let them be fetched (repoN-s3-key-type)"
        }
        "InvalidObjectState" => "the object is in a storage class that must be restored before it can be read",
        "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests" => {
            "the service limits requests: run fewer processes at once (process-max), or ask for a higher limit"
        }
        "KMS.NotFoundException" | "KMS.DisabledException" => "check repoN-s3-kms-key-id",
        "NotImplemented" => "the service lacks a function that pgark needs",
        "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
            return Some(match (region, endpoint) {
                (Some(region), _) => format!("set repoN-s3-region to '{region}', and repoN-s3-endpoint to match"),
                (None, Some(endpoint)) => {
                    format!("set repoN-s3-endpoint to '{endpoint}', and repoN-s3-region to match")
                }
                (None, None) => "check repoN-s3-region and repoN-s3-endpoint: they must be the bucket's".to_owned(),
            });
        }
        _ if status.is_redirection() => match region {
            Some(region) => return Some(format!("set repoN-s3-region to '{region}', and repoN-s3-endpoint to match")),
            None => "check repoN-s3-region and repoN-s3-endpoint: they must be the bucket's",
        },
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => return None,
        "" if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            "check repoN-s3-key, repoN-s3-key-secret and the rights of the key"
        }
        "" => NOT_S3,
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn rejection(status: u16, body: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        of_rejection(&Rejection { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    fn error(status: u16, code: &str) -> Failure {
        rejection(
            status,
            &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>So it is.</Message></Error>"),
        )
    }

    fn hint_of(failure: Failure) -> String {
        let error = failure.of(Operation::Get, None, "x".into());
        error.hint().unwrap_or_default().to_owned()
    }

    #[test]
    fn absence_is_believed_only_where_s3_says_it() {
        assert_eq!(error(404, "NoSuchKey").kind, ErrorKind::NotFound);
        assert_eq!(error(404, "NoSuchBucket").kind, ErrorKind::RootMissing);
        for body in
            ["", "404 page not found", "<html><body>Not Found</body></html>", "<Error><Code>Gone</Code></Error>"]
        {
            let failure = rejection(404, body);
            assert_eq!(failure.kind, ErrorKind::Io, "{body}");
            assert_eq!(failure.retry, Retry::Never);
        }
        assert!(hint_of(rejection(404, "nginx")).contains("repoN-s3-endpoint"));
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for (status, code) in [
            (503, "SlowDown"),
            (500, "InternalError"),
            (200, "InternalError"),
            (400, "RequestTimeout"),
            (409, "ConditionalRequestConflict"),
            (409, "OperationAborted"),
            (429, "TooManyRequests"),
            (502, ""),
            (504, ""),
        ] {
            let failure = error(status, code);
            assert_eq!((failure.kind, failure.retry), (ErrorKind::Unavailable, Retry::Later), "{status} {code}");
        }
        assert_eq!(rejection(502, "<html>Bad Gateway</html>").retry, Retry::Later);
        for (status, code) in [(400, "BadDigest"), (400, "XAmzContentSHA256Mismatch")] {
            assert_eq!(error(status, code).retry, Retry::Later, "{code}");
        }
    }

    #[test]
    fn what_will_not_pass_is_told_at_once_with_the_next_step() {
        for (status, code, kind, next) in [
            (403, "AccessDenied", ErrorKind::Denied, ""),
            (403, "InvalidAccessKeyId", ErrorKind::Denied, "repoN-s3-key "),
            (403, "SignatureDoesNotMatch", ErrorKind::Denied, "repoN-s3-key-secret"),
            (403, "RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
            (400, "ExpiredToken", ErrorKind::Denied, "expired"),
            (403, "InvalidObjectState", ErrorKind::Denied, "storage class"),
            (403, "QuotaExceeded", ErrorKind::NoSpace, "free space"),
            (507, "", ErrorKind::NoSpace, "free space"),
            (501, "NotImplemented", ErrorKind::Unsupported, "lacks"),
            (412, "PreconditionFailed", ErrorKind::AlreadyExists, ""),
            (404, "NoSuchUpload", ErrorKind::Io, "rule of the bucket"),
            (416, "InvalidRange", ErrorKind::TooShort, "damaged"),
            (301, "PermanentRedirect", ErrorKind::Settings, "repoN-s3-region"),
        ] {
            let failure = error(status, code);
            assert_eq!((failure.kind, failure.retry), (kind, Retry::Never), "{status} {code}");
            let hint = hint_of(failure);
            assert!(hint.contains(next), "{code}: {hint}");
        }
    }

    #[test]
    fn what_a_service_says_stays_in_its_line() {
        let long = "x".repeat(1 << 20);
        let body = format!("<Error><Code>Odd\n</Code><Message>one\nP00  ERROR: two\t{long}</Message></Error>");
        let told = rejection(400, &body).to_string();
        assert!(told.starts_with("the answer was Odd : one P00  ERROR: two x"), "{}", &told[..60]);
        assert!(told.len() < 2000 && !told.chars().any(char::is_control));
    }

    #[test]
    fn the_right_region_is_named() {
        let malformed = rejection(
            400,
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region></Error>",
        );
        assert!(malformed.to_string().contains("the bucket is in region 'eu-west-1'"), "{malformed}");
        assert!(hint_of(malformed).contains("set repoN-s3-region to 'eu-west-1'"));
        let mut headers = HeaderMap::new();
        headers.insert(REGION_HEADER, "eu-west-1".parse().unwrap());
        let redirect = Rejection { status: StatusCode::MOVED_PERMANENTLY, headers, body: Bytes::new() };
        let failure = of_rejection(&redirect);
        assert_eq!(failure.kind, ErrorKind::Settings);
        assert!(hint_of(failure).contains("eu-west-1"));
    }

    #[test]
    fn the_token_services_errors_are_read_too() {
        let failure = rejection(
            400,
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired</Message></Error></ErrorResponse>",
        );
        assert!(failure.is_code("ExpiredTokenException"));
        assert_eq!(failure.kind, ErrorKind::Denied);
    }
}
