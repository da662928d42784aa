//! Commits records, wakes the publisher, tells the operator.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::DaemonError;
use super::keeper::{Call, EndsKeeping};
use crate::frame::Rgb8;
use crate::inspection::Inspection;
use crate::inspector::EvidenceKeeper;
use crate::publish::{PublisherHandle, message};
use crate::store::{ReserveState, Store, StoreError};
use crate::telemetry;

/// Where every record passes, whoever decided.
pub struct Recorder {
    store: Store,
    publisher: Option<PublisherHandle>,
    keeper: flume::Sender<Call>,
    lines: bool,
    colour: bool,
    records: AtomicU64,
    failure: Mutex<Option<DaemonError>>,
}

impl Recorder {
    /// Records into `store`, wakes `publisher`, calls `keeper` when space is short, and prints part
    /// lines if `lines`.
    pub fn new(
        store: Store,
        publisher: Option<PublisherHandle>,
        keeper: flume::Sender<Call>,
        lines: bool,
    ) -> Recorder {
        let colour = io::stdout().is_terminal();
        if lines {
            // A closed standard output must not stop a line: the record is what counts.
            let _ = telemetry::print_heading(&mut io::stdout());
        }
        Recorder {
            store,
            publisher,
            keeper,
            lines,
            colour,
            records: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Commits one record with its message. `false`: it could not be written, and the daemon must stop.
    pub fn record(&self, inspection: &Inspection) -> bool {
        let messages: Vec<_> = self.publisher.iter().map(|_| message::result(inspection)).collect();
        match self.store.commit(inspection, &messages) {
            Ok(sequence) => {
                self.records.fetch_add(1, Ordering::SeqCst);
                if let Some(publisher) = &self.publisher {
                    publisher.wake();
                }
                self.tell(inspection, sequence);
                self.has_room()
            }
            Err(error) => self.fail(error),
        }
    }

    /// Whether another record would find room. What is left after that is for those that wait.
    fn has_room(&self) -> bool {
        match self.store.reserve() {
            ReserveState::Whole => true,
            ReserveState::InUse => {
                self.call_keeper();
                true
            }
            ReserveState::Spent => {
                let path = self.store.path().to_owned();
                self.fail(StoreError::Full { doing: "record more parts", path })
            }
        }
    }

    /// Keeps the first error; `false`.
    fn fail(&self, error: StoreError) -> bool {
        telemetry::record_failed(&error.to_string());
        let mut failure = self.failure.lock().unwrap_or_else(|lock| lock.into_inner());
        failure.get_or_insert(error.into());
        false
    }

    /// A call that finds another one waiting is one with it.
    fn call_keeper(&self) {
        let _ = self.keeper.try_send(Call::Look);
    }

    /// Lets the keeper's thread end when it is dropped, be it by a panic.
    pub fn keeping(&self) -> EndsKeeping {
        EndsKeeping(self.keeper.clone())
    }

    /// Records committed by this run.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::SeqCst)
    }

    /// The first record that could not be written, once.
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
        self.store.put_evidence(picture).map_err(|error| {
            self.call_keeper();
            error.to_string()
        })
    }
}
