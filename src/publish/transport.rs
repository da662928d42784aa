//! What the session asks of an MQTT library: little, so that another one is one new file.
//!
//! A [`Connection`] lives from one dial to the first error and is never revived: what a library
//! keeps for "the next session" (its queue, its unacknowledged packets, its packet numbers) dies
//! with it. Only the outbox remembers.

use std::future::Future;
use std::time::Duration;

/// Tells the broker's acknowledgements apart: counts up for each accepted message of a connection.
pub type Token = u64;

/// A message to be sent at QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where to.
    pub topic: String,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Whether the broker is to keep it for those who come late.
    pub retain: bool,
}

impl Packet {
    /// No less than the bytes of this message on the wire: fixed header 5, length of the topic 2,
    /// packet number 2.
    pub fn wire_bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + 9
    }
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The broker has accepted us.
    Connected,
    /// The broker has taken over responsibility for this message.
    Acknowledged(Token),
    /// The connection is gone, or could not be made; nothing comes after this.
    Closed(String),
}

/// The connection takes no message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes no message now")]
pub struct Refused;

/// Everything that a dial needs.
#[derive(Clone)]
pub struct DialOptions {
    /// The broker's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Our name at the broker.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// How often a silent connection is tried.
    pub keep_alive: Duration,
    /// Time for TCP and the MQTT greeting together.
    pub connect_timeout: Duration,
    /// Most messages that are sent and not yet acknowledged.
    pub inflight: u16,
    /// Longest packet in bytes, both ways.
    pub max_packet_bytes: usize,
    /// What the broker says when we vanish.
    pub last_will: Packet,
}

/// Makes connections.
pub trait Dial: Send + Sync + 'static {
    /// What it makes.
    type Connection: Connection;

    /// Begins to connect; the outcome is the connection's first event. Always a clean session:
    /// the outbox replaces the broker's memory of us.
    fn dial(&self, options: &DialOptions) -> Self::Connection;
}

/// One connection to a broker.
pub trait Connection: Send + 'static {
    /// Hands a message over without waiting. `Refused` if the connection is gone or its queue is
    /// full. Order is kept.
    fn try_publish(&mut self, packet: Packet) -> Result<Token, Refused>;

    /// Waits for the next event. May be dropped at any time without losing one.
    fn next(&mut self) -> impl Future<Output = Event> + Send;

    /// The next event, if one is there already.
    fn try_next(&mut self) -> Option<Event>;

    /// Says goodbye, so that the broker keeps the last will to itself, and waits for the end.
    fn close(self) -> impl Future<Output = ()> + Send;
}
