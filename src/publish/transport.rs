//! What the session asks of an MQTT library: little, so that another one is one new file.
//!
//! A [`Connection`] lives from one dial to the first error and is never revived: what a library
//! keeps for "the next session" (its queue, its unacknowledged packets, its packet numbers) dies
//! with it. Only the outbox remembers.

use std::future::Future;
use std::time::Duration;

use super::access::Access;
use super::options::{Protocol, PublishError, PublishOptions};
use super::tls::Tls;

/// Tells the broker's acknowledgements apart: counts up for each accepted message of a connection.
pub type Token = u64;

/// How surely a message is to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qos {
    /// Written once; nobody confirms it.
    AtMostOnce,
    /// The broker confirms that it has it.
    #[default]
    AtLeastOnce,
}

/// What a message says about itself beside its payload. MQTT 5 carries it, 3.1.1 does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The form of the payload, such as `application/json`.
    pub content_type: Option<&'static str>,
    /// Which schema the payload follows: the user property `schema`.
    pub schema: Option<&'static str>,
    /// How long the broker keeps the message for those who are away; for ever if `None`.
    pub expiry_s: Option<u32>,
    /// What a request called itself, given back to it with its answer.
    pub correlation: Option<Vec<u8>>,
}

/// A message to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Where to.
    pub topic: String,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Whether the broker is to keep it for those who come late.
    pub retain: bool,
    /// Whether its arrival is confirmed.
    pub qos: Qos,
    /// What it says about itself.
    pub properties: Properties,
}

impl Packet {
    /// No less than the bytes of this message on the wire: fixed header 5, length of the topic 2,
    /// packet number 2; with MQTT 5 the length of the properties 4, and each with its name and
    /// lengths.
    pub fn wire_bytes(&self) -> usize {
        let properties = &self.properties;
        let content_type = properties.content_type.map_or(0, |text| 3 + text.len());
        let schema = properties.schema.map_or(0, |text| 5 + "schema".len() + text.len());
        let expiry = properties.expiry_s.map_or(0, |_| 5);
        let correlation = properties.correlation.as_ref().map_or(0, |bytes| 3 + bytes.len());
        let described = content_type + schema + expiry + correlation;
        self.topic.len() + self.payload.len() + 13 + described
    }
}

/// A message that came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Where it was sent to.
    pub topic: String,
    /// The bytes, at most [`DialOptions::max_packet_bytes`] of them. Hostile until checked.
    pub payload: Vec<u8>,
    /// The broker kept it from before this connection: an old message. A command must not be obeyed.
    pub retain: bool,
    /// It may have come before. A copy may also come without this mark.
    pub duplicate: bool,
    /// Where its sender awaits the answer (MQTT 5).
    pub response_topic: Option<String>,
    /// What its sender calls it; to be given back with the answer (MQTT 5).
    pub correlation: Option<Vec<u8>>,
}

/// What the broker allows on this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest packet that it takes, in bytes; `None`: it did not say.
    pub max_packet_bytes: Option<usize>,
    /// Most messages at QoS 1 that it takes before it acknowledges one; `None`: it did not say.
    pub inflight: Option<u16>,
}

/// A subscription that the broker did not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSubscribed {
    /// The topic filter.
    pub filter: String,
    /// The broker's reason.
    pub reason: String,
}

/// How a message was declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decline {
    /// Access or a quota: it may be taken later.
    ForNow,
    /// It would be declined again.
    ForGood,
    /// It is longer than the broker takes, and so is every message of its length.
    TooLong,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The broker has accepted us.
    Connected(Limits),
    /// The broker has answered our subscriptions; these it did not grant. Comes once after
    /// [`Event::Connected`] if there are any, and no message comes before it that they ask for; and once
    /// for each [`Connection::subscribe`].
    Subscribed(Vec<NotSubscribed>),
    /// The broker has taken over responsibility for this message.
    Acknowledged(Token),
    /// The broker has this message and will not take it.
    Declined {
        /// Which one.
        token: Token,
        /// The broker's reason.
        reason: String,
        /// Whether it is to be sent again.
        decline: Decline,
    },
    /// A message at [`Qos::AtMostOnce`] was written to the network.
    Written(Token),
    /// A message came in. The broker has our acknowledgement already.
    Message(Incoming),
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
    /// The protocol spoken.
    pub protocol: Protocol,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Encryption; `None`: none.
    pub tls: Option<Tls>,
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
    /// Topic filters that are subscribed to at QoS 1 as soon as the broker has accepted us.
    pub subscriptions: Vec<String>,
}

impl DialOptions {
    /// Those of a dial to the broker of `options`, with its files as they are now. Blocks on the
    /// disk.
    pub fn read(
        options: &PublishOptions,
        client_id: &str,
        last_will: Packet,
        subscriptions: Vec<String>,
    ) -> Result<DialOptions, PublishError> {
        let Access { login, tls } = Access::read(options)?;
        Ok(DialOptions {
            host: options.host.clone(),
            port: options.port,
            client_id: client_id.to_owned(),
            protocol: options.protocol,
            login,
            tls,
            keep_alive: options.keep_alive,
            connect_timeout: options.connect_timeout,
            inflight: options.inflight,
            max_packet_bytes: options.max_packet_bytes,
            last_will,
            subscriptions,
        })
    }
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

    /// Asks for more topic filters, at QoS 1, without waiting; [`Event::Subscribed`] answers. `Refused` as above.
    fn subscribe(&mut self, filters: &[String]) -> Result<(), Refused>;

    /// Waits for the next event. May be dropped at any time without losing one.
    fn next(&mut self) -> impl Future<Output = Event> + Send;

    /// The next event, if one is there already.
    fn try_next(&mut self) -> Option<Event>;

    /// Says goodbye, so that the broker keeps the last will to itself, and waits for the end.
    fn close(self) -> impl Future<Output = ()> + Send;
}
