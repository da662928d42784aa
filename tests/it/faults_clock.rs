//! The wall clock steps by hours, to 1970 and back while a daemon works: order comes from sequence numbers,
//! deadlines from the monotonic clock, and each step stands in the chain.

use std::sync::Arc;

use inspectd::store::verify::{VerifyOptions, verify};
use inspectd::store::{Filter, Reader};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::mosquitto::Mosquitto;
use crate::support::plc::{Controller, Running, Say, log, site};
use crate::support::stepped_clock::SteppedClock;

const HOUR_MS: i64 = 3_600_000;

#[test]
fn steps_of_the_clock_cost_no_deadline_no_result_and_no_order() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\nfinish_late_ms = 600000\n");
    let clock = Arc::new(SteppedClock::default());
    let daemon = Running::start_by(&site, Arc::clone(&clock) as _);
    plc.wait_ready();
    let steps: [(&str, &dyn Fn()); 5] = [
        ("as it is", &|| {}),
        ("5 hours ahead", &|| clock.set_off(SignedDuration::from_hours(5))),
        ("2 hours behind", &|| clock.set_off(SignedDuration::from_hours(-2))),
        ("1970", &|| clock.set_wall(Timestamp::UNIX_EPOCH)),
        ("right again", &|| clock.set_off(SignedDuration::ZERO)),
    ];
    for (id, (name, step)) in (1..).zip(steps) {
        // The step comes while the part is in the model's hands, with an hour to go.
        let reply = plc.trigger(id, r#","deadline_ms":600000"#);
        assert_eq!(reply["accepted"], true, "{name}: {reply}");
        daemon.asked();
        step();
        daemon.say(&[Say::Good, Say::Good]);
        daemon.asked();
        let result = plc.result(name, |one| one["trigger_id"] == id);
        assert_eq!((&result["verdict"], &result["deadline_met"]), (&"pass".into(), &true.into()));
        let latency_ms = result["latency_ms"].as_f64().expect("a number");
        assert!((0.0..600_000.0).contains(&latency_ms), "{name}: {latency_ms} ms");
    }
    // A deadline passes though the clock is set back behind it, and is told at once.
    plc.trigger(6, r#","deadline_ms":2000"#);
    daemon.asked();
    clock.set_off(SignedDuration::from_hours(-3));
    let late = plc.result("the late result", |one| one["trigger_id"] == 6);
    assert_eq!((&late["verdict"], &late["deadline_met"]), (&"review".into(), &false.into()));
    daemon.say(&[Say::Good, Say::Good]);
    let update = plc.result("the update", |one| !one["updates"].is_null());
    assert_eq!(update["verdict"], "review");
    assert_eq!(daemon.end().records, 7);

    let told = plc.seen().results("result_id");
    let records = log(&site);
    let recorded: Vec<Value> = records.iter().map(|one| one.result_id.to_string().into()).collect();
    assert_eq!(told, recorded, "each once, in the order of the record");
    assert!(records.is_sorted_by_key(|one| one.times.decided.monotonic_ns));
    assert!(!records.is_sorted_by_key(|one| one.times.decided.wall), "the clock did step");
    let reader = Reader::open(&site.database()).expect("reads");
    let numbers: Vec<i64> =
        reader.list(&Filter::default()).expect("reads").iter().map(|one| one.sequence).collect();
    assert_eq!(numbers, (1..=7).collect::<Vec<_>>());
    let hours: Vec<i64> = reader
        .events(Some("clock_step"), 100)
        .expect("reads")
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event.body).expect("JSON"))
        .map(|body| body["step_ms"].as_i64().expect("a number"))
        .map(|step_ms| (step_ms as f64 / HOUR_MS as f64).round() as i64)
        .collect();
    assert_eq!((hours.len(), hours[0], hours[1]), (5, 5, -7), "{hours:?}");
    assert!(hours[2] < -24 * 365 * 50 && hours[3] > 24 * 365 * 50 && hours[4] == -3, "{hours:?}");
    let report = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).expect("readable");
    assert_eq!(report.break_count, 0, "{:?}", report.breaks);
    println!(
        "clock: {} records, {} messages, 0 lost; {} steps in the chain",
        records.len(),
        told.len(),
        hours.len()
    );
}
