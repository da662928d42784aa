//! Greeting, subscriptions and births, as the kit's SessionEstablishmentTest looks at them.

use std::collections::BTreeSet;

use rumqttc::{Packet, Protocol, QoS};
use srad_types::payload::metric::Value;
use srad_types::payload::{DataType, Message, Payload};

use super::assertions::asserts;
use super::recording::{Recording, bd_seq, metric};
use crate::support::edge::{GROUP, NODE, STATIONS, topic};

const REBIRTH: &str = "Node Control/Rebirth";

/// The last wills, with the payload of each.
fn wills(r: &Recording) -> Vec<(rumqttc::LastWill, Payload)> {
    let wills = r.log.greetings().into_iter().map(|greeting| {
        let will = greeting.last_will.expect("a last will");
        let payload = Payload::decode(will.message.as_ref()).expect("a Sparkplug payload");
        (will, payload)
    });
    wills.collect()
}

/// Every birth repeats the number of its connection's last will; both births of the first do.
fn births_match_wills(r: &Recording) {
    let wills = wills(r);
    let births = r.of("NBIRTH");
    assert_eq!(births.len(), 4, "two sessions of one, and one with a rebirth");
    for birth in births {
        assert_eq!(bd_seq(birth.payload()), bd_seq(&wills[birth.connection].1));
    }
}

