//! The documents that go to S3 and come from it, in XML.

use quick_xml::escape::escape;
use serde::Deserialize;

use super::failure::not_s3;
use crate::network::Failure;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What is wrong with one object of a request on many.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ObjectError {
    pub(super) key: String,
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
struct DeleteResult {
    #[serde(rename = "Error", default)]
    errors: Vec<ObjectError>,
}

#[derive(Debug, Deserialize)]
struct ListMultipartUploadsResult {
    #[serde(rename = "Upload", default)]
    uploads: Vec<UnfinishedUpload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UnfinishedUpload {
    key: String,
    upload_id: String,
}

/// The body of `DeleteObjects`, which answers only with what is wrong:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>.
pub(super) fn deletion<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut document = format!("<Delete xmlns=\"{NAMESPACE}\">");
    for name in names {
        document.extend(["<Object><Key>", &escape(name), "</Key></Object>"]);
    }
    document + "<Quiet>true</Quiet></Delete>"
}

/// The objects that `DeleteObjects` has not deleted.
pub(super) fn deletion_errors(answer: &[u8]) -> Result<Vec<ObjectError>, Failure> {
    // Where nothing is wrong some services answer with nothing at all.
    if answer.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    parse::<DeleteResult>(answer).map(|result| result.errors)
}

/// The body of `CompleteMultipartUpload`, with what the service calls the parts:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>.
pub(super) fn completion(parts: &[String]) -> String {
    let mut document = format!("<CompleteMultipartUpload xmlns=\"{NAMESPACE}\">");
    for (index, part) in parts.iter().enumerate() {
        let number = (index + 1).to_string();
        document.extend(["<Part><PartNumber>", &number, "</PartNumber><ETag>", &escape(part), "</ETag></Part>"]);
    }
    document + "</CompleteMultipartUpload>"
}

/// The uploads that `ListMultipartUploads` has found: names and ids.
pub(super) fn uploads(answer: &[u8]) -> Result<Vec<(String, String)>, Failure> {
    let found = parse::<ListMultipartUploadsResult>(answer)?.uploads.into_iter();
    Ok(found.map(|upload| (upload.key, upload.upload_id)).collect())
}

fn parse<'de, T: Deserialize<'de>>(answer: &'de [u8]) -> Result<T, Failure> {
    let text = std::str::from_utf8(answer).map_err(|error| not_s3(&error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| not_s3(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_marks_of_xml_stay_what_they_are() {
        let document = deletion(["a&b<c>", "d"].into_iter());
        assert!(document.contains("<Key>a&amp;b&lt;c&gt;</Key>") && document.contains("<Key>d</Key>"), "{document}");
        let document = completion(&["\"one\"".to_owned(), "two".to_owned()]);
        assert!(document.contains("<PartNumber>1</PartNumber><ETag>&quot;one&quot;</ETag>"), "{document}");
        assert!(document.contains("<PartNumber>2</PartNumber><ETag>two</ETag>"), "{document}");
    }

    #[test]
    fn what_was_not_deleted_is_found_among_what_was() {
        let answer = b"<?xml version=\"1.0\"?><DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b&amp;c</Key>\
            <Code>AccessDenied</Code><Message>No</Message></Error><Deleted><Key>d</Key></Deleted>\
            <Error><Key>e</Key><Code>InternalError</Code></Error></DeleteResult>";
        let errors = deletion_errors(answer).unwrap();
        let codes: Vec<_> = errors.iter().map(|error| (error.key.as_str(), error.code.as_str())).collect();
        assert_eq!(codes, [("b&c", "AccessDenied"), ("e", "InternalError")]);
        assert!(deletion_errors(b"<DeleteResult/>").unwrap().is_empty());
        assert!(deletion_errors(b" ").unwrap().is_empty());
        for answer in [&b"<html>ok"[..], b"{}", b"\xff", b"<DeleteResult><Error>"] {
            assert!(deletion_errors(answer).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn unfinished_uploads_are_found() {
        let answer = b"<ListMultipartUploadsResult><Bucket>x</Bucket><IsTruncated>false</IsTruncated>\
            <Upload><Key>a/b</Key><UploadId>1</UploadId><Initiated>2026-11-22T12:00:00Z</Initiated></Upload>\
            <Upload><Key>c</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>";
        let expected = [("a/b", "1"), ("c", "2")].map(|(name, id)| (name.to_owned(), id.to_owned()));
        assert_eq!(uploads(answer).unwrap(), expected);
        assert!(uploads(b"<ListMultipartUploadsResult/>").unwrap().is_empty());
        assert!(uploads(b"<ListMultipartUploadsResult><Upload/></ListMultipartUploadsResult>").is_err());
    }
}
