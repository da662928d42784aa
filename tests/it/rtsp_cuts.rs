//! A network camera that is cut off again and again, in every way: each loss is told, each return is
//! prompt, and nothing is left behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::camera::{self, CameraHandle, Delivery, LossKind, Reconnect, Source};
use inspectd::clock::SystemClock;

use crate::support::camera_link::{Break, CameraLink};
use crate::support::rtsp::RtspServer;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so many cuts the libraries have loaded and allocated what they need for good.
const WARM_UP: usize = 12;

/// Memory that 100 cuts may leave behind, in KiB.
const GROWTH_KIB_PER_100: u64 = 1024;

fn open(uri: String) -> CameraHandle {
    let options = camera::Options {
        reconnect: Reconnect {
            first: Duration::from_millis(20),
            ceiling: Duration::from_millis(200),
        },
        silence_limit: Some(Duration::from_millis(400)),
        ..camera::Options::new(Source::Uri(uri))
    };
    camera::open("net", &options, Arc::new(SystemClock)).expect("the camera opens")
}

/// The next thing that is neither a frame nor the time passing.
fn next_news(camera: &CameraHandle) -> Delivery {
    let limit = Instant::now() + PATIENCE;
    loop {
        match camera.next(Duration::from_secs(5)) {
            Delivery::NoFrame | Delivery::Frame(_) if Instant::now() < limit => {}
            news => return news,
        }
    }
}

fn first_frame(camera: &CameraHandle) {
    let limit = Instant::now() + PATIENCE;
    let mut news = Vec::new();
    while Instant::now() < limit {
        match camera.next(Duration::from_secs(1)) {
            Delivery::Frame(_) => return,
            Delivery::NoFrame => {}
            other => news.push(other),
        }
    }
    panic!("no frame came: {news:?}");
}

/// Memory of this process that is its own, in KiB, and its open files.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    let kib = line.trim().trim_end_matches(" kB").parse().expect("a number");
    (kib, std::fs::read_dir("/proc/self/fd").expect("the kernel tells").count())
}

/// Most cuts are plain; every tenth of each other kind.
fn how(cut: usize) -> Break {
    match cut % 10 {
        3 => Break::Frozen,
        6 => Break::Garbled,
        9 => Break::Slow,
        _ => Break::Cut,
    }
}

#[test]
fn a_camera_that_is_cut_off_again_and_again_comes_back_each_time() {
    let cuts = std::env::var("INSPECTD_SOAK_CUTS").map_or(200, |n| n.parse().expect("a number"));
    let server = RtspServer::start_live();
    let link = CameraLink::start(server.port());
    let camera = open(link.uri());
    first_frame(&camera);
    let mut returns = Vec::new();
    let mut warm = held();
    for cut in 0..cuts {
        if cut == WARM_UP {
            warm = held();
        }
        let how = how(cut);
        link.set(how);
        match next_news(&camera) {
            Delivery::Lost { kind, reason } => {
                assert!(!reason.is_empty());
                if how == Break::Frozen {
                    assert_eq!(kind, LossKind::Stalled, "{reason}");
                }
            }
            other => panic!("cut {cut}, {how:?}: expected a loss, got {other:?}"),
        }
        link.set(Break::None);
        let mended = Instant::now();
        assert!(matches!(next_news(&camera), Delivery::Back), "cut {cut}, {how:?}");
        first_frame(&camera);
        returns.push(mended.elapsed());
    }
    let (memory, files) = held();
    assert_eq!(camera.counts().lost(), cuts as u64, "each cut is one loss");
    returns.sort_unstable();
    let at = |share: usize| returns[(returns.len() - 1) * share / 100].as_secs_f64();
    println!(
        "{cuts} cuts: {:?}; back after {:.2} s (median), {:.2} s (99 %), {:.2} s (longest); memory {} KiB \
         after {WARM_UP} cuts, {memory} KiB at the end; open files {} and {files}",
        camera.counts().losses,
        at(50),
        at(99),
        at(100),
        warm.0,
        warm.1,
    );
    assert!(files <= warm.1 + 4, "{files} open files, {} before", warm.1);
    let allowed = warm.0 + 8 * 1024 + GROWTH_KIB_PER_100 * cuts as u64 / 100;
    assert!(memory <= allowed, "{memory} KiB, {} KiB before", warm.0);
}
