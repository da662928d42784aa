//! `inspectd bench`: the real program on small models. Nothing here depends on how fast it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
    command.arg("bench").args(arguments).output().unwrap()
}

/// A run that is as short as one can be.
fn short(arguments: &[&str]) -> Output {
    let quick = ["--runs", "1", "--warm-up", "0", "--threads", "1"];
    bench(&[arguments, quick.as_slice()].concat())
}

fn words(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn ok(output: Output) -> String {
    let text = words(&output);
    assert!(output.status.success(), "{text}");
    text
}

fn refused(output: Output, code: i32) -> String {
    let text = words(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(report: &Value) -> Vec<&str> {
    let stages = report["stages"].as_array().unwrap();
    stages.iter().map(|stage| stage["id"].as_str().unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_stage_of_the_built_in_model_is_measured_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let shown = ok(short(&["--prompt-tokens", "8,20", "--json", text(&file)]));
    let report = read(&file);
    let expected =
        ["tower", "projector", "prefill-8", "prefill-20", "decode-8", "decode-20", "inspection"];
    assert_eq!(ids(&report), expected);
    for id in expected {
        assert!(shown.contains(id), "{id}: {shown}");
    }
    assert_eq!(report["bench_version"], 1);
    assert_eq!(report["model"]["threads"], 1);
    assert_eq!(report["model"]["digest"].as_str().unwrap().len(), 64);
    assert!(report["memory"]["peak_bytes"].as_u64() >= report["memory"]["resident_bytes"].as_u64());
    for stage in report["stages"].as_array().unwrap() {
        assert_eq!(stage["runs_s"].as_array().unwrap().len(), 1, "{stage}");
        assert!(stage["flop"].as_u64().unwrap() > 0, "{stage}");
        assert!(stage["figures"]["compute_share"].as_f64().unwrap() > 0.0, "{stage}");
        assert_eq!(stage["bytes"].is_null(), stage["id"] == "inspection", "{stage}");
    }
    let of = |id: &str, field: &str| {
        let stages = report["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["id"] == id).unwrap()[field].as_u64().unwrap()
    };
    assert_eq!((of("projector", "units"), of("decode-8", "units")), (313, 8));
    // What is written after more costs more, by the attention and by the cache.
    assert!(of("decode-20", "flop") > of("decode-8", "flop"));
    assert!(of("decode-20", "bytes") > of("decode-8", "bytes"));
    let all = report["model"]["weights_bytes"].as_u64().unwrap();
    assert!(of("tower", "bytes") + of("projector", "bytes") < all);
}

#[test]
fn runs_are_added_only_to_those_of_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let quick = ["--stages", "projector,inspection", "--json", text(&file), "--add"];
    ok(short(&quick));
    ok(short(&quick));
    for at in [0, 1] {
        assert_eq!(read(&file)["stages"][at]["runs_s"].as_array().unwrap().len(), 2);
    }
    let tiny = fixture("tiny_gqa");
    let other = short(&[quick.as_slice(), &["--model", text(&tiny)]].concat());
    let said = refused(other, 2);
    assert!(said.contains("cannot be added") && said.contains("model"), "{said}");
    assert_eq!(read(&file)["stages"][0]["runs_s"].as_array().unwrap().len(), 2, "as it was");
}

#[test]
fn a_gguf_file_is_measured_with_the_limit_of_its_products() {
    let dir = tempfile::tempdir().unwrap();
    let (file, report) = (dir.path().join("tiny.gguf"), dir.path().join("report.json"));
    let made = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["model", "quantize", "--format", "q8_0", "--model", text(&fixture("tiny_gqa"))])
        .arg("--out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", words(&made));
    let stages = ["--stages", "decode", "--prompt-tokens", "9"];
    let with = |more: &[&str]| {
        let model = ["--model", text(&file), "--json", text(&report)];
        ok(short(&[stages.as_slice(), &model, more].concat()));
        read(&report)
    };
    assert_eq!(with(&["--cache", "compact"])["model"]["cache"], json!("compact"));
    let report = with(&[]);
    assert_eq!(
        (&report["model"]["name"], &report["model"]["cache"]),
        (&json!("tiny.gguf"), &json!("f16"))
    );
    assert!(report["model"]["quantised_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn the_machine_s_limits_need_no_model() {
    let shown = ok(bench(&["--stages", "none", "--model", "/nowhere"]));
    assert!(shown.contains("memory, GB/s") && shown.contains("8 bits"), "{shown}");
    assert!(!shown.contains("median"), "{shown}");
}

/// Two reports that differ in the time of one stage, made of one that the program wrote.
fn two_reports(dir: &Path, before_s: &[f64], after_s: &[f64]) -> (PathBuf, PathBuf) {
    let first = dir.join("first.json");
    ok(short(&["--stages", "projector", "--json", text(&first)]));
    let with = |name: &str, runs_s: &[f64]| {
        let mut report = read(&first);
        let stage = &mut report["stages"][0];
        stage["runs_s"] = json!(runs_s);
        stage["figures"]["median_s"] = json!(runs_s[runs_s.len() / 2]); // three runs, ascending
        stage["figures"]["spread_s"] = json!((runs_s[2] - runs_s[0]) / 2.0);
        let path = dir.join(name);
        fs::write(&path, report.to_string()).unwrap();
        path
    };
    (with("before.json", before_s), with("after.json", after_s))
}

#[test]
fn a_gate_fails_for_what_is_slower_than_the_noise_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = two_reports(dir.path(), &[0.99, 1.0, 1.01], &[1.19, 1.2, 1.21]);
    let compared = |new: &Path, old: &Path, percent: &str| {
        bench(&["--show", text(new), "--compare", text(old), "--fail-above", percent])
    };
    let said = refused(compared(&after, &before, "10"), 6);
    assert!(said.contains("SLOWER") && said.contains("projector by 20.0 %"), "{said}");
    let said = ok(compared(&after, &before, "25"));
    assert!(said.contains("SLOWER") && said.contains("1.200"), "{said}");
    let said = ok(compared(&before, &after, "0"));
    assert!(said.contains("faster") && !said.contains("SLOWER"), "{said}");
    let said = ok(compared(&before, &before, "0"));
    assert!(!said.contains("faster") && !said.contains("SLOWER"), "{said}");
    let (before, noisy) = two_reports(dir.path(), &[0.9, 1.0, 1.1], &[0.9, 1.1, 1.3]);
    let said = ok(compared(&noisy, &before, "5"));
    assert!(!said.contains("SLOWER") && said.contains("30.0 %"), "{said}");
}

#[test]
fn reports_without_a_common_stage_never_pass_a_gate() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = two_reports(dir.path(), &[1.0; 3], &[1.0; 3]);
    let mut other = read(&after);
    other["stages"][0]["id"] = json!("tower");
    fs::write(&after, other.to_string()).unwrap();
    let gate = ["--show", text(&after), "--compare", text(&before), "--fail-above", "5"];
    let said = refused(bench(&gate), 6);
    assert!(said.contains("no stage could be compared"), "{said}");
}

#[test]
fn an_unusable_report_is_refused_before_anything_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    for (content, expected) in [
        ("", "not JSON"),
        ("{}", "no bench_version"),
        ("{\"bench_version\": 7}", "bench_version is 7"),
        ("{\"bench_version\": 1, \"machine\": {\"cpu\": \"\\u001b[2J\"}}", "control character"),
        ("{\"bench_version\": 1}", "missing field"),
    ] {
        fs::write(&file, content).unwrap();
        // With a model that is not there: the file is looked at first.
        let compared = bench(&["--model", "/nowhere", "--compare", text(&file)]);
        for output in [compared, bench(&["--show", text(&file)])] {
            let said = refused(output, 2);
            assert!(said.contains("report.json") && said.contains(expected), "{said}");
        }
    }
    let said = refused(bench(&["--compare", "/nowhere/before.json"]), 2);
    assert!(said.contains("/nowhere/before.json"), "{said}");
}

#[test]
fn wrong_arguments_say_what_is_right() {
    for (arguments, code, expected) in [
        (vec!["--stages", "towr"], 2, "tower, projector, prefill, decode, inspection"),
        (vec!["--runs", "0"], 2, "1..=1000"),
        (vec!["--prompt-tokens", "0"], 2, "choose 1 to"),
        (vec!["--prompt-tokens", "999999"], 2, "choose 1 to 4088"),
        (vec!["--prompt-tokens", "18446744073709551615"], 2, "choose 1 to 4088"),
        (vec!["--prompt-tokens", "many"], 2, "many"),
        (vec!["--fail-above", "5"], 2, "--compare"),
        (vec!["--add"], 2, "--json"),
        (vec!["--json", "/nowhere/report.json"], 2, "/nowhere/report.json"),
        (vec!["--station", "demmo"], 2, "there are: demo"),
        (vec!["--model", "/nowhere"], 3, "/nowhere"),
    ] {
        let said = refused(short_unless(&arguments), code);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

/// Short, unless the number of runs is what is tried.
fn short_unless(arguments: &[&str]) -> Output {
    if arguments.contains(&"--runs") { bench(arguments) } else { short(arguments) }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
