//! Engines that come, go, change and change hands while the daemon runs: in the order of the triggers, and without a
//! lost part.

use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use inspectd::inspection::Inspection;
use inspectd::verdict::Outcome;
use serde_json::Value;

use crate::support::engine_server::{EngineServer, right};
use crate::support::mosquitto::Mosquitto;
use crate::support::plc::{self, Controller, Running, Say, find};
use crate::support::reload::{
    goes_on, nothing_is_lost, of, ok, refused, site_of_pictures, wait_until,
};
use crate::support::service::{Service, command};
use crate::support::station::Site;

/// Answers when it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (is_open, opened) = &*self.0;
        let open = is_open.lock().unwrap();
        drop(opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

struct OpensAtEnd(Gate);

impl Drop for OpensAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// The site's main file with these engines (name, address, more keys), and no others.
fn engines(site: &Site, engines: &[(&str, &str, &str)]) {
    let main = fs::read_to_string(&site.file).expect("readable");
    let mut text = main.split("[engines.").next().expect("a first part").to_owned();
    for (name, url, keys) in engines {
        text += &format!("[engines.{name}]\nkind = \"openai\"\nurl = \"{url}\"\n{keys}");
        text += "model = \"tiny-vl\"\n";
    }
    fs::write(&site.file, text).expect("written");
}

/// The station asks the engine `to` from the next reload on; `""`: the device's own model.
fn ask(site: &Site, to: &str) {
    let path = site.dir.path().join("stations/demo.toml");
    let text = fs::read_to_string(&path).expect("readable");
    let is_other = |line: &&str| !line.starts_with("engine = ");
    let rest: Vec<&str> = text.lines().filter(is_other).collect();
    let first = if to.is_empty() { String::new() } else { format!("engine = \"{to}\"\n") };
    fs::write(path, first + &rest.join("\n") + "\n").expect("written");
}

/// Who answered: the engine's name, or `own`.
fn who(look: &Inspection) -> &str {
    let by = look.questions.first().and_then(|asked| asked.answered_by.as_ref());
    by.map_or("own", |by| by.engine.as_str())
}

/// Triggers a part, and waits until it is on its way.
fn send(controller: &Controller, id: u64) {
    let reply = controller.trigger(id, "");
    assert_eq!(reply["accepted"], true, "{reply}");
    controller.wait("the picture was taken", |seen| {
        let is_it =
            |event: &Value| event["event"] == "AcquisitionDone" && event["trigger_id"] == id;
        find(seen, "event", is_it).is_some()
    });
}

fn results(controller: &Controller, count: usize) -> Vec<u64> {
    let seen = controller.wait("results", |seen| seen.under("result").len() >= count);
    seen.results("trigger_id").iter().map(|id| id.as_u64().expect("a number")).collect()
}

#[test]
fn results_keep_the_order_of_triggers_whoever_answers() {
    let closed = Gate::default();
    let slow = EngineServer::start({
        let closed = closed.clone();
        move |asked, _| {
            closed.pass();
            right(asked)
        }
    });
    // A test that fails must end: the server waits for whoever is at the gate.
    let _opened = OpensAtEnd(closed.clone());
    let quick = EngineServer::start(|asked, _| right(asked));
    let broker = Mosquitto::start();
    let controller = Controller::new(&broker);
    let site = plc::site(broker.port(), "[plc]\n");
    engines(&site, &[("slow", &slow.url(), "timeout_s = 600\n"), ("quick", &quick.url(), "")]);
    let daemon = Running::start(&site);
    controller.wait_ready();
    send(&controller, 1);
    send(&controller, 2);
    daemon.asked();

    // Away from the own model, which has two in hand.
    ask(&site, "quick");
    ok(&site, "station \"demo\": engine\n");
    send(&controller, 3);
    // From a quick engine to a slow one, while a part waits: nobody has asked the quick one.
    ask(&site, "slow");
    ok(&site, "station \"demo\": engine\n");
    send(&controller, 4);
    assert!(slow.asked().is_empty() && quick.asked().is_empty(), "two are before them");
    daemon.say(&[Say::Good, Say::Good]);
    daemon.asked();
    daemon.asked();
    assert!(slow.asked().is_empty(), "one is before them");
    daemon.say(&[Say::Good, Say::Good]);
    wait_until("it is asked for two parts", || slow.asked().len() >= 2);

    // Back, while it keeps those waiting.
    ask(&site, "");
    ok(&site, "station \"demo\": engine\n");
    send(&controller, 5);
    assert_eq!(results(&controller, 2), [1, 2]);
    closed.open();
    assert_eq!(results(&controller, 4)[2..4], [3, 4]);
    daemon.say(&[Say::Good, Say::Good]);
    assert_eq!(results(&controller, 5), [1, 2, 3, 4, 5]);
    daemon.end();
    assert!(quick.asked().is_empty(), "no part was ever on its way there");
    let all = of(&site, "demo");
    let answered: Vec<(u64, &str)> = all.iter().map(|look| (look.job_id, who(look))).collect();
    assert_eq!(answered, [(1, "own"), (2, "own"), (3, "slow"), (4, "slow"), (5, "own")]);
    assert!(all.iter().all(|look| look.verdict.outcome == Outcome::Pass), "{all:?}");
    nothing_is_lost(&site, &["demo"]);
}

#[test]
fn every_trigger_is_answered_in_its_order_while_engines_change() {
    let (one, two) = (
        EngineServer::start(|asked, _| right(asked)),
        EngineServer::start(|asked, _| right(asked)),
    );
    let broker = Mosquitto::start();
    let controller = Controller::new(&broker);
    let site = plc::site(broker.port(), "[plc]\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    controller.wait_ready();
    let mut id = 0;
    thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for round in 0..9 {
                let server = if round % 2 == 0 { &one } else { &two };
                engines(&site, &[("gpu", &server.url(), "")]);
                ask(&site, if round % 3 == 2 { "" } else { "gpu" });
                let told = command(&site.file, &["reload"]);
                assert_eq!(told.status.code(), Some(0), "{told:?}");
            }
        });
        while !changes.is_finished() || id < 20 {
            // Four on their way at once.
            let ids = id + 1..=id + 4;
            ids.clone().for_each(|id| send(&controller, id));
            id += 4;
            controller.result("a result", |result| result["trigger_id"] == id);
        }
    });
    assert_eq!(results(&controller, id as usize), (1..=id).collect::<Vec<_>>());
    daemon.end();
    let all = of(&site, "demo");
    assert_eq!(all.len() as u64, id, "one record a trigger");
    assert!(all.iter().all(|look| look.verdict.outcome == Outcome::Pass), "{all:?}");
    assert!(all.iter().any(|look| who(look) == "gpu") && all.iter().any(|look| who(look) == "own"));
    nothing_is_lost(&site, &["demo"]);
}

