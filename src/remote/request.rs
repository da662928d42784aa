//! A question as it goes over the wire: chat completions with pictures and a schema, or the body of
//! Azure ML's `/score`.
//!
//! Pictures are the crops themselves, as the very PNG files that are kept as evidence. So the record's
//! evidence is what the engine saw, what was learnt with one engine holds for another, and a body can be
//! put together again from the record: [`Request::told`] is the body with each picture replaced by
//! `sha256:` and the digest of its evidence file.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::options::{AnswerForm, EngineOptions};
use crate::vlm::prompt::IMAGE;
use crate::vlm::sampler::Sampling;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The question's name; becomes the schema's.
    pub name: &'a str,
    /// Instructions before everything else; empty for none.
    pub system: &'a str,
    /// What is asked and what should be answered, without pictures.
    pub examples: &'a [(String, String)],
    /// The question, with `<image>` where each picture stands, or without: then pictures come first.
    pub text: &'a str,
    /// The pictures, as PNG files.
    pub pictures: &'a [Vec<u8>],
    /// What the answer may be, as JSON Schema.
    pub schema: &'a Value,
    /// How tokens are chosen.
    pub sampling: &'a Sampling,
}

/// A body, and what the record says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is sent.
    pub body: Vec<u8>,
    /// The same with digests in the places of pictures.
    pub told: String,
    /// SHA-256 of `body`, in hexadecimal.
    pub sha256: String,
}

#[derive(Serialize)]
struct Chat<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    messages: Vec<Message<'a>>,
    #[serde(flatten)]
    parameters: Parameters,
    seed: u64,
    max_tokens: usize,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
}

/// Azure ML's own body.
#[derive(Serialize)]
struct Score<'a> {
    input_data: Input<'a>,
}

#[derive(Serialize)]
struct Input<'a> {
    input_string: Vec<Message<'a>>,
    parameters: ScoreParameters,
}

#[derive(Serialize)]
struct ScoreParameters {
    #[serde(flatten)]
    parameters: Parameters,
    max_new_tokens: usize,
}

#[derive(Serialize)]
struct Parameters {
    temperature: f32,
    top_p: f32,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(String),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

impl Request {
    /// The body that puts `asking` to an engine with these options.
    pub fn new(options: &EngineOptions, asking: &Asking<'_>) -> Request {
        let as_data =
            |png: &Vec<u8>| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
        let as_digest = |png: &Vec<u8>| format!("sha256:{}", sha256(png));
        let body = body(options, asking, as_data);
        let told = body_text(body_bytes(body_of(options, asking, as_digest)));
        Request { sha256: sha256(&body), body, told }
    }
}

fn body(options: &EngineOptions, asking: &Asking<'_>, url: impl Fn(&Vec<u8>) -> String) -> Vec<u8> {
    body_bytes(body_of(options, asking, url))
}

fn body_bytes(body: serde_json::Result<Vec<u8>>) -> Vec<u8> {
    body.expect("texts and finite numbers have a JSON form")
}

fn body_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn body_of(
    options: &EngineOptions,
    asking: &Asking<'_>,
    url: impl Fn(&Vec<u8>) -> String,
) -> serde_json::Result<Vec<u8>> {
    let sampling = asking.sampling;
    let parameters = Parameters { temperature: sampling.temperature, top_p: sampling.top_p };
    let messages = messages(options, asking, url);
    if options.endpoint.is_score() {
        let parameters = ScoreParameters { parameters, max_new_tokens: sampling.max_tokens };
        return serde_json::to_vec(&Score {
            input_data: Input { input_string: messages, parameters },
        });
    }
    serde_json::to_vec(&Chat {
        model: options.model.as_deref(),
        messages,
        parameters,
        // Servers read it as a signed number.
        seed: sampling.seed & (u64::MAX >> 1),
        max_tokens: sampling.max_tokens,
        stream: false,
        response_format: response_format(options.form, asking),
        logprobs: options.logprobs,
    })
}

fn messages<'a>(
    options: &EngineOptions,
    asking: &Asking<'a>,
    url: impl Fn(&Vec<u8>) -> String,
) -> Vec<Message<'a>> {
    let text = |role, text: &str| Message { role, content: Content::Text(text.to_owned()) };
    let mut system = asking.system.to_owned();
    if options.endpoint.is_score() || options.form != AnswerForm::JsonSchema {
        if !system.is_empty() {
            system.push_str("\n\n");
        }
        system.push_str("Answer with one JSON value of this JSON Schema and nothing else:\n");
        system.push_str(&plain(asking.schema).to_string());
    }
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(text("system", &system));
    }
    for (asked, answered) in asking.examples {
        messages.push(text("user", asked));
        messages.push(text("assistant", answered));
    }
    let content = Content::Parts(pieces(asking, url));
    messages.push(Message { role: "user", content });
    messages
}

/// The question with the pictures in their places.
fn pieces<'a>(asking: &Asking<'a>, url: impl Fn(&Vec<u8>) -> String) -> Vec<Piece<'a>> {
    let shown = asking.pictures.iter();
    let mut shown = shown.map(|png| Piece::ImageUrl { image_url: ImageUrl { url: url(png) } });
    let mut pieces = Vec::new();
    let mut texts = asking.text.split(IMAGE);
    let first = texts.next().unwrap_or_default();
    if !asking.text.contains(IMAGE) {
        pieces.extend(shown);
        pieces.push(Piece::Text { text: first });
        return pieces;
    }
    let text = |text: &'a str| (!text.trim().is_empty()).then_some(Piece::Text { text });
    pieces.extend(text(first));
    for after in texts {
        pieces.extend(shown.next());
        pieces.extend(text(after));
    }
    // More pictures than places: none may be left out. The configuration forbids it.
    pieces.extend(shown);
    pieces
}

