//! Objects whose bytes are arbitrary, and such whose hashes fit whatever index and trailer say.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{Forgery, repository};
use pgark_repository::container::{Container, ObjectKind};
use pgark_storage::Key;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Forgery(Forgery),
}

const NAME: &str = "stanza/demo/cluster/1";

fuzz_target!(|input: Input| {
    let name = Key::parse(NAME).expect("a name");
    let object = match input {
        Input::Bytes(bytes) => bytes,
        Input::Forgery(forgery) => forgery.write(*b"PGARKCLU", NAME),
    };
    let repository = repository(&name, &object);
    let storage = repository.storage();
    let Ok(container) = Container::open(storage, repository.vault(), ObjectKind::Cluster, &name) else { return };
    let _may_fail = container.check_header(storage);
    for number in 0..container.block_count() {
        if let Ok(plain) = container.block(storage, number) {
            let length = container.plain_length(number).expect("there is such a block");
            assert_eq!(plain.len(), length as usize);
        }
    }
});
