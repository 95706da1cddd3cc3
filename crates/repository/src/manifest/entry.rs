//! The entry of one file in a manifest.

use ulid::Ulid;

use super::document::PageRange;
use crate::bytes::{Reader, Write};
use crate::error::Malformed;
use crate::map::{PageMap, page_count};
use crate::names::PackId;

const FILE: u8 = 1;
const DIRECTORY: u8 = 2;

const CONTENT_NONE: u8 = 0;
const CONTENT_MAP: u8 = 1;
const CONTENT_LOCATION: u8 = 2;

const PAGE_CHECKSUMS: u64 = 1;

/// Mode, owner and time of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// 0 for unknown, else 1 + the position in the document's users.
    pub user: u32,
    /// 0 for unknown, else 1 + the position in the document's groups.
    pub group: u32,
    /// When it was last changed, in seconds since 1970.
    pub modified: i64,
}

/// Where a page map lies that is not in the manifest itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLocation {
    /// The pack.
    pub pack: PackId,
    /// The block of maps in it.
    pub block: u32,
    /// Where the map begins in the block's plain bytes.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// Where the content of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The file is empty.
    None,
    /// By this map.
    Map(PageMap),
    /// By the map that lies there.
    At(MapLocation),
}

/// What an entry is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Whether its pages have PostgreSQL's page checksums.
        page_checksums: bool,
        /// Where its content is.
        content: Content,
        /// The pages whose checksums did not match when they were read, ascending and apart.
        damaged: Vec<PageRange>,
    },
    /// A directory.
    Directory,
}

/// One file or directory of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path relative to the data directory, bytes as the file system has them; empty for the data directory.
    pub path: Vec<u8>,
    /// Where the name led, if it was a symbolic link. All else is of what it led to.
    pub link: Option<Vec<u8>>,
    /// Mode, owner and time.
    pub attributes: Attributes,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry {
    /// Appends the stored form.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(match self.kind {
            EntryKind::File { .. } => FILE,
            EntryKind::Directory => DIRECTORY,
        });
        bytes.put_counted(&self.path);
        bytes.put_counted(self.link.as_deref().unwrap_or_default());
        bytes.put_varint(u64::from(self.attributes.mode));
        bytes.put_varint(u64::from(self.attributes.user));
        bytes.put_varint(u64::from(self.attributes.group));
        bytes.put_zigzag(self.attributes.modified);
        match &self.kind {
            EntryKind::Directory => {}
            EntryKind::File { size, page_checksums, content, damaged } => {
                bytes.put_varint(*size);
                bytes.put_varint(if *page_checksums { PAGE_CHECKSUMS } else { 0 });
                encode_content(content, bytes);
                encode_ranges(damaged, bytes);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.u8()?;
        let path = reader.counted()?.to_vec();
        check_path(&path)?;
        let link = Some(reader.counted()?.to_vec()).filter(|target| !target.is_empty());
        let attributes = Attributes {
            mode: reader.varint_u32()?,
            user: reader.varint_u32()?,
            group: reader.varint_u32()?,
            modified: reader.zigzag()?,
        };
        let kind = match kind {
            DIRECTORY => EntryKind::Directory,
            FILE => decode_file(reader)?,
            _ => return Err(Malformed::new(format!("an entry of unknown kind {kind}"))),
        };
        Ok(Self { path, link, attributes, kind })
    }
}

/// A restore writes to these paths, so that they must not lead out of the data directory.
pub(super) fn check_path(path: &[u8]) -> Result<(), Malformed> {
    let is_sound = path.is_empty()
        || !path.contains(&0) && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if is_sound {
        Ok(())
    } else {
        Err(Malformed::new(format!("an entry with the path '{}'", String::from_utf8_lossy(path))))
    }
}

fn decode_file(reader: &mut Reader<'_>) -> Result<EntryKind, Malformed> {
    let size = reader.varint()?;
    let pages = page_count(size).ok_or_else(|| Malformed::new(format!("a file of {size} bytes")))?;
    let flags = reader.varint()?;
    if flags & !PAGE_CHECKSUMS != 0 {
        return Err(Malformed::new(format!("an entry with unknown flags {flags:#x}")));
    }
    let content = decode_content(reader, pages)?;
    let damaged = decode_ranges(reader, pages)?;
    Ok(EntryKind::File { size, page_checksums: flags & PAGE_CHECKSUMS != 0, content, damaged })
}

pub(super) fn encode_content(content: &Content, bytes: &mut Vec<u8>) {
    match content {
        Content::None => bytes.push(CONTENT_NONE),
        Content::Map(map) => {
            bytes.push(CONTENT_MAP);
            bytes.put_counted(&map.encode());
        }
        Content::At(location) => {
            bytes.push(CONTENT_LOCATION);
            bytes.extend(location.pack.session.to_bytes());
            bytes.extend(location.pack.number.to_le_bytes());
            bytes.put_varint(u64::from(location.block));
            bytes.put_varint(u64::from(location.offset));
            bytes.put_varint(u64::from(location.length));
        }
    }
}

