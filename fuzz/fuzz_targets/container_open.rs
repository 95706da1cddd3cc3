//! Objects whose bytes are arbitrary, and such whose hashes fit whatever index and trailer say.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{ID, draft, repository};
use pgark_repository::container::{Container, ObjectKind};
use pgark_storage::Key;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Draft {
        blocks: Vec<Block>,
        index: Vec<(u16, u8)>,
        trailer: Vec<(u8, u8)>,
    },
}

#[derive(Arbitrary, Debug)]
struct Block {
    kind: u8,
    codec: u8,
    stored: Vec<u8>,
    plain_length: Option<u32>,
}

impl Block {
    fn draft(&self) -> draft::DraftBlock {
        let honest = draft::DraftBlock::new(self.kind, &self.stored);
        let plain_length = self.plain_length.unwrap_or(honest.plain_length);
        draft::DraftBlock { codec: self.codec, plain_length, ..honest }
    }
}

const NAME: &str = "stanza/demo/cluster/1";

fn bytes(input: &Input) -> Vec<u8> {
    match input {
        Input::Bytes(bytes) => bytes.clone(),
        Input::Draft { blocks, index, trailer } => {
            draft::Draft::new(*b"PGARKCLU", ID, blocks.iter().map(Block::draft).collect()).write_with(
                NAME,
                |bytes| {
                    for (position, byte) in index {
                        if let Some(place) = bytes.get_mut(usize::from(*position)) {
                            *place = *byte;
                        }
                    }
                },
                |bytes| {
                    for (position, byte) in trailer {
                        if let Some(place) = bytes.get_mut(usize::from(*position)) {
                            *place = *byte;
                        }
                    }
                },
            )
        }
    }
}

fuzz_target!(|input: Input| {
    let name = Key::parse(NAME).expect("a name");
    let repository = repository(&name, &bytes(&input));
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
