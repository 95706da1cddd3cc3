//! One whole repository, small and always with the same content: the golden files are made of it.

use pgark_repository::checked::{self, Checked, wal_row};
use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, WriteOptions};
use pgark_repository::garbage::{EntryKind, Log, NewEntry};
use pgark_repository::manifest::PageRange;
use pgark_repository::repository::Cluster;
use pgark_repository::session::{Session, SessionKind};
use pgark_repository::wal::{Archive, WalDocument};
use pgark_repository::{Label, PAGE_SIZE, PackId, Repository, Result, StanzaName, note};
use ulid::Ulid;

use crate::backups::{Backup, Item, Taken, cluster};

pub(crate) const FULL: &str = "20261122-120531F";
pub(crate) const INCREMENTAL: &str = "20261122-120531F_20261123-010000I";
pub(crate) const SEGMENT: &str = "000000010000000000000004";
pub(crate) const PARTIAL: &str = "000000010000000000000005.partial";
pub(crate) const HISTORY: &str = "00000002.history";
pub(crate) const BACKUP_HISTORY: &str = "000000010000000000000004.00000028.backup";
/// What the records of the segment say, by section 8.1 of the format: two blocks of a relation were changed.
pub(crate) const ANALYSIS: &[u8] = &[
    1, 17, 129, 128, 178, 139, 143, 240, 219, 225, 104, // format, version, system id
    1, 1, 128, 128, 128, 1, 128, 64, 4, 0, 128, 128, 128, 1, // timelines, sizes, number, end
    14, 1, 0, 11, 1, 1, 0, 255, 12, 5, 235, 9, 1, 7, 0, // block summary
    5, 1, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, // time index, edges
];

