//! What a bucket holds, and S3's rules about it, as plain values behind one lock.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use bytes::Bytes;
use jiff::Timestamp;
use pgark_system::clock;
use s3s::crypto::{Checksum, Md5};
use s3s::{S3Result, s3_error};

/// The least that every part of an upload but the last must have, in bytes.
const SMALLEST_PART: usize = 5 * 1024 * 1024;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) content: Bytes,
    /// As S3 computes it, without quotes.
    pub(crate) etag: String,
    /// In whole seconds, as S3 tells it.
    pub(crate) modified: Timestamp,
}

impl Object {
    pub(crate) fn new(content: Bytes) -> Self {
        let etag = hex(&Md5::checksum(&content));
        Self::with_etag(content, etag)
    }

    fn with_etag(content: Bytes, etag: String) -> Self {
        let modified = Timestamp::from_second(clock::now().as_second()).expect("the present can be told");
        Self { content, etag, modified }
    }
}

/// What must hold of the name for a write to be carried out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// `If-None-Match: *`
    pub(crate) absent: bool,
    /// `If-Match`
    pub(crate) etag: Option<String>,
}

/// Objects that are made up when they are asked for, so that a listing can be long without holding its names.
#[derive(Clone, Copy, Debug)]
pub struct Generated {
    /// How many there are.
    pub count: u64,
    /// The name of each, which must ascend with the number.
    pub name: fn(u64) -> String,
}

impl Generated {
    /// The number of the first one at or after `key`.
    fn position(&self, key: &str) -> u64 {
        let Range { mut start, mut end } = 0..self.count;
        while start < end {
            let middle = start + (end - start) / 2;
            if (self.name)(middle).as_str() < key {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        start
    }

    fn at_or_after(&self, key: &str) -> Option<String> {
        let position = self.position(key);
        (position < self.count).then(|| (self.name)(position))
    }
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, Object)>,
    pub(crate) prefixes: Vec<String>,
    /// Where the next page begins; `None` at the end.
    pub(crate) next: Option<String>,
}

impl Page {
    pub(crate) fn length(&self) -> usize {
        self.objects.len() + self.prefixes.len()
    }
}

/// An upload in parts that was not completed yet.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) parts: BTreeMap<i32, Object>,
}

/// A bucket.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    objects: BTreeMap<String, Object>,
    pub(crate) uploads: BTreeMap<String, Upload>,
    uploads_begun: u64,
    pub(crate) generated: Option<Generated>,
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Option<Object> {
        let made_up = || {
            let name = self.generated?.at_or_after(key)?;
            (name == key).then(|| Object::new(Bytes::new()))
        };
        self.objects.get(key).cloned().or_else(made_up)
    }

    /// Stores an object if the condition holds; gives its etag.
    pub(crate) fn put(&mut self, key: &str, object: Object, condition: &Condition) -> S3Result<String> {
        let before = self.get(key);
        if condition.absent && before.is_some() {
            return Err(s3_error!(PreconditionFailed));
        }
        if let Some(wanted) = &condition.etag {
            let before = before.ok_or_else(|| s3_error!(NoSuchKey))?;
            if before.etag != *wanted {
                return Err(s3_error!(PreconditionFailed));
            }
        }
        let etag = object.etag.clone();
        self.objects.insert(key.to_owned(), object);
        Ok(etag)
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.objects.remove(key);
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects.keys().cloned().collect()
    }

    /// Up to `limit` names with `prefix` from `cursor` on, where names that go on after `delimiter` count as one.
    pub(crate) fn list(&self, prefix: &str, delimiter: Option<&str>, cursor: &str, limit: usize) -> Page {
        let mut page = Page::default();
        let mut cursor = cursor.max(prefix).to_owned();
        while let Some((key, object)) = self.at_or_after(&cursor).filter(|(key, _)| key.starts_with(prefix)) {
            if page.length() == limit {
                page.next = Some(cursor);
                break;
            }
            let end = delimiter.and_then(|delimiter| Some(key[prefix.len()..].find(delimiter)? + delimiter.len()));
            if let Some(end) = end {
                let common = &key[..prefix.len() + end];
                // Nothing sorts behind this that begins with the prefix.
                cursor = format!("{common}{}", char::MAX);
                page.prefixes.push(common.to_owned());
            } else {
                cursor = format!("{key}\0");
                page.objects.push((key, object));
            }
        }
        page
    }

    fn at_or_after(&self, cursor: &str) -> Option<(String, Object)> {
        let stored = self.objects.range::<str, _>((Bound::Included(cursor), Bound::Unbounded)).next();
        let made_up = self.generated.and_then(|generated| generated.at_or_after(cursor));
        match (stored, made_up) {
            (Some((key, object)), Some(name)) if *key <= name => Some((key.clone(), object.clone())),
            (_, Some(name)) => Some((name, Object::new(Bytes::new()))),
            (Some((key, object)), None) => Some((key.clone(), object.clone())),
            (None, None) => None,
        }
    }

    pub(crate) fn begin_upload(&mut self, key: &str) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        self.uploads.insert(id.clone(), Upload { key: key.to_owned(), parts: BTreeMap::new() });
        id
    }

    pub(crate) fn upload(&mut self, id: &str, key: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(id).filter(|upload| upload.key == key).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Joins the parts that the client names to an object, if the condition holds; gives its etag.
    pub(crate) fn complete(
        &mut self,
        id: &str,
        key: &str,
        named: &[(i32, String)],
        condition: &Condition,
    ) -> S3Result<String> {
        let object = self.upload(id, key)?.join(named)?;
        let etag = self.put(key, object, condition)?;
        self.uploads.remove(id);
        Ok(etag)
    }
}

