//! Counts what arrives.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde::Deserialize;
use uuid::Uuid;

/// What arrived so far.
#[derive(Clone, Default)]
pub struct Arrived {
    /// By result: whether its first copy was marked as replayed.
    pub results: HashMap<Uuid, bool>,
    /// How many of these were.
    pub replayed: u64,
    /// Copies beyond the first.
    pub copies: u64,
    /// From verdict to arrival, of first copies that were not replayed, in milliseconds.
    delays_ms: Vec<u32>,
}

impl Arrived {
    /// The delays of live results, in words.
    pub fn delays(&self) -> String {
        let mut sorted = self.delays_ms.clone();
        sorted.sort_unstable();
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
        match sorted.last() {
            None => "no live result".to_owned(),
            Some(longest) => format!(
                "{} live results, verdict to arrival p50 {} ms, p99 {} ms, longest {longest} ms",
                sorted.len(),
                at(0.5),
                at(0.99)
            ),
        }
    }
}

#[derive(Deserialize)]
struct Message {
    result_id: Uuid,
    replayed: bool,
    creation_time: jiff::Timestamp,
}

/// Subscribes to every result, at QoS 1.
pub struct Subscriber {
    arrived: Arc<Mutex<Arrived>>,
    /// Closes when the connection does.
    pub ended: Receiver<()>,
}

impl Subscriber {
    /// Returns once the broker has taken the subscription.
    pub fn start(port: u16) -> Subscriber {
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the broker does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut options = MqttOptions::new("load-subscriber", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 64);
        client.subscribe("inspectd/+/+/result", QoS::AtLeastOnce).unwrap();
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let (ready_out, ready) = mpsc::channel();
        let (ended_out, ended) = mpsc::channel();
        let into = Arc::clone(&arrived);
        std::thread::spawn(move || {
            let _ends = (ended_out, client);
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::SubAck(_))) => ready_out.send(()).unwrap(),
                    Ok(Event::Incoming(Packet::Publish(packet))) => take(&into, &packet.payload),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        ready.recv_timeout(Duration::from_secs(10)).expect("the broker takes subscriptions");
        Subscriber { arrived, ended }
    }

    /// What arrived so far.
    pub fn arrived(&self) -> Arrived {
        self.arrived.lock().unwrap().clone()
    }

    /// Replayed results so far.
    pub fn replayed(&self) -> u64 {
        self.arrived.lock().unwrap().replayed
    }

    /// Results so far.
    pub fn count(&self) -> usize {
        self.arrived.lock().unwrap().results.len()
    }

    /// What arrived when `results` have, or after `most`.
    pub fn wait_for(&self, results: u64, most: Duration) -> Arrived {
        let until = Instant::now() + most;
        while (self.count() as u64) < results && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.arrived()
    }
}

fn take(into: &Mutex<Arrived>, payload: &[u8]) {
    let now = jiff::Timestamp::now();
    let message: Message = serde_json::from_slice(payload).expect("a result");
    let mut arrived = into.lock().unwrap();
    if arrived.results.contains_key(&message.result_id) {
        arrived.copies += 1;
        return;
    }
    arrived.results.insert(message.result_id, message.replayed);
    arrived.replayed += u64::from(message.replayed);
    if !message.replayed {
        let delay = now.duration_since(message.creation_time).as_millis().max(0);
        arrived.delays_ms.push(u32::try_from(delay).unwrap_or(u32::MAX));
    }
}
