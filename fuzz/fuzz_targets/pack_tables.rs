//! Packs with arbitrary tables.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{object, repository, stanza};
use pgark_repository::pack::Pack;
use pgark_repository::{PackId, names};
use ulid::Ulid;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    frames: Vec<u16>,
    page_list: &'a [u8],
    files: &'a [u8],
    page_hashes: &'a [u8],
    frame_table: &'a [u8],
}

fuzz_target!(|input: Input| {
    let id = PackId { session: Ulid::from_bytes([1; 16]), number: 0 };
    let name = names::pack(&stanza(), id).expect("a name");
    let pages = [7; 65_536];
    let frames = input.frames.iter().map(|length| (16, &pages[..usize::from(*length)]));
    let tables = [(21, input.page_list), (20, input.files), (19, input.page_hashes), (18, input.frame_table)];
    let repository = repository(&name, &object(*b"PGARKPAC", name.as_str(), frames.chain(tables)));
    let pack = Pack::open(&repository, &stanza(), id, None).expect("the container is sound");
    let _may_fail = pack.files();
    let Ok(frames) = pack.frames_with_hashes() else { return };
    let file_count = pack.files().expect("it was read before").len();
    for (frame, hashes) in frames {
        assert_eq!(frame.pages.count(), hashes.len());
        assert!((frame.file as usize) < file_count);
        let plain = pack.container().block(repository.storage(), frame.block).expect("the container is sound");
        assert_eq!(plain.len().div_ceil(8192), hashes.len());
    }
});