fn response_format(form: AnswerForm, asking: &Asking<'_>) -> Option<Value> {
    match form {
        AnswerForm::Prompt => None,
        AnswerForm::JsonObject => Some(serde_json::json!({ "type": "json_object" })),
        AnswerForm::JsonSchema => Some(serde_json::json!({
            "type": "json_schema",
            "json_schema": { "name": asking.name, "strict": true, "schema": plain(asking.schema) },
        })),
    }
}

/// The schema without what some servers refuse: which draft it is, and hints for one of them.
fn plain(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(members) = schema.as_object_mut() {
        members.retain(|name, _| name != "$schema" && name != "x-guidance");
    }
    schema
}

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::options::{Endpoint, Kind};
    use super::*;
    use serde_json::json;

    fn options(kind: Kind, url: &str) -> EngineOptions {
        let endpoint = Endpoint::parse(kind, url, None).expect("an address");
        EngineOptions {
            model: Some("qwen2-vl".into()),
            ..EngineOptions::new("gpu", kind, endpoint)
        }
    }

    fn asked(options: &EngineOptions, text: &str) -> (Value, Request) {
        let schema = json!({ "$schema": "x", "x-guidance": {}, "type": "object" });
        let pictures = [b"one".to_vec(), b"two".to_vec()];
        let examples = [("Read: K1".to_owned(), r#"{"serial":"K1"}"#.to_owned())];
        let sampling = Sampling { max_tokens: 99, ..Sampling::default() };
        let asking = Asking {
            name: "serial",
            system: "Be exact.",
            examples: &examples,
            text,
            pictures: &pictures,
            schema: &schema,
            sampling: &sampling,
        };
        let request = Request::new(options, &asking);
        (serde_json::from_slice(&request.body).expect("JSON"), request)
    }

    #[test]
    fn the_whole_conversation_goes_out_with_pictures_in_their_places() {
        let options = options(Kind::OpenAi, "http://gpu:8000/v1");
        let (body, _) = asked(&options, "Good: <image>\nThis: <image> Same?");
        assert_eq!(body["model"], "qwen2-vl");
        assert_eq!((&body["max_tokens"], &body["logprobs"]), (&json!(99), &json!(true)));
        let format = &body["response_format"];
        assert_eq!(format["json_schema"]["schema"], json!({ "type": "object" }));
        assert_eq!(format["json_schema"]["name"], "serial");
        let messages = body["messages"].as_array().expect("a list");
        let roles: Vec<&str> = messages.iter().filter_map(|one| one["role"].as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        let data = |text: &str| json!({ "type": "image_url", "image_url": { "url": text } });
        let said = |text: &str| json!({ "type": "text", "text": text });
        let expected = json!([
            said("Good: "),
            data("data:image/png;base64,b25l"),
            said("\nThis: "),
            data("data:image/png;base64,dHdv"),
            said(" Same?"),
        ]);
        assert_eq!(messages[3]["content"], expected);
        let (body, _) = asked(&options, "Same?");
        let kinds = body["messages"][3]["content"].as_array().expect("a list").iter();
        let kinds: Vec<&str> = kinds.filter_map(|one| one["type"].as_str()).collect();
        assert_eq!(kinds, ["image_url", "image_url", "text"], "without places pictures come first");
    }

    #[test]
    fn what_is_told_becomes_the_body_again() {
        let (_, request) = asked(&options(Kind::OpenAi, "http://gpu/v1"), "Same?");
        let mut again = request.told.clone();
        for picture in [b"one".as_slice(), b"two"] {
            let digest = format!("sha256:{}", sha256(picture));
            assert!(again.contains(&digest));
            let data = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(picture));
            again = again.replace(&digest, &data);
        }
        assert_eq!(again.as_bytes(), request.body);
        assert_eq!(sha256(again.as_bytes()), request.sha256);
    }

    #[test]
    fn azures_score_has_a_body_of_its_own_and_the_schema_in_words() {
        let url = "https://line.inference.ml.azure.com/score";
        let (body, _) = asked(&options(Kind::AzureMl, url), "Same?");
        let input = &body["input_data"];
        assert_eq!(input["parameters"]["max_new_tokens"], 99);
        assert_eq!(input["input_string"].as_array().map(Vec::len), Some(4));
        let system = input["input_string"][0]["content"].as_str().expect("a text");
        assert!(system.starts_with("Be exact.") && system.ends_with(r#"{"type":"object"}"#));
        assert!(body.get("response_format").is_none() && body.get("model").is_none());
    }

    #[test]
    fn servers_without_schemas_are_told_it_in_words() {
        for (form, format) in [
            (AnswerForm::JsonObject, json!({ "type": "json_object" })),
            (AnswerForm::Prompt, Value::Null),
        ] {
            let options = EngineOptions { form, ..options(Kind::OpenAi, "http://gpu/v1") };
            let (body, _) = asked(&options, "Same?");
            assert_eq!(body.get("response_format").unwrap_or(&Value::Null), &format);
            assert!(
                body["messages"][0]["content"].as_str().is_some_and(|text| text.contains("Schema"))
            );
        }
    }
}
