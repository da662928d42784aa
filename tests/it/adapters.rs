//! Adapters from the configuration to the record: who names one, what is checked when, and what the
//! record says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assert_cmd::Command;
use inspectd::clock::{Clock, SystemClock};
use inspectd::config;
use inspectd::evaluate::whole_picture_station;
use inspectd::frame::{Frame, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, EngineModel, EvidenceKeeper, Inspector, Part};
use inspectd::simulate::{Mix, SetOptions, picture, write_set};
use inspectd::station::Station;
use inspectd::store::Store;
use inspectd::verdict::Reason;
use inspectd::vlm::ask::Answer;
use inspectd::vlm::{AdapterRef, Engine, EngineOptions};

use crate::support::adapters::{Draft, fixture};
use crate::support::records;
use crate::support::station::Site;

struct Nothing;

impl EvidenceKeeper for Nothing {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok(String::new())
    }
}

/// A site whose folder `adapters` holds `one` and `two`, both for the built-in model.
fn site() -> Site {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    Draft::builtin(1).write(&site.dir.path().join("adapters/one"));
    Draft::builtin(2).write(&site.dir.path().join("adapters/two"));
    site
}

/// The key for all questions.
fn name_for_station(site: &Site, dir: &str) {
    site.edit("queue_parts = 8", &format!("queue_parts = 8\nadapter = \"../adapters/{dir}\""));
}

/// The key for the second question.
fn name_for_defects(site: &Site, dir: &str) {
    let key = format!("task = \"defects\"\nadapter = \"../adapters/{dir}\"");
    site.edit("task = \"defects\"", &key);
}

fn station(site: &Site) -> Station {
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    whole_picture_station(&loaded.stations[0])
}

fn digest(site: &Site, dir: &str) -> String {
    AdapterRef::check(&site.dir.path().join("adapters").join(dir)).unwrap().digest.to_string()
}

fn engine(site: &Site, adapters_max_bytes: usize) -> Arc<Engine> {
    let options = EngineOptions { adapters_max_bytes, ..EngineOptions::default() };
    Arc::new(Engine::load(&site.dir.path().join("model"), &options).unwrap())
}

fn part(station: &Arc<Station>, index: u64, missed: Option<Reason>) -> Part {
    let now = SystemClock.now();
    let frame = Frame {
        sequence: index,
        camera: Arc::from("demo"),
        captured: now,
        pipeline_ns: None,
        picture: picture(99, index, &Mix::default()).pixels.into(),
    };
    let part = Part::new(station, index, index.to_string(), now);
    Part { frame: Some(Arc::new(frame)), missed, ..part }
}

fn inspector(engine: &Arc<Engine>, stations: &[Arc<Station>]) -> Inspector<EngineModel> {
    let model = EngineModel::new(Arc::clone(engine), stations).expect("the questions fit");
    Inspector::new(model, Clerk::new(Arc::new(SystemClock), "box", "model", "program"))
}

/// Text and probabilities, as bits, of one answer.
fn said(inspection: &Inspection, question: usize) -> (String, Vec<u64>) {
    let answer: &Answer = inspection.questions[question].answer.as_ref().expect("an answer");
    (answer.text.clone(), answer.fields.iter().map(|field| field.probability.to_bits()).collect())
}

#[test]
fn a_question_s_own_adapter_goes_before_the_station_s() {
    let site = site();
    let worn = |site: &Site| -> Vec<Option<String>> {
        let adapter = |adapter: &AdapterRef| adapter.digest.to_string();
        station(site).questions.iter().map(|asked| asked.adapter.as_ref().map(adapter)).collect()
    };
    assert_eq!(worn(&site), [None, None]);
    name_for_defects(&site, "two");
    assert_eq!(worn(&site), [None, Some(digest(&site, "two"))]);
    name_for_station(&site, "one");
    assert_eq!(worn(&site), [Some(digest(&site, "one")), Some(digest(&site, "two"))]);
}

