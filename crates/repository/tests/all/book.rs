//! A second reader of the format, written by `docs/format.md` alone: it shares no code with the crate. What both read
//! alike is what the page says. It panics where an object is not as the page says.

use std::collections::BTreeMap;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::Value;

/// What is needed to read a repository: its id and, where it is encrypted, its master key. Section 3.
pub(crate) struct Book {
    repository: [u8; 16],
    master: Option<[u8; 32]>,
}

/// An object with all its blocks. Section 2.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) magic: [u8; 8],
    pub(crate) blocks: Vec<Block>,
    pub(crate) root: [u8; 32],
}

/// A block, its kind, and how it was encoded.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) kind: u8,
    pub(crate) codec: u8,
    pub(crate) plain: Vec<u8>,
}

impl Object {
    /// The plain bytes of the only block of a kind.
    pub(crate) fn only(&self, kind: u8) -> &[u8] {
        let mut blocks = self.blocks.iter().filter(|block| block.kind == kind);
        let block = blocks.next().unwrap();
        assert!(blocks.next().is_none());
        &block.plain
    }

    pub(crate) fn document(&self) -> Value {
        serde_json::from_slice(self.only(1)).unwrap()
    }
}

impl Book {
    /// Opens a repository by its descriptor and key slots. Sections 3.1, 4.1.
    pub(crate) fn open(objects: &BTreeMap<String, Vec<u8>>, passphrase: Option<&str>) -> Self {
        let descriptor = &objects["pgark.repo"];
        let repository = array(&descriptor[16..32]);
        let mut book = Self { repository, master: None };
        let document = book.read("pgark.repo", descriptor).document();
        assert_eq!(document["format"], 1);
        assert_eq!(document["id"], hexadecimal(&repository));
        match passphrase {
            None => assert_eq!(document["cipher"], "none"),
            Some(passphrase) => {
                assert_eq!(document["cipher"], "aes-256-gcm");
                let slots = objects.iter().filter(|(name, _)| name.starts_with("key/"));
                let mut opened = slots.filter_map(|(name, object)| book.unwrap(name, object, passphrase));
                book.master = Some(opened.next().unwrap());
            }
        }
        book
    }

    fn unwrap(&self, name: &str, object: &[u8], passphrase: &str) -> Option<[u8; 32]> {
        if object[16..32] != self.repository {
            return None;
        }
        let slot = self.read(name, object).document();
        assert_eq!(slot["kdf"], "argon2id");
        let number = |member: &str| u32::try_from(slot[member].as_u64().unwrap()).unwrap();
        let bytes = |member: &str| BASE64.decode(slot[member].as_str().unwrap()).unwrap();
        let parameters = Params::new(number("memory_kib"), number("passes"), number("lanes"), Some(32)).unwrap();
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(passphrase.as_bytes(), &bytes("salt"), &mut key)
            .unwrap();
        let associated = [&self.repository, name.as_bytes()].concat();
        let mut wrapped = bytes("wrapped");
        let nonce = Nonce::assume_unique_for_key(array(&bytes("nonce")));
        aes(&key).open_in_place(nonce, Aad::from(associated), &mut wrapped).ok().map(|master| array(master))
    }

