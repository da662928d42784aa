//! What a model costs: the figures against what the engine does, and what is refused with them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use inspectd::capacity::{Machine, cost};
use inspectd::clock::{Clock, SystemClock};
use inspectd::daemon::{self, plan};
use inspectd::frame::{Frame, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, EngineModel, EvidenceKeeper, Inspector, Part};
use inspectd::station::Station;
use inspectd::{config, evaluate, simulate};
use serde_json::Value;

use crate::support::station::{Site, some_picture};

fn inspectd(action: &[&str], site: &Site) -> Command {
    let mut command = Command::cargo_bin("inspectd").expect("built by cargo");
    command.args(action).arg("-c").arg(&site.file);
    command
}

/// What a command that ends with `code` says on both channels.
fn said(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A site that would run: its station looks at pictures that are there.
fn site() -> Site {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let out = site.dir.path().join("set");
    let mix = simulate::Mix::default();
    let options = simulate::SetOptions { count: 2, seed: 3, dense: false, mix, out };
    simulate::write_set(&options, |_| {}).expect("a set is written");
    site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
    site.edit("repeat = false\n", "");
    site
}

fn with_model_key(site: &Site, line: &str) {
    let text = fs::read_to_string(&site.file).expect("readable");
    fs::write(&site.file, text.replacen("[model]\n", &format!("[model]\n{line}\n"), 1))
        .expect("written");
}

fn info(site: &Site, more: &[&str]) -> Value {
    let mut command = inspectd(&["model", "info", "--json"], site);
    let output = command.args(more).assert().success().get_output().clone();
    serde_json::from_slice(&output.stdout).expect("JSON")
}

struct NoEvidence;

impl EvidenceKeeper for NoEvidence {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok("00".repeat(32))
    }
}

/// Inspects `pictures` one after the other, as the daemon does.
fn inspect_all(
    settings: &config::Settings,
    station: &Station,
    pictures: &[Rgb8],
) -> Vec<Inspection> {
    let station = Arc::new(station.clone());
    let engine = daemon::load_engine(settings).expect("it loads").engine;
    let model = EngineModel::new(engine, std::slice::from_ref(&station)).expect("it is prepared");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut inspector = Inspector::new(model, Clerk::new(Arc::clone(&clock), "box", "m", "p"));
    let one = |(job, picture): (u64, &Rgb8)| {
        let now = clock.now();
        let frame = Frame {
            sequence: job,
            camera: Arc::from("demo"),
            captured: now,
            pipeline_ns: None,
            picture: picture.clone().into(),
        };
        let mut part = Part::new(&station, job, job.to_string(), now);
        part.frame = Some(Arc::new(frame));
        inspector.inspect(&part, &NoEvidence)
    };
    (1..).zip(pictures).map(one).collect()
}

fn two_pictures(site: &Site) -> Vec<Rgb8> {
    let read = |name: &&str| {
        let path = site.dir.path().join("set").join(name);
        let picture = image::open(path).expect("a picture").into_rgb8();
        let (width, height) = picture.dimensions();
        Rgb8::from_data(width, height, picture.into_raw()).expect("whole")
    };
    ["000000.png", "000001.png"].iter().map(read).collect()
}

/// A good part that comes first is read once for all parts, where nothing else stands between; tiles,
/// each of which has its own, are read anew.
#[test]
fn the_tokens_of_tiles_and_of_a_good_part_are_counted_too() {
    let site = site();
    let mut pictures = two_pictures(&site);
    pictures.push(pictures[0].clone());
    // A frame: one of 336x336 px would be taken for a region's picture.
    let good = site.dir.path().join("stations/good.png");
    inspectd::frame::file::write_png(&good, &some_picture()).expect("written");
    let path = site.dir.path().join("stations/demo.toml");
    let text = fs::read_to_string(&path).expect("readable");
    let (top, questions) = text.split_once("[[region]]").expect("regions");
    let rules = questions.split_once("[rules]").expect("rules").1;
    for (tiles, expected) in
        [("", &["defects"][..]), ("tiles = [2, 1]\n", &["defects (plate.1)", "defects (plate.2)"])]
    {
        let own = format!(
            "[[region]]\nname = \"plate\"\n{tiles}\n[[question]]\nname = \"defects\"\n\
             task = \"defects\"\ngolden = \"good.png\"\nclasses = \
             [\"scratch\", \"dent\", \"stain\", \"crack\", \"missing_screw\"]\n\n[rules]"
        );
        fs::write(&path, format!("{top}{own}{rules}")).expect("written");
        let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
        let mut station = loaded.stations[0].clone();
        station.deadline = Duration::from_secs(600);
        let card = inspectd::vlm::ModelCard::open(&loaded.settings.model.path).expect("a card");
        let tokenizer = card.tokenizer.as_ref().expect("a tokenizer");
        let cost = cost::of(tokenizer, &station).expect("a cost");
        let names: Vec<&str> = cost.questions.iter().map(|cost| cost.question.as_str()).collect();
        assert_eq!(names, expected);

        // The first part is not yet the middle of a shift.
        for inspection in &inspect_all(&loaded.settings, &station, &pictures)[1..] {
            assert_eq!(inspection.questions.len(), expected.len());
            for (asked, cost) in inspection.questions.iter().zip(&cost.questions) {
                let tokens = asked.answer.as_ref().expect("answered").tokens;
                let counted = (cost.prompt_tokens(), cost.picture_tokens, cost.reused_tokens);
                let told = (tokens.prompt, tokens.image, tokens.reused);
                assert_eq!(counted, told, "{}", cost.question);
                assert_eq!(tokens.reused > 313, tiles.is_empty(), "the good part's picture");
            }
        }
    }
}

