//! Topics, data and deaths, as the kit's SendDataTest, SendComplexDataTest, SessionTerminationTest
//! and ReceiveCommandTest look at them.

use std::collections::{BTreeMap, BTreeSet};

use rumqttc::{Packet, QoS};

use super::assertions::asserts;
use super::recording::{RESULTS, Recording, bd_seq};
use crate::support::edge::{GROUP, NODE, STATIONS, topic};
use crate::support::tap::Sent;

/// Births precede data in each session.
fn data_waits(r: &Recording, verb: &str) {
    for (_, sent) in r.connections() {
        let first = sent.iter().position(|one| one.verb() == verb).unwrap_or(usize::MAX);
        let births = sent.iter().take(3).filter(|one| one.verb().ends_with("BIRTH")).count();
        assert!(births == 3 && first >= 3);
    }
    r.of(verb);
}

/// A metric of data has an alias alone: no name, no type.
fn data_has_aliases(r: &Recording) {
    for sent in [r.of("NDATA"), r.of("DDATA")].concat() {
        for metric in &sent.payload().metrics {
            assert!(metric.alias.is_some() && metric.name.is_none(), "{metric:?}");
        }
    }
}

/// Data says only what has changed, and all of a result in one message.
fn data_is_news(r: &Recording) {
    let mut values = BTreeMap::new();
    for sent in r.sent().iter().filter(|sent| sent.connection == 0 && sent.verb() != "NDEATH") {
        let is_data = sent.verb().ends_with("DATA");
        let mut news = !is_data;
        for metric in &sent.payload().metrics {
            let Some(alias) = metric.alias else { continue };
            let before = values.insert(alias, (metric.value.clone(), metric.timestamp));
            news |= before != Some((metric.value.clone(), metric.timestamp));
        }
        assert!(news || sent.verb() == "DDEATH", "{sent:?}");
    }
    // A result has all its values in one message: as many messages as results, and the echo.
    let full = r.of("DDATA").iter().filter(|sent| sent.payload().metrics.len() == 23).count();
    assert_eq!(full as u64, RESULTS + 1);
}

/// Values that are not history come in the order of their time.
fn data_is_in_order(r: &Recording, birth: &str, data: &str) {
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    let sent = r.sent().into_iter().filter(|one| [birth, data].contains(&one.verb()));
    for metric in
        sent.filter(|one| one.connection == 0).flat_map(|one| one.payload().metrics.clone())
    {
        let (Some(alias), Some(at)) = (metric.alias, metric.timestamp) else { continue };
        let before = newest.insert(alias, at).unwrap_or(0);
        assert!(before <= at, "{alias}: {before} before {at}");
    }
    assert!(!newest.is_empty());
}

/// Nothing at all is sent twice over: state by state, never by the clock alone but the heartbeat.
fn only_the_heartbeat_is_periodic(r: &Recording) {
    for sent in r.of("NDATA") {
        assert_eq!(sent.payload().metrics.len(), 1, "the heartbeat alone");
    }
    data_is_news(r);
}

/// The goodbyes: connections that end with a DISCONNECT.
fn goodbyes(r: &Recording) -> Vec<usize> {
    let ends = r.log.0.iter().filter(|passed| matches!(passed.packet, Packet::Disconnect));
    ends.map(|passed| passed.connection).collect()
}

/// Before a DISCONNECT comes the NDEATH.
fn death_comes_before_the_end(r: &Recording) {
    assert_eq!(goodbyes(r), [0, 2], "the second was a crash");
    for connection in goodbyes(r) {
        let death = r.log.place(|passed| {
            passed.connection == connection
                && passed.sent().is_some_and(|sent| sent.topic == topic("NDEATH", None))
        });
        let end = r.log.place(|passed| {
            passed.connection == connection && matches!(passed.packet, Packet::Disconnect)
        });
        assert!(death.expect("a death") < end.expect("an end"));
    }
}

/// All deaths a host got, be they sent by us or by the broker.
fn deaths_heard(r: &Recording) -> Vec<srad_types::payload::Payload> {
    let heard = r.heard.iter().filter(|heard| heard.topic == topic("NDEATH", None));
    let deaths: Vec<_> = heard.filter_map(|heard| heard.payload.clone()).collect();
    assert_eq!(deaths.len(), 3);
    deaths
}

