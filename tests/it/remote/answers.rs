//! What a server answers: what counts as an answer, and what goes out before it.

use inspectd::credential::Source;
use inspectd::remote::{AnswerForm, Endpoint, EngineOptions, KeyHeader, Kind};
use inspectd::vlm::ask::StopReason;
use serde_json::json;

use super::{GOOD, ask, ask_server, failure, options};
use crate::support::engine_server::{Act, EngineServer, completion, say};

#[test]
fn a_good_answer_comes_with_all_that_is_known_of_it() {
    let server = EngineServer::start(|_, _| Act::Answer(GOOD.to_owned()));
    let told = ask_server(&server);
    let answer = told.answer.expect("an answer");
    assert_eq!((answer.text.as_str(), answer.stop), (GOOD, StopReason::Complete));
    assert_eq!((answer.tokens.prompt, answer.tokens.generated), (400, 2));
    // The serial stands in the second token alone, which has a probability of 0.95.
    let serial = answer.confidence("serial").expect("rated");
    assert!((serial.probability - 0.95).abs() < 1e-9, "{serial:?}");
    let by = told.by;
    assert_eq!((by.engine.as_str(), by.kind.as_str(), by.attempts), ("gpu", "openai", 1));
    assert_eq!(by.origin, format!("http://127.0.0.1:{}", server.port()));
    assert_eq!((by.model.as_deref(), by.status), (Some("tiny-vl"), Some(200)));
    assert_eq!(by.system_fingerprint.as_deref(), Some("b1-test"));
    assert!(!by.is_unrated && by.timings.total_ms >= by.timings.first_byte_ms);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /v1/chat/completions HTTP/1.1");
    let digest = inspectd::vlm::Digest::of(&asked[0].body).to_string();
    assert_eq!(by.request_sha256, Some(digest), "what was sent is what is named");
    let body = completion(GOOD).to_string();
    let digest = inspectd::vlm::Digest::of(body.as_bytes()).to_string();
    assert_eq!(by.response_sha256, Some(digest));
    assert_eq!(asked[0].headers.get("accept-encoding").map(String::as_str), Some("identity"));
    assert!(!asked[0].headers.contains_key("authorization"), "no key, no header");
}

