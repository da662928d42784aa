//! Parts that a photo eye has seen, in the real daemon: the lines are scripted, as no chip is at hand.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inspectd::clock::{Clock, SystemClock};
use inspectd::footage::{Quality, Summary};
use inspectd::hard::eye::Edges;
use inspectd::hard::gpio::{Chips, KernelChips, Line};
use inspectd::inspection::Inspection;
use inspectd::trigger::PhotoEyeOptions;
use inspectd::trigger::photo_eye::{Edge, Wire};
use inspectd::verdict::Outcome;

use crate::support::mosquitto::Mosquitto;
use crate::support::plc::{Controller, Running, log, site};
use crate::support::shift::{self, Shift};
use crate::support::station::Site;

/// Lines that tell what the test says, each time that they are opened anew.
#[derive(Clone, Debug)]
struct Script {
    told: flume::Sender<Result<Edge, String>>,
    read: flume::Receiver<Result<Edge, String>>,
    numbers: Arc<Mutex<[u32; 2]>>,
}

struct ScriptedEdges(Script);

impl Chips for Script {
    fn open(&self, _: &Path, _: u32, _: bool) -> Result<Box<dyn Line>, String> {
        Err("this chip has inputs alone".into())
    }

    fn watch(&self, eye: &PhotoEyeOptions) -> Result<Box<dyn Edges>, String> {
        assert_eq!(eye.chip, Path::new("/dev/gpiochip0"));
        *self.numbers.lock().expect("no panic") = [0; 2];
        Ok(Box::new(ScriptedEdges(self.clone())))
    }
}

impl Edges for ScriptedEdges {
    fn read(&mut self, at_most: Duration) -> Result<Vec<Edge>, String> {
        match self.0.read.recv_timeout(at_most) {
            Ok(told) => told.map(|edge| vec![edge]),
            Err(_) => Ok(vec![]),
        }
    }
}

impl Script {
    fn new() -> Script {
        let (told, read) = flume::unbounded();
        Script { told, read, numbers: Arc::default() }
    }

    /// An edge, now; the kernel dropped `lost` before it.
    fn edge(&self, wire: Wire, is_rising: bool, lost: u32) -> u64 {
        let at_ns = SystemClock.now().monotonic_ns;
        let mut numbers = self.numbers.lock().expect("no panic");
        let number = &mut numbers[usize::from(wire == Wire::Encoder)];
        *number += 1 + lost;
        let edge = Edge { wire, is_rising, at_ns, sequence: *number };
        self.told.send(Ok(edge)).expect("the daemon reads");
        at_ns
    }

    /// A part's front, now.
    fn part(&self) -> u64 {
        let at_ns = self.edge(Wire::Eye, true, 0);
        self.edge(Wire::Eye, false, 0);
        at_ns
    }
}

/// A site whose station has a photo eye; frames may be as late as they like.
fn eye_site(broker: &Mosquitto, more: &str) -> Site {
    let site = site(broker.port(), "[plc]\nheartbeat_ms = 60000");
    let eye = format!(
        "kind = \"photo_eye\"\nchip = \"/dev/gpiochip0\"\nline = 17\ndebounce_ms = 0\n{more}"
    );
    site.edit("kind = \"command\"\nframe_wait_ms = 60000", &eye);
    site
}

/// Why it was not looked at, which comes first, as what is missing follows from that; empty: it was.
fn reason(look: &Inspection) -> &str {
    look.verdict.reasons.first().map_or("", |reason| &reason.code)
}

