//! Many reloads, one after another and at random, while parts are asked for without a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use inspectd::inspection::Inspection;
use inspectd::verdict::Outcome;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::engine_server::{EngineServer, right};
use crate::support::mosquitto::Mosquitto;
use crate::support::plc::{self, Controller, Running, find, log};
use crate::support::reload::{file, nothing_is_lost, wait_until};
use crate::support::station::Site;

/// What the files say.
#[derive(Clone, Debug)]
struct Wanted {
    broker: usize,
    /// 0: the device's own model; else one of two engines.
    engine: usize,
    acknowledge: bool,
    queue_parts: usize,
    has_second: bool,
    comment: u32,
    fault: Option<&'static str>,
}

impl Wanted {
    /// One thing is another, or several are.
    fn change(&mut self, rng: &mut ChaCha8Rng) {
        self.fault = None;
        for _ in 0..rng.random_range(1..=3) {
            match rng.random_range(0..8) {
                0 => self.broker = 1 - self.broker,
                1 | 2 => self.engine = rng.random_range(0..3),
                3 => self.acknowledge = !self.acknowledge,
                4 => self.queue_parts = rng.random_range(2..9),
                5 => self.has_second = !self.has_second,
                6 => self.comment += 1,
                _ => {
                    let faults = ["nonsense = 1\n", "[postgres]\nhost = \"127.0.0.1\"\n", "gone"];
                    self.fault = Some(faults[rng.random_range(0..faults.len())]);
                }
            }
        }
    }

    fn write(&self, site: &Site, (main, station): (&str, &str), world: &World) {
        let port = world.brokers[self.broker].port();
        let mut main = main.replace("PORT", &port.to_string());
        main += self.fault.filter(|fault| *fault != "gone").unwrap_or_default();
        if let Some(engine) = self.engine.checked_sub(1).map(|at| &world.engines[at]) {
            let url = engine.url();
            main += &format!("[engines.gpu]\nkind = \"openai\"\nurl = \"{url}\"\nmodel = \"m\"\n");
        }
        fs::write(&site.file, main).expect("written");
        let engine = if self.engine == 0 { "" } else { "engine = \"gpu\"\n" };
        let plc =
            if self.acknowledge { "[plc]\nacknowledge = true\nring = 256\n" } else { "[plc]\n" };
        let queue = format!("queue_parts = {}", self.queue_parts);
        let mut text = format!("# {}\n{engine}{station}", self.comment);
        text = text.replace("[plc]\n", plc).replace("queue_parts = 8", &queue);
        let second = text.replace("name = \"demo\"", "name = \"second\"");
        if self.fault == Some("gone") {
            text = text.replace("\"../set\"", "\"../gone\"");
        }
        fs::write(file(site, "demo"), text).expect("written");
        let path = file(site, "second");
        if self.has_second {
            fs::write(path, second).expect("written");
        } else if path.exists() {
            fs::remove_file(path).expect("removed");
        }
    }
}

struct World {
    brokers: [Mosquitto; 2],
    engines: [EngineServer; 2],
}