pub(super) fn decode_content(reader: &mut Reader<'_>, pages: u32) -> Result<Content, Malformed> {
    match reader.u8()? {
        CONTENT_NONE if pages == 0 => Ok(Content::None),
        CONTENT_MAP => Ok(Content::Map(PageMap::decode(reader.counted()?, pages)?)),
        CONTENT_LOCATION => Ok(Content::At(MapLocation {
            pack: PackId { session: Ulid::from_bytes(reader.array()?), number: reader.u32()? },
            block: reader.varint_u32()?,
            offset: reader.varint_u32()?,
            length: reader.varint_u32()?,
        })),
        other => Err(Malformed::new(format!("a file of {pages} pages with content {other}"))),
    }
}

fn encode_ranges(ranges: &[PageRange], bytes: &mut Vec<u8>) {
    bytes.put_varint(ranges.len() as u64);
    let mut end = 0;
    for range in ranges {
        bytes.put_varint(u64::from(range.first - end));
        bytes.put_varint(u64::from(range.count));
        end = range.first + range.count;
    }
}

fn decode_ranges(reader: &mut Reader<'_>, pages: u32) -> Result<Vec<PageRange>, Malformed> {
    let count = reader.count(2)?;
    let mut ranges = Vec::with_capacity(count);
    let mut end = 0_u32;
    for _ in 0..count {
        let first = end.checked_add(reader.varint_u32()?);
        let count = reader.varint_u32()?;
        let range = first.filter(|_| count > 0).map(|first| PageRange { first, count });
        let range_end = range.and_then(|range| range.first.checked_add(range.count)).filter(|end| *end <= pages);
        let (Some(range), Some(range_end)) = (range, range_end) else {
            return Err(Malformed::new("a range of damaged pages that is not in the file"));
        };
        ranges.push(range);
        end = range_end;
    }
    Ok(ranges)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::map::{Run, Source};

    fn map() -> impl Strategy<Value = PageMap> {
        proptest::collection::vec((1_u32..500, 0_u32..9, any::<u8>()), 0..8).prop_map(|runs| {
            let mut map = PageMap::default();
            for (pages, number, block) in runs {
                let pack = PackId { session: Ulid::from_bytes([3; 16]), number };
                let source = Source::Frames { pack, block: u32::from(block), slot: 0, stride: 16 };
                map.push(Run { pages, source });
            }
            map
        })
    }

    fn kind() -> impl Strategy<Value = EntryKind> {
        let file = (map(), 0_u64..8192, any::<bool>()).prop_map(|(map, cut, page_checksums)| {
            let pages = u32::try_from(map.page_count()).unwrap();
            let size = (map.page_count() * 8192).saturating_sub(cut);
            let content = if size == 0 { Content::None } else { Content::Map(map) };
            let damaged = if pages > 9 {
                vec![PageRange { first: 0, count: 2 }, PageRange { first: 5, count: 1 }]
            } else {
                Vec::new()
            };
            EntryKind::File { size, page_checksums, content, damaged }
        });
        prop_oneof![
            3 => file,
            1 => Just(EntryKind::Directory),
        ]
    }

    pub(in crate::manifest) fn entry() -> impl Strategy<Value = Entry> {
        let attributes = (any::<u32>(), any::<u32>(), any::<i64>()).prop_map(|(mode, user, modified)| Attributes {
            mode,
            user,
            group: user / 2,
            modified,
        });
        let link = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40));
        ("[a-z]{1,8}(/[a-z0-9_.]{2,8}x){0,3}", link, attributes, kind())
            .prop_map(|(path, link, attributes, kind)| Entry { path: path.into_bytes(), link, attributes, kind })
    }

    proptest! {
        #[test]
        fn entries_go_both_ways(entry in entry()) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Entry::decode(&mut reader).unwrap(), entry);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _may_fail = Entry::decode(&mut Reader::new(&bytes));
        }

        #[test]
        fn changed_entries_never_panic(entry in entry(), position: proptest::sample::Index, byte: u8) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let position = position.index(bytes.len());
            bytes[position] = byte;
            let _may_fail = Entry::decode(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn paths_that_lead_out_of_the_data_directory_are_refused() {
        for path in ["/etc/passwd", "..", "base/../../x", "a//b", "a/", ".", "a\0b"] {
            assert!(check_path(path.as_bytes()).is_err(), "{path}");
        }
        for path in ["", "base/5/1259", "..a", "pg_tblspc/16385/PG_15_202209061/5/1"] {
            assert!(check_path(path.as_bytes()).is_ok(), "{path}");
        }
    }
}
