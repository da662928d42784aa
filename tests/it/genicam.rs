//! A GigE Vision camera: the one that the GenICam library brings for tests, on loopback.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::camera_command::{camera_by, said, site};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Fake(Child);

impl Fake {
    /// The camera, once it answers, which loses so many of 1,000 packets. There is one GigE Vision port
    /// at an address, so one test has it.
    fn start(serial: &str, lost: &str) -> Fake {
        let child = Command::new("arv-fake-gv-camera-0.8")
            .args(["-i", "127.0.0.1", "-s", serial, "-r", lost])
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
    snapshot_after(camera, "3", "60")
}

fn snapshot_after(camera: &str, skip: &str, timeout_s: &str) -> Output {
    let site = site(camera);
    let wishes = ["snapshot", "--out", "now.png", "--skip", skip, "--timeout-s", timeout_s];
    as_a_user(site.path(), &wishes)
}

#[test]
fn a_gige_vision_camera_is_found_and_does_what_it_is_told_or_is_not_believed() {
    let fake = Fake::start("INSP01", "0");
    let told = snapshot(
        "genicam = \"Aravis-Fake-INSP01\"\n[camera.controls]\nexposure_us = 4000\ngain = 3\n\
         trigger = \"off\"",
    );
    assert!(told.status.success(), "{}", said(&told));
    assert!(said(&told).contains("512x512 px"), "{}", said(&told));

    // Pictures would come by themselves if the mode were taken and the line were not.
    let other = snapshot("genicam = \"any\"\n[camera.controls]\ntrigger = \"Line9\"");
    let why = said(&other);
    assert_eq!(other.status.code(), Some(5), "{why}");
    assert!(why.contains("disobedient") && why.contains("Line9"), "{why}");

    // A line that rests is no fault: there is no picture, and nothing was lost.
    let resting =
        snapshot_after("genicam = \"any\"\n[camera.controls]\ntrigger = \"Line0\"", "0", "5");
    let why = said(&resting);
    assert_eq!(resting.status.code(), Some(5), "{why}");
    assert!(why.contains("it is there and sends nothing"), "{why}");

    drop(fake);
    let _lossy = Fake::start("INSP02", "20");
    // A picture of 24 packets is whole in six cases of ten: that 41 in a row are does not happen.
    let torn = snapshot_after("genicam = \"any\"\nwidth_px = 256\nheight_px = 128", "40", "60");
    let why = said(&torn);
    assert!(torn.status.success(), "{why}");
    assert!(why.contains("256x128 px"), "{why}");
    assert!(why.contains("came torn or damaged and were passed over"), "{why}");
}
