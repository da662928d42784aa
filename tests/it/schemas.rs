//! What is said of messages is true: schemas against real messages, AsyncAPI against the topics.

use std::collections::{BTreeMap, BTreeSet};

use assert_cmd::Command;
use inspectd::expected::ExpectCommand;
use inspectd::plc::command::{self, CommandName};
use inspectd::publish::message::{self, Status};
use inspectd::publish::schema;
use inspectd::publish::topics::{Kind, Topics};
use inspectd::publish::{PublishState, envelope};
use serde_json::Value;
use tempfile::tempdir;
use yaml_rust2::{Yaml, YamlLoader};

use crate::support::delivery::Line;
use crate::support::mosquitto::{Mosquitto, Subscriber};
use crate::support::records::{DEVICE, decided, inspection};

fn validators() -> BTreeMap<&'static str, jsonschema::Validator> {
    let all = schema::ALL.iter().map(|known| {
        let document: Value = serde_json::from_str(known.text).expect("JSON");
        jsonschema::meta::validate(&document).expect("a schema");
        (known.name, jsonschema::validator_for(&document).expect("a schema"))
    });
    all.collect()
}

fn assert_valid(validator: &jsonschema::Validator, payload: &[u8]) {
    let value: Value = serde_json::from_slice(payload).expect("JSON");
    let faults: Vec<String> =
        validator.iter_errors(&value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?} in {value:#}");
}

#[test]
fn every_status_has_the_form_that_the_schema_states() {
    let validators = validators();
    let stations = ["left".to_owned(), "right".to_owned()];
    for status in [Status::Online(decided(1)), Status::Stopped(decided(2)), Status::Lost] {
        let payload = message::status(DEVICE, &stations, status);
        assert_valid(&validators["status.v1"], &payload);
    }
    let contradiction = br#"{"schema_version":1,"device":"d","online":true,"reason":"stopped",
        "creation_time":null,"program_version":"1","stations":[]}"#;
    let value: Value = serde_json::from_slice(contradiction).expect("JSON");
    assert!(!validators["status.v1"].is_valid(&value));
}

#[test]
fn a_result_may_carry_a_thumbnail_and_must_say_whether_it_is_late() {
    let validators = validators();
    let body = message::result_with_thumbnail(&inspection("left", 1), Some(b"no picture")).payload;
    assert_valid(&validators["result.v1"], &envelope::seal(&body, true).expect("an object"));
    let value: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(!validators["result.v1"].is_valid(&value), "as it lies in the outbox");
    let cut = envelope::without_thumbnail(&body).expect("there is one");
    assert_eq!(cut, message::result(&inspection_like(&value)).payload);
}

/// The inspection of `value`, made up once more.
fn inspection_like(value: &Value) -> inspectd::inspection::Inspection {
    let mut look = inspection("left", value["job_id"].as_u64().expect("a number"));
    look.result_id = value["result_id"].as_str().expect("a text").parse().expect("a UUID");
    look
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_sent_has_a_schema_that_the_broker_keeps() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let line = Line::start(dir.path(), broker.port());
    for job_id in 1..=6 {
        line.commit("left", job_id);
    }
    line.wait("six", |state: &PublishState| state.sent == 6).await;
    let late = Subscriber::start(broker.port()).await;
    let kept = late
        .wait("what is kept", |seen| {
            let schemas = seen.messages.iter().filter(|kept| kept.topic.contains("/schema/"));
            schemas.count() == schema::ALL.len() && !seen.under("last").is_empty()
        })
        .await;
    assert!(kept.under("result").is_empty(), "a schema is no result: {kept:?}");
    let schemas: BTreeMap<&str, jsonschema::Validator> = kept
        .messages
        .iter()
        .filter_map(|kept| {
            let name = kept.topic.strip_prefix("acme/plant1/dev7/schema/")?;
            Some((name, jsonschema::validator_for(&kept.payload).expect("a schema")))
        })
        .collect();
    // A thumbnail goes with its result where there is room, and without it otherwise.
    let look = inspection("left", 7);
    let (small, large) = (vec![1; 500], vec![1; 100_000]);
    let with = line.publisher.result(&look, Some(&small)).payload;
    assert_eq!(with, message::result_with_thumbnail(&look, Some(&small)).payload);
    assert_eq!(line.publisher.result(&look, Some(&large)), message::result(&look));
    for (level, name) in [("status", "status.v1"), ("last", "result.v1")] {
        let payload = &kept.under(level)[0].payload;
        assert!(schemas[name].is_valid(payload), "{payload:#}");
    }
}

