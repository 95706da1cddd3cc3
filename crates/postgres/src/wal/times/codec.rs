//! How time indexes are stored. `docs/format.md` says it byte by byte.

use jiff::Timestamp;

use super::super::bytes::{DecodeError, Decoder, Encoder};
use super::{
    DatabaseCreation, Lsn, Notable, NotableEvent, OTHER_RECORDS_MAXIMUM, RELATION_RECORDS_MAXIMUM, RELATIONS_MAXIMUM,
    RelationLocator, SAMPLE_INTERVAL, Sample, TimeIndex, Timeline, TransactionEnds, WalLevel,
};

const FORMAT: u8 = 1;

const RELATIONS_DROPPED: u8 = 1;
const RELATION_TRUNCATED: u8 = 2;
const DATABASE_COPIED: u8 = 3;
const DATABASE_LOGGED: u8 = 4;
const DATABASE_DROPPED: u8 = 5;
const RESTORE_POINT: u8 = 6;
const TIMELINE_END: u8 = 7;
const SHUTDOWN_CHECKPOINT: u8 = 8;
const PARAMETER_CHANGE: u8 = 9;
const SWITCH: u8 = 10;

const NOWHERE: RelationLocator = RelationLocator { tablespace: 0, database: 0, number: 0 };

impl TimeIndex {
    /// The index in its stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(FORMAT);
        let mut time = 0;
        encoder.flag(self.is_overflowed);
        encoder.flag(self.ends.is_some());
        if let Some(ends) = &self.ends {
            encode_ends(&mut encoder, &mut time, ends);
        }
        encoder.count(self.samples.len());
        let mut offset = 0;
        for sample in &self.samples {
            encoder.varint(sample.offset - offset);
            encode_time(&mut encoder, &mut time, sample.first);
            encode_time(&mut encoder, &mut time, sample.latest);
            offset = sample.offset;
        }
        encoder.count(self.notable.len());
        let mut lsn = 0;
        for notable in &self.notable {
            encoder.varint(notable.lsn.0 - lsn);
            encode_notable(&mut encoder, &mut time, notable);
            lsn = notable.lsn.0;
        }
        encoder.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("time index", FORMAT, bytes)?;
        let mut time = 0;
        let mut index = Self { is_overflowed: decoder.flag()?, ..Self::default() };
        if decoder.flag()? {
            index.ends = Some(decode_ends(&mut decoder, &mut time)?);
        }
        for _ in 0..decoder.count()? {
            let sample = decode_sample(&mut decoder, &mut time, index.samples.last())?;
            index.samples.push(sample);
        }
        for _ in 0..decoder.count()? {
            let notable = decode_notable(&mut decoder, &mut time, index.notable.last())?;
            match notable.what.relations() {
                Some(relations) => {
                    index.relation_records += 1;
                    index.relations += relations;
                }
                None => index.other_records += 1,
            }
            index.notable.push(notable);
        }
        if index.relation_records > RELATION_RECORDS_MAXIMUM
            || index.relations > RELATIONS_MAXIMUM + RELATION_RECORDS_MAXIMUM
            || index.other_records > OTHER_RECORDS_MAXIMUM
        {
            return Err(decoder.invalid("it has more notable records than an index keeps"));
        }
        decoder.finish()?;
        Ok(index)
    }
}

/// A time, as the difference in microseconds from the time before it; the first one from 1970-01-01.
fn encode_time(encoder: &mut Encoder, before: &mut i64, time: Timestamp) {
    let microseconds = time.as_microsecond();
    encoder.signed(microseconds - *before);
    *before = microseconds;
}

fn decode_time(decoder: &mut Decoder<'_>, before: &mut i64) -> Result<Timestamp, DecodeError> {
    let microseconds = before.checked_add(decoder.signed()?);
    let time = microseconds.and_then(|microseconds| Timestamp::from_microsecond(microseconds).ok());
    let time = time.ok_or(decoder.invalid("a time is out of range"))?;
    *before = time.as_microsecond();
    Ok(time)
}

