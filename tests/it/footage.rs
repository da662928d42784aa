//! Footage of the simulated line, written and read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inspectd::camera::{self, Delivery, Source};
use inspectd::clock::SystemClock;
use inspectd::frame::{Frame, Rgb8};
use inspectd::simulate::belt::Belt;
use inspectd::simulate::footage::{
    FootageError, FootageOptions, FootageSummary, read_truth, truth_path, write_footage,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn write(folder: &Path, name: &str, parts: u32, speed_mm_per_s: f64) -> FootageSummary {
    let out = folder.join(name);
    let options = FootageOptions { parts, seed: 7, speed_mm_per_s, out };
    write_footage(&options, |_, _| ()).expect("footage is written")
}

fn address(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Every frame of footage, in order.
fn read(path: &Path) -> Vec<Arc<Frame>> {
    let source = Source::Uri(address(path));
    let options = camera::Options { realtime: false, ..camera::Options::new(source) };
    let camera = camera::open("belt", &options, Arc::new(SystemClock)).expect("footage opens");
    let mut frames = Vec::new();
    loop {
        match camera.next(PATIENCE) {
            Delivery::Frame(frame) => frames.push(frame),
            Delivery::Ended => return frames,
            other => panic!("footage is whole, but: {other:?}"),
        }
    }
}

fn mean_difference(a: &Rgb8, b: &Rgb8) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let sum: u64 = a.data.iter().zip(&b.data).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.data.len() as f64
}

#[test]
fn footage_shows_the_belt_frame_by_frame_in_both_containers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let belt = Belt::new(7, 1, 240.0).expect("a belt");
    for name in ["line.mkv", "line.AVI"] {
        let summary = write(folder.path(), name, 1, 240.0);
        assert_eq!((summary.frames, summary.parts), (belt.frame_count(), 1));
        let frames = read(&summary.out);
        assert_eq!(frames.len() as u64, summary.frames, "{name}");
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!(frame.sequence, i as u64 + 1);
            let differs = mean_difference(frame.picture.rgb(), &belt.frame(i as u64));
            assert!(differs < 6.0, "{name} frame {i} differs by {differs:.1} levels");
        }
        let times: Vec<u64> =
            frames.iter().map(|frame| frame.pipeline_ns.expect("a time")).collect();
        assert!(times.is_sorted(), "{name}: {times:?}");
        let last_s = *times.last().expect("frames") as f64 / 1e9;
        let expected_s = (frames.len() - 1) as f64 / 30.0;
        assert!((last_s - expected_s).abs() < 0.05, "{name}: {last_s} s, expected {expected_s} s");
    }
}

#[test]
fn the_truth_lies_beside_the_footage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let summary = write(folder.path(), "line.mkv", 2, 240.0);
    assert_eq!(summary.truth, truth_path(&summary.out));
    let lines = read_truth(&summary.out).expect("the truth is read back");
    let truths = Belt::new(7, 2, 240.0).expect("a belt").truths();
    assert_eq!(lines.len(), truths.len());
    for (line, part) in lines.iter().zip(truths) {
        assert_eq!(line.truth, part.truth);
        assert!(line.enters_at_frame < line.centred_at_frame);
        assert!(line.centred_at_frame < line.leaves_at_frame);
    }
    let text = std::fs::read_to_string(&summary.truth).expect("readable");
    assert!(text.lines().all(|line| line.contains("\"verdict\":")), "{text}");
}

#[test]
fn the_same_seed_gives_the_same_footage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bytes = |name| std::fs::read(write(folder.path(), name, 1, 500.0).truth).expect("readable");
    assert_eq!(bytes("a.mkv"), bytes("b.mkv"));
    let a = read(&folder.path().join("a.mkv"));
    let b = read(&folder.path().join("b.mkv"));
    assert!(a.iter().zip(&b).all(|(a, b)| a.picture == b.picture));
}

#[test]
fn an_unknown_container_and_an_absent_folder_are_clear_errors() {
    let options = |out: &str| FootageOptions {
        parts: 1,
        seed: 1,
        speed_mm_per_s: 100.0,
        out: PathBuf::from(out),
    };
    let error = write_footage(&options("line.mp4"), |_, _| ()).expect_err("no mp4");
    let said = error.to_string();
    assert!(said.contains("line.mp4") && said.contains(".mkv, .avi"), "{said}");
    let error = write_footage(&options("/nowhere/line.mkv"), |_, _| ()).expect_err("no folder");
    assert!(matches!(error, FootageError::Encode { .. }), "{error:?}");
    assert!(error.to_string().contains("/nowhere/line.mkv"), "{error}");
    let slow = FootageOptions { speed_mm_per_s: 0.0, ..options("line.mkv") };
    assert!(matches!(write_footage(&slow, |_, _| ()), Err(FootageError::Belt(_))));
}

#[test]
fn nothing_is_left_under_a_working_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "line.mkv", 1, 1000.0);
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["line.mkv", "line.mkv.truth.jsonl"]);
}
