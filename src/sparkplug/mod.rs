//! Sparkplug B 3.0: this device as an edge node, each station as a device of it.
//!
//! ```text
//! record ─Rows→ ┐                        ┌→ births, data, deaths ─Dial→ broker
//! states ─────→ ├ Node (state machine) ──┤
//! broker ─────→ ┘  host, rebirth, DCMD   └→ Commands
//! ```
//!
//! Sparkplug is for those who watch: its data goes at QoS 0, which proves nothing. The results that
//! [`crate::publish`] delivers are the lossless ones. What Sparkplug could not tell while the way to
//! the broker, or the primary host, was shut, it tells afterwards from the record, marked as history.
//!
//! It has a connection of its own to the same broker, as a connection has one last will, and here
//! that is the death certificate. `docs/sparkplug.md` lists the metrics, and the assertions of the
//! Sparkplug test kit with the tests that hold them.

pub mod command;
mod draft;
mod history;
pub mod host;
pub mod kept;
mod listen;
pub mod metrics;
mod node;
pub mod payload;
mod pump;
mod session;
mod station;
pub mod topics;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::publish::PublishOptions;
use crate::publish::rumqtt::RumqttDial;
use crate::publish::transport::Dial;
use crate::store::{Filter, Reader, Store, StoreError};
use command::{Commands, NoCommands};
use history::{Rows, Told};
use kept::Kept;
use node::Node;
use session::{Newest, News, Parts, Session, Steering};
pub use station::StationState;
use topics::{IdError, Topics};

/// How this device shows itself by Sparkplug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkplugOptions {
    /// The group that it belongs to.
    pub group_id: String,
    /// Its name in the group, unique there.
    pub edge_node_id: String,
    /// The stations' names: its devices.
    pub stations: Vec<String>,
    /// The host without which nothing is told; `None`: there is none.
    pub primary_host_id: Option<String>,
    /// Our name at the broker, unique there, and another one than that of the results' connection.
    pub client_id: String,
    /// From one heartbeat to the next; `None`: there is none.
    pub heartbeat: Option<Duration>,
    /// Between two births that hosts asked for, at the least. Too short: hosts that ask in turn keep
    /// it busy. Too long: a host that comes late waits.
    pub rebirth_cooldown: Duration,
    /// Results that are told late, at most; of more, the newest.
    pub history_max: u64,
    /// The file that keeps what outlives the program.
    pub kept_path: PathBuf,
}

impl SparkplugOptions {
    /// The defaults, for this group, node and stations, beside the database at `database`.
    pub fn new(
        group_id: &str,
        edge_node_id: &str,
        stations: &[String],
        database: &Path,
    ) -> SparkplugOptions {
        SparkplugOptions {
            group_id: group_id.to_owned(),
            edge_node_id: edge_node_id.to_owned(),
            stations: stations.to_vec(),
            primary_host_id: None,
            client_id: format!("inspectd-{edge_node_id}-sparkplug").replace(' ', "_"),
            heartbeat: Some(Duration::from_secs(30)),
            rebirth_cooldown: Duration::from_secs(2),
            history_max: 10_000,
            kept_path: database.with_extension("sparkplug"),
        }
    }

    /// Finds the first id that cannot work.
    pub fn check(&self) -> Result<(), IdError> {
        Topics::new(&self.group_id, &self.edge_node_id)?;
        let hosts = self.primary_host_id.iter();
        hosts.chain(&self.stations).try_for_each(|id| topics::check_id(id))?;
        let mut known = HashSet::new();
        match self.stations.iter().find(|station| !known.insert(station.to_lowercase())) {
            None => Ok(()),
            Some(twin) => {
                let why = "another station has this name but for upper and lower case".to_owned();
                Err(IdError { id: twin.clone(), why })
            }
        }
    }
}

/// Why an edge node cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SparkplugError {
    /// An id is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The record cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the edge node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeState {
    /// The broker has accepted us and the connection has not failed since.
    pub connected: bool,
    /// The births were handed to the connection.
    pub born: bool,
    /// The number of the present or last connection.
    pub bd_seq: u8,
    /// Births of the edge node since the start.
    pub births: u64,
    /// Results handed to a connection since the start.
    pub sent: u64,
    /// Those of them that went as history.
    pub sent_late: u64,
    /// Results that were too many to be told late, since the start.
    pub skipped: u64,
    /// Messages that came in since the start.
    pub heard: u64,
    /// Why the last session ended; `None` once a later one was born.
    pub last_error: Option<String>,
}

/// Starts the edge node.
#[derive(Debug)]
pub struct EdgeNode;

