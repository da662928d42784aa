//! Live results before those that are late, over a real broker.

use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

use crate::support::delivery::Line;
use crate::support::mosquitto::{DEADLINE, Gate, Mosquitto, Subscriber};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_live_goes_before_what_waited_and_is_told_apart() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let gate = Gate::start(broker.port()).await;
    gate.shut();
    // An outage, and the program ends in it.
    let line = Line::start(dir.path(), gate.port());
    for job_id in 1..=30 {
        line.commit("left", job_id);
    }
    assert_eq!(line.publisher.drain_and_stop(Duration::ZERO).await.unsent, 30);
    drop(line);

    let subscriber = Subscriber::start(broker.port()).await;
    let line = Line::start_with(dir.path(), gate.port(), |options| options.backlog_per_s = 10);
    for job_id in 31..=35 {
        line.commit("left", job_id);
    }
    gate.open();
    let seen = subscriber.wait("five live ones", |seen| seen.under("result").len() >= 5).await;
    assert_eq!(seen.results("job_id")[..5], [31, 32, 33, 34, 35]);
    // A live result does not wait for the backlog, which takes three seconds.
    line.commit("left", 36);
    let is_36 = |id: &Value| *id == 36;
    let seen = subscriber.wait("a sixth", |seen| seen.results("job_id").iter().any(is_36)).await;
    assert!(seen.under("result").len() < 36, "the backlog was not through");
    let seen = subscriber.wait("all", |seen| seen.under("result").len() >= 36).await;
    let late: Vec<u64> = seen
        .under("result")
        .iter()
        .filter(|message| message.payload["replayed"] == true)
        .filter_map(|message| message.payload["job_id"].as_u64())
        .collect();
    assert_eq!(late, (1..=30).collect::<Vec<u64>>(), "the backlog, in order, and it alone");
    // The newest result stays the newest, though older ones came after it.
    line.wait("all acknowledged", |state| state.unsent == 0).await;
    assert_eq!(line.publisher.drain_and_stop(DEADLINE).await.unsent, 0);
    let seen = subscriber.seen();
    assert!(seen.under("last").iter().all(|last| last.payload["job_id"].as_u64() > Some(30)));
    assert_eq!(seen.under("last").last().expect("one").payload["job_id"], 36);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_waits_longer_than_it_is_live_is_marked() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let gate = Gate::start(broker.port()).await;
    gate.shut();
    let subscriber = Subscriber::start(broker.port()).await;
    let line = Line::start_with(dir.path(), gate.port(), |options| {
        options.live_for = Duration::from_secs(1);
    });
    line.commit("left", 1);
    // Real time must pass here: it is what the mark is about. Counted once a second, and one second live.
    tokio::time::sleep(Duration::from_secs(4)).await;
    line.commit("left", 2);
    gate.open();
    let seen = subscriber.wait("both", |seen| seen.under("result").len() >= 2).await;
    for message in seen.under("result") {
        assert_eq!(message.payload["replayed"], message.payload["job_id"] == 1);
    }
}