#[test]
fn an_engine_that_is_asked_otherwise_takes_the_place_of_the_one_before() {
    let first = EngineServer::start(|asked, _| right(asked));
    let second = EngineServer::start(|asked, _| right(asked));
    let site = site_of_pictures(None);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    let threads = || fs::read_dir(format!("/proc/{}/task", service.id())).expect("Linux").count();
    // Who answers for parts that are triggered from now on.
    let newest = || {
        let now = jiff::Timestamp::now();
        let is_new =
            |look: &Inspection| look.times.triggered.wall > now && !look.questions.is_empty();
        let mut new = None;
        wait_until("an answer", || {
            new = of(&site, "demo").into_iter().find(is_new);
            new.is_some()
        });
        let by = new.and_then(|mut look| look.questions.remove(0).answered_by);
        by.map_or("own".to_owned(), |by| by.origin)
    };
    let port = |server: &EngineServer| format!("http://127.0.0.1:{}", server.port());

    // One that nobody asks is no engine yet.
    engines(&site, &[("gpu", &first.url(), "parallel = 3\n")]);
    ok(&site, "station \"demo\": text\nengine \"gpu\"\n");
    ask(&site, "gpu");
    ok(&site, "station \"demo\": engine\n");
    assert_eq!(newest(), port(&first));
    let with_one = threads();

    engines(&site, &[("gpu", &second.url(), "parallel = 3\n")]);
    ok(&site, "station \"demo\": engine\nengine \"gpu\"\n");
    assert_eq!(newest(), port(&second));
    let asked = first.asked().len();
    assert_eq!(newest(), port(&second));
    assert_eq!(first.asked().len(), asked, "it is asked no more");
    wait_until("the threads that asked it have ended", || threads() <= with_one);
    drop(first);

    // Back to the own model, if the other fails; then without the other.
    let fallback = "engine = \"gpu\"\nfallback = \"local\"\nfallback_reserve_ms = 1000\n";
    let path = site.dir.path().join("stations/demo.toml");
    let text = fs::read_to_string(&path).expect("readable");
    fs::write(&path, text.replace("engine = \"gpu\"\n", fallback)).expect("written");
    ok(&site, "station \"demo\": engine\n");
    assert_eq!(newest(), port(&second));
    fs::write(&path, text.replace("engine = \"gpu\"\n", "")).expect("written");
    engines(&site, &[]);
    ok(&site, "station \"demo\": engine\nengine \"gpu\"\n");
    assert_eq!(newest(), "own");
    wait_until("its threads have ended", || threads() <= with_one - 3);
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo"]);
}

#[test]
fn where_another_station_cannot_come_parts_stay_with_their_engine() {
    let (one, two) = (
        EngineServer::start(|asked, _| right(asked)),
        EngineServer::start(|asked, _| right(asked)),
    );
    let site = site_of_pictures(None);
    engines(&site, &[("one", &one.url(), ""), ("two", &two.url(), "")]);
    ask(&site, "one");
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    ask(&site, "two");
    let demo = fs::read_to_string(site.dir.path().join("stations/demo.toml")).expect("readable");
    let other = demo.replace("name = \"demo\"", "name = \"other\"");
    let path = site.dir.path().join("stations/other.toml");
    fs::write(&path, other.replace("\"../set\"", "\"../gone\"")).expect("written");
    refused(&site, &["other", "gone"]);
    goes_on(&site, "demo");
    let (asked, left) = (one.asked().len(), two.asked().len());
    goes_on(&site, "demo");
    assert!(one.asked().len() > asked);
    assert_eq!(two.asked().len(), left, "no part goes there any more");

    fs::write(&path, other).expect("written");
    ok(&site, "station \"demo\": engine\nstation \"other\": new\n");
    goes_on(&site, "other");
    wait_until("both ask it", || {
        let newest = |station: &str| of(&site, station).last().map(|look| who(look).to_owned());
        ["demo", "other"].iter().all(|station| newest(station).as_deref() == Some("two"))
    });
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo", "other"]);
}