impl EdgeNode {
    /// Starts the edge node at the broker of `broker` on the current tokio runtime. A broker that is
    /// away is no error: it is dialled until it comes. Without `commands` every command is refused.
    pub fn spawn(
        options: SparkplugOptions,
        broker: PublishOptions,
        store: &Store,
        clock: Arc<dyn Clock>,
        commands: Option<Arc<dyn Commands>>,
    ) -> Result<EdgeHandle, SparkplugError> {
        EdgeNode::spawn_over(RumqttDial, options, broker, store, clock, commands)
    }

    /// As [`EdgeNode::spawn`], over another transport.
    pub fn spawn_over<D: Dial>(
        dial: D,
        options: SparkplugOptions,
        broker: PublishOptions,
        store: &Store,
        clock: Arc<dyn Clock>,
        commands: Option<Arc<dyn Commands>>,
    ) -> Result<EdgeHandle, SparkplugError> {
        options.check()?;
        let topics = Topics::new(&options.group_id, &options.edge_node_id)?;
        let reader = store.reader()?;
        let newest = reader.newest()?;
        let (stations, cooldown) = (options.stations.clone(), options.rebirth_cooldown);
        let mut node = Node::new(topics, &stations, cooldown, newest, &clock.now());
        remember_newest(&mut node, &reader, &stations)?;
        let told = Told::new(Kept::open(&options.kept_path), newest, broker.keep_alive);
        let (wake, news) = (Arc::new(Notify::new()), Arc::new(Newest::default()));
        let (stop, stop_seen) = watch::channel(None);
        let (route, route_seen) = watch::channel(broker.clone());
        let (state_out, state) = watch::channel(EdgeState::default());
        let steering = Steering {
            wake: Arc::clone(&wake),
            stop: stop_seen,
            route: route_seen,
            state: state_out,
            news: Arc::clone(&news),
            commands: commands.unwrap_or_else(|| Arc::new(NoCommands)),
        };
        let rows = Rows::new(reader);
        let session =
            Session::new(Parts { dial, options, broker, node, rows, told, clock, steering });
        let (ended_out, ended) = watch::channel(false);
        tokio::spawn(async move {
            session.run().await;
            // Nobody may be waiting.
            let _ = ended_out.send(true);
        });
        let (stop, route) = (Arc::new(stop), Arc::new(route));
        Ok(EdgeHandle { wake, news, stop, route, state, ended })
    }
}

/// Takes the newest result of each station from the record, so that the first births tell it.
fn remember_newest(
    node: &mut Node,
    reader: &Reader,
    stations: &[String],
) -> Result<(), StoreError> {
    for station in stations {
        let newest = Filter { station: Some(station.clone()), last: Some(1), ..Filter::default() };
        for record in reader.list(&newest)? {
            match record.inspection() {
                Ok(look) => node.remember(&look),
                Err(why) => tracing::warn!(%why, "the newest result cannot be read"),
            }
        }
    }
    Ok(())
}

/// Steers a running edge node. When the last clone is dropped, it ends at once and the broker tells
/// of its death.
#[derive(Clone, Debug)]
pub struct EdgeHandle {
    wake: Arc<Notify>,
    news: Arc<Newest>,
    stop: Arc<watch::Sender<Option<Instant>>>,
    route: Arc<watch::Sender<PublishOptions>>,
    state: watch::Receiver<EdgeState>,
    ended: watch::Receiver<bool>,
}

impl EdgeHandle {
    /// Says that something was committed. From any thread; never blocks.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Says what a station is doing. From any thread; never blocks. Of several states told at once
    /// the last counts. A station that is not known is passed over.
    pub fn set_state(&self, station: &str, state: StationState) {
        self.news().states.insert(station.to_owned(), state);
        self.wake.notify_one();
    }

    /// The device has these stations from now on: the new ones are born, those that are gone die when their results have
    /// been told. From any thread; never blocks. The names must have been checked.
    pub fn set_stations(&self, stations: Vec<String>) {
        self.news().stations = Some(stations);
        self.wake.notify_one();
    }

    /// The broker is reached from now on as `options` say; all else in them is passed over. The session that stands ends
    /// with a death certificate. From any thread; never blocks. The options must have been checked.
    pub fn set_route(&self, options: PublishOptions) {
        self.route.send_replace(options);
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the edge node stands, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<EdgeState> {
        self.state.clone()
    }

    /// Tells what waits, but no longer than until `deadline` from now, says that the edge node is
    /// gone, and ends. Takes up to two seconds more for the goodbye.
    pub async fn stop(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        self.stop.send_modify(|stop| *stop = Some(stop.map_or(until, |before| before.min(until))));
        // An error: the task is gone without a word, as the runtime is going down.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}
