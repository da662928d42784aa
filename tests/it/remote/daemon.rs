//! The whole daemon with two stations, one of which asks an engine elsewhere: each goes at its own pace,
//! and when the server is killed nothing is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use inspectd::simulate::{Mix, SetOptions, write_set};
use inspectd::store::{Filter, Reader, Record};
use inspectd::verdict::Outcome;

use crate::support::engine_server::{Act, EngineServer, right};
use crate::support::mosquitto::DEADLINE;
use crate::support::station::Site;

/// A daemon that is killed if its test ends early.
struct Daemon(Child);

impl Daemon {
    fn start(site: &Site) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
        command.args(["run", "--config"]).arg(&site.file).stdout(Stdio::null());
        Daemon(command.spawn().expect("the daemon starts"))
    }

    fn end(&mut self) -> Option<i32> {
        self.0.wait().expect("the daemon ends").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A site of two stations, `demo` with the own model and `far` with the engine at `url`, which both look at
/// the same `count` pictures. `keys` are more of the station `far`, `engine` more of the engine.
fn site(count: u64, url: &str, keys: &str, engine: &str) -> Site {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let out = site.dir.path().join("set");
    let options = SetOptions { count, seed: 4711, dense: false, mix: Mix::default(), out };
    write_set(&options, |_| {}).expect("a set is written");
    site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
    site.edit("kind = \"presence\"", "kind = \"every_frame\"");
    site.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
    site.edit("repeat = false\n", "repeat = false\nrealtime = false\n");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    let stations = site.dir.path().join("stations");
    let demo = std::fs::read_to_string(stations.join("demo.toml")).expect("readable");
    let far =
        demo.replace("name = \"demo\"\n", &format!("name = \"far\"\nengine = \"gpu\"\n{keys}"));
    std::fs::write(stations.join("far.toml"), far).expect("written");
    let main = std::fs::read_to_string(&site.file).expect("readable");
    let engine =
        format!("[engines.gpu]\nkind = \"openai\"\nurl = \"{url}\"\nmodel = \"tiny-vl\"\n{engine}");
    std::fs::write(&site.file, main + &engine).expect("written");
    site
}

fn records(site: &Site) -> BTreeMap<String, Vec<Record>> {
    let reader = Reader::open(&site.database()).expect("the log is readable");
    let mut by_station: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    let mut all = reader.list(&Filter::default()).expect("records are readable");
    all.sort_by_key(|record| record.sequence);
    for record in all {
        by_station.entry(record.station.clone()).or_default().push(record);
    }
    by_station
}

fn verify(site: &Site) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
    command.args(["audit", "--config"]).arg(&site.file).arg("verify").stdout(Stdio::null());
    assert_eq!(command.status().expect("it runs").code(), Some(0), "the log is whole");
}

/// Waits until station `name` has `count` records.
fn wait_for(site: &Site, name: &str, count: usize) {
    let until = Instant::now() + 4 * DEADLINE;
    while Instant::now() < until {
        if site.database().exists()
            && let Ok(reader) = Reader::open(&site.database())
            && let Ok(all) = reader.list(&Filter::default())
            && all.iter().filter(|record| record.station == name).count() >= count
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {count} records of {name}");
}

#[test]
fn neither_station_waits_for_the_other() {
    // The engine answers nothing until every part of the other station is recorded.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = Arc::clone(&gate);
    let server = EngineServer::start(move |asked, _| {
        let (is_open, opened) = &*waits;
        let open = is_open.lock().unwrap();
        drop(opened.wait_while(open, |open| !*open).unwrap());
        right(asked)
    });
    let site = site(12, &server.url(), "", "timeout_s = 600\nparallel = 3\n");
    let mut daemon = Daemon::start(&site);
    wait_for(&site, "demo", 12);
    assert!(!records(&site).contains_key("far"), "the engine has answered nothing yet");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!(daemon.end(), Some(0));
    let records = records(&site);
    assert_eq!((records["demo"].len(), records["far"].len()), (12, 12));
    assert!(records["far"].iter().all(|record| record.verdict == Outcome::Pass));
    let jobs: Vec<i64> = records["far"].iter().map(|record| record.job_id).collect();
    assert!(jobs.windows(2).all(|pair| pair[0] < pair[1]), "in their order: {jobs:?}");
    verify(&site);
}

#[test]
fn a_server_that_is_killed_loses_nothing_and_the_own_model_takes_over() {
    let server = EngineServer::start(|asked, _| right(asked));
    let keys = "fallback = \"local\"\nfallback_reserve_ms = 500000\n";
    let engine = "timeout_s = 60\nparallel = 2\nbreaker_open_s = 3600\nbreaker_open_max_s = 3600\n";
    let site = site(14, &server.url(), keys, engine);
    let mut daemon = Daemon::start(&site);
    wait_for(&site, "far", 5);
    drop(server);
    assert_eq!(daemon.end(), Some(0));
    let records = records(&site);
    assert_eq!((records["demo"].len(), records["far"].len()), (14, 14));
    let mut own = 0;
    for record in &records["far"] {
        let inspection = record.inspection().expect("readable");
        let fell = |asked: &&inspectd::inspection::Asked| {
            asked.answered_by.as_ref().is_some_and(|by| by.fallen_back.is_some())
        };
        let fallen = inspection.questions.iter().filter(fell).count();
        assert!(inspection.questions.iter().all(|asked| asked.answer.is_some()), "{inspection:?}");
        own += usize::from(fallen > 0);
        assert_eq!(inspection.digests.model == "remote", fallen == 0);
    }
    assert!((1..14).contains(&own), "{own} parts by the own model");
    verify(&site);
}

#[test]
fn without_a_fallback_parts_go_to_review_and_no_model_is_needed() {
    let server =
        EngineServer::start(|asked, before| if before < 4 { right(asked) } else { Act::Close });
    let site = site(
        8,
        &server.url(),
        "",
        "parallel = 1\nbreaker_open_s = 3600\nbreaker_open_max_s = 3600\n",
    );
    std::fs::remove_file(site.dir.path().join("stations/demo.toml")).expect("removed");
    let main = std::fs::read_to_string(&site.file).expect("readable");
    let without = main.replace("[model]\npath = \"model\"\n", "");
    assert_ne!(without, main);
    std::fs::write(&site.file, without).expect("written");
    std::fs::remove_dir_all(site.dir.path().join("model")).expect("removed");
    assert_eq!(Daemon::start(&site).end(), Some(0));
    let records = records(&site);
    assert_eq!(records["far"].len(), 8);
    let passed = records["far"].iter().filter(|record| record.verdict == Outcome::Pass).count();
    assert_eq!(passed, 2, "two questions a part, four answers");
    assert!(records["far"].iter().all(|record| record.verdict != Outcome::Fail));
    let last = records["far"].last().expect("records").inspection().expect("readable");
    assert_eq!(last.verdict.reasons[0].code, "engine_resting", "{:?}", last.verdict);
    verify(&site);
}