/// The second births of the first session.
fn rebirth(r: &Recording) -> Vec<Sent> {
    let sent = r.sent();
    let births = sent.iter().enumerate().filter(|(_, one)| one.verb() == "NBIRTH");
    let (second, _) = births.clone().nth(1).expect("a rebirth");
    assert_eq!(sent[second].connection, 0);
    sent[second..second + 3].to_vec()
}

fn ids_are_levels(r: &Recording) {
    for sent in r.sent() {
        let levels: Vec<&str> = sent.topic.split('/').collect();
        assert_eq!((levels[0], levels[1], levels[3]), ("spBv1.0", GROUP, NODE));
        assert!(levels.get(4).is_none_or(|station| STATIONS.contains(station)));
    }
}

fn every_time_is_utc_ms(r: &Recording) {
    for sent in r.sent() {
        let at = sent.payload().timestamp.expect("a time");
        assert!((r.from_ms..=r.until_ms).contains(&at), "{at}");
    }
}

asserts! {
    // Topics.
    tck_id_topic_structure => ids_are_levels;
    tck_id_topic_structure_namespace_a => |r| {
        assert!(r.sent().iter().all(|sent| sent.topic.starts_with("spBv1.0/")));
    };
    tck_id_topic_structure_namespace_unique_device_id => |r| {
        let births = r.sent().into_iter().filter(|one| one.connection == 1 && one.verb() == "DBIRTH");
        let topics: Vec<String> = births.map(|birth| birth.topic).collect();
        assert_eq!(topics.iter().collect::<BTreeSet<_>>().len(), topics.len());
    };
    tck_id_topic_structure_namespace_device_id_associated_message_types => |r| {
        for sent in r.sent().iter().filter(|sent| sent.verb().starts_with('D')) {
            assert_eq!(sent.topic.split('/').count(), 5, "{}", sent.topic);
        }
    };
    tck_id_topic_structure_namespace_device_id_non_associated_message_types => |r| {
        for sent in r.sent().iter().filter(|sent| sent.verb().starts_with('N')) {
            assert_eq!(sent.topic.split('/').count(), 4, "{}", sent.topic);
        }
    };
    tck_id_intro_group_id_string => ids_are_levels;
    tck_id_intro_edge_node_id_string => ids_are_levels;
    tck_id_intro_device_id_string => ids_are_levels;

    // The edge node's data.
    tck_id_topics_ndata_topic => |r| r.topics_are("NDATA");
    tck_id_topics_ndata_mqtt => |r| r.is_fleeting("NDATA");
    tck_id_topics_ndata_seq_num => |r| r.is_numbered("NDATA");
    tck_id_topics_ndata_timestamp => |r| r.is_timed("NDATA");
    tck_id_topics_ndata_payload => data_is_news;
    tck_id_payloads_ndata_timestamp => |r| r.is_timed("NDATA");
    tck_id_payloads_ndata_seq => |r| r.is_numbered("NDATA");
    tck_id_payloads_ndata_seq_inc => |r| r.is_numbered("NDATA");
    tck_id_payloads_ndata_order => |r| data_waits(r, "NDATA");
    tck_id_payloads_ndata_qos => |r| r.is_fleeting("NDATA");
    tck_id_payloads_ndata_retain => |r| r.is_fleeting("NDATA");
    tck_id_operational_behavior_data_publish_nbirth_change => data_is_news;
    tck_id_operational_behavior_data_publish_nbirth_order => |r| {
        data_is_in_order(r, "NBIRTH", "NDATA");
    };

    // The stations' data.
    tck_id_topics_ddata_topic => |r| r.topics_are("DDATA");
    tck_id_topics_ddata_mqtt => |r| r.is_fleeting("DDATA");
    tck_id_topics_ddata_seq_num => |r| r.is_numbered("DDATA");
    tck_id_topics_ddata_timestamp => |r| r.is_timed("DDATA");
    tck_id_topics_ddata_payload => data_is_news;
    tck_id_payloads_ddata_timestamp => |r| r.is_timed("DDATA");
    tck_id_payloads_ddata_seq => |r| r.is_numbered("DDATA");
    tck_id_payloads_ddata_seq_inc => |r| r.is_numbered("DDATA");
    tck_id_payloads_ddata_order => |r| data_waits(r, "DDATA");
    tck_id_payloads_ddata_qos => |r| r.is_fleeting("DDATA");
    tck_id_payloads_ddata_retain => |r| r.is_fleeting("DDATA");
    tck_id_operational_behavior_data_publish_dbirth_change => data_is_news;
    tck_id_operational_behavior_data_publish_dbirth_order => |r| {
        data_is_in_order(r, "DBIRTH", "DDATA");
    };
    tck_id_principles_rbe_recommended => only_the_heartbeat_is_periodic;

    // Every payload.
    tck_id_payloads_timestamp_in_utc => every_time_is_utc_ms;
    tck_id_payloads_metric_timestamp_in_utc => |r| {
        for sent in r.with_values() {
            for metric in &sent.payload().metrics {
                let at = metric.timestamp.expect("a time");
                assert!((r.from_ms..=r.until_ms).contains(&at), "{at}");
            }
        }
    };
    tck_id_payloads_sequence_num_always_included => |r| {
        assert!(r.sent().iter().all(|sent| sent.seq().is_some() != (sent.verb() == "NDEATH")));
    };
    tck_id_payloads_sequence_num_incrementing => |r| {
        for verb in ["NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"] {
            r.is_numbered(verb);
        }
        let wraps = r.of("DDATA").iter().any(|sent| sent.seq() == Some(255));
        assert!(wraps || r.of("NDATA").iter().any(|sent| sent.seq() == Some(255)));
    };
    tck_id_payloads_name_requirement => |r| {
        for sent in r.with_values() {
            let metrics = &sent.payload().metrics;
            assert!(metrics.iter().all(|metric| metric.name.is_some() || metric.alias.is_some()));
        }
    };
    tck_id_payloads_alias_data_cmd_requirement => data_has_aliases;
    tck_id_payloads_name_birth_data_requirement => |r| {
        for sent in r.with_values() {
            assert!(sent.payload().metrics.iter().all(|metric| metric.timestamp.is_some()));
        }
    };
    tck_id_payloads_metric_datatype_not_req => |r| {
        for sent in [r.of("NDATA"), r.of("DDATA")].concat() {
            assert!(sent.payload().metrics.iter().all(|metric| metric.datatype.is_none()));
        }
    };

    // Deaths.
    tck_id_topics_ddeath_topic => |r| r.topics_are("DDEATH");
    tck_id_topics_ddeath_mqtt => |r| r.is_fleeting("DDEATH");
    tck_id_topics_ddeath_seq_num => |r| r.is_numbered("DDEATH");
    tck_id_payloads_ddeath_timestamp => |r| r.is_timed("DDEATH");
    tck_id_payloads_ddeath_seq => |r| r.is_numbered("DDEATH");
    tck_id_payloads_ddeath_seq_inc => |r| r.is_numbered("DDEATH");
    tck_id_payloads_ddeath_seq_number => |r| r.is_numbered("DDEATH");
    tck_id_operational_behavior_device_ddeath => |r| {
        let deaths = r.of("DDEATH");
        assert_eq!(deaths.len(), 1, "a camera was lost once");
        assert_eq!(deaths[0].topic, topic("DDEATH", Some("left")));
    };
    tck_id_topics_ndeath_topic => |r| r.topics_are("NDEATH");
    tck_id_topics_ndeath_payload => |r| {
        let numbers: Vec<u64> = deaths_heard(r).iter().map(bd_seq).collect();
        assert_eq!(numbers, [0, 1, 2], "of a goodbye, a crash, a goodbye");
        assert!(deaths_heard(r).iter().all(|death| death.metrics.len() == 1));
    };
    tck_id_payloads_ndeath_will_message_publisher => death_comes_before_the_end;
    tck_id_payloads_ndeath_will_message_publisher_disconnect_mqtt311 => death_comes_before_the_end;
    tck_id_operational_behavior_edge_node_intentional_disconnect_ndeath => |r| {
        death_comes_before_the_end(r);
        for death in r.of("NDEATH") {
            assert_eq!((death.qos, death.retain), (QoS::AtLeastOnce, false));
        }
    };
    tck_id_operational_behavior_edge_node_intentional_disconnect_packet => |r| {
        assert_eq!(goodbyes(r), [0, 2]);
    };

    // A rebirth that a host asked for.
    tck_id_operational_behavior_data_commands_rebirth_action_2 => |r| {
        let verbs: Vec<String> = rebirth(r).iter().map(|sent| sent.verb().to_owned()).collect();
        assert_eq!(verbs, ["NBIRTH", "DBIRTH", "DBIRTH"]);
    };
    tck_id_operational_behavior_data_commands_rebirth_action_3 => |r| {
        let births = r.of("NBIRTH");
        assert_eq!(bd_seq(rebirth(r)[0].payload()), bd_seq(births[0].payload()));
    };
}