    /// The keyed or plain hash of the repository's objects.
    pub(crate) fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        match self.master {
            None => *blake3::hash(bytes).as_bytes(),
            Some(master) => {
                let key = blake3::derive_key("pgark v1 hash key", &[&master[..], &self.repository].concat());
                *blake3::keyed_hash(&key, bytes).as_bytes()
            }
        }
    }

    /// Reads an object and checks all of it.
    pub(crate) fn read(&self, name: &str, object: &[u8]) -> Object {
        let trailer = &object[object.len() - 192..];
        let header = &object[..64];
        assert_eq!(header, &trailer[..64]);
        assert_eq!(header[8..10], [1, 0]);
        let is_plain = matches!(&header[..8], b"PGARKREP" | b"PGARKKEY") || self.master.is_none();
        assert_eq!(header[10..12], [u8::from(!is_plain), 0]);
        assert_eq!(header[16..32], self.repository);
        let hash = |bytes: &[u8]| if is_plain { *blake3::hash(bytes).as_bytes() } else { self.hash(bytes) };
        let key = self.master.filter(|_| !is_plain).map(|master| {
            let material = [&master[..], &self.repository, &header[32..64], name.as_bytes()].concat();
            aes(&blake3::derive_key("pgark v1 object key", &material))
        });
        let open = |number: u32, stored: &[u8]| open_block(key.as_ref(), &header[32..64], number, stored);

        let root = array(&trailer[160..]);
        let material = [&u32::try_from(name.len()).unwrap().to_le_bytes(), name.as_bytes(), &trailer[..160]].concat();
        assert_eq!(hash(&material), root);
        assert_eq!(&trailer[64..72], b"PGARKEND");
        assert_eq!([trailer[77..80].to_vec(), trailer[136..160].to_vec()].concat(), [0; 27]);
        let count = u32_at(trailer, 72);
        let index_offset = usize::try_from(u64_at(trailer, 80)).unwrap();
        let index_end = index_offset + u32_at(trailer, 88) as usize;
        assert_eq!(index_end, object.len() - 192);
        assert_eq!(u32_at(trailer, 92), count * 48);
        assert_eq!(u64_at(trailer, 128), object.len() as u64);
        let index = decode(trailer[76], &open(count, &object[index_offset..index_end]), u32_at(trailer, 92));
        assert_eq!(hash(&index), trailer[96..128]);

        let mut start = 64;
        let mut blocks = Vec::new();
        for (number, record) in (0..).zip(index.chunks(48)) {
            let stored_length = u32_at(record, 0) as usize;
            let plain = decode(record[8], &open(number, &object[start..start + stored_length]), u32_at(record, 4));
            assert_eq!(record[10..16], [0; 6]);
            assert_eq!(hash(&plain), record[16..48]);
            blocks.push(Block { kind: record[9], codec: record[8], plain });
            start += stored_length;
        }
        assert_eq!(start, index_offset);
        // Bit 0 of the features: the manifest has sidecars.
        let has_sidecars = &header[..8] == b"PGARKMAN" && blocks.iter().any(|block: &Block| block.kind == 36);
        assert_eq!(u32_at(header, 12), u32::from(has_sidecars));
        Object { magic: array(&header[..8]), blocks, root }
    }
}

fn open_block(key: Option<&LessSafeKey>, salt: &[u8], number: u32, stored: &[u8]) -> Vec<u8> {
    let Some(key) = key else { return stored.to_vec() };
    let number = u64::from(number).to_le_bytes();
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number);
    let mut bytes = stored.to_vec();
    let associated = [salt, &number].concat();
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated), &mut bytes).unwrap().to_vec()
}

fn decode(codec: u8, encoded: &[u8], plain_length: u32) -> Vec<u8> {
    let plain_length = plain_length as usize;
    let plain = match codec {
        0 => encoded.to_vec(),
        1 => zstd::bulk::decompress(encoded, plain_length).unwrap(),
        2 => lz4_flex::block::decompress(encoded, plain_length).unwrap(),
        3 => absolute(zstd::bulk::decompress(encoded, plain_length).unwrap()),
        4 => rows(4, &zstd::bulk::decompress(encoded, plain_length).unwrap()),
        5 => rows(8, &zstd::bulk::decompress(encoded, plain_length).unwrap()),
        _ => panic!("unknown codec {codec}"),
    };
    assert_eq!(plain.len(), plain_length);
    plain
}

/// Rows of so many bytes, of their columns. Section 2.2.1.
fn rows(width: usize, columns: &[u8]) -> Vec<u8> {
    let count = columns.len() / width;
    let row = |row: usize| (0..width).map(move |column| columns[column * count + row]);
    (0..count).flat_map(row).chain(columns[width * count..].iter().copied()).collect()
}

/// Pages as PostgreSQL knows them, of relative ones. Section 2.2.1.
fn absolute(mut bytes: Vec<u8>) -> Vec<u8> {
    for page in bytes.chunks_exact_mut(8192) {
        let (end, special, version) = (u16_at(page, 12), u16_at(page, 16), u16_at(page, 18));
        if version != 0x2004 || !(28..=8192).contains(&end) || end % 4 != 0 {
            continue;
        }
        let mut before = i64::from(special);
        let (mut run, mut low, mut column) = (special == 8192, 8192, 0_u64);
        let mut first = None;
        for (line, at) in (24..usize::from(end)).step_by(4).enumerate() {
            let (pointer, length) = (u32_at(page, at), u32_at(page, at) >> 17);
            if length == 0 {
                continue;
            }
            let (flags, padded) = (pointer >> 15 & 3, i64::from(length.div_ceil(8) * 8));
            let offset = (i64::from(pointer % 32768) + before - padded).rem_euclid(32768);
            page[at..at + 4].copy_from_slice(&(pointer / 32768 * 32768 + u32::try_from(offset).unwrap()).to_le_bytes());
            let right_below = offset + padded == before;
            before = offset;
            let has_ctid = flags == 1 && length >= 24 && offset >= i64::from(end) && offset % 8 == 0;
            run &= right_below && has_ctid;
            let tuple = usize::try_from(offset).unwrap();
            if run {
                let columns = u32::from(page[tuple + 22]);
                run = columns >= 24 && columns % 8 == 0 && columns + 8 <= length;
                if run {
                    low = tuple;
                    let at = tuple + columns as usize;
                    column = column.wrapping_add(u64_at(page, at));
                    page[at..at + 8].copy_from_slice(&column.to_le_bytes());
                }
            }
            if special != 8192 || !has_ctid || !run && tuple + 24 > low {
                continue;
            }
            let mut add = |at: usize, number: u16| {
                let sum = u16_at(page, tuple + at).wrapping_add(number);
                page[tuple + at..tuple + at + 2].copy_from_slice(&sum.to_le_bytes());
            };
            add(16, u16::try_from(line + 1).unwrap());
            match first {
                None => first = Some((tuple, u16_at(page, tuple + 12), u16_at(page, tuple + 14))),
                Some((first, high, low)) if first != tuple => {
                    add(12, high);
                    add(14, low);
                }
                Some(_) => {}
            }
        }
    }
    bytes
}

