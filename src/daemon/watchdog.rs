//! The thread that looks at the vitals and tells the service manager.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::DaemonError;
use super::vitals::{Hung, Vitals};
use crate::service;
use crate::telemetry;

/// Longest wait between two looks.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What is told while all make progress.
const WELL: &str = "Inspecting.";

/// Looks until it is dropped: all through the end of a run, too, in which a thread may hang as well.
pub struct Watchdog {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has none to give.
    pub fn start(vitals: &Arc<Vitals>) -> Result<Watchdog, DaemonError> {
        let (end, ended) = mpsc::channel();
        let vitals = Arc::clone(vitals);
        let thread = thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || watch(&vitals, &ended))
            .map_err(|why| DaemonError::Other(format!("cannot start a thread: {why}")))?;
        Ok(Watchdog { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told where it happened.
            let _ = thread.join();
        }
    }
}

fn watch(vitals: &Vitals, ended: &mpsc::Receiver<()>) {
    let every = vitals.look_every().min(LOOK_MAX);
    let mut told = Vec::new();
    service::status(WELL);
    loop {
        let hung = vitals.look(Instant::now());
        if hung.is_empty() {
            service::alive();
        }
        tell(&hung, &mut told);
        match ended.recv_timeout(every) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Tells what has changed since `told`.
fn tell(hung: &[Hung], told: &mut Vec<String>) {
    let names: Vec<String> = hung.iter().map(|hung| hung.name.clone()).collect();
    if names == *told {
        return;
    }
    for Hung { name, since } in hung {
        telemetry::hung(name, since.as_secs_f64());
    }
    if hung.is_empty() {
        telemetry::goes_on();
    }
    let text = match hung.is_empty() {
        true => WELL.to_owned(),
        false => format!("HUNG: {} makes no progress.", names.join(", ")),
    };
    service::status(&text);
    *told = names;
}
