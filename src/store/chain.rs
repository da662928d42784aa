//! The hash chain: each record's digest covers the record and the digest before it.
//!
//! What always holds:
//!
//! 1. One sequence, from 1 without a hole, over inspections and events. It alone says what came
//!    before what; wall time is only told.
//! 2. A record is appended in the transaction that writes what it covers, and that transaction
//!    holds SQLite's write lock (`BEGIN IMMEDIATE`) from before the end of the chain is read. So
//!    two processes can append in turn, and neither builds on an end that is no more.
//! 3. The first record is a `genesis`; nothing is updated or deleted.
//! 4. A step of the wall clock stands as an event before the first record that was written after it.
//!
//! `FORMAT.md` states the bytes that are digested.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::canonical::to_canonical_json;
use super::events::{ClockStep, EventKind};
use crate::clock::Clock;

/// What every digested text begins with: the domain and the version of the format.
const DOMAIN: &[u8] = b"inspectd-chain-1\n";

/// The kind of a record that covers a row of `inspections`.
pub const INSPECTION_KIND: &str = "inspection";

/// A step of the wall clock by as much, in milliseconds, is an event. Slewing (NTP's small
/// corrections) moves both clocks alike and is never one.
pub const CLOCK_STEP_MIN_MS: i64 = 1000;

/// A SHA-256 digest in the chain; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainDigest(pub [u8; 32]);

impl ChainDigest {
    /// What stands before the first record.
    pub const NONE: ChainDigest = ChainDigest([0; 32]);
}

impl fmt::Display for ChainDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ChainDigest, &'static str> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a digest is 64 hexadecimal digits");
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| "not hexadecimal")?;
        }
        Ok(ChainDigest(bytes))
    }
}

impl Serialize for ChainDigest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainDigest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<ChainDigest, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ToSql for ChainDigest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for ChainDigest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<ChainDigest> {
        <[u8; 32]>::column_result(value).map(ChainDigest)
    }
}

/// When a record was chained, by every clock there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTime {
    /// Milliseconds since 1970, UTC, as far as the machine knew. Before a board without a battery
    /// has met a time source, this is 1970.
    pub wall_ms: i64,
    /// Nanoseconds since the machine started; compared within one boot only.
    pub monotonic_ns: u64,
    /// Which start of the machine.
    pub boot_id: String,
    /// The wall clock followed a time source.
    pub clock_synchronized: bool,
}

impl ChainTime {
    /// This moment. `boot_id` is the clock's, asked for once.
    pub(super) fn now(clock: &dyn Clock, boot_id: &str) -> ChainTime {
        let stamp = clock.now();
        ChainTime {
            wall_ms: stamp.wall.as_millisecond(),
            monotonic_ns: stamp.monotonic_ns,
            boot_id: boot_id.to_owned(),
            clock_synchronized: clock.synchronized(),
        }
    }

    /// By how many milliseconds the wall clock was stepped from `earlier` to now; `None` if it was
    /// not, or if the machine was started between them, so that nobody can tell. The two clocks run
    /// at one pace: only a step (or sleep of the whole machine) moves one against the other.
    pub(super) fn step_since(&self, earlier: &ChainTime) -> Option<i64> {
        let offset_ms = |time: &ChainTime| {
            let monotonic_ms = i64::try_from(time.monotonic_ns / 1_000_000).unwrap_or(i64::MAX);
            time.wall_ms.saturating_sub(monotonic_ms)
        };
        let step_ms = offset_ms(self).saturating_sub(offset_ms(earlier));
        let told = self.boot_id == earlier.boot_id && step_ms.saturating_abs() >= CLOCK_STEP_MIN_MS;
        told.then_some(step_ms)
    }
}

/// One record of the chain, without its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'l> {
    /// Its place, from 1.
    pub sequence: i64,
    /// The digest of the record before; [`ChainDigest::NONE`] for the first.
    pub prev: ChainDigest,
    /// [`INSPECTION_KIND`] or an event's.
    pub kind: &'l str,
    /// The row of `inspections` that it covers.
    pub inspection: Option<i64>,
    /// When it was chained.
    pub time: ChainTime,
    /// The canonical JSON that it covers, to the byte.
    pub body: &'l str,
}

impl Link<'_> {
    /// The record's digest. Every part has a fixed length or its length before it, so no two
    /// records have the same bytes.
    pub fn digest(&self) -> ChainDigest {
        let mut hash = Sha256::new();
        let text = |hash: &mut Sha256, text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        hash.update(DOMAIN);
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.prev.0);
        text(&mut hash, self.kind);
        hash.update(self.inspection.unwrap_or(0).to_be_bytes());
        hash.update(self.time.wall_ms.to_be_bytes());
        hash.update(self.time.monotonic_ns.to_be_bytes());
        text(&mut hash, &self.time.boot_id);
        hash.update([u8::from(self.time.clock_synchronized)]);
        text(&mut hash, self.body);
        ChainDigest(hash.finalize().into())
    }
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) sequence: i64,
    pub(super) digest: ChainDigest,
    pub(super) time: ChainTime,
}

/// The last record; `None` in a chain that was not begun.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<Option<End>> {
    connection
        .prepare_cached(
            "SELECT sequence, digest, wall_ms, monotonic_ns, boot_id, clock_synchronized
             FROM chain ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row([], |row| {
            Ok(End { sequence: row.get(0)?, digest: row.get(1)?, time: time(row, 2)? })
        })
        .optional()
}

