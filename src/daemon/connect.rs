//! The ways on which others are told: the broker with its commands, Sparkplug, PostgreSQL, traces.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::DaemonError;
use super::commands::Commands;
use super::desk::Desk;
use crate::clock::Clock;
use crate::config::Settings;
use crate::publish::deliveries::{Delivered, Deliveries, Hearers};
use crate::publish::inbox::Inbox;
use crate::publish::topics::Topics;
use crate::publish::{PublishOptions, Publisher, PublisherHandle};
use crate::sparkplug::{EdgeHandle, EdgeNode};
use crate::store::Store;
use crate::telemetry;
use crate::telemetry::metrics::METRICS;
use crate::traces::{self, Traces};
use crate::upstream::{self, UpstreamHandle};
use crate::verdict::Outcome;

/// How long a clean stop waits for the broker; what is unsent then stays in the outbox.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it then waits for PostgreSQL, which had the same time as the broker for all but the last record.
const COPY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end waits for spans that were not sent yet.
const TRACES_TIMEOUT: Duration = Duration::from_secs(3);

/// The ways on which others are told.
pub struct Wires {
    /// What the broker may bring.
    pub commands: Option<Arc<Commands>>,
    /// Spans for a collector.
    pub traces: Option<Traces>,
    /// Results, states and replies for the broker.
    pub publisher: Option<PublisherHandle>,
    /// The Sparkplug node.
    pub edge: Option<EdgeHandle>,
    /// The copy in PostgreSQL.
    pub copy: Option<UpstreamHandle>,
}

impl Wires {
    /// Opens those that the settings name, and lets the desks tell over them. Who is away is no error.
    ///
    /// # Errors
    /// Settings, certificates or a log that cannot be used.
    pub fn open(
        settings: &Settings,
        runtime: &tokio::runtime::Runtime,
        store: &Store,
        clock: &Arc<dyn Clock>,
        desks: &[Arc<Desk>],
    ) -> Result<Wires, DaemonError> {
        let commands = take_commands(settings, clock)?;
        if let Some(commands) = &commands {
            // Before the publisher asks for them.
            commands.serve(desks);
        }
        let traces = settings.traces.as_ref();
        let traces = traces.map(|options| Traces::start(options, &settings.device));
        let traces = traces.transpose().map_err(DaemonError::Other)?;
        let hearers = hearers(commands.as_ref(), traces.as_ref());
        let publisher = start_publisher(runtime, settings, store, clock, hearers)?;
        let edge = start_edge_node(runtime, settings, store, clock)?;
        let copy = start_copy(settings, store)?;
        for (desk, publisher) in desks.iter().flat_map(|desk| Some((desk, publisher.clone()?))) {
            desk.connect(publisher);
        }
        Ok(Wires { commands, traces, publisher, edge, copy })
    }

    /// What is needed to tell of stations that come and go.
    pub fn news(&self) -> News {
        let (commands, publisher) = (self.commands.clone(), self.publisher.clone());
        News { commands, publisher, edge: self.edge.clone() }
    }

    /// Sends what waits and ends all but the copy, which is to have the record of the stop, too; answers the
    /// results unsent, and those acknowledged.
    pub fn say_goodbye(&mut self, runtime: &tokio::runtime::Runtime) -> (u64, u64) {
        let results = runtime.block_on(say_goodbye(self.publisher.take(), self.edge.take()));
        if let Some(traces) = self.traces.take() {
            traces.finish(TRACES_TIMEOUT);
        }
        results
    }

    /// Ends the copy when all is copied; in any case soon.
    pub fn end_copy(self) {
        let Some(copy) = self.copy else { return };
        let waiting = copy.finish(COPY_TIMEOUT);
        if waiting > 0 {
            telemetry::not_copied(waiting);
        }
    }
}

/// Tells the broker and those behind it which stations there are, and the connections where the broker is.
pub struct News {
    commands: Option<Arc<Commands>>,
    publisher: Option<PublisherHandle>,
    edge: Option<EdgeHandle>,
}

impl News {
    /// The stations are these from now on. Their commands are asked for before anything is told of them.
    pub fn stations(&self, desks: &[Arc<Desk>]) {
        let names: Vec<String> = desks.iter().map(|desk| desk.name().to_owned()).collect();
        if let Some(commands) = &self.commands {
            commands.serve(desks);
        }
        if let Some(publisher) = &self.publisher {
            publisher.set_stations(names.clone());
            desks.iter().for_each(|desk| desk.connect(publisher.clone()));
        }
        if let Some(edge) = &self.edge {
            edge.set_stations(names);
        }
    }

