//! Drains the outbox over one connection after another.
//!
//! The rules, which together mean "at least once, in order within live and within backlog, and never
//! stuck":
//!
//! - Live results go before backlog, each in order; see [`super::pace`].
//! - Unsent rows of the outbox are the truth. What is in memory here may be lost at any moment.
//! - At most `inflight` messages are handed over and not acknowledged. A row is marked sent on its
//!   acknowledgement, on this connection, and on nothing else.
//! - A connection that fails in any way is dropped whole; the next one starts from the oldest
//!   unsent row. So a cut costs at most a window of copies, which `result_id` tells apart.
//! - Nothing waits for the broker but this task; nothing here waits without a limit. A connection
//!   that acknowledges nothing for the watchdog's time is dropped even if it looks alive.
//! - A row that can never be sent is put aside, loudly, and the next one goes. So does one that the
//!   broker declines for good. What it declines for now waits, and its station's results with it;
//!   those of other stations pass.
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
use super::blocks::Blocks;
use super::deliveries::Hearers;
use super::link::{Link, Purpose};
use super::message::{self, Packets, Status};
use super::options::{PublishError, PublishOptions};
use super::outgoing::Outgoing;
use super::pace::Pace;
use super::topics::Kind;
use super::transport::{Connection, Dial, DialOptions, Packet};
use super::{Drained, PublishState};
use crate::clock::Clock;
use crate::fault;
use crate::store::{Store, StoreError};

/// How often the state is counted anew and the outbox tidied, at the least.
const TICK: Duration = Duration::from_secs(1);

/// Between two steps of tidying, as long as there is more: records are written meanwhile. 250 rows a
/// step keep up with the fastest backlog that can be configured.
const TIDY_STEP: Duration = Duration::from_millis(20);

/// Counting a long backlog takes its time: no more than this part of all time, as one in so many.
const COUNT_SHARE: u32 = 20;

/// How long the acknowledgement of the offline status is waited for.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection's time is over.
enum End {
    /// It failed; there is to be another.
    Lost(String),
    /// The broker is to be reached otherwise.
    Moved,
    /// Asked to stop, and did.
    Stopped,
    /// Nobody steers any more.
    Abandoned,
}

/// The channels to the one who steers.
pub(super) struct Steering {
    pub(super) wake: Arc<Notify>,
    pub(super) stop: watch::Receiver<Option<Instant>>,
    pub(super) route: watch::Receiver<PublishOptions>,
    pub(super) state: watch::Sender<PublishState>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) hearers: Hearers,
}

/// The delivery task.
pub(super) struct Session<D: Dial> {
    dial: D,
    pub(super) subscriptions: Vec<String>,
    pub(super) options: PublishOptions,
    pub(super) packets: Packets,
    store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) steering: Steering,
    pub(super) pace: Pace,
    /// Longest packet in bytes, where a broker said so only by declining a longer one.
    pub(super) learned_max_bytes: Option<usize>,
    pub(super) blocks: Blocks,
    tick: Interval,
    /// The next count of the outbox is not before this.
    next_count: Instant,
    pub(super) backoff: Backoff,
}

impl<D: Dial> Session<D> {
    /// Reads what a dial needs once, to refuse what cannot work, and blocks for it.
    pub(super) fn new(
        dial: D,
        options: PublishOptions,
        packets: Packets,
        store: Store,
        clock: Arc<dyn Clock>,
        steering: Steering,
    ) -> Result<Session<D>, PublishError> {
        let subscriptions = steering.hearers.filters();
        let last_will = status(&options, &packets, Status::Lost);
        DialOptions::read(&options, &options.client_id, last_will, subscriptions.clone())?;
        let newest = store.newest_message()?;
        let pace = Pace::new(options.live_for, options.backlog_per_s, newest, Instant::now());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        Ok(Session {
            dial,
            subscriptions,
            options,
            packets,
            store,
            clock,
            steering,
            pace,
            learned_max_bytes: None,
            blocks: Blocks::default(),
            tick,
            next_count: Instant::now(),
            backoff,
        })
    }

