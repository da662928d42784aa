//! Footage: what is recorded comes back, frame by frame and part by part, whatever happens to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::clock::Stamp;
use inspectd::footage::index::segment_path;
use inspectd::footage::{
    Bounds, Film, FilmOptions, INDEX, Item, Order, Quality, Reel, Subject, Summary,
};
use inspectd::frame::{Colours, Form, Frame, Matrix, Picture, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::simulate::footage::{FootageOptions, write_footage};

use crate::support::mosquitto::{DEADLINE, Mosquitto};
use crate::support::plc::{self, Controller};
use crate::support::shift::{Shift, record, records, told};
use crate::support::station::Site;

fn at(ms: u64) -> Stamp {
    let wall = jiff::Timestamp::from_millisecond(1_790_000_000_000 + ms as i64).expect("a time");
    Stamp { wall, monotonic_ns: 5_000_000_000 + ms * 1_000_000 }
}

/// A picture without two equal neighbours: nothing of it is easy to encode.
fn noise(width: u32, height: u32, seed: u64) -> Rgb8 {
    let mut picture = Rgb8::new(width, height);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut picture.data {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    picture
}

fn frame(sequence: u64, ms: u64, picture: impl Into<Picture>) -> Arc<Frame> {
    let picture = picture.into();
    let (camera, captured) = ("press".into(), at(ms));
    Arc::new(Frame { sequence, camera, captured, pipeline_ns: Some(ms), picture })
}

fn film(dir: &Path, quality: Quality, bounds: Bounds) -> Film {
    let subject =
        Subject { device: "box".into(), station: "press".into(), config_sha256: "c".into() };
    Film::begin(dir, subject, FilmOptions { quality, bounds, patient: true }).expect("it begins")
}

const NO_BOUNDS: Bounds = Bounds { max_bytes: None, keep_free_bytes: 0 };

fn play(dir: &Path) -> Vec<Item> {
    let (mut reel, _) = Reel::open(dir).expect("footage opens");
    let mut items = Vec::new();
    while let Some(item) = reel.next_item().expect("the index is good") {
        items.push(item);
    }
    items
}

fn frames(items: &[Item]) -> Vec<Arc<Frame>> {
    let frame = |item: &Item| match item {
        Item::Frame(frame) => Some(Arc::clone(frame)),
        _ => None,
    };
    items.iter().filter_map(frame).collect()
}

#[test]
fn lossless_footage_brings_each_byte_and_all_that_happened_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let film = film(dir.path(), Quality::Lossless, NO_BOUNDS);
    let mut put = Vec::new();
    // Odd sizes, holes in the numbers, another size in the middle, times far apart.
    for (n, (width, height)) in
        [(33, 17), (33, 17), (33, 17), (64, 48), (641, 31), (641, 31)].into_iter().enumerate()
    {
        let n = n as u64;
        if n == 2 {
            film.lost("stalled", "no frame for 3 s", at(70));
            film.back(at(80));
            let trigger = serde_json::json!({"trigger_id": 7, "part_id": "A-1"});
            film.order(Order { asked: at(81), trigger });
        }
        let frame = frame(n * 3 + 1, n * 100, noise(width, height, n + 1));
        film.frame(&frame);
        put.push(frame);
    }
    film.ended(at(600));
    let totals = film.end("the test is over", at(601));
    assert_eq!((totals.frames, totals.dropped, totals.ended), (6, 0, None));

    let summary = Summary::read(dir.path()).expect("readable");
    assert_eq!((summary.frames, summary.segments, summary.losses, summary.orders), (6, 3, 1, 1));
    assert_eq!((summary.header.width, summary.header.height), (33, 17));
    assert_eq!(summary.ended.as_deref(), Some("the test is over"));
    assert_eq!(summary.skipped, 8, "two between two frames, but not over the loss");
    let items = play(dir.path());
    let kinds: String = items
        .iter()
        .map(|item| match item {
            Item::Frame(_) => 'f',
            Item::Lost { .. } => 'l',
            Item::Back { .. } => 'b',
            Item::Order(_) => 'o',
            Item::Eye(_) => 'p',
            Item::Ended { .. } => 'e',
            Item::Gap { .. } => 'g',
        })
        .collect();
    assert_eq!(kinds, "fflboffffe");
    let back = frames(&items);
    for (put, back) in put.iter().zip(&back) {
        assert_eq!((put.sequence, put.captured), (back.sequence, back.captured));
        assert_eq!(put.pipeline_ns, back.pipeline_ns);
        assert!(put.picture == back.picture, "frame {} differs", put.sequence);
    }
}

/// Every form that a camera gives, with sides that are odd and rows that need padding elsewhere.
#[test]
fn lossless_footage_brings_every_form_of_pixels_back() {
    let colours = [
        Colours { matrix: Matrix::Bt601, is_full_range: false },
        Colours { matrix: Matrix::Bt709, is_full_range: true },
        Colours::JPEG,
    ];
    for form in Form::ALL {
        let dir = tempfile::tempdir().expect("a folder");
        let film = film(dir.path(), Quality::Lossless, NO_BOUNDS);
        let mut put = Vec::new();
        // Of an odd row of pairs one byte stands for nothing.
        let odd = if form == Form::Yuy2 { (642, 483) } else { (641, 483) };
        for (n, size) in [(64, 48), (66, 50), odd].into_iter().enumerate() {
            let bytes: usize =
                form.planes(size.0, size.1).iter().map(|(row, rows)| row * rows).sum();
            let mut data = noise(size.0, size.1 * 2, 9 + n as u64).data;
            data.truncate(bytes);
            let picture = Picture::new(form, colours[n], size, data).expect("as many bytes");
            let frame = frame(n as u64 + 1, n as u64 * 40, picture);
            film.frame(&frame);
            put.push(frame);
        }
        let totals = film.end("done", at(400));
        assert_eq!((totals.frames, totals.ended), (3, None), "{form:?}");
        let items = play(dir.path());
        let back = frames(&items);
        assert_eq!(back.len(), 3, "{form:?}: {items:?}");
        for (put, back) in put.iter().zip(&back) {
            assert!(put.picture == back.picture, "{:?} is not {:?}", back.picture, put.picture);
        }
    }
}

#[test]
fn high_quality_is_close_and_needs_no_libav() {
    let dir = tempfile::tempdir().expect("a folder");
    let film = film(dir.path(), Quality::High, NO_BOUNDS);
    let belt = inspectd::simulate::belt::Belt::new(7, 1, 240.0).expect("a belt");
    for n in 0..10 {
        film.frame(&frame(n + 1, n * 33, belt.frame(n)));
    }
    assert_eq!(film.end("done", at(400)).frames, 10);
    for (n, frame) in frames(&play(dir.path())).iter().enumerate() {
        let drawn = belt.frame(n as u64);
        let differs: u64 = (drawn.data.iter().zip(&frame.picture.rgb().data))
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        let mean = differs as f64 / drawn.data.len() as f64;
        assert!(mean < 5.0, "frame {n} differs by {mean:.1} levels");
    }
}

#[test]
fn footage_is_not_written_over_and_ends_at_its_bounds() {
    let dir = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { max_bytes: Some(200_000), keep_free_bytes: 0 };
    let film = film(dir.path(), Quality::High, bounds);
    let limit = Instant::now() + DEADLINE;
    let mut n = 0;
    while !film.has_ended() {
        assert!(Instant::now() < limit, "the bound is never met");
        n += 1;
        film.frame(&frame(n, n * 33, noise(160, 120, n)));
    }
    let totals = film.end("", at(0));
    let why = totals.ended.clone().expect("it ended by itself");
    assert!(why.contains("has reached its"), "{why}");
    assert!(totals.bytes < 1_000_000, "{totals:?}");
    assert_eq!(frames(&play(dir.path())).len() as u64, totals.frames);
    let subject =
        || Subject { device: "box".into(), station: "press".into(), config_sha256: "c".into() };
    let options = FilmOptions { quality: Quality::High, bounds: NO_BOUNDS, patient: true };
    let again = Film::begin(dir.path(), subject(), options).err().expect("refused");
    assert!(again.to_string().contains("holds footage already"), "{again}");
    let full = Bounds { max_bytes: None, keep_free_bytes: u64::MAX };
    let options = FilmOptions { bounds: full, ..options };
    let full = Film::begin(&dir.path().join("other"), subject(), options).err().expect("refused");
    assert!(full.to_string().contains("to stay free"), "{full}");
}

#[test]
fn a_camera_is_never_held_up_and_what_is_dropped_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let subject =
        Subject { device: "box".into(), station: "press".into(), config_sha256: "c".into() };
    let options = FilmOptions { quality: Quality::Lossless, bounds: NO_BOUNDS, patient: false };
    let film = Film::begin(dir.path(), subject, options).expect("it begins");
    let picture = noise(1280, 720, 1);
    let many = 200;
    for n in 1..=many {
        film.frame(&frame(n, n * 33, picture.clone()));
    }
    let totals = film.end("done", at(0));
    assert!(totals.dropped > 0, "no encoder takes so many at once: {totals:?}");
    assert_eq!((totals.frames + totals.dropped, totals.lines_lost), (many, 0));
    let summary = Summary::read(dir.path()).expect("readable");
    assert_eq!((summary.frames, summary.dropped), (totals.frames, totals.dropped));
    assert_eq!(summary.skipped, 0);
}

