//! Commits records, wakes the publisher, tells the operator.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DaemonError, Stop};
use crate::fault;
use crate::frame::Rgb8;
use crate::inspection::Inspection;
use crate::inspector::{Clerk, EvidenceKeeper};
use crate::publish::{PublisherHandle, message};
use crate::store::Store;
use crate::telemetry;

/// Where every record passes, whoever decided.
pub struct Recorder {
    store: Store,
    publisher: Option<PublisherHandle>,
    lines: bool,
    colour: bool,
    records: AtomicU64,
    failure: Mutex<Option<DaemonError>>,
}

impl Recorder {
    /// Records into `store`, wakes `publisher`, and prints part lines if `lines`.
    pub fn new(store: Store, publisher: Option<PublisherHandle>, lines: bool) -> Recorder {
        let colour = io::stdout().is_terminal();
        if lines {
            // A closed standard output must not stop a line: the record is what counts.
            let _ = telemetry::print_heading(&mut io::stdout());
        }
        Recorder {
            store,
            publisher,
            lines,
            colour,
            records: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Commits one record with its message. Ends the run if it cannot be written, or if `clerk`
    /// cannot say any more what decides.
    pub fn record(&self, inspection: &Inspection, clerk: &Clerk, stop: &Stop) {
        let messages: Vec<_> = self.publisher.iter().map(|_| message::result(inspection)).collect();
        match self.store.commit(inspection, &messages) {
            Ok(sequence) => {
                self.records.fetch_add(1, Ordering::SeqCst);
                if let Some(publisher) = &self.publisher {
                    publisher.wake();
                }
                fault::point(fault::RECORD_TOLD);
                self.tell(inspection, sequence);
            }
            Err(error) => {
                telemetry::record_failed(&error.to_string());
                self.fail(error.into());
                stop.set("the record cannot be written");
            }
        }
        if let Some(why) = clerk.failure() {
            self.fail(DaemonError::Model(why));
            stop.set("the model cannot be named in a record");
        }
    }

    fn fail(&self, error: DaemonError) {
        self.failure.lock().unwrap_or_else(|lock| lock.into_inner()).get_or_insert(error);
    }

    /// Records committed by this run.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::SeqCst)
    }

    /// The first reason for which the run had to end, once.
    pub fn failure(&self) -> Option<DaemonError> {
        self.failure.lock().unwrap_or_else(|lock| lock.into_inner()).take()
    }

    fn tell(&self, inspection: &Inspection, sequence: i64) {
        if self.lines {
            // As above: a reader that went away is no reason to stop.
            let _ = telemetry::print_part(&mut io::stdout().lock(), inspection, self.colour);
        } else {
            telemetry::decided(inspection, sequence);
        }
    }
}

impl EvidenceKeeper for Recorder {
    fn keep(&self, picture: &Rgb8) -> Result<String, String> {
        self.store.put_evidence(picture).map_err(|error| error.to_string())
    }
}
