//! A collector of traces for tests: what it was sent, read by the messages that OpenTelemetry generates.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::engine_server::{Act, Asked, EngineServer};
use super::mosquitto::DEADLINE;

/// What it answers when it took everything.
pub fn taken() -> Act {
    answer(ExportTraceServiceResponse::default())
}

/// What it answers when it refused so many spans.
pub fn refused(rejected_spans: i64) -> Act {
    let error_message = "too old".to_owned();
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
    answer(ExportTraceServiceResponse { partial_success })
}

fn answer(response: ExportTraceServiceResponse) -> Act {
    let kind = ("Content-Type", "application/x-protobuf".to_owned());
    Act::Say(200, vec![kind], response.encode_to_vec())
}

/// Any other answer.
pub fn say(status: u16, headers: &[(&'static str, &str)], body: &str) -> Act {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Act::Say(status, headers, body.as_bytes().to_vec())
}

/// Its address, as configurations name it.
pub fn url(server: &EngineServer) -> String {
    format!("{}/traces", server.url())
}

/// One message, read strictly.
pub fn request(asked: &Asked) -> ExportTraceServiceRequest {
    assert_eq!(asked.headers["content-type"], "application/x-protobuf");
    let mut body = asked.body.clone();
    if asked.headers.get("content-encoding").is_some_and(|how| how == "gzip") {
        body.clear();
        GzDecoder::new(&asked.body[..]).read_to_end(&mut body).expect("gzip");
    }
    ExportTraceServiceRequest::decode(&body[..]).expect("OTLP")
}

/// All spans of all messages so far.
pub fn spans(server: &EngineServer) -> Vec<Span> {
    let requests = server.asked().into_iter().map(|asked| request(&asked));
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|one| one.scope_spans).flat_map(|scope| scope.spans).collect()
}

/// Waits until the spans so far are as they should be.
pub fn wait_for(server: &EngineServer, what: &str, is_so: impl Fn(&[Span]) -> bool) -> Vec<Span> {
    let until = Instant::now() + DEADLINE;
    loop {
        let spans = spans(server);
        if is_so(&spans) {
            return spans;
        }
        assert!(Instant::now() < until, "waited in vain for {what}; there are {}", spans.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Attributes by name, in words.
pub fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let words = |one: &KeyValue| {
        let value = one.value.clone().and_then(|value| value.value).expect("a value");
        (one.key.clone(), word(&value))
    };
    let told: BTreeMap<String, String> = all.iter().map(words).collect();
    assert_eq!(told.len(), all.len(), "each attribute once: {all:?}");
    told
}

fn word(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(list) => {
            let each = list.values.iter().filter_map(|one| one.value.as_ref()).map(word);
            each.collect::<Vec<_>>().join(",")
        }
        other => panic!("no such value is sent: {other:?}"),
    }
}