#[test]
fn a_missing_segment_is_an_error_and_a_short_one_a_gap() {
    let dir = tempfile::tempdir().expect("a folder");
    let film = film(dir.path(), Quality::High, NO_BOUNDS);
    for n in 0..40 {
        film.frame(&frame(n + 1, n * 1000, noise(320, 240, n)));
    }
    film.end("done", at(0));
    let first = segment_path(dir.path(), 1);
    let bytes = std::fs::read(&first).expect("readable");
    std::fs::write(&first, &bytes[..bytes.len() / 2]).expect("written");
    let items = play(dir.path());
    let missing: u64 = items
        .iter()
        .map(|item| match item {
            Item::Gap { frames, .. } => *frames,
            _ => 0,
        })
        .sum();
    let there = frames(&items);
    assert_eq!(there.len() as u64 + missing, 40);
    assert!((1..10).contains(&missing), "half of the first of four segments: {missing}");
    assert!(there.iter().any(|frame| frame.sequence == 40), "what follows is played");
    std::fs::remove_file(&first).expect("removed");
    let error = Reel::open(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("000001.mkv is missing"), "{error}");
}

/// A site that looks at footage of the simulated line, every frame of it.
fn belt_site(parts: u32) -> (tempfile::TempDir, Site) {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("line.mkv");
    let options = FootageOptions { parts, seed: 4711, speed_mm_per_s: 240.0, out: out.clone() };
    write_footage(&options, |_, _| {}).expect("footage is written");
    let site = Site::new(&out, None);
    site.edit("repeat = false\n", "repeat = false\nrealtime = false\n");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    (dir, site)
}

