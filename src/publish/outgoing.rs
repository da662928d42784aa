//! Messages that are no rows of the outbox: states and replies. Any thread hands them over without
//! waiting; the session takes them when its window has room.
//!
//! | what  | while there is no connection       | when too many come          |
//! |-------|------------------------------------|-----------------------------|
//! | state | the newest of a topic is kept, and sent on every connect | a new topic is refused |
//! | reply | refused, and counted               | refused, and counted        |
//!
//! Neither is a result: what must not be lost goes through the outbox.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::transport::Packet;

/// Most topics with a state.
const STATES_MAX: usize = 1024;

/// Most replies that wait for room in the window.
const REPLIES_MAX: usize = 64;

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// There is no connection; its receiver will not wait until there is one.
    #[error("there is no connection to the MQTT broker")]
    NotConnected,
    /// The queue is full.
    #[error("{REPLIES_MAX} messages wait to be sent already")]
    QueueFull,
    /// So many topics have a state that it can only be a mistake.
    #[error("{STATES_MAX} topics have a state already")]
    TooManyStates,
    /// The packet is longer than allowed.
    #[error("its packet would have {bytes} bytes, max_packet_bytes is {most}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
}

/// What waits to be sent beside the outbox.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest state of each topic.
    states: BTreeMap<String, Packet>,
    /// The topics whose newest state this connection has not been given.
    due: BTreeSet<String>,
    /// The device has other stations, and nobody was told.
    stations: Option<Vec<String>>,
    replies: VecDeque<Packet>,
    connected: bool,
    dropped: u64,
}

/// What goes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The device has these stations. Comes before whatever was handed over after it.
    Stations(Vec<String>),
    /// An event, or the answer to a message.
    Reply(Packet),
    /// The newest state of its topic.
    State(Packet),
}

impl Outgoing {
    /// The device has these stations from now on.
    pub(super) fn put_stations(&self, stations: Vec<String>) {
        self.lock().stations = Some(stations);
    }

    /// The stations that nobody was told of, for one who dials.
    pub(super) fn take_stations(&self) -> Option<Vec<String>> {
        self.lock().stations.take()
    }

    /// Keeps `packet` as the newest state of its topic.
    pub(super) fn put_state(&self, packet: Packet) -> Result<(), NotTaken> {
        let mut inner = self.lock();
        if inner.states.len() >= STATES_MAX && !inner.states.contains_key(&packet.topic) {
            return Err(NotTaken::TooManyStates);
        }
        inner.due.insert(packet.topic.clone());
        inner.states.insert(packet.topic.clone(), packet);
        Ok(())
    }

    /// Queues `packet` for this connection.
    pub(super) fn put_reply(&self, packet: Packet) -> Result<(), NotTaken> {
        let mut inner = self.lock();
        let refused = match (inner.connected, inner.replies.len() < REPLIES_MAX) {
            (true, true) => {
                inner.replies.push_back(packet);
                return Ok(());
            }
            (false, _) => NotTaken::NotConnected,
            (true, false) => NotTaken::QueueFull,
        };
        inner.dropped += 1;
        Err(refused)
    }

    /// A connection stands: every state is to be sent on it.
    pub(super) fn connected(&self) {
        let mut inner = self.lock();
        inner.connected = true;
        inner.due = inner.states.keys().cloned().collect();
    }

    /// The connection is gone, with `under_way` replies unconfirmed on it; those who waited for
    /// these and for the queued ones have lost it too.
    pub(super) fn disconnected(&self, under_way: usize) {
        let mut inner = self.lock();
        inner.connected = false;
        inner.dropped += (inner.replies.len() + under_way) as u64;
        inner.replies.clear();
    }

    /// The next one: stations, then replies, then states.
    pub(super) fn next(&self) -> Option<Next> {
        let mut inner = self.lock();
        if let Some(stations) = inner.stations.take() {
            return Some(Next::Stations(stations));
        }
        if let Some(reply) = inner.replies.pop_front() {
            return Some(Next::Reply(reply));
        }
        let topic = inner.due.pop_first()?;
        inner.states.get(&topic).cloned().map(Next::State)
    }

    pub(super) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.replies.is_empty() && inner.due.is_empty() && inner.stations.is_none()
    }

    /// Replies that were refused or lost with their connection, since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(topic: &str, text: &str) -> Packet {
        Packet { topic: topic.into(), payload: text.into(), ..Packet::default() }
    }

    #[test]
    fn the_newest_state_of_a_topic_is_sent_and_again_on_the_next_connection() {
        let outgoing = Outgoing::default();
        for text in ["1", "2"] {
            outgoing.put_state(packet("state", text)).expect("room");
        }
        outgoing.connected();
        assert_eq!(outgoing.next(), Some(Next::State(packet("state", "2"))));
        assert_eq!(outgoing.next(), None);
        outgoing.disconnected(0);
        outgoing.connected();
        assert_eq!(outgoing.next(), Some(Next::State(packet("state", "2"))));
        outgoing.connected();
        outgoing.put_stations(vec!["press".into()]);
        assert_eq!(outgoing.next(), Some(Next::Stations(vec!["press".into()])), "before any state");
        let more = (0..STATES_MAX).map(|at| outgoing.put_state(packet(&at.to_string(), "")));
        assert_eq!(more.filter(Result::is_err).count(), 1);
    }

    #[test]
    fn a_reply_that_cannot_go_now_is_counted_and_goes_never() {
        let outgoing = Outgoing::default();
        assert_eq!(outgoing.put_reply(packet("r", "")), Err(NotTaken::NotConnected));
        outgoing.connected();
        for at in 0..REPLIES_MAX {
            outgoing.put_reply(packet("r", &at.to_string())).expect("room");
        }
        assert_eq!(outgoing.put_reply(packet("r", "")), Err(NotTaken::QueueFull));
        assert_eq!(outgoing.next(), Some(Next::Reply(packet("r", "0"))));
        outgoing.disconnected(1);
        outgoing.connected();
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.dropped(), 2 + REPLIES_MAX as u64);
    }
}
