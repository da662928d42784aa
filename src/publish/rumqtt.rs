//! The transport over rumqttc, MQTT 3.1.1. No other file knows that library.
//!
//! It gives a message no handle for its acknowledgement, so the way from one to the other is kept
//! here: messages leave in the order in which they were handed over, each is reported with the
//! packet number that it got, and that number comes back in the PUBACK. This holds for one
//! connection only. After an error the library would carry old messages over with new numbers and,
//! where the broker forgot the session, drop them without a word; hence a new client for each dial.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rumqttc::{
    AsyncClient, EventLoop, LastWill, MqttOptions, Outgoing, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::transport::{
    Connection, Dial, DialOptions, Event, Incoming, Limits, NotSubscribed, Packet, Qos, Refused,
    Token,
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
        let (client, mut event_loop) = AsyncClient::new(library_options(options), queue);
        let mut network = event_loop.network_options();
        network.set_connection_timeout(options.connect_timeout.as_secs().max(1));
        network.set_tcp_nodelay(true);
        event_loop.set_network_options(network);
        let submitted = Arc::new(Mutex::new(VecDeque::new()));
        // Bounded: at most the window can be acknowledged before the session looks.
        let (report, events) = mpsc::channel(queue + 2);
        let subscriber = Subscriber::new(client.clone(), options.subscriptions.clone());
        let poll = tokio::spawn(poll(event_loop, Arc::clone(&submitted), subscriber, report));
        RumqttConnection { client, submitted, next_token: 1, events, poll }
    }
}

fn library_options(options: &DialOptions) -> MqttOptions {
    // The library puts name and port together as text; an IPv6 address needs brackets there.
    let host = match options.host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => options.host.clone(),
    };
    let mut library = MqttOptions::new(&options.client_id, host, options.port);
    let will = &options.last_will;
    library
        // The library panics below one second.
        .set_keep_alive(options.keep_alive.max(Duration::from_secs(1)))
        .set_clean_session(true)
        .set_inflight(options.inflight.max(1))
        .set_max_packet_size(options.max_packet_bytes, options.max_packet_bytes)
        .set_last_will(LastWill::new(
            &will.topic,
            will.payload.clone(),
            quality(will.qos),
            will.retain,
        ));
    if let Some((user, password)) = &options.credentials {
        library.set_credentials(user, password);
    }
    library
}

/// One client of the library with its event loop on a task of its own: the loop's future must not
/// be dropped half-way, as a select over it and a timer would.
pub struct RumqttConnection {
    client: AsyncClient,
    submitted: Arc<Mutex<VecDeque<Token>>>,
    next_token: Token,
    events: mpsc::Receiver<Event>,
    poll: JoinHandle<()>,
}

impl Connection for RumqttConnection {
    fn try_publish(&mut self, packet: Packet) -> Result<Token, Refused> {
        let token = self.next_token;
        // Locked over both steps: the poll task must not see the message before its token.
        let mut submitted = lock(&self.submitted);
        self.client
            .try_publish(packet.topic, quality(packet.qos), packet.retain, packet.payload)
            .map_err(|_| Refused)?;
        submitted.push_back(token);
        self.next_token += 1;
        Ok(token)
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

fn quality(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

/// Asks for the subscriptions once the broker has accepted us.
struct Subscriber {
    client: AsyncClient,
    filters: Vec<String>,
}

impl Subscriber {
    fn new(client: AsyncClient, filters: Vec<String>) -> Subscriber {
        Subscriber { client, filters }
    }

    fn ask(&self) -> Result<(), String> {
        if self.filters.is_empty() {
            return Ok(());
        }
        let filters = self.filters.iter();
        let filters = filters.map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        let asked = self.client.try_subscribe_many(filters);
        asked.map_err(|_| format!("these are no topic filters: {}", self.filters.join(", ")))
    }

    fn refused(&self, codes: &[SubscribeReasonCode]) -> Vec<NotSubscribed> {
        let answers = self.filters.iter().zip(codes);
        let refused = answers.filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure));
        refused
            .map(|(filter, _)| NotSubscribed {
                filter: filter.clone(),
                reason: "it does not say why (MQTT 3.1.1)".to_owned(),
            })
            .collect()
    }
}

/// Runs the library until its first error.
async fn poll(
    mut event_loop: EventLoop,
    submitted: Arc<Mutex<VecDeque<Token>>>,
    subscriber: Subscriber,
    report: mpsc::Sender<Event>,
) {
    let mut tokens: HashMap<u16, Token> = HashMap::new();
    loop {
        let event = match event_loop.poll().await {
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))) => match subscriber.ask() {
                Ok(()) => Event::Connected(Limits::default()),
                Err(why) => Event::Closed(why),
            },
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::SubAck(answer))) => {
                Event::Subscribed(subscriber.refused(&answer.return_codes))
            }
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(message))) => {
                Event::Message(Incoming {
                    topic: message.topic,
                    payload: message.payload.to_vec(),
                    retain: message.retain,
                    duplicate: message.dup,
                    response_topic: None,
                    correlation: None,
                })
            }
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack))) => {
                match tokens.remove(&ack.pkid) {
                    Some(token) => Event::Acknowledged(token),
                    None => continue,
                }
            }
            Ok(rumqttc::Event::Outgoing(Outgoing::Publish(number))) => {
                match (lock(&submitted).pop_front(), number) {
                    // The library flushes before it tells; no number: QoS 0.
                    (Some(token), 0) => Event::Written(token),
                    (Some(token), _) => {
                        tokens.insert(number, token);
                        continue;
                    }
                    (None, _) => continue,
                }
            }
            Ok(rumqttc::Event::Outgoing(Outgoing::Disconnect)) => {
                Event::Closed("closed on purpose".to_owned())
            }
            Ok(_) => continue,
            Err(why) => Event::Closed(why.to_string()),
        };
        let last = matches!(event, Event::Closed(_));
        if report.send(event).await.is_err() || last {
            return;
        }
    }
}

fn lock(submitted: &Mutex<VecDeque<Token>>) -> MutexGuard<'_, VecDeque<Token>> {
    submitted.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
