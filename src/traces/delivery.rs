//! A result that the broker acknowledged → a span of the part's trace.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use uuid::Uuid;

use super::span::{self, PART, attribute};
use crate::verdict::Outcome;

/// A result that the broker has.
#[derive(Clone, Debug)]
pub struct Delivered<'d> {
    /// Which.
    pub result_id: Uuid,
    /// The verdict that it tells.
    pub verdict: Outcome,
    /// The broker's host and port.
    pub broker: (&'d str, u16),
    /// Where it was sent.
    pub topic: &'d str,
    /// Bytes of the message.
    pub bytes: usize,
    /// Whether it went as backlog.
    pub is_replayed: bool,
    /// When it was committed, was handed over on the connection that it went by, and was acknowledged.
    pub times: [jiff::Timestamp; 3],
}

/// It ends after its parent, perhaps by days: the part is done with its record, and delivery has its own time.
pub fn span(delivered: &Delivered<'_>) -> Span {
    let ns = delivered.times.map(|time| u64::try_from(time.as_nanosecond()).unwrap_or(0));
    let name = format!("publish {}", delivered.topic);
    let mut span = span::span(delivered.result_id, "publish", Some(PART), &name, (ns[0], ns[2]));
    span.kind = SpanKind::Producer.into();
    span.attributes = vec![
        attribute("messaging.system", "mqtt"),
        attribute("messaging.operation.name", "publish"),
        attribute("messaging.operation.type", "send"),
        attribute("messaging.destination.name", delivered.topic),
        attribute("messaging.message.id", delivered.result_id.to_string().as_str()),
        attribute("messaging.message.body.size", delivered.bytes as u64),
        attribute("server.address", delivered.broker.0),
        attribute("server.port", u64::from(delivered.broker.1)),
        attribute("inspectd.is_replayed", delivered.is_replayed),
    ];
    let time_unix_nano = ns[1].clamp(ns[0], ns[2].max(ns[0]));
    let name = "handed_over".to_owned();
    span.events = vec![Event { time_unix_nano, name, ..Event::default() }];
    span
}
