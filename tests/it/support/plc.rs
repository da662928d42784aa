//! A station with a contract, as its controller meets it: a real broker, the daemon, and a model that
//! answers when it is told to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use inspectd::config::Settings;
use inspectd::daemon::reload::Renewal;
use inspectd::daemon::{self, Options, Stop, Summary};
use inspectd::hard::gpio::Chips;
use inspectd::inspection::Inspection;
use inspectd::inspector::{Model, Reply};
use inspectd::roi::Crop;
use inspectd::station::{Question, Station};
use inspectd::store::{Filter, Reader, Store};
use inspectd::vlm::ask::{Answer, FieldConfidence, StopReason, Timings, TokenCounts};
use inspectd::{clock, config, simulate};
use serde_json::Value;

use super::mosquitto::{DEADLINE, Mosquitto, Seen, Subscriber};
use super::service::command;
use super::station::Site;

/// What the model is to answer to one question.
#[derive(Clone, Copy, Debug)]
pub enum Say {
    /// A good part.
    Good,
    /// A dent.
    Dent,
    /// Nothing: it fails.
    Fail,
}

/// Answers each question as it is told, and waits for that. Once nobody can tell it any more it says
/// that all is good.
struct Told {
    asked: flume::Sender<(String, String)>,
    say: flume::Receiver<Say>,
}

impl Model for Told {
    fn ask(&mut self, station: &Station, question: &Question, _: &[&Crop], _: Instant) -> Reply {
        // Nobody may be listening.
        let _ = self.asked.send((station.recipe.clone(), question.name.clone()));
        let answer = match (self.say.recv().unwrap_or(Say::Good), question.name.as_str()) {
            (Say::Fail, _) => Err("this model was told to fail".to_owned()),
            (Say::Dent, "defects") => Ok(
                r#"{"inspectable":true,"defects":[{"class":"dent","severity":"minor","location":"center"}]}"#,
            ),
            (_, "defects") => Ok(r#"{"inspectable":true,"defects":[]}"#),
            _ => Ok(r#"{"legible":true,"serial":"A7K2M9PX"}"#),
        };
        Reply::new("told", answer.map(answer_of))
    }
}

/// A whole answer of this text.
pub fn answer_of(text: &str) -> Answer {
    let paths = ["legible", "serial", "inspectable", "defects[0].class"];
    let field = |path: &str| FieldConfidence {
        path: path.to_owned(),
        probability: 0.9,
        min_token_probability: 0.9,
        min_allowed_mass: 0.9,
        tokens: 1,
    };
    Answer {
        text: text.to_owned(),
        fields: paths.map(field).to_vec(),
        stop: StopReason::Complete,
        tokens: TokenCounts::default(),
        timings: Timings::default(),
    }
}

/// A site whose station is asked for parts by command and shows pictures without end.
pub fn site(port: u16, plc: &str) -> Site {
    let site = Site::new(Path::new("/nowhere/line.mkv"), Some(port));
    let out = site.dir.path().join("set");
    let mix = simulate::Mix::default();
    let options = simulate::SetOptions { count: 3, seed: 99, dense: false, mix, out };
    simulate::write_set(&options, |_| {}).expect("a set is written");
    site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"\ninterval_ms = 20");
    site.edit("repeat = false", "repeat = true");
    site.edit("kind = \"presence\"", "kind = \"command\"\nframe_wait_ms = 60000");
    site.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    site.edit("[rules]", &format!("{plc}\n[rules]"));
    let main = fs::read_to_string(&site.file).expect("readable");
    let quick = format!("{main}backoff_min_ms = 50\nbackoff_max_ms = 200\n");
    fs::write(&site.file, quick).expect("written");
    site
}

/// The site's files as they are, for a model that is ready for every question.
#[derive(Debug)]
struct Files(PathBuf);

impl Renewal for Files {
    fn read(&self) -> Result<(Settings, Vec<Station>), String> {
        let loaded = config::load(&self.0).map_err(|problems| problems.to_string())?;
        Ok((loaded.settings, loaded.stations))
    }

    fn prepare(&self, _: &Settings, _: &[Arc<Station>]) -> Result<Option<u64>, String> {
        Ok(None)
    }
}

/// A running daemon; it is stopped if its test ends early.
pub struct Running {
    say: Option<flume::Sender<Say>>,
    asked: flume::Receiver<(String, String)>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Summary>>,
}

impl Running {
    /// Starts the daemon of `site` with a model that waits to be told.
    pub fn start(site: &Site) -> Running {
        Running::start_as(site, Arc::new(clock::SystemClock), None)
    }

    /// Lets it read its configuration again, with `inspectd reload`; answers how that ended and what was told.
    pub fn reload(site: &Site) -> (Option<i32>, String) {
        let told = command(&site.file, &["reload"]);
        let text = [told.stdout, told.stderr].concat();
        (told.status.code(), String::from_utf8(text).expect("text"))
    }

    /// As [`Running::start`], by another clock.
    pub fn start_by(site: &Site, clock: Arc<dyn clock::Clock>) -> Running {
        Running::start_as(site, clock, None)
    }

    /// As [`Running::start`], with lines from `chips`.
    pub fn start_with(site: &Site, chips: Option<Arc<dyn Chips>>) -> Running {
        Running::start_as(site, Arc::new(clock::SystemClock), chips)
    }

