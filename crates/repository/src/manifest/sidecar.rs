//! The entry of one file of a sidecar in a manifest.

use super::entry::{Attributes, Content, check_path, decode_content, encode_content};
use crate::bytes::{Reader, Write};
use crate::error::Malformed;
use crate::map::page_count;

const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const LINK: u8 = 3;
const SAME_AS: u8 = 4;

/// What tells, without reading a file, that it is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The nanoseconds of the time at which its content was last changed; the seconds are among its attributes.
    pub modified_nanoseconds: u32,
    /// When its content or its attributes were last changed, in seconds since 1970.
    pub changed: i64,
    /// The nanoseconds of that.
    pub changed_nanoseconds: u32,
    /// The number that the file system has for it.
    pub inode: u64,
}

/// What an entry of a sidecar is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SidecarKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Where its content is.
        content: Content,
    },
    /// A directory.
    Directory,
    /// A symbolic link, which is kept as it is.
    Link {
        /// Its text.
        target: Vec<u8>,
    },
    /// Another name of a file: a hard link.
    SameAs {
        /// The path of the entry that has the file's content; it comes before this one.
        path: Vec<u8>,
    },
}

/// A file, directory or link of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarEntry {
    /// The sidecar's name, then the path below its directory; the name alone for the directory itself.
    pub path: Vec<u8>,
    /// Mode, owner and time.
    pub attributes: Attributes,
    /// What tells that it is as it was.
    pub stamp: Stamp,
    /// What it is.
    pub kind: SidecarKind,
}

impl SidecarEntry {
    /// The name of the sidecar that a path is of.
    pub fn sidecar_of(path: &[u8]) -> &[u8] {
        path.split(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The path by which packs know the file: no file of a cluster has a path that begins with a slash.
    pub fn pack_path(path: &[u8]) -> Vec<u8> {
        [b"/", path].concat()
    }

    /// Appends the stored form.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(match self.kind {
            SidecarKind::File { .. } => FILE,
            SidecarKind::Directory => DIRECTORY,
            SidecarKind::Link { .. } => LINK,
            SidecarKind::SameAs { .. } => SAME_AS,
        });
        bytes.put_counted(&self.path);
        bytes.put_varint(u64::from(self.attributes.mode));
        bytes.put_varint(u64::from(self.attributes.user));
        bytes.put_varint(u64::from(self.attributes.group));
        bytes.put_zigzag(self.attributes.modified);
        bytes.put_varint(u64::from(self.stamp.modified_nanoseconds));
        bytes.put_zigzag(self.stamp.changed);
        bytes.put_varint(u64::from(self.stamp.changed_nanoseconds));
        bytes.put_varint(self.stamp.inode);
        match &self.kind {
            SidecarKind::Directory => {}
            SidecarKind::File { size, content } => {
                bytes.put_varint(*size);
                encode_content(content, bytes);
            }
            SidecarKind::Link { target: other } | SidecarKind::SameAs { path: other } => bytes.put_counted(other),
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.u8()?;
        let path = checked_path(reader)?;
        let mut attributes = Attributes {
            mode: reader.varint_u32()?,
            user: reader.varint_u32()?,
            group: reader.varint_u32()?,
            modified: 0,
        };
        attributes.modified = reader.zigzag()?;
        let stamp = Stamp {
            modified_nanoseconds: nanoseconds(reader)?,
            changed: reader.zigzag()?,
            changed_nanoseconds: nanoseconds(reader)?,
            inode: reader.varint()?,
        };
        let kind = match kind {
            DIRECTORY => SidecarKind::Directory,
            FILE => {
                let size = reader.varint()?;
                let pages = page_count(size).ok_or_else(|| Malformed::new(format!("a file of {size} bytes")))?;
                SidecarKind::File { size, content: decode_content(reader, pages)? }
            }
            LINK => SidecarKind::Link { target: link_target(reader)? },
            SAME_AS => SidecarKind::SameAs { path: checked_path(reader)? },
            _ => return Err(Malformed::new(format!("an entry of a sidecar of unknown kind {kind}"))),
        };
        Ok(Self { path, attributes, stamp, kind })
    }
}

