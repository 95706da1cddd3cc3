//! The list of the packs that a backup needs.

use std::collections::BTreeMap;

use ulid::Ulid;

use crate::error::Malformed;
use crate::names::PackId;
use crate::vault::Hash;

/// Bytes of one entry of the list.
const RECORD_LENGTH: usize = 72;

/// What a backup needs of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackUse {
    /// Bytes of the pack.
    pub length: u64,
    /// Bytes of it that the backup uses: its share of the pack.
    pub used: u64,
    /// How many pages and page maps in it the backup uses; 0 where they were not counted.
    pub references: u32,
    /// The pack's root.
    pub root: Hash,
}

/// The packs that a backup needs, ascending, as they are stored: who goes through the lists of many backups does not
/// make a map of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackList(Vec<u8>);

impl PackList {
    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let (records, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(Malformed::new("its pack list ends within a pack"));
        }
        if !records.is_sorted_by(|one, next| id(one) < id(next)) {
            return Err(Malformed::new("the packs in its list do not ascend"));
        }
        Ok(Self(bytes))
    }

    /// Each pack, and what is needed of it.
    pub fn iter(&self) -> impl Iterator<Item = (PackId, PackUse)> + '_ {
        self.0.as_chunks().0.iter().map(|record| (id(record), pack_use(record)))
    }
}

fn id(record: &[u8; RECORD_LENGTH]) -> PackId {
    PackId { session: Ulid::from_bytes(field(record, 0)), number: u32::from_le_bytes(field(record, 16)) }
}

fn pack_use(record: &[u8; RECORD_LENGTH]) -> PackUse {
    PackUse {
        references: u32::from_le_bytes(field(record, 20)),
        length: u64::from_le_bytes(field(record, 24)),
        used: u64::from_le_bytes(field(record, 32)),
        root: field(record, 40),
    }
}

fn field<const LENGTH: usize>(record: &[u8; RECORD_LENGTH], start: usize) -> [u8; LENGTH] {
    let mut field = [0; LENGTH];
    field.copy_from_slice(&record[start..start + LENGTH]);
    field
}

pub(super) fn encode(packs: &BTreeMap<PackId, PackUse>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packs.len() * RECORD_LENGTH);
    for (id, pack) in packs {
        bytes.extend(id.session.to_bytes());
        bytes.extend(id.number.to_le_bytes());
        bytes.extend(pack.references.to_le_bytes());
        bytes.extend(pack.length.to_le_bytes());
        bytes.extend(pack.used.to_le_bytes());
        bytes.extend(pack.root);
    }
    bytes
}
