//! The transport over rumqttc, MQTT 3.1.1 and 5. No other folder knows that library.
//!
//! It gives a message no handle for its acknowledgement, so the way from one to the other is kept
//! here: messages leave in the order in which they were handed over, each is reported with the
//! packet number that it got, and that number comes back in the PUBACK. This holds for one
//! connection only. After an error the library would carry old messages over with new numbers and,
//! where the broker forgot the session, drop them without a word; hence a new client for each dial.
//!
//! The two protocols are two copies of the library's code with types of their own: `v4` and `v5`
//! turn either into `Step`s.

mod v4;
mod v5;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::options::Protocol;
use super::tls::{Tls, tls_error};
use super::transport::{
    Connection, Decline, Dial, DialOptions, Event, Incoming, Limits, NotSubscribed, Packet,
    Refused, Token,
};

/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Messages that the queue takes beyond the window: subscriptions, offline status, goodbye.
const QUEUE_SPARE: usize = 4;

/// Makes rumqttc connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct RumqttDial;

impl Dial for RumqttDial {
    type Connection = RumqttConnection;

    fn dial(&self, options: &DialOptions) -> RumqttConnection {
        let queue = usize::from(options.inflight) + QUEUE_SPARE;
        let submitted = Arc::new(Mutex::new(VecDeque::new()));
        // Bounded: at most the window can be acknowledged before the session looks.
        let (report, events) = mpsc::channel(queue + 2);
        let (filters, asked) = (options.subscriptions.clone(), Arc::<Asked>::default());
        let loops =
            Loop { submitted: Arc::clone(&submitted), filters, asked: Arc::clone(&asked), report };
        let (client, poll): (Box<dyn Client>, _) = match options.protocol {
            Protocol::V311 => {
                let (client, library) = v4::open(options, queue);
                (Box::new(client), tokio::spawn(loops.run(library)))
            }
            Protocol::V5 => {
                let (client, library) = v5::open(options, queue);
                (Box::new(client), tokio::spawn(loops.run(library)))
            }
        };
        RumqttConnection { client, submitted, asked, next_token: 1, events, poll }
    }
}

/// The host as the library wants it: it puts name and port together as text, and an IPv6 address
/// needs brackets there.
fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

/// Topic filters that were subscribed to and not answered.
type Asked = Mutex<VecDeque<Vec<String>>>;

/// What hands messages to one of the two libraries, without waiting.
trait Client: Send {
    fn try_publish(&self, packet: Packet) -> Result<(), Refused>;
    fn try_subscribe(&self, filters: &[String]) -> Result<(), Refused>;
    fn try_disconnect(&self) -> Result<(), Refused>;
}

/// One of the two libraries at work.
trait Library: Send + 'static {
    /// The next thing that happens. Not to be dropped half-way.
    fn step(&mut self) -> impl Future<Output = Step> + Send;

    /// Asks for these topic filters; an error if they are none.
    fn subscribe(&self, filters: &[String]) -> Result<(), Refused>;
}

/// What happened in a library.
enum Step {
    Connected(Limits),
    /// For each filter, why it was not granted.
    Subscribed(Vec<Option<String>>),
    /// The message with this packet number has left; 0: at QoS 0.
    Left(u16),
    Acknowledged(u16),
    Declined {
        number: u16,
        reason: String,
        decline: Decline,
    },
    /// An acknowledgement that the library could not read. It ends the connection, and says that the
    /// oldest message under way was not taken: a broker acknowledges in order.
    BadAcknowledgement(u8),
    Message(Incoming),
    Disconnected,
    Failed(String),
    Nothing,
}

/// One client of the library with its event loop on a task of its own: the loop's future must not
/// be dropped half-way, as a select over it and a timer would.
pub struct RumqttConnection {
    client: Box<dyn Client>,
    submitted: Arc<Mutex<VecDeque<Token>>>,
    asked: Arc<Asked>,
    next_token: Token,
    events: mpsc::Receiver<Event>,
    poll: JoinHandle<()>,
}

impl Connection for RumqttConnection {
    fn try_publish(&mut self, packet: Packet) -> Result<Token, Refused> {
        let token = self.next_token;
        // Locked over both steps: the poll task must not see the message before its token.
        let mut submitted = lock(&self.submitted);
        self.client.try_publish(packet)?;
        submitted.push_back(token);
        self.next_token += 1;
        Ok(token)
    }

    fn subscribe(&mut self, filters: &[String]) -> Result<(), Refused> {
        // Locked over both steps, as above.
        let mut asked = lock(&self.asked);
        self.client.try_subscribe(filters)?;
        asked.push_back(filters.to_vec());
        Ok(())
    }

    async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => Event::Closed("the connection has ended".to_owned()),
        }
    }

    fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    async fn close(mut self) {
        if self.client.try_disconnect().is_err() {
            return;
        }
        let ended = async { while self.events.recv().await.is_some() {} };
        // Late or not: the connection is dropped after this.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
    }
}

impl Drop for RumqttConnection {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

/// What the task of one connection holds.
struct Loop {
    submitted: Arc<Mutex<VecDeque<Token>>>,
    filters: Vec<String>,
    asked: Arc<Asked>,
    report: mpsc::Sender<Event>,
}

impl Loop {
    /// Runs the library until its first error.
    async fn run<L: Library>(self, mut library: L) {
        let mut tokens: HashMap<u16, Token> = HashMap::new();
        loop {
            let step = library.step().await;
            for event in self.events(step, &library, &mut tokens) {
                let last = matches!(event, Event::Closed(_));
                if self.report.send(event).await.is_err() || last {
                    return;
                }
            }
        }
    }

