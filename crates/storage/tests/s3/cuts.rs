//! Connections that break off, at every byte of a request and of its answer.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use pgark_storage::{Endpoint, ErrorKind, PutMode, Result, S3Settings, S3Storage, Storage};
use pgark_testkit::s3::{Direction, Link, S3Server};

use crate::common::{key, settings};

/// They mostly wait to try again.
const THREADS: usize = 16;

const BOTH: [Direction; 2] = [Direction::ToServer, Direction::FromServer];

/// A storage that has no connection yet and makes them through the link.
fn through(link: &Link, settings: &S3Settings) -> S3Storage {
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{}", link.port())).unwrap();
    S3Storage::open(&S3Settings { endpoint, ..settings.clone() }).unwrap()
}

/// Does `work` with every byte of its traffic as the one at which the connection breaks off, `step` bytes apart.
fn at_every_byte(server: &S3Server, step: usize, work: impl Fn(&S3Storage, usize) -> Result<()> + Sync) {
    let settings = settings(server);
    let link = Link::to(server.port());
    let mut cuts = Vec::new();
    work(&through(&link, &settings), usize::MAX).unwrap();
    for direction in BOTH {
        let bytes = link.passed(direction);
        assert!(bytes > 100, "{direction:?}: {bytes}");
        cuts.extend((0..bytes).step_by(step).map(|position| (direction, position)));
    }
    let cuts = Mutex::new(cuts.into_iter().enumerate());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let link = Link::to(server.port());
                loop {
                    let Some((number, (direction, position))) = cuts.lock().unwrap().next() else { return };
                    link.cut_at(direction, position);
                    let worked = work(&through(&link, &settings), number);
                    worked.unwrap_or_else(|error| panic!("{direction:?} at {position}: {error:?}"));
                    assert_eq!(link.cuts(), 1, "{direction:?} at {position}");
                }
            });
        }
    });
}

#[test]
fn an_object_is_created_wherever_the_connection_breaks_off() {
    let server = S3Server::start();
    at_every_byte(&server, 1, |storage, number| {
        let name = format!("{number:020}");
        storage.put(&key(&name), b"content", PutMode::Create)?;
        assert_eq!(server.object(&format!("repository/{name}")).unwrap(), "content");
        Ok(())
    });
}

#[test]
fn an_object_is_read_wherever_the_connection_breaks_off() {
    let server = S3Server::start();
    server.put("repository/a", "content");
    at_every_byte(&server, 1, |storage, _| {
        assert_eq!(storage.get(&key("a"), 100)?, b"content");
        Ok(())
    });
}

#[test]
fn an_upload_in_parts_is_finished_wherever_the_connection_breaks_off() {
    let server = S3Server::start();
    let content = vec![7; S3Settings::PART_SIZE_MIN + 1];
    // A few times within the head of each request, and at every 100th kilobyte of the part.
    for (direction, step) in [(Direction::ToServer, 99_991), (Direction::FromServer, 97)] {
        let link = Link::to(server.port());
        let mut position = 0;
        for number in 0.. {
            let name = format!("{direction:?}-{number}").to_lowercase();
            link.cut_at(direction, position);
            let mut writer = through(&link, &settings(&server)).create(&key(&name)).unwrap();
            writer.write(&content).unwrap();
            writer.finish().unwrap_or_else(|error| panic!("{direction:?} at {position}: {error:?}"));
            assert_eq!(server.object(&format!("repository/{name}")).unwrap(), content);
            server.remove(&format!("repository/{name}"));
            if link.cuts() == 0 {
                assert!(number > 10, "{direction:?}: {number}");
                break;
            }
            position += step;
        }
    }
}

#[test]
fn a_listing_is_whole_wherever_the_connection_breaks_off() {
    let server = S3Server::start();
    server.set_page_size(2);
    for name in ["a", "b", "c"] {
        server.put(&format!("repository/{name}"), "x");
    }
    at_every_byte(&server, 7, |storage, _| {
        assert_eq!(storage.list_directory(None)?.len(), 3);
        Ok(())
    });
}

#[test]
fn a_connection_that_always_breaks_off_is_given_up() {
    let server = S3Server::start();
    server.put("repository/a", "content");
    let settings = S3Settings { io_timeout: Duration::from_millis(300), ..settings(&server) };
    let link = Link::to(server.port());
    for direction in BOTH {
        for bytes in [0, 1, 100] {
            link.cut_always(direction, bytes);
            let storage = through(&link, &settings);
            let error = storage.get(&key("a"), 100).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{direction:?} at {bytes}: {error:?}");
            let error = storage.put(&key("b"), b"x", PutMode::Replace).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{direction:?} at {bytes}: {error:?}");
            assert!(link.cuts() > 2, "{direction:?} at {bytes}");
        }
    }
}
