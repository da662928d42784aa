//! Nothing is lost: the daemon is killed at every labelled point and at random instants, the way to
//! the broker breaks in every way there is, and a subscriber that lives through all of it counts.
//!
//! `scripts/soak` runs the same with more rounds and prints the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::daemon::{self, Options};
use inspectd::inspector::{Model, Reply};
use inspectd::roi::Crop;
use inspectd::station::{Question, Station};
use inspectd::store::verify::{VerifyOptions, verify};
use inspectd::store::{Filter, Reader, Store, evidence};
use inspectd::verdict::Outcome;
use inspectd::vlm::Digest;
use inspectd::{clock, config, fault};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::delivery::Line;
use crate::support::faulty_link::{Fault, FaultyLink};
use crate::support::mosquitto::{DEADLINE, Mosquitto, Seen, Subscriber};
use crate::support::station::Site;

/// The folder of the site that a child serves.
const CHILD_SITE: &str = "INSPECTD_TEST_FAULTS_SITE";
/// After how many parts it ends by itself; without it, never.
pub const CHILD_PARTS: &str = "INSPECTD_TEST_FAULTS_PARTS";

/// A model that answers at once. What it answers does not matter here.
struct Quick;

impl Model for Quick {
    fn ask(&mut self, _: &Station, _: &Question, _: &[&Crop], _: Instant) -> Reply {
        Reply::new("quick", Err("this model answers nothing".into()))
    }
}

/// Not a test: the daemon with a model that answers at once, until it is killed.
#[test]
#[ignore = "started by the tests of this file"]
fn child_that_serves_until_it_is_killed() {
    let Some(site) = std::env::var_os(CHILD_SITE) else { return };
    let loaded = config::load(Path::new(&site)).unwrap_or_else(|problems| panic!("{problems}"));
    let stations: Vec<Arc<Station>> = loaded.stations.into_iter().map(Arc::new).collect();
    let clock: Arc<dyn clock::Clock> = Arc::new(clock::SystemClock);
    let store = Store::open(&loaded.settings.store, clock).expect("the log opens");
    let parts = std::env::var(CHILD_PARTS).ok().map(|text| text.parse().expect("a number"));
    let options = Options { parts, lines: true, ..Options::default() };
    daemon::serve(&loaded.settings, &stations, &options, store, Quick, "none".into())
        .expect("it runs to its end");
}

/// A site with two stations that look at a few pictures again and again, as fast as they are taken.
pub fn site(broker: u16) -> Site {
    let site = Site::of_pictures(Some(broker));
    let first = site.dir.path().join("stations/demo.toml");
    let second = fs::read_to_string(&first).unwrap().replace("\"demo\"", "\"other\"");
    fs::write(site.dir.path().join("stations/other.toml"), second).unwrap();
    site
}

/// One run of the daemon.
pub struct Run {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    started: Instant,
}

impl Run {
    pub fn start(site: &Site, variables: &[(&str, String)]) -> Run {
        let room = module_path!().split_once("::").map_or("", |(_, room)| room);
        let name = format!("{room}::child_that_serves_until_it_is_killed");
        // A write beyond a limit of the system is to be an error, as on a disk, and no signal.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--ignored", "--nocapture"])
            .env(CHILD_SITE, &site.file)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Run { child, lines, started: Instant::now() }
    }

    /// The time from its start until it has told of its first part.
    pub fn first_part(&mut self) -> Duration {
        let told = self.lines.by_ref().map_while(Result::ok).any(|line| line.contains(" review "));
        assert!(told, "the daemon ended before its first part");
        self.started.elapsed()
    }

    /// Waits for its end by itself, or by its own point.
    pub fn end(mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        // A pipe that nobody reads would hold it up.
        let lines = self.lines.by_ref();
        lines.map_while(Result::ok).take_while(|_| Instant::now() < until).for_each(drop);
        if Instant::now() >= until {
            let _ = self.child.kill();
        }
        self.child.wait().unwrap()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a soak counts.
#[derive(Clone, Copy)]
pub struct Figures {
    pub records: usize,
    pub messages: usize,
    pub copies: usize,
    pub lost: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { records, messages, copies, lost } = self;
        write!(f, "{records} records, {messages} messages, {copies} of them copies; {lost} lost")
    }
}

/// Runs to a clean end, so that all is delivered, and compares the log with what the subscriber saw.
/// The chain must be whole, and as the model answers nothing, no part may have passed.
pub fn settle(site: &Site, runtime: &tokio::runtime::Runtime, subscriber: &Subscriber) -> Figures {
    let last = Run::start(site, &[(CHILD_PARTS, "4".into())]);
    assert!(last.end().success(), "the last run ends well");
    let reader = Reader::open(&site.database()).unwrap();
    let records = reader.list(&Filter::default()).unwrap();
    let wanted: BTreeSet<&str> = records.iter().map(|one| one.result_id.as_str()).collect();
    assert_eq!(wanted.len(), records.len());
    let all_there = |seen: &Seen| seen.under("result").len() >= wanted.len();
    let seen = runtime.block_on(subscriber.wait("every result", all_there));
    assert_whole(site, &records);
    let report = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).expect("readable");
    assert_eq!(report.break_count, 0, "{:?}", report.breaks);
    assert!(report.anchors > 0, "{:?}", report.notes);

    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for message in seen.under("result") {
        let mut payload = message.payload.clone();
        // The one member that may differ between two copies.
        payload.as_object_mut().unwrap().remove("replayed");
        let id = payload["result_id"].as_str().unwrap().to_owned();
        let text = payload.to_string();
        assert_eq!(told.entry(id).or_insert_with(|| text.clone()), &text, "copies are the same");
    }
    let strangers = told.keys().filter(|id| !wanted.contains(id.as_str())).count();
    assert_eq!(strangers, 0, "what was told is in the record");
    let messages = seen.under("result").len();
    let lost = wanted.iter().filter(|id| !told.contains_key(**id)).count();
    Figures { records: records.len(), messages, copies: messages - told.len(), lost }
}

