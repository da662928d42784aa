//! Anchors: what the end of the chain was at some moment, kept outside of the database.
//!
//! A chain proves that nothing inside it was changed, not that its end is still there. Whoever holds
//! an anchor (the file of heads beside the database, a broker's retained message, a sheet of paper)
//! can tell: the chain must reach the anchor's sequence and have its digest there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::ChainDigest;
use super::events::Genesis;
use super::sign::{PublicKey, SignKey};

/// Records after which a line of the file of heads is due.
pub const HEADS_EVERY_RECORDS: i64 = 256;

/// Time by the monotonic clock after which a line is due with the next record, in nanoseconds.
pub const HEADS_EVERY_NS: u64 = 10 * 60 * 1_000_000_000;

/// Longest line of a file of anchors, in bytes. One of ours has about 300.
const LINE_MAX_BYTES: u64 = 4096;

/// One moment of a chain's end. As JSON it is a line of the file of heads, and the payload of the
/// topic `chain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The chain; `None` if only number and digest were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<Uuid>,
    /// The device that wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// The sequence number of the last record.
    pub sequence: i64,
    /// Its digest.
    pub digest: ChainDigest,
    /// Its wall time, in milliseconds since 1970.
    #[serde(default)]
    pub wall_ms: i64,
    /// Ed25519 signature of [`Anchor::signed_text`], in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Anchor {
    /// The text that is signed: five lines, each ended by a line feed.
    pub fn signed_text(&self) -> String {
        let chain = self.chain_id.unwrap_or(Uuid::nil());
        let Anchor { sequence, digest, wall_ms, .. } = self;
        format!("inspectd-head-1\n{chain}\n{sequence}\n{digest}\n{wall_ms}\n")
    }

    pub(super) fn signed(mut self, key: Option<&SignKey>) -> Anchor {
        self.signature = key.map(|key| key.sign(self.signed_text().as_bytes()));
        self
    }

    /// Whether `key` made the signature; `None` if there is none.
    pub fn is_signed_by(&self, key: &PublicKey) -> Option<bool> {
        let signature = self.signature.as_ref()?;
        Some(key.verify(self.signed_text().as_bytes(), signature))
    }

    /// Reads `SEQUENCE:DIGEST`, as a person types it.
    pub fn parse(text: &str) -> Result<Anchor, String> {
        let told = "an anchor is SEQUENCE:DIGEST, a number and 64 hexadecimal digits";
        let (sequence, digest) = text.split_once(':').ok_or(told)?;
        let sequence = sequence.trim().parse().map_err(|_| told)?;
        let digest = digest.trim().parse().map_err(|_| told)?;
        let (chain_id, signature) = (None, None);
        Ok(Anchor { chain_id, device: String::new(), sequence, digest, wall_ms: 0, signature })
    }
}

/// Where the heads of the database at `database` are kept.
pub fn heads_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".heads");
    PathBuf::from(name)
}

/// Shows `visit` each anchor of the file at `path`, one JSON object a line, with its line number;
/// answers how many lines could not be read. A power cut may leave half a line.
pub(super) fn read_file(path: &Path, mut visit: impl FnMut(u64, Anchor)) -> io::Result<u64> {
    let mut lines = BufReader::new(File::open(path)?);
    let (mut number, mut unreadable) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(unreadable);
        }
        if line.ends_with(b"\n") || lines.fill_buf()?.is_empty() {
            number += 1;
        }
        match serde_json::from_slice(&line) {
            Ok(anchor) => visit(number, anchor),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => unreadable += 1,
        }
    }
}

/// The last anchor in the file of heads of `database`, if there is one.
pub(super) fn last_kept(database: &Path) -> Option<Anchor> {
    let mut last = None;
    // What cannot be read is as good as not there: it can only ever add to what is known.
    let _ = read_file(&heads_path(database), |_, anchor| last = Some(anchor));
    last
}

