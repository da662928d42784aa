//! Commits records, wakes the publisher, tells the operator.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DaemonError, thumbnail};
use crate::frame::Rgb8;
use crate::inspection::Inspection;
use crate::inspector::EvidenceKeeper;
use crate::publish::PublisherHandle;
use crate::sparkplug::{EdgeHandle, StationState};
use crate::store::Store;
use crate::telemetry;

/// Where every record passes, whoever decided.
pub struct Recorder {
    store: Store,
    publisher: Option<PublisherHandle>,
    edge: Option<EdgeHandle>,
    lines: bool,
    colour: bool,
    records: AtomicU64,
    failure: Mutex<Option<DaemonError>>,
}

impl Recorder {
    /// Records into `store`, wakes `publisher` and `edge`, and prints part lines if `lines`.
    pub fn new(
        store: Store,
        publisher: Option<PublisherHandle>,
        edge: Option<EdgeHandle>,
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
            edge,
            lines,
            colour,
            records: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Commits one record with its message. `false`: it could not be written, and the daemon must stop.
    pub fn record(&self, inspection: &Inspection) -> bool {
        let messages: Vec<_> = self
            .publisher
            .iter()
            .map(|publisher| {
                publisher.result(inspection, self.thumbnail(publisher, inspection).as_deref())
            })
            .collect();
        match self.store.commit(inspection, &messages) {
            Ok(sequence) => {
                self.records.fetch_add(1, Ordering::SeqCst);
                if let Some(publisher) = &self.publisher {
                    publisher.wake();
                }
                if let Some(edge) = &self.edge {
                    edge.wake();
                }
                self.tell(inspection, sequence);
                true
            }
            Err(error) => {
                telemetry::record_failed(&error.to_string());
                let mut failure = self.failure.lock().unwrap_or_else(|lock| lock.into_inner());
                failure.get_or_insert(error.into());
                false
            }
        }
    }

    /// Tells whether the camera of `station` delivers.
    pub fn camera_delivers(&self, station: &str, delivers: bool) {
        if let Some(edge) = &self.edge {
            edge.set_state(station, StationState::of_camera(delivers));
        }
    }

    /// A small picture of the first evidence, if results carry one. Without it the result goes.
    fn thumbnail(&self, publisher: &PublisherHandle, inspection: &Inspection) -> Option<Vec<u8>> {
        let px = publisher.thumbnail_px();
        let first = inspection.evidence.first().filter(|_| px > 0)?;
        let made = thumbnail::make(&self.store.evidence_path(&first.sha256), px);
        if let Err(error) = &made {
            tracing::warn!(%error, sha256 = first.sha256, "no thumbnail could be made");
        }
        made.ok()
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
        self.store.put_evidence(picture).map_err(|error| error.to_string())
    }
}
