//! Delivery: takes what waits in the outbox to an MQTT broker, and marks it sent when the broker
//! has said that it has it.
//!
//! [`message`] makes the bytes, [`topics`] says where to, `session` drains the outbox over a
//! [`transport`], of which [`rumqtt`] is the one in use. The inspection never waits for any of it:
//! it commits, and calls [`PublisherHandle::wake`]. Beside the outbox go states, events and answers
//! ([`outgoing`]), and messages come in for those who ask for them ([`inbox`]).

mod access;
pub mod backoff;
mod blocks;
pub mod deliveries;
pub mod demo_broker;
pub mod envelope;
pub mod inbox;
mod link;
pub mod message;
mod options;
pub mod outgoing;
mod pace;
mod pump;
mod receive;
pub mod rumqtt;
pub mod schema;
mod session;
pub mod tls;
pub mod topics;
pub mod transport;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::inspection::Inspection;
use crate::store::{OutboxMessage, Store};
use deliveries::Hearers;
use inbox::Reply;
use message::Packets;
pub use options::{Protocol, PublishError, PublishOptions, TlsOptions};
use outgoing::{NotTaken, Outgoing};
use rumqtt::RumqttDial;
use session::{Session, Steering};
use topics::{Kind, Topics};
use transport::{Dial, NotSubscribed, Packet};

/// How delivery stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishState {
    /// The broker has accepted us and the connection has not failed since.
    pub connected: bool,
    /// Results acknowledged by the broker since the start.
    pub sent: u64,
    /// Results that wait.
    pub unsent: u64,
    /// Results that were put aside because they can never be sent; needs a person.
    pub quarantined: u64,
    /// How long the oldest has waited, by the wall clock.
    pub oldest_unsent_age: Option<Duration>,
    /// Why the last connection failed; `None` once a later one has delivered something.
    pub last_error: Option<String>,
    /// Subscriptions that the broker did not grant on the last connection: commands to these topics
    /// do not arrive.
    pub not_subscribed: Vec<NotSubscribed>,
    /// Stations whose results the broker does not take now, with its reason; they wait.
    pub declined: BTreeMap<String, String>,
    /// Replies and events that were refused or lost with their connection, since the start.
    pub dropped_replies: u64,
}

/// How delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Results that still wait; they are sent after the next start.
    pub unsent: u64,
}

/// Starts delivery.
#[derive(Debug)]
pub struct Publisher;

impl Publisher {
    /// Starts delivery from `store` on the current tokio runtime, which must have time and network
    /// switched on. A broker that is away is no error: it is dialled until it comes. `hearers` are given what
    /// it says.
    pub fn spawn(
        options: PublishOptions,
        store: Store,
        clock: Arc<dyn Clock>,
        hearers: Hearers,
    ) -> Result<PublisherHandle, PublishError> {
        Publisher::spawn_over(RumqttDial, options, store, clock, hearers)
    }

    /// As [`Publisher::spawn`], over another transport.
    pub fn spawn_over<D: Dial>(
        dial: D,
        options: PublishOptions,
        store: Store,
        clock: Arc<dyn Clock>,
        hearers: Hearers,
    ) -> Result<PublisherHandle, PublishError> {
        options.check()?;
        let packets = Packets::new(&options)?;
        let (max_packet_bytes, thumbnail_px) = (options.max_packet_bytes, options.thumbnail_px);
        let wake = Arc::new(Notify::new());
        let outgoing = Arc::new(Outgoing::default());
        for packet in schema::ALL.iter().map(|schema| packets.schema(schema)) {
            // One that is too long is left out with a word in the log when it would be sent.
            outgoing.put_state(packet).expect("there are few schemas");
        }
        let (stop, stop_seen) = watch::channel(None);
        let (state_out, state) = watch::channel(PublishState::default());
        let (ended_out, ended) = watch::channel(None);
        let (route, route_seen) = watch::channel(options.clone());
        let steering = Steering {
            wake: Arc::clone(&wake),
            stop: stop_seen,
            route: route_seen,
            state: state_out,
            outgoing: Arc::clone(&outgoing),
            hearers,
        };
        let session = Session::new(dial, options, packets.clone(), store, clock, steering)?;
        tokio::spawn(async move {
            let drained = session.run().await;
            // Nobody may be waiting.
            let _ = ended_out.send(Some(drained));
        });
        let (stop, route) = (Arc::new(stop), Arc::new(route));
        Ok(PublisherHandle {
            wake,
            stop,
            route,
            state,
            ended,
            outgoing,
            packets,
            max_packet_bytes,
            thumbnail_px,
        })
    }
}