#[test]
fn a_shift_is_played_again_part_by_part() {
    let (_line, site) = belt_site(4);
    let shift = site.dir.path().join("shift");
    let summary = Shift::start(&site, Some(record(&shift, Quality::Lossless))).wait();
    let live = records(&site.database());
    assert_eq!(live.len(), 4, "{:?}", told(&live));
    assert!(live.iter().all(|one| !one.evidence.is_empty()));
    let kept = Summary::read(&shift.join("demo")).expect("readable");
    assert_eq!((kept.frames, kept.dropped), (summary.frames_delivered, 0));

    // As fast as the model takes it, twice, and once in real time.
    for (n, realtime) in [(1, false), (2, false), (3, true)] {
        let into = site.dir.path().join(format!("again-{n}"));
        let again = Shift::play(&site, &shift, &into, realtime).wait();
        let played = records(&into.join("inspectd.db"));
        assert_eq!(told(&played), told(&live), "realtime: {realtime}");
        assert_eq!(again.frames_delivered, summary.frames_delivered);
        assert!(played.iter().all(|one| one.is_simulated), "a replay is no production");
    }
    // The recorded times, but for the shift.
    let apart = |records: &[Inspection]| -> Vec<u64> {
        let captured: Vec<u64> = (records.iter())
            .filter_map(|one| one.times.captured.map(|captured| captured.monotonic_ns))
            .collect();
        captured.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let again = records(&site.dir.path().join("again-1/inspectd.db"));
    assert_eq!(apart(&again), apart(&live));
}

#[test]
fn parts_that_were_asked_for_are_asked_for_again() {
    let broker = Mosquitto::start();
    let site = plc::site(broker.port(), "[plc]");
    // Its encoder is waited for, however slow it is: a frame that was dropped cannot be played.
    site.edit("repeat = true", "repeat = true\nrealtime = false");
    let shift = site.dir.path().join("shift");
    let controller = Controller::new(&broker);
    let running = Shift::start(&site, Some(record(&shift, Quality::Lossless)));
    controller.wait_ready();
    for id in 1..=6 {
        let reply = controller.trigger(id, "");
        assert_eq!(reply["accepted"], true, "{reply}");
        controller.result("its result", |result| result["trigger_id"] == id);
    }
    // One that comes twice is one part.
    controller.send("trigger", r#"{"trigger_id":6,"part_id":"P6"}"#);
    running.end();
    let live = records(&site.database());
    assert_eq!(live.len(), 6);
    let kept = Summary::read(&shift.join("demo")).expect("readable");
    assert_eq!((kept.orders, kept.dropped), (6, 0));

    let into = site.dir.path().join("again");
    Shift::play(&site, &shift, &into, false).wait();
    let played = records(&into.join("inspectd.db"));
    assert_eq!(told(&played), told(&live));
    let pictures: std::collections::BTreeSet<_> =
        live.iter().map(|one| one.frame_sequence).collect();
    assert!(!pictures.is_empty() && live.iter().all(|one| one.trigger_id.is_some()));
    let into = site.dir.path().join("again-in-real-time");
    Shift::play(&site, &shift, &into, true).wait();
    assert_eq!(told(&records(&into.join("inspectd.db"))), told(&live));
}

#[test]
fn footage_of_another_station_is_refused() {
    let (_line, site) = belt_site(1);
    let dir = site.dir.path().join("strange");
    film(&dir, Quality::High, NO_BOUNDS).frame(&frame(1, 1, noise(64, 48, 1)));
    let output = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["run", "--config"])
        .arg(&site.file)
        .arg("--from")
        .arg(&dir)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("station \"press\", which is not configured"), "{said}");
}

