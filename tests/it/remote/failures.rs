//! What goes wrong on the way: each has its code, and none takes longer or more memory than it may.

use std::time::{Duration, Instant};

use inspectd::remote::{Engine, EngineOptions};

use super::{GOOD, ask, ask_server, failure, options, question, quiet};
use crate::support::engine_server::{Act, EngineServer, completion, error};

#[test]
fn every_bad_status_has_its_word() {
    for (status, code, words) in [
        (400, "engine_rejected", "does not accept the question"),
        (401, "engine_forbidden", "key"),
        (403, "engine_forbidden", "key"),
        (404, "engine_rejected", "no such model"),
        (413, "engine_rejected", "too large"),
        (418, "engine_rejected", "status 418"),
        (429, "engine_busy", "too much to do"),
        (500, "engine_error", "it failed"),
        (503, "engine_busy", "not ready"),
    ] {
        let server =
            EngineServer::start(move |_, _| error(status, "the \u{1b}[31mserver's\nwords"));
        let told = ask_server(&server);
        assert_eq!(told.by.status, Some(status));
        let (found, text) = failure(told);
        assert_eq!(found, code, "{status}");
        assert!(text.contains(words), "{text}");
        assert!(text.contains("the [31mserver's words"), "without what moves a cursor: {text}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = EngineServer::start(|_, _| Act::Answer(GOOD.to_owned()));
    for status in [301, 302, 307, 308] {
        let to = elsewhere.url() + "/chat/completions";
        let server = EngineServer::start(move |_, _| {
            Act::Say(status, vec![("Location", to.clone())], vec![])
        });
        let (code, text) = failure(ask_server(&server));
        assert_eq!(code, "engine_rejected", "{text}");
        assert!(text.contains("redirects"), "{text}");
    }
    assert!(elsewhere.asked().is_empty(), "pictures went where nobody said");
}

#[test]
fn what_is_cut_is_no_answer_and_asked_once_more() {
    let whole = completion(GOOD).to_string().into_bytes();
    let cut = whole.clone();
    let server = EngineServer::start(move |_, before| match before {
        0 => Act::Cut(cut.clone(), cut.len() - 5),
        _ => Act::Answer(GOOD.to_owned()),
    });
    let told = ask_server(&server);
    assert!(told.answer.is_ok());
    assert_eq!(told.by.attempts, 2, "the record says so");
    for act in [Act::Cut(whole, 40), Act::Close] {
        let server = EngineServer::start(move |_, _| act.clone());
        let (code, text) = failure(ask_server(&server));
        assert_eq!((code, server.asked().len()), ("engine_unreachable", 2), "{text}");
    }
}

#[test]
fn what_is_too_much_is_not_read() {
    let huge = vec![b' '; 200_000];
    let acts =
        [Act::Say(200, vec![("Content-Type", "application/json".into())], huge), Act::Endless];
    for act in acts {
        let server = EngineServer::start(move |_, _| act.clone());
        let options = EngineOptions { max_response_bytes: 64 << 10, ..options(&server.url()) };
        let (code, text) = failure(ask(&options));
        assert_eq!(code, "engine_unreadable", "{text}");
        assert!(text.contains("65536 bytes"), "{text}");
    }
}

#[test]
fn what_is_packed_or_of_another_kind_is_not_looked_into() {
    // A thousand zeros, packed into few bytes: a larger one would be as small.
    let bomb = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0x63, 0x60, 0x18, 5, 0xa3, 0x60, 0x14, 0x8c, 0x54, 0,
        0, 0x2e, 0xaf, 0xb5, 0xef, 0, 4, 0, 0,
    ];
    let kind = |text: &str| ("Content-Type", text.to_owned());
    let packed = vec![kind("application/json"), ("Content-Encoding", "gzip".to_owned())];
    let page = completion(GOOD).to_string().into_bytes();
    for (act, words) in [
        (Act::Say(200, packed, bomb.to_vec()), "packed (gzip)"),
        (Act::Say(200, vec![kind("text/html")], page.clone()), "text/html, not JSON"),
        (Act::Say(200, vec![], page), "not JSON"),
        (Act::Say(200, vec![kind("application/json")], vec![0xff, 0xfe]), "not UTF-8"),
        (Act::Say(200, vec![kind("application/json")], b"[[[[".repeat(5000)), "interface"),
    ] {
        let server = EngineServer::start(move |_, _| act.clone());
        let (code, text) = failure(ask_server(&server));
        assert_eq!(code, "engine_unreadable", "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn nobody_waits_longer_than_the_deadline() {
    for act in [Act::Hang, Act::Drip] {
        let server = EngineServer::start(move |_, _| act.clone());
        let engine = Engine::new(&options(&server.url()), quiet()).expect("an engine");
        let started = Instant::now();
        let deadline = started + Duration::from_millis(300);
        let (code, text) = failure(engine.ask(&question(), &[], deadline));
        assert_eq!(code, "engine_timeout", "{text}");
        // Far from the minute that the engine may take; how near to the deadline is the machine's affair.
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert_eq!(server.asked().len(), 1, "no time for a second try");
    }
    let server = EngineServer::start(|_, _| Act::Answer(GOOD.to_owned()));
    let engine = Engine::new(&options(&server.url()), quiet()).expect("an engine");
    let told = engine.ask(&question(), &[], Instant::now());
    assert_eq!((told.by.attempts, told.by.request_sha256.clone()), (0, None));
    assert_eq!(failure(told).0, "engine_timeout");
    assert!(server.asked().is_empty());
}

#[test]
fn nobody_there_is_told_as_such() {
    let port = EngineServer::start(|_, _| Act::Close).port();
    let (code, text) = failure(ask(&options(&format!("http://127.0.0.1:{port}/v1"))));
    assert_eq!(code, "engine_unreachable");
    assert!(text.contains(&format!("nothing listens at port {port}")), "{text}");
    let (code, text) = failure(ask(&options("http://no-such-host.invalid:8000/v1")));
    assert_eq!(code, "engine_unreachable", "{text}");
}
