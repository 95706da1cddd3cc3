//! The documents that keys come in.

use std::sync::Arc;

use jiff::Timestamp;
use object_store::aws::AwsCredential;
use serde::Deserialize;

use super::{Fetched, unsendable};
use crate::error::{ErrorKind, Origin};
use crate::network::Failure;

/// What the metadata service, the agent of a container and a program answer with. Other members don't matter.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    /// How a program says which form its answer has; there is one.
    version: Option<u32>,
    /// How the metadata service says that it has no keys.
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    /// The token, as programs call it; services leave out `Session`.
    #[serde(alias = "Token")]
    session_token: Option<String>,
    expiration: Option<Timestamp>,
}

/// The token service's answer to `AssumeRoleWithWebIdentity`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    assume_role_with_web_identity_result: AssumedResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedResult {
    credentials: Keys,
}

/// Reads keys in JSON from `source`.
///
/// # Errors
/// Nothing of the document is in the message.
pub(super) fn from_json(document: &[u8], source: &str) -> Result<Fetched, Failure> {
    match serde_json::from_slice::<Keys>(document) {
        Ok(keys) => usable(keys, source),
        // What a parser says of a document may quote it.
        Err(error) => Err(unusable(source, &format!("no valid JSON of keys, in line {}", error.line()))),
    }
}

/// Reads keys in the XML of a token service.
///
/// # Errors
/// Nothing of the document is in the message.
pub(super) fn from_xml(document: &[u8], source: &str) -> Result<Fetched, Failure> {
    match quick_xml::de::from_reader::<_, Assumed>(document) {
        Ok(assumed) => usable(assumed.assume_role_with_web_identity_result.credentials, source),
        Err(_) => Err(unusable(source, "no valid XML of keys")),
    }
}

fn usable(keys: Keys, source: &str) -> Result<Fetched, Failure> {
    if keys.version.is_some_and(|version| version != 1) {
        return Err(unusable(source, "of another version than 1"));
    }
    if let Some(code) = keys.code.filter(|code| code != "Success") {
        return Err(unusable(source, &format!("'{code}' instead of keys")));
    }
    let present = |member: Option<String>, name: &str| {
        member.filter(|text| !text.is_empty()).ok_or_else(|| unusable(source, &format!("without {name}")))
    };
    let credential = AwsCredential {
        key_id: present(keys.access_key_id, "AccessKeyId")?,
        secret_key: present(keys.secret_access_key, "SecretAccessKey")?,
        token: keys.session_token.filter(|token| !token.is_empty()),
    };
    match unsendable(&credential) {
        None => Ok(Fetched { credential: Arc::new(credential), expires: keys.expiration }),
        Some(what) => Err(unusable(source, &format!("no keys: {what} has characters that no key has"))),
    }
}

fn unusable(source: &str, what: &str) -> Failure {
    Failure::new(ErrorKind::Denied, format!("the answer of {source} is {what}"))
        .origin(Origin::Service)
        .hint("check what repoN-s3-key-type says and where the keys come from")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI";

    #[test]
    fn keys_of_services_and_programs_are_read() {
        let service = format!(
            r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"A","SecretAccessKey":"{SECRET}","Token":"T",
                "Expiration":"2026-11-22T12:00:00Z","LastUpdated":"2026-11-22T06:00:00Z"}}"#
        );
        let read = from_json(service.as_bytes(), "it").unwrap();
        assert_eq!(read.credential.key_id, "A");
        assert_eq!(read.credential.secret_key, SECRET);
        assert_eq!(read.credential.token.as_deref(), Some("T"));
        assert_eq!(read.expires, Some("2026-11-22T12:00:00Z".parse().unwrap()));
        let lasting = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S"}"#;
        let read = from_json(lasting.as_bytes(), "it").unwrap();
        assert_eq!((read.credential.token.as_deref(), read.expires), (None, None));
        let program = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"T",
            "Expiration":"2026-11-22T13:00:00+01:00"}"#;
        let read = from_json(program.as_bytes(), "it").unwrap();
        assert_eq!(read.credential.token.as_deref(), Some("T"));
        assert_eq!(read.expires, Some("2026-11-22T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn keys_of_a_token_service_are_read() {
        let document = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">
            <AssumeRoleWithWebIdentityResult><SubjectFromWebIdentityToken>x</SubjectFromWebIdentityToken>
            <Credentials><SessionToken>T</SessionToken><SecretAccessKey>S</SecretAccessKey>
            <Expiration>2026-11-22T12:00:00Z</Expiration><AccessKeyId>A</AccessKeyId></Credentials>
            </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
            </AssumeRoleWithWebIdentityResponse>";
        let read = from_xml(document.as_bytes(), "it").unwrap();
        assert_eq!(read.credential.key_id, "A");
        assert_eq!(read.expires, Some("2026-11-22T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_is_no_keys_is_refused_without_telling_it() {
        for document in [
            format!(r#"{{"AccessKeyId":"A","SecretAccessKey":"{SECRET}""#),
            format!(r#"{{"AccessKeyId":["{SECRET}"],"SecretAccessKey":"{SECRET}"}}"#),
            format!(r#"{{"SecretAccessKey":"{SECRET}"}}"#),
            format!(r#"{{"Version":2,"AccessKeyId":"A","SecretAccessKey":"{SECRET}"}}"#),
            format!(r#"{{"AccessKeyId":"A","SecretAccessKey":"{SECRET}","Expiration":"{SECRET}"}}"#),
            r#"{"AccessKeyId":"A","SecretAccessKey":""}"#.to_owned(),
            format!(
                r#"{{"AccessKeyId":"A","SecretAccessKey":"{SECRET}
"}}"#
            ),
            format!(r#"{{"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"{SECRET}\u00e9"}}"#),
            r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"x"}"#.to_owned(),
            String::new(),
            SECRET.to_owned(),
        ] {
            let failure = from_json(document.as_bytes(), "it").err().unwrap();
            assert_eq!(failure.kind, ErrorKind::Denied);
            assert!(!format!("{failure} {failure:?}").contains(SECRET), "{failure}");
        }
        assert!(from_xml(b"<x/>", "it").is_err());
        assert!(from_xml(b"\xff<", "it").is_err());
    }
}