/// `inspectd record` of a site, killed if its test ends early.
struct Recording(Child);

impl Recording {
    fn start(site: &Site, more: &[&str]) -> Recording {
        let child = Command::new(env!("CARGO_BIN_EXE_inspectd"))
            .args(["record", "--keep-free-gb", "0", "--config"])
            .arg(&site.file)
            .arg("--out")
            .arg(site.dir.path().join("shift"))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the recording starts");
        Recording(child)
    }

    fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.0.id()).expect("a process number");
        // SAFETY: sends a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until the index of the station tells of `count` frames.
    fn wait_for_frames(&self, dir: &Path, count: u64) {
        let limit = Instant::now() + DEADLINE;
        loop {
            let there = dir.join(INDEX).exists();
            if there && Summary::read(dir).is_ok_and(|summary| summary.frames >= count) {
                return;
            }
            assert!(Instant::now() < limit, "waited in vain for {count} frames");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A site with a folder of small pictures that is shown again and again, as fast as it is taken.
fn small_site(realtime: bool, broker: Option<u16>) -> Site {
    let site = match broker {
        Some(port) => plc::site(port, "[plc]"),
        None => {
            let site = Site::new(Path::new("/nowhere/line.mkv"), None);
            std::fs::create_dir(site.dir.path().join("set")).expect("made");
            site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
            site.edit("repeat = false", "repeat = true");
            site.edit("kind = \"presence\"", "kind = \"every_frame\"");
            site
        }
    };
    for n in 0..50 {
        let path = site.dir.path().join(format!("set/{n:03}.png"));
        inspectd::frame::file::write_png(&path, &noise(64, 48, n)).expect("written");
    }
    if !realtime {
        site.edit("repeat = true", "repeat = true\nrealtime = false");
    }
    site
}

#[test]
fn a_kill_leaves_what_was_there() {
    let site = small_site(false, None);
    let dir = site.dir.path().join("shift/demo");
    let recording = Recording::start(&site, &["--quality", "lossless"]);
    // A segment ends after 600 frames: one is whole, the next one is not.
    recording.wait_for_frames(&dir, 700);
    recording.signal(libc::SIGKILL);
    drop(recording);
    let summary = Summary::read(&dir).expect("readable");
    assert_eq!(summary.ended, None, "it was cut off");
    assert!(summary.segments >= 2 && summary.frames >= 700, "{summary:?}");
    let items = play(&dir);
    let there = frames(&items);
    let whole = u64::from(summary.segments - 1) * 600;
    assert!(there.len() as u64 >= whole, "{} of {whole}", there.len());
    for (n, frame) in there.iter().enumerate() {
        // Pictures repeat after 50, with new numbers each time.
        assert_eq!(frame.sequence, n as u64 % 50 + 1);
        assert!(*frame.picture.rgb() == noise(64, 48, n as u64 % 50), "frame {n} is another");
    }
    let shown = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["footage", "show"])
        .arg(site.dir.path().join("shift"))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && said.contains("cut off"), "{said}");
}