/// Asks for parts until it is told to stop, at the broker that counts; answers the triggers that were accepted.
fn ask(
    controllers: &[Controller; 2],
    broker: &AtomicUsize,
    (sent, stop): (&AtomicU64, &AtomicBool),
) -> BTreeSet<u64> {
    let mut id = 0;
    while !stop.load(Ordering::SeqCst) {
        id = 1 + sent.fetch_add(1, Ordering::SeqCst);
        let controller = &controllers[broker.load(Ordering::SeqCst)];
        controller.send("trigger", &format!(r#"{{"trigger_id":{id},"part_id":"P{id}"}}"#));
    }
    let mut accepted = BTreeSet::new();
    for controller in controllers {
        let seen = controller.seen();
        for id in 1..=id {
            let is_it =
                |reply: &serde_json::Value| reply["trigger_id"] == id && reply["accepted"] == true;
            if find(&seen, "cmd/trigger/reply", is_it).is_some() {
                accepted.insert(id);
            }
        }
    }
    accepted
}

fn at_random(seed: u64, reloads: usize) {
    let world = World {
        brokers: [Mosquitto::start(), Mosquitto::start()],
        engines: [0; 2].map(|_| EngineServer::start(|asked, _| right(asked))),
    };
    let controllers = [Controller::new(&world.brokers[0]), Controller::new(&world.brokers[1])];
    let site = plc::site(world.brokers[0].port(), "[plc]\n");
    let main = fs::read_to_string(&site.file).expect("readable");
    let main = main.replace(&format!("port = {}\n", world.brokers[0].port()), "port = PORT\n");
    let station = fs::read_to_string(file(&site, "demo")).expect("readable");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    controllers[0].wait_ready();

    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (broker, sent, stop) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let mut now = Wanted {
        broker: 0,
        engine: 0,
        acknowledge: false,
        queue_parts: 8,
        has_second: false,
        comment: 0,
        fault: None,
    };
    let accepted = thread::scope(|scope| {
        let asks = scope.spawn(|| ask(&controllers, &broker, (&sent, &stop)));
        for round in 0..reloads {
            let before = sent.load(Ordering::SeqCst);
            wait_until("more triggers", || sent.load(Ordering::SeqCst) > before + 3);
            let mut next = now.clone();
            next.change(&mut rng);
            next.write(&site, (&main, &station), &world);
            let (code, told) = Running::reload(&site);
            let is_late = told.contains("not recorded yet");
            let expected = if next.fault.is_some() { Some(2) } else { Some(0) };
            assert!(code == expected || is_late, "seed {seed}, {round}: {next:?}: {told}");
            if code == Some(0) {
                now = next;
                broker.store(now.broker, Ordering::SeqCst);
            }
        }
        stop.store(true, Ordering::SeqCst);
        asks.join().expect("no panic")
    });
    let recorded = || -> BTreeMap<u64, usize> {
        let mut times = BTreeMap::new();
        for look in log(&site) {
            let id = look.trigger_id.as_ref().map(ToString::to_string);
            if let Some(id) = id.and_then(|id| id.parse().ok())
                && look.timeliness.updates.is_none()
                && look.station == "demo"
            {
                *times.entry(id).or_default() += 1;
            }
        }
        times
    };
    wait_until("a record of each trigger that was accepted", || {
        let recorded = recorded();
        accepted.iter().all(|id| recorded.contains_key(id))
    });
    daemon.end();
    let recorded = recorded();
    assert!(!accepted.is_empty(), "seed {seed}: none of them was accepted");
    assert!(recorded.values().all(|times| *times == 1), "seed {seed}: {recorded:?}");
    nothing_is_lost(&site, &["demo"]);
    let all = log(&site);
    assert!(all.iter().all(|look| look.verdict.outcome != Outcome::Fail), "seed {seed}");
    let is_answered = |look: &&Inspection| look.station == "demo" && !look.questions.is_empty();
    let jobs: Vec<u64> = all.iter().filter(is_answered).map(|look| look.job_id).collect();
    assert!(jobs.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {jobs:?}");
    let ids = |at: usize| -> BTreeSet<String> {
        let ids = controllers[at].seen().results("result_id").into_iter();
        ids.filter_map(|id| id.as_str().map(str::to_owned)).collect()
    };
    wait_until("every record was told", || {
        let told = &ids(0) | &ids(1);
        all.iter().all(|look| told.contains(&look.result_id.to_string()))
    });
}

#[test]
fn whatever_changes_every_accepted_trigger_has_one_record_and_each_record_is_told() {
    let seed = std::env::var("INSPECTD_SEED").ok().and_then(|seed| seed.parse().ok());
    at_random(seed.unwrap_or(20_261_122), 40);
}
