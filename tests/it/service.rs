//! The program under a service manager: when it is ready, that it lives, and that it does not live on when
//! it is stuck.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use inspectd::store::Reader;

use crate::support::mosquitto::DEADLINE;
use crate::support::service::{Service, command};
use crate::support::station::Site;

fn get(address: &str, path: &str) -> (u16, String) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let mut response = ureq::Agent::from(config)
        .get(format!("http://{address}{path}"))
        .call()
        .expect("it answers");
    (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
}

#[test]
fn it_says_when_it_is_ready_what_it_does_and_when_it_stops() {
    let site = Site::of_pictures(None);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    assert!(service.told.iter().any(|line| line == "STATUS=Loading the model."));
    let top = service.command(&["top", "--once"]);
    let text = String::from_utf8(top.stdout).expect("text");
    assert!(top.status.success() && text.contains("demo") && text.contains("box"), "{text}");
    let control = site.dir.path().join("control.sock");
    assert!(control.exists());
    let (status, told) = service.stop();
    assert!(status.success());
    assert!(told.iter().any(|line| line == "STOPPING=1"), "{told:?}");
    assert!(!control.exists(), "it takes its socket with it");
}

#[test]
fn it_lives_as_long_as_all_make_progress() {
    let site = Site::of_pictures(None);
    let mut service = Service::start(&site, Some(Duration::from_secs(60)), &[]);
    service.wait_for("READY=1");
    for _ in 0..3 {
        service.wait_for("WATCHDOG=1");
    }
    assert!(!service.told.iter().any(|line| line.contains("HUNG")), "{:?}", service.told);
    assert!(service.stop().0.success());
}

/// A camera's thread, the model's, and one that writes a record: whichever is stuck, the service
/// manager is told no more that the program lives, though every other thread does.
#[cfg(feature = "fault-points")]
#[test]
fn it_does_not_live_on_when_a_thread_is_stuck() {
    for (point, thread) in
        [("frame_seen:5", "station demo"), ("model_asked:2", "model"), ("commit_begun:2", "record")]
    {
        let site = Site::of_pictures(None);
        let watchdog = Duration::from_secs(4);
        let variables = [("INSPECTD_HANG_AT", point)];
        let mut service = Service::start(&site, Some(watchdog), &variables);
        // On a machine that is busy another one may seem to be stuck for a moment, too.
        let mut hung = service.wait_for("STATUS=HUNG");
        while !hung.contains(thread) {
            hung = service.wait_for("STATUS=HUNG");
        }
        // Nothing but silence can show that it keeps silent: for longer than the manager waits.
        let so_far = service.told.len();
        for _ in 0..6 {
            service.hear(Duration::from_secs(1));
        }
        let after = &service.told[so_far..];
        assert!(!after.iter().any(|line| line == "WATCHDOG=1"), "{point}: {after:?}");
    }
}

#[test]
fn metrics_and_health_are_served_on_the_managers_socket() {
    let site = Site::of_pictures(None);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("known").to_string();
    let mut service = Service::start_with(&site, None, &[], Some(&listener));
    service.wait_for("READY=1");
    drop(listener);
    let (status, live) = get(&address, "/health/live");
    assert_eq!(status, 200, "{live}");
    let (_, text) = get(&address, "/metrics");
    for name in ["inspectd_build_info{", "inspectd_camera_up{station=\"demo\"}", "# EOF"] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    let (status, _) = get(&address, "/reload");
    assert_eq!(status, 404, "the address takes no commands");
    assert!(service.stop().0.success());
}

#[test]
fn the_limit_of_memory_is_above_what_it_takes() {
    let site = Site::of_pictures(None);
    let text =
        String::from_utf8(command(&site.file, &["check", "--drop-in"]).stdout).expect("text");
    let limit = text.lines().find_map(|line| line.strip_prefix("MemoryMax=")?.strip_suffix('M'));
    let limit_kib = limit.expect("a limit").parse::<u64>().expect("a number") << 10;
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    // The most that it takes is what a few parts take.
    let until = Instant::now() + DEADLINE;
    while Reader::open(&site.database()).map_or(0, |log| log.after(0, 9).expect("read").len()) < 3 {
        assert!(Instant::now() < until, "no part is inspected");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    service.stop();
    assert!(peak_kib < limit_kib, "{peak_kib} of {limit_kib} KiB");
    assert!(text.starts_with("# Made by") && text.contains("\n[Service]\n"), "{text}");
}

#[test]
fn the_unit_is_sound_and_shows_little() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/inspectd.service");
    let told = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&unit)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&told.stdout);
    let last = text.lines().last().unwrap_or_default();
    assert!(told.status.success(), "{version}: {last}\n{}", String::from_utf8_lossy(&told.stderr));
    assert!(told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
}
