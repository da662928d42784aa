//! The primary host, as the kit's PrimaryHostTest plays it: another host comes, the right one goes,
//! messages come late, and each time the births say whether it was understood.

use std::sync::OnceLock;

use rumqttc::Packet;
use tempfile::tempdir;

use crate::support::edge::{Edge, HOST, Watcher};
use crate::support::mosquitto::Mosquitto;
use crate::support::tap::{Log, Passed, Tap};

/// What happened, and where in the log each act of the hosts came by.
struct Play {
    log: Log,
}

/// The acts of the hosts, in the order in which they are played.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Online(u64),
    Offline(u64),
}

impl Act {
    fn text(self) -> String {
        let (online, timestamp) = match self {
            Act::Online(timestamp) => (true, timestamp),
            Act::Offline(timestamp) => (false, timestamp),
        };
        format!("{{\"online\":{online},\"timestamp\":{timestamp}}}")
    }
}

fn play() -> &'static Play {
    static PLAY: OnceLock<Play> = OnceLock::new();
    PLAY.get_or_init(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(perform())
    })
}

async fn perform() -> Play {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let (tap, host) = (Tap::start(broker.port()).await, Watcher::start(broker.port()).await);
    let edge = Edge::start_with(dir.path(), tap.port(), |options| {
        options.primary_host_id = Some(HOST.to_owned());
    });
    edge.wait("the first connection", |state| state.connected).await;
    // Another host is none of ours: we do not even hear it.
    host.say("other", true, 1000);
    let mut heard = 0;
    let mut act = async |act: Act| {
        heard += 1;
        let online = matches!(act, Act::Online(_));
        let (Act::Online(timestamp) | Act::Offline(timestamp)) = act;
        host.say(HOST, online, timestamp);
        // Heard, and what follows from it is decided with the next message at the latest.
        let least = heard;
        edge.wait("a STATE", |state| state.heard >= least).await;
    };
    act(Act::Offline(100)).await;
    act(Act::Online(100)).await;
    edge.wait("births", |state| state.born && state.births == 1).await;
    act(Act::Offline(99)).await;
    edge.commit("left", 1);
    tap.wait("a result after an old message", |log| log.of("DDATA").len() == 1).await;
    act(Act::Offline(100)).await;
    edge.wait("another connection", |state| state.bd_seq == 1).await;
    edge.commit("left", 2);
    // The broker has kept the word that the host is offline.
    tap.wait("a second session", |log| {
        states(log).iter().filter(|(_, _, on)| *on == 1).count() == 1
    })
    .await;
    edge.wait("it is heard", |state| state.connected && state.heard >= 5).await;
    host.say(HOST, true, 99);
    edge.wait("an old message", |state| state.heard >= 6).await;
    host.say(HOST, true, 200);
    edge.wait("births again", |state| state.born && state.births == 2).await;
    // The result of before as well: it was in doubt whether the host had it.
    edge.wait("what was missed", |state| state.sent == 3 && state.sent_late == 2).await;
    edge.stop().await;
    Play { log: tap.log() }
}

/// The STATE messages that came by on their way in: place, text, connection.
fn states(log: &Log) -> Vec<(usize, String, usize)> {
    let found = log.0.iter().enumerate().filter_map(|(place, passed)| match &passed.packet {
        Packet::Publish(publish) if !passed.outwards && publish.topic.contains("/STATE/") => {
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            Some((place, text, passed.connection))
        }
        _ => None,
    });
    found.collect()
}

impl Play {
    /// Where the `nth` message of the host that says `act` came by.
    fn place_of(&self, act: Act, nth: usize) -> usize {
        let all = states(&self.log);
        let found = all.iter().filter(|(_, text, _)| *text == act.text()).nth(nth);
        found.unwrap_or_else(|| panic!("no {act:?} in {all:?}")).0
    }

    /// Whether the edge node sent `verb` between two places.
    fn sent(&self, verb: &str, from: usize, to: usize) -> bool {
        let is_it = |passed: &Passed| passed.sent().is_some_and(|sent| sent.verb() == verb);
        self.log.0[from..to].iter().any(is_it)
    }

    fn end(&self) -> usize {
        self.log.0.len()
    }

    fn online(&self) -> usize {
        self.place_of(Act::Online(100), 0)
    }

    /// The offline message that counted: the second, as the first came before any birth.
    fn offline(&self) -> usize {
        self.place_of(Act::Offline(100), 1)
    }

    fn online_again(&self) -> usize {
        self.place_of(Act::Online(200), 0)
    }

    fn births_wait(&self) {
        assert!(!self.sent("NBIRTH", 0, self.online()));
        assert!(self.sent("NBIRTH", self.online(), self.offline()));
    }

    fn death_and_end(&self) {
        let rest = &self.log.0[self.offline()..];
        let death = rest.iter().position(|one| one.sent().is_some_and(|s| s.verb() == "NDEATH"));
        let end = rest.iter().position(|one| matches!(one.packet, Packet::Disconnect));
        assert!(death.expect("a death") < end.expect("a goodbye"));
    }

    fn comes_again(&self) {
        assert_eq!(self.log.greetings().len(), 2);
        assert!(self.sent("NBIRTH", self.online_again(), self.end()));
        assert!(self.sent("DBIRTH", self.online_again(), self.end()));
    }
}

#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_wait() {
    play().births_wait();
}

#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_wait_id() {
    let log = &play().log;
    assert!(states(log).iter().all(|(_, text, _)| !text.contains("1000")), "of another host");
    play().births_wait();
}

#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_wait_online() {
    let play = play();
    let offline = play.place_of(Act::Offline(100), 0);
    assert!(offline < play.online() && !play.sent("NBIRTH", offline, play.online()));
}

#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_wait_timestamp() {
    let play = play();
    let old = play.place_of(Act::Online(99), 0);
    assert!(!play.sent("NBIRTH", old, play.online_again()), "an old message is none");
    play.comes_again();
}

#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_offline() {
    play().death_and_end();
}

#[test]
fn tck_id_operational_behavior_edge_node_termination_host_offline() {
    play().death_and_end();
}

#[test]
fn tck_id_operational_behavior_edge_node_termination_host_offline_reconnect() {
    play().comes_again();
}

#[test]
fn tck_id_operational_behavior_edge_node_termination_host_offline_timestamp() {
    let play = play();
    let old = play.place_of(Act::Offline(99), 0);
    assert!(!play.sent("NDEATH", old, play.offline()));
    assert!(play.sent("DDATA", old, play.offline()), "data goes on");
}

#[test]
fn tck_id_operational_behavior_edge_node_birth_sequence_wait() {
    play().births_wait();
}

#[test]
fn tck_id_operational_behavior_primary_application_state_with_multiple_servers_state_subs() {
    let topic = format!("spBv1.0/STATE/{HOST}");
    let asked = play().log.0.iter().any(|passed| match &passed.packet {
        Packet::Subscribe(subscribe) => subscribe.filters.iter().any(|one| one.path == topic),
        _ => false,
    });
    assert!(asked);
}

#[test]
fn tck_id_operational_behavior_primary_application_state_with_multiple_servers_single_server() {
    // The second greeting comes after the first goodbye.
    let log = &play().log;
    let end = log.place(|passed| matches!(passed.packet, Packet::Disconnect)).expect("an end");
    let second =
        log.place(|passed| passed.connection == 1 && matches!(passed.packet, Packet::Connect(_)));
    assert!(end < second.expect("a second greeting"));
}
