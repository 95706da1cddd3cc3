//! Documents: descriptors, clusters, sessions and key slots with arbitrary JSON.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{object, repository, stanza};
use pgark_repository::key_slot::KeySlot;
use pgark_repository::session::sessions;
use pgark_repository::{Encryption, Repository, names};
use pgark_storage::{MemoryStorage, PutMode, Storage};
use ulid::Ulid;

fuzz_target!(|json: &[u8]| {
    let storage = MemoryStorage::new();
    let name = names::descriptor().expect("a name");
    let descriptor = object(*b"PGARKREP", name.as_str(), [(1, json)]);
    storage.put(&name, &descriptor, PutMode::Create).expect("memory takes it");
    let _may_fail = Repository::open(Arc::new(storage), &Encryption::None);

    let name = names::cluster(&stanza(), 1).expect("a name");
    let cluster = object(*b"PGARKCLU", name.as_str(), [(1, json)]);
    if let Ok(clusters) = repository(&name, &cluster).clusters(&stanza()) {
        assert_eq!(clusters[0].id, 1);
    }
    let name = names::session(&stanza(), Ulid::from_bytes([1; 16])).expect("a name");
    let session = object(*b"PGARKSES", name.as_str(), [(1, json)]);
    let _may_fail = sessions(&repository(&name, &session), &stanza());
    // What a slot asks of the machine is bounded, but it is too much for every input here: it is read only.
    let _may_fail = serde_json::from_slice::<KeySlot>(json);
});
