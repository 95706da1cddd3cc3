//! All that a repository says, as text: what the golden files are compared by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgark_repository::checked;
use pgark_repository::container::BlockKind;
use pgark_repository::garbage::{self, Log};
use pgark_repository::manifest::{
    Attributes, Content, Entry, EntryKind, Manifest, MapLocation, PackUse, SidecarEntry, SidecarKind,
};
use pgark_repository::map::Source;
use pgark_repository::pack::{FramePages, Pack};
use pgark_repository::repository::Cluster;
use pgark_repository::session::sessions;
use pgark_repository::wal::{Archive, WalObject};
use pgark_repository::{Label, PackId, Repository, Result, StanzaName, note};
use serde::Serialize;

use crate::restore;

/// Everything that is read from a repository, in a fixed order.
pub(crate) fn repository(repository: &Repository) -> Result<String> {
    let mut text = format!("descriptor {}\n", json(repository.descriptor()));
    let mut packs = BTreeMap::new();
    for stanza in repository.stanzas()? {
        writeln!(text, "stanza {stanza}").unwrap();
        for session in sessions(repository, &stanza)? {
            writeln!(text, "session {}", json(&session)).unwrap();
        }
        for (number, entry) in Log::read(repository, &stanza)?.entries() {
            let garbage::Entry { kind, session, written, program, packs } = entry;
            let packs: Vec<_> = packs.iter().map(ToString::to_string).collect();
            writeln!(text, "entry {number}, a {kind:?} of {session} at {written} by {program}: {packs:?}").unwrap();
        }
        let (checked, records) = checked::read(repository, &stanza)?;
        if !records.is_empty() {
            writeln!(text, "checked {}", json(&checked)).unwrap();
        }
        for cluster in repository.clusters(&stanza)? {
            text += &dump_cluster(repository, &stanza, &cluster)?;
        }
        for (label, notes) in repository.backups_with_notes(&stanza)? {
            let (backup, used) = dump_backup(repository, &stanza, &label)?;
            text += &backup;
            let annotations = note::annotations(repository, &stanza, &label, &notes, &BTreeMap::new())?;
            writeln!(text, "  {} notes, annotations {}", notes.len(), json(&annotations)).unwrap();
            packs.extend(used);
        }
        for (id, pack_use) in &packs {
            text += &dump_pack(repository, &stanza, *id, pack_use)?;
        }
    }
    Ok(text)
}

fn dump_cluster(repository: &Repository, stanza: &StanzaName, cluster: &Cluster) -> Result<String> {
    let mut text = format!("cluster {}\n", json(cluster));
    let archive = Archive::new(repository, stanza.clone(), cluster.archive());
    for file in archive.histories()? {
        writeln!(text, "  history {file} {}", escaped(&archive.history(&file)?)).unwrap();
    }
    for directory in archive.directories()? {
        for file in archive.files(&directory)? {
            if file.ends_with(".backup") {
                writeln!(text, "  backup history {file} {}", escaped(&archive.history(&file)?)).unwrap();
            } else {
                text += &dump_segment(&archive.segment(&file)?)?;
            }
        }
    }
    Ok(text)
}

fn dump_segment(segment: &WalObject<'_>) -> Result<String> {
    let mut text = format!("  wal {}, object of {} bytes\n", json(segment.document()), segment.length());
    for block in segment.data() {
        writeln!(text, "    block of {}", summary(&block?)).unwrap();
    }
    writeln!(text, "    analysis '{}'", escaped(&segment.analysis()?)).unwrap();
    Ok(text)
}

