//! Whether an engine does what stations need of it: tried step by step, with what to do where it does not.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::engine::{Engine, Question, RealPace, Told};
use super::failure::Why;
use super::options::{AnswerForm, EngineOptions};
use crate::credential;
use crate::vlm::answer::Answer;
use crate::vlm::grammar::answer::{AnswerSpec, FieldKind, FieldSpec, SerialSpec};
use crate::vlm::grammar::template::Template;

/// Longest list of models that is looked through.
const MODELS_MAX: usize = 1000;

/// Models that are told where the one that is asked for is not among them.
const MODELS_TOLD: usize = 8;

/// One step of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was tried.
    pub what: &'static str,
    /// How it went.
    pub went: Went,
    /// What was seen.
    pub seen: String,
    /// What a person can do, where something is to be done.
    pub remedy: Option<String>,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// As it should.
    Well,
    /// It is not there, and stations can do without.
    Without,
    /// Stations cannot use the engine like this.
    Badly,
}

/// Tries everything that can be tried; after a step that went badly the rest would only say the same.
/// `picture`: the PNG file of a picture that is all red.
pub fn check(options: &EngineOptions, picture: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    for step in [reach, key, models] {
        steps.extend(step(options));
        if steps.iter().any(|step| step.went == Went::Badly) {
            return steps;
        }
    }
    steps.append(&mut question(options, picture));
    steps
}

fn step(what: &'static str, went: Went, seen: impl Into<String>) -> Step {
    Step { what, went, seen: seen.into(), remedy: None }
}

