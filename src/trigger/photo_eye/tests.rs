//! Scripts of edges and frames; times in milliseconds.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::clock::Stamp;
use crate::frame::Rgb8;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn timed(delay_ms: u64, apart_ms: u64) -> PhotoEyeOptions {
    PhotoEyeOptions {
        chip: PathBuf::from("/dev/gpiochip0"),
        line: 17,
        is_rising: true,
        pull: Pull::AsIs,
        debounce: Duration::from_millis(2),
        way: Way::Time {
            delay: Duration::from_millis(delay_ms),
            apart: Duration::from_millis(apart_ms),
        },
        parts_max: 4,
        frame_within: Duration::from_millis(50),
        camera_latency: Duration::ZERO,
        burst_frames: 1,
    }
}

/// 0.5 mm a pulse, 10 mm to the camera, parts 3 mm apart.
fn counted() -> PhotoEyeOptions {
    let way = Way::Encoder(EncoderOptions {
        line: 18,
        mm_per_pulse: 0.5,
        distance_mm: 10.0,
        apart_mm: 3.0,
        still: Duration::from_secs(5),
    });
    PhotoEyeOptions { way, ..timed(0, 0) }
}

struct Bench {
    eye: PhotoEye<u32>,
    named: u32,
    numbers: [u32; 2],
    seen: Vec<Seen<u32>>,
}

impl Bench {
    fn new(options: PhotoEyeOptions) -> Bench {
        let eye = PhotoEye::new(options, Focus::default());
        let mut bench = Bench { eye, named: 0, numbers: [0; 2], seen: vec![] };
        bench.hear(Signal::Opened);
        bench
    }

    fn hear(&mut self, signal: Signal) {
        let named = &mut self.named;
        let name = |_| {
            *named += 1;
            *named
        };
        self.seen.extend(self.eye.hear(signal, name));
    }

    fn edge(&mut self, wire: Wire, is_rising: bool, ms: u64, lost: u32) {
        let number = &mut self.numbers[usize::from(wire == Wire::Encoder)];
        *number += 1 + lost;
        let sequence = *number;
        self.hear(Signal::Edge(Edge { wire, is_rising, at_ns: ms * MS, sequence }));
    }

    fn part(&mut self, ms: u64) {
        self.edge(Wire::Eye, true, ms, 0);
        self.edge(Wire::Eye, false, ms + 10, 0);
    }

    fn pulses(&mut self, ms: impl IntoIterator<Item = u64>) {
        ms.into_iter().for_each(|ms| self.edge(Wire::Encoder, true, ms, 0));
    }

    fn frames(&mut self, ms: impl IntoIterator<Item = u64>) {
        for ms in ms {
            let captured = Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns: ms * MS };
            let picture = Rgb8::new(1, 1).into();
            let camera = "s1".into();
            let frame = Frame { sequence: ms, camera, captured, pipeline_ns: None, picture };
            self.seen.extend(self.eye.see(&Arc::new(frame)));
        }
    }

    fn time(&mut self, ms: u64, stands: bool) {
        let named = &mut self.named;
        let name = |_| {
            *named += 1;
            *named
        };
        self.seen.extend(self.eye.pass_time(ms * MS, stands, name));
    }

    /// Each as text: `part@frame`, `part:code`, `?:code`.
    fn told(&mut self) -> Vec<String> {
        let text = |seen: Seen<u32>| match seen {
            Seen::Part { part, shot, .. } => format!("{part}@{}", shot.frame.sequence),
            Seen::Missed { part, code, .. } => format!("{part}:{code}"),
            Seen::Unknown { code, .. } => format!("?:{code}"),
        };
        self.seen.drain(..).map(text).collect()
    }
}

#[test]
fn each_part_gets_the_frame_nearest_to_its_due_moment() {
    let mut bench = Bench::new(timed(1000, 40));
    bench.part(100);
    bench.part(300);
    bench.part(500);
    bench.frames((0..=60).map(|i| i * 33));
    // Due at 1100, 1300 and 1500; frames at 1089 and 1122, 1287 and 1320, 1485 and 1518.
    assert_eq!(bench.told(), ["1@1089", "2@1287", "3@1485"]);
    bench.time(9000, false);
    assert!(bench.told().is_empty());
}