fn dump_backup(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
) -> Result<(String, BTreeMap<PackId, PackUse>)> {
    let manifest = Manifest::open(repository, stanza, label)?;
    let packs = manifest.packs()?;
    let mut text = format!("backup {label}, manifest of {} bytes\n", manifest.length());
    writeln!(text, "  document {}", json(manifest.document())).unwrap();
    for (id, PackUse { length, used, root, .. }) in &packs {
        writeln!(text, "  pack {id}: {length} bytes, {used} used, root {}", hexadecimal(root)).unwrap();
    }
    let mut maps = manifest.maps(&packs);
    let files = restore::files(repository, stanza, label)?;
    for entry in restore::entries(&manifest)? {
        text += &entry_line(&entry);
        for run in maps.map(&entry)?.runs() {
            writeln!(text, "    {} pages {}", run.pages, source(run.source)).unwrap();
        }
        if let Some(content) = files.get(&entry.path) {
            writeln!(text, "    content {}", summary(content)).unwrap();
        }
    }
    for entry in manifest.sidecar_entries().collect::<Result<Vec<_>>>()?.concat() {
        text += &sidecar_line(&entry);
        if let SidecarKind::File { size, content } = &entry.kind {
            for run in maps.map_of(content, *size)?.runs() {
                writeln!(text, "    {} pages {}", run.pages, source(run.source)).unwrap();
            }
        }
    }
    Ok((text, packs))
}

fn sidecar_line(SidecarEntry { path, attributes, stamp, kind }: &SidecarEntry) -> String {
    let Attributes { mode, user, group, modified } = attributes;
    let what = match kind {
        SidecarKind::Directory => "directory".to_owned(),
        SidecarKind::File { size, .. } => format!("file of {size} bytes"),
        SidecarKind::Link { target } => format!("link to '{}'", escaped(target)),
        SidecarKind::SameAs { path } => format!("other name of '{}'", escaped(path)),
    };
    let path = escaped(path);
    format!("  sidecar '{path}' {what} mode {mode:o} user {user} group {group} modified {modified} {stamp:?}\n")
}

fn entry_line(Entry { path, link, attributes, kind }: &Entry) -> String {
    let Attributes { mode, user, group, modified } = attributes;
    let link = link.as_ref().map_or_else(String::new, |target| format!(" by a link to '{}'", escaped(target)));
    let path = escaped(path);
    let attributes = format!("mode {mode:o} user {user} group {group} modified {modified}");
    match kind {
        EntryKind::Directory => format!("  directory '{path}'{link} {attributes}\n"),
        EntryKind::File { size, page_checksums, content, damaged } => {
            let content = match content {
                Content::None => "nowhere".to_owned(),
                Content::Map(_) => "here".to_owned(),
                Content::At(MapLocation { pack, block, offset, length }) => {
                    format!("in pack {pack}, {length} bytes at {offset} of block {block}")
                }
            };
            let damaged: Vec<_> = damaged.iter().map(|range| (range.first, range.count)).collect();
            format!(
                "  file '{path}'{link} {attributes}\n    \
                 {size} bytes, page checksums {page_checksums}, damaged {damaged:?}, map {content}\n"
            )
        }
    }
}

fn source(source: Source) -> String {
    match source {
        Source::Zeros => "of zeros".to_owned(),
        Source::Frames { pack, block, slot, stride } => {
            format!("in pack {pack} from block {block} slot {slot} by {stride}")
        }
    }
}

fn dump_pack(repository: &Repository, stanza: &StanzaName, id: PackId, pack_use: &PackUse) -> Result<String> {
    let pack = Pack::open(repository, stanza, id, Some(pack_use.root))?;
    let container = pack.container();
    let mut text = format!("pack {id}\n");
    for file in pack.files()? {
        writeln!(text, "  file '{}'", escaped(&file)).unwrap();
    }
    for (frame, hashes) in pack.frames_with_hashes()? {
        let range = container.range(frame.block)?;
        write!(text, "  frame in block {} at {} to {} of file {}", frame.block, range.start, range.end, frame.file)
            .unwrap();
        match &frame.pages {
            FramePages::Contiguous { first, count } => writeln!(text, ", {count} pages from {first}").unwrap(),
            FramePages::Scattered(pages) => writeln!(text, ", pages {pages:?}").unwrap(),
        }
        writeln!(text, "    {}", summary(&container.block(repository.storage(), frame.block)?)).unwrap();
        for hash in hashes {
            writeln!(text, "    page {}", hexadecimal(&hash)).unwrap();
        }
    }
    for block in container.blocks_of(BlockKind::Maps) {
        let plain = container.block(repository.storage(), block)?;
        writeln!(text, "  maps in block {block}: {}", summary(&plain)).unwrap();
    }
    Ok(text)
}

fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).unwrap()
}

fn summary(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), blake3::hash(bytes).to_hex())
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