#[test]
fn what_is_not_of_the_questions_form_is_no_answer() {
    let off = "answer_off_schema";
    for (content, code) in [
        (r#"{"legible":true,"serial":"a7k2"}"#, off),
        (r#"{"legible":true,"serial":"A7K2A7K2"}"#, off),
        (r#"{"legible":false,"serial":"A7K2"}"#, off),
        (r#"{"legible":true}"#, off),
        (r#"{"legible":true,"serial":"A7K2","note":"x"}"#, off),
        (r#"{"legible":true,"legible":true,"serial":"A"}"#, off),
        (r#"{"legible":true,"serial":"A7K"#, off),
        ("```json\n{\"legible\":true,\"serial\":\"A7K2\"}\n```", off),
        ("The serial is A7K2.", off),
        ("", off),
        ("null", off),
    ] {
        let content_sent = content.to_owned();
        let server = EngineServer::start(move |_, _| Act::Answer(content_sent.clone()));
        let (found, text) = failure(ask_server(&server));
        assert_eq!(found, code, "{content}: {text}");
        assert!(text.starts_with("Engine \"gpu\": "), "{text}");
    }
}

#[test]
fn spaces_do_not_matter_and_what_is_kept_is_what_came() {
    let pretty = "{\n  \"legible\": true,\n  \"serial\": \"A7K2\"\n}";
    let server = EngineServer::start(move |_, _| Act::Answer(pretty.to_owned()));
    let told = ask_server(&server);
    assert_eq!(told.answer.expect("an answer").text, pretty);
}

#[test]
fn excuses_are_no_answers() {
    let cases = [
        ("answer_incomplete", say(|body| body["choices"][0]["finish_reason"] = json!("length"))),
        (
            "answer_refused",
            say(|body| body["choices"][0]["finish_reason"] = json!("content_filter")),
        ),
        (
            "answer_refused",
            say(|body| {
                body["choices"][0]["message"] = json!({ "content": null, "refusal": "No." })
            }),
        ),
        ("engine_unreadable", say(|body| body["choices"] = json!([]))),
        ("engine_unreadable", say(|body| *body = json!("hello"))),
        ("answer_off_schema", say(|body| body["choices"][0]["message"]["content"] = json!(null))),
    ];
    for (code, act) in cases {
        let server = EngineServer::start(move |_, _| act.clone());
        let (found, text) = failure(ask_server(&server));
        assert_eq!(found, code, "{text}");
    }
}

#[test]
fn probabilities_that_do_not_fit_are_none() {
    let good = |body: &mut serde_json::Value| {
        body["choices"][0]["message"]["content"] = json!(GOOD);
    };
    let cases = [
        say(move |body| {
            good(body);
            body["choices"][0]["logprobs"] = json!(null);
        }),
        // Those of another text.
        say(good),
        say(move |body| {
            good(body);
            body["choices"][0]["logprobs"]["content"] = json!([{ "token": GOOD, "logprob": 0.0 }]);
        }),
        say(move |body| {
            good(body);
            body["choices"][0]["logprobs"]["content"] = json!([{ "token": GOOD, "logprob": 0.5 }]);
        }),
    ];
    for act in cases {
        let server = EngineServer::start(move |_, _| act.clone());
        let told = ask_server(&server);
        assert!(told.by.is_unrated);
        assert!(told.answer.expect("an answer").fields.is_empty());
    }
}

#[test]
fn the_key_comes_from_its_file_and_stands_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-very-secret\n").expect("written");
    let server = EngineServer::start(|_, _| Act::Answer(GOOD.to_owned()));
    let options = EngineOptions { key: Some(Source::File(file.clone())), ..options(&server.url()) };
    let told = ask(&options);
    assert!(told.answer.is_ok());
    assert_eq!(server.asked()[0].headers["authorization"], "Bearer sk-very-secret");
    let record = serde_json::to_string(&told.by).expect("JSON") + &told.prompt;
    assert!(!record.contains("very-secret") && !format!("{options:?}").contains("very-secret"));
    // A key that was renewed holds at once.
    std::fs::write(&file, "sk-renewed\n").expect("written");
    let by_name = EngineOptions { key_header: KeyHeader::ApiKey, ..options };
    assert!(ask(&by_name).answer.is_ok());
    assert_eq!(server.asked()[1].headers["api-key"], "sk-renewed");
    std::fs::remove_file(&file).expect("removed");
    let (code, text) = failure(ask(&by_name));
    assert_eq!((code, server.asked().len()), ("engine_forbidden", 2), "{text}");
}

#[test]
fn azure_mls_two_forms_are_spoken() {
    let server = EngineServer::start(|asked, _| match asked.line.contains("/score") {
        true => Act::Say(
            200,
            vec![("Content-Type", "application/json; charset=utf-8".into())],
            json!({ "output": GOOD }).to_string().into(),
        ),
        false => Act::Answer(GOOD.to_owned()),
    });
    let azure = |path: &str, version: Option<&str>| {
        let url = format!("http://127.0.0.1:{}{path}", server.port());
        let endpoint = Endpoint::parse(Kind::AzureMl, &url, version).expect("an address");
        EngineOptions {
            deployment: Some("blue".to_owned()),
            ..EngineOptions::new("azure", Kind::AzureMl, endpoint)
        }
    };
    let score = ask(&azure("/score", None));
    assert_eq!(score.answer.expect("an answer").text, GOOD);
    assert!(score.by.is_unrated, "that form has no probabilities");
    assert!(ask(&azure("", Some("2024-05-01-preview"))).answer.is_ok());
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /score HTTP/1.1");
    assert!(asked[0].json()["input_data"]["input_string"].is_array());
    assert_eq!(asked[1].line, "POST /chat/completions?api-version=2024-05-01-preview HTTP/1.1");
    assert!(asked[1].json()["response_format"].is_object());
    assert!(asked.iter().all(|one| one.headers["azureml-model-deployment"] == "blue"));
}

#[test]
fn a_server_without_schemas_is_held_to_it_all_the_same() {
    let server = EngineServer::start(|_, before| match before {
        0 => Act::Answer(GOOD.to_owned()),
        _ => Act::Answer(r#"{"serial":"A7K2"}"#.to_owned()),
    });
    let options = EngineOptions { form: AnswerForm::Prompt, ..options(&server.url()) };
    assert!(ask(&options).answer.is_ok());
    assert_eq!(failure(ask(&options)).0, "answer_off_schema");
    assert!(server.asked().iter().all(|one| one.json().get("response_format").is_none()));
}
