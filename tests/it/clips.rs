//! The seconds around a bad part: kept in bounded memory, written as footage, and removed in turn.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inspectd::clock::{Clock, Stamp, SystemClock};
use inspectd::footage::clips::{self, ClipOptions, Clips, Told, Workshop};
use inspectd::footage::index::Mark;
use inspectd::footage::{INDEX, Item, Reel, Subject, Summary};
use inspectd::frame::Frame;
use inspectd::simulate::belt::Belt;
use inspectd::verdict::Outcome;

use crate::support::mosquitto::{DEADLINE, Mosquitto};
use crate::support::plc::{self, Controller, Running, Say};

/// Clips with a hand on everything around them.
struct Bench {
    dir: tempfile::TempDir,
    clips: Clips,
    told: Arc<Mutex<Vec<Told>>>,
    has_room: Arc<AtomicBool>,
    belt: Belt,
    begun: Stamp,
}

fn options() -> ClipOptions {
    ClipOptions {
        before: Duration::from_millis(500),
        after: Duration::from_millis(300),
        frames_per_s: 100.0,
        ..ClipOptions::default()
    }
}

impl Bench {
    fn new(options: ClipOptions) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let (told, has_room) =
            (Arc::<Mutex<Vec<Told>>>::default(), Arc::new(AtomicBool::new(true)));
        let (hears, room) = (Arc::clone(&told), Arc::clone(&has_room));
        let workshop = Workshop {
            subject: Subject {
                device: "box".into(),
                station: "press".into(),
                config_sha256: "c".into(),
            },
            dir: dir.path().to_owned(),
            latest: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
            has_room: Box::new(move || room.load(Ordering::SeqCst)),
            tell: Box::new(move |what| hears.lock().expect("no panic").push(what)),
        };
        let clips = Clips::begin(options, workshop).expect("it begins");
        let belt = Belt::new(7, 1, 240.0).expect("a belt");
        Bench { dir, clips, told, has_room, belt, begun: SystemClock.now() }
    }

    fn at(&self, ms: u64) -> Stamp {
        let monotonic_ns = self.begun.monotonic_ns + ms * 1_000_000;
        let wall = self.begun.wall + Duration::from_millis(ms);
        Stamp { wall, monotonic_ns }
    }

    /// Shows frames `numbers`, one each 20 ms of its own time, and waits until each is encoded.
    fn show(&self, numbers: std::ops::Range<u64>) {
        for n in numbers {
            let before = self.clips.counts();
            let captured = self.at(n * 20);
            let picture = self.belt.frame(n % self.belt.frame_count());
            let camera = "press".into();
            let picture = picture.into();
            let frame = Frame { sequence: n, camera, captured, pipeline_ns: None, picture };
            self.clips.offer(&Arc::new(frame));
            assert_eq!(self.clips.counts().dropped, before.dropped);
            self.wait("the frame is kept", |counts| counts.waiting == 0);
        }
    }

    fn mark(&self, job_id: u64, ms: u64) -> String {
        let result_id = format!("0190-{job_id}");
        let mark = Mark {
            result_id: result_id.clone(),
            job_id,
            part_id: format!("{job_id}"),
            verdict: "fail".into(),
            frame_sequence: Some(ms / 20),
            at: self.at(ms),
        };
        let name = clips::name(&mark);
        self.clips.mark(Outcome::Fail, || mark);
        name
    }

    fn wait(&self, what: &str, holds: impl Fn(clips::ClipCounts) -> bool) {
        let limit = Instant::now() + DEADLINE;
        while !holds(self.clips.counts()) {
            assert!(Instant::now() < limit, "{what} did not come true: {:?}", self.clips.counts());
            std::thread::yield_now();
        }
    }

    fn clips(&self) -> Vec<String> {
        names(self.dir.path())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("readable").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !name.starts_with('.')).collect::<BTreeSet<_>>().into_iter().collect()
}