/// How the newest kept head of `database` contradicts its chain; `None` if it does not. A quick
/// look at the start: `audit verify` compares all of them.
pub(super) fn contradiction(
    database: &Path,
    connection: &Connection,
    genesis: &Genesis,
) -> rusqlite::Result<Option<String>> {
    let Some(kept) = last_kept(database) else { return Ok(None) };
    if kept.chain_id != Some(genesis.chain_id) {
        let previous = genesis.previous.as_ref().and_then(|previous| previous.head.as_ref());
        let other = "the newest kept head is one of another chain, which this one does not name";
        return Ok((previous != Some(&kept)).then(|| other.to_owned()));
    }
    let found: Option<ChainDigest> = connection
        .query_row("SELECT digest FROM chain WHERE sequence = ?1", [kept.sequence], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(match found {
        Some(digest) if digest == kept.digest => None,
        Some(_) => Some(format!("record {} is another than its kept head says", kept.sequence)),
        None => Some(format!("a kept head names record {}, which is not there", kept.sequence)),
    })
}

/// The file of heads, open for appending.
#[derive(Debug)]
pub(super) struct Heads {
    file: File,
    /// Sequence and monotonic time of the last line.
    last: (i64, u64),
}

impl Heads {
    /// Opens or makes the file for `database`. Half a line of a crash is ended.
    pub(super) fn open(database: &Path) -> io::Result<Heads> {
        let path = heads_path(database);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut end = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut end)?;
        }
        if end != [b'\n'] {
            file.write_all(b"\n")?;
        }
        if is_new {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Heads { file, last: (0, 0) })
    }

    /// Whether a line is due for a chain that ends at `sequence`, at this monotonic time.
    pub(super) fn is_due(&self, sequence: i64, monotonic_ns: u64) -> bool {
        let (last_sequence, last_ns) = self.last;
        sequence - last_sequence >= HEADS_EVERY_RECORDS
            || (sequence > last_sequence && monotonic_ns.saturating_sub(last_ns) >= HEADS_EVERY_NS)
    }

    /// Appends `anchor` and forces it to the disk, unless it is there already.
    pub(super) fn write(&mut self, anchor: &Anchor, monotonic_ns: u64) -> io::Result<()> {
        if anchor.sequence <= self.last.0 {
            return Ok(());
        }
        let mut line = serde_json::to_vec(anchor)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.last = (anchor.sequence, monotonic_ns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(sequence: i64) -> Anchor {
        let digest = ChainDigest([sequence as u8; 32]);
        let chain_id = Some(Uuid::nil());
        Anchor { chain_id, device: "d".into(), sequence, digest, wall_ms: 7, signature: None }
    }

    #[test]
    fn half_a_line_of_a_crash_costs_that_line_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let database = dir.path().join("x.db");
        let mut heads = Heads::open(&database).expect("opens");
        heads.write(&anchor(1), 0).expect("written");
        heads.file.write_all(b"{\"sequence\":2,\"dig").expect("written");
        drop(heads);
        let mut heads = Heads::open(&database).expect("opens");
        heads.write(&anchor(3), 0).expect("written");
        heads.write(&anchor(3), 0).expect("nothing new");
        let mut read = Vec::new();
        let unreadable = read_file(&heads_path(&database), |line, anchor| {
            read.push((line, anchor.sequence));
        });
        assert_eq!(unreadable.expect("readable"), 1);
        assert_eq!(read, [(1, 1), (3, 3)]);
        assert_eq!(last_kept(&database), Some(anchor(3)));
    }

    #[test]
    fn a_line_is_due_after_so_many_records_or_so_long() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut heads = Heads::open(&dir.path().join("x.db")).expect("opens");
        heads.write(&anchor(10), 5).expect("written");
        assert!(!heads.is_due(10, u64::MAX), "nothing new");
        assert!(!heads.is_due(11, 5 + HEADS_EVERY_NS - 1));
        assert!(heads.is_due(11, 5 + HEADS_EVERY_NS));
        assert!(heads.is_due(10 + HEADS_EVERY_RECORDS, 5));
    }

    #[test]
    fn an_anchor_is_typed_as_number_and_digest() {
        let digest = ChainDigest([0xab; 32]);
        let read = Anchor::parse(&format!("17:{digest}")).expect("an anchor");
        assert_eq!((read.sequence, read.digest, read.chain_id), (17, digest, None));
        for bad in ["", "17", "x:00", "17:zz"] {
            assert!(Anchor::parse(bad).is_err(), "{bad}");
        }
    }
}