#[test]
fn the_asyncapi_document_tells_of_every_topic() {
    let document = YamlLoader::load_from_str(schema::ASYNCAPI).expect("YAML");
    let document = &document[0];
    assert_eq!(document["asyncapi"].as_str(), Some("3.0.0"));
    let topics = Topics::new("PREFIX", "DEVICE").expect("good names");
    let spelled = |topic: String| {
        topic
            .replace("PREFIX", "{prefix}")
            .replace("DEVICE", "{device}")
            .replace("STATION", "{station}")
            .replace("NAME", "{name}")
    };
    let known: BTreeSet<&str> = schema::ALL.iter().map(|schema| schema.name).collect();
    let channels = &document["channels"];
    for kind in Kind::ALL {
        assert!(known.contains(kind.schema()), "{} has no schema", kind.schema());
        let level = kind.level();
        let station = (![Kind::Status, Kind::Chain].contains(&kind)).then_some("STATION");
        let topic = match kind {
            Kind::Reply => topics.command(station, "{command}") + "/reply",
            _ => topics.of(kind, station),
        };
        let address = channels[level]["address"].as_str();
        assert_eq!(address, Some(spelled(topic).as_str()), "{level}");
        let operation = format!("send{}{}", level[..1].to_uppercase(), &level[1..]);
        let retained = &document["operations"][operation.as_str()]["bindings"]["mqtt"]["retain"];
        assert_eq!(retained.as_bool(), Some(kind.is_retained()), "{operation}");
        let messages = channels[level]["messages"].as_hash().expect("a channel has messages");
        let names: Vec<&str> =
            messages.values().map(|message| name_of(document, message)).collect();
        assert_eq!(names, [kind.schema()], "{level}");
    }
    for name in CommandName::ALL {
        let channel = &channels[format!("cmd_{}", name.as_str()).as_str()];
        let topic = topics.command(Some("STATION"), name.as_str());
        assert_eq!(channel["address"].as_str(), Some(spelled(topic).as_str()));
        let message = channel["messages"].as_hash().and_then(|all| all.values().next());
        let schema = name_of(document, message.expect("a channel has messages"));
        assert_eq!(schema, format!("cmd_{}.v1", name.as_str()));
        assert!(known.contains(schema), "{schema}");
    }
    let address = channels["schema"]["address"].as_str();
    assert_eq!(address, Some(spelled(topics.schema("NAME")).as_str()));
}

#[test]
fn the_asyncapi_document_refers_to_files_that_are_written_with_it() {
    let dir = tempdir().expect("a folder");
    let mut inspectd = Command::cargo_bin("inspectd").expect("is built");
    inspectd.args(["schema", "export"]).arg(dir.path()).assert().success();
    let document = std::fs::read_to_string(dir.path().join("asyncapi.yaml")).expect("is written");
    let referred = document.split("'./").skip(1).filter_map(|rest| rest.split('\'').next());
    let referred: BTreeSet<&str> = referred.collect();
    assert_eq!(referred.len(), schema::ALL.len(), "{referred:?}");
    for name in referred {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
}

/// What the parser takes and what the schema allows are the same, for every command.
#[test]
fn a_command_that_is_carried_out_has_the_form_that_the_schema_states() {
    let validators = validators();
    let words = [
        ("trigger", r#"{"trigger_id":7,"part_id":"A-1","deadline_ms":800,"request_id":"r"}"#, true),
        ("trigger", r#"{"trigger_id":"T","part_id":null,"deadline_ms":null}"#, true),
        ("trigger", r#"{"trigger_id":18446744073709551615}"#, true),
        ("trigger", "{}", false),
        ("trigger", r#"{"trigger_id":-1}"#, false),
        ("trigger", r#"{"trigger_id":1.5}"#, false),
        ("trigger", r#"{"trigger_id":""}"#, false),
        ("trigger", r#"{"trigger_id":7,"deadlin_ms":100}"#, false),
        ("trigger", r#"{"trigger_id":7,"deadline_ms":0}"#, false),
        ("trigger", r#"{"trigger_id":7,"deadline_ms":600001}"#, false),
        ("trigger", r#"{"trigger_id":7,"part_id":7}"#, false),
        ("ack", r#"{"trigger_id":7}"#, true),
        ("ack", r#"{"result_id":"a","request_id":1}"#, true),
        ("ack", r#"{"result_id":"a","trigger_id":null}"#, true),
        ("ack", "{}", false),
        ("ack", r#"{"result_id":"a","trigger_id":7}"#, false),
        ("ack", r#"{"result_id":7}"#, false),
        ("recipe", r#"{"index":2}"#, true),
        ("recipe", r#"{"index":-1}"#, false),
        ("recipe", r#"{"index":4294967296}"#, false),
        ("line", r#"{"state":"Held"}"#, true),
        ("line", r#"{"state":"Completed"}"#, true),
        ("line", r#"{"state":"Running"}"#, false),
        ("reset", "{}", true),
        ("reset", r#"{"all":true}"#, false),
    ];
    for (word, payload, is_good) in words {
        let name = CommandName::of(word).expect("a command");
        let value: Value = serde_json::from_str(payload).expect("JSON");
        assert_eq!(command::parse(name, payload.as_bytes()).is_ok(), is_good, "{word} {payload}");
        let allowed = validators[format!("cmd_{word}.v1").as_str()].is_valid(&value);
        assert_eq!(allowed, is_good, "the schema, {word} {payload}");
    }
    let expect = &validators["cmd_expect.v1"];
    for (payload, is_good) in [
        (r#"{"add":["A7K2"]}"#, true),
        (r#"{"clear":true}"#, true),
        (r#"{"clear":false}"#, false),
        (r#"{"add":["A"],"list":["B"]}"#, false),
        (r#"{"add":["A"],"mode":"x"}"#, false),
        ("{}", false),
    ] {
        let value: Value = serde_json::from_str(payload).expect("JSON");
        assert_eq!(ExpectCommand::parse(payload.as_bytes()).is_ok(), is_good, "{payload}");
        assert_eq!(expect.is_valid(&value), is_good, "the schema, {payload}");
    }
}

/// The name of the message that `reference` leads to.
fn name_of<'d>(document: &'d Yaml, reference: &Yaml) -> &'d str {
    let path = reference["$ref"].as_str().expect("a reference");
    let found = path.trim_start_matches("#/").split('/').fold(document, |at, key| &at[key]);
    found["name"].as_str().expect("a message has a name")
}