    fn start_as(
        site: &Site,
        clock: Arc<dyn clock::Clock>,
        chips: Option<Arc<dyn Chips>>,
    ) -> Running {
        let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
        let stations: Vec<Arc<Station>> = loaded.stations.into_iter().map(Arc::new).collect();
        let settings = loaded.settings;
        let store = Store::open(&settings.store, clock).expect("the log opens");
        let ((say, told), (asks, asked)) = (flume::unbounded(), flume::unbounded());
        let stop = Arc::new(Stop::new(None));
        let renewal: Arc<dyn Renewal> = Arc::new(Files(site.file.clone()));
        let renewal = Some(renewal);
        let stop_too = Some(Arc::clone(&stop));
        let options = Options { stop: stop_too, chips, renewal, ..Options::default() };
        let thread = std::thread::spawn(move || {
            let model = Told { asked: asks, say: told };
            daemon::serve(&settings, &stations, &options, store, model, "none".into())
                .expect("it runs to its end")
        });
        Running { say: Some(say), asked, stop, thread: Some(thread) }
    }

    /// Tells the model its next answers.
    pub fn say(&self, words: &[Say]) {
        let say = self.say.as_ref().expect("the model is told");
        words.iter().for_each(|word| say.send(*word).expect("the model lives"));
    }

    /// Waits until the model is asked; answers recipe and question.
    pub fn asked(&self) -> (String, String) {
        self.asked.recv_timeout(DEADLINE).expect("the model is asked")
    }

    /// The model says from now on, without being told, that all is good.
    pub fn let_go(&mut self) {
        self.say = None;
    }

    /// Stops the daemon and answers what it did.
    pub fn end(mut self) -> Summary {
        self.let_go();
        self.stop.set("the test ends");
        self.thread.take().expect("runs").join().expect("no panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.say = None;
        self.stop.set("the test has ended early");
        if let Some(thread) = self.thread.take() {
            // What it says matters no more.
            let _ = thread.join();
        }
    }
}

/// The controller's side.
pub struct Controller {
    runtime: tokio::runtime::Runtime,
    subscriber: Subscriber,
    port: u16,
    station: &'static str,
}

impl Controller {
    /// Listens to everything at `broker`.
    pub fn new(broker: &Mosquitto) -> Controller {
        Controller::of(broker, "demo")
    }

    /// The same, of another station.
    pub fn of(broker: &Mosquitto, station: &'static str) -> Controller {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let subscriber = runtime.block_on(Subscriber::start(broker.port()));
        Controller { runtime, subscriber, port: broker.port(), station }
    }

    /// Does `work` on the controller's runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Waits until what was seen fulfils `condition`.
    pub fn wait(&self, what: &str, condition: impl FnMut(&Seen) -> bool) -> Seen {
        self.runtime.block_on(self.subscriber.wait(what, condition))
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.subscriber.seen()
    }

    /// Sends the command `name` with mosquitto's own program, and waits until the broker has it.
    pub fn send(&self, name: &str, payload: &str) {
        self.publish(name, &["-m", payload]);
    }

    /// As [`Controller::send`], with other arguments.
    pub fn publish(&self, name: &str, arguments: &[&str]) {
        let sent = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-q", "1", "-p", &self.port.to_string()])
            .args(["-t", &format!("inspectd/box/{}/cmd/{name}", self.station)])
            .args(arguments)
            .stdin(Stdio::null())
            .status()
            .expect("these tests need mosquitto_pub: install the package mosquitto-clients");
        assert!(sent.success(), "mosquitto_pub {arguments:?}");
    }

    /// Waits until the station is ready for a trigger, as its newest state says.
    pub fn wait_ready(&self) {
        self.wait("ready", |seen| {
            newest(seen, "state").is_some_and(|state| state["ready"] == true)
        });
    }

    /// Waits for a result, and later ones, that `is_it` knows.
    pub fn result(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        find(&self.wait(what, |seen| find(seen, "result", &is_it).is_some()), "result", &is_it)
            .expect("was seen")
    }

    /// Waits for a reply to the command `name` that `is_it` knows.
    pub fn reply(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let level = format!("cmd/{name}/reply");
        find(&self.wait(&level, |seen| find(seen, &level, &is_it).is_some()), &level, &is_it)
            .expect("was seen")
    }

    /// Sends a trigger and waits for its acknowledgement.
    pub fn trigger(&self, id: u64, more: &str) -> Value {
        self.send("trigger", &format!(r#"{{"trigger_id":{id},"part_id":"P{id}"{more}}}"#));
        self.reply("trigger", |reply| reply["trigger_id"] == id)
    }
}

/// The first message below `level` that `is_it` knows.
pub fn find(seen: &Seen, level: &str, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
    seen.under(level).into_iter().map(|message| message.payload.clone()).find(is_it)
}

/// The newest message below `level`.
pub fn newest(seen: &Seen, level: &str) -> Option<Value> {
    seen.under(level).last().map(|message| message.payload.clone())
}

/// The whole log.
pub fn log(site: &Site) -> Vec<Inspection> {
    let reader = Reader::open(&site.database()).expect("the log is readable");
    let records = reader.list(&Filter::default()).expect("records are readable");
    records.iter().map(|record| record.inspection().expect("whole")).collect()
}