#[test]
fn an_eye_beside_the_camera_is_served_with_a_frame_from_before_it_was_heard() {
    let mut bench = Bench::new(timed(0, 40));
    bench.frames([0, 33, 66, 99, 132]);
    // Heard late, and a moment before the bounce is over.
    bench.edge(Wire::Eye, true, 110, 0);
    bench.frames([165]);
    assert!(bench.told().is_empty());
    bench.time(190, false);
    assert_eq!(bench.told(), ["1@99"]);
    // The camera's own latency moves the due moment: exposed at 210, here at 240.
    let late = PhotoEyeOptions { camera_latency: Duration::from_millis(30), ..timed(0, 40) };
    let mut bench = Bench::new(late);
    bench.part(210);
    bench.frames([200, 220, 240, 260]);
    assert_eq!(bench.told(), ["1@240"]);
}

#[test]
fn bounces_and_holes_are_no_parts_of_their_own() {
    let mut bench = Bench::new(timed(200, 40));
    for (is_rising, ms) in [(true, 100), (false, 101), (true, 102), (false, 110), (true, 120)] {
        bench.edge(Wire::Eye, is_rising, ms, 0);
    }
    bench.edge(Wire::Eye, false, 130, 0);
    bench.part(142);
    bench.frames((0..20).map(|i| i * 33));
    // The hole at 110 is within 40 ms, 142 just is not.
    assert_eq!(bench.told(), ["1@297", "2@330"]);
}

#[test]
fn a_part_without_a_frame_is_told_and_holds_up_no_other() {
    let mut bench = Bench::new(timed(100, 10));
    bench.part(100);
    bench.part(300);
    bench.frames([10, 43, 330, 396, 429]);
    assert_eq!(bench.told(), ["1:frame_lost", "2@396"]);
    bench.part(500);
    bench.time(850, false);
    assert!(bench.told().is_empty(), "a frame may still be on its way");
    bench.time(901, false);
    assert_eq!(bench.told(), ["3:frame_lost"]);
}

#[test]
fn one_part_too_many_is_a_record() {
    let mut bench = Bench::new(timed(1000, 10));
    (0..6).for_each(|i| bench.part(100 + i * 100));
    assert_eq!(bench.told(), ["5:queue_full", "6:queue_full"]);
    assert_eq!(bench.eye.give_up(), [1, 2, 3, 4]);
}

#[test]
fn the_belt_is_measured_by_its_pulses() {
    let mut bench = Bench::new(counted());
    bench.pulses([10, 20, 30]);
    bench.part(35);
    // 20 pulses to go: 10 of them, a pause, and 10 more.
    bench.pulses((0..10).map(|i| 50 + 10 * i));
    bench.part(145);
    bench.frames((0..60).map(|i| i * 33));
    bench.time(2000, false);
    assert!(bench.told().is_empty());
    bench.pulses((0..20).map(|i| 2000 + 10 * i));
    bench.frames((60..80).map(|i| i * 33));
    // The 20th pulse of the first came at 2090, that of the second at 2190.
    assert_eq!(bench.told(), ["1@2079", "2@2178"]);
    assert_eq!(bench.eye.trouble(), None);
}

#[test]
fn an_encoder_that_stands_still_is_not_waited_for() {
    for (pulses, word) in [(0, "has never given a pulse"), (3, "gave no pulse for 5000 ms")] {
        let mut bench = Bench::new(counted());
        bench.pulses((0..pulses).map(|i| 10 + i));
        bench.part(100);
        bench.part(600);
        bench.time(5100, false);
        assert!(bench.told().is_empty());
        bench.time(5101, false);
        let Some(Seen::Missed { text, .. }) = bench.seen.first() else {
            panic!("{:?}", bench.seen)
        };
        assert!(text.contains(word) && text.contains("1 more fronts"), "{text}");
        assert_eq!(bench.told(), ["1:encoder_still"]);
        assert!(bench.eye.trouble().is_some());
        // The next one is told, too, and not taken for the same part.
        bench.part(6000);
        bench.time(11_001, false);
        assert_eq!(bench.told(), ["2:encoder_still"]);
        bench.pulses([12_000]);
        assert_eq!(bench.eye.trouble(), None);
    }
    // While the line is known to stand, a belt may.
    let mut bench = Bench::new(counted());
    bench.part(100);
    (0..40).for_each(|i| bench.time(1000 * i, true));
    assert!(bench.told().is_empty());
    bench.time(44_001, false);
    assert_eq!(bench.told(), ["1:encoder_still"]);
}

