//! Removing objects from S3, and what was left of uploads.

use pgark_storage::{ErrorKind, Key, S3Settings, S3Storage, Storage};
use pgark_testkit::s3::{Call, Effect, Fault, Policy, Refusal, S3Server};

use crate::common::{key, open};

/// A policy that allows these actions on everything.
fn only(actions: &[&str]) -> Policy {
    let actions = actions.join("\", \"");
    Policy::parse(&format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": ["{actions}"], "Resource": "*"}}]}}"#
    ))
}

/// Puts so many objects below `a`; gives their keys.
fn filled(server: &S3Server, count: usize) -> Vec<Key> {
    let keys: Vec<_> = (0..count).map(|number| key(&format!("a/{number}<&>"))).collect();
    for key in &keys {
        server.put(&format!("repository/{key}"), "x");
    }
    keys
}

#[test]
fn many_objects_are_deleted_by_few_requests() {
    let server = S3Server::start();
    let keys = filled(&server, 2100);
    open(&server).delete_all(&keys).unwrap();
    assert!(server.keys().is_empty());
    assert_eq!((server.count(Call::DeleteObjects), server.count(Call::DeleteObject)), (3, 0));
}

#[test]
fn a_service_without_requests_on_many_objects_deletes_them_one_by_one() {
    let server = S3Server::start();
    let keys = filled(&server, 3);
    server.inject(Fault::new(Effect::Refuse(Refusal::NOT_IMPLEMENTED)).on(Call::DeleteObjects).always());
    open(&server).delete_all(&keys).unwrap();
    assert!(server.keys().is_empty());
    assert_eq!(server.count(Call::DeleteObject), 3);
}

#[test]
fn an_answer_that_was_lost_does_not_leave_anything_behind() {
    let server = S3Server::start();
    let keys = filled(&server, 3);
    server.inject(Fault::new(Effect::LoseAnswer).on(Call::DeleteObjects));
    open(&server).delete_all(&keys).unwrap();
    assert!(server.keys().is_empty());
    assert_eq!((server.count(Call::DeleteObjects), server.fired()), (2, 1));
}

#[test]
fn who_may_not_delete_is_told_which_object() {
    let server = S3Server::start();
    let keys = filled(&server, 3);
    server.set_policy(only(&["s3:GetObject", "s3:PutObject", "s3:ListBucket"]));
    let error = open(&server).delete_all(&keys).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.key(), Some(&keys[0]));
    assert!(error.hint().unwrap().contains("s3:DeleteObject"), "{error:?}");
    assert_eq!(server.keys().len(), 3);
}

/// Begins an upload in parts and lets its process die, as far as the server can tell.
fn broken_off(server: &S3Server, storage: &S3Storage, name: &str) {
    let mut writer = storage.create(&key(name)).unwrap();
    writer.write(&vec![7; S3Settings::PART_SIZE_MIN + 1]).unwrap();
    let before = server.unfinished_uploads();
    server.inject(Fault::new(Effect::Refuse(Refusal::ACCESS_DENIED)).on(Call::AbortMultipartUpload));
    drop(writer);
    assert_eq!(server.unfinished_uploads(), before);
}

#[test]
fn uploads_that_were_broken_off_are_swept_away() {
    let server = S3Server::start();
    let storage = open(&server);
    for name in ["stanza/demo/pack/1", "stanza/demo/pack/2", "stanza/demo-2/pack/1"] {
        broken_off(&server, &storage, name);
    }
    storage.sweep(&key("stanza/demo")).unwrap();
    assert_eq!(server.unfinished_uploads(), 1, "the other stanza's is not ours to remove");
    server.set_policy(only(&["s3:AbortMultipartUpload", "s3:ListBucket"]));
    storage.sweep(&key("stanza/demo-2")).unwrap();
    assert_eq!(server.unfinished_uploads(), 1);
}

#[test]
fn a_stream_that_is_given_up_leaves_no_parts() {
    let server = S3Server::start();
    let storage = open(&server);
    let mut writer = storage.create(&key("a")).unwrap();
    writer.write(&vec![7; 2 * S3Settings::PART_SIZE_MIN + 1]).unwrap();
    assert_eq!(server.unfinished_uploads(), 1);
    drop(writer);
    assert_eq!(server.unfinished_uploads(), 0);
    assert!(server.keys().is_empty());
}