/// Three stations on one engine, part by part: each answer is that of a line where nothing else was
/// ever asked, and a question without an adapter answers as if there were none.
#[test]
fn stations_with_other_adapters_do_not_colour_each_other() {
    let plain = site();
    let (own, whole) = (site(), site());
    name_for_defects(&own, "one");
    name_for_station(&whole, "two");
    let engine = engine(&plain, 1 << 20);
    let stations: Vec<Arc<Station>> = [("a", &plain), ("b", &own), ("c", &whole)]
        .map(|(name, site)| Arc::new(Station { name: name.to_owned(), ..station(site) }))
        .to_vec();
    let alone: Vec<Inspection> = stations
        .iter()
        .map(|station| {
            inspector(&engine, std::slice::from_ref(station))
                .inspect(&part(station, 1, None), &Nothing)
        })
        .collect();
    assert_ne!(said(&alone[0], 1), said(&alone[1], 1), "the adapter changes the answer");
    assert_ne!(said(&alone[1], 1), said(&alone[2], 1));
    assert_eq!(said(&alone[0], 0), said(&alone[1], 0), "the serial has no adapter in b");

    let mut shared = inspector(&engine, &stations);
    for which in [1, 0, 2, 2, 1, 1, 0, 2, 0] {
        let found = shared.inspect(&part(&stations[which], 1, None), &Nothing);
        for question in 0..2 {
            assert_eq!(said(&found, question), said(&alone[which], question), "{which}");
        }
    }
}

#[test]
fn every_record_names_the_adapters_and_one_without_is_what_it_was() {
    let site = site();
    let engine = engine(&site, 1 << 20);
    let look = |site: &Site, missed: Option<Reason>| {
        let station = Arc::new(station(site));
        let mut inspector = inspector(&engine, std::slice::from_ref(&station));
        inspector.inspect(&part(&station, 1, missed), &Nothing)
    };
    let before = serde_json::to_value(look(&site, None)).unwrap();
    assert!(before["digests"].get("adapters").is_none(), "{before}");
    name_for_defects(&site, "one");
    let queue_full = Reason::new("queue_full", "8 parts were waiting already.");
    for missed in [None, Some(queue_full)] {
        let inspection = look(&site, missed);
        let adapters = &inspection.digests.adapters;
        assert_eq!(adapters.len(), 1);
        assert_eq!(adapters["defects"], digest(&site, "one"));
    }
    // Through the audit log and back.
    let inspection = look(&site, None);
    let dir = tempfile::tempdir().unwrap();
    let store: Store = records::open(dir.path());
    store.commit(&inspection, &[]).expect("committed");
    let reader = inspectd::store::Reader::open(&dir.path().join("inspectd.db")).unwrap();
    let record = reader.find("1").unwrap().expect("there");
    assert_eq!(record.inspection().unwrap(), inspection);
    // A record from before there were adapters, or the processor's name, is read as one without.
    let mut old = serde_json::to_value(&inspection).unwrap();
    old["digests"].as_object_mut().unwrap().remove("adapters");
    old.as_object_mut().unwrap().remove("computed_on");
    let old: Inspection = serde_json::from_value(old).unwrap();
    assert!(old.digests.adapters.is_empty() && old.computed_on.is_none());
}

#[test]
fn all_adapters_together_are_bounded_and_the_same_one_counts_once() {
    let site = site();
    name_for_station(&site, "one");
    let small = 1 << 17;
    let bytes = 2 * 4 * 4 * ((192 + 576) + (192 + 192) + (192 + 1024) + (512 + 192));
    assert!(bytes < small && 2 * bytes > small);
    let load = |engine: &Arc<Engine>| {
        let station = Arc::new(station(&site));
        EngineModel::new(Arc::clone(engine), &[station]).map(drop).map_err(|why| why.to_string())
    };
    let engine = engine(&site, small);
    assert_eq!(load(&engine), Ok(()), "two questions, one adapter");
    name_for_defects(&site, "two");
    let message = load(&engine).unwrap_err();
    assert!(message.contains("adapters_max_mib") && message.contains("adapters/two"), "{message}");
}

#[test]
fn an_adapter_that_changed_since_it_was_checked_is_refused() {
    let site = site();
    name_for_station(&site, "one");
    let station = Arc::new(station(&site));
    Draft::builtin(3).write(&site.dir.path().join("adapters/one"));
    let told = EngineModel::new(engine(&site, 1 << 20), &[station]).map(drop).unwrap_err();
    assert!(told.to_string().contains("changed while the program started"), "{told}");
}

/// What `check` says, and its exit code.
fn check(site: &Site) -> (String, u8) {
    let mut out = Vec::new();
    let code = config::check::run(&site.file, &mut out, false).expect("written").code();
    (String::from_utf8(out).expect("UTF-8"), code)
}

fn folder_of_pictures(site: &Site) {
    let pictures = site.dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    image::RgbImage::new(32, 32).save(pictures.join("1.png")).unwrap();
    site.edit("uri = \"file:///nowhere/line.mkv\"\nrepeat = false", "folder = \"../pictures\"");
}