#[test]
fn each_part_is_inspected_in_the_frame_of_its_due_moment_under_the_number_of_its_edge() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = eye_site(&broker, "delay_ms = 400\nframe_within_ms = 10000\n");
    let script = Script::new();
    let mut daemon = Running::start_with(&site, Some(Arc::new(script.clone())));
    daemon.let_go();
    plc.wait_ready();
    // All are between eye and camera before the first one is due.
    let fronts: Vec<u64> = (0..3).map(|_| script.part()).collect();
    for job_id in 1..=3u64 {
        plc.result("a result", |result| result["job_id"] == job_id);
    }
    let state = plc.wait("the state", |seen| !seen.under("state").is_empty());
    let state = crate::support::plc::newest(&state, "state").expect("told");
    assert_eq!(
        (&state["mode"], &state["state"]),
        (&"continuous".into(), &"Operational.ContinuousExecution".into())
    );
    daemon.end();
    let mut looks = log(&site);
    looks.sort_by_key(|look| look.job_id);
    assert_eq!(looks.len(), 3);
    for (look, front) in looks.iter().zip(fronts) {
        assert_eq!(look.times.triggered.monotonic_ns, front + 400_000_000, "due, by the edge");
        let shown = look.times.captured.expect("a frame").monotonic_ns;
        let off_ms = shown.abs_diff(front + 400_000_000) / 1_000_000;
        assert!(off_ms <= 10_000, "{off_ms} ms off");
        assert_eq!(look.part_id, format!("{:06}", look.job_id));
        assert_ne!(reason(look), "frame_lost", "{look:?}");
    }
}

#[test]
fn a_chip_that_goes_away_is_a_record_and_a_fault_until_it_is_back() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = eye_site(&broker, "delay_ms = 0\nframe_within_ms = 10000\n");
    let script = Script::new();
    let mut daemon = Running::start_with(&site, Some(Arc::new(script.clone())));
    daemon.let_go();
    plc.wait_ready();
    script.told.send(Err("no such device".into())).expect("the daemon reads");
    let fault = |seen: &_, is_there: bool| {
        let state = crate::support::plc::newest(seen, "state");
        state.is_some_and(|state| (state["fault_reason"] == "trigger_failed") == is_there)
    };
    plc.wait("the fault", |seen| fault(seen, true));
    plc.wait("the chip is opened again", |seen| fault(seen, false));
    script.part();
    plc.result("a result", |result| result["part_id"] == "000002");
    daemon.end();
    let looks = log(&site);
    let lost = looks.iter().find(|look| look.part_id == "unknown").expect("a record");
    assert_eq!(lost.verdict.outcome, Outcome::Review);
    assert_eq!(reason(lost), "trigger_failed");
    assert!(lost.verdict.reasons[0].text.contains("no such device"));
}

#[test]
fn an_encoder_that_never_pulses_and_edges_that_were_lost_are_records_and_never_a_pass() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let encoder =
        "encoder_line = 18\nmm_per_pulse = 0.5\ndistance_mm = 2\nencoder_still_ms = 100\n";
    let site = eye_site(&broker, &format!("{encoder}frame_within_ms = 10000\n"));
    let script = Script::new();
    let mut daemon = Running::start_with(&site, Some(Arc::new(script.clone())));
    daemon.let_go();
    plc.wait_ready();
    script.part();
    plc.wait("the fault", |seen| {
        let state = crate::support::plc::newest(seen, "state");
        state.is_some_and(|state| state["fault_reason"] == "trigger_failed")
    });
    // It pulses, and is believed; the kernel drops edges of the eye.
    script.edge(Wire::Encoder, true, 0);
    plc.wait("no fault", |seen| {
        let state = crate::support::plc::newest(seen, "state");
        state.is_some_and(|state| state["fault"] == false)
    });
    script.edge(Wire::Eye, true, 3);
    for _ in 0..4 {
        script.edge(Wire::Encoder, true, 0);
    }
    plc.result("the second part", |result| {
        result["part_id"] == "000003" || result["part_id"] == "000002"
    });
    daemon.end();
    let looks = log(&site);
    let still = looks.iter().find(|look| look.job_id == 1).expect("a record");
    assert_eq!((still.verdict.outcome, reason(still)), (Outcome::Review, "encoder_still"));
    assert!(still.verdict.reasons[0].text.contains("never"));
    let lost = looks.iter().find(|look| look.part_id == "unknown").expect("a record");
    assert_eq!((lost.verdict.outcome, reason(lost)), (Outcome::Review, "edges_lost"));
    assert_eq!(looks.len(), 3, "{looks:?}");
}

