//! Buckets with Object Lock take nothing without a checksum.

use std::error::Error as _;

use pgark_storage::s3::ServerEncryption;
use pgark_storage::{ErrorKind, PutMode, S3Settings, S3Storage, Secret, Storage};
use pgark_testkit::s3::{Call, Effect, Fault, Moto, S3Server};

use crate::common::{in_moto, key, open, settings};

/// Writes one object by one request and one in parts.
fn write_both(storage: &S3Storage) {
    storage.put(&key("whole"), b"content", PutMode::Create).unwrap();
    storage.put(&key("whole"), b"replaced", PutMode::Replace).unwrap();
    let mut writer = storage.create(&key("parts")).unwrap();
    writer.write(&vec![7; S3Settings::PART_SIZE_MIN + 1]).unwrap();
    writer.finish().unwrap();
}

#[test]
fn objects_and_parts_are_sent_with_a_checksum() {
    let server = S3Server::builder().object_lock().start();
    write_both(&open(&server));
    let of_bodies: Vec<_> = server.requests().into_iter().filter(|request| is_upload(request.call)).collect();
    assert_eq!(of_bodies.len(), 4);
    for request in of_bodies {
        let signed = request.header("authorization").unwrap().contains("content-md5;");
        assert!(request.header("content-md5").is_some() && signed, "{request:?}");
    }
    assert_eq!(server.object("repository/whole").unwrap(), "replaced");
    assert_eq!(server.object("repository/parts").unwrap().len(), S3Settings::PART_SIZE_MIN + 1);
}

#[test]
fn moto_takes_them_for_a_bucket_that_keeps_everything() {
    let moto = Moto::start_with_object_lock();
    let storage = S3Storage::open(&in_moto(&moto)).unwrap();
    write_both(&storage);
    assert_eq!(storage.get(&key("whole"), 100).unwrap(), b"replaced");
    assert_eq!(storage.head(&key("parts")).unwrap().unwrap().size, S3Settings::PART_SIZE_MIN as u64 + 1);
    // What is deleted is hidden.
    storage.delete_all(&[key("whole"), key("parts")]).unwrap();
    assert_eq!(storage.head(&key("whole")).unwrap(), None);
}

fn is_upload(call: Call) -> bool {
    matches!(call, Call::PutObject | Call::UploadPart)
}

#[test]
fn what_was_damaged_on_the_way_is_sent_again() {
    let server = S3Server::builder().object_lock().start();
    server.inject(Fault::new(Effect::DamageRequest).on(Call::PutObject).times(2));
    server.inject(Fault::new(Effect::DamageRequest).on(Call::UploadPart));
    write_both(&open(&server));
    assert_eq!(server.fired(), 3);
    assert_eq!(server.object("repository/whole").unwrap(), "replaced");
    assert!(server.object("repository/parts").unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn every_object_and_part_says_how_it_is_encrypted_and_tagged() {
    let server = S3Server::start();
    let key = Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let tags = vec![("who".to_owned(), "us & them".to_owned())];
    let encryption = ServerEncryption::CustomerKey(key);
    write_both(&S3Storage::open(&S3Settings { encryption, tags, ..settings(&server) }).unwrap());
    for request in server.requests() {
        let customer = request.header("x-amz-server-side-encryption-customer-key-md5");
        let tags = request.header("x-amz-tagging");
        match request.call {
            Call::PutObject | Call::CreateMultipartUpload => assert_eq!(tags, Some("who=us+%26+them")),
            _ => assert_eq!(tags, None, "{:?}", request.call),
        }
        if request.call != Call::CompleteMultipartUpload {
            assert_eq!(customer, Some("KYvwGXoFFJ42a2u2GDWhwQ=="), "{:?}", request.call);
        }
    }
    server.forget_requests();
    let encryption = ServerEncryption::ManagedKey("arn:aws:kms:eu-test-1:1:key/2".to_owned());
    let settings = S3Settings { encryption, path: "/managed".to_owned(), ..settings(&server) };
    write_both(&S3Storage::open(&settings).unwrap());
    for request in server.requests() {
        let key = request.header("x-amz-server-side-encryption-aws-kms-key-id");
        let wanted = matches!(request.call, Call::PutObject | Call::CreateMultipartUpload);
        assert_eq!(key.is_some(), wanted, "{:?}", request.call);
    }
}

#[test]
fn a_customers_key_that_is_none_is_refused() {
    let server = S3Server::start();
    let encryption = ServerEncryption::CustomerKey(Secret::new("not base64!"));
    let error = S3Storage::open(&S3Settings { encryption, ..settings(&server) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(!format!("{error:?} {}", error.source().unwrap()).contains("not base64!"), "{error:?}");
}