    fn events<L: Library>(
        &self,
        step: Step,
        library: &L,
        tokens: &mut HashMap<u16, Token>,
    ) -> Vec<Event> {
        let one = match step {
            Step::Connected(limits) => match self.subscribe(library) {
                Ok(()) => Event::Connected(limits),
                Err(why) => Event::Closed(why),
            },
            Step::Subscribed(answers) => Event::Subscribed(self.refused(answers)),
            Step::Left(number) => match (lock(&self.submitted).pop_front(), number) {
                // The library flushes before it tells.
                (Some(token), 0) => Event::Written(token),
                (Some(token), _) => {
                    tokens.insert(number, token);
                    return Vec::new();
                }
                (None, _) => return Vec::new(),
            },
            Step::Acknowledged(number) => match tokens.remove(&number) {
                Some(token) => Event::Acknowledged(token),
                None => return Vec::new(),
            },
            Step::Declined { number, reason, decline } => match tokens.remove(&number) {
                Some(token) => Event::Declined { token, reason, decline },
                None => return Vec::new(),
            },
            Step::BadAcknowledgement(code) => {
                let (decline, reason) = match code {
                    0x95 => (Decline::TooLong, "it is longer than it takes".to_owned()),
                    code => (Decline::ForNow, format!("reason code {code:#04x}")),
                };
                let closed = Event::Closed(format!("the broker did not take a message: {reason}"));
                let oldest = tokens.values().min().copied();
                let declined = oldest.map(|token| Event::Declined { token, reason, decline });
                return declined.into_iter().chain([closed]).collect();
            }
            Step::Message(message) => Event::Message(message),
            Step::Disconnected => Event::Closed("closed on purpose".to_owned()),
            Step::Failed(why) => Event::Closed(why),
            Step::Nothing => return Vec::new(),
        };
        vec![one]
    }

    fn subscribe<L: Library>(&self, library: &L) -> Result<(), String> {
        if self.filters.is_empty() {
            return Ok(());
        }
        let mut asked = lock(&self.asked);
        asked.push_back(self.filters.clone());
        library
            .subscribe(&self.filters)
            .map_err(|_| format!("these are no topic filters: {}", self.filters.join(", ")))
    }

    /// What the oldest subscription that was not answered did not get: brokers answer in order.
    fn refused(&self, answers: Vec<Option<String>>) -> Vec<NotSubscribed> {
        let asked = lock(&self.asked).pop_front().unwrap_or_default();
        let told = asked.into_iter().zip(answers);
        told.filter_map(|(filter, reason)| Some(NotSubscribed { filter, reason: reason? }))
            .collect()
    }
}

fn lock<T>(shared: &Mutex<VecDeque<T>>) -> MutexGuard<'_, VecDeque<T>> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What an operator should know to understand how a connection failed.
struct Failures {
    protocol: Protocol,
    tls: Option<Tls>,
    /// The broker has accepted us.
    greeted: bool,
}

impl Failures {
    fn new(options: &DialOptions) -> Failures {
        Failures { protocol: options.protocol, tls: options.tls.clone(), greeted: false }
    }

    /// An error of the network below MQTT.
    fn io(&self, error: &std::io::Error) -> String {
        match (&self.tls, tls_error(error)) {
            (Some(tls), Some(why)) => tls.explain(why),
            _ if self.greeted => error.to_string(),
            _ if error.kind() == std::io::ErrorKind::ConnectionRefused => error.to_string(),
            _ => format!("{error}{}", self.hint()),
        }
    }

    /// The broker ended the connection, or answered what is no MQTT of this version.
    fn cut(&self, error: &str) -> String {
        if self.greeted { error.to_owned() } else { format!("{error}{}", self.hint()) }
    }

    fn hint(&self) -> &'static str {
        match (self.protocol, self.tls.is_some()) {
            (Protocol::V5, true) => {
                ": before the broker's greeting. If it knows MQTT 3.1.1 only, set \
                 `protocol = \"3.1.1\"`; if it asks for a client certificate, set `client_cert`"
            }
            (Protocol::V5, false) => {
                ": before the broker's greeting. If it knows MQTT 3.1.1 only, set \
                 `protocol = \"3.1.1\"`; if this is its TLS port, set `tls = true`"
            }
            (Protocol::V311, true) => {
                ": before the broker's greeting. If it asks for a client certificate, set \
                 `client_cert`"
            }
            (Protocol::V311, false) => {
                ": before the broker's greeting. If this is its TLS port, set `tls = true`"
            }
        }
    }

    /// The broker's greeting was a refusal. `code` as the library names it.
    fn refused(&self, code: &str) -> String {
        let remedies: BTreeMap<&str, &str> = [
            ("RefusedProtocolVersion", self.other_protocol()),
            ("UnsupportedProtocolVersion", self.other_protocol()),
            ("BadUserNamePassword", "correct `username` and the password in `password_file`"),
            ("NotAuthorized", "let this user in at the broker, or correct `username` and password"),
            ("BadClientId", "choose another `client_id`"),
            ("ClientIdentifierNotValid", "choose another `client_id`"),
            ("PacketTooLarge", "the status lists all stations: let the broker take longer packets"),
        ]
        .into();
        let remedy = remedies.get(code).map_or(String::new(), |remedy| format!(": {remedy}"));
        format!("the broker refuses the connection ({code}){remedy}")
    }

    fn other_protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::V5 => "it does not know MQTT 5, set `protocol = \"3.1.1\"`",
            Protocol::V311 => "it does not know MQTT 3.1.1, set `protocol = \"5\"`",
        }
    }
}
