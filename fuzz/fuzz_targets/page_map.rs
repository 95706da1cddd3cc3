//! Page maps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgark_repository::map::{PageMap, Source};

fuzz_target!(|input: (u32, &[u8])| {
    let (pages, bytes) = input;
    let Ok(map) = PageMap::decode(bytes, pages) else { return };
    assert_eq!(map.page_count(), u64::from(pages));
    assert_eq!(PageMap::decode(&map.encode(), pages).as_ref(), Ok(&map));

    let mut joined = PageMap::default();
    joined.append(&map);
    assert_eq!(joined.page_count(), u64::from(pages));
    let zeros = map.runs().filter(|run| run.source == Source::Zeros).map(|run| u64::from(run.pages));
    let in_frames = u64::from(pages) - zeros.sum::<u64>();
    // Runs of a whole pack are cut into very many pieces.
    if in_frames < 10_000 {
        assert_eq!(map.pieces().map(|piece| u64::from(piece.pages)).sum::<u64>(), in_frames);
        assert_eq!(joined.pieces().map(|piece| u64::from(piece.pages)).sum::<u64>(), in_frames);
    }
});