#[test]
fn a_check_shows_the_adapter_or_says_why_it_does_not_fit() {
    let site = site();
    folder_of_pictures(&site);
    name_for_defects(&site, "one");
    let (words, code) = check(&site);
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("adapters/one") && words.contains(&digest(&site, "one")), "{words}");

    let other = site.dir.path().join("adapters/one");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("plain").join(name), other.join(name)).unwrap();
    }
    let (words, code) = check(&site);
    assert_eq!(code, 2, "{words}");
    for part in ["station \"demo\"", "adapter_model.safetensors", "this model needs", "help"] {
        assert!(words.contains(part), "{part} is not in\n{words}");
    }
}

#[test]
fn a_bad_adapter_is_told_with_the_line_that_names_it() {
    let golden = |name: &str, site: &Site| {
        let words = config::load(&site.file).expect_err("this configuration is bad").to_string();
        let words = words.replace(&format!("{}/", site.dir.path().display()), "");
        crate::config::assert_golden(name, &words);
    };
    let absent = site();
    name_for_station(&absent, "three");
    golden("adapter_absent", &absent);

    let dora = site();
    name_for_defects(&dora, "one");
    let mut draft = Draft::builtin(1);
    draft.config["use_dora"] = true.into();
    draft.write(&dora.dir.path().join("adapters/one"));
    golden("adapter_field", &dora);

    let damaged = site();
    name_for_defects(&damaged, "one");
    let mut draft = Draft::builtin(1);
    draft.tensors.retain(|name, _| !name.contains("layers.2.mlp.down_proj.lora_B"));
    draft.write(&damaged.dir.path().join("adapters/one"));
    golden("adapter_tensor", &damaged);
}

fn inspectd() -> Command {
    Command::cargo_bin("inspectd").expect("built by cargo")
}

fn one_picture(site: &Site) -> PathBuf {
    let out = site.dir.path().join("set");
    let options = SetOptions { count: 1, seed: 77, dense: false, mix: Mix::default(), out };
    write_set(&options, |_| {}).expect("a set is written");
    options.out
}

#[test]
fn the_command_line_adapts_every_question() {
    let site = site();
    let set = one_picture(&site);
    let dir = site.dir.path().join("adapters/one");
    let inspect = |adapter: &Path| {
        let mut command = inspectd();
        command.args(["inspect", "--whole", "--station", "demo", "-c"]).arg(&site.file);
        command.arg(set.join("000000.png")).arg("--adapter").arg(adapter);
        command
    };
    let output = inspect(&dir).assert().success().get_output().clone();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let one = digest(&site, "one");
    assert_eq!(
        record["digests"]["adapters"],
        serde_json::json!({"defects": one.as_str(), "serial": one.as_str()})
    );
    let output = inspect(Path::new("/nowhere")).assert().code(3).get_output().clone();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("/nowhere/adapter_config.json"), "{words}");
    let output = inspect(&fixture("plain")).assert().code(3).get_output().clone();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("this model needs"), "{words}");

    let mut evaluate = inspectd();
    evaluate.arg("evaluate").arg("--set").arg(&set).arg("--adapter").arg(&dir);
    evaluate.assert().success();

    // And the model alone, where the configuration names one.
    name_for_station(&site, "one");
    let mut command = inspectd();
    command.args(["inspect", "--whole", "--no-adapter", "--station", "demo", "-c"]).arg(&site.file);
    let output = command.arg(set.join("000000.png")).assert().success().get_output().clone();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(record["digests"].get("adapters").is_none(), "{record}");
}

#[test]
fn a_trace_names_the_adapter() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa");
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.json");
    fs::write(&ids, "[1, 300, 301]").unwrap();
    let mut traces = Vec::new();
    for adapter in [None, Some(fixture("plain"))] {
        let out = dir.path().join(format!("{}.safetensors", traces.len()));
        let mut command = inspectd();
        command.args(["model", "trace", "--steps", "2", "--model"]).arg(&model);
        command.arg("--ids-file").arg(&ids).arg("--out").arg(&out);
        if let Some(adapter) = &adapter {
            command.arg("--adapter").arg(adapter);
        }
        let output = command.assert().success().get_output().clone();
        let told = String::from_utf8_lossy(&output.stdout).contains("adapter ");
        assert_eq!(told, adapter.is_some());
        traces.push(fs::read(out).unwrap());
    }
    assert_ne!(traces[0], traces[1]);
}
