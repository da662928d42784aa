//! Drives the state machine over one connection after another.
//!
//! One connection is one Sparkplug session: its number (bdSeq) is on the disk before it is dialled,
//! its last will is the death certificate with that number. A connection that fails in any way is
//! dropped whole, and the next one begins with births.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::command::Commands;
use super::history::{Rows, Told};
use super::host::PrimaryHost;
use super::node::Node;
use super::station::StationState;
use super::{EdgeState, SparkplugOptions};
use crate::clock::Clock;
use crate::publish::backoff::Backoff;
use crate::publish::transport::{Connection, Dial, DialOptions, Event, Token};
use crate::publish::{Protocol, PublishOptions};
use crate::store::Record;

/// How often time is looked at, at the least.
const TICK: Duration = Duration::from_millis(500);

/// What a dial may take beyond its own time-out before it is given up from outside.
const DIAL_GRACE: Duration = Duration::from_secs(5);

/// How long the acknowledgement of the goodbye is waited for.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Most events taken in before something is sent again.
const TAKE_MAX: usize = 64;

/// The births of many stations are longer than results; a broker that takes less is no Sparkplug's.
const PACKET_MIN_BYTES: usize = 32 * 1024;

/// Why a connection's time is over.
enum End {
    /// It failed; there is to be another.
    Lost(String),
    /// The primary host went offline: a new connection waits for it.
    HostOffline,
    /// The broker is to be reached otherwise.
    Moved,
    /// Asked to stop, and did.
    Stopped,
    /// Nobody steers any more.
    Abandoned,
}

/// What was told and is not taken yet.
pub(super) type Newest = Mutex<News>;

/// What is told of stations from outside; the last of each counts.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Which there are.
    pub(super) stations: Option<Vec<String>>,
    /// What they are doing, by their names.
    pub(super) states: BTreeMap<String, StationState>,
}

/// The channels to the one who steers.
pub(super) struct Steering {
    pub(super) wake: Arc<Notify>,
    pub(super) stop: watch::Receiver<Option<Instant>>,
    pub(super) route: watch::Receiver<PublishOptions>,
    pub(super) state: watch::Sender<EdgeState>,
    pub(super) news: Arc<Newest>,
    pub(super) commands: Arc<dyn Commands>,
}

/// What the task works with.
pub(super) struct Parts<D: Dial> {
    pub(super) dial: D,
    pub(super) options: SparkplugOptions,
    pub(super) broker: PublishOptions,
    pub(super) node: Node,
    pub(super) rows: Rows,
    pub(super) told: Told,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) steering: Steering,
}

/// One connection and what is under way on it.
pub(super) struct Link<C> {
    pub(super) connection: C,
    pub(super) bd_seq: u8,
    /// The broker has answered the subscriptions.
    pub(super) open: bool,
    /// The births were begun.
    pub(super) begun: bool,
    pub(super) under_way: HashSet<Token>,
    /// The dial, or the last sign that messages leave.
    pub(super) progress: Instant,
    /// Results that were read and not sent.
    pub(super) waiting: VecDeque<Record>,
    /// There may be more of them in the record.
    pub(super) look: bool,
    /// The primary host went offline.
    pub(super) host_left: bool,
}

/// The edge node's task.
pub(super) struct Session<D: Dial> {
    pub(super) parts: Parts<D>,
    pub(super) host: Option<PrimaryHost>,
    tick: Interval,
    pub(super) backoff: Backoff,
    pub(super) beat_at: Option<Instant>,
    pub(super) skipped: u64,
    /// There are stations whose commands the connection was not asked for.
    pub(super) owes_topics: bool,
}