fn sequences(dir: &Path) -> Vec<u64> {
    let (mut reel, _) = Reel::open(dir).expect("a clip is footage");
    let mut sequences = Vec::new();
    while let Some(item) = reel.next_item().expect("the index is good") {
        match item {
            Item::Frame(frame) => sequences.push(frame.sequence),
            other => panic!("{other:?}"),
        }
    }
    sequences
}

#[test]
fn the_seconds_before_and_after_are_written_under_the_records_name() {
    let bench = Bench::new(options());
    bench.show(0..50);
    let name = bench.mark(7, 900);
    bench.show(50..62);
    bench.wait("a clip", |counts| counts.written == 1);
    assert_eq!(bench.clips(), std::slice::from_ref(&name));
    assert!(name.ends_with("-job000007-0190-7"), "{name}");
    let clip = bench.dir.path().join(name);
    // 900 ms less 500 to 900 more 300, a frame each 20 ms.
    assert_eq!(sequences(&clip), (20..=60).collect::<Vec<_>>());
    let summary = Summary::read(&clip).expect("readable");
    assert_eq!(summary.marks.len(), 1);
    assert_eq!((summary.marks[0].job_id, summary.marks[0].frame_sequence), (7, Some(45)));
    assert_eq!(summary.ended.as_deref(), Some("its seconds were over"));
    // A pass gets none.
    bench.clips.mark(Outcome::Pass, || panic!("nobody asks for its name"));
    bench.clips.finish();
    assert_eq!(bench.clips.counts().written, 1);
    assert_eq!(*bench.told.lock().expect("no panic"), [Told::Written { path: clip, frames: 41 }]);
}