/// The four columns of a time, from column `first` on.
pub(super) fn time(row: &Row<'_>, first: usize) -> rusqlite::Result<ChainTime> {
    Ok(ChainTime {
        wall_ms: row.get(first)?,
        monotonic_ns: row.get::<_, i64>(first + 1)?.cast_unsigned(),
        boot_id: row.get(first + 2)?,
        clock_synchronized: row.get(first + 3)?,
    })
}

/// What is to be chained.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'e> {
    /// The row of `inspections` with this number and body.
    Inspection(i64, &'e str),
    /// An event with this body, which must be canonical JSON.
    Event(EventKind, &'e str),
}

/// Appends `entry`, and before it a `clock_step` if the clock was stepped since the last record;
/// answers the new end. The caller's transaction must hold the write lock.
pub(super) fn append(
    connection: &Connection,
    now: &ChainTime,
    entry: Entry<'_>,
) -> rusqlite::Result<End> {
    let mut last = end(connection)?;
    let step = last.as_ref().and_then(|last| Some((last, now.step_since(&last.time)?)));
    if let Some((before, step_ms)) = step {
        let body =
            ClockStep { step_ms, before_wall_ms: before.time.wall_ms, after_wall_ms: now.wall_ms };
        let body = to_canonical_json(&body).map_err(unwritable)?;
        last = Some(insert(
            connection,
            last.as_ref(),
            now,
            Entry::Event(EventKind::ClockStep, &body),
        )?);
    }
    insert(connection, last.as_ref(), now, entry)
}

fn insert(
    connection: &Connection,
    last: Option<&End>,
    now: &ChainTime,
    entry: Entry<'_>,
) -> rusqlite::Result<End> {
    let (kind, inspection, body) = match entry {
        Entry::Inspection(number, body) => (INSPECTION_KIND, Some(number), body),
        Entry::Event(kind, body) => (kind.as_str(), None, body),
    };
    let link = Link {
        sequence: last.map_or(1, |last| last.sequence + 1),
        prev: last.map_or(ChainDigest::NONE, |last| last.digest),
        kind,
        inspection,
        time: now.clone(),
        body,
    };
    let digest = link.digest();
    connection
        .prepare_cached(
            "INSERT INTO chain (sequence, kind, inspection, wall_ms, monotonic_ns, boot_id,
                 clock_synchronized, body, prev, digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            link.sequence,
            link.kind,
            link.inspection,
            now.wall_ms,
            now.monotonic_ns.cast_signed(),
            now.boot_id,
            now.clock_synchronized,
            link.inspection.is_none().then_some(body),
            link.prev,
            digest,
        ])?;
    Ok(End { sequence: link.sequence, digest, time: link.time })
}

/// A body that has no JSON form, as an error of the transaction that it breaks.
pub(super) fn unwritable(why: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(wall_ms: i64, monotonic_ms: u64) -> ChainTime {
        ChainTime {
            wall_ms,
            monotonic_ns: monotonic_ms * 1_000_000,
            boot_id: "b".into(),
            clock_synchronized: true,
        }
    }

    /// The worked example of FORMAT.md.
    fn example() -> Link<'static> {
        let boot_id = "3c1f5f5e-55a3-4f0e-9d3b-0d9d1f1c2b3a".to_owned();
        Link {
            sequence: 2,
            prev: ChainDigest([0x11; 32]),
            kind: "disposition",
            inspection: None,
            time: ChainTime {
                wall_ms: 1_784_000_000_123,
                monotonic_ns: 987_654_321,
                boot_id,
                clock_synchronized: false,
            },
            body: r#"{"by":"Ana","disposition":"pass"}"#,
        }
    }

    #[test]
    fn the_digest_is_the_one_of_the_description() {
        let told = include_str!("FORMAT.md");
        let digest = example().digest().to_string();
        assert!(told.contains(&digest), "FORMAT.md does not hold {digest}");
    }

    #[test]
    fn every_part_of_a_record_changes_its_digest() {
        let same = example();
        let changed = [
            Link { sequence: 3, ..same.clone() },
            Link { prev: ChainDigest::NONE, ..same.clone() },
            Link { kind: "dispositio", ..same.clone() },
            Link { inspection: Some(2), ..same.clone() },
            Link { time: ChainTime { wall_ms: 0, ..same.time.clone() }, ..same.clone() },
            Link { time: ChainTime { monotonic_ns: 0, ..same.time.clone() }, ..same.clone() },
            Link { time: ChainTime { boot_id: "".into(), ..same.time.clone() }, ..same.clone() },
            Link {
                time: ChainTime { clock_synchronized: true, ..same.time.clone() },
                ..same.clone()
            },
            Link { body: "{}", ..same.clone() },
        ];
        let mut digests: Vec<ChainDigest> = changed.iter().map(Link::digest).collect();
        digests.push(same.digest());
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), changed.len() + 1);
    }

    #[test]
    fn a_digest_is_read_back_from_its_text_and_nothing_else_is() {
        let digest = example().digest();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "ab", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<ChainDigest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_step_is_told_from_the_passing_of_time() {
        let start = time(0, 0);
        assert_eq!(time(3_600_000, 3_600_000).step_since(&start), None, "an hour passed");
        assert_eq!(time(3_600_999, 3_600_000).step_since(&start), None, "below the threshold");
        assert_eq!(time(3_601_000, 3_600_000).step_since(&start), Some(1000));
        assert_eq!(time(-5000, 0).step_since(&start), Some(-5000), "set back before 1970");
        let since_1970 = time(1_784_000_000_000, 60_000).step_since(&start);
        assert_eq!(since_1970, Some(1_783_999_940_000), "the first time source");
        let other_boot = ChainTime { boot_id: "c".into(), ..time(9_999_999, 0) };
        assert_eq!(other_boot.step_since(&start), None);
    }
}
