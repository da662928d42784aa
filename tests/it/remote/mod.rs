//! Engines elsewhere, against a scripted server on loopback, and a real one where there is one.

mod answers;
mod breaker;
mod check;
mod config;
#[cfg(feature = "gst")]
mod daemon;
mod failures;
mod real;
mod record;
#[cfg(feature = "gst")]
mod reload;
mod tls;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inspectd::remote::engine::{Pace, Tell};
use inspectd::remote::{Endpoint, Engine, EngineOptions, Kind, Question, Told};
use inspectd::vlm::grammar::answer::{AnswerSpec, SerialSpec};
use inspectd::vlm::grammar::template::Template;

use crate::support::engine_server::EngineServer;

/// A good answer.
const GOOD: &str = r#"{"legible":true,"serial":"A7K2"}"#;

/// Longer than any of these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine at `url`.
fn options(url: &str) -> EngineOptions {
    let endpoint = Endpoint::parse(Kind::OpenAi, url, None).expect("an address");
    let model = Some("tiny-vl".to_owned());
    let timeout = PATIENCE;
    EngineOptions { model, timeout, ..EngineOptions::new("gpu", Kind::OpenAi, endpoint) }
}

fn quiet() -> Tell {
    Box::new(|_, _| ())
}

/// Reads a serial of four characters.
fn question() -> Question {
    let template = Template::parse("####", "ABCDEFGHKMPX0123456789").expect("a template");
    let spec = AnswerSpec::serial(&SerialSpec::new(template)).expect("an answer");
    let mut question = Question::new("serial", &spec).expect("a grammar");
    "Be exact.".clone_into(&mut question.system);
    "Read the serial number.".clone_into(&mut question.text);
    question
}

/// Asks once, with time enough.
fn ask(options: &EngineOptions) -> Told {
    let engine = Engine::new(options, quiet()).expect("an engine");
    engine.ask(&question(), &[b"not looked into".to_vec()], Instant::now() + PATIENCE)
}

/// Asks `server` once.
fn ask_server(server: &EngineServer) -> Told {
    ask(&options(&server.url()))
}

/// Why there is no answer: the code, and the text.
fn failure(told: Told) -> (&'static str, String) {
    let failure = told.answer.expect_err("no answer");
    (failure.why.code(), failure.text)
}

/// A time that the test turns, and that notes how long was waited.
#[derive(Clone)]
struct Turned {
    start: Instant,
    on: Arc<Mutex<(Duration, Vec<Duration>)>>,
}

impl Turned {
    fn new() -> Turned {
        Turned { start: Instant::now(), on: Arc::default() }
    }

    fn turn(&self, by: Duration) {
        self.on.lock().unwrap().0 += by;
    }

    fn slept(&self) -> Vec<Duration> {
        self.on.lock().unwrap().1.clone()
    }
}

impl Pace for Turned {
    fn now(&self) -> Instant {
        self.start + self.on.lock().unwrap().0
    }

    fn sleep(&self, time: Duration) {
        let mut on = self.on.lock().unwrap();
        on.0 += time;
        on.1.push(time);
    }
}