fn bad(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Step {
    Step { remedy: Some(remedy.into()), ..step(what, Went::Badly, seen) }
}

fn reach(options: &EngineOptions) -> Option<Step> {
    let (host, port) = (options.endpoint.address().host(), options.endpoint.address().port());
    let plain = host.trim_matches(['[', ']']);
    let remedy = "correct `url`, start the server, or let this device through the firewall";
    let started = Instant::now();
    let Ok(mut addresses) = (plain, port).to_socket_addrs() else {
        return Some(bad("reachable", format!("there is no host \"{host}\""), remedy));
    };
    let connect = |address| TcpStream::connect_timeout(&address, options.connect_timeout);
    let tried = addresses.by_ref().take(4).map(connect).reduce(|one, next| one.or(next));
    Some(match tried {
        Some(Ok(_)) => {
            let ms = started.elapsed().as_secs_f64() * 1e3;
            step("reachable", Went::Well, format!("{host}:{port} in {ms:.1} ms"))
        }
        Some(Err(why)) => bad("reachable", format!("{host}:{port}: {why}"), remedy),
        None => bad("reachable", format!("\"{host}\" has no address"), remedy),
    })
}

fn key(options: &EngineOptions) -> Option<Step> {
    let source = options.key.as_ref()?;
    Some(match credential::read(source) {
        Ok(_) => step("key", Went::Well, "there is one"),
        Err(why) => bad("key", why.to_string(), "put the key there as the file's first line"),
    })
}

/// Whether the server lists the model. Some list nothing: then the question will show it.
fn models(options: &EngineOptions) -> Option<Step> {
    let url = options.endpoint.models_url()?;
    let engine = Engine::with_pace(options, Box::new(|_, _| ()), Box::new(RealPace));
    let engine = match engine {
        Ok(engine) => engine,
        Err(why) => return Some(bad("encrypted", why, "correct `ca_file`")),
    };
    let told = match engine.client().get(&url, options.timeout) {
        Ok(told) => told,
        Err((failure, _)) => {
            return match failure.why {
                Why::Tls => {
                    Some(bad("encrypted", failure.text, "name the plant's authority as `ca_file`"))
                }
                Why::Forbidden => {
                    Some(bad("key", failure.text, "correct the key, or `key_header`"))
                }
                _ => Some(step("model", Went::Without, format!("not listed: {}", failure.text))),
            };
        }
    };
    let value: serde_json::Value = serde_json::from_slice(&told.body).unwrap_or_default();
    let list = value["data"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> =
        list.iter().take(MODELS_MAX).filter_map(|one| one["id"].as_str()).collect();
    let Some(wanted) = options.model.as_deref() else {
        return Some(step("model", Went::Without, "the endpoint's own"));
    };
    Some(if names.contains(&wanted) {
        step("model", Went::Well, format!("\"{wanted}\" is served"))
    } else if names.is_empty() {
        step("model", Went::Without, "the server lists none")
    } else {
        let all: Vec<String> =
            names.iter().take(MODELS_TOLD).map(|name| super::reply::clean(name)).collect();
        let all = all.join(", ");
        let remedy = format!("set `model` to what the server serves: {all}");
        // Some servers have one model and answer to every name.
        Step {
            remedy: Some(remedy),
            ..step("model", Went::Without, format!("\"{wanted}\" is not listed"))
        }
    })
}

/// Asks which colour a picture has.
fn ask(options: &EngineOptions, pictures: &[Vec<u8>]) -> Result<Told, String> {
    let colours = ["red", "green", "blue"].map(str::to_owned).to_vec();
    let field = FieldSpec { name: "colour".to_owned(), kind: FieldKind::Choice(colours) };
    let spec = AnswerSpec::fields(vec![field]).map_err(|why| why.to_string())?;
    put(options, &spec, "Which colour does the picture have? Answer in JSON.", pictures)
}

/// Asks for a serial number, whose schema has a pattern. There is none in the picture.
fn ask_serial(options: &EngineOptions, pictures: &[Vec<u8>]) -> Result<Told, String> {
    let template =
        Template::parse("A#{4}", "ABCDEFGHKMPX0123456789").map_err(|why| why.to_string())?;
    let spec = AnswerSpec::serial(&SerialSpec { template, strict: true });
    let spec = spec.map_err(|why| why.to_string())?;
    put(options, &spec, "Which serial number does the picture show? Answer in JSON.", pictures)
}

fn put(
    options: &EngineOptions,
    spec: &AnswerSpec,
    text: &str,
    pictures: &[Vec<u8>],
) -> Result<Told, String> {
    let mut question = Question::new("check", spec).map_err(|why| why.to_string())?;
    "You are a precise visual analyst.".clone_into(&mut question.system);
    text.clone_into(&mut question.text);
    let engine = Engine::with_pace(options, Box::new(|_, _| ()), Box::new(RealPace))?;
    // A second try would hide the first failure.
    let deadline = Instant::now() + options.timeout + Duration::from_millis(50);
    Ok(engine.ask(&question, pictures, deadline))
}

fn question(options: &EngineOptions, picture: &[u8]) -> Vec<Step> {
    let pictures = [picture.to_vec()];
    let told = match ask(options, &pictures) {
        Ok(told) => told,
        Err(why) => return vec![bad("question", why, "correct the engine's keys")],
    };
    match told.answer {
        Ok(ref answer) => {
            let mut steps = good(answer, &told);
            if options.form == AnswerForm::JsonSchema {
                steps.push(serial(options, &pictures));
            }
            steps
        }
        Err(ref failure) => vec![why_not(options, failure.why, &failure.text, &pictures)],
    }
}

fn good(answer: &Answer, told: &Told) -> Vec<Step> {
    let model = told.by.model.as_deref().unwrap_or("a model that is not named");
    let seconds = told.by.timings.total_ms / 1e3;
    let mut steps = vec![
        step("question", Went::Well, format!("answered by {model} in {seconds:.2} s")),
        step("schema", Went::Well, format!("the answer is {}", super::reply::clean(&answer.text))),
    ];
    steps.push(match answer.text.contains("red") {
        true => step("picture", Went::Well, "it was seen: the picture is red"),
        false => {
            let remedy =
                "is it a vision model? Measure it with `inspectd evaluate` before it judges parts";
            let seen = "it was taken, and the answer is wrong: the picture is red";
            Step { remedy: Some(remedy.to_owned()), ..step("picture", Went::Without, seen) }
        }
    });
    steps.push(match told.by.is_unrated {
        false => step("logprobs", Went::Well, "each answer comes with its probability"),
        true => {
            let remedy = "stations with `confidence_min` send its answers to review, unless they say \
                          accept_without_confidence = true";
            let seen = "the server tells no probabilities that fit the answer";
            Step { remedy: Some(remedy.to_owned()), ..step("logprobs", Went::Without, seen) }
        }
    });
    steps
}

/// Servers that hold to a plain schema may not know patterns, which hold serial numbers to their template, or may let
/// a model write white space until its tokens end.
fn serial(options: &EngineOptions, pictures: &[Vec<u8>]) -> Step {
    let failure = match ask_serial(options, pictures) {
        Ok(Told { answer: Ok(answer), .. }) => {
            let seen = format!("the answer is {}", super::reply::clean(&answer.text));
            return step("serial", Went::Well, seen);
        }
        Ok(Told { answer: Err(failure), .. }) => failure,
        Err(why) => return bad("serial", why, "correct the engine's keys"),
    };
    let remedy = match failure.why {
        Why::Rejected | Why::OffSchema | Why::CutOff => {
            "questions of `task = \"serial\"` go to review like this. vLLM: serve with \
             --structured-outputs-config '{\"backend\":\"guidance\",\"disable_any_whitespace\":true}'. \
             Others: update the server, or set  answer_form = \"json_object\""
        }
        _ => "look into the server's own log",
    };
    Step { remedy: Some(remedy.to_owned()), ..step("serial", Went::Without, failure.text) }
}

/// What is wrong with a question that failed: tried again with less of it.
fn why_not(options: &EngineOptions, why: Why, text: &str, pictures: &[Vec<u8>]) -> Step {
    let remedy = match why {
        Why::Tls => "name the plant's authority as `ca_file`",
        Why::NoKey | Why::Forbidden => "correct the key, or `key_header`",
        Why::Timeout => "raise `timeout_s`, or use a smaller model or a larger GPU",
        Why::Unreachable => "correct `url`, or start the server",
        Why::Redirected => "write the address that it redirects to as `url`",
        Why::OffSchema | Why::CutOff if options.form == AnswerForm::JsonSchema => {
            "the server does not hold the model to the schema: update it, or choose another server"
        }
        Why::Rejected | Why::ServerError => return rejected(options, text, pictures),
        _ => "look into the server's own log",
    };
    bad("question", text, remedy)
}

fn rejected(options: &EngineOptions, text: &str, pictures: &[Vec<u8>]) -> Step {
    let works = |options: &EngineOptions, pictures: &[Vec<u8>]| {
        ask(options, pictures).is_ok_and(|told| match told.answer {
            Ok(_) => true,
            Err(failure) => !matches!(failure.why, Why::Rejected | Why::ServerError),
        })
    };
    let without_schema = EngineOptions { form: AnswerForm::Prompt, ..options.clone() };
    let without_logprobs = EngineOptions { logprobs: false, ..options.clone() };
    let remedy = if works(options, &[]) {
        "without a picture it works: serve a vision model, with its projector where the server wants one"
    } else if options.logprobs && works(&without_logprobs, pictures) {
        "without probabilities it works: set  logprobs = false"
    } else if options.form != AnswerForm::Prompt && works(&without_schema, pictures) {
        "without a schema it works: set  answer_form = \"json_object\"  or  \"prompt\""
    } else {
        "correct `url` and `model`, and look into the server's own log"
    };
    bad("question", text, remedy)
}
