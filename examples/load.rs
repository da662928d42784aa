//! What record and delivery bear, with the model left out:
//!
//!     cargo run --release --example load -- stations --stations 10 --rate 20 --seconds 600
//!     cargo run --release --example load -- backlog --rows 1000000 --rate 20
//!
//! Both start a mosquitto of their own and the daemon as a process of its own, in a folder that is
//! removed at the end (`--dir` says on which disk). A subscriber counts what arrives, by `result_id`.
//! The model of this daemon says at once that each part is good; all else is as in a plant: cameras,
//! crops, evidence files, commits that are on the disk, the chain, the broker's acknowledgements.

// A tool that is run by hand stops at the first thing that is not as it should be.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use clap::Parser;
use inspectd::inspector::{Model, Reply};
use inspectd::roi::Crop;
use inspectd::station::{Question, Station};
use inspectd::store::verify::{VerifyOptions, verify};
use inspectd::store::{Filter, Reader, Store};
use inspectd::vlm::ask::{Answer, FieldConfidence, StopReason, Timings, TokenCounts};
use inspectd::{clock, config, daemon};

#[path = "load/backlog.rs"]
mod backlog;
#[path = "load/subscriber.rs"]
mod subscriber;

use subscriber::{Arrived, Subscriber};

/// Longest that the rest may take to arrive once the daemon has ended.
const SETTLE: Duration = Duration::from_secs(30);

