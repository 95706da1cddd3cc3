//! Manifests whose blocks are arbitrary: what is read is read again the same after it was written.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::{object, repository, stanza};
use pgark_repository::manifest::{Entry, Manifest, ManifestDocument, ManifestWriter, SidecarEntry, SidecarKind};
use pgark_repository::{Label, Repository, Result, names};
use pgark_storage::Key;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    entries: Vec<&'a [u8]>,
    sidecars: Vec<&'a [u8]>,
    late: &'a [u8],
    index: &'a [u8],
    packs: &'a [u8],
    document: Option<&'a [u8]>,
}

const LABEL: &str = "20261122-120531F";

fn document() -> ManifestDocument {
    let point = serde_json::json!({"time": "2026-11-22T12:05:31Z", "lsn": null, "timeline": 1, "wal_segment": null});
    serde_json::from_value(serde_json::json!({
        "label": LABEL, "type": "full", "prior": null, "start": point, "stop": point, "online": false,
        "cluster": {
            "id": 1, "version": "17", "system_id": "1", "control_version": 1700, "catalog_version": 202_406_281,
            "wal_segment_size": 16_777_216,
        },
        "page_checksums": true, "compression": "none", "annotations": {}, "databases": [], "tablespaces": [],
        "users": [], "groups": [], "damaged_files": [], "program": "pgark 0.0.0",
        "totals": {"files": 0, "size": 0, "read": 0, "stored": 0, "added": 0},
    }))
    .expect("a document")
}

/// The entries of a manifest: of the cluster's files, of those that are written last, and of sidecars.
type Entries = (Vec<Entry>, Vec<Entry>, Vec<SidecarEntry>);

fn read(repository: &Repository, label: &Label) -> Result<Entries> {
    let manifest = Manifest::open(repository, &stanza(), label)?;
    let packs = manifest.packs()?;
    let late = manifest.late_entries()?;
    let entries = manifest.entries().collect::<Result<Vec<_>>>()?.concat();
    let mut maps = manifest.maps(&packs);
    for entry in entries.iter().chain(&late) {
        if let Ok(map) = maps.map(entry) {
            assert!(map.pieces().take(1000).all(|piece| piece.pages > 0));
        }
    }
    let sidecars = manifest.sidecar_entries().collect::<Result<Vec<_>>>()?.concat();
    for entry in &sidecars {
        if let SidecarKind::File { size, content } = &entry.kind
            && let Ok(map) = maps.map_of(content, *size)
        {
            assert!(map.pieces().take(1000).all(|piece| piece.pages > 0));
        }
    }
    Ok((entries, late, sidecars))
}

fn write(repository: &Repository, label: &Label, (entries, late, sidecars): &Entries) -> Result<()> {
    let mut writer = ManifestWriter::with_sidecars(repository, &stanza(), label)?;
    entries.iter().try_for_each(|entry| writer.add(entry))?;
    sidecars.iter().try_for_each(|entry| writer.add_sidecar(entry))?;
    for entry in late {
        writer.add_late(entry);
    }
    writer.commit(&document(), &std::collections::BTreeMap::new())?;
    Ok(())
}

fuzz_target!(|input: Input| {
    let label: Label = LABEL.parse().expect("a label");
    let name = names::manifest(&stanza(), &label).expect("a name");
    let json = input.document.map_or_else(|| serde_json::to_vec(&document()).expect("JSON"), <[u8]>::to_vec);
    let others = [(35, input.late), (33, input.index), (34, input.packs), (1, &json[..])];
    let sidecars = input.sidecars.iter().map(|entries| (36, *entries));
    let blocks = input.entries.iter().map(|entries| (32, *entries)).chain(sidecars).chain(others);
    let fuzzed = repository(&name, &object(*b"PGARKMAN", name.as_str(), blocks));
    let Ok(entries) = read(&fuzzed, &label) else { return };

    let fresh = repository(&Key::parse("other").expect("a name"), b"");
    write(&fresh, &label, &entries).expect("what was read can be written");
    assert_eq!(read(&fresh, &label).expect("what was written can be read"), entries);
});
