//! `inspectd camera` as a person types it.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::{TempDir, tempdir};

/// A configuration with one station, whose `[camera]` is this text.
pub fn site(camera: &str) -> TempDir {
    let folder = tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("stations")).expect("a folder");
    let station = format!(
        "name = \"press\"\n[camera]\n{camera}\n[trigger]\nkind = \"every_frame\"\n\
         [[question]]\nname = \"serial\"\ntask = \"serial\"\ntemplate = \"#{{8}}\"\n"
    );
    std::fs::write(folder.path().join("stations/press.toml"), station).expect("written");
    let main =
        "[device]\nname = \"line-1\"\n[model]\npath = \"model\"\n[database]\npath = \"a.db\"\n";
    std::fs::write(folder.path().join("inspectd.toml"), main).expect("written");
    folder
}

/// Runs `inspectd camera …`, by way of the program and arguments in `by` if there are any; what asks for
/// a station gets the site's configuration.
pub fn camera_by(by: &[&str], site: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_inspectd");
    let mut line: Vec<&str> = [by, &[program, "camera"], arguments].concat();
    if !matches!(arguments, ["list" | "plugins"]) {
        line.extend(["--config", "inspectd.toml"]);
    }
    Command::new(line[0]).args(&line[1..]).current_dir(site).output().expect("the program runs")
}

fn camera(site: &Path, arguments: &[&str]) -> Output {
    camera_by(&[], site, arguments)
}

/// What it printed, both ways.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[cfg(feature = "gst")]
#[test]
fn what_is_explained_can_be_tried_by_hand() {
    let site = site("pipeline = 'videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48'");
    let output = camera(site.path(), &["explain"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let command = said.lines().find_map(|line| line.strip_prefix("try it")).expect("a command");
    let tried = Command::new("sh").args(["-c", command.trim()]).output().expect("a shell");
    let shown = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success() && shown.contains("chain"), "{command}\n{shown}");
}

#[test]
fn a_camera_of_another_board_is_refused_with_what_to_write() {
    let site = site("csi = 0");
    let output = camera(site.path(), &["explain"]);
    let said = said(&output);
    // On a board with a connector the element may be there or not.
    if said.contains("generic Linux") || said.contains("no camera connector") {
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("device = \"/dev/video0\""), "{said}");
    }
}

#[cfg(feature = "gst")]
#[test]
fn a_snapshot_is_a_picture_and_a_camera_that_fails_says_why() {
    let good = site("pipeline = 'videotestsrc is-live=true ! video/x-raw,width=64,height=48'");
    let output = camera(good.path(), &["snapshot", "--out", "now.png", "--skip", "2"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("64x48 px, frame 3"), "{}", said(&output));
    let picture = inspectd::frame::file::read(&good.path().join("now.png")).expect("a picture");
    assert_eq!((picture.width, picture.height), (64, 48));

    let dead = site("uri = 'rtsp://127.0.0.1:1/none'");
    let output = camera(dead.path(), &["snapshot", "--out", "now.png", "--timeout-s", "1"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("failed:"), "{}", said(&output));
    assert!(!dead.path().join("now.png").exists());
}

#[cfg(feature = "gst")]
#[test]
fn packages_of_plugins_are_listed_with_what_is_here() {
    let site = site("pipeline = 'videotestsrc'");
    let output = camera(site.path(), &["plugins"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let base = text.split("gstreamer1.0-plugins-base\n").nth(1).expect("the package");
    assert!(
        base.lines().next().is_some_and(|line| line.contains("here") && line.contains("appsink"))
    );
    assert!(text.contains("gstreamer1.0-libav"), "{text}");
}
