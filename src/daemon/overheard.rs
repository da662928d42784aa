//! Listens to the triggers that controllers send, and answers none of them: for a recording beside
//! whoever inspects.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::DaemonError;
use crate::clock::Clock;
use crate::footage::Order;
use crate::plc::CommandName;
use crate::plc::command::PAYLOAD_MAX_BYTES;
use crate::publish::PublishOptions;
use crate::publish::backoff::Backoff;
use crate::publish::rumqtt::RumqttDial;
use crate::publish::topics::Topics;
use crate::publish::transport::{Connection, Dial, DialOptions, Event, Incoming, Packet};
use crate::station::Station;
use crate::trigger;

/// Orders of one station that may wait to be written; more are lost, and that is logged.
const WAITING_MAX: usize = 1024;

/// The orders of each station that is asked for parts.
pub type Overheard = HashMap<String, flume::Receiver<Order>>;

/// Triggers of stations that are asked for parts.
pub struct Listener {
    options: PublishOptions,
    /// By topic.
    stations: HashMap<String, flume::Sender<Order>>,
    /// Where nobody sends: a last will has to go somewhere.
    will: String,
    clock: Arc<dyn Clock>,
}

/// A listener for those `stations` that are asked for parts; `None` if none is.
///
/// # Errors
/// A name that cannot stand in a topic.
pub fn listener<'s>(
    broker: Option<&PublishOptions>,
    stations: impl Iterator<Item = &'s Station>,
    clock: Arc<dyn Clock>,
) -> Result<Option<(Listener, Overheard)>, DaemonError> {
    let Some(options) = broker else { return Ok(None) };
    let topics = Topics::new(&options.prefix, &options.device)
        .map_err(|error| DaemonError::Other(error.to_string()))?;
    let asked = stations.filter(|one| matches!(one.trigger, trigger::Options::Command(_)));
    let (mut senders, mut overheard) = (HashMap::new(), HashMap::new());
    for station in asked {
        let (sender, orders) = flume::bounded(WAITING_MAX);
        let topic = topics.command(Some(&station.name), CommandName::Trigger.as_str());
        senders.insert(topic, sender);
        overheard.insert(station.name.clone(), orders);
    }
    let will = topics.command(None, "recorder-gone");
    let listener = Listener { options: options.clone(), stations: senders, will, clock };
    Ok((!overheard.is_empty()).then_some((listener, overheard)))
}

impl Listener {
    /// Listens until `stop` says so; a lost broker is sought again. `ready` hears when the broker has
    /// granted the subscriptions.
    pub async fn run(self, mut stop: watch::Receiver<bool>, ready: impl Fn() + Send) {
        let mut backoff = Backoff::new(self.options.backoff_min, self.options.backoff_max);
        while !*stop.borrow() {
            let why = tokio::select! {
                why = self.listen(&ready) => why,
                _ = stop.changed() => return,
            };
            let wait = backoff.next(rand::random());
            tracing::warn!(why, "no triggers are heard; the broker is tried again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => return,
            }
        }
    }

    /// One connection, until it ends; answers why.
    async fn listen(&self, ready: &(impl Fn() + Send)) -> String {
        let will = Packet { topic: self.will.clone(), ..Packet::default() };
        let filters = self.stations.keys().cloned().collect();
        // A name of its own: the daemon may be connected, too.
        let client_id = format!("{}-record-{}", self.options.client_id, std::process::id());
        let dial = match DialOptions::read(&self.options, &client_id, will, filters) {
            Ok(dial) => dial,
            Err(why) => return why.to_string(),
        };
        let mut connection = RumqttDial.dial(&dial);
        loop {
            match connection.next().await {
                Event::Subscribed(refused) => match refused.first() {
                    None => ready(),
                    Some(one) => {
                        tracing::warn!(filter = one.filter, reason = one.reason, "refused")
                    }
                },
                Event::Message(message) => self.hear(&message),
                Event::Closed(why) => return why,
                _ => {}
            }
        }
    }

    fn hear(&self, message: &Incoming) {
        let asked = self.clock.now();
        let Some(sender) = self.stations.get(&message.topic).filter(|_| !message.retain) else {
            return;
        };
        if message.payload.len() > PAYLOAD_MAX_BYTES {
            return;
        }
        // What is no JSON asks for nothing.
        let Ok(trigger) = serde_json::from_slice(&message.payload) else { return };
        if sender.try_send(Order { asked, trigger }).is_err() {
            tracing::warn!(topic = message.topic, "a trigger was not recorded");
        }
    }
}
