//! A GigE Vision camera: the one that the GenICam library brings for tests, on loopback.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::camera_command::{camera_by, said, site};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Fake(Child);

impl Fake {
    /// The camera, once it answers. There is one GigE Vision port at an address, so one test has it.
    fn start(serial: &str) -> Fake {
        let child = Command::new("arv-fake-gv-camera-0.8")
            .args(["-i", "127.0.0.1", "-s", serial])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs arv-fake-gv-camera-0.8: install the package aravis-tools");
        let fake = Fake(child);
        let limit = Instant::now() + PATIENCE;
        let site = site("genicam = \"any\"");
        while !said(&as_a_user(site.path(), &["list"])).contains(serial) {
            assert!(Instant::now() < limit, "the camera is not found");
        }
        fake
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }
}

/// Runs the command without the right to raw packets: with it the library listens at the network card,
/// where nothing of the loopback is to be heard.
fn as_a_user(site: &std::path::Path, arguments: &[&str]) -> Output {
    // SAFETY: the call has no arguments and cannot fail.
    let by: &[&str] = match unsafe { libc::geteuid() } {
        0 => &["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"],
        _ => &[],
    };
    camera_by(by, site, arguments)
}

fn snapshot(camera: &str) -> Output {
    let site = site(camera);
    as_a_user(site.path(), &["snapshot", "--out", "now.png", "--skip", "1", "--timeout-s", "20"])
}

#[test]
fn a_gige_vision_camera_is_found_and_does_what_it_is_told_or_is_not_believed() {
    let _fake = Fake::start("INSP01");
    let told = snapshot(
        "genicam = \"Aravis-Fake-INSP01\"\n[camera.controls]\nexposure_us = 4000\ngain = 3\n\
         trigger = \"off\"",
    );
    assert!(told.status.success(), "{}", said(&told));
    assert!(said(&told).contains("512x512 px"), "{}", said(&told));

    // The camera accepts the mode and has no such line: pictures would come by themselves.
    let other = snapshot("genicam = \"any\"\n[camera.controls]\ntrigger = \"Line9\"");
    let why = said(&other);
    assert_eq!(other.status.code(), Some(5), "{why}");
    assert!(why.contains("disobedient") && why.contains("and Line9 was asked for"), "{why}");
}