#[derive(Parser)]
enum Arguments {
    /// Several stations at a rate; memory, commit times, and whether each result arrived.
    Stations {
        #[arg(long, default_value_t = 10)]
        stations: u32,
        /// Parts a second at each.
        #[arg(long, default_value_t = 20)]
        rate: u32,
        #[arg(long, default_value_t = 600)]
        seconds: u32,
        /// Where the database and the pictures go.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Results that waited while the broker was away, beside live ones.
    Backlog {
        /// Results that wait.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// Live parts a second.
        #[arg(long, default_value_t = 20)]
        rate: u32,
        /// `backlog_per_s` of the broker's table.
        #[arg(long, default_value_t = 2000)]
        backlog_per_s: u32,
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// The daemon with a model that answers at once.
    #[command(hide = true)]
    Daemon { config: PathBuf, parts: u64 },
}

fn main() -> ExitCode {
    let good = match Arguments::parse() {
        Arguments::Daemon { config, parts } => serve(&config, parts),
        Arguments::Stations { stations, rate, seconds, dir } => {
            let site = Site::new(&dir, stations, rate, "");
            let parts = u64::from(stations) * u64::from(rate) * u64::from(seconds);
            println!("{stations} stations, {rate} parts/s each, {parts} parts");
            let run = site.run(parts, 0);
            run.report(&site, f64::from(stations * rate))
        }
        Arguments::Backlog { rows, rate, backlog_per_s, dir } => {
            backlog::run(&dir, rows, rate, backlog_per_s)
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says at once that a part is good.
struct Good;

impl Model for Good {
    fn ask(&mut self, _: &Station, _: &Question, _: &[&Crop], _: Instant) -> Reply {
        let sure = |path: &str| FieldConfidence {
            path: path.to_owned(),
            probability: 0.99,
            min_token_probability: 0.99,
            min_allowed_mass: 0.99,
            tokens: 1,
        };
        let answer = Answer {
            text: r#"{"inspectable":true,"defects":[]}"#.to_owned(),
            fields: vec![sure("inspectable")],
            stop: StopReason::Complete,
            tokens: TokenCounts::default(),
            timings: Timings::default(),
        };
        Reply::new("is it good?", Ok(answer))
    }
}

/// The daemon: its last line is what it did, for the one who started it.
fn serve(file: &Path, parts: u64) -> bool {
    let loaded = config::load(file).unwrap_or_else(|problems| panic!("{problems}"));
    let stations: Vec<Arc<Station>> = loaded.stations.into_iter().map(Arc::new).collect();
    let store = Store::open(&loaded.settings.store, Arc::new(clock::SystemClock)).unwrap();
    let options = daemon::Options { parts: Some(parts), ..daemon::Options::default() };
    let model = (Good, "none".into());
    let did =
        daemon::serve(&loaded.settings, &stations, &options, store, model.0, model.1).unwrap();
    println!(
        "{} {} {} {} {} {} {}",
        did.records,
        did.unsent,
        did.frames_delivered,
        did.frames_dropped,
        did.commits.p50_us,
        did.commits.p99_us,
        did.commits.max_us
    );
    true
}

/// A folder with a configuration, and the broker that it names.
struct Site {
    dir: tempfile::TempDir,
    broker: Child,
    port: u16,
}

impl Site {
    fn new(dir: &Path, stations: u32, rate: u32, broker_keys: &str) -> Site {
        let dir = tempfile::tempdir_in(dir).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("stations")).unwrap();
        for number in 1..=stations {
            let text = format!(
                "name = \"s{number}\"\nsimulated = true\ndeadline_ms = 5000\n\n[camera]\n\
                 pipeline = \"videotestsrc is-live=true pattern=ball motion=sweep ! \
                 video/x-raw,format=RGB,width=336,height=336,framerate={rate}/1\"\n\n\
                 [trigger]\nkind = \"every_frame\"\n\n[[question]]\nname = \"defects\"\n\
                 task = \"defects\"\nclasses = [\"scratch\"]\n"
            );
            std::fs::write(path(&format!("stations/s{number}.toml")), text).unwrap();
        }
        let text = format!(
            "[device]\nname = \"load\"\n\n[model]\npath = \"none\"\n\n[database]\n\
             path = \"audit.db\"\n\n[broker]\nhost = \"127.0.0.1\"\nport = {port}\n{broker_keys}\n\
             [log]\nlevel = \"warn\"\n"
        );
        std::fs::write(path("inspectd.toml"), text).unwrap();
        let broker_file = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\n\
             max_queued_messages 0\nmax_inflight_messages 0\n"
        );
        std::fs::write(path("mosquitto.conf"), broker_file).unwrap();
        let broker = Command::new("mosquitto")
            .env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            .arg("-c")
            .arg(path("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this needs mosquitto: install the package of that name");
        Site { dir, broker, port }
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("audit.db")
    }

    /// Runs the daemon until it has looked at `parts`, or so many replayed results have arrived, and
    /// counts what arrives.
    fn run(&self, parts: u64, replayed: u64) -> Run {
        let subscriber = Subscriber::start(self.port);
        let started = Instant::now();
        let mut daemon = Command::new(std::env::current_exe().unwrap())
            .arg("daemon")
            .arg(self.dir.path().join("inspectd.toml"))
            .arg(parts.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut memory = Vec::new();
        let mut drained = None;
        while daemon.try_wait().unwrap().is_none() {
            match subscriber.ended.recv_timeout(Duration::from_secs(1)) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => panic!("the subscriber has ended"),
            }
            memory.extend(resident_mb(daemon.id()));
            if drained.is_none() && replayed > 0 && subscriber.replayed() >= replayed {
                drained = Some(started.elapsed().as_secs_f64());
                Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
            }
            if memory.len() % 30 == 0 {
                println!(
                    "{:>5} s  {:>8} arrived  {:>4.0} MB",
                    started.elapsed().as_secs(),
                    subscriber.count(),
                    memory.last().unwrap_or(&0.0)
                );
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let told = std::io::read_to_string(daemon.stdout.take().unwrap()).unwrap();
        let mut did =
            told.lines().last().unwrap_or_default().split(' ').map(|n| n.parse().unwrap());
        let mut next = || did.next().unwrap_or(0);
        let (records, unsent) = (next(), next());
        let mut run = Run {
            seconds,
            drained,
            records,
            unsent,
            frames: (next(), next()),
            commit_us: (next(), next(), next()),
            memory,
            arrived: Arrived::default(),
        };
        run.arrived = subscriber.wait_for(records - unsent, SETTLE);
        run
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// What one run of the daemon came to.
struct Run {
    seconds: f64,
    /// When all that was waited for as replayed had arrived, in seconds.
    drained: Option<f64>,
    records: u64,
    unsent: u64,
    /// Delivered and dropped.
    frames: (u64, u64),
    /// Half, ninety-nine of a hundred, all took no longer.
    commit_us: (u64, u64, u64),
    memory: Vec<f64>,
    arrived: Arrived,
}

impl Run {
    /// Prints the figures; whether nothing was lost.
    fn report(&self, site: &Site, asked_per_s: f64) -> bool {
        let reader = Reader::open(&site.database()).unwrap();
        let mut verdicts = std::collections::BTreeMap::<String, u64>::new();
        let mut missing = 0;
        for record in reader.list(&Filter::default()).unwrap() {
            let look = record.inspection().unwrap();
            let why = look.verdict.reasons.first().map_or("", |reason| &reason.code).to_owned();
            *verdicts.entry(format!("{} {why}", look.verdict.outcome.as_str())).or_default() += 1;
            missing += u64::from(!self.arrived.results.contains_key(&look.result_id));
        }
        let chain = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).unwrap();
        let broken = chain.first_break().map(|first| format!("{first:?}"));
        let (p50, p99, max) = self.commit_us;
        let middle = self.memory.len() / 2;
        let most = |some: &[f64]| some.iter().copied().fold(0.0, f64::max);
        let rate = self.records as f64 / self.seconds;
        println!(
            "records        {} in {:.0} s: {rate:.0}/s of {asked_per_s:.0}",
            self.records, self.seconds
        );
        println!("verdicts       {verdicts:?}");
        println!("frames         {} delivered, {} dropped", self.frames.0, self.frames.1);
        println!("commit         p50 {p50} us, p99 {p99} us, longest {max} us");
        println!("to subscriber  {}", self.arrived.delays());
        println!(
            "memory         {:.0} MB at most in the first half, {:.0} MB in the second",
            most(&self.memory[..middle]),
            most(&self.memory[middle..])
        );
        println!(
            "delivery       {} arrived, {} of them again, {missing} missing, {} unsent",
            self.arrived.results.len(),
            self.arrived.copies,
            self.unsent
        );
        println!("chain          {}", broken.as_deref().unwrap_or("whole"));
        missing == 0 && self.unsent == 0 && broken.is_none()
    }
}

fn resident_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1.024 / 1000.0)
}