    /// The broker is reached from now on as `options` say.
    pub fn route(&self, options: &PublishOptions) {
        if let Some(publisher) = &self.publisher {
            publisher.set_route(options.clone());
        }
        if let Some(edge) = &self.edge {
            edge.set_route(options.clone());
        }
    }
}

/// The commands that the broker may bring.
fn take_commands(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Commands>>, DaemonError> {
    let Some(broker) = &settings.broker else { return Ok(None) };
    let topics = Topics::new(&broker.prefix, &broker.device)
        .map_err(|error| DaemonError::Other(error.to_string()))?;
    Ok(Some(Arc::new(Commands::new(topics, Arc::clone(clock)))))
}

pub fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| DaemonError::Other(format!("cannot start the I/O threads: {error}")))
}

fn start_publisher(
    runtime: &tokio::runtime::Runtime,
    settings: &Settings,
    store: &Store,
    clock: &Arc<dyn Clock>,
    hearers: Hearers,
) -> Result<Option<PublisherHandle>, DaemonError> {
    let Some(options) = settings.broker.clone() else { return Ok(None) };
    let _inside = runtime.enter();
    let (store, clock) = (store.clone(), Arc::clone(clock));
    let started = Publisher::spawn(options, store, clock, hearers);
    started.map(Some).map_err(|error| DaemonError::Other(error.to_string()))
}

/// Who hears what the broker says: commands, and what is made of deliveries.
fn hearers(commands: Option<&Arc<Commands>>, traces: Option<&Traces>) -> Hearers {
    let inbox = commands.cloned().map(|commands| commands as Arc<dyn Inbox>);
    let counter = Told { traces: traces.cloned() };
    Hearers { inbox, deliveries: Some(Arc::new(counter)) }
}

/// Counts deliveries, and traces them.
struct Told {
    traces: Option<Traces>,
}

/// What a row tells that a trace is kept by.
#[derive(Deserialize)]
struct Decided {
    verdict: Outcome,
}

impl Deliveries for Told {
    fn delivered(&self, one: &Delivered<'_>) {
        let took = one.acknowledged.duration_since(one.row.created);
        // A clock that was set back meanwhile tells nothing.
        METRICS.delivered(&one.row.station, one.is_replayed, took.as_secs_f64().max(0.0));
        let Some(traces) = &self.traces else { return };
        let (Ok(result_id), Ok(Decided { verdict })) =
            (one.row.result_id.parse(), serde_json::from_slice(&one.row.payload))
        else {
            return;
        };
        traces.delivered(&traces::Delivered {
            result_id,
            verdict,
            broker: one.broker,
            topic: one.topic,
            bytes: one.row.payload.len(),
            is_replayed: one.is_replayed,
            times: [one.row.created, one.handed_over, one.acknowledged],
        });
    }
}

fn start_edge_node(
    runtime: &tokio::runtime::Runtime,
    settings: &Settings,
    store: &Store,
    clock: &Arc<dyn Clock>,
) -> Result<Option<EdgeHandle>, DaemonError> {
    let (Some(options), Some(broker)) = (settings.sparkplug.clone(), settings.broker.clone())
    else {
        return Ok(None);
    };
    let _inside = runtime.enter();
    // Commands from hosts are refused until stations take any.
    EdgeNode::spawn(options, broker, store, Arc::clone(clock), None)
        .map(Some)
        .map_err(|error| DaemonError::Other(error.to_string()))
}

/// Starts the copy of the log, on a thread and a connection to the log of its own.
fn start_copy(settings: &Settings, store: &Store) -> Result<Option<UpstreamHandle>, DaemonError> {
    let Some(options) = settings.postgres.clone() else { return Ok(None) };
    upstream::start(options, store.reader()?)
        .map(Some)
        .map_err(|error| DaemonError::Other(error.to_string()))
}

/// Sends what waits and ends both connections; answers the results unsent, and those acknowledged.
async fn say_goodbye(publisher: Option<PublisherHandle>, edge: Option<EdgeHandle>) -> (u64, u64) {
    let edge = async {
        if let Some(edge) = edge {
            edge.stop(DRAIN_TIMEOUT).await;
        }
    };
    let publisher = async {
        let Some(publisher) = publisher else { return (0, 0) };
        let acknowledged = publisher.state().borrow().sent;
        let drained = publisher.drain_and_stop(DRAIN_TIMEOUT).await;
        (drained.unsent, publisher.state().borrow().sent.max(acknowledged))
    };
    tokio::join!(publisher, edge).0
}
