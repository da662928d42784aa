//! A tap on the way between an MQTT 3.1.1 client and its broker: it passes everything on, notes each
//! packet of both directions in the order in which it came by, and can lose some.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use rumqttc::{Connect, Packet, Publish, QoS};
use srad_types::payload::{Message, Payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::mosquitto::DEADLINE;

/// A packet that came by.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Which connection, from 0.
    pub connection: usize,
    /// From the client; else from the broker.
    pub outwards: bool,
    pub packet: Packet,
}

impl Passed {
    /// The message, if it is one from the client.
    pub fn sent(&self) -> Option<Sent> {
        match &self.packet {
            Packet::Publish(publish) if self.outwards => Some(Sent::of(self.connection, publish)),
            _ => None,
        }
    }
}

/// A Sparkplug message as the client sent it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub connection: usize,
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    /// `None`: it is no Sparkplug payload.
    pub payload: Option<Payload>,
}

impl Sent {
    fn of(connection: usize, publish: &Publish) -> Sent {
        Sent {
            connection,
            topic: publish.topic.clone(),
            qos: publish.qos,
            retain: publish.retain,
            payload: Payload::decode(publish.payload.as_ref()).ok(),
        }
    }

    /// The third level of the topic, such as `NBIRTH`.
    pub fn verb(&self) -> &str {
        self.topic.split('/').nth(2).unwrap_or_default()
    }

    /// The payload, which must be one.
    pub fn payload(&self) -> &Payload {
        self.payload.as_ref().unwrap_or_else(|| panic!("{} has no payload", self.topic))
    }

    pub fn seq(&self) -> Option<u64> {
        self.payload().seq
    }
}

/// Everything that came by.
#[derive(Clone, Debug, Default)]
pub struct Log(pub Vec<Passed>);

impl Log {
    /// What the client sent, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.iter().filter_map(Passed::sent).collect()
    }

    /// The client's messages of this verb, in order.
    pub fn of(&self, verb: &str) -> Vec<Sent> {
        let mut all = self.sent();
        all.retain(|sent| sent.verb() == verb);
        all
    }

    /// The greetings, one a connection.
    pub fn greetings(&self) -> Vec<Connect> {
        let greeting = |passed: &Passed| match &passed.packet {
            Packet::Connect(connect) => Some(connect.clone()),
            _ => None,
        };
        self.0.iter().filter_map(greeting).collect()
    }

    /// The place of the first packet that fulfils `condition`.
    pub fn place(&self, condition: impl Fn(&Passed) -> bool) -> Option<usize> {
        self.0.iter().position(condition)
    }
}

/// The tap.
pub struct Tap {
    port: u16,
    log: watch::Receiver<Log>,
    open: watch::Sender<usize>,
    lose: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Tap {
    /// A tap before the broker on `to`.
    pub async fn start(to: u16) -> Tap {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (note, log) = watch::channel(Log::default());
        let (open, cut) = watch::channel(0);
        let lose = Arc::new(AtomicUsize::new(0));
        let (notes, losses) = (Arc::new(note), Arc::clone(&lose));
        let task = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((client, _)) = listener.accept().await {
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_broker, to_broker) = broker.into_split();
                let way = |outwards| Way {
                    connection,
                    outwards,
                    note: Arc::clone(&notes),
                    lose: Arc::clone(&losses),
                };
                let (out, back) = (way(true), way(false));
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = out.pass(from_client, to_broker) => {}
                        () = back.pass(from_broker, to_client) => {}
                        _ = cut.changed() => {}
                    }
                });
                connection += 1;
            }
        });
        Tap { port, log, open, lose, task }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks the connections that pass it now.
    pub fn cut(&self) {
        self.open.send_modify(|cuts| *cuts += 1);
    }

    /// Loses the next `messages` DDATA of the client.
    pub fn lose(&self, messages: usize) {
        self.lose.store(messages, Ordering::SeqCst);
    }

    /// Waits until what came by fulfils `condition`, and answers it.
    pub async fn wait(&self, what: &str, condition: impl FnMut(&Log) -> bool) -> Log {
        let mut log = self.log.clone();
        let found = tokio::time::timeout(DEADLINE, log.wait_for(condition)).await;
        match found {
            Ok(found) => found.expect("the tap lives").clone(),
            Err(_) => panic!("waited in vain for {what}; sent: {:#?}", self.log.borrow().sent()),
        }
    }

    /// Everything that came by so far.
    pub fn log(&self) -> Log {
        self.log.borrow().clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One direction of one connection.
struct Way {
    connection: usize,
    outwards: bool,
    note: Arc<watch::Sender<Log>>,
    lose: Arc<AtomicUsize>,
}

impl Way {
    async fn pass(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut bytes = BytesMut::new();
        while let Ok(1..) = from.read_buf(&mut bytes).await {
            loop {
                let before = bytes.clone();
                let Ok(packet) = Packet::read(&mut bytes, 1 << 20) else { break };
                let frame = &before[..before.len() - bytes.len()];
                let lost = self.outwards && self.loses(&packet);
                let passed =
                    Passed { connection: self.connection, outwards: self.outwards, packet };
                // Before it goes on: what it causes stands after it.
                self.note.send_modify(|log| log.0.push(passed));
                if !lost && to.write_all(frame).await.is_err() {
                    return;
                }
            }
        }
    }

    fn loses(&self, packet: &Packet) -> bool {
        let is_data = matches!(packet, Packet::Publish(one) if one.topic.contains("/DDATA/"));
        let less = |left: usize| left.checked_sub(1);
        is_data && self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}