/// Steers a running delivery. When the last clone is dropped, delivery ends at once and the broker
/// publishes the last will.
#[derive(Clone, Debug)]
pub struct PublisherHandle {
    wake: Arc<Notify>,
    stop: Arc<watch::Sender<Option<Instant>>>,
    route: Arc<watch::Sender<PublishOptions>>,
    state: watch::Receiver<PublishState>,
    ended: watch::Receiver<Option<Drained>>,
    outgoing: Arc<Outgoing>,
    packets: Packets,
    max_packet_bytes: usize,
    thumbnail_px: u32,
}

impl PublisherHandle {
    /// Says that something was committed. From any thread; never blocks.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The message that tells of `inspection`, to be committed with it. `jpeg` is left out where it
    /// would make the packet too long.
    pub fn result(&self, inspection: &Inspection, jpeg: Option<&[u8]>) -> OutboxMessage {
        let message = message::result_with_thumbnail(inspection, jpeg);
        let (kind, station) = (Kind::Result, Some(inspection.station.as_str()));
        let sent = self.packets.packet(kind, station, message.payload);
        if jpeg.is_some() && sent.wire_bytes() + envelope::ENVELOPE_BYTES > self.max_packet_bytes {
            return message::result(inspection);
        }
        OutboxMessage { kind: message.kind, payload: sent.payload }
    }

    /// The longer side of the thumbnail that results carry, in pixels; 0: they carry none.
    pub fn thumbnail_px(&self) -> u32 {
        self.thumbnail_px
    }

    /// The topics of this device.
    pub fn topics(&self) -> &Topics {
        self.packets.topics()
    }

    /// The device has these stations from now on: the status names them, and the inbox is asked again for its topics.
    /// The last will names them from the next connection on, as a connection's will is told when it is made. From any
    /// thread; never blocks. The names must have been checked.
    pub fn set_stations(&self, stations: Vec<String>) {
        self.outgoing.put_stations(stations);
        self.wake.notify_one();
    }

    /// The broker is reached from now on as `options` say; all else in them is passed over. The connection that stands is
    /// ended with a goodbye, and what was not acknowledged on it is sent to the other. From any thread; never blocks.
    /// The options must have been checked.
    pub fn set_route(&self, options: PublishOptions) {
        self.route.send_replace(options);
    }

    /// Keeps `payload` (JSON) as the newest state of `kind`, of `station` or of the device, and sends
    /// it now and on every connection, at QoS 1, retained if `kind` is. What it replaces may never
    /// be sent. From any thread; never blocks. A station's name must have been checked.
    pub fn publish_state(
        &self,
        kind: Kind,
        station: Option<&str>,
        payload: Vec<u8>,
    ) -> Result<(), NotTaken> {
        let packet = self.packets.packet(kind, station, payload);
        self.fits(&packet)?;
        self.outgoing.put_state(packet)?;
        self.wake.notify_one();
        Ok(())
    }

    /// Sends `payload` (JSON) once, at QoS 1, if there is a connection now. What cannot go now never
    /// goes, and is counted. From any thread; never blocks. A station's name must have been checked.
    pub fn publish_event(
        &self,
        kind: Kind,
        station: Option<&str>,
        payload: Vec<u8>,
    ) -> Result<(), NotTaken> {
        self.put_reply(self.packets.packet(kind, station, payload))
    }

    /// Answers a message, as [`PublisherHandle::publish_event`] sends.
    pub fn reply(&self, reply: Reply) -> Result<(), NotTaken> {
        self.put_reply(self.packets.reply(reply))
    }

    fn put_reply(&self, packet: Packet) -> Result<(), NotTaken> {
        self.fits(&packet)?;
        self.outgoing.put_reply(packet)?;
        self.wake.notify_one();
        Ok(())
    }

    fn fits(&self, packet: &Packet) -> Result<(), NotTaken> {
        let (bytes, most) = (packet.wire_bytes(), self.max_packet_bytes);
        if bytes > most { Err(NotTaken::TooLong { bytes, most }) } else { Ok(()) }
    }

    /// How delivery stands, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<PublishState> {
        self.state.clone()
    }

    /// Sends what waits, but no longer than until `deadline` from now, says that the device is
    /// offline, and ends. Takes up to two seconds more for the goodbye.
    pub async fn drain_and_stop(&self, deadline: Duration) -> Drained {
        let until = Instant::now() + deadline;
        self.stop.send_modify(|stop| *stop = Some(stop.map_or(until, |before| before.min(until))));
        let mut ended = self.ended.clone();
        let drained = match ended.wait_for(Option::is_some).await {
            Ok(drained) => *drained,
            // The task is gone without a word: the runtime is going down.
            Err(_) => None,
        };
        drained.unwrap_or(Drained { unsent: self.state.borrow().unsent })
    }
}
