//! What comes in: subscriptions, messages and their answers, over a real broker.

use std::time::Duration;

use inspectd::publish::inbox::{Inbox, Reply};
use inspectd::publish::outgoing::NotTaken;
use inspectd::publish::topics::Kind;
use inspectd::publish::transport::Incoming;
use std::sync::Arc;
use tempfile::tempdir;

use crate::support::delivery::Line;
use crate::support::mosquitto::{Gate, Mosquitto, Subscriber};

/// Takes two commands into its queue and refuses what comes while that is full.
struct Commands {
    queue: flume::Sender<Incoming>,
}

impl Commands {
    fn new() -> (Arc<Commands>, flume::Receiver<Incoming>) {
        let (queue, taken) = flume::bounded(2);
        (Arc::new(Commands { queue }), taken)
    }
}

impl Inbox for Commands {
    fn filters(&self) -> Vec<String> {
        vec!["acme/plant1/dev7/+/cmd/+".into(), "acme/plant1/dev7/cmd/+".into()]
    }

    fn take(&self, message: Incoming) -> Option<Reply> {
        let refused = self.queue.try_send(message).err()?.into_inner();
        Some(answer(&refused, "full"))
    }
}

fn answer(message: &Incoming, text: &str) -> Reply {
    Reply {
        topic: format!("{}/reply", message.topic),
        payload: format!("{{\"answer\":\"{text}\"}}").into_bytes(),
        correlation: message.correlation.clone(),
        schema: "reply.v1",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_taken_and_answered_and_a_full_queue_refuses_at_once() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let plc = Subscriber::start(broker.port()).await;
    let (commands, taken) = Commands::new();
    let line = Line::start_over(dir.path(), broker.port(), |_| {}, Some(commands));
    // The status says that subscriptions stand.
    plc.wait("online", |seen| !seen.under("status").is_empty()).await;
    for trigger_id in 1..=3 {
        let payload = format!("{{\"trigger_id\":{trigger_id}}}");
        plc.send("acme/plant1/dev7/left/cmd/trigger", &payload, false);
    }
    let seen = plc.wait("the refusal", |seen| !seen.under("reply").is_empty()).await;
    assert_eq!(seen.under("reply")[0].payload["answer"], "full");
    let first = taken.recv_async().await.expect("a command");
    assert_eq!(first.topic, "acme/plant1/dev7/left/cmd/trigger");
    assert_eq!(first.payload, b"{\"trigger_id\":1}");
    assert!(!first.retain);
    line.publisher.reply(answer(&first, "done")).expect("connected");
    line.publisher
        .publish_event(Kind::Event, Some("left"), b"{\"step\":\"acquired\"}".to_vec())
        .expect("connected");
    let seen = plc.wait("the event", |seen| !seen.under("event").is_empty()).await;
    assert_eq!(seen.under("reply")[1].payload["answer"], "done");
    // Results flow beside it.
    line.commit("left", 1);
    plc.wait("a result", |seen| seen.under("result").len() == 1).await;
    assert_eq!(line.publisher.drain_and_stop(Duration::from_secs(10)).await.unsent, 0);
    let late = line.publisher.reply(answer(&first, "late"));
    assert_eq!(late, Err(NotTaken::NotConnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_and_states_stand_again_at_a_broker_without_memory() {
    let (mut broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let gate = Gate::start(broker.port()).await;
    let (commands, taken) = Commands::new();
    let line = Line::start_over(dir.path(), gate.port(), |_| {}, Some(commands));
    let too_long = line.publisher.publish_state(Kind::State, Some("left"), vec![b' '; 1 << 20]);
    assert!(matches!(too_long, Err(NotTaken::TooLong { .. })), "{too_long:?}");
    for state in ["busy", "ready"] {
        let payload = format!("{{\"state\":\"{state}\"}}").into_bytes();
        line.publisher.publish_state(Kind::State, Some("left"), payload).expect("taken");
    }
    line.wait("the first connection", |state| state.connected).await;
    gate.shut();
    broker.kill();
    line.wait("the cut", |state| !state.connected).await;
    broker.restart();
    let plc = Subscriber::start(broker.port()).await;
    // Kept by the broker for whoever subscribes: an old command.
    plc.send("acme/plant1/dev7/cmd/reset", "{\"old\":true}", true);
    plc.wait("the kept command", |seen| seen.under("reset").len() == 1).await;
    gate.open();
    let seen = plc.wait("the state again", |seen| !seen.under("state").is_empty()).await;
    assert_eq!(seen.under("state")[0].payload["state"], "ready", "the newest alone");
    assert_eq!(seen.under("state").len(), 1);
    assert!(taken.recv_async().await.expect("the old command").retain, "told as old");
    plc.send("acme/plant1/dev7/left/cmd/trigger", "{}", false);
    assert!(!taken.recv_async().await.expect("a new command").retain);
    line.wait("nothing refused", |state| state.connected && state.not_subscribed.is_empty()).await;
    let late = Subscriber::start(broker.port()).await;
    let kept = late.wait("what is kept", |seen| !seen.under("state").is_empty()).await;
    assert!(kept.under("state")[0].retain);
}
