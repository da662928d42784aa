//! The whole line with the real binary: footage in, verdicts, records and messages out, while the
//! broker dies, a signal arrives, or the pictures come over RTSP.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use inspectd::evaluate::truth::{Truth, read_labels, read_set};
use inspectd::simulate::footage::{FootageOptions, write_footage};
use inspectd::simulate::{Mix, SetOptions, write_set};
use inspectd::store::{Filter, Reader, Record};
use inspectd::verdict::{Outcome, Seen};

use crate::support::mosquitto::{DEADLINE, Gate, Mosquitto, Subscriber};
use crate::support::rtsp::RtspServer;
use crate::support::station::Site;

/// Footage with its truth.
struct Footage {
    _dir: tempfile::TempDir,
    file: PathBuf,
    truths: Vec<Truth>,
}

fn footage(parts: u32) -> Footage {
    footage_at(parts, 240.0)
}

fn footage_at(parts: u32, speed_mm_per_s: f64) -> Footage {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("line.mkv");
    let options = FootageOptions { parts, seed: 4711, speed_mm_per_s, out: file.clone() };
    let written = write_footage(&options, |_, _| {}).expect("footage is written");
    let truths = read_labels(&written.truth).expect("truth is readable");
    assert_eq!(truths.len(), parts as usize);
    Footage { _dir: dir, file, truths }
}

/// A daemon that is killed if its test ends early.
struct Daemon(Child);

