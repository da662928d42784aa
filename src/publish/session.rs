//! Drains the outbox over one connection after another.
//!
//! The rules, which together mean "at least once, in order, and never stuck":
//!
//! - Unsent rows of the outbox are the truth. What is in memory here may be lost at any moment.
//! - At most `inflight` messages are handed over and not acknowledged. A row is marked sent on its
//!   acknowledgement, on this connection, and on nothing else.
//! - A connection that fails in any way is dropped whole; the next one starts from the oldest
//!   unsent row. So a cut costs at most a window of copies, which `result_id` tells apart.
//! - Nothing waits for the broker but this task; nothing here waits without a limit. A connection
//!   that acknowledges nothing for the watchdog's time is dropped even if it looks alive.
//! - A row that can never be sent is put aside, loudly, and the next one goes.
//! - On every connection the subscriptions are answered first, then the status goes, then states,
//!   results, and `last` messages. Of these only the newest of a station is kept, in memory: they
//!   are copies of sent rows, so on a new connection they are taken from the outbox again, for a
//!   broker that came back without memory.
//! - A subscription that the broker does not grant is an error that is told, and results flow.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::backoff::Backoff;
use super::inbox::Inbox;
use super::link::{Link, Purpose};
use super::message::{self, Status};
use super::outgoing::Outgoing;
use super::topics::{Kind, Topics};
use super::transport::{Connection, Dial, DialOptions, Event, Incoming, NotSubscribed, Packet};
use super::{Drained, PublishError, PublishOptions, PublishState};
use crate::clock::Clock;
use crate::store::{OutboxRow, Store, StoreError};

/// How often the state is counted anew and the outbox tidied, at the least.
const TICK: Duration = Duration::from_secs(1);

/// Most events taken in before results go out again.
const TAKE_MAX: usize = 64;

/// How long the acknowledgement of the offline status is waited for.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection's time is over.
enum End {
    /// It failed; there is to be another.
    Lost(String),
    /// Asked to stop, and did.
    Stopped,
    /// Nobody steers any more.
    Abandoned,
}

/// The channels to the one who steers.
pub(super) struct Steering {
    pub(super) wake: Arc<Notify>,
    pub(super) stop: watch::Receiver<Option<Instant>>,
    pub(super) state: watch::Sender<PublishState>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) inbox: Option<Arc<dyn Inbox>>,
}

/// The delivery task.
pub(super) struct Session<D: Dial> {
    dial: D,
    dial_options: DialOptions,
    pub(super) options: PublishOptions,
    pub(super) topics: Topics,
    store: Store,
    clock: Arc<dyn Clock>,
    pub(super) steering: Steering,
    tick: Interval,
    backoff: Backoff,
}