fn aes(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

/// Bytes that are read from front to back. The page's varints and counted bytes.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(usize::try_from(length).unwrap());
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte();
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn zigzag(&mut self) -> i64 {
        let value = self.varint();
        (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
    }

    fn counted(&mut self) -> &'a [u8] {
        let length = self.varint();
        self.take(length)
    }

    /// A pack's identity, as the name of its object ends.
    fn pack(&mut self) -> String {
        let session = ulid::Ulid::from_bytes(array(self.take(16)));
        format!("{session}/{:08x}", u32_at(self.take(4), 0))
    }
}

/// A backup, read from the bytes of its objects. Sections 5 to 7.
pub(crate) struct Backup<'a> {
    pub(crate) manifest: Object,
    packs: BTreeMap<String, Object>,
    book: &'a Book,
}

impl<'a> Backup<'a> {
    pub(crate) fn open(book: &'a Book, objects: &BTreeMap<String, Vec<u8>>, stanza: &str, label: &str) -> Self {
        let name = format!("stanza/{stanza}/backup/{label}/manifest");
        let manifest = book.read(&name, &objects[&name]);
        assert_eq!(&manifest.magic, b"PGARKMAN");
        let mut packs = BTreeMap::new();
        for record in manifest.only(34).chunks(72) {
            let id = Cursor(record).pack();
            let name = format!("stanza/{stanza}/pack/{id}");
            let pack = book.read(&name, &objects[&name]);
            assert_eq!(&pack.magic, b"PGARKPAC");
            assert_eq!(record[20..24], [0; 4]);
            assert_eq!(u64_at(record, 24), objects[&name].len() as u64);
            assert_eq!(record[40..72], pack.root);
            packs.insert(id, pack);
        }
        let backup = Self { manifest, packs, book };
        backup.packs.values().for_each(|pack| backup.check_tables(pack));
        backup
    }

    /// The content of the files, by path.
    pub(crate) fn files(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut files = BTreeMap::new();
        for block in self.manifest.blocks.iter().filter(|block| matches!(block.kind, 32 | 35)) {
            let mut cursor = Cursor(&block.plain);
            while !cursor.0.is_empty() {
                if let Some((path, content)) = self.entry(&mut cursor) {
                    assert!(files.insert(path, content).is_none());
                }
            }
        }
        files
    }

    /// The entries of sidecars, one line each, and the contents of their files. Section 7.3.
    pub(crate) fn sidecars(&self) -> (Vec<String>, BTreeMap<Vec<u8>, Vec<u8>>) {
        let (mut lines, mut files) = (Vec::new(), BTreeMap::new());
        for block in self.manifest.blocks.iter().filter(|block| block.kind == 36) {
            let mut cursor = Cursor(&block.plain);
            while !cursor.0.is_empty() {
                let kind = cursor.byte();
                let path = cursor.counted().to_vec();
                let [mode, _user, _group] = [(); 3].map(|()| cursor.varint());
                let (modified, nanoseconds) = (cursor.zigzag(), cursor.varint());
                let (changed, changed_nanoseconds, inode) = (cursor.zigzag(), cursor.varint(), cursor.varint());
                let what = match kind {
                    1 => {
                        let size = cursor.varint();
                        let content = match cursor.byte() {
                            0 => Vec::new(),
                            1 => self.pages(cursor.counted()),
                            other => panic!("content {other}"),
                        };
                        files.insert(path.clone(), cut(content, size));
                        format!("file of {size}")
                    }
                    2 => "directory".to_owned(),
                    3 => format!("link to {}", cursor.counted().escape_ascii()),
                    4 => format!("same as {}", cursor.counted().escape_ascii()),
                    other => panic!("kind {other}"),
                };
                let path = path.escape_ascii();
                lines.push(format!(
                    "{path}: {what}, {mode:o}, {modified}.{nanoseconds:09}, {changed}.{changed_nanoseconds:09}, {inode}"
                ));
            }
        }
        (lines, files)
    }