impl Daemon {
    fn start(site: &Site, more: &[&str]) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_inspectd"))
            .args(["run", "--config"])
            .arg(&site.file)
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        Daemon(child)
    }

    fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.0.id()).expect("a process number");
        // SAFETY: sends a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for the end and answers the exit code.
    fn end(&mut self) -> Option<i32> {
        self.0.wait().expect("the daemon ends").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn records(site: &Site) -> Vec<Record> {
    let reader = Reader::open(&site.database()).expect("the log is readable");
    reader.list(&Filter::default()).expect("records are readable")
}

/// Waits until the log holds `count` records.
fn wait_for_records(site: &Site, count: usize) {
    let until = Instant::now() + 4 * DEADLINE;
    while Instant::now() < until {
        if site.database().exists()
            && let Ok(reader) = Reader::open(&site.database())
            && reader.count(&Filter::default()).is_ok_and(|there| there >= count as u64)
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {count} records");
}

/// Takes every frame: nothing depends on how fast this machine is.
fn lossless(site: &Site) {
    site.edit("repeat = false\n", "repeat = false\nrealtime = false\n");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
}

/// Records must say what the footage shows, but for what a small model may misread.
fn compare(records: &[Record], truths: &[Truth]) {
    assert_eq!(records.len(), truths.len());
    let right =
        records.iter().zip(truths).filter(|(record, truth)| record.verdict == truth.verdict);
    let right = right.count();
    assert!(right * 10 >= truths.len() * 8, "{right} of {} verdicts right", truths.len());
    let escaped = records.iter().zip(truths).filter(|(record, truth)| {
        truth.verdict == Outcome::Fail && record.verdict == Outcome::Pass
    });
    assert!(escaped.count() * 10 <= truths.len(), "too many bad parts passed");
}

/// A site whose station looks at a folder of `count` labelled pictures, each of them a part.
fn picture_site(count: u64, broker: Option<u16>) -> (Site, Vec<Truth>) {
    let site = Site::new(Path::new("/nowhere/line.mkv"), broker);
    let out = site.dir.path().join("set");
    let mix = Mix::default();
    let options = SetOptions { count, seed: 4711, dense: false, mix, out: out.clone() };
    write_set(&options, |_| {}).expect("a set is written");
    let truths = read_set(&out).expect("labels");
    site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
    site.edit("kind = \"presence\"", "kind = \"every_frame\"");
    site.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
    lossless(&site);
    (site, truths)
}

#[test]
fn a_broker_that_dies_in_the_middle_loses_nothing() {
    let mut broker = Mosquitto::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // The gate stays shut until the subscriber is back: a broker without memory acknowledges what
    // it can hand to nobody, and no publisher can prevent that.
    let gate = runtime.block_on(Gate::start(broker.port()));
    let (site, truths) = picture_site(50, Some(gate.port()));
    let subscriber = runtime.block_on(Subscriber::start(broker.port()));
    let mut daemon = Daemon::start(&site, &["--parts", "50"]);
    runtime.block_on(subscriber.wait("some results", |seen| seen.under("result").len() >= 10));
    gate.shut();
    broker.kill();
    // Dead while at least as many parts are decided as make a real gap.
    wait_for_records(&site, 35);
    broker.restart();
    runtime.block_on(subscriber.wait("the new subscription", |seen| seen.subscribed >= 2));
    gate.open();
    assert_eq!(daemon.end(), Some(0));
    let distinct = |results: Vec<serde_json::Value>| {
        results.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len()
    };
    let seen = runtime
        .block_on(subscriber.wait("50 results", |seen| distinct(seen.results("result_id")) == 50));
    let records = records(&site);
    compare(&records, &truths);
    let told: BTreeSet<String> =
        seen.results("result_id").iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    let kept: BTreeSet<String> = records.into_iter().map(|record| record.result_id).collect();
    assert_eq!(told, kept, "what was told is what was recorded");
}

#[test]
fn rtsp_is_inspected_like_the_file() {
    let footage = footage(4);
    let server = RtspServer::start(&footage.file);
    let site = Site::new(&footage.file, None);
    let uri = format!("uri = \"file://{}\"", footage.file.display());
    site.edit(&uri, &format!("uri = \"{}\"", server.uri()));
    site.edit("repeat = false\n", "");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    site.edit("queue_parts = ", "queue_parts = 16 # was ");
    let mut daemon = Daemon::start(&site, &["--parts", "4"]);
    assert_eq!(daemon.end(), Some(0));
    let told: Vec<Record> = records(&site);
    assert_eq!(told.len(), 4);
    // The server may be joined in the middle of a part; what was seen whole must be in the footage.
    let serials: BTreeSet<&String> =
        footage.truths.iter().filter_map(|truth| truth.serial.as_ref()).collect();
    let read = told.iter().filter_map(|record| record.serial.as_ref());
    let known = read.filter(|serial| serials.contains(serial)).count();
    assert!(known >= 2, "{told:?}");
}

#[test]
fn a_signal_ends_it_cleanly_with_every_record_whole() {
    let (site, _) = picture_site(40, None);
    let mut daemon = Daemon::start(&site, &[]);
    wait_for_records(&site, 3);
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.end(), Some(0));
    let records = records(&site);
    assert!(records.len() >= 3);
    for (at, record) in records.iter().enumerate() {
        let inspection = record.inspection().expect("whole");
        assert_eq!(inspection.job_id, at as u64 + 1, "no trigger is without its record");
        let stopped = inspection.verdict.reasons.iter().any(|reason| reason.code == "stopped");
        assert!(!stopped || inspection.verdict.outcome == Outcome::Review);
    }
    // A second run counts on.
    let mut again = Daemon::start(&site, &["--parts", "2"]);
    assert_eq!(again.end(), Some(0));
    let more = self::records(&site);
    assert_eq!(more.len(), records.len() + 2);
    assert_eq!(more[records.len()].job_id, more.len() as i64 - 1);
}

/// Footage, the presence trigger, three frames of each part, the built-in model, and one record a part.
#[test]
fn the_frames_of_a_part_vote() {
    let footage = footage_at(2, 120.0);
    let site = Site::new(&footage.file, None);
    lossless(&site);
    site.edit("[camera]", "[vote]\nframes = 3\nagree = 2\n\n[camera]");
    let mut daemon = Daemon::start(&site, &[]);
    assert_eq!(daemon.end(), Some(0));
    let records = records(&site);
    assert_eq!(records.len(), footage.truths.len());
    for (record, truth) in records.iter().zip(&footage.truths) {
        let escaped = truth.verdict == Outcome::Fail && record.verdict == Outcome::Pass;
        assert!(!escaped, "part {} passed", record.job_id);
        let look = record.inspection().expect("whole");
        let own = look.frame_sequence.expect("it was seen");
        let of = |other: Option<u64>| other.unwrap_or(own);
        let mut kept: Vec<u64> = look.evidence.iter().map(|crop| of(crop.frame_sequence)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [kept[0], kept[0] + 1, kept[0] + 2], "three frames, one after the other");
        let asked: Vec<u64> = look.questions.iter().map(|one| of(one.frame_sequence)).collect();
        assert_eq!(asked[..2], [own, own], "the best frame first");
        assert!((4..=6).contains(&asked.len()), "{asked:?}");
        assert!(asked.iter().all(|frame| kept.contains(frame)));
        let serials = look.findings.iter().filter(|one| matches!(one.seen, Seen::Serial { .. }));
        assert_eq!(serials.count(), 1, "what they say is joined");
    }
}

#[test]
fn a_queue_without_room_makes_records_not_silence() {
    let footage = footage(2);
    let site = Site::new(&footage.file, None);
    // Every frame triggers, in real time, and one part may wait: more come than can be asked about.
    site.edit("kind = \"presence\"", "kind = \"every_frame\"");
    site.edit("queue_parts = ", "queue_parts = 1 # was ");
    let mut daemon = Daemon::start(&site, &[]);
    assert_eq!(daemon.end(), Some(0), "the end of the footage is the end of the run");
    let records = records(&site);
    // On a slow machine a part may be late; then it has an update as well.
    let is_first =
        |record: &&Record| record.inspection().expect("whole").timeliness.updates.is_none();
    let first: Vec<&Record> = records.iter().filter(is_first).collect();
    let mut jobs: Vec<i64> = first.iter().map(|record| record.job_id).collect();
    jobs.sort_unstable();
    let all: Vec<i64> = (1..=first.len() as i64).collect();
    assert_eq!(jobs, all, "each trigger has its one record");
    assert!(!records.is_empty());
    let full: Vec<_> = records
        .iter()
        .map(|record| record.inspection().expect("whole"))
        .filter(|one| one.verdict.reasons.iter().any(|reason| reason.code == "queue_full"))
        .collect();
    // How many find no room is a matter of this machine's speed; what becomes of them is not.
    assert!(full.iter().all(|one| one.verdict.outcome == Outcome::Review));
}

#[test]
fn the_demo_keeps_its_promise() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["demo", "--parts", "4", "--speed", "120", "--dir"])
        .arg(dir.path())
        .output()
        .expect("the demo starts");
    let text = String::from_utf8_lossy(&output.stdout);
    if cfg!(feature = "demo-broker") {
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("4 records, 4 acknowledged"), "{text}");
    } else {
        assert_eq!(output.status.code(), Some(1));
    }
    let left = |path: &Path| path.read_dir().expect("readable").count();
    assert!(left(dir.path()) >= 1);
}