impl<D: Dial> Session<D> {
    pub(super) fn new(
        dial: D,
        options: PublishOptions,
        credentials: Option<(String, String)>,
        store: Store,
        clock: Arc<dyn Clock>,
        steering: Steering,
    ) -> Result<Session<D>, PublishError> {
        let topics = Topics::new(&options.prefix, &options.device)?;
        let last_will = status(&options, &topics, Status::Lost);
        let dial_options = DialOptions {
            host: options.host.clone(),
            port: options.port,
            client_id: options.client_id.clone(),
            credentials,
            keep_alive: options.keep_alive,
            connect_timeout: options.connect_timeout,
            inflight: options.inflight,
            max_packet_bytes: options.max_packet_bytes,
            last_will,
            subscriptions: steering.inbox.as_ref().map_or_else(Vec::new, |inbox| inbox.filters()),
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        Ok(Session { dial, dial_options, options, topics, store, clock, steering, tick, backoff })
    }

    /// Runs until it is stopped; answers what is left.
    pub(super) async fn run(mut self) -> Drained {
        while let End::Lost(why) = self.converse().await {
            let wait = self.backoff.next(rand::random());
            let broker = format!("{}:{}", self.options.host, self.options.port);
            let wait_ms = wait.as_millis() as u64;
            tracing::warn!(%broker, why, wait_ms, "no connection to the MQTT broker");
            self.steering.state.send_modify(|state| {
                state.connected = false;
                state.last_error = Some(why);
            });
            if !self.pause(wait).await {
                break;
            }
        }
        self.refresh().await;
        self.steering.state.send_modify(|state| state.connected = false);
        Drained { unsent: self.steering.state.borrow().unsent }
    }

    /// Waits before the next dial; `false`: stop instead.
    async fn pause(&mut self, wait: Duration) -> bool {
        let dialled = Instant::now() + wait;
        loop {
            let stop_at = *self.steering.stop.borrow();
            // Asked to stop, there is no time for a long wait.
            let until = match stop_at {
                Some(deadline) if deadline <= Instant::now() => return false,
                Some(deadline) => {
                    dialled.min(deadline).min(Instant::now() + self.options.backoff_min)
                }
                None => dialled,
            };
            select! {
                () = sleep_until(until) => return true,
                changed = self.steering.stop.changed() => if changed.is_err() { return false },
                _ = self.tick.tick() => self.housekeeping().await,
            }
        }
    }

    /// Dials, and serves the connection to its end.
    async fn converse(&mut self) -> End {
        let mut link = Link::new(self.dial.dial(&self.dial_options));
        let end = self.serve(&mut link).await;
        self.steering.outgoing.disconnected(link.replies());
        if matches!(end, End::Stopped) && link.connected {
            self.say_goodbye(link).await;
        }
        end
    }

    async fn serve(&mut self, link: &mut Link<D::Connection>) -> End {
        let wake = Arc::clone(&self.steering.wake);
        let mut stopping = false;
        loop {
            let stop_at = *self.steering.stop.borrow();
            // What was committed before the stop belongs to it, and an event may have come in before
            // the wake-up that tells of it.
            if stop_at.is_some() && !stopping {
                (stopping, link.look) = (true, true);
            }
            let too_late = stop_at.is_some_and(|deadline| deadline <= Instant::now());
            if link.connected {
                if let Err(why) = self.pump(link).await {
                    return End::Lost(why);
                }
                let idle = link.is_idle() && self.steering.outgoing.is_empty();
                if stop_at.is_some() && idle {
                    return End::Stopped;
                }
            }
            if too_late {
                return End::Stopped;
            }
            let patience = link.patience_ends(&self.options);
            select! {
                event = link.connection.next() => {
                    if let Err(why) = self.take(event, link).await {
                        return End::Lost(why);
                    }
                }
                () = wake.notified() => link.look = true,
                // Nobody steers any more. The broker sends the last will, as after a crash.
                changed = self.steering.stop.changed() => match changed {
                    Ok(()) => link.look = true,
                    Err(_) => return End::Abandoned,
                },
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    return End::Lost(link.silence(&self.options));
                }
                () = sleep_until(stop_at.unwrap_or_else(Instant::now)), if stop_at.is_some() => {}
                _ = self.tick.tick() => self.housekeeping().await,
            }
        }
    }

    /// Takes in one event and all that are there already.
    async fn take(&mut self, event: Event, link: &mut Link<D::Connection>) -> Result<(), String> {
        let mut rows = Vec::new();
        let mut closed = Ok(());
        let mut next = Some(event);
        let mut taken = 0;
        while let Some(event) = next {
            taken += 1;
            match event {
                Event::Connected(_) if self.dial_options.subscriptions.is_empty() => {
                    self.greet(link).await?;
                }
                Event::Connected(_) => link.progress = Instant::now(),
                Event::Subscribed(refused) => {
                    self.note_subscriptions(&refused);
                    self.greet(link).await?;
                }
                Event::Message(message) => self.hand_in(message),
                // All of ours go at QoS 1.
                Event::Written(_) => {}
                Event::Declined { reason, .. } => {
                    closed = Err(format!("the broker did not take a message: {reason}"));
                    break;
                }
                Event::Acknowledged(token) => {
                    link.progress = Instant::now();
                    if let Some(Purpose::Result(row)) = link.outstanding.remove(&token) {
                        rows.push(row);
                        self.delivered();
                    } else if link.results() == 0 {
                        // A status alone is no proof while results wait: a broker that cuts the
                        // connection on one of them would be dialled without a pause.
                        self.delivered();
                    }
                }
                Event::Closed(why) => {
                    closed = Err(why);
                    break;
                }
            }
            // What comes in without end must not keep results from going out.
            next = if taken < TAKE_MAX { link.connection.try_next() } else { None };
        }
        if !rows.is_empty() {
            self.mark_sent(rows, link).await?;
        }
        closed
    }

