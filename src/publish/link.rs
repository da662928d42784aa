//! One connection and what is under way on it: the window, and how long silence is borne.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::PublishOptions;
use super::transport::{Connection, Packet, Token};
use crate::store::OutboxRow;

/// What a dial may take beyond its own time-out before it is given up from outside.
const DIAL_GRACE: Duration = Duration::from_secs(5);

/// What a handed-over message is.
pub(super) enum Purpose {
    Result(OutboxRow),
    Last,
    Status,
    State,
    Reply,
}

/// One connection and what is under way on it.
pub(super) struct Link<C> {
    pub(super) connection: C,
    pub(super) connected: bool,
    pub(super) outstanding: HashMap<Token, Purpose>,
    /// The newest row that was handed over or put aside.
    pub(super) cursor: i64,
    /// There may be rows beyond the cursor.
    pub(super) look: bool,
    /// The newest acknowledged result of each station whose `last` message is yet to be sent.
    pub(super) lasts: BTreeMap<String, Vec<u8>>,
    /// The dial, the last acknowledgement, or the first message after all were acknowledged.
    pub(super) progress: Instant,
}

impl<C: Connection> Link<C> {
    pub(super) fn new(connection: C) -> Link<C> {
        Link {
            connection,
            connected: false,
            outstanding: HashMap::new(),
            cursor: 0,
            look: true,
            lasts: BTreeMap::new(),
            progress: Instant::now(),
        }
    }

    pub(super) fn submit(&mut self, packet: Packet, purpose: Purpose) -> Result<(), String> {
        let token = self.connection.try_publish(packet).map_err(|why| why.to_string())?;
        if self.outstanding.is_empty() {
            self.progress = Instant::now();
        }
        self.outstanding.insert(token, purpose);
        Ok(())
    }

    pub(super) fn room(&self, options: &PublishOptions) -> usize {
        usize::from(options.inflight).saturating_sub(self.outstanding.len())
    }

    /// Results under way.
    pub(super) fn results(&self) -> usize {
        self.outstanding.values().filter(|purpose| matches!(purpose, Purpose::Result(_))).count()
    }

    /// States and replies under way.
    pub(super) fn asides(&self) -> usize {
        let is_aside = |purpose: &&Purpose| matches!(purpose, Purpose::State | Purpose::Reply);
        self.outstanding.values().filter(is_aside).count()
    }

    /// Replies under way.
    pub(super) fn replies(&self) -> usize {
        self.outstanding.values().filter(|purpose| matches!(purpose, Purpose::Reply)).count()
    }

    /// Nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        !self.look && self.outstanding.is_empty() && self.lasts.is_empty()
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