#[test]
fn the_counted_tokens_are_those_of_the_engine() {
    let site = site();
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    let mut station = evaluate::whole_picture_station(&loaded.stations[0]);
    station.deadline = Duration::from_secs(600);
    // Text before the picture, other system text, examples, a second look with the same words.
    let mut more = station.questions[1].clone();
    more.name = "again".into();
    more.system = "Look twice.".into();
    more.examples = vec![("What is this?".into(), "A plate.".into())];
    more.text = "First look: <image> Which marks does it show?".into();
    station.questions.push(more);
    let mut last = station.questions[0].clone();
    last.name = "last".into();
    last.text = "Read it once more.".into();
    station.questions.push(last);
    let card = inspectd::vlm::ModelCard::open(&loaded.settings.model.path).expect("a card");
    let cost = cost::of(card.tokenizer.as_ref().expect("a tokenizer"), &station).expect("a cost");

    let pictures = two_pictures(&site);
    // The second part is one in the middle of a shift.
    let inspected = inspect_all(&loaded.settings, &station, &pictures);
    for (asked, cost) in inspected[1].questions.iter().zip(&cost.questions) {
        let tokens = asked.answer.as_ref().expect("answered").tokens;
        let counted = (cost.prompt_tokens(), cost.picture_tokens, cost.reused_tokens);
        assert_eq!(counted, (tokens.prompt, tokens.image, tokens.reused), "{}", cost.question);
        assert!(tokens.generated <= cost.longest_tokens);
    }
    let views: Vec<usize> = cost.questions.iter().map(|question| question.views).collect();
    assert_eq!(views, [1, 0, 0, 0]);
}

