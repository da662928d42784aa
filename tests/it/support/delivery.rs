//! A store with a publisher, as the daemon joins them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inspectd::inspection::Inspection;
use inspectd::publish::deliveries::Hearers;
use inspectd::publish::inbox::Inbox;
use inspectd::publish::rumqtt::RumqttDial;
use inspectd::publish::{PublishOptions, PublishState, Publisher, PublisherHandle, message};
use inspectd::store::Store;

use super::mosquitto::DEADLINE;
use super::records::{DEVICE, clock, inspection, open};

/// A store with a publisher, as the daemon joins them.
pub struct Line {
    pub store: Store,
    pub publisher: PublisherHandle,
}

impl Line {
    /// Delivers to the broker on `port`.
    pub fn start(dir: &Path, port: u16) -> Line {
        Line::start_with(dir, port, |_| {})
    }

    /// As [`Line::start`], with other options.
    pub fn start_with(dir: &Path, port: u16, change: impl FnOnce(&mut PublishOptions)) -> Line {
        Line::start_over(dir, port, change, None)
    }

    /// As [`Line::start_with`], with someone who takes what comes in.
    pub fn start_over(
        dir: &Path,
        port: u16,
        change: impl FnOnce(&mut PublishOptions),
        inbox: Option<Arc<dyn Inbox>>,
    ) -> Line {
        let store = open(dir);
        let stations = ["left".to_owned(), "right".to_owned()];
        let mut options = PublishOptions::new("127.0.0.1", port, DEVICE, &stations);
        options.prefix = "acme/plant1".into();
        options.backoff_min = Duration::from_millis(50);
        options.backoff_max = Duration::from_millis(200);
        options.watchdog = Duration::from_secs(2);
        change(&mut options);
        let hearers = Hearers { inbox, ..Hearers::default() };
        let publisher = Publisher::spawn_over(RumqttDial, options, store.clone(), clock(), hearers);
        let publisher = publisher.expect("the options are good");
        Line { store, publisher }
    }

    /// Commits one result, as the inspector does: blocking, then a wake.
    pub fn commit(&self, station: &str, job_id: u64) -> Inspection {
        let look = inspection(station, job_id);
        self.store.commit(&look, &[message::result(&look)]).expect("a commit");
        self.publisher.wake();
        look
    }

    /// Waits until the state fulfils `condition`, and answers it.
    pub async fn wait(
        &self,
        what: &str,
        condition: impl FnMut(&PublishState) -> bool,
    ) -> PublishState {
        let mut state = self.publisher.state();
        let found = tokio::time::timeout(DEADLINE, state.wait_for(condition)).await;
        match found {
            Ok(found) => found.expect("the publisher lives").clone(),
            Err(_) => panic!("waited in vain for {what}: {:?}", self.publisher.state().borrow()),
        }
    }
}
