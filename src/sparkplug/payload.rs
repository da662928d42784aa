//! Payloads: metrics to protobuf, and what a host wrote from it. No other file encodes.

use srad_types::constants::{BDSEQ, NODE_CONTROL_REBIRTH};
use srad_types::payload::metric::Value;
use srad_types::payload::{DataType, Message, Metric, Payload};

use crate::publish::transport::{Packet, Qos};

/// Longest command that is looked at, in bytes.
const COMMAND_MAX_BYTES: usize = 4096;

/// Most metrics of one command that are looked at.
const COMMAND_MAX_METRICS: usize = 32;

/// A value and when it became so. `None` is null.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: Option<Value>,
    /// Milliseconds since 1970, UTC.
    pub at_ms: u64,
}

/// A message that has no number yet: that is given when the connection takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Where to.
    pub topic: String,
    /// What.
    pub metrics: Vec<Metric>,
}

impl Draft {
    /// The message as number `seq` of the edge node, sent at `now_ms`: QoS 0, not retained.
    pub fn packet(&self, seq: u8, now_ms: u64) -> Packet {
        let payload = Payload {
            timestamp: Some(now_ms),
            metrics: self.metrics.clone(),
            seq: Some(u64::from(seq)),
            uuid: None,
            body: None,
        };
        Packet {
            topic: self.topic.clone(),
            payload: payload.encode_to_vec(),
            qos: Qos::AtMostOnce,
            ..Packet::default()
        }
    }
}

/// The death certificate of the connection `bd_seq`, as the last will and as a goodbye: QoS 1, not
/// retained, without a number.
pub fn node_death(topic: String, bd_seq: u8, now_ms: u64) -> Packet {
    let payload = Payload {
        timestamp: Some(now_ms),
        metrics: vec![bd_seq_metric(bd_seq, now_ms)],
        seq: None,
        uuid: None,
        body: None,
    };
    Packet { topic, payload: payload.encode_to_vec(), ..Packet::default() }
}

/// The number of the connection, as births and deaths carry it.
pub fn bd_seq_metric(bd_seq: u8, now_ms: u64) -> Metric {
    let value = Some(Value::LongValue(u64::from(bd_seq)));
    declared(BDSEQ, None, DataType::Int64, &Reading { value, at_ms: now_ms })
}

/// The metric by which a host asks for births; it has no alias, so that a host that knows nothing of
/// us can ask.
pub fn rebirth_metric(now_ms: u64) -> Metric {
    let value = Some(Value::BooleanValue(false));
    declared(NODE_CONTROL_REBIRTH, None, DataType::Boolean, &Reading { value, at_ms: now_ms })
}

/// A metric of a birth: name, alias and type.
pub fn declared(name: &str, alias: Option<u64>, datatype: DataType, reading: &Reading) -> Metric {
    let mut metric = valued(reading);
    metric.name = Some(name.to_owned());
    metric.alias = alias;
    metric.datatype = Some(datatype as u32);
    metric
}

/// A metric of data: the alias alone. `historical`: it is told late.
pub fn aliased(alias: u64, reading: &Reading, historical: bool) -> Metric {
    let mut metric = valued(reading);
    metric.alias = Some(alias);
    metric.is_historical = historical.then_some(true);
    metric
}

fn valued(reading: &Reading) -> Metric {
    let mut metric = Metric::new();
    metric.timestamp = Some(reading.at_ms);
    match &reading.value {
        Some(value) => metric.value = Some(value.clone()),
        None => metric.is_null = Some(true),
    }
    metric
}

/// One metric that a host wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its name, if it was written by name.
    pub name: Option<String>,
    /// Its alias, if it was written by alias.
    pub alias: Option<u64>,
    /// The value; `None` is null.
    pub value: Option<Value>,
}

impl Written {
    /// Whether it asks for births.
    pub fn asks_rebirth(&self) -> bool {
        self.name.as_deref() == Some(NODE_CONTROL_REBIRTH)
            && self.value == Some(Value::BooleanValue(true))
    }

    /// The value as a whole number. Hosts use either of the two wire types.
    pub fn whole(&self) -> Option<u64> {
        match self.value {
            Some(Value::IntValue(number)) => Some(u64::from(number)),
            Some(Value::LongValue(number)) => Some(number),
            _ => None,
        }
    }
}

/// What a host wrote. An error if it is no command of bearable size.
pub fn written(payload: &[u8]) -> Result<Vec<Written>, String> {
    if payload.len() > COMMAND_MAX_BYTES {
        return Err(format!("{} bytes, {COMMAND_MAX_BYTES} at most", payload.len()));
    }
    let payload = Payload::decode(payload).map_err(|why| why.to_string())?;
    if payload.metrics.len() > COMMAND_MAX_METRICS {
        return Err(format!("{} metrics, {COMMAND_MAX_METRICS} at most", payload.metrics.len()));
    }
    let written = payload.metrics.into_iter();
    Ok(written.map(|Metric { name, alias, value, .. }| Written { name, alias, value }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_draft_becomes_a_numbered_message() {
        let reading = Reading { value: None, at_ms: 5 };
        let draft = Draft { topic: "t".into(), metrics: vec![aliased(7, &reading, true)] };
        let packet = draft.packet(255, 9);
        assert_eq!((packet.qos, packet.retain), (Qos::AtMostOnce, false));
        let payload = Payload::decode(packet.payload.as_slice()).expect("a payload");
        assert_eq!((payload.seq, payload.timestamp), (Some(255), Some(9)));
        let metric = &payload.metrics[0];
        assert_eq!((metric.alias, metric.name.as_deref(), metric.datatype), (Some(7), None, None));
        assert_eq!((metric.is_null, metric.is_historical), (Some(true), Some(true)));
    }

    #[test]
    fn a_command_of_unbearable_size_is_refused() {
        let told = written(&[0; COMMAND_MAX_BYTES + 1]).expect_err("too long");
        assert!(told.contains("4096 at most"), "{told}");
        let metrics = vec![Metric::new(); COMMAND_MAX_METRICS + 1];
        let payload = Payload { timestamp: None, metrics, seq: None, uuid: None, body: None };
        let told = written(&payload.encode_to_vec()).expect_err("too many");
        assert!(told.contains("32 at most"), "{told}");
    }

    proptest! {
        #[test]
        fn no_payload_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = written(&bytes);
        }
    }
}
