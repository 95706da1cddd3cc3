//! WAL objects and history files whose blocks are arbitrary.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{object, repository, stanza};
use pgark_repository::ArchiveId;
use pgark_repository::names;
use pgark_repository::wal::Archive;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    blocks: Vec<(u8, &'a [u8])>,
    size: Option<u64>,
    document: Option<&'a [u8]>,
}

const SEGMENT: &str = "000000010000000000000004";

fuzz_target!(|input: Input| {
    let id = ArchiveId { version: "17".into(), number: 1 };
    let name = names::wal_file(&stanza(), &id, SEGMENT).expect("a name");
    let data = input.blocks.iter().filter(|(kind, _)| *kind % 4 == 0).map(|(_, bytes)| bytes.len() as u64);
    let json = serde_json::json!({
        "version": "17", "system_id": "1", "timeline": 1, "segment": SEGMENT, "hash": "",
        "size": input.size.unwrap_or_else(|| data.sum()),
    });
    let json = input.document.map_or_else(|| json.to_string().into_bytes(), <[u8]>::to_vec);
    let blocks = input.blocks.iter().map(|(kind, bytes)| ([48, 49, 1, 16][usize::from(kind % 4)], *bytes));
    let repository = repository(&name, &object(*b"PGARKWAL", name.as_str(), blocks.chain([(1, &json[..])])));
    let archive = Archive::new(&repository, stanza(), id);
    let Ok(segment) = archive.segment(SEGMENT) else { return };
    let _may_fail = segment.analysis();
    let data: usize = segment.data().map(|block| block.expect("the container is sound").len()).sum();
    assert_eq!(data as u64, segment.document().size);
});
