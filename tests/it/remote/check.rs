//! `inspectd engine`: what it says of an engine that works, and of those that do not.

use std::path::Path;

use assert_cmd::Command;
use serde_json::json;

use crate::support::engine_server::{Act, EngineServer, error, say};
use crate::support::station::Site;

const RED: &str = r#"{"colour":"red"}"#;

const SERIAL: &str = r#"{"legible":false,"serial":null}"#;

/// What a good server answers: the list of its models, and the colour.
fn red(asked: &crate::support::engine_server::Asked) -> Act {
    match asked.line.starts_with("GET /v1/models") {
        true => {
            let list = json!({ "object": "list", "data": [{ "id": "tiny-vl" }] });
            Act::Say(
                200,
                vec![("Content-Type", "application/json".into())],
                list.to_string().into(),
            )
        }
        false => Act::Answer(if asks_serial(asked) { SERIAL } else { RED }.to_owned()),
    }
}

/// Whether a serial number is asked for.
fn asks_serial(asked: &crate::support::engine_server::Asked) -> bool {
    String::from_utf8_lossy(&asked.body).contains("serial number")
}

/// Runs `engine WHAT` with an engine at `url`: the exit code, and what was printed.
fn run(what: &[&str], url: &str) -> (Option<i32>, String) {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let main = std::fs::read_to_string(&site.file).expect("readable");
    let engine =
        format!("[engines.gpu]\nkind = \"openai\"\nurl = \"{url}\"\nmodel = \"tiny-vl\"\n");
    std::fs::write(&site.file, main + &engine).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
    let output = command.arg("engine").args(what).arg("--config").arg(&site.file).output();
    let output = output.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

fn check(server: &EngineServer) -> (Option<i32>, String) {
    run(&["check", "gpu"], &server.url())
}

#[test]
fn a_good_engine_is_told_as_such() {
    let server = EngineServer::start(|asked, _| red(asked));
    let (code, text) = check(&server);
    assert_eq!(code, Some(0), "{text}");
    let all = [
        "\"tiny-vl\" is served",
        "answered by tiny-vl",
        "the picture is red",
        "probability",
        "ok    serial     the answer is {\"legible\":false,\"serial\":null}",
    ];
    for words in all {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("BAD"), "{text}");
    let (code, text) = run(&["list"], &server.url());
    assert_eq!(code, Some(0));
    assert!(text.contains("gpu  openai") && text.contains("asked by no station"), "{text}");
}

#[test]
fn what_an_engine_cannot_do_is_told_with_a_remedy() {
    let port = EngineServer::start(|_, _| Act::Close).port();
    let (code, text) = run(&["check", "gpu"], &format!("http://127.0.0.1:{port}/v1"));
    assert_eq!(code, Some(6));
    assert!(text.contains("BAD   reachable") && text.contains("start the server"), "{text}");

    let server = EngineServer::start(|_, _| error(401, "Unauthorized"));
    let (code, text) = check(&server);
    assert_eq!((code, text.contains("correct the key")), (Some(6), true), "{text}");

    // No vision model: refuses pictures, and answers without them.
    let server = EngineServer::start(|asked, _| {
        let with_picture = String::from_utf8_lossy(&asked.body).contains("image_url");
        if with_picture { error(400, "image input is not supported") } else { red(asked) }
    });
    let (code, text) = check(&server);
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("image input is not supported"), "{text}");
    assert!(text.contains("without a picture it works"), "{text}");

    let server = EngineServer::start(|asked, _| match asked.json().get("response_format") {
        Some(_) => error(400, "response_format is not supported"),
        None => red(asked),
    });
    let (_, text) = check(&server);
    assert!(text.contains("without a schema it works"), "{text}");

    let server = EngineServer::start(|asked, _| match asked.line.starts_with("GET") {
        true => red(asked),
        false => Act::Answer("It is red.".to_owned()),
    });
    let (_, text) = check(&server);
    assert!(text.contains("off schema") && text.contains("hold the model to the schema"), "{text}");
}

#[test]
fn what_stations_can_do_without_is_a_note() {
    let server = EngineServer::start(|asked, _| match asked.line.starts_with("GET") {
        true => error(404, "Not Found"),
        false => say(|body| {
            body["choices"][0]["message"]["content"] = json!(r#"{"colour":"blue"}"#);
            body["choices"][0]["logprobs"] = json!(null);
        }),
    });
    let (code, text) = check(&server);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("note  picture") && text.contains("note  logprobs"), "{text}");
    assert!(text.contains("accept_without_confidence"), "{text}");
}

#[test]
fn a_server_without_patterns_is_told_with_what_serves_them() {
    let server = EngineServer::start(|asked, _| match asks_serial(asked) {
        true => error(400, "The JSON schema contains features that are not supported."),
        false => red(asked),
    });
    let (code, text) = check(&server);
    assert_eq!(code, Some(0), "stations without serial numbers can use it: {text}");
    for words in ["ok    schema", "note  serial", "not supported", "disable_any_whitespace"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn an_unknown_engine_is_refused_with_those_there_are() {
    let (code, text) = run(&["check", "gqu"], "http://127.0.0.1:1/v1");
    assert_eq!(code, Some(2));
    assert!(text.contains("no engine is called \"gqu\"; there are: gpu"), "{text}");
}
