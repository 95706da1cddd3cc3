//! Answers that get lost, come late, or are not what they should be, when what was asked for was done.

use std::time::Duration;

use pgark_storage::{Capabilities, ErrorKind, PutMode, Result, S3Settings, S3Storage, Storage};
use pgark_testkit::s3::{Call, Effect, Fault, Refusal, S3Server};

use crate::common::{key, open, settings};

/// A little more than one part.
const LARGE: usize = S3Settings::PART_SIZE_MIN + 1;

/// What may become of the answer to a request that was carried out.
fn lost_answers() -> [Effect; 4] {
    let refused = |refusal| Effect::RefuseAfterwards(refusal);
    [Effect::LoseAnswer, Effect::CutAnswer(0), refused(Refusal::INTERNAL_ERROR), refused(Refusal::BAD_GATEWAY)]
}

fn write(storage: &S3Storage, name: &str, content: &[u8]) -> Result<()> {
    let mut writer = storage.create(&key(name))?;
    writer.write(content)?;
    writer.finish()
}

/// The server with or without conditional creation, and a storage that knows what it has.
fn each_service() -> [(S3Server, S3Storage); 2] {
    [true, false].map(|conditional_create| {
        let server = S3Server::start();
        if !conditional_create {
            server.inject(Fault::new(Effect::RefuseConditions(Refusal::NOT_IMPLEMENTED)).always());
        }
        let storage = open(&server);
        storage.adopt(Capabilities { conditional_create });
        (server, storage)
    })
}

#[test]
fn an_object_whose_answer_was_lost_was_created() {
    for (server, storage) in each_service() {
        for effect in lost_answers() {
            let name =
                format!("{effect:?}").to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
            server.inject(Fault::new(effect.clone()).on(Call::PutObject));
            storage
                .put(&key(&name), b"content", PutMode::Create)
                .unwrap_or_else(|error| panic!("{effect:?}: {error:?}"));
            assert_eq!(server.object(&format!("repository/{name}")).unwrap(), "content");
        }
        assert_eq!(server.fired() - server.count(Call::HeadObject), 4);
    }
}

#[test]
fn an_object_of_another_is_not_taken_for_ours() {
    for (server, storage) in each_service() {
        server.put("repository/a", "another's");
        for effect in [Effect::LoseAnswer, Effect::RefuseAfterwards(Refusal::INTERNAL_ERROR)] {
            server.inject(Fault::new(effect).on(Call::PutObject));
            let error = storage.put(&key("a"), b"ours", PutMode::Create).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
            server.heal();
        }
        assert_eq!(server.object("repository/a").unwrap(), "another's");
    }
}

#[test]
fn an_upload_whose_answers_were_lost_is_finished() {
    let content = vec![7; LARGE];
    for call in [Call::CreateMultipartUpload, Call::UploadPart, Call::CompleteMultipartUpload] {
        for effect in lost_answers() {
            let server = S3Server::start();
            server.inject(Fault::new(effect.clone()).on(call));
            let written = write(&open(&server), "a", &content);
            written.unwrap_or_else(|error| panic!("{call:?} {effect:?}: {error:?}"));
            assert_eq!(server.object("repository/a").unwrap(), content);
            assert_eq!(server.fired(), 1, "{call:?} {effect:?}");
        }
    }
}

#[test]
fn a_success_that_is_none_is_not_believed() {
    let server = S3Server::start();
    server.inject(Fault::new(Effect::RefuseInside(Refusal::INTERNAL_ERROR)).on(Call::CompleteMultipartUpload));
    write(&open(&server), "a", &vec![7; LARGE]).unwrap();
    assert_eq!(server.object("repository/a").unwrap().len(), LARGE);
    server.inject(Fault::new(Effect::RefuseInside(Refusal::QUOTA_EXCEEDED)).on(Call::CompleteMultipartUpload));
    assert_eq!(write(&open(&server), "b", &vec![7; LARGE]).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(server.fired(), 2);
}

#[test]
fn an_upload_of_another_that_was_quicker_is_not_taken_for_ours() {
    let server = S3Server::start();
    let storage = open(&server);
    let mut writer = storage.create(&key("a")).unwrap();
    writer.write(&vec![7; LARGE]).unwrap();
    server.put("repository/a", "another's");
    server.inject(Fault::new(Effect::LoseAnswer).on(Call::CompleteMultipartUpload));
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(server.object("repository/a").unwrap(), "another's");
    assert_eq!((server.fired(), server.unfinished_uploads()), (1, 0));
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_so_long() {
    let server = S3Server::start();
    server.put("repository/a", "content");
    let io_timeout = Duration::from_millis(300);
    let storage = S3Storage::open(&S3Settings { io_timeout, ..settings(&server) }).unwrap();
    for effect in [Effect::Hang, Effect::StallAnswer(3)] {
        server.inject(Fault::new(effect.clone()).on(Call::GetObject));
        assert_eq!(storage.get(&key("a"), 100).unwrap(), b"content", "{effect:?}");
        server.inject(Fault::new(effect.clone()).on(Call::GetObject).always());
        let stopwatch = pgark_system::clock::Stopwatch::start();
        let error = storage.get(&key("a"), 100).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{effect:?}");
        assert!(error.is_temporary() && stopwatch.elapsed() < Duration::from_secs(20), "{effect:?}");
        server.heal();
    }
}

#[test]
fn an_answer_with_less_or_more_than_it_announced_is_asked_for_again() {
    let server = S3Server::start();
    server.put("repository/a", "0123456789");
    let storage = open(&server);
    for bytes in 0..10 {
        server.inject(Fault::new(Effect::CutAnswer(bytes)).on(Call::GetObject));
        assert_eq!(storage.get(&key("a"), 100).unwrap(), b"0123456789");
    }
    assert_eq!(server.fired(), 10);
}
