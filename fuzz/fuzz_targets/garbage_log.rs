//! Entries of the log of garbage whose blocks are arbitrary: what is read is read again the same after it was written.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{object, repository, stanza};
use pgark_repository::garbage::{Log, NewEntry};
use pgark_repository::names;
use pgark_storage::Key;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_sweep: bool,
    packs: &'a [u8],
    document: Option<&'a [u8]>,
}

fuzz_target!(|input: Input| {
    let name = names::garbage_entry(&stanza(), 1).expect("a name");
    let kind = if input.is_sweep { "sweep" } else { "mark" };
    let json = serde_json::json!({
        "number": 1, "kind": kind, "session": "01JDXYZ0000000000000000000", "written": "2026-11-22T12:00:00Z",
        "program": "pgark 0.0.0",
    });
    let document = input.document.map_or_else(|| json.to_string().into_bytes(), <[u8]>::to_vec);
    let fuzzed = repository(&name, &object(*b"PGARKGCM", name.as_str(), [(64, input.packs), (1, &document[..])]));
    let Ok(log) = Log::read(&fuzzed, &stanza()) else { return };

    let fresh = repository(&Key::parse("other").expect("a name"), b"");
    let mut written = Log::default();
    for entry in log.entries().values() {
        let new = NewEntry { kind: entry.kind, session: entry.session, program: &entry.program, packs: &entry.packs };
        written.append(&fresh, &stanza(), new).expect("what was read can be written");
    }
    assert_eq!(Log::read(&fresh, &stanza()).expect("what was written can be read").condemned(), log.condemned());
});