fn encode_ends(encoder: &mut Encoder, time: &mut i64, ends: &TransactionEnds) {
    encode_time(encoder, time, ends.last);
    encode_time(encoder, time, ends.latest);
    encode_time(encoder, time, ends.first);
    encoder.varint(ends.commits);
    encoder.varint(ends.rollbacks);
    encoder.varint(ends.lowest_xid);
    encoder.varint(ends.highest_xid - ends.lowest_xid);
}

fn decode_ends(decoder: &mut Decoder<'_>, time: &mut i64) -> Result<TransactionEnds, DecodeError> {
    let last = decode_time(decoder, time)?;
    let latest = decode_time(decoder, time)?;
    let first = decode_time(decoder, time)?;
    let (commits, rollbacks, lowest_xid) = (decoder.varint_u32()?, decoder.varint_u32()?, decoder.varint_u32()?);
    let highest_xid = lowest_xid.checked_add(decoder.varint_u32()?);
    let highest_xid = highest_xid.ok_or(decoder.invalid("a transaction id exceeds 32 bits"))?;
    Ok(TransactionEnds { first, last, latest, commits, rollbacks, lowest_xid, highest_xid })
}

fn decode_sample(decoder: &mut Decoder<'_>, time: &mut i64, before: Option<&Sample>) -> Result<Sample, DecodeError> {
    let offset = before.map_or(0, |sample| sample.offset).checked_add(decoder.varint_u32()?);
    let is_later =
        |offset: &u32| before.is_none_or(|sample| sample.offset / SAMPLE_INTERVAL < offset / SAMPLE_INTERVAL);
    let offset = offset.filter(is_later).ok_or(decoder.invalid("its samples are not in ascending order"))?;
    Ok(Sample { offset, first: decode_time(decoder, time)?, latest: decode_time(decoder, time)? })
}

fn encode_notable(encoder: &mut Encoder, time: &mut i64, notable: &Notable) {
    encoder.varint(notable.xid);
    encoder.flag(notable.time.is_some());
    if let Some(at) = notable.time {
        encode_time(encoder, time, at);
    }
    match &notable.what {
        NotableEvent::RelationsDropped { relations, count } => {
            encoder.byte(RELATIONS_DROPPED);
            encoder.varint(*count);
            encoder.count(relations.len());
            let mut before = NOWHERE;
            for relation in relations {
                encode_relation(encoder, before, *relation);
                before = *relation;
            }
        }
        NotableEvent::RelationTruncated { relation, blocks } => {
            encoder.byte(RELATION_TRUNCATED);
            encode_relation(encoder, NOWHERE, *relation);
            encoder.varint(*blocks);
        }
        NotableEvent::DatabaseCreated(DatabaseCreation { database, tablespace, copied_from }) => {
            encoder.byte(if copied_from.is_some() { DATABASE_COPIED } else { DATABASE_LOGGED });
            encoder.varint(*database);
            encoder.varint(*tablespace);
            if let Some((source_database, source_tablespace)) = copied_from {
                encoder.varint(*source_database);
                encoder.varint(*source_tablespace);
            }
        }
        NotableEvent::DatabaseDropped { database, tablespaces } => {
            encoder.byte(DATABASE_DROPPED);
            encoder.varint(*database);
            encoder.count(tablespaces.len());
            for tablespace in tablespaces {
                encoder.varint(*tablespace);
            }
        }
        NotableEvent::RestorePoint { name } => {
            encoder.byte(RESTORE_POINT);
            encoder.bytes(name.as_bytes());
        }
        NotableEvent::TimelineEnd { timeline, previous } => {
            encoder.byte(TIMELINE_END);
            encoder.varint(timeline.0);
            encoder.varint(previous.0);
        }
        NotableEvent::ShutdownCheckpoint => encoder.byte(SHUTDOWN_CHECKPOINT),
        NotableEvent::ParameterChange { wal_level } => {
            encoder.byte(PARAMETER_CHANGE);
            encoder.byte(wal_level.number());
        }
        NotableEvent::Switch => encoder.byte(SWITCH),
    }
}

