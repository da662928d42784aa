//! What MQTT 5 says beyond 3.1.1: refusals, limits, properties. A real mosquitto where it can say
//! them, and a scripted socket where it cannot.

use std::time::Duration;

use inspectd::publish::inbox::{Inbox, Reply};
use inspectd::publish::topics::Kind;
use inspectd::publish::transport::Incoming;
use inspectd::publish::{Protocol, PublishOptions, PublishState};
use inspectd::store::{OutboxMessage, TopicKind};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use std::sync::Arc;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::delivery::Line;
use crate::support::mosquitto::{DEADLINE, Mosquitto, Subscriber};
use crate::support::records::inspection;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_protocol_delivers_as_well() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let seen = Subscriber::start(broker.port()).await;
    let line = Line::start_with(dir.path(), broker.port(), |options| {
        options.protocol = Protocol::V311;
    });
    line.commit("left", 1);
    seen.wait("a result", |seen| seen.results("job_id") == [1]).await;
    line.wait("the acknowledgement", |state| state.sent == 1).await;
    assert_eq!(line.publisher.drain_and_stop(DEADLINE).await.unsent, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_does_not_allow_waits_and_other_stations_pass() {
    let broker = Mosquitto::configured(|folder| {
        let rules = folder.join("acl");
        let text = "topic readwrite #\ntopic deny acme/plant1/dev7/left/result\n";
        std::fs::write(&rules, text).expect("written");
        format!("acl_file {}", rules.display())
    });
    let dir = tempdir().expect("a folder");
    let line = Line::start(dir.path(), broker.port());
    for job_id in 1..=30 {
        line.commit("left", job_id);
    }
    for job_id in 31..=40 {
        line.commit("right", job_id);
    }
    // An acknowledgement with an error is no delivery: thirty wait.
    let told = |state: &PublishState| {
        state.sent == 10 && state.unsent == 30 && state.declined.contains_key("left")
    };
    let state = line.wait("the other station", told).await;
    assert!(state.declined["left"].contains("access rules"), "{state:?}");
    assert!(state.connected);
    std::fs::write(broker.folder().join("acl"), "topic readwrite #\n").expect("written");
    broker.reload();
    let state = line.wait("the rest", |state| state.sent == 40).await;
    assert!(state.declined.is_empty(), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_longer_than_the_broker_takes_is_put_aside() {
    // The first limit is told in the greeting; the second is found out by the refusal alone.
    for (setting, reason) in [
        ("max_packet_size 3000", "the broker's limit is 3000"),
        ("message_size_limit 3000", "the broker's limit is "),
    ] {
        let broker = Mosquitto::configured(|_| setting.to_owned());
        let dir = tempdir().expect("a folder");
        let line = Line::start(dir.path(), broker.port());
        let long = inspection("left", 1);
        let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(5000)).into_bytes();
        let message = OutboxMessage { kind: TopicKind::Result, payload };
        line.store.commit(&long, &[message]).expect("a commit");
        line.commit("left", 2);
        let done = |state: &PublishState| state.sent == 1 && state.quarantined == 1;
        line.wait(setting, done).await;
        let told = line.store.reader().expect("reads").deliveries(&long.result_id.to_string());
        let told = told.expect("read")[0].quarantine_reason.clone().expect("put aside");
        assert!(told.contains(reason), "{setting}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_travel_both_ways() {
    struct Echo;
    impl Inbox for Echo {
        fn filters(&self) -> Vec<String> {
            vec!["acme/plant1/dev7/cmd/+".into()]
        }
        fn take(&self, message: Incoming) -> Option<Reply> {
            Some(Reply {
                topic: message.response_topic?,
                payload: b"{}".to_vec(),
                correlation: message.correlation,
                schema: "reply.v1",
            })
        }
    }
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let mut options = MqttOptions::new("plc", "127.0.0.1", broker.port());
    options.set_connection_timeout(DEADLINE.as_secs());
    let (client, mut events) = AsyncClient::new(options, 10);
    client.try_subscribe("plc/#", QoS::AtMostOnce).expect("room");
    client.try_subscribe("acme/#", QoS::AtMostOnce).expect("room");
    let change = |options: &mut PublishOptions| {
        options.expiry_s.insert(Kind::Result, 3600);
    };
    let line = Line::start_over(dir.path(), broker.port(), change, Some(Arc::new(Echo)));
    let (mut result, mut reply, mut asked, mut subscribed) = (None, None, false, 0);
    let listen = async {
        while result.is_none() || reply.is_none() {
            match events.poll().await.expect("the broker stays") {
                Event::Incoming(Packet::SubAck(_)) => {
                    subscribed += 1;
                    if subscribed == 2 {
                        line.commit("left", 1);
                    }
                }
                Event::Incoming(Packet::Publish(message))
                    if message.topic.ends_with(b"/status")
                        && !std::mem::replace(&mut asked, true) =>
                {
                    let properties = PublishProperties {
                        response_topic: Some("plc/answers".into()),
                        correlation_data: Some("17".into()),
                        ..PublishProperties::default()
                    };
                    let topic = "acme/plant1/dev7/cmd/reset";
                    let (qos, payload) = (QoS::AtLeastOnce, "{}");
                    client
                        .try_publish_with_properties(topic, qos, false, payload, properties)
                        .expect("room");
                }
                Event::Incoming(Packet::Publish(message))
                    if message.topic.ends_with(b"/result") =>
                {
                    result = message.properties;
                }
                Event::Incoming(Packet::Publish(message)) if message.topic == "plc/answers" => {
                    reply = message.properties;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, listen).await.expect("a result and a reply");
    let (result, reply) = (result.expect("some"), reply.expect("some"));
    assert_eq!(result.content_type.as_deref(), Some("application/json"));
    assert_eq!(result.message_expiry_interval, Some(3600));
    assert_eq!(result.user_properties, [("schema".to_owned(), "result.v1".to_owned())]);
    assert_eq!(reply.correlation_data.as_deref(), Some(b"17".as_slice()));
    assert_eq!(reply.message_expiry_interval, None);
}

/// One MQTT packet: its first byte and its body.
async fn read_packet(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let first = socket.read_u8().await.ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = socket.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_knows_the_older_protocol_only_is_told_with_the_setting() {
    let dir = tempdir().expect("a folder");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // As a broker of MQTT 3.1.1 answers: "unacceptable protocol version", and it hangs up.
            if read_packet(&mut socket).await.is_some() {
                let _ = socket.write_all(&[0x20, 2, 0, 1]).await;
            }
        }
    });
    let line = Line::start(dir.path(), port);
    let state = line.wait("the error", |state| state.last_error.is_some()).await;
    let told = state.last_error.expect("waited for");
    assert!(told.contains("`protocol = \"3.1.1\"`"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_refused_is_told_and_results_flow() {
    struct Deaf;
    impl Inbox for Deaf {
        fn filters(&self) -> Vec<String> {
            vec!["good/#".into(), "secret/#".into()]
        }
        fn take(&self, _: Incoming) -> Option<Reply> {
            None
        }
    }
    let dir = tempdir().expect("a folder");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut subscribed = false;
            while let Some((first, body)) = read_packet(&mut socket).await {
                let answer = match first >> 4 {
                    1 => vec![0x20, 3, 0, 0, 0],
                    8 => {
                        subscribed = true;
                        vec![0x90, 5, body[0], body[1], 0, 1, 0x87]
                    }
                    3 => {
                        assert!(subscribed, "nothing is said before the subscriptions stand");
                        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                        vec![0x40, 2, body[2 + topic], body[3 + topic]]
                    }
                    _ => Vec::new(),
                };
                let _ = socket.write_all(&answer).await;
            }
        }
    });
    let line = Line::start_over(dir.path(), port, |_| {}, Some(Arc::new(Deaf)));
    line.commit("left", 1);
    let state = line.wait("a result", |state| state.sent == 1).await;
    assert_eq!(state.not_subscribed.len(), 1);
    assert_eq!(state.not_subscribed[0].filter, "secret/#");
    assert_eq!(state.not_subscribed[0].reason, "NotAuthorized");
    line.publisher.drain_and_stop(Duration::from_secs(5)).await;
}