impl<D: Dial> Session<D> {
    pub(super) fn new(parts: Parts<D>) -> Session<D> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let backoff = Backoff::new(parts.broker.backoff_min, parts.broker.backoff_max);
        let host = parts.options.primary_host_id.as_deref().map(PrimaryHost::new);
        let beat_at = parts.options.heartbeat.map(|every| Instant::now() + every);
        Session { parts, host, tick, backoff, beat_at, skipped: 0, owes_topics: false }
    }

    /// Runs until it is stopped.
    pub(super) async fn run(mut self) {
        loop {
            let end = self.converse().await;
            self.parts.node.end();
            self.tell(|state| (state.connected, state.born) = (false, false));
            let why = match end {
                End::Stopped | End::Abandoned => break,
                End::Moved => {
                    self.parts.told.bring_back(Instant::now());
                    continue;
                }
                End::HostOffline => "the primary host is offline".to_owned(),
                End::Lost(why) => why,
            };
            self.parts.told.bring_back(Instant::now());
            let wait = self.backoff.next(rand::random());
            let wait_ms = wait.as_millis() as u64;
            tracing::warn!(why, wait_ms, "the Sparkplug session is over");
            self.tell(|state| state.last_error = Some(why));
            if !self.pause(wait).await {
                break;
            }
        }
        self.keep().await;
    }

    /// Waits before the next dial; `false`: stop instead. Meanwhile results are counted.
    async fn pause(&mut self, wait: Duration) -> bool {
        let dialled = Instant::now() + wait;
        loop {
            if self.parts.steering.stop.borrow().is_some() {
                return false;
            }
            select! {
                () = sleep_until(dialled) => return true,
                changed = self.parts.steering.stop.changed() => if changed.is_err() { return false },
                // An error: nobody steers any more, which the line above tells.
                Ok(()) = self.parts.steering.route.changed() => return true,
                _ = self.tick.tick() => {
                    if let Err(why) = self.catch_up().await {
                        tracing::warn!(why, "the record could not be read");
                    }
                }
            }
        }
    }

    /// Dials, and serves the connection to its end.
    async fn converse(&mut self) -> End {
        let parts = &mut self.parts;
        let wanted = parts.broker.reaching_as(&parts.steering.route.borrow_and_update());
        if wanted != parts.broker {
            self.backoff = Backoff::new(wanted.backoff_min, wanted.backoff_max);
            parts.broker = wanted;
        }
        let bd_seq = self.parts.told.kept().next_bd_seq();
        self.keep().await;
        if let Some(host) = &mut self.host {
            host.forget();
        }
        self.tell(|state| state.bd_seq = bd_seq);
        self.take_news();
        self.owes_topics = false;
        let options = match self.dial_options(bd_seq).await {
            Ok(options) => options,
            Err(why) => return End::Lost(why),
        };
        let mut link = Link {
            connection: self.parts.dial.dial(&options),
            bd_seq,
            open: false,
            begun: false,
            under_way: HashSet::new(),
            progress: Instant::now(),
            waiting: VecDeque::new(),
            look: true,
            host_left: false,
        };
        let end = self.serve(&mut link).await;
        match end {
            End::Stopped | End::HostOffline | End::Moved if link.open => {
                let said = self.say_goodbye(link).await;
                if said && matches!(end, End::Stopped) {
                    self.parts.told.conclude();
                }
            }
            _ => {}
        }
        end
    }

    /// Writes the file that outlives the program.
    async fn keep(&mut self) {
        let kept = self.parts.told.kept().clone();
        if let Err(why) = tokio::task::spawn_blocking(move || kept.write()).await {
            tracing::error!(%why, "the thread that writes files ended");
        }
    }

    /// A connection of our own: the will of the other one is the status. Sparkplug's goodbye is told
    /// by a message of ours, which is what it asks for over MQTT 3.1.1.
    async fn dial_options(&self, bd_seq: u8) -> Result<DialOptions, String> {
        let last_will = self.parts.node.death(bd_seq, &self.parts.clock.now());
        let mut filters = self.parts.node.command_topics();
        filters.extend(self.host.iter().map(|host| host.topic().to_owned()));
        let mut broker = self.parts.broker.clone();
        broker.protocol = Protocol::V311;
        broker.max_packet_bytes = broker.max_packet_bytes.max(PACKET_MIN_BYTES);
        let client_id = self.parts.options.client_id.clone();
        let read = move || DialOptions::read(&broker, &client_id, last_will, filters);
        match tokio::task::spawn_blocking(read).await {
            Ok(options) => options.map_err(|why| why.to_string()),
            Err(why) => Err(format!("the thread that reads files ended: {why}")),
        }
    }

    async fn serve(&mut self, link: &mut Link<D::Connection>) -> End {
        let wake = Arc::clone(&self.parts.steering.wake);
        loop {
            let stop_at = *self.parts.steering.stop.borrow();
            if stop_at.is_some() {
                link.look = true;
                self.parts.node.hurry();
            }
            if let Err(why) = self.pump(link).await {
                return End::Lost(why);
            }
            if link.host_left {
                return End::HostOffline;
            }
            if let Some(deadline) = stop_at
                && (deadline <= Instant::now() || !link.begun || self.is_idle(link))
            {
                return End::Stopped;
            }
            let patience = self.patience_ends(link);
            let next = self.next_moment(link, stop_at);
            select! {
                event = link.connection.next() => {
                    if let Err(why) = self.take(event, link) {
                        return End::Lost(why);
                    }
                }
                () = wake.notified() => link.look = true,
                changed = self.parts.steering.stop.changed() => {
                    // Nobody steers any more. The broker tells of the death, as after a crash.
                    if changed.is_err() { return End::Abandoned }
                }
                Ok(()) = self.parts.steering.route.changed() => return End::Moved,
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    return End::Lost("nothing leaves any more, or no answer came".to_owned());
                }
                () = sleep_until(next) => {}
                _ = self.tick.tick() => {
                    if self.parts.told.settle(Instant::now()) {
                        self.keep().await;
                    }
                    if !link.begun && let Err(why) = self.catch_up().await {
                        return End::Lost(why);
                    }
                }
            }
        }
    }

    /// Nothing waits and nothing is under way.
    fn is_idle(&self, link: &Link<D::Connection>) -> bool {
        !link.look && link.waiting.is_empty() && link.under_way.is_empty()
    }

    fn patience_ends(&self, link: &Link<D::Connection>) -> Option<Instant> {
        let broker = &self.parts.broker;
        match (link.open, link.under_way.is_empty()) {
            (false, _) => Some(link.progress + broker.connect_timeout + DIAL_GRACE),
            (true, false) => Some(link.progress + broker.watchdog),
            (true, true) => None,
        }
    }

    /// When something becomes due by itself: births that a host asked for, a heartbeat, the stop.
    fn next_moment(&self, link: &Link<D::Connection>, stop_at: Option<Instant>) -> Instant {
        let now = Instant::now();
        let rebirth = self.parts.node.rebirth_in(&self.parts.clock.now()).map(|wait| now + wait);
        // What is due cannot go while the way is shut; an event opens it.
        let open = link.begun && link.under_way.len() < self.window();
        let own = [self.beat_at, rebirth].into_iter().flatten().filter(|_| open);
        own.chain(stop_at).min().unwrap_or(now + TICK)
    }

    /// Most messages that are handed over and have not left.
    pub(super) fn window(&self) -> usize {
        usize::from(self.parts.broker.inflight)
    }

    /// Takes in one event and those that are there already.
    fn take(&mut self, event: Event, link: &mut Link<D::Connection>) -> Result<(), String> {
        let mut next = Some(event);
        for _ in 0..TAKE_MAX {
            let Some(event) = next else { break };
            match event {
                Event::Connected(_) => link.progress = Instant::now(),
                Event::Subscribed(refused) => {
                    for one in refused {
                        let (filter, reason) = (one.filter, one.reason);
                        tracing::error!(
                            filter,
                            reason,
                            "the MQTT broker does not let us subscribe"
                        );
                    }
                    link.open = true;
                    self.tell(|state| state.connected = true);
                }
                Event::Written(token) | Event::Acknowledged(token) => {
                    link.under_way.remove(&token);
                    link.progress = Instant::now();
                }
                Event::Declined { reason, .. } => {
                    return Err(format!("the broker did not take a message: {reason}"));
                }
                Event::Message(message) => self.hear(&message, link),
                Event::Closed(why) => return Err(why),
            }
            next = link.connection.try_next();
        }
        Ok(())
    }

    /// Says that the edge node is gone, and ends the connection in good form. `true`: the broker has
    /// acknowledged it, and so everything that was sent before.
    async fn say_goodbye(&mut self, mut link: Link<D::Connection>) -> bool {
        let until = Instant::now() + GOODBYE_TIMEOUT;
        let death = self.parts.node.death(link.bd_seq, &self.parts.clock.now());
        let Ok(token) = link.connection.try_publish(death) else { return false };
        let mut acknowledged = false;
        while !acknowledged {
            match timeout_at(until, link.connection.next()).await {
                Ok(Event::Acknowledged(this)) => acknowledged = this == token,
                Ok(Event::Closed(_)) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        link.connection.close().await;
        true
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut EdgeState)) {
        self.parts.steering.state.send_modify(change);
    }
}
