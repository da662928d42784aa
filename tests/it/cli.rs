//! The real binary: what it refuses, with which words and exit code.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use inspectd::simulate::{Mix, SetOptions, write_set};

use crate::support::station::Site;

fn inspectd() -> Command {
    Command::cargo_bin("inspectd").expect("built by cargo")
}

/// Standard error of a command that must end with `code`.
fn refused(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn pictures(dir: &Path, count: u64) -> PathBuf {
    let options =
        SetOptions { count, seed: 77, dense: false, mix: Mix::default(), out: dir.join("set") };
    write_set(&options, |_| {}).expect("a set is written");
    options.out
}

#[test]
fn help_shows_examples_for_every_command() {
    for command in [
        "run",
        "check",
        "inspect",
        "demo",
        "simulate",
        "evaluate",
        "bench",
        "audit",
        "model",
        "serial",
        "modbus",
        "calibrate",
    ] {
        let output = inspectd().args([command, "--help"]).assert().success().get_output().clone();
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("Examples:"), "{command}");
    }
}

#[test]
fn completions_are_made_for_a_shell() {
    let output = inspectd().args(["completions", "bash"]).assert().success().get_output().clone();
    assert!(String::from_utf8_lossy(&output.stdout).contains("_inspectd"));
}

#[test]
fn an_absent_camera_is_exit_code_5_and_names_the_file() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let words = refused(inspectd().arg("run").arg("-c").arg(&site.file), 5);
    assert!(words.contains("/nowhere/line.mkv") && words.contains("demo"), "{words}");
}

#[test]
fn a_wrong_model_folder_is_exit_code_3_and_names_what_is_missing() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    fs::remove_file(site.dir.path().join("model/config.json")).expect("removed");
    let words = refused(inspectd().arg("run").arg("-c").arg(&site.file), 3);
    assert!(words.contains("config.json"), "{words}");
}

/// A GPU that was named is never replaced by the processor.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_in_a_build_without_cuda_is_exit_code_3_with_the_remedy() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let text = fs::read_to_string(&site.file).expect("readable");
    let text = text.replace("[model]", "[model]\ndevice = \"cuda:1\"");
    fs::write(&site.file, text).expect("written");
    let words = refused(inspectd().arg("run").arg("-c").arg(&site.file), 3);
    assert!(
        words.contains("cuda:1: this build has no CUDA; use the program inspectd-cuda"),
        "{words}"
    );

    let model = site.dir.path().join("model");
    let ids = site.dir.path().join("ids");
    fs::write(&ids, "1 2 3").expect("written");
    let mut trace = inspectd();
    trace.args(["model", "trace", "--device", "cuda", "--model"]).arg(model).arg("--ids-file");
    let words = refused(trace.arg(ids).arg("--out").arg(site.dir.path().join("out")), 3);
    assert!(words.contains("cuda:0: this build has no CUDA"), "{words}");
}

#[test]
fn a_device_that_is_none_is_exit_code_2() {
    let words = refused(inspectd().args(["model", "trace", "--device", "gpu"]), 2);
    assert!(words.contains("\"gpu\" is none of auto, cpu, cuda and cuda:N"), "{words}");
}

#[test]
fn a_broken_station_file_is_exit_code_2_with_file_and_line() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    site.edit("task = \"serial\"", "task = \"seriall\"");
    for command in ["check", "run"] {
        let output =
            inspectd().arg(command).arg("-c").arg(&site.file).assert().code(2).get_output().clone();
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(words.contains("demo.toml:") && words.contains("seriall"), "{command}: {words}");
    }
}

#[test]
fn an_unwritable_database_is_exit_code_4() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    // A folder where the file should be: refused to root, too, unlike a permission.
    fs::create_dir(site.database()).expect("made");
    let words = refused(inspectd().arg("run").arg("-c").arg(&site.file), 4);
    assert!(words.contains("audit.db"), "{words}");
}

#[test]
fn one_picture_becomes_one_record_on_standard_output() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let set = pictures(site.dir.path(), 1);
    let mut command = inspectd();
    command.args(["inspect", "--whole", "--station", "demo", "-c"]).arg(&site.file);
    let output = command.arg(set.join("000000.png")).assert().success().get_output().clone();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(record["station"], "demo");
    assert_eq!(record["questions"].as_array().map(Vec::len), Some(2));
    assert_eq!(record["schema_version"], 1);
    assert!(!site.database().exists(), "nothing is recorded");
}

#[test]
fn a_truncated_picture_and_an_unknown_station_are_clear_errors() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let set = pictures(site.dir.path(), 1);
    let whole = fs::read(set.join("000000.png")).expect("readable");
    let cut = site.dir.path().join("cut.png");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
    let mut command = inspectd();
    command.args(["inspect", "--station", "demo", "-c"]).arg(&site.file).arg(&cut);
    let words = refused(&mut command, 2);
    assert!(words.contains("cut.png"), "{words}");
    let mut command = inspectd();
    command.args(["inspect", "--station", "dmeo", "-c"]).arg(&site.file).arg(&cut);
    let words = refused(&mut command, 2);
    assert!(words.contains("dmeo") && words.contains("there are: demo"), "{words}");
}

#[test]
fn a_picture_too_small_for_the_region_is_a_review_record() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let set = pictures(site.dir.path(), 1);
    let mut command = inspectd();
    // Without --whole, the region of a 640x480 frame is looked for in a 336x336 picture.
    command.args(["inspect", "--station", "demo", "-c"]).arg(&site.file);
    let output = command.arg(set.join("000000.png")).assert().success().get_output().clone();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(record["verdict"]["outcome"], "review");
    assert!(record["verdict"]["reasons"][0]["text"].to_string().contains("reaches past"));
}

#[test]
fn an_evaluation_writes_its_figures() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let set = pictures(dir.path(), 8);
    let report = dir.path().join("report.json");
    inspectd().arg("evaluate").arg("--set").arg(&set).arg("--json").arg(&report).assert().success();
    let text = fs::read_to_string(&report).expect("written");
    let figures: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(figures["count"], 8);
    assert_eq!(figures["json_valid"], 1.0);
    for name in [
        "verdict_accuracy",
        "serial_exact",
        "serial_wrong_accepted",
        "defect_f1_macro",
        "escape_rate",
        "overkill_rate",
    ] {
        assert!(figures[name].is_number(), "{name}");
    }
}

#[test]
fn a_set_without_labels_is_a_clear_error() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let words = refused(inspectd().arg("evaluate").arg("--set").arg(dir.path()), 2);
    assert!(words.contains("truth.jsonl"), "{words}");
}