    /// Runs until it is stopped; answers what is left.
    pub(super) async fn run(mut self) -> Drained {
        loop {
            let why = match self.converse().await {
                End::Lost(why) => why,
                End::Moved => {
                    self.steering.state.send_modify(|state| state.connected = false);
                    continue;
                }
                End::Stopped | End::Abandoned => break,
            };
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
                // An error: nobody steers any more, which the line above tells.
                Ok(()) = self.steering.route.changed() => return true,
                _ = self.tick.tick() => {
                    self.housekeeping().await;
                }
            }
        }
    }

    /// Takes the newest way to the broker, where it is another.
    fn take_route(&mut self) {
        let wanted = self.options.reaching_as(&self.steering.route.borrow_and_update());
        if wanted == self.options {
            return;
        }
        let broker = format!("{}:{}", wanted.host, wanted.port);
        tracing::info!(%broker, "the MQTT broker is reached otherwise from now on");
        self.backoff = Backoff::new(wanted.backoff_min, wanted.backoff_max);
        // What the other one did not take.
        self.learned_max_bytes = None;
        self.blocks = Blocks::default();
        self.options = wanted;
    }

    /// Dials, and serves the connection to its end.
    async fn converse(&mut self) -> End {
        self.take_route();
        if let Some(stations) = self.steering.outgoing.take_stations() {
            self.options.stations = stations;
        }
        self.subscriptions = self.steering.hearers.filters();
        let dial_options = match self.dial_options().await {
            Ok(dial_options) => dial_options,
            Err(why) => return End::Lost(why),
        };
        let mut link = Link::new(self.dial.dial(&dial_options));
        let end = self.serve(&mut link).await;
        self.steering.outgoing.disconnected(link.replies());
        if matches!(end, End::Stopped | End::Moved) && link.connected {
            self.say_goodbye(link).await;
        }
        end
    }

    /// What a dial needs, with its files as they are now.
    async fn dial_options(&self) -> Result<DialOptions, String> {
        let last_will = status(&self.options, &self.packets, Status::Lost);
        let (options, subscriptions) = (self.options.clone(), self.subscriptions.clone());
        let read =
            move || DialOptions::read(&options, &options.client_id, last_will, subscriptions);
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(|why| why.to_string()),
            Err(why) => Err(format!("the thread that reads certificates ended: {why}")),
        }
    }

    async fn serve(&mut self, link: &mut Link<D::Connection>) -> End {
        let wake = Arc::clone(&self.steering.wake);
        let mut stopping = false;
        loop {
            let stop_at = *self.steering.stop.borrow();
            // What was committed before the stop belongs to it, and an event may have come in before
            // the wake-up that tells of it.
            if stop_at.is_some() && !stopping {
                stopping = true;
                link.look_again();
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
            let backlog = self.backlog_due(link);
            select! {
                event = link.connection.next() => {
                    if let Err(why) = self.take(event, link).await {
                        return End::Lost(why);
                    }
                }
                () = wake.notified() => link.look_live = true,
                // Nobody steers any more. The broker sends the last will, as after a crash.
                changed = self.steering.stop.changed() => match changed {
                    Ok(()) => link.look_again(),
                    Err(_) => return End::Abandoned,
                },
                Ok(()) = self.steering.route.changed() => return End::Moved,
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    return End::Lost(link.silence(&self.options));
                }
                () = sleep_until(stop_at.unwrap_or_else(Instant::now)), if stop_at.is_some() => {}
                () = sleep_until(backlog.unwrap_or_else(Instant::now)), if backlog.is_some() => {}
                _ = self.tick.tick() => {
                    if self.housekeeping().await {
                        link.look_again();
                    }
                }
            }
        }
    }

    /// Says that the device is offline, and ends the connection in good form.
    async fn say_goodbye(&mut self, mut link: Link<D::Connection>) {
        fault::point(fault::STOP_DRAINED);
        let until = Instant::now() + GOODBYE_TIMEOUT;
        let stopped = status(&self.options, &self.packets, Status::Stopped(self.clock.now()));
        if link.submit(stopped, Purpose::Status).is_ok() {
            while link.purposes().any(|purpose| matches!(purpose, Purpose::Status)) {
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

    /// Counts, tidies, and lets results grow old. `true`: more of them are backlog than before.
    async fn housekeeping(&mut self) -> bool {
        if Instant::now() >= self.next_count {
            let begun = Instant::now();
            self.refresh().await;
            self.next_count = begun + COUNT_SHARE * begun.elapsed();
        }
        let keep = self.options.keep_sent_rows;
        let tidied = move |store: &Store| Ok((store.prune_sent(keep)?, store.newest_message()?));
        match self.with_store(tidied).await {
            Ok((more, newest)) => {
                if more {
                    self.tick.reset_after(TIDY_STEP);
                }
                self.pace.note(newest, Instant::now())
            }
            Err(why) => {
                tracing::warn!(why, "the outbox could not be tidied");
                false
            }
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
pub(super) fn status(options: &PublishOptions, packets: &Packets, status: Status) -> Packet {
    let payload = message::status(&options.device, &options.stations, status);
    packets.packet(Kind::Status, None, payload)
}
