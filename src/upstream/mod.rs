//! A copy of the audit log in PostgreSQL, for those who count over many devices.
//!
//! What always holds:
//!
//! 1. Every record of the chain is copied, in order, in the columns that its digest covers: the copy is proven by
//!    itself, by SQL (the view `breaks`) or by [`check`].
//! 2. The table is the cursor: where to go on is what it holds, asked at each connection. So no crash, here or
//!    there, loses a record or copies one twice, and a table that was put back is filled again.
//! 3. A record is added or left alone. Where another one stands in its place the copy stands still, and says so.
//! 4. Nobody waits for it: a thread of its own reads the log by a connection of its own.
//!
//! Nothing has to be kept back for it: records are never removed from the log, only pictures are.

mod access;
mod batch;
pub mod check;
mod columns;
mod copy;
pub mod error;
mod kept;
pub mod options;
mod survey;
pub mod tables;

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use error::UpstreamError;
pub use options::UpstreamOptions;

use crate::store::Reader;
use copy::Session;

/// How the copy stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamState {
    /// There is a connection, and it has not failed since.
    pub connected: bool,
    /// Records of the log that are not known to be in the table.
    pub waiting: u64,
    /// When the oldest of them was chained, in milliseconds since 1970; `None`: none waits.
    pub oldest_wall_ms: Option<i64>,
    /// Records that this run has added to the table.
    pub copied: u64,
    /// When it last added any.
    pub last_copy: Option<Instant>,
    /// Records that the table had lost, as far as was noticed; they are copied again.
    pub lost: u64,
    /// What contradicts the log there; a person has to look.
    pub conflict: Option<String>,
    /// Why the last connection failed; `None` once a later one stands.
    pub last_error: Option<String>,
}

/// Steers a running copy. When it is dropped the copy ends.
#[derive(Debug)]
pub struct UpstreamHandle {
    stop: watch::Sender<bool>,
    give_up: watch::Sender<Option<Instant>>,
    state: watch::Receiver<UpstreamState>,
    thread: JoinHandle<()>,
}

/// Starts to copy the log that `reader` reads. A server that is away is no error: it is tried until it comes.
///
/// # Errors
/// A log that cannot be read; no thread or runtime.
pub fn start(options: UpstreamOptions, reader: Reader) -> Result<UpstreamHandle, UpstreamError> {
    let (stop, stop_seen) = watch::channel(false);
    let (give_up, gives_up) = watch::channel(None);
    let (state_out, state) = watch::channel(UpstreamState::default());
    let runtime = runtime()?;
    let mut session = Session::new(options, reader, state_out, stop_seen)?;
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                () = session.run() => {}
                () = patience(gives_up) => {}
            }
        });
        session.keep();
        // What is still being looked up (a host's name) is not waited for.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("postgres".into()).spawn(run);
    Ok(UpstreamHandle { stop, give_up, state, thread: thread.map_err(UpstreamError::Start)? })
}

/// A runtime for one thread: its waits are those of the copy alone.
fn runtime() -> Result<tokio::runtime::Runtime, UpstreamError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(UpstreamError::Start)
}

/// Ends when the time is over that was given for the end. A handle that is gone gave none.
async fn patience(mut given: watch::Receiver<Option<Instant>>) {
    let until = match given.wait_for(Option::is_some).await {
        Ok(until) => *until,
        Err(_) => None,
    };
    if let Some(until) = until {
        tokio::time::sleep_until(until.into()).await;
    }
}

impl UpstreamHandle {
    /// How the copy stands.
    pub fn state(&self) -> watch::Receiver<UpstreamState> {
        self.state.clone()
    }

    /// Ends it: with a connection, when everything is copied, without one at once, and in any case after `most`.
    /// Answers the records that still wait.
    pub fn finish(self, most: Duration) -> u64 {
        self.give_up.send_replace(Some(Instant::now() + most));
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            // A panic in it has been told where it happened.
            tracing::error!("the thread of the copy to PostgreSQL did not end in good order");
        }
        self.state.borrow().waiting
    }
}