impl Upload {
    fn join(&self, named: &[(i32, String)]) -> S3Result<Object> {
        if named.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        if !named.is_sorted_by(|one, next| one.0 < next.0) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut content = Vec::new();
        let mut hashes = Vec::new();
        for (index, (number, etag)) in named.iter().enumerate() {
            let part = self.parts.get(number).filter(|part| part.etag == *etag);
            let part = part.ok_or_else(|| s3_error!(InvalidPart))?;
            if part.content.len() < SMALLEST_PART && index + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            content.extend_from_slice(&part.content);
            hashes.extend_from_slice(&Md5::checksum(&part.content));
        }
        let etag = format!("{}-{}", hex(&Md5::checksum(&hashes)), named.len());
        Ok(Object::with_etag(content.into(), etag))
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string can be written");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(keys: &[&str]) -> Bucket {
        let mut bucket = Bucket::default();
        for key in keys {
            bucket.put(key, Object::new(Bytes::from((*key).to_owned())), &Condition::default()).unwrap();
        }
        bucket
    }

    /// The names of all pages of `limit` names.
    fn pages(bucket: &Bucket, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = bucket.list(prefix, delimiter, &cursor, limit);
            let objects = page.objects.iter().map(|(key, _)| key.clone());
            pages.push(objects.chain(page.prefixes.iter().cloned()).collect());
            match page.next {
                Some(next) => cursor = next,
                None => return pages,
            }
        }
    }

    #[test]
    fn a_listing_goes_on_where_the_page_ended() {
        let bucket = bucket(&["a", "a/1", "a/2/x", "a/2/y", "a/3", "b"]);
        assert_eq!(pages(&bucket, "a/", None, 3), [vec!["a/1", "a/2/x", "a/2/y"], vec!["a/3"]]);
        assert_eq!(pages(&bucket, "a/", Some("/"), 2), [vec!["a/1", "a/2/"], vec!["a/3"]]);
        assert_eq!(pages(&bucket, "", Some("/"), 1), [["a"], ["a/"], ["b"]]);
        assert_eq!(pages(&bucket, "x", None, 1), [[""; 0]]);
    }

    #[test]
    fn generated_names_are_listed_among_the_others() {
        let mut bucket = bucket(&["a", "n/2x", "z"]);
        bucket.generated = Some(Generated { count: 1000, name: |number| format!("n/{number:03}") });
        let all = bucket.list("", None, "", 2000);
        assert_eq!(all.length(), 1003);
        assert!(all.objects.is_sorted_by(|one, next| one.0 < next.0));
        assert_eq!(pages(&bucket, "n/2", None, 60)[1].last().unwrap(), "n/2x");
        assert!(bucket.get("n/999").is_some() && bucket.get("n/1000").is_none());
    }

    #[test]
    fn conditions_are_kept() {
        let mut bucket = bucket(&["a"]);
        let absent = Condition { absent: true, etag: None };
        let refused = bucket.put("a", Object::new(Bytes::from("x")), &absent).unwrap_err();
        assert_eq!(refused.code().as_str(), "PreconditionFailed");
        let etag = bucket.put("b", Object::new(Bytes::from("x")), &absent).unwrap();
        let same = Condition { absent: false, etag: Some(etag) };
        bucket.put("b", Object::new(Bytes::from("y")), &same).unwrap();
        assert!(bucket.put("b", Object::new(Bytes::from("z")), &same).is_err());
        assert_eq!(bucket.get("b").unwrap().content, "y");
    }

    #[test]
    fn an_upload_appears_whole_and_by_the_rules() {
        let mut bucket = Bucket::default();
        let id = bucket.begin_upload("a");
        let large = Object::new(vec![1; SMALLEST_PART].into());
        let small = Object::new(vec![2; 3].into());
        let etags = [large.etag.clone(), small.etag.clone()];
        bucket.upload(&id, "a").unwrap().parts.extend([(1, large.clone()), (2, small.clone()), (3, large)]);
        let mut complete = |named: &[(i32, String)]| {
            bucket.complete(&id, "a", named, &Condition::default()).map_err(|error| error.code().as_str().to_owned())
        };
        let (large, small) = (etags[0].clone(), etags[1].clone());
        assert_eq!(complete(&[(2, small.clone()), (3, large.clone())]).unwrap_err(), "EntityTooSmall");
        assert_eq!(complete(&[(2, small.clone()), (1, large.clone())]).unwrap_err(), "InvalidPartOrder");
        assert_eq!(complete(&[(1, small.clone())]).unwrap_err(), "InvalidPart");
        assert!(complete(&[(1, large.clone()), (2, small.clone())]).unwrap().ends_with("-2"));
        assert_eq!(complete(&[(1, large), (2, small)]).unwrap_err(), "NoSuchUpload");
        assert_eq!(bucket.get("a").unwrap().content.len(), SMALLEST_PART + 3);
    }
}