#[test]
fn two_that_are_close_share_a_clip_and_the_end_writes_what_is_there() {
    let bench = Bench::new(options());
    bench.show(0..40);
    let first = bench.mark(1, 700);
    bench.show(40..48);
    let second = bench.mark(2, 900);
    bench.show(48..55);
    bench.clips.finish();
    assert_eq!(
        bench.clips(),
        BTreeSet::from([first.clone(), second.clone()]).into_iter().collect::<Vec<_>>()
    );
    let link = std::fs::read_link(bench.dir.path().join(&second)).expect("another name");
    assert_eq!(link, PathBuf::from(&first));
    assert_eq!(sequences(&bench.dir.path().join(second)), (10..55).collect::<Vec<_>>());
    let summary = Summary::read(&bench.dir.path().join(first)).expect("readable");
    assert_eq!(summary.marks.iter().map(|mark| mark.job_id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(summary.ended.as_deref(), Some("the station stopped"));
    assert_eq!(inspectd::footage::find(bench.dir.path()).expect("footage").len(), 1);
}

#[test]
fn memory_is_bounded_whatever_is_asked_for() {
    let bound = 1 << 20;
    let bench = Bench::new(ClipOptions {
        before: Duration::from_secs(100),
        after: Duration::from_secs(100),
        memory_bytes: bound,
        ..options()
    });
    let mut marked = false;
    for n in 0..120 {
        let before = bench.clips.counts();
        bench.show(n..n + 1);
        let counts = bench.clips.counts();
        assert!(counts.memory_peak_bytes <= bound, "{counts:?}");
        if !marked && counts.memory_bytes > bound / 2 && before.memory_bytes < counts.memory_bytes {
            bench.mark(1, n * 20);
            marked = true;
        }
    }
    // What a clip still needed was written before it went.
    let counts = bench.clips.counts();
    assert!(counts.memory_peak_bytes > bound / 2 && counts.written >= 1, "{counts:?}");
    bench.clips.finish();
    let clip = bench.dir.path().join(&bench.clips()[0]);
    let summary = Summary::read(&clip).expect("readable");
    assert_eq!(summary.ended.as_deref(), Some("the memory was full"));
}

#[test]
fn a_busy_encoder_costs_frames_and_not_time() {
    let bench = Bench::new(options());
    let picture = bench.belt.frame(0);
    for n in 0..500 {
        let captured = bench.at(n * 20);
        let (camera, picture) = ("press".into(), picture.clone());
        let picture = picture.into();
        let frame = Frame { sequence: n, camera, captured, pipeline_ns: None, picture };
        bench.clips.offer(&Arc::new(frame));
    }
    let dropped = bench.clips.counts().dropped;
    assert!(dropped > 0, "500 frames at once cannot all be encoded");
    bench.clips.finish();
    assert_eq!(bench.clips.counts().failed, 0);
}

#[test]
fn the_rate_is_bounded() {
    let slow = Bench::new(ClipOptions {
        frames_per_s: 10.0,
        before: Duration::from_secs(2),
        after: Duration::from_secs(2),
        ..options()
    });
    let picture = slow.belt.frame(0);
    // 100 frames in two seconds: 20 are kept, and all are in the clip.
    for n in 0..100 {
        let captured = slow.at(n * 20);
        let (camera, picture) = ("press".into(), picture.clone().into());
        let frame = Frame { sequence: n, camera, captured, pipeline_ns: None, picture };
        slow.clips.offer(&Arc::new(frame));
        slow.wait("it is kept", |counts| counts.waiting == 0);
    }
    let name = slow.mark(1, 1000);
    slow.clips.finish();
    let kept = sequences(&slow.dir.path().join(name));
    assert_eq!(kept, (0..20).map(|n| n * 5).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_written_is_told_and_the_oldest_go() {
    let bench = Bench::new(options());
    bench.show(0..20);
    bench.has_room.store(false, Ordering::SeqCst);
    bench.mark(1, 200);
    bench.show(20..30);
    bench.wait("a failure", |counts| counts.failed == 1);
    assert!(bench.clips().is_empty());
    let told = bench.told.lock().expect("no panic").clone();
    assert!(matches!(&told[..], [Told::Failed(why)] if why.contains("disk is full")), "{told:?}");

    // Room for about one clip: the second one takes the place of the first.
    let bench = Bench::new(ClipOptions { max_bytes: 3 << 20, ..options() });
    bench.show(0..40);
    let first = bench.mark(1, 500);
    bench.show(40..45);
    bench.wait("a clip", |counts| counts.written == 1);
    assert_eq!(bench.clips(), [first]);
    bench.show(45..140);
    let second = bench.mark(2, 2500);
    bench.show(140..145);
    bench.wait("another", |counts| counts.written == 2);
    assert_eq!(bench.clips(), [second]);
}

#[test]
fn a_fail_of_a_running_station_has_its_clip() {
    let broker = Mosquitto::start();
    let site = plc::site(broker.port(), "[footage]\nbefore_s = 1.0\nafter_s = 0.2\n[plc]");
    let controller = Controller::new(&broker);
    let running = Running::start(&site);
    controller.wait_ready();
    // Two questions about each part.
    running.say(&[Say::Good, Say::Good, Say::Dent, Say::Dent]);
    controller.trigger(1, "");
    controller.result("a pass", |result| result["trigger_id"] == 1);
    controller.trigger(2, "");
    let fail = controller.result("a fail", |result| result["trigger_id"] == 2);
    assert_eq!(fail["verdict"], "fail", "{fail}");
    running.end();
    let dir = clips::folder(&site.dir.path().join("evidence"), "demo");
    let names = names(&dir);
    assert_eq!(names.len(), 1, "{names:?}");
    let result_id = fail["result_id"].as_str().expect("a text");
    assert!(names[0].ends_with(result_id), "{names:?}");
    let clip = dir.join(&names[0]);
    assert!(clip.join(INDEX).is_file() && !sequences(&clip).is_empty());
    let mark = &Summary::read(&clip).expect("readable").marks[0];
    assert_eq!((mark.part_id.as_str(), mark.verdict.as_str()), ("P2", "fail"));
}