/// Jobs count up without a hole, and each picture is there with the digest that the record names.
fn assert_whole(site: &Site, records: &[inspectd::store::Record]) {
    let mut jobs: BTreeMap<String, u64> = BTreeMap::new();
    let mut pictures = BTreeSet::new();
    for record in records {
        let one = record.inspection().expect("whole");
        let last = jobs.entry(one.station.clone()).or_default();
        assert_eq!(one.job_id, *last + 1, "{}", one.station);
        *last = one.job_id;
        assert_eq!(one.verdict.outcome, Outcome::Review);
        let is_without = one.verdict.reasons.iter().any(|reason| reason.code == "evidence_lost");
        assert_eq!(one.evidence.len(), usize::from(!is_without), "{:?}", one.verdict);
        pictures.extend(one.evidence.into_iter().map(|kept| kept.sha256));
    }
    let dir = site.dir.path().join("evidence");
    for sha256 in pictures {
        let bytes = fs::read(evidence::path(&dir, &sha256)).expect("the picture is there");
        assert_eq!(Digest::of(&bytes).to_string(), sha256);
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

#[test]
fn killed_at_every_labelled_point_nothing_is_lost() {
    let (broker, runtime) = (Mosquitto::start(), runtime());
    let subscriber = runtime.block_on(Subscriber::start(broker.port()));
    let site = site(broker.port());
    for label in fault::LABELS {
        // A picture is written once; the goodbye comes once.
        let once =
            matches!(label, fault::EVIDENCE_WRITTEN | fault::EVIDENCE_NAMED | fault::STOP_DRAINED);
        if label == fault::EVIDENCE_NAMED {
            fs::remove_dir_all(site.dir.path().join("evidence")).unwrap();
        }
        let point = format!("{label}:{}", if once { 1 } else { 5 });
        let run = Run::start(&site, &[("INSPECTD_DIE_AT", point), (CHILD_PARTS, "40".into())]);
        let status = run.end();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGKILL),
            "{label} was not met"
        );
    }
    let figures = settle(&site, &runtime, &subscriber);
    println!("{} labelled points: {figures}", fault::LABELS.len());
    assert_eq!(figures.lost, 0);
    assert!(figures.copies > 0, "a kill between acknowledgement and mark sends once more");
}

#[test]
fn killed_at_random_instants_nothing_is_lost() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let kills = number("INSPECTD_SOAK_KILLS", 10);
    let seed = number("INSPECTD_SOAK_SEED", 1);
    let (broker, runtime) = (Mosquitto::start(), runtime());
    let subscriber = runtime.block_on(Subscriber::start(broker.port()));
    let site = site(broker.port());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut recoveries = Vec::new();
    for _ in 0..kills {
        let mut run = Run::start(&site, &[]);
        // Half of them during the start, half of them at work.
        if random.random_bool(0.5) {
            recoveries.push(run.first_part());
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..300_000)));
        run.kill();
    }
    let figures = settle(&site, &runtime, &subscriber);
    recoveries.sort_unstable();
    let at = |share: usize| match recoveries.get((recoveries.len().max(1) - 1) * share / 100) {
        Some(took) => format!("{:.1} s", took.as_secs_f64()),
        None => "not measured".to_owned(),
    };
    println!(
        "{kills} kills, seed {seed}: {figures}; from start to first record: median {}, longest {}",
        at(50),
        at(100)
    );
    assert_eq!(figures.lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_breaks_in_every_way_loses_nothing() {
    let broker = Mosquitto::start();
    let subscriber = Subscriber::start(broker.port()).await;
    let link = FaultyLink::start(broker.port()).await;
    let dir = tempfile::tempdir().unwrap();
    let line = Line::start(dir.path(), link.port());
    let mut ids = BTreeSet::new();
    let mut job = 0;
    for fault in Fault::ALL {
        line.wait("a sound connection", |state| state.connected && state.unsent == 0).await;
        let before = link.struck();
        link.set(fault);
        for _ in 0..8 {
            job += 1;
            ids.insert(line.commit("left", job).result_id.to_string());
        }
        let until = Instant::now() + DEADLINE;
        while link.struck() < before + 2 {
            assert!(Instant::now() < until, "{fault:?} does not strike");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        link.set(Fault::None);
        println!("{fault:?}: struck {} times", link.struck() - before);
        line.wait("everything sent", |state| state.unsent == 0).await;
    }
    let distinct = |seen: &Seen| -> BTreeSet<String> {
        let results = seen.results("result_id");
        results.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
    };
    let seen = subscriber.wait("every result", |seen| distinct(seen).len() >= ids.len()).await;
    assert_eq!(distinct(&seen), ids);
}