pub(crate) fn stanza() -> StanzaName {
    "demo".parse().unwrap()
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

/// Writes the whole repository.
pub(crate) fn write(repository: &Repository) -> Result<()> {
    let stanza = stanza();
    let older = Cluster { id: 1, version: "16".into(), ..cluster() };
    repository.add_cluster(&stanza, &older)?;
    repository.add_cluster(&stanza, &cluster())?;
    repository.add_cluster(&stanza, &Cluster { id: 3, archive_of: Some(1), ..older })?;
    write_wal(&Archive::new(repository, stanza.clone(), cluster().archive()))?;
    let relies_on = vec![label(FULL)];
    let _left_open = Session::begin(repository, &stanza, SessionKind::Backup, "db1".into(), relies_on)?;
    let full = take(repository, FULL, 1, Compression::Zstd(3), &Taken::default())?;
    take(repository, INCREMENTAL, 2, Compression::Lz4, &full)?;
    for annotations in [[("keep", "until audited"), ("why", "import")], [("keep", ""), ("why", "the import of May")]] {
        let annotations = annotations.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        note::annotate(repository, &stanza, &label(FULL), annotations, "pgark 0.0.0")?;
    }
    checked::replace(repository, &stanza, checked(), &[], "pgark 0.0.0")
}

/// What was verified when.
fn checked() -> Checked {
    let mut checked = Checked::default();
    checked.note_backup(&label(FULL), 1_795_400_000);
    checked.note_pack(PackId { session: Ulid::from_bytes([1; 16]), number: 0 }, 1_795_400_000);
    let times = checked.wal.entry(wal_row(&cluster().archive(), 1)).or_default();
    times.note(4..=4, 1_795_400_000);
    times.note(5..=7, 1_795_300_000);
    checked
}

/// Writes a repository in which somebody takes a backup while an expire is at work.
pub(crate) fn write_garbage(repository: &Repository) -> Result<()> {
    let stanza = &stanza();
    let pack = |session: u8, number| PackId { session: Ulid::from_bytes([session; 16]), number };
    let mut log = Log::default();
    for (kind, packs) in [
        (EntryKind::Mark, [pack(1, 0), pack(1, 7)]),
        (EntryKind::Mark, [pack(2, u32::MAX), pack(255, 0)]),
        (EntryKind::Sweep, [pack(1, 0), pack(1, 7)]),
    ] {
        let entry = NewEntry { kind, session: Ulid::from_bytes([9; 16]), program: "pgark 0.0.0", packs: &packs.into() };
        log.append(repository, stanza, entry)?;
    }
    log.remove(repository, stanza, &[1].into())?;
    let mut backup = Session::begin(repository, stanza, SessionKind::Backup, "db1".into(), vec![label(FULL)])?;
    backup.note_seen(3)?;
    backup.adopt(vec![Ulid::from_bytes([4; 16])])?;
    for kind in [SessionKind::Expire, SessionKind::Restore] {
        let _left_open = Session::begin(repository, stanza, kind, "db2".into(), Vec::new())?;
    }
    Ok(())
}

fn take(repository: &Repository, text: &str, session: u8, compression: Compression, prior: &Taken) -> Result<Taken> {
    let session = Ulid::from_bytes([session; 16]);
    let backup = Backup { repository, stanza: &stanza(), label: label(text), session, compression };
    backup.take(&items(text), prior)
}

fn write_wal(archive: &Archive<'_>) -> Result<()> {
    for (segment, compression, analysis) in
        [(SEGMENT, Compression::Zstd(3), ANALYSIS), (PARTIAL, Compression::None, &[])]
    {
        let options = WriteOptions { compression, verify: true };
        archive
            .send_segment(
                &wal_document(segment),
                &wal_bytes(segment),
                || analysis.to_vec(),
                &mut BlockEncoder::of_wal(options),
                1,
            )?
            .finish()?;
    }
    archive.store_history(HISTORY, &wal_bytes(HISTORY))?;
    archive.store_history(BACKUP_HISTORY, &wal_bytes(BACKUP_HISTORY))?;
    Ok(())
}

/// The document of a segment, all but its hash.
pub(crate) fn wal_document(segment: &str) -> WalDocument {
    WalDocument {
        version: cluster().version,
        system_id: cluster().system_id,
        timeline: 1,
        segment: segment.into(),
        size: wal_bytes(segment).len() as u64,
        hash: String::new(),
    }
}

/// The content of a file of the archive.
pub(crate) fn wal_bytes(file: &str) -> Vec<u8> {
    match file {
        // Two blocks.
        SEGMENT => text("segment", 2 << 20),
        PARTIAL => text("partial", 3000),
        HISTORY => b"1\t0/5000000\tno recovery target specified\n".to_vec(),
        _ => b"START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\n".to_vec(),
    }
}

/// The files of a backup.
pub(crate) fn items(backup: &str) -> Vec<Item> {
    let mut relation = text("relation", 20 * PAGE_SIZE);
    let mut backup_label = text("label", 220);
    if backup == INCREMENTAL {
        for page in [3, 7, 18] {
            relation[page * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&text("changed", PAGE_SIZE));
        }
        relation.extend(text("grown", 100));
        backup_label = text("other label", 230);
    }
    vec![
        Item::directory(""),
        Item::file("PG_VERSION", b"17\n".to_vec()),
        Item::directory("base"),
        Item::directory("base/5"),
        Item {
            page_checksums: true,
            damaged: vec![PageRange { first: 2, count: 1 }],
            ..Item::file("base/5/1259", with_zero_pages())
        },
        Item { page_checksums: true, map_in_pack: true, ..Item::file("base/5/16384", relation) },
        Item::file("base/5/16385", Vec::new()),
        Item { path: b"base/5/odd \xFF\xFE name".to_vec(), ..Item::file("", noise("odd", 300)) },
        Item::directory("global"),
        Item::directory("pg_tblspc"),
        Item { link: Some(b"/mnt/space".to_vec()), ..Item::directory("pg_tblspc/16400") },
        Item::directory("pg_tblspc/16400/PG_17_202406281"),
        Item::directory("pg_tblspc/16400/PG_17_202406281/5"),
        Item { map_in_pack: true, ..Item::file("pg_tblspc/16400/PG_17_202406281/5/16401", noise("space", 8292)) },
        Item { link: Some(b"/etc/demo.conf".to_vec()), ..Item::file("postgresql.conf", text("settings", 700)) },
        Item { late: true, ..Item::file("backup_label", backup_label) },
        Item { late: true, ..Item::file("global/pg_control", text("control", PAGE_SIZE)) },
    ]
}

fn with_zero_pages() -> Vec<u8> {
    let mut bytes = text("catalog", 4 * PAGE_SIZE);
    bytes[PAGE_SIZE..2 * PAGE_SIZE].fill(0);
    bytes
}

/// Bytes that shrink.
fn text(seed: &str, length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|line| format!("{seed} {}\n", line / 64).into_bytes()).take(length).collect()
}

/// Bytes that do not shrink.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