fn decode_notable(decoder: &mut Decoder<'_>, time: &mut i64, before: Option<&Notable>) -> Result<Notable, DecodeError> {
    let lsn = before.map_or(0, |notable| notable.lsn.0).checked_add(decoder.varint()?).map(Lsn);
    let is_later = |lsn: &Lsn| before.is_none_or(|notable| notable.lsn < *lsn);
    let lsn = lsn.filter(is_later).ok_or(decoder.invalid("its notable records are not in ascending order"))?;
    let xid = decoder.varint_u32()?;
    let time = if decoder.flag()? { Some(decode_time(decoder, time)?) } else { None };
    Ok(Notable { lsn, xid, time, what: decode_notable_event(decoder)? })
}

fn decode_notable_event(decoder: &mut Decoder<'_>) -> Result<NotableEvent, DecodeError> {
    Ok(match decoder.byte()? {
        RELATIONS_DROPPED => {
            let count = decoder.varint_u32()?;
            let mut relations: Vec<RelationLocator> = Vec::new();
            for _ in 0..decoder.count()? {
                let relation = decode_relation(decoder, relations.last().copied().unwrap_or(NOWHERE))?;
                relations.push(relation);
            }
            NotableEvent::RelationsDropped { relations, count }
        }
        RELATION_TRUNCATED => NotableEvent::RelationTruncated {
            relation: decode_relation(decoder, NOWHERE)?,
            blocks: decoder.varint_u32()?,
        },
        kind @ (DATABASE_COPIED | DATABASE_LOGGED) => {
            let (database, tablespace) = (decoder.varint_u32()?, decoder.varint_u32()?);
            let is_copied = kind == DATABASE_COPIED;
            let copied_from = if is_copied { Some((decoder.varint_u32()?, decoder.varint_u32()?)) } else { None };
            NotableEvent::DatabaseCreated(DatabaseCreation { database, tablespace, copied_from })
        }
        DATABASE_DROPPED => {
            let database = decoder.varint_u32()?;
            let tablespaces = (0..decoder.count()?).map(|_| decoder.varint_u32()).collect::<Result<_, _>>()?;
            NotableEvent::DatabaseDropped { database, tablespaces }
        }
        RESTORE_POINT => NotableEvent::RestorePoint { name: decoder.text()? },
        TIMELINE_END => NotableEvent::TimelineEnd {
            timeline: Timeline(decoder.varint_u32()?),
            previous: Timeline(decoder.varint_u32()?),
        },
        SHUTDOWN_CHECKPOINT => NotableEvent::ShutdownCheckpoint,
        PARAMETER_CHANGE => {
            let level = WalLevel::from_number(u32::from(decoder.byte()?));
            NotableEvent::ParameterChange { wal_level: level.ok_or(decoder.invalid("a wal_level is unknown"))? }
        }
        SWITCH => NotableEvent::Switch,
        _ => return Err(decoder.invalid("a notable record is of an unknown kind")),
    })
}

/// Whether the database differs from the one before, if so tablespace and database, and the difference of the numbers.
fn encode_relation(encoder: &mut Encoder, before: RelationLocator, relation: RelationLocator) {
    let differs = (before.tablespace, before.database) != (relation.tablespace, relation.database);
    encoder.flag(differs);
    if differs {
        encoder.varint(relation.tablespace);
        encoder.varint(relation.database);
    }
    encoder.signed(i64::from(relation.number) - i64::from(before.number));
}

