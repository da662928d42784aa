//! What the one writer adds to the chain beside inspections, and the heads that it leaves outside.

use std::sync::PoisonError;

use rusqlite::{Transaction, TransactionBehavior};
use serde::Serialize;
use uuid::Uuid;

use super::Store;
use super::anchor::{self, Anchor};
use super::canonical::to_canonical_json;
use super::chain::{self, ChainTime, End, Entry};
use super::error::StoreError;
use super::events::{self, EVENT_MAX_BYTES, EventKind, Run, Start, Stop};
use super::sign::SignKey;

/// Which chain is written, and who signs its heads.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) chain_id: Uuid,
    pub(super) device: String,
    pub(super) key: Option<SignKey>,
}

impl Signer {
    /// The anchor of a chain that ends so.
    pub(super) fn anchor(&self, end: &End) -> Anchor {
        let anchor = Anchor {
            chain_id: Some(self.chain_id),
            device: self.device.clone(),
            sequence: end.sequence,
            digest: end.digest,
            wall_ms: end.time.wall_ms,
            signature: None,
        };
        anchor.signed(self.key.as_ref())
    }
}

impl Store {
    /// Appends an event to the chain and answers its sequence number. `body` must be an object as
    /// JSON, of at most [`EVENT_MAX_BYTES`]. When this returns, it is on the disk.
    pub fn append_event(&self, kind: EventKind, body: &impl Serialize) -> Result<i64, StoreError> {
        let body = event_body(kind, body)?;
        let end = self.append("record an event", |change, now| {
            chain::append(change, now, Entry::Event(kind, &body))
        })?;
        Ok(end.sequence)
    }

    /// Records that inspecting begins with `run`, and what is another than before.
    pub fn record_start(&self, run: &Run) -> Result<Start, StoreError> {
        let heads_differ = self.0.heads_differ.clone();
        let mut start = Start { run: run.clone(), unclean: false, heads_differ };
        let end = self.append("record the start", |change, now| {
            let started = events::newest(change, EventKind::Start)?;
            let stopped = events::newest(change, EventKind::Stop)?;
            let number = |event: Option<(i64, String)>| event.map_or(0, |(sequence, _)| sequence);
            start.unclean = number(started) > number(stopped);
            let body = to_canonical_json(&start).map_err(chain::unwritable)?;
            append_run(change, now, EventKind::Start, &body, run)
        })?;
        self.keep_head(&end, true);
        Ok(start)
    }

    /// Records that the configuration was read again while inspecting, and what is another than
    /// before: to be called before the first part that is looked at by it.
    pub fn record_reload(&self, run: &Run) -> Result<(), StoreError> {
        let body = event_body(EventKind::Reload, run)?;
        self.append("record a reload", |change, now| {
            append_run(change, now, EventKind::Reload, &body, run)
        })?;
        Ok(())
    }

    /// Records that inspecting ended in good order, and leaves the head outside.
    pub fn record_stop(&self, stop: &Stop) -> Result<(), StoreError> {
        let body = event_body(EventKind::Stop, stop)?;
        let end = self.append("record the stop", |change, now| {
            chain::append(change, now, Entry::Event(EventKind::Stop, &body))
        })?;
        self.keep_head(&end, true);
        Ok(())
    }

    /// The end of the chain, signed if there is a key: what a third party may keep.
    pub fn anchor(&self) -> Result<Anchor, StoreError> {
        let end = self.sql("read the chain's end", |connection| {
            chain::end(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })?;
        Ok(self.0.signer.anchor(&end))
    }

    /// This moment, as the chain tells it.
    pub(super) fn chain_time(&self) -> ChainTime {
        ChainTime::now(&*self.0.clock, &self.0.boot_id)
    }

    fn append(
        &self,
        doing: &'static str,
        mut work: impl FnMut(&Transaction<'_>, &ChainTime) -> rusqlite::Result<End>,
    ) -> Result<End, StoreError> {
        let written = self.with_room(|connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let end = work(&change, &self.chain_time())?;
            change.commit()?;
            Ok(end)
        });
        let end = written.map_err(|why| StoreError::from_sql(doing, &self.0.path, why))?;
        self.keep_head(&end, false);
        Ok(end)
    }

    /// Adds `end` to the file of heads, if that is due or `now`. A failure is told in the log and
    /// tried again: the records are safe without it, and a line must not stop for it.
    pub(super) fn keep_head(&self, end: &End, now: bool) {
        let monotonic_ns = end.time.monotonic_ns;
        let mut heads = self.0.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if !now && !heads.is_due(end.sequence, monotonic_ns) {
            return;
        }
        if let Err(why) = heads.write(&self.0.signer.anchor(end), monotonic_ns) {
            let why = StoreError::Heads { path: anchor::heads_path(&self.0.path), why };
            tracing::error!(%why, "the head of the audit log could not be kept beside it");
        }
    }
}

/// Appends a start or reload with this body, and what is another in `run` than in the one before.
fn append_run(
    change: &Transaction<'_>,
    now: &ChainTime,
    kind: EventKind,
    body: &str,
    run: &Run,
) -> rusqlite::Result<End> {
    let started = events::newest(change, EventKind::Start)?;
    let reloaded = events::newest(change, EventKind::Reload)?;
    let before = started.max(reloaded);
    let mut end = chain::append(change, now, Entry::Event(kind, body))?;
    // One of another form has nothing to compare with.
    let before = before.and_then(|(_, body)| serde_json::from_str::<Run>(&body).ok());
    for (kind, what) in before.map_or(Vec::new(), |before| events::changes(&before, run)) {
        let body = to_canonical_json(&what).map_err(chain::unwritable)?;
        end = chain::append(change, now, Entry::Event(kind, &body))?;
    }
    Ok(end)
}

/// The canonical JSON of an event's body.
pub(super) fn event_body(kind: EventKind, body: &impl Serialize) -> Result<String, StoreError> {
    let wrong = |why: String| StoreError::Event { kind: kind.as_str(), why };
    let body = to_canonical_json(body).map_err(|why| wrong(why.to_string()))?;
    if !body.starts_with('{') {
        return Err(wrong("its body is no JSON object".to_owned()));
    }
    if body.len() > EVENT_MAX_BYTES {
        return Err(wrong(format!("its body has {} bytes, {EVENT_MAX_BYTES} at most", body.len())));
    }
    Ok(body)
}