#[test]
fn a_signal_ends_a_recording_in_good_order() {
    let site = small_site(false, None);
    let dir = site.dir.path().join("shift/demo");
    let mut recording = Recording::start(&site, &[]);
    recording.wait_for_frames(&dir, 20);
    recording.signal(libc::SIGTERM);
    assert!(recording.0.wait().expect("it ends").success());
    let summary = Summary::read(&dir).expect("readable");
    assert_eq!(summary.ended.as_deref(), Some("a signal came"));
    assert_eq!(frames(&play(&dir)).len() as u64, summary.frames);
}

#[test]
fn a_recording_that_is_full_says_so() {
    let site = small_site(false, None);
    let recording = Recording::start(&site, &["--max-gb", "0.0005"]);
    let mut child = recording;
    let status = child.0.wait().expect("it ends");
    let mut said = String::new();
    std::io::Read::read_to_string(child.0.stderr.as_mut().expect("piped"), &mut said)
        .expect("text");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("ended early") && said.contains("has reached its 0.00 GB"), "{said}");
    let dir = site.dir.path().join("shift/demo");
    assert!(Summary::read(&dir).expect("readable").ended.is_some(), "and closed well");
}

#[test]
fn a_recording_beside_the_line_hears_the_triggers() {
    let broker = Mosquitto::start();
    let site = small_site(true, Some(broker.port()));
    let mut recording = Recording::start(&site, &[]);
    let lines = BufReader::new(recording.0.stderr.take().expect("piped")).lines();
    let heard = lines.map_while(Result::ok).any(|line| line.contains("Triggers are heard"));
    assert!(heard, "the broker grants the subscription");
    let controller = Controller::new(&broker);
    controller.send("trigger", r#"{"trigger_id":1,"part_id":"P1"}"#);
    controller.send("trigger", "no JSON at all");
    controller.send("trigger", r#"{"trigger_id":2}"#);
    let dir = site.dir.path().join("shift/demo");
    let limit = Instant::now() + DEADLINE;
    while !dir.join(INDEX).exists() || Summary::read(&dir).is_ok_and(|summary| summary.orders < 2) {
        assert!(Instant::now() < limit, "the triggers are not in the index");
        std::thread::sleep(Duration::from_millis(20));
    }
    recording.wait_for_frames(&dir, 10);
    recording.signal(libc::SIGINT);
    assert!(recording.0.wait().expect("it ends").success());
    // Nobody answered, and a replay asks for both parts.
    let into = site.dir.path().join("again");
    Shift::play(&site, &site.dir.path().join("shift"), &into, false).wait();
    let played = records(&into.join("inspectd.db"));
    let ids: Vec<String> =
        played.iter().filter_map(|one| Some(one.trigger_id.as_ref()?.to_string())).collect();
    assert_eq!(ids, ["1", "2"]);
}