#[test]
fn a_part_on_its_way_at_the_end_is_recorded() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = eye_site(&broker, "delay_ms = 600000\n");
    let script = Script::new();
    let daemon = Running::start_with(&site, Some(Arc::new(script.clone())));
    plc.wait_ready();
    script.part();
    // The board shows it to nobody yet; that the daemon has heard of it is seen by the next one's loss.
    script.edge(Wire::Eye, true, 1);
    plc.result("the lost edge", |result| result["part_id"] == "unknown");
    daemon.end();
    let looks = log(&site);
    let mut codes: Vec<&str> = looks.iter().map(reason).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["edges_lost", "stopped", "stopped"]);
    assert!(looks.iter().all(|look| look.verdict.outcome == Outcome::Review));
}

#[test]
fn a_chip_that_is_not_there_is_refused_with_a_remedy() {
    let broker = Mosquitto::start();
    let site = eye_site(&broker, "delay_ms = 100\n");
    site.edit("/dev/gpiochip0", "/dev/gpiochip-that-is-not-there");
    for command in ["run", "check"] {
        let (code, words) = crate::hard::refused(&site, command);
        assert_eq!(code, Some(2), "{words}");
        for part in ["station \"demo\"", "gpiochip-that-is-not-there", "gpioinfo", "[trigger]"] {
            assert!(words.contains(part), "{part} is not in\n{words}");
        }
    }
}

/// The kernel's own edges, where it can simulate a chip.
#[test]
fn edges_of_the_kernel_are_numbered_and_stamped_by_our_clock() {
    let Some(simulated) = crate::hard::SimulatedChip::new() else {
        eprintln!("SKIPPED: this kernel has no gpio-sim, or we may not use it");
        return;
    };
    let site = eye_site(&Mosquitto::start(), "delay_ms = 100\n");
    let loaded = inspectd::config::load(&site.file).expect("good");
    let inspectd::trigger::Options::PhotoEye(mut options) = loaded.stations[0].trigger.clone()
    else {
        panic!("it has an eye")
    };
    (options.chip, options.line) = (simulated.device(), 3);
    let mut edges = KernelChips.watch(&options).expect("a line");
    assert_eq!(edges.read(Duration::ZERO), Ok(vec![]));
    let before_ns = SystemClock.now().monotonic_ns;
    simulated.pull(3, true);
    simulated.pull(3, false);
    let mut read = Vec::new();
    while read.len() < 2 {
        read.extend(edges.read(crate::support::mosquitto::DEADLINE).expect("edges"));
    }
    let after_ns = SystemClock.now().monotonic_ns;
    assert!(read.iter().all(|edge| (before_ns..=after_ns).contains(&edge.at_ns)), "{read:?}");
    assert_eq!(read.iter().map(|edge| edge.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((read[0].is_rising, read[1].is_rising), (true, false));
    // More than it keeps, and nobody reads: what is dropped is known by the numbers.
    (0..1500).for_each(|i| simulated.pull(3, i % 2 == 0));
    let first = edges.read(Duration::ZERO).expect("edges")[0];
    assert!(first.sequence > 3, "{first:?}");
    drop(simulated);
}

/// What the lines told is in the footage, so a replay, which opens no line, sees the same parts in the
/// same frames.
#[test]
fn what_an_eye_told_is_told_again_by_footage() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = eye_site(&broker, "delay_ms = 300\nframe_within_ms = 10000\n");
    // Its encoder is waited for, however slow it is: a frame that was dropped cannot be played.
    site.edit("repeat = true", "repeat = true\nrealtime = false");
    let footage = site.dir.path().join("shift");
    let script = Script::new();
    let keep = shift::record(&footage, Quality::Lossless);
    let running = Shift::start_with(&site, Some(keep), Arc::new(script.clone()));
    plc.wait_ready();
    for job in 1..=3 {
        script.part();
        plc.result("its result", |result| result["job_id"] == job);
    }
    running.end();
    let live = shift::records(&site.database());
    assert_eq!(live.len(), 3, "{:?}", shift::told(&live));
    assert!(live.iter().all(|one| one.frame_sequence.is_some()));
    let told = Summary::read(&footage.join("demo")).expect("readable");
    assert_eq!((told.eye_edges, told.dropped), (6, 0));

    for n in 1..=2 {
        let into = site.dir.path().join(format!("again-{n}"));
        Shift::play(&site, &footage, &into, false).wait();
        let played = shift::records(&into.join("inspectd.db"));
        assert_eq!(shift::told(&played), shift::told(&live));
    }
}
