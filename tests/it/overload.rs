//! More parts than the model can look at: each has its record, and none of them is a pass.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inspectd::daemon::{self, Options};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Model, Reply};
use inspectd::roi::Crop;
use inspectd::station::{Question, Station};
use inspectd::store::{Filter, Reader, Store};
use inspectd::verdict::Outcome;
use inspectd::vlm::{DigestError, PendingDigest};
use inspectd::{clock, config, simulate};

use crate::support::station::Site;

/// A model that answers nothing before its gate is opened, which is when the sender is dropped.
struct Gated(flume::Receiver<()>);

impl Model for Gated {
    fn ask(&mut self, _: &Station, _: &Question, _: &[&Crop], _: Instant) -> Reply {
        let _ = self.0.recv();
        Reply::new("gated", Err("this model answers nothing".into()))
    }
}

/// A site whose station looks at a folder of `count` pictures, each of them a part, as they come.
fn site(count: u64) -> Site {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let out = site.dir.path().join("set");
    let mix = simulate::Mix::default();
    let options = simulate::SetOptions { count, seed: 99, dense: false, mix, out };
    simulate::write_set(&options, |_| {}).expect("a set is written");
    site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
    site.edit("kind = \"presence\"", "kind = \"every_frame\"");
    site.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    site
}

fn log(site: &Site) -> Vec<Inspection> {
    let reader = Reader::open(&site.database()).expect("the log is readable");
    let records = reader.list(&Filter::default()).expect("records are readable");
    records.iter().map(|record| record.inspection().expect("whole")).collect()
}

/// Whether this is among the verdict's reasons.
fn has(inspection: &Inspection, code: &str) -> bool {
    inspection.verdict.reasons.iter().any(|reason| reason.code == code)
}

/// Each job from 1 to `count` has its one record, and none is a pass.
fn assert_complete(log: &[Inspection], count: u64) {
    let mut jobs: Vec<u64> = log.iter().map(|one| one.job_id).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, (1..=count).collect::<Vec<_>>());
    assert!(log.iter().all(|one| one.verdict.outcome == Outcome::Review));
}

/// A model whose files turned out to be unreadable, on a line that goes on bringing parts.
#[test]
fn a_model_that_cannot_be_named_ends_the_run_with_reviews() {
    let site = site(6);
    site.edit("queue_parts = ", "queue_parts = 1 # was ");
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    let stations: Vec<Arc<Station>> = loaded.stations.into_iter().map(Arc::new).collect();
    let store = Store::open(&loaded.settings.store, Arc::new(clock::SystemClock)).expect("opens");
    let (gate, open) = flume::bounded::<()>(1);
    drop(gate);
    let unread = PendingDigest::known(Err(DigestError::new("input/output error")));
    let options = Options::default();
    let ended =
        daemon::serve(&loaded.settings, &stations, &options, store, Gated(open), unread.into());
    let told = ended.expect_err("it must not go on").to_string();
    assert!(told.contains("input/output error"), "{told}");
    let log = log(&site);
    assert!(!log.is_empty());
    assert_complete(&log, log.len() as u64);
    assert!(log.iter().all(|one| has(one, "model_unproven")));
}

/// Runs the site with a model whose gate opens once the log holds `before` records.
fn run_gated(site: &Site, before: u64) {
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    let stations: Vec<Arc<Station>> = loaded.stations.into_iter().map(Arc::new).collect();
    let settings = loaded.settings;
    let clock: Arc<dyn clock::Clock> = Arc::new(clock::SystemClock);
    let store = Store::open(&settings.store, clock).expect("the log opens");
    let (gate, shut) = flume::bounded::<()>(1);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let options = Options::default();
            daemon::serve(&settings, &stations, &options, store, Gated(shut), "none".into())
        });
        let until = Instant::now() + crate::support::mosquitto::DEADLINE;
        loop {
            let reader = Reader::open(&site.database()).expect("the log is readable");
            if reader.count(&Filter::default()).expect("readable") >= before {
                break;
            }
            assert!(Instant::now() < until && !running.is_finished(), "too few records");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        drop(gate);
        running.join().expect("no panic").expect("it ran to its end");
    });
}

#[test]
fn a_burst_at_a_model_that_stands_still_is_recorded_part_by_part() {
    let site = site(20);
    site.edit("queue_parts = ", "queue_parts = 3 # was ");
    // The part in hand keeps its place: three are taken, all others find none.
    run_gated(&site, 17);
    let log = log(&site);
    assert_complete(&log, 20);
    let full = log.iter().filter(|one| has(one, "queue_full")).collect::<Vec<_>>();
    assert_eq!(full.len(), 17);
    assert!(full.iter().all(|one| one.evidence.len() == 1), "a person can look at each of them");
    assert!(full.iter().all(|one| one.questions.is_empty()));
    let says = |one: &&Inspection| {
        one.verdict.reasons.iter().any(|r| r.text.contains("3 parts were waiting"))
    };
    assert!(full.iter().all(says));
}

#[test]
fn the_parts_between_those_that_are_sampled_are_recorded_as_review() {
    let site = site(10);
    site.edit("name = \"demo\"", "name = \"demo\"\ninspect_every = 4");
    site.edit("queue_parts = ", "queue_parts = 8 # was ");
    run_gated(&site, 7);
    let log = log(&site);
    assert_complete(&log, 10);
    for one in &log {
        let is_turn = matches!(one.job_id, 1 | 5 | 9);
        assert_eq!(is_turn, !has(one, "not_sampled"), "job {}", one.job_id);
        assert_eq!(is_turn, !one.questions.is_empty());
        assert_eq!(one.evidence.len(), 1);
    }
}

#[test]
fn a_burst_on_top_of_sampling_is_complete_too() {
    let site = site(24);
    site.edit("name = \"demo\"", "name = \"demo\"\ninspect_every = 2");
    site.edit("queue_parts = ", "queue_parts = 1 # was ");
    run_gated(&site, 23);
    let log = log(&site);
    assert_complete(&log, 24);
    let with = |code: &str| log.iter().filter(|one| has(one, code)).count();
    assert_eq!((with("not_sampled"), with("queue_full")), (12, 11));
    fs::remove_dir_all(site.dir.path().join("set")).expect("removed");
}
