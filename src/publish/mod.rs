//! Delivery: takes what waits in the outbox to an MQTT broker, and marks it sent when the broker
//! has said that it has it.
//!
//! [`message`] makes the bytes, [`topics`] says where to, `session` drains the outbox over a
//! [`transport`], of which [`rumqtt`] is the one in use. The inspection never waits for any of it:
//! it commits, and calls [`PublisherHandle::wake`].

pub mod backoff;
pub mod demo_broker;
pub mod inbox;
mod link;
pub mod message;
pub mod outgoing;
mod pump;
pub mod rumqtt;
mod session;
pub mod topics;
pub mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::store::Store;
use inbox::{Inbox, Reply};
use outgoing::{NotTaken, Outgoing};
use rumqtt::RumqttDial;
use session::{Session, Steering};
use topics::{Kind, NameError, Topics};
use transport::{Dial, NotSubscribed, Packet};

/// Where and how to deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishOptions {
    /// The broker's name or address.
    pub host: String,
    /// Its port; 1883 by custom.
    pub port: u16,
    /// Our name at the broker, unique there: of two with one name, each throws the other out.
    pub client_id: String,
    /// What every topic begins with: one or more names with `/` between them.
    pub prefix: String,
    /// This device's name, a level of every topic.
    pub device: String,
    /// The stations' names.
    pub stations: Vec<String>,
    /// User name at the broker, if it asks for one.
    pub username: Option<String>,
    /// File with the password: its first line.
    pub password_file: Option<PathBuf>,
    /// How often a silent connection is tried, 5 s or more. Longer: a dead broker is noticed late,
    /// and so is a dead device by those who watch its status.
    pub keep_alive: Duration,
    /// Messages sent and not yet acknowledged, 1 to 20. More is quicker over a slow link and sends
    /// more copies after a cut.
    pub inflight: u16,
    /// Longest packet in bytes, 2 KiB or more. A longer message is put aside, with an error in the
    /// log: no larger than the broker takes, or it cuts the connection on each.
    pub max_packet_bytes: usize,
    /// First wait before a new dial.
    pub backoff_min: Duration,
    /// Longest wait before a new dial.
    pub backoff_max: Duration,
    /// A connection that acknowledges nothing for so long, while something waits for it, is given
    /// up and made anew.
    pub watchdog: Duration,
    /// Time for a dial, in whole seconds.
    pub connect_timeout: Duration,
    /// Sent messages that stay in the outbox, for `audit show`; older ones are deleted there. The
    /// record itself keeps everything.
    pub keep_sent_rows: usize,
}

impl PublishOptions {
    /// The defaults, for this broker, device and stations.
    pub fn new(host: &str, port: u16, device: &str, stations: &[String]) -> PublishOptions {
        PublishOptions {
            host: host.to_owned(),
            port,
            client_id: format!("inspectd-{device}"),
            prefix: "inspectd".to_owned(),
            device: device.to_owned(),
            stations: stations.to_vec(),
            username: None,
            password_file: None,
            keep_alive: Duration::from_secs(30),
            inflight: 16,
            max_packet_bytes: 64 * 1024,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            watchdog: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            keep_sent_rows: 10_000,
        }
    }

    /// Finds the first setting that cannot work.
    pub fn check(&self) -> Result<(), PublishError> {
        Topics::new(&self.prefix, &self.device)?;
        self.stations.iter().try_for_each(|station| topics::check_name(station))?;
        let second = Duration::from_secs(1);
        let tests = [
            ("host", !self.host.is_empty(), "the broker's name or address is missing"),
            ("port", self.port != 0, "it is 0; 1883 is usual"),
            ("client_id", client_id_works(&self.client_id), "1 to 128 printable characters"),
            ("keep_alive", self.keep_alive >= 5 * second, "5 s or more"),
            ("keep_alive", self.keep_alive.as_secs() <= u64::from(u16::MAX), "65535 s at most"),
            ("inflight", (1..=20).contains(&self.inflight), "1 to 20"),
            (
                "max_packet_bytes",
                (2048..1 << 28).contains(&self.max_packet_bytes),
                "2 KiB to 256 MiB",
            ),
            (
                "max_packet_bytes",
                self.status_fits(),
                "room for the status, which lists all stations",
            ),
            ("backoff_min", !self.backoff_min.is_zero(), "more than nothing"),
            ("backoff_max", self.backoff_max >= self.backoff_min, "not below backoff_min"),
            ("watchdog", self.watchdog >= second, "1 s or more"),
            ("connect_timeout", self.connect_timeout >= second, "1 s or more"),
            (
                "password_file",
                self.password_file.is_none() || self.username.is_some(),
                "MQTT 3.1.1 takes a password only with a username: set both",
            ),
        ];
        match tests.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, wanted)) => Err(PublishError::Setting { setting, wanted }),
            None => Ok(()),
        }
    }

    /// The status also goes out as the last will, with the greeting: too long, there would never be
    /// a connection.
    fn status_fits(&self) -> bool {
        let status = message::status(&self.device, &self.stations, message::Status::Lost);
        let greeting_bytes = 1024;
        status.len() + greeting_bytes <= self.max_packet_bytes
    }
}

