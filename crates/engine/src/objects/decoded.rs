//! Objects as a person can read them: documents as JSON, WAL as PostgreSQL wrote it, manifests and packs as lines of
//! JSON.

use std::io::Write;

use pgark_repository::Repository;
use pgark_repository::container::{BlockKind, ObjectKind};
use pgark_repository::manifest::{
    Attributes, Content, Entry, EntryKind, Manifest, ManifestDocument, PackUse, PageRange, SidecarEntry, SidecarKind,
};
use pgark_repository::map::{Run, Source};
use pgark_repository::pack::{FramePages, Pack};
use pgark_repository::wal::WalObject;
use pgark_storage::Key;
use serde::Serialize;

use super::put;
use crate::error::{Error, ErrorKind, Result};

/// Writes what an object holds.
pub(super) fn write(repository: &Repository, key: &Key, sink: &mut dyn Write) -> Result<()> {
    let storage = repository.storage();
    let kind = match ObjectKind::of(storage, key) {
        Err(error) if error.is_not_found() => return Err(super::missing(storage, key)),
        kind => kind?,
    };
    let Some(kind) = kind else {
        return Err(Error::new(ErrorKind::Format, format!("'{key}' is no object of pgark"))
            .hint("--raw writes what is stored, byte for byte"));
    };
    match kind {
        ObjectKind::Wal => WalObject::open_whole(repository, key)?.data().try_for_each(|data| put(sink, &data?)),
        ObjectKind::Auxiliary => put(sink, &repository.only_block(kind, key, BlockKind::Content)?),
        ObjectKind::Manifest => write_manifest(&Manifest::open_object(repository, key)?, sink),
        ObjectKind::Pack => write_pack(&Pack::open_object(repository, key)?, sink),
        _ => {
            put(sink, &repository.only_block(kind, key, BlockKind::Document)?)?;
            put(sink, b"\n")
        }
    }
}

/// A line of what is written of a manifest or a pack.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'object> {
    Backup(&'object ManifestDocument),
    Directory(FileLine),
    File(FileLine),
    Late(FileLine),
    Sidecar(FileLine),
    Needs(NeedLine),
    Pack(PackLine),
    Frame(FrameLine),
}

#[derive(Serialize)]
struct FileLine {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// The path of the entry that has the content of this one.
    #[serde(rename = "same-as", skip_serializing_if = "Option::is_none")]
    same_as: Option<String>,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    modified: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<PageRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<MapLine>,
}

/// Where the pages of a file are: in these runs, or as the map says that lies in a pack.
#[derive(Serialize)]
#[serde(untagged)]
enum MapLine {
    Runs(Vec<RunLine>),
    At { pack: String, block: u32, offset: u32, length: u32 },
}

#[derive(Serialize)]
#[serde(untagged)]
enum RunLine {
    Zeros { zeros: u32 },
    Pages { pages: u32, pack: String, block: u32, slot: u16, stride: u16 },
}

#[derive(Serialize)]
struct NeedLine {
    pack: String,
    length: u64,
    used: u64,
}

#[derive(Serialize)]
struct PackLine {
    length: u64,
    blocks: u32,
}

