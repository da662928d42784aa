//! Spans and their attributes, with names and lengths as OpenTelemetry and our bounds have them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::clock::Stamp;

/// Longest text in a span, in characters; a longer one is cut.
const TEXT_MAX_CHARS: usize = 128;

/// Flags of W3C's trace context: sampled.
const FLAGS: u32 = 1;

/// What a span of a part is about; its id follows from this, so whoever knows the part knows the span.
pub const PART: &str = "part";

/// From when to when, in nanoseconds since 1970.
pub type Time = (u64, u64);

/// A span of the part `result_id`. `about` tells it apart from its trace's other spans.
pub fn span(result_id: Uuid, about: &str, parent: Option<&str>, name: &str, time: Time) -> Span {
    Span {
        trace_id: result_id.as_bytes().to_vec(),
        span_id: span_id(result_id, about),
        parent_span_id: parent.map_or_else(Vec::new, |parent| span_id(result_id, parent)),
        flags: FLAGS,
        name: bounded(name),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: time.0,
        end_time_unix_nano: time.1.max(time.0),
        ..Span::default()
    }
}

/// The id of the span `about`: 8 bytes, never all zero. The same each time, so that spans that are sent twice are
/// known for one.
pub fn span_id(result_id: Uuid, about: &str) -> Vec<u8> {
    let digest = Sha256::new().chain_update(result_id).chain_update(about).finalize();
    let mut id = digest[..8].to_vec();
    id[7] |= 1;
    id
}

/// An attribute.
pub fn attribute(key: &str, value: impl Into<Attribute>) -> KeyValue {
    let value = Some(AnyValue { value: Some(value.into().0) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// An attribute, if there is a value.
pub fn maybe(key: &str, value: Option<impl Into<Attribute>>) -> Option<KeyValue> {
    value.map(|value| attribute(key, value))
}

/// A value, bounded.
pub struct Attribute(Value);

impl From<&str> for Attribute {
    fn from(text: &str) -> Attribute {
        Attribute(Value::StringValue(bounded(text)))
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Attribute {
        Attribute(Value::BoolValue(flag))
    }
}

impl From<u64> for Attribute {
    fn from(count: u64) -> Attribute {
        Attribute(Value::IntValue(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl From<f64> for Attribute {
    fn from(number: f64) -> Attribute {
        Attribute(Value::DoubleValue(number))
    }
}

impl From<Vec<&str>> for Attribute {
    fn from(texts: Vec<&str>) -> Attribute {
        let value = |text: &str| AnyValue { value: Some(Attribute::from(text).0) };
        let values = texts.into_iter().map(value).collect();
        Attribute(Value::ArrayValue(ArrayValue { values }))
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_MAX_CHARS).collect()
}

/// Nanoseconds since 1970; a clock before that counts as its beginning.
pub fn unix_ns(stamp: &Stamp) -> u64 {
    u64::try_from(stamp.wall.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_record_and_texts_are_bounded() {
        let (id, other) = (Uuid::now_v7(), Uuid::now_v7());
        let one = span(id, PART, None, &"x".repeat(500), (9, 3));
        assert_eq!(one.trace_id, id.as_bytes());
        assert_eq!((one.span_id.len(), one.parent_span_id.len()), (8, 0));
        assert_eq!((one.start_time_unix_nano, one.end_time_unix_nano), (9, 9));
        assert_eq!(one.name.len(), TEXT_MAX_CHARS);
        assert_eq!(span(id, "cut", Some(PART), "cut", (0, 0)).parent_span_id, one.span_id);
        assert_ne!(span_id(id, PART), span_id(other, PART));
        assert_ne!(span_id(id, PART), span_id(id, "cut"));
    }
}
