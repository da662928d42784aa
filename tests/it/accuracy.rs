//! `inspectd model accuracy`: the figures of each format, on the real program.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn accuracy(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
    command.args(["model", "accuracy"]).args(arguments).output().unwrap()
}

fn tiny() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa").display().to_string()
}

#[test]
fn fewer_bits_move_the_model_further() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("accuracy.json");
    let json_path = json.display().to_string();
    let out = accuracy(&["--model", &tiny(), "--steps", "6", "--json", &json_path]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    for name in ["f32", "q8_0", "q6_k", "q5_k_m", "q4_k_m"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {text}");
    }
    let lines: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let errors: Vec<f64> =
        (1..5).map(|at| lines[at]["distance"]["logits_relative"].as_f64().unwrap()).collect();
    assert!(errors[0] > 0.0 && errors[0] < 0.1, "q8_0 is close, and not the same: {errors:?}");
    assert!(errors.windows(2).all(|pair| pair[0] < pair[1]), "{errors:?}");
    assert_eq!(lines[1]["distance"]["steps"], 4 * 6);
    assert!(lines[0]["distance"].is_null(), "nothing is compared with itself");
}

#[test]
fn a_quantised_file_is_what_its_format_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.gguf");
    let file = file.display().to_string();
    let made = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["model", "quantize", "--model", &tiny(), "--format", "q8_0", "--out", &file])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let json = dir.path().join("accuracy.json").display().to_string();
    let out = accuracy(&[
        "--model",
        &tiny(),
        "--formats",
        "q8_0",
        "--file",
        &file,
        "--steps",
        "4",
        "--json",
        &json,
    ]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let error = |at: usize| lines[at]["distance"]["logits_relative"].as_f64().unwrap();
    assert_eq!(lines[2]["name"], "tiny.gguf");
    // In memory narrow rows are filled up, in the file some of them are f16: near, not equal.
    assert!(error(2) > 0.0 && error(2) < 1.5 * error(1), "{} {}", error(1), error(2));
}

/// The cache alone, and beside a format: its error is its own, and small.
#[test]
fn each_format_is_tried_with_each_cache() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("accuracy.json").display().to_string();
    let tries = ["--formats", "f32,q8_0", "--cache", "auto,f16,compact"];
    let out = accuracy(
        &[&["--model", &tiny(), "--steps", "4", "--json", &json], tries.as_slice()].concat(),
    );
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let lines = lines.as_array().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    let with = ["f32, f16 cache", "f32, compact cache", "q8_0", "q8_0, f16 cache"];
    assert_eq!(names, [&["f32"], with.as_slice(), &["q8_0, compact cache"]].concat());
    let error = |at: usize| lines[at]["distance"]["logits_relative"].as_f64().unwrap();
    assert!(error(1) > 0.0 && error(1) < error(2) && error(2) < 0.2, "{} {}", error(1), error(2));
    assert_eq!(error(3), error(4), "f16 is what is usual beside q8_0");
    let refused = accuracy(&["--model", &tiny(), "--cache", "q8"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("none of auto, f32, f16 and compact")
    );
}

#[test]
fn an_unknown_format_is_refused_with_those_there_are() {
    let out = accuracy(&["--model", &tiny(), "--formats", "q3_k"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("q3_k") && text.contains("q4_k_m"), "{text}");
}

#[test]
fn fewer_bits_are_no_reference() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("already.gguf");
    std::fs::write(&file, "GGUF").unwrap();
    let out = accuracy(&["--model", &file.display().to_string()]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("--file"), "{text}");
}