#[derive(Serialize)]
struct FrameLine {
    block: u32,
    file: String,
    #[serde(flatten)]
    pages: PagesLine,
    stored: u64,
    plain: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PagesLine {
    Contiguous { first: u32, count: u16 },
    Scattered { pages: Vec<u32> },
}

fn write_manifest(manifest: &Manifest<'_>, sink: &mut dyn Write) -> Result<()> {
    let document = manifest.document();
    write_line(sink, &Line::Backup(document))?;
    for entries in manifest.entries() {
        for entry in entries? {
            let line = file_line(document, &entry);
            write_line(
                sink,
                &match entry.kind {
                    EntryKind::Directory => Line::Directory(line),
                    EntryKind::File { .. } => Line::File(line),
                },
            )?;
        }
    }
    for entries in manifest.sidecar_entries() {
        for entry in entries? {
            write_line(sink, &Line::Sidecar(sidecar_line(document, &entry)))?;
        }
    }
    for entry in manifest.late_entries()? {
        write_line(sink, &Line::Late(file_line(document, &entry)))?;
    }
    for (pack, PackUse { length, used, .. }) in manifest.packs()? {
        write_line(sink, &Line::Needs(NeedLine { pack: pack.to_string(), length, used }))?;
    }
    Ok(())
}

fn file_line(document: &ManifestDocument, entry: &Entry) -> FileLine {
    let line = bare_line(document, &entry.path, &entry.attributes);
    let line = FileLine { link: entry.link.as_deref().map(text), ..line };
    match &entry.kind {
        EntryKind::Directory => line,
        EntryKind::File { size, content, damaged, .. } => {
            FileLine { size: Some(*size), damaged: damaged.clone(), map: map_line(content), ..line }
        }
    }
}

fn sidecar_line(document: &ManifestDocument, entry: &SidecarEntry) -> FileLine {
    let line = bare_line(document, &entry.path, &entry.attributes);
    match &entry.kind {
        SidecarKind::Directory => line,
        SidecarKind::Link { target } => FileLine { link: Some(text(target)), ..line },
        SidecarKind::SameAs { path } => FileLine { same_as: Some(text(path)), ..line },
        SidecarKind::File { size, content } => FileLine { size: Some(*size), map: map_line(content), ..line },
    }
}

/// What every entry says.
fn bare_line(document: &ManifestDocument, path: &[u8], attributes: &Attributes) -> FileLine {
    let name = |names: &[String], number: u32| names.get((number as usize).checked_sub(1)?).cloned();
    FileLine {
        path: text(path),
        link: None,
        same_as: None,
        mode: format!("{:04o}", attributes.mode),
        user: name(&document.users, attributes.user),
        group: name(&document.groups, attributes.group),
        modified: attributes.modified,
        size: None,
        damaged: Vec::new(),
        map: None,
    }
}

fn map_line(content: &Content) -> Option<MapLine> {
    match content {
        Content::None => None,
        Content::Map(map) => Some(MapLine::Runs(map.runs().map(run_line).collect())),
        Content::At(at) => {
            Some(MapLine::At { pack: at.pack.to_string(), block: at.block, offset: at.offset, length: at.length })
        }
    }
}

fn run_line(run: Run) -> RunLine {
    match run.source {
        Source::Zeros => RunLine::Zeros { zeros: run.pages },
        Source::Frames { pack, block, slot, stride } => {
            RunLine::Pages { pages: run.pages, pack: pack.to_string(), block, slot, stride }
        }
    }
}

fn write_pack(pack: &Pack<'_>, sink: &mut dyn Write) -> Result<()> {
    let container = pack.container();
    write_line(sink, &Line::Pack(PackLine { length: container.length(), blocks: container.block_count() }))?;
    let files = pack.files()?;
    for frame in pack.frames()? {
        let range = container.range(frame.block)?;
        let line = FrameLine {
            block: frame.block,
            file: files.get(frame.file as usize).map(|path| text(path)).unwrap_or_default(),
            pages: match frame.pages {
                FramePages::Contiguous { first, count } => PagesLine::Contiguous { first, count },
                FramePages::Scattered(pages) => PagesLine::Scattered { pages },
            },
            stored: range.end - range.start,
            plain: container.plain_length(frame.block)?,
        };
        write_line(sink, &Line::Frame(line))?;
    }
    Ok(())
}

/// A path as text. Bytes that are no text are shown as such.
fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn write_line(sink: &mut dyn Write, line: &Line<'_>) -> Result<()> {
    let mut json = serde_json::to_vec(line)
        .map_err(|error| Error::new(ErrorKind::Runtime, "failed to write JSON").source(error))?;
    json.push(b'\n');
    put(sink, &json)
}