#[test]
fn info_tells_the_model_and_an_estimate_that_says_so() {
    let site = site();
    let told = info(&site, &[]);
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    let engine = daemon::load_engine(&loaded.settings).expect("it loads").engine;
    assert_eq!(told["digest"], engine.digest().unwrap().to_string().as_str());
    assert!(told["parameters"].as_u64().is_some_and(|count| count > 3_000_000));
    assert_eq!(told["decoder"]["layers"], engine.config().decoder.layers);
    assert_eq!(told["speed"]["origin"], "estimated");
    assert!(told["measurement"].is_null());
    let questions = told["stations"][0]["questions"].as_array().expect("a list");
    assert_eq!(questions.len(), 2);
    assert_eq!(questions[0]["picture_tokens"], 313);
    assert!(questions[0]["longest_s"].as_f64() >= questions[0]["usual_s"].as_f64());
    let words = said(&mut inspectd(&["model", "info"], &site), 0);
    assert!(words.contains("estimated") && words.contains("serial"), "{words}");
    // Without a configuration.
    let mut alone = Command::cargo_bin("inspectd").expect("built by cargo");
    alone.args(["model", "info", "--json", "--model"]).arg(&loaded.settings.model.path);
    let output = alone.assert().success().get_output().clone();
    let alone: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(alone["digest"], told["digest"]);
    assert_eq!(alone["stations"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_line_that_is_too_fast_is_a_warning_until_it_is_measured_and_then_refused() {
    let site = site();
    site.edit("name = \"demo\"", "name = \"demo\"\nparts_per_minute = 100000");
    let words = said(&mut inspectd(&["check"], &site), 0);
    assert!(
        words.contains("warning: this machine cannot keep up") && words.contains("estimated"),
        "{words}"
    );
    let told = info(&site, &["--measure"]);
    let measured = &told["measurement"]["measurement"];
    for figure in ["load_s", "first_answer_s", "resident_bytes", "peak_bytes", "own_bytes"] {
        assert!(
            measured[figure].as_f64().is_some_and(|figure| figure > 0.0),
            "{figure}: {measured}"
        );
    }
    assert!(measured["first_answer_s"].as_f64() > measured["load_s"].as_f64());
    assert!(site.dir.path().join("measurements.json").exists());
    for action in ["check", "run"] {
        let words = said(&mut inspectd(&[action], &site), 2);
        for choice in
            ["measured", "100000 parts a minute", "inspect_every = ", "quantisation", "remote"]
        {
            assert!(words.contains(choice), "{action}, {choice}: {words}");
        }
    }
    // The n that is named would do.
    let words = said(&mut inspectd(&["check"], &site), 2);
    let n = words.split("inspect_every = ").nth(1).and_then(|rest| rest.split(' ').next());
    let line = format!("name = \"demo\"\ninspect_every = {}", n.expect("a number"));
    site.edit("name = \"demo\"", &line);
    let words = said(&mut inspectd(&["check"], &site), 0);
    assert!(words.contains("(measured)"), "{words}");
    // Other threads are another machine: what was measured does not hold.
    with_model_key(&site, "threads = 1");
    let other = info(&site, &[]);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(other["speed"]["origin"], if cores == 1 { "measured" } else { "estimated" });
    // A spoilt file is no measurement, and no reason to stop.
    fs::write(site.dir.path().join("measurements.json"), "[{]").expect("written");
    assert_eq!(info(&site, &[])["speed"]["origin"], "estimated");
}

#[test]
fn a_budget_beyond_the_machine_is_refused_with_the_figures() {
    let site = site();
    with_model_key(&site, "memory_budget_mib = 16777216");
    for action in ["check", "run"] {
        let words = said(&mut inspectd(&[action], &site), 2);
        assert!(words.contains("memory_budget_mib") && words.contains("16384.0 GiB"), "{words}");
        let usable = Machine::here().usable_bytes().expect("Linux tells") >> 20;
        assert!(words.contains(&format!("memory_budget_mib = {usable}")), "{words}");
    }
    assert!(!site.database().exists() || Store::is_empty(&site), "nothing was inspected");
}

#[test]
fn a_model_beyond_its_budget_is_refused_with_the_figures() {
    let site = site();
    with_model_key(&site, "memory_budget_mib = 64");
    let words = said(&mut inspectd(&["run"], &site), 3);
    for figure in ["weights", "KV cache", "64 MiB", "max_context", "cache = \"compact\""] {
        assert!(words.contains(figure), "{figure}: {words}");
    }
    said(&mut inspectd(&["check"], &site), 2);
    // So is it by what asks a model without being the daemon.
    let set = site.dir.path().join("set");
    let (set, picture) = (set.display().to_string(), set.join("000000.png").display().to_string());
    for action in [
        vec!["inspect", &picture, "--whole", "--station", "demo"],
        vec!["evaluate", "--set", &set],
        vec!["bench", "--stages", "tower"],
    ] {
        let words = said(&mut inspectd(&action, &site), 3);
        assert!(words.contains("weights") && words.contains("64 MiB"), "{action:?}: {words}");
    }
    said(&mut inspectd(&["model", "info"], &site), 0);
}

/// So long the daemon lets the model's digest come after the cameras.
#[test]
fn a_first_record_may_wait_for_what_its_deadline_leaves() {
    let site = site();
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    let mut stations = vec![Arc::new(loaded.stations[0].clone())];
    let plan = plan::make(&loaded.settings, &stations, "").expect("a plan");
    let longest = Duration::from_secs_f64(plan.stations[0].part.longest_s);
    assert_eq!(plan.spare(&stations), stations[0].deadline - longest);
    // The shortest counts, and what is not known leaves nothing.
    let hurried = Station { deadline: longest / 2, ..loaded.stations[0].clone() };
    let unknown = Station { name: "other".into(), ..loaded.stations[0].clone() };
    for other in [hurried, unknown] {
        stations.truncate(1);
        stations.push(Arc::new(other));
        assert_eq!(plan.spare(&stations), Duration::ZERO);
    }
}

/// What is asked about an audit log here.
struct Store;

impl Store {
    fn is_empty(site: &Site) -> bool {
        use inspectd::store::{Filter, Reader};
        let reader = Reader::open(&site.database()).expect("readable");
        reader.count(&Filter::default()).expect("readable") == 0
    }
}

#[test]
fn the_measured_memory_is_within_the_footprint_that_was_told() {
    let site = site();
    let told = info(&site, &["--measure"]);
    let footprint = told["memory"]["total_bytes"].as_u64().expect("a number");
    let own = told["measurement"]["measurement"]["own_bytes"].as_u64().expect("a number");
    assert!(own <= footprint, "{own} bytes of its own, {footprint} were told");
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(plan::kept(&loaded.settings).entries().len() == 1);
}