    /// The first paths that the file index gives, by block.
    pub(crate) fn file_index(&self) -> Vec<(u64, Vec<u8>)> {
        let mut cursor = Cursor(self.manifest.only(33));
        let mut index = Vec::new();
        while !cursor.0.is_empty() {
            index.push((cursor.varint(), cursor.counted().to_vec()));
        }
        index
    }

    /// The path and content of the next entry, if it is a file.
    fn entry(&self, cursor: &mut Cursor<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
        let kind = cursor.byte();
        let path = cursor.counted().to_vec();
        let _link = cursor.counted();
        for _attribute in ["mode", "user", "group", "modified"] {
            cursor.varint();
        }
        if kind == 2 {
            return None;
        }
        assert_eq!(kind, 1);
        let size = cursor.varint();
        let flags = cursor.varint();
        assert!(flags <= 1);
        let content = match cursor.byte() {
            0 => Vec::new(),
            1 => self.pages(cursor.counted()),
            2 => {
                let pack = cursor.pack();
                let (block, offset, length) = (cursor.varint(), cursor.varint(), cursor.varint());
                let block = &self.packs[&pack].blocks[usize::try_from(block).unwrap()];
                assert_eq!(block.kind, 17);
                let mut map = Cursor(&block.plain);
                map.take(offset);
                self.pages(map.take(length))
            }
            other => panic!("content {other}"),
        };
        for _range in 0..cursor.varint() {
            cursor.varint();
            cursor.varint();
        }
        Some((path, cut(content, size)))
    }

    /// The pages of a map, back to back, the last one filled up with zeros if it is short.
    fn pages(&self, map: &[u8]) -> Vec<u8> {
        let mut cursor = Cursor(map);
        let packs: Vec<_> = (0..cursor.varint()).map(|_| cursor.pack()).collect();
        let mut pages = Vec::new();
        for _run in 0..cursor.varint() {
            let count = cursor.varint();
            let source = cursor.varint();
            let Some(pack) = source.checked_sub(1) else {
                pages.resize(pages.len() + usize::try_from(count * 8192).unwrap(), 0);
                continue;
            };
            let pack = &self.packs[&packs[usize::try_from(pack).unwrap()]];
            let (block, slot, stride) = (cursor.varint(), cursor.varint(), cursor.varint());
            for page in 0..count {
                let frame = &pack.blocks[usize::try_from(block + (slot + page) / stride).unwrap()];
                assert_eq!(frame.kind, 16);
                let start = usize::try_from((slot + page) % stride * 8192).unwrap();
                let end = frame.plain.len().min(start + 8192);
                pages.extend_from_slice(&frame.plain[start..end]);
            }
        }
        assert!(cursor.0.is_empty());
        pages
    }

    /// Checks that the tables of a pack say of each frame what it holds. Section 5.
    fn check_tables(&self, pack: &Object) {
        let mut files = Cursor(pack.only(20));
        let mut file_count = 0;
        while !files.0.is_empty() {
            files.counted();
            file_count += 1;
        }
        let mut hashes = pack.only(19).chunks(16);
        let mut listed = 0;
        for entry in pack.only(18).chunks(16) {
            let frame = &pack.blocks[u32_at(entry, 0) as usize];
            assert_eq!(frame.kind, 16);
            assert!(u32_at(entry, 4) < file_count);
            let count = usize::from(entry[12]);
            assert!((1..=64).contains(&count) && entry[13] == 0);
            assert_eq!(frame.plain.len().div_ceil(8192), count);
            for page in frame.plain.chunks(8192) {
                assert_eq!(hashes.next().unwrap(), &self.book.hash(page)[..16]);
            }
            match entry[14..16] {
                [0, 0] => {}
                [1, 0] => {
                    assert_eq!(u32_at(entry, 8), listed);
                    listed += u32::from(entry[12]);
                }
                _ => panic!("flags {:?}", &entry[14..16]),
            }
        }
        assert!(hashes.next().is_none());
        assert_eq!(pack.only(21).len(), listed as usize * 4);
    }
}

/// What a file of `size` bytes has of its pages.
fn cut(mut pages: Vec<u8>, size: u64) -> Vec<u8> {
    let size = usize::try_from(size).unwrap();
    assert!(pages.len() >= size && pages.len().div_ceil(8192) == size.div_ceil(8192));
    pages.truncate(size);
    pages
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array(&bytes[offset..offset + 2]))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array(&bytes[offset..offset + 4]))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(&bytes[offset..offset + 8]))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
