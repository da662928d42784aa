//! A network camera: captured, lost, and found again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::camera::{self, CameraHandle, Delivery, Source};
use inspectd::clock::SystemClock;
use inspectd::frame::Frame;
use inspectd::simulate::footage::{FootageOptions, write_footage};

use crate::support::rtsp::RtspServer;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Line {
    _folder: tempfile::TempDir,
    footage: PathBuf,
}

impl Line {
    fn new(parts: u32) -> Line {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let footage = folder.path().join("line.mkv");
        let options =
            FootageOptions { parts, seed: 11, speed_mm_per_s: 240.0, out: footage.clone() };
        write_footage(&options, |_, _| ()).expect("footage is written");
        Line { _folder: folder, footage }
    }
}

fn open(uri: String, realtime: bool) -> CameraHandle {
    let options = camera::Options { realtime, ..camera::Options::new(Source::Uri(uri)) };
    camera::open("net", &options, Arc::new(SystemClock)).expect("the camera opens")
}

/// The next thing that is not merely the time passing.
fn tell(camera: &CameraHandle) -> Delivery {
    let limit = Instant::now() + PATIENCE;
    loop {
        match camera.next(Duration::from_secs(5)) {
            Delivery::NoFrame if Instant::now() < limit => {}
            delivery => return delivery,
        }
    }
}

fn frame(delivery: Delivery) -> Arc<Frame> {
    match delivery {
        Delivery::Frame(frame) => frame,
        other => panic!("expected a frame, got {other:?}"),
    }
}

#[test]
fn footage_over_rtsp_is_the_footage_of_the_file() {
    let line = Line::new(1);
    let file = open(format!("file://{}", line.footage.display()), false);
    let mut frames = Vec::new();
    while let Delivery::Frame(frame) = tell(&file) {
        frames.push(frame);
    }
    let server = RtspServer::start(&line.footage);
    let camera = open(server.uri(), true);
    // Each frame that came is one of the file, in order; a slow reader may miss some.
    let mut at = 0;
    let mut seen = 0;
    while let Delivery::Frame(frame) = tell(&camera) {
        let found = frames[at..].iter().position(|other| other.picture == frame.picture);
        at += found.unwrap_or_else(|| panic!("frame {} is not in the file", frame.sequence)) + 1;
        seen += 1;
    }
    assert!(seen >= 5, "{seen} frames of {}", frames.len());
    assert_eq!(seen, camera.counts().delivered);
}

#[test]
fn a_camera_that_was_cut_off_comes_back() {
    let line = Line::new(3);
    let server = RtspServer::start(&line.footage);
    let (uri, port) = (server.uri(), server.port());
    let camera = open(uri, true);
    let mut last = frame(tell(&camera)).sequence;
    drop(server);
    loop {
        match tell(&camera) {
            Delivery::Frame(frame) => last = frame.sequence,
            Delivery::Lost { reason, .. } => {
                assert!(!reason.is_empty());
                break;
            }
            other => panic!("expected a loss, got {other:?}"),
        }
    }
    let _server = RtspServer::start_at(&line.footage, port);
    assert!(matches!(tell(&camera), Delivery::Back));
    assert!(frame(tell(&camera)).sequence > last);
    assert_eq!(camera.counts().lost(), 1);
}

#[test]
fn a_camera_that_is_not_there_yet_is_no_error() {
    let line = Line::new(1);
    let port = RtspServer::start(&line.footage).port();
    let camera = open(format!("rtsp://user:secret@127.0.0.1:{port}/line"), true);
    match tell(&camera) {
        Delivery::Lost { reason, .. } => assert!(!reason.contains("secret"), "{reason}"),
        other => panic!("expected a loss, got {other:?}"),
    }
    let _server = RtspServer::start_at(&line.footage, port);
    assert!(matches!(tell(&camera), Delivery::Back));
    frame(tell(&camera));
}

#[test]
fn stop_is_prompt_while_the_camera_is_sought() {
    let line = Line::new(1);
    let port = RtspServer::start(&line.footage).port();
    let camera = open(format!("rtsp://127.0.0.1:{port}/line"), true);
    assert!(matches!(tell(&camera), Delivery::Lost { .. }));
    camera.stop();
    assert!(matches!(camera.next(PATIENCE), Delivery::Ended));
}