fn decode_relation(decoder: &mut Decoder<'_>, before: RelationLocator) -> Result<RelationLocator, DecodeError> {
    let differs = decoder.flag()?;
    let tablespace = if differs { decoder.varint_u32()? } else { before.tablespace };
    let database = if differs { decoder.varint_u32()? } else { before.database };
    let number = i64::from(before.number).checked_add(decoder.signed()?).and_then(|number| u32::try_from(number).ok());
    let number = number.ok_or(decoder.invalid("the number of a relation exceeds 32 bits"))?;
    Ok(RelationLocator { tablespace, database, number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::sample;
    use super::*;

    /// The stored form of format 1, which every later version must read.
    const GOLDEN: &[u8] = &[
        1, 0, 1, // format, not overflowed, transactions ended
        128, 209, 137, 188, 167, 192, 174, 3, 128, 155, 238, 2, 255, 145, 244, 1, // last, latest +3 s, first -2 s
        3, 1, 187, 5, 2, // commits, rollbacks, ids 699 to 701
        2, // samples
        40, 0, 128, 146, 244, 1, // at 40: the first time again, +2 s
        200, 162, 4, 255, 154, 238, 2, 0,  // at 70,000: -3 s, and the same
        10, // notable records
        228, 128, 192, 3, 188, 5, 1, 128, 155, 238, 2, // at 0x700064, xid 700, +3 s
        1, 3, 3, 1, 255, 12, 5, 18, 0, 6, 1, 255, 12, 6, 13, // 3 of 3 relations dropped: 1663/5/9, /12, 1663/6/5
        200, 1, 188, 5, 0, 2, 1, 255, 12, 5, 18, 50, // 200 further on, no time: 1663/5/9 truncated to 50
        200, 1, 188, 5, 0, 3, 20, 255, 12, 1, 255, 12, // database 20 copied
        100, 188, 5, 0, 4, 21, 255, 12, // database 21 created in the WAL
        100, 188, 5, 0, 5, 20, 2, 255, 12, 30, // database 20 dropped, in two tablespaces
        100, 188, 5, 1, 128, 245, 178, 12, 6, 9, 98, 101, 102, 111, 114, 101, 32, 105, 116, // restore point
        100, 188, 5, 1, 128, 173, 226, 4, 7, 3, 2, // timeline 3 after 2
        100, 188, 5, 1, 128, 218, 196, 9, 8, // shutdown
        100, 188, 5, 0, 9, 2, // wal_level logical
        148, 189, 8, 188, 5, 0, 10, // switch
    ];

    #[test]
    fn the_stored_form_stays_as_it_is() {
        assert_eq!(sample().encode(), GOLDEN);
        assert_eq!(TimeIndex::decode(GOLDEN), Ok(sample()));
        assert_eq!(TimeIndex::default().encode(), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn damage_is_refused() {
        for length in 0..GOLDEN.len() {
            assert!(TimeIndex::decode(&GOLDEN[..length]).is_err(), "{length}");
        }
        assert!(TimeIndex::decode(&[GOLDEN, &[0]].concat()).is_err());
        assert!(matches!(TimeIndex::decode(&[2]), Err(DecodeError::UnknownFormat { found: 2, .. })));
        // Two samples of one interval, a time out of range, an unknown kind.
        assert!(TimeIndex::decode(&[1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]).is_err());
        assert!(
            TimeIndex::decode(&[1, 0, 0, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0]).is_err()
        );
        assert!(TimeIndex::decode(&[1, 0, 0, 0, 1, 1, 0, 0, 11]).is_err());
        assert!(TimeIndex::decode(&[1, 0, 0, 0, 1, 1, 0, 0, SWITCH]).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_to_what_they_say_or_refused(mut bytes: Vec<u8>) {
            bytes.insert(0, FORMAT);
            if let Ok(index) = TimeIndex::decode(&bytes) {
                prop_assert_eq!(index.encode(), bytes);
            }
        }

        #[test]
        fn damaged_bytes_are_decoded_to_what_they_say_or_refused(index in 0..GOLDEN.len(), value: u8) {
            let mut bytes = GOLDEN.to_vec();
            bytes[index] = value;
            if let Ok(index) = TimeIndex::decode(&bytes) {
                prop_assert_eq!(TimeIndex::decode(&index.encode()), Ok(index));
            }
        }
    }
}