/// The numbers of the connections count up from 0, over restarts.
fn wills_count_up(r: &Recording) {
    let numbers: Vec<u64> = wills(r).iter().map(|(_, payload)| bd_seq(payload)).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

/// Each metric of a birth has a name, a type, a time, and a value or the word that it has none.
fn metrics_are_complete(r: &Recording, verb: &str) {
    for birth in r.of(verb) {
        assert!(birth.payload().metrics.len() > 4);
        for metric in &birth.payload().metrics {
            assert!(metric.name.is_some() && metric.datatype.is_some(), "{metric:?}");
            assert_eq!(metric.value.is_none(), metric.is_null == Some(true), "{metric:?}");
        }
    }
}

/// What is told later was declared in the birth of the same session.
fn metrics_are_declared(r: &Recording, birth: &str, data: &str) {
    let data = r.of(data);
    let declared: BTreeSet<u64> = r
        .of(birth)
        .iter()
        .flat_map(|birth| birth.payload().metrics.clone())
        .filter_map(|metric| metric.alias)
        .collect();
    for sent in data {
        for metric in &sent.payload().metrics {
            assert!(declared.contains(&metric.alias.expect("an alias")), "{metric:?}");
        }
    }
}

/// On each connection the first message is the edge node's birth, then come those of all stations.
fn births_come_first(r: &Recording) {
    for (_, sent) in r.connections() {
        let first: Vec<&str> = sent.iter().take(3).map(|sent| sent.verb()).collect();
        assert_eq!(first, ["NBIRTH", "DBIRTH", "DBIRTH"]);
    }
}

fn subscribed(r: &Recording, wanted: &str) {
    let found = r.subscriptions().into_iter().find(|filter| filter.path == wanted);
    assert_eq!(found.unwrap_or_else(|| panic!("no {wanted}")).qos, QoS::AtLeastOnce);
    // Before the births, and the broker had answered.
    let answer = r.log.place(|passed| matches!(passed.packet, Packet::SubAck(_)));
    let birth = r.log.place(|passed| passed.sent().is_some_and(|sent| sent.verb() == "NBIRTH"));
    assert!(answer.expect("an answer") < birth.expect("a birth"));
}

fn rebirth_is_false(r: &Recording) {
    for birth in r.of("NBIRTH") {
        let metric = metric(birth.payload(), REBIRTH);
        assert_eq!(metric.value, Some(Value::BooleanValue(false)));
        assert_eq!(metric.datatype, Some(DataType::Boolean as u32));
    }
}

fn names_differ_without_case(r: &Recording) {
    for birth in [r.of("NBIRTH"), r.of("DBIRTH")].concat() {
        let names = birth.payload().metrics.iter().filter_map(|metric| metric.name.clone());
        let names: Vec<String> = names.map(|name| name.to_lowercase()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}

asserts! {
    // The greeting.
    tck_id_principles_persistence_clean_session_311 => |r| {
        for greeting in r.log.greetings() {
            assert_eq!((greeting.protocol, greeting.clean_session), (Protocol::V4, true));
        }
    };
    tck_id_message_flow_edge_node_birth_publish_connect => |r| {
        for connection in 0..3 {
            let on = |passed: &crate::support::tap::Passed| passed.connection == connection;
            let granted = r.log.place(|p| on(p) && matches!(p.packet, Packet::ConnAck(_)));
            let birth = r.log.place(|p| on(p) && p.sent().is_some());
            assert!(granted.expect("a greeting") < birth.expect("a birth"));
        }
    };
    tck_id_message_flow_edge_node_birth_publish_will_message => |r| assert_eq!(wills(r).len(), 3);
    tck_id_message_flow_edge_node_birth_publish_will_message_topic => |r| {
        assert!(wills(r).iter().all(|(will, _)| will.topic == topic("NDEATH", None)));
    };
    tck_id_message_flow_edge_node_birth_publish_will_message_payload => |r| {
        assert!(wills(r).iter().all(|(_, payload)| payload.metrics.len() == 1));
    };
    tck_id_message_flow_edge_node_birth_publish_will_message_payload_bdseq => wills_count_up;
    tck_id_message_flow_edge_node_birth_publish_will_message_qos => |r| {
        assert!(wills(r).iter().all(|(will, _)| will.qos == QoS::AtLeastOnce));
    };
    tck_id_message_flow_edge_node_birth_publish_will_message_will_retained => |r| {
        assert!(wills(r).iter().all(|(will, _)| !will.retain));
    };
    tck_id_payloads_ndeath_will_message => |r| {
        assert!(wills(r).iter().all(|(will, _)| will.topic == topic("NDEATH", None)));
    };
    tck_id_payloads_ndeath_will_message_qos => |r| {
        assert!(wills(r).iter().all(|(will, _)| will.qos == QoS::AtLeastOnce));
    };
    tck_id_payloads_ndeath_will_message_retain => |r| {
        assert!(wills(r).iter().all(|(will, _)| !will.retain));
    };
    tck_id_payloads_ndeath_bdseq => births_match_wills;
    tck_id_payloads_ndeath_seq => |r| {
        assert!(wills(r).iter().all(|(_, payload)| payload.seq.is_none()));
        assert!(r.of("NDEATH").iter().all(|death| death.seq().is_none()));
    };
    tck_id_topics_ndeath_seq => |r| {
        assert!(r.of("NDEATH").iter().all(|death| death.seq().is_none()));
    };
    tck_id_topics_nbirth_bdseq_increment => wills_count_up;

    // Subscriptions.
    tck_id_message_flow_edge_node_ncmd_subscribe => |r| subscribed(r, &topic("NCMD", None));
    tck_id_message_flow_device_dcmd_subscribe => |r| {
        for station in STATIONS { subscribed(r, &topic("DCMD", Some(station))); }
    };

    // The edge node's birth.
    tck_id_principles_birth_certificates_order => births_come_first;
    tck_id_topics_nbirth_topic => |r| r.topics_are("NBIRTH");
    tck_id_topics_nbirth_mqtt => |r| r.is_fleeting("NBIRTH");
    tck_id_topics_nbirth_seq_num => |r| r.is_numbered("NBIRTH");
    tck_id_topics_nbirth_timestamp => |r| r.is_timed("NBIRTH");
    tck_id_topics_nbirth_metric_reqs => |r| metrics_are_declared(r, "NBIRTH", "NDATA");
    tck_id_topics_nbirth_metrics => |r| metrics_are_complete(r, "NBIRTH");
    tck_id_topics_nbirth_bdseq_included => |r| {
        for birth in r.of("NBIRTH") { bd_seq(birth.payload()); }
    };
    tck_id_topics_nbirth_bdseq_matching => births_match_wills;
    tck_id_topics_nbirth_rebirth_metric => rebirth_is_false;
    tck_id_message_flow_edge_node_birth_publish_nbirth_topic => |r| r.topics_are("NBIRTH");
    tck_id_message_flow_edge_node_birth_publish_nbirth_payload => |r| {
        assert!(r.of("NBIRTH").iter().all(|birth| birth.payload.is_some()));
    };
    tck_id_message_flow_edge_node_birth_publish_nbirth_payload_bdseq => births_match_wills;
    tck_id_message_flow_edge_node_birth_publish_nbirth_qos => |r| r.is_fleeting("NBIRTH");
    tck_id_message_flow_edge_node_birth_publish_nbirth_retained => |r| r.is_fleeting("NBIRTH");
    tck_id_message_flow_edge_node_birth_publish_nbirth_payload_seq => |r| r.is_numbered("NBIRTH");
    tck_id_payloads_nbirth_timestamp => |r| r.is_timed("NBIRTH");
    tck_id_payloads_nbirth_seq => |r| r.is_numbered("NBIRTH");
    tck_id_payloads_nbirth_bdseq => |r| {
        for birth in r.of("NBIRTH") { bd_seq(birth.payload()); }
    };
    tck_id_payloads_nbirth_bdseq_repeat => births_match_wills;
    tck_id_payloads_nbirth_rebirth_req => rebirth_is_false;
    tck_id_payloads_nbirth_qos => |r| r.is_fleeting("NBIRTH");
    tck_id_payloads_nbirth_retain => |r| r.is_fleeting("NBIRTH");
    tck_id_payloads_sequence_num_req_nbirth => |r| {
        assert!(r.of("NBIRTH").iter().all(|birth| birth.seq() <= Some(255) && birth.seq().is_some()));
    };
    tck_id_payloads_sequence_num_zero_nbirth => |r| {
        assert!(r.of("NBIRTH").iter().all(|birth| birth.seq() == Some(0)));
    };
    tck_id_operational_behavior_data_publish_nbirth => |r| {
        metrics_are_declared(r, "NBIRTH", "NDATA");
    };
    tck_id_operational_behavior_data_publish_nbirth_values => |r| metrics_are_complete(r, "NBIRTH");
    tck_id_operational_behavior_data_commands_rebirth_name => rebirth_is_false;
    tck_id_operational_behavior_data_commands_rebirth_name_aliases => |r| {
        for birth in r.of("NBIRTH") {
            assert_eq!(metric(birth.payload(), REBIRTH).alias, None);
            assert!(birth.payload().metrics.iter().any(|metric| metric.alias.is_some()));
        }
    };
    tck_id_operational_behavior_data_commands_rebirth_datatype => rebirth_is_false;
    tck_id_operational_behavior_data_commands_rebirth_value => rebirth_is_false;

    // The stations' births.
    tck_id_topics_dbirth_topic => |r| r.topics_are("DBIRTH");
    tck_id_topics_dbirth_mqtt => |r| r.is_fleeting("DBIRTH");
    tck_id_topics_dbirth_seq => |r| r.is_numbered("DBIRTH");
    tck_id_topics_dbirth_timestamp => |r| r.is_timed("DBIRTH");
    tck_id_topics_dbirth_metric_reqs => |r| metrics_are_declared(r, "DBIRTH", "DDATA");
    tck_id_topics_dbirth_metrics => |r| metrics_are_complete(r, "DBIRTH");
    tck_id_message_flow_device_birth_publish_nbirth_wait => births_come_first;
    tck_id_message_flow_device_birth_publish_dbirth_topic => |r| r.topics_are("DBIRTH");
    tck_id_message_flow_device_birth_publish_dbirth_match_edge_node_topic => |r| {
        for birth in r.of("DBIRTH") {
            let levels: Vec<&str> = birth.topic.split('/').collect();
            assert_eq!((levels[1], levels[3]), (GROUP, NODE));
        }
    };
    tck_id_message_flow_device_birth_publish_dbirth_payload => |r| {
        assert!(r.of("DBIRTH").iter().all(|birth| birth.payload.is_some()));
    };
    tck_id_message_flow_device_birth_publish_dbirth_qos => |r| r.is_fleeting("DBIRTH");
    tck_id_message_flow_device_birth_publish_dbirth_retained => |r| r.is_fleeting("DBIRTH");
    tck_id_message_flow_device_birth_publish_dbirth_payload_seq => |r| r.is_numbered("DBIRTH");
    tck_id_payloads_dbirth_timestamp => |r| r.is_timed("DBIRTH");
    tck_id_payloads_dbirth_seq => |r| r.is_numbered("DBIRTH");
    tck_id_payloads_dbirth_seq_inc => |r| r.is_numbered("DBIRTH");
    tck_id_payloads_dbirth_order => births_come_first;
    tck_id_payloads_dbirth_qos => |r| r.is_fleeting("DBIRTH");
    tck_id_payloads_dbirth_retain => |r| r.is_fleeting("DBIRTH");
    tck_id_operational_behavior_data_publish_dbirth => |r| {
        metrics_are_declared(r, "DBIRTH", "DDATA");
    };
    tck_id_operational_behavior_data_publish_dbirth_values => |r| metrics_are_complete(r, "DBIRTH");

    // Names, aliases, types.
    tck_id_case_sensitivity_metric_names => names_differ_without_case;
    tck_id_payloads_alias_uniqueness => |r| {
        // One session without a rebirth: the second.
        let births = r.sent().into_iter().filter(|sent| sent.connection == 1);
        let aliases: Vec<u64> = births
            .filter(|sent| sent.verb().ends_with("BIRTH"))
            .flat_map(|birth| birth.payload().metrics.clone())
            .filter_map(|metric| metric.alias)
            .collect();
        assert!(aliases.len() > 50);
        assert_eq!(aliases.iter().collect::<BTreeSet<_>>().len(), aliases.len());
    };
    tck_id_payloads_alias_birth_requirement => |r| {
        for birth in [r.of("NBIRTH"), r.of("DBIRTH")].concat() {
            for metric in &birth.payload().metrics {
                let known = ["bdSeq", REBIRTH].contains(&metric.name.as_deref().expect("a name"));
                assert_eq!(metric.alias.is_none(), known, "{metric:?}");
            }
        }
    };
    tck_id_payloads_metric_datatype_req => |r| {
        for birth in [r.of("NBIRTH"), r.of("DBIRTH")].concat() {
            assert!(birth.payload().metrics.iter().all(|metric| metric.datatype.is_some()));
        }
    };
    tck_id_payloads_metric_datatype_value => |r| {
        for birth in [r.of("NBIRTH"), r.of("DBIRTH")].concat() {
            for metric in &birth.payload().metrics {
                let datatype = DataType::try_from(metric.datatype.expect("a type"));
                assert!(datatype.is_ok_and(|datatype| datatype != DataType::Unknown));
            }
        }
    };
    tck_id_payloads_metric_datatype_value_type => |r| {
        // A uint32 on the wire by protobuf's own types; and each value is of its type's wire form.
        for birth in [r.of("NBIRTH"), r.of("DBIRTH")].concat() {
            for metric in &birth.payload().metrics {
                let datatype = DataType::try_from(metric.datatype.expect("a type")).expect("known");
                let fits = matches!(
                    (&metric.value, datatype),
                    (None, _)
                        | (Some(Value::IntValue(_)), DataType::UInt32)
                        | (Some(Value::LongValue(_)), DataType::UInt64 | DataType::Int64)
                        | (Some(Value::DoubleValue(_)), DataType::Double)
                        | (Some(Value::BooleanValue(_)), DataType::Boolean)
                        | (Some(Value::StringValue(_)), DataType::String)
                );
                assert!(fits, "{metric:?}");
            }
        }
    };
}
