//! One connection and what is under way on it: the window, and how long silence is borne.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::envelope;
use super::options::PublishOptions;
use super::transport::{Connection, Limits, Packet, Token};
use crate::store::OutboxRow;

/// What a dial may take beyond its own time-out before it is given up from outside.
const DIAL_GRACE: Duration = Duration::from_secs(5);

/// What a handed-over message is.
pub(super) enum Purpose {
    Result { row: OutboxRow, replayed: bool, handed_over: Timestamp },
    Last,
    Status,
    State,
    Reply,
}

/// A message that is handed over and not acknowledged.
pub(super) struct UnderWay {
    pub(super) purpose: Purpose,
    /// Its packet's.
    pub(super) bytes: usize,
}

/// One connection and what is under way on it.
pub(super) struct Link<C> {
    pub(super) connection: C,
    pub(super) connected: bool,
    pub(super) outstanding: HashMap<Token, UnderWay>,
    /// What the broker allows.
    pub(super) limits: Limits,
    /// There may be live rows that are not handed over.
    pub(super) look_live: bool,
    /// There may be rows of backlog that are not handed over.
    pub(super) look_backlog: bool,
    /// Live results handed over since backlog had its turn.
    pub(super) live_run: usize,
    /// The newest acknowledged result of each station whose `last` message is yet to be sent.
    pub(super) lasts: BTreeMap<String, Vec<u8>>,
    /// The row of each station's newest `last` message on this connection, sent or waiting.
    newest: BTreeMap<String, i64>,
    /// The dial, the last acknowledgement, or the first message after all were acknowledged.
    pub(super) progress: Instant,
}

impl<C: Connection> Link<C> {
    pub(super) fn new(connection: C) -> Link<C> {
        Link {
            connection,
            connected: false,
            outstanding: HashMap::new(),
            limits: Limits::default(),
            look_live: true,
            look_backlog: true,
            live_run: 0,
            lasts: BTreeMap::new(),
            newest: BTreeMap::new(),
            progress: Instant::now(),
        }
    }

    pub(super) fn submit(&mut self, packet: Packet, purpose: Purpose) -> Result<(), String> {
        let bytes = packet.wire_bytes();
        let token = self.connection.try_publish(packet).map_err(|why| why.to_string())?;
        if self.outstanding.is_empty() {
            self.progress = Instant::now();
        }
        self.outstanding.insert(token, UnderWay { purpose, bytes });
        Ok(())
    }

    /// Most messages under way at once.
    pub(super) fn window(&self, options: &PublishOptions) -> usize {
        let most = self.limits.inflight.unwrap_or(options.inflight);
        usize::from(most.min(options.inflight))
    }

    /// How many more messages may be handed over.
    pub(super) fn room(&self, options: &PublishOptions) -> usize {
        self.window(options).saturating_sub(self.outstanding.len())
    }

    /// Longest packet in bytes, and who says so.
    pub(super) fn max_packet(&self, options: &PublishOptions) -> (usize, &'static str) {
        match self.limits.max_packet_bytes {
            Some(most) if most < options.max_packet_bytes => (most, "the broker's limit"),
            _ => (options.max_packet_bytes, "max_packet_bytes"),
        }
    }

    /// What is under way.
    pub(super) fn purposes(&self) -> impl Iterator<Item = &Purpose> {
        self.outstanding.values().map(|under_way| &under_way.purpose)
    }

    /// There may be rows of either kind.
    pub(super) fn look_again(&mut self) {
        (self.look_live, self.look_backlog) = (true, true);
    }

    /// Rows under way.
    pub(super) fn ids(&self) -> HashSet<i64> {
        let rows = self.purposes().filter_map(|purpose| match purpose {
            Purpose::Result { row, .. } => Some(row.id),
            _ => None,
        });
        rows.collect()
    }

    /// Rows of backlog under way.
    pub(super) fn replays(&self) -> usize {
        let is_replay =
            |purpose: &&Purpose| matches!(purpose, Purpose::Result { replayed: true, .. });
        self.purposes().filter(is_replay).count()
    }

    /// Notes a row that the broker has, as its station's `last` message if none is newer.
    pub(super) fn note_last(&mut self, row: OutboxRow, replayed: bool) {
        let newest = self.newest.entry(row.station.clone()).or_insert(row.id);
        if *newest <= row.id
            // The newest result is asked for its verdict; its picture was sent once.
            && let Some(sent) = envelope::seal(
                &envelope::without_thumbnail(&row.payload).unwrap_or(row.payload),
                replayed,
            )
        {
            *newest = row.id;
            self.lasts.insert(row.station, sent);
        }
    }

    /// Results under way.
    pub(super) fn results(&self) -> usize {
        let is_result = |purpose: &&Purpose| matches!(purpose, Purpose::Result { .. });
        self.purposes().filter(is_result).count()
    }

    /// States and replies under way.
    pub(super) fn asides(&self) -> usize {
        let is_aside = |purpose: &&Purpose| matches!(purpose, Purpose::State | Purpose::Reply);
        self.purposes().filter(is_aside).count()
    }

    /// Replies under way.
    pub(super) fn replies(&self) -> usize {
        self.purposes().filter(|purpose| matches!(purpose, Purpose::Reply)).count()
    }

    /// Nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        !self.look_live
            && !self.look_backlog
            && self.outstanding.is_empty()
            && self.lasts.is_empty()
    }

    /// When the connection is to be given up if nothing happens; `None` if nothing is awaited.
    pub(super) fn patience_ends(&self, options: &PublishOptions) -> Option<Instant> {
        match (self.connected, self.outstanding.is_empty()) {
            // The greeting, and the answer to the subscriptions.
            (false, _) => Some(self.progress + options.connect_timeout + DIAL_GRACE),
            (true, false) => Some(self.progress + options.watchdog),
            (true, true) => None,
        }
    }

    pub(super) fn silence(&self, options: &PublishOptions) -> String {
        match self.connected {
            false => "the dial did not end".to_owned(),
            true => format!(
                "nothing was acknowledged for {:.1} s while {} messages waited for it",
                options.watchdog.as_secs_f64(),
                self.outstanding.len()
            ),
        }
    }
}