    /// The broker took something: what was wrong is over.
    fn delivered(&mut self) {
        self.backoff.reset();
        self.steering.state.send_if_modified(|state| state.last_error.take().is_some());
    }

    async fn mark_sent(
        &mut self,
        rows: Vec<OutboxRow>,
        link: &mut Link<D::Connection>,
    ) -> Result<(), String> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        self.with_store(move |store| store.mark_sent(&ids)).await?;
        self.steering.state.send_modify(|state| state.sent += rows.len() as u64);
        for row in rows {
            link.lasts.insert(row.station, row.payload);
        }
        if !link.look && link.results() == 0 {
            self.refresh().await;
        }
        Ok(())
    }

    /// The broker has accepted us: the status first, and the newest results for its memory.
    async fn greet(&mut self, link: &mut Link<D::Connection>) -> Result<(), String> {
        tracing::info!(
            host = self.options.host,
            port = self.options.port,
            "connected to the MQTT broker"
        );
        link.connected = true;
        link.look = true;
        link.progress = Instant::now();
        let online = status(&self.options, &self.topics, Status::Online(self.clock.now()));
        link.submit(online, Purpose::Status)?;
        self.steering.outgoing.connected();
        let stations = self.options.stations.clone();
        let newest = self
            .with_store(move |store| {
                let newest = stations.iter().map(|station| store.last_sent(station));
                newest.collect::<Result<Vec<_>, _>>()
            })
            .await?;
        for row in newest.into_iter().flatten() {
            link.lasts.insert(row.station, row.payload);
        }
        self.steering.state.send_modify(|state| state.connected = true);
        Ok(())
    }

    /// Says that the device is offline, and ends the connection in good form.
    async fn say_goodbye(&mut self, mut link: Link<D::Connection>) {
        let until = Instant::now() + GOODBYE_TIMEOUT;
        let stopped = status(&self.options, &self.topics, Status::Stopped(self.clock.now()));
        if link.submit(stopped, Purpose::Status).is_ok() {
            while link.outstanding.values().any(|purpose| matches!(purpose, Purpose::Status)) {
                match timeout_at(until, link.connection.next()).await {
                    Ok(event) => {
                        if self.take(event, &mut link).await.is_err() {
                            return;
                        }
                    }
                    Err(_) => break,
                }
            }
        }
        link.connection.close().await;
    }

    /// Gives a message to the one who asked for it; a refusal goes out as its reply.
    fn hand_in(&self, message: Incoming) {
        let Some(inbox) = &self.steering.inbox else { return };
        if let Some(reply) = inbox.take(message)
            && let Err(why) = self.steering.outgoing.put_reply(reply.packet())
        {
            tracing::warn!(%why, "a reply was dropped");
        }
    }

    fn note_subscriptions(&self, refused: &[NotSubscribed]) {
        for NotSubscribed { filter, reason } in refused {
            tracing::error!(filter, reason, "the MQTT broker does not let us subscribe");
        }
        self.steering.state.send_modify(|state| state.not_subscribed = refused.to_vec());
    }

    async fn housekeeping(&mut self) {
        self.refresh().await;
        let keep = self.options.keep_sent_rows;
        if let Err(why) = self.with_store(move |store| store.prune_sent(keep)).await {
            tracing::warn!(why, "the outbox could not be tidied");
        }
    }

    /// Counts the outbox for those who watch.
    pub(super) async fn refresh(&mut self) {
        match self.with_store(|store| store.outbox_state()).await {
            Ok(outbox) => self.steering.state.send_modify(|state| {
                state.unsent = outbox.unsent;
                state.quarantined = outbox.quarantined;
                state.oldest_unsent_age = outbox.oldest_age;
                state.dropped_replies = self.steering.outgoing.dropped();
            }),
            Err(why) => tracing::warn!(why, "the outbox could not be counted"),
        }
    }

    /// Does `work` on a thread that may block. A failure ends the connection, and with it what was
    /// under way; the rows are still there.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done.map_err(|why| why.to_string()),
            Err(why) => Err(format!("the store's thread ended: {why}")),
        }
    }
}

/// The message that says whether the device is there.
fn status(options: &PublishOptions, topics: &Topics, status: Status) -> Packet {
    let payload = message::status(&options.device, &options.stations, status);
    message::packet(topics, Kind::Status, None, payload)
}