fn client_id_works(client_id: &str) -> bool {
    (1..=128).contains(&client_id.chars().count())
        && !client_id.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Why delivery cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A name cannot be part of a topic.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A setting cannot work.
    #[error("the MQTT setting `{setting}` cannot work: {wanted}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The password cannot be read.
    #[error(
        "cannot read the MQTT password from {path}: {why}; put it there as the file's first line, \
         readable for the user that inspectd runs as",
        path = .path.display()
    )]
    Password {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

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
    /// switched on. A broker that is away is no error: it is dialled until it comes.
    pub fn spawn(
        options: PublishOptions,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<PublisherHandle, PublishError> {
        Publisher::spawn_over(RumqttDial, options, store, clock, None)
    }

    /// As [`Publisher::spawn`], and gives `inbox` the messages that it asks for.
    pub fn spawn_with_inbox(
        options: PublishOptions,
        store: Store,
        clock: Arc<dyn Clock>,
        inbox: Arc<dyn Inbox>,
    ) -> Result<PublisherHandle, PublishError> {
        Publisher::spawn_over(RumqttDial, options, store, clock, Some(inbox))
    }

    /// As [`Publisher::spawn`], over another transport, with or without an inbox.
    pub fn spawn_over<D: Dial>(
        dial: D,
        options: PublishOptions,
        store: Store,
        clock: Arc<dyn Clock>,
        inbox: Option<Arc<dyn Inbox>>,
    ) -> Result<PublisherHandle, PublishError> {
        options.check()?;
        let credentials = read_credentials(&options)?;
        let topics = Topics::new(&options.prefix, &options.device)?;
        let max_packet_bytes = options.max_packet_bytes;
        let wake = Arc::new(Notify::new());
        let outgoing = Arc::new(Outgoing::default());
        let (stop, stop_seen) = watch::channel(None);
        let (state_out, state) = watch::channel(PublishState::default());
        let (ended_out, ended) = watch::channel(None);
        let steering = Steering {
            wake: Arc::clone(&wake),
            stop: stop_seen,
            state: state_out,
            outgoing: Arc::clone(&outgoing),
            inbox,
        };
        let session = Session::new(dial, options, credentials, store, clock, steering)?;
        tokio::spawn(async move {
            let drained = session.run().await;
            // Nobody may be waiting.
            let _ = ended_out.send(Some(drained));
        });
        let stop = Arc::new(stop);
        Ok(PublisherHandle { wake, stop, state, ended, outgoing, topics, max_packet_bytes })
    }
}

/// The first line of the password file, with the user name.
fn read_credentials(options: &PublishOptions) -> Result<Option<(String, String)>, PublishError> {
    let Some(username) = &options.username else { return Ok(None) };
    let Some(path) = &options.password_file else {
        return Ok(Some((username.clone(), String::new())));
    };
    let bad = |why: String| PublishError::Password { path: path.clone(), why };
    let text = std::fs::read_to_string(path).map_err(|why| bad(why.to_string()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some((username.clone(), line.to_owned()))),
        _ => Err(bad("its first line is empty".to_owned())),
    }
}

/// Steers a running delivery. When the last clone is dropped, delivery ends at once and the broker
/// publishes the last will.
#[derive(Clone, Debug)]
pub struct PublisherHandle {
    wake: Arc<Notify>,
    stop: Arc<watch::Sender<Option<Instant>>>,
    state: watch::Receiver<PublishState>,
    ended: watch::Receiver<Option<Drained>>,
    outgoing: Arc<Outgoing>,
    topics: Topics,
    max_packet_bytes: usize,
}

impl PublisherHandle {
    /// Says that something was committed. From any thread; never blocks.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The topics of this device.
    pub fn topics(&self) -> &Topics {
        &self.topics
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
        let packet = message::packet(&self.topics, kind, station, payload);
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
        self.put_reply(message::packet(&self.topics, kind, station, payload))
    }

    /// Answers a message, as [`PublisherHandle::publish_event`] sends.
    pub fn reply(&self, reply: Reply) -> Result<(), NotTaken> {
        self.put_reply(reply.packet())
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