/// A path that begins with the name of a sidecar.
fn checked_path(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let path = reader.counted()?.to_vec();
    check_path(&path)?;
    if path.is_empty() { Err(Malformed::new("an entry of a sidecar without a path")) } else { Ok(path) }
}

/// A link may say anything, but no file system makes one that says nothing.
fn link_target(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let target = reader.counted()?.to_vec();
    let is_sound = !target.is_empty() && !target.contains(&0);
    if is_sound { Ok(target) } else { Err(Malformed::new("a link of a sidecar that leads to no path")) }
}

fn nanoseconds(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let nanoseconds = reader.varint_u32()?;
    if nanoseconds < 1_000_000_000 {
        return Ok(nanoseconds);
    }
    Err(Malformed::new(format!("a time with {nanoseconds} nanoseconds")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;
    use crate::PackId;
    use crate::map::{PageMap, Run, Source};

    fn kind() -> impl Strategy<Value = SidecarKind> {
        let file = (1_u64..1 << 40, any::<u8>()).prop_map(|(size, number)| {
            let pack = PackId { session: Ulid::from_bytes([3; 16]), number: number.into() };
            let mut map = PageMap::default();
            let source = Source::Frames { pack, block: 7, slot: 0, stride: 16 };
            map.push(Run { pages: page_count(size).unwrap(), source });
            SidecarKind::File { size, content: Content::Map(map) }
        });
        prop_oneof![
            3 => file,
            1 => Just(SidecarKind::File { size: 0, content: Content::None }),
            1 => Just(SidecarKind::Directory),
            1 => proptest::collection::vec(1_u8.., 1..40).prop_map(|target| SidecarKind::Link { target }),
            1 => "[a-z]{1,8}(/[a-z]{1,3}){1,3}".prop_map(|path| SidecarKind::SameAs { path: path.into_bytes() }),
        ]
    }

    fn entry() -> impl Strategy<Value = SidecarEntry> {
        let stamp = (0_u32..1_000_000_000, any::<i64>(), any::<u64>()).prop_map(|(nanoseconds, changed, inode)| {
            Stamp { modified_nanoseconds: nanoseconds, changed, changed_nanoseconds: nanoseconds / 2, inode }
        });
        ("[a-z]{1,8}(/[a-z0-9_.]{2,8}x){0,3}", any::<(u32, u32, i64)>(), stamp, kind()).prop_map(
            |(path, (mode, user, modified), stamp, kind)| {
                let attributes = Attributes { mode, user, group: user / 2, modified };
                SidecarEntry { path: path.into_bytes(), attributes, stamp, kind }
            },
        )
    }

    proptest! {
        #[test]
        fn entries_go_both_ways(entry in entry()) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(SidecarEntry::decode(&mut reader).unwrap(), entry);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn changed_entries_never_panic(entry in entry(), position: proptest::sample::Index, byte: u8) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let position = position.index(bytes.len());
            bytes[position] = byte;
            let _may_fail = SidecarEntry::decode(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["", "/etc/passwd", "../outside", "cache/../../etc", "cache//x", "cache/."] {
            for kind in [SidecarKind::Directory, SidecarKind::SameAs { path: path.into() }] {
                let own = if kind == SidecarKind::Directory { path } else { "cache/x" };
                let entry =
                    SidecarEntry { path: own.into(), attributes: Attributes::default(), stamp: Stamp::default(), kind };
                let mut bytes = Vec::new();
                entry.encode(&mut bytes);
                assert!(SidecarEntry::decode(&mut Reader::new(&bytes)).is_err(), "{path}");
            }
        }
    }

    #[test]
    fn packs_know_files_of_sidecars_by_paths_that_no_cluster_has() {
        assert_eq!(SidecarEntry::pack_path(b"cache/hub/x"), b"/cache/hub/x");
        assert_eq!(SidecarEntry::sidecar_of(b"cache/hub/x"), b"cache");
        assert_eq!(SidecarEntry::sidecar_of(b"cache"), b"cache");
    }
}
