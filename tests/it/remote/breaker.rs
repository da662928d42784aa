//! The breaker in an engine: opened by failures, tried after its back-off, by a clock that the test turns.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inspectd::remote::engine::Tell;
use inspectd::remote::{BreakerOptions, Engine, EngineOptions, Told};

use super::{GOOD, PATIENCE, Turned, failure, options, question};
use crate::support::engine_server::{Act, EngineServer, error};

const REST: Duration = Duration::from_secs(5);

/// What an engine told about itself: `true`: it answers again.
type Heard = Arc<Mutex<Vec<bool>>>;

fn engine(server: &EngineServer, pace: &Turned) -> (Engine, Heard) {
    let breaker = BreakerOptions { failures: 2, open_min: REST, open_max: 4 * REST };
    let options = EngineOptions { breaker, ..options(&server.url()) };
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let tell: Tell = Box::new(move |_, told| hears.lock().unwrap().push(told.is_ok()));
    (Engine::with_pace(&options, tell, Box::new(pace.clone())).expect("an engine"), heard)
}

fn ask(engine: &Engine) -> Told {
    engine.ask(&question(), &[], Instant::now() + PATIENCE)
}

#[test]
fn failures_open_it_and_one_try_closes_it() {
    let is_well = Arc::new(Mutex::new(false));
    let wellness = Arc::clone(&is_well);
    let server = EngineServer::start(move |_, _| match *wellness.lock().unwrap() {
        true => Act::Answer(GOOD.to_owned()),
        false => error(500, "out of memory"),
    });
    let pace = Turned::new();
    let (engine, heard) = engine(&server, &pace);
    // Two tries of one question are two failures.
    assert_eq!(failure(ask(&engine)).0, "engine_error");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(*heard.lock().unwrap(), [false], "it is told once");
    let told = ask(&engine);
    assert_eq!(told.by.attempts, 0);
    let (code, text) = failure(told);
    assert_eq!(code, "engine_resting");
    assert!(text.contains("rests for"), "{text}");
    assert_eq!(server.asked().len(), 2, "it is left alone");
    pace.turn(REST);
    assert_eq!(failure(ask(&engine)).0, "engine_error");
    assert_eq!(server.asked().len(), 3, "one try, and no second one");
    pace.turn(REST);
    assert_eq!(failure(ask(&engine)).0, "engine_resting", "twice as long now");
    *is_well.lock().unwrap() = true;
    pace.turn(REST);
    assert!(ask(&engine).answer.is_ok());
    assert!(engine.is_closed());
    assert!(*heard.lock().unwrap().last().expect("told"));
}

#[test]
fn what_a_model_says_is_not_the_servers_fault() {
    let server = EngineServer::start(|_, before| match before % 3 {
        0 => Act::Answer("rubbish".to_owned()),
        1 => error(400, "image too large"),
        _ => error(404, "no such model"),
    });
    let pace = Turned::new();
    let (engine, heard) = engine(&server, &pace);
    for _ in 0..9 {
        assert!(ask(&engine).answer.is_err());
    }
    assert!(engine.is_closed() && heard.lock().unwrap().is_empty());
    assert_eq!(server.asked().len(), 9);
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it() {
    let busy = |seconds: &'static str| {
        let headers = vec![
            ("Content-Type", "application/json".to_owned()),
            ("Retry-After", seconds.to_owned()),
        ];
        Act::Say(429, headers, b"{}".to_vec())
    };
    // Within the part's deadline: waited for.
    let server = EngineServer::start(move |_, before| match before {
        0 => busy("7"),
        _ => Act::Answer(GOOD.to_owned()),
    });
    let pace = Turned::new();
    let (patient, _) = engine(&server, &pace);
    let told = ask(&patient);
    assert!(told.answer.is_ok());
    assert_eq!((told.by.attempts, pace.slept()), (2, vec![Duration::from_secs(7)]));
    // Beyond the part's deadline: the part goes its way, and others leave the server alone.
    let server = EngineServer::start(move |_, before| match before {
        0 => busy("7"),
        _ => Act::Answer(GOOD.to_owned()),
    });
    let pace = Turned::new();
    let (hurried, _) = engine(&server, &pace);
    let soon = Instant::now() + Duration::from_secs(5);
    assert_eq!(failure(hurried.ask(&question(), &[], soon)).0, "engine_busy");
    assert_eq!(failure(ask(&hurried)).0, "engine_resting");
    pace.turn(Duration::from_secs(7));
    assert!(ask(&hurried).answer.is_ok());
    // A day is more than anybody waits.
    let server = EngineServer::start(move |_, _| busy("86400"));
    let pace = Turned::new();
    let (engine, _) = engine(&server, &pace);
    assert_eq!(failure(ask(&engine)).0, "engine_busy");
    pace.turn(4 * REST);
    assert_eq!(failure(ask(&engine)).0, "engine_busy", "asked again after the longest rest");
    assert!(pace.slept().is_empty(), "no part waits in line for it");
}

#[test]
fn a_hiccup_is_asked_again_after_a_moment() {
    let server = EngineServer::start(|_, before| match before {
        0 => error(502, "bad gateway"),
        _ => Act::Answer(GOOD.to_owned()),
    });
    let pace = Turned::new();
    let (engine, heard) = engine(&server, &pace);
    assert!(ask(&engine).answer.is_ok());
    assert_eq!((pace.slept().len(), server.asked().len()), (1, 2));
    assert!(heard.lock().unwrap().is_empty());
}

#[test]
fn many_threads_ask_one_engine() {
    let server = EngineServer::start(|_, _| Act::Answer(GOOD.to_owned()));
    let pace = Turned::new();
    let (engine, _) = engine(&server, &pace);
    let engine = &engine;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(move || (0..5).filter(|_| ask(engine).answer.is_ok()).count()))
            .collect();
        let answered: usize = threads.into_iter().map(|one| one.join().expect("no panic")).sum();
        assert_eq!(answered, 40);
    });
    assert_eq!(server.asked().len(), 40);
}