#[test]
fn edges_that_the_kernel_dropped_are_told() {
    let mut bench = Bench::new(timed(200, 10));
    bench.part(100);
    bench.edge(Wire::Eye, true, 200, 2);
    bench.edge(Wire::Eye, false, 210, 0);
    bench.frames((0..20).map(|i| i * 33));
    assert_eq!(bench.told(), ["?:edges_lost", "1@297", "2@396"]);
    // More of them within a second are told together.
    bench.edge(Wire::Eye, false, 700, 1);
    bench.edge(Wire::Eye, true, 800, 1);
    assert!(bench.told().is_empty());
    bench.time(1250, false);
    let Some(Seen::Unknown { text, .. }) = bench.seen.first() else { panic!("{:?}", bench.seen) };
    assert!(text.contains("2 of the photo eye, 0 of the encoder"), "{text}");

    // The numbers of lost pulses are known, and their times are not.
    let mut bench = Bench::new(counted());
    bench.pulses([10]);
    bench.part(20); // due at pulse 21
    bench.pulses((0..15).map(|i| 40 + i));
    bench.part(60); // due at pulse 36
    bench.pulses([80]);
    bench.edge(Wire::Encoder, true, 200, 7); // pulses 18 to 24
    bench.part(201);
    bench.pulses((0..40).map(|i| 220 + 10 * i));
    bench.frames((0..40).map(|i| i * 20));
    assert_eq!(bench.told(), ["1:edges_lost", "?:edges_lost", "2@320", "3@420"]);
}

#[test]
fn a_chip_that_goes_away_is_told_once_and_parts_whose_moment_is_known_are_served() {
    let mut bench = Bench::new(timed(500, 10));
    bench.part(100);
    bench.hear(Signal::Failed("no such device".into()));
    bench.hear(Signal::Failed("no such device".into()));
    assert_eq!(bench.eye.trouble(), Some("no such device"));
    bench.frames((0..30).map(|i| i * 33));
    bench.numbers = [0; 2];
    bench.hear(Signal::Opened);
    assert_eq!(bench.eye.trouble(), None);
    bench.part(2000);
    bench.frames((60..90).map(|i| i * 33));
    assert_eq!(bench.told(), ["?:trigger_failed", "1@594", "2@2508"]);

    let mut bench = Bench::new(counted());
    bench.part(100);
    bench.time(200, false);
    bench.hear(Signal::Failed("no such device".into()));
    assert_eq!(bench.told(), ["1:trigger_failed", "?:trigger_failed"]);
}

proptest! {
    /// Whatever comes, in whatever order: each part that was named comes back once, and in order
    /// where it comes back with a frame.
    #[test]
    fn no_part_is_lost_or_doubled(
        steps in proptest::collection::vec((0..7u8, 1..60u64, 0..3u32), 0..200),
        is_counted in any::<bool>(),
        burst_frames in 1..4usize,
    ) {
        let options = if is_counted { counted() } else { timed(150, 20) };
        let mut bench = Bench::new(PhotoEyeOptions { burst_frames, ..options });
        let mut ms = 0;
        for (step, wait, lost) in steps {
            ms += wait;
            let lost = if lost == 2 { wait as u32 % 3 } else { 0 };
            match step {
                0 | 1 => bench.edge(Wire::Eye, step == 0, ms, lost),
                2 | 3 => bench.edge(Wire::Encoder, true, ms, lost),
                4 => bench.frames([ms]),
                5 => bench.time(ms + if wait == 7 { 10_000 } else { 0 }, false),
                _ if wait == 9 => {
                    bench.hear(Signal::Failed("gone".into()));
                    bench.numbers = [0; 2];
                    bench.hear(Signal::Opened);
                }
                _ => bench.part(ms),
            }
            prop_assert!(bench.eye.way.len() <= 4 && bench.eye.recent.len() <= RECENT_MAX);
        }
        let mut back = Vec::new();
        let mut shown = Vec::new();
        for seen in &bench.seen {
            match seen {
                Seen::Part { part, shot, due_ns } => {
                    let taken = shot.frame.captured.monotonic_ns;
                    prop_assert!(taken.abs_diff(*due_ns) <= 50 * MS);
                    back.push(*part);
                    shown.push(*part);
                }
                Seen::Missed { part, .. } => back.push(*part),
                Seen::Unknown { .. } => {}
            }
        }
        prop_assert!(shown.is_sorted());
        back.extend(bench.eye.give_up());
        back.sort_unstable();
        prop_assert_eq!(back, (1..=bench.named).collect::<Vec<_>>());
    }
}
