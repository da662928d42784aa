//! The contract with the line's controller, over a real broker: what is asked, acknowledged, answered.

use std::fs;
use std::path::Path;
use std::process::Command;

use inspectd::publish::schema;
use inspectd::store::verify::{VerifyOptions, verify};
use inspectd::store::{Anchor, Reader};
use serde_json::Value;

use crate::support::mosquitto::{Gate, Mosquitto, Seen};
use crate::support::plc::{Controller, Running, Say, find, log, newest, site};

/// Every message of `level` has the form that the schema of this name states.
fn assert_form(seen: &Seen, level: &str, schema: &str) {
    let schema = schema::find(schema).expect("there is one").text;
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let messages = seen.under(level);
    assert!(!messages.is_empty(), "nothing under {level}");
    for message in messages {
        let faults: Vec<String> =
            validator.iter_errors(&message.payload).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?} in {:#}", message.payload);
    }
}

fn has_reason(result: &Value, code: &str) -> bool {
    result["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|one| one == code))
}

fn events(seen: &Seen, trigger_id: u64) -> Vec<String> {
    let of = |one: &&Value| one["trigger_id"] == trigger_id;
    let all: Vec<Value> = seen.under("event").into_iter().map(|one| one.payload.clone()).collect();
    all.iter().filter(of).filter_map(|one| one["event"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_trigger_is_acknowledged_inspected_and_answered_with_its_ids() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\nheartbeat_ms = 100\n");
    let daemon = Running::start(&site);
    plc.wait_ready();
    plc.send("trigger", r#"{"trigger_id":7,"part_id":"A-1","request_id":"r1"}"#);
    let reply = plc.reply("trigger", |_| true);
    assert_eq!((&reply["accepted"], &reply["request_id"]), (&true.into(), &"r1".into()));
    daemon.asked();
    daemon.say(&[Say::Good, Say::Good]);
    let result = plc.result("the result", |_| true);
    assert_eq!((&result["trigger_id"], &result["part_id"]), (&7.into(), &"A-1".into()));
    assert_eq!(result["job_id"], reply["job_id"]);
    assert_eq!((&result["verdict"], &result["deadline_met"]), (&"pass".into(), &true.into()));
    assert_eq!((&result["updates"], &result["is_partial"]), (&Value::Null, &false.into()));
    // A text as id is given back as a text.
    plc.send("trigger", r#"{"trigger_id":"T8"}"#);
    daemon.say(&[Say::Good, Say::Dent]);
    let second = plc.result("the second", |result| result["trigger_id"] == "T8");
    assert_eq!(second["verdict"], "fail");
    let beats = |seen: &Seen| -> Vec<u64> {
        seen.under("heartbeat").iter().filter_map(|one| one.payload["counter"].as_u64()).collect()
    };
    let seen = plc.wait("heartbeats", |seen| beats(seen).len() >= 3);
    assert!(beats(&seen).windows(2).all(|pair| pair[0] < pair[1]), "{:?}", beats(&seen));
    plc.wait("the events", |seen| events(seen, 7).len() >= 3);
    assert_eq!(events(&plc.seen(), 7), ["JobStarted", "AcquisitionDone", "ResultReady"]);
    assert_eq!(daemon.end().records, 2);
    let seen = plc.wait("halted", |seen| {
        newest(seen, "state").is_some_and(|state| state["state"] == "Halted")
    });
    assert_form(&seen, "state", "state");
    assert_form(&seen, "event", "event");
    assert_form(&seen, "heartbeat", "heartbeat");
    assert_form(&seen, "cmd/trigger/reply", "reply");
    assert_form(&seen, "result", "result");
    let busy = find(&seen, "state", |state| state["busy"] == true).expect("it was");
    assert_eq!(busy["state"], "Operational.SingleExecution");
    let first: &str = &serde_json::to_string(&result).expect("JSON");
    assert!(first.find("\"verdict\"") < first.find("\"result_id\""), "the verdict first: {first}");

    // The head that the broker keeps is an anchor of the log, with all that this run recorded.
    assert_form(&seen, "chain", "chain");
    let head = newest(&seen, "chain").expect("is kept");
    let anchor: Anchor = serde_json::from_value(head).expect("an anchor");
    let reader = Reader::open(&site.database()).expect("the log is readable");
    let check = |anchor: Anchor| {
        let options = VerifyOptions { anchors: vec![anchor], ..VerifyOptions::default() };
        verify(&reader, &options, &mut |_, _| {}).expect("readable").first_break().is_none()
    };
    assert!(anchor.sequence >= 3, "the start and two inspections: {anchor:?}");
    assert!(check(anchor.clone()));
    assert!(!check(Anchor { sequence: anchor.sequence - 1, ..anchor }));
}

#[test]
fn a_missed_deadline_is_told_at_once_and_the_answer_follows_as_its_update() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\nfinish_late_ms = 600000\n");
    let daemon = Running::start(&site);
    plc.wait_ready();
    plc.trigger(1, r#","deadline_ms":4000"#);
    // The model is in the middle of it and does not move.
    daemon.asked();
    let late = plc.result("the late result", |_| true);
    assert_eq!((&late["verdict"], &late["deadline_met"]), (&"review".into(), &false.into()));
    assert!(has_reason(&late, "deadline_missed") && late["updates"].is_null());
    assert_eq!(late["deadline_ms"], 4000);
    daemon.say(&[Say::Good, Say::Good]);
    let update = plc.result("the update", |result| !result["updates"].is_null());
    assert_eq!(update["updates"], late["result_id"]);
    assert_eq!((&update["trigger_id"], &update["part_id"]), (&1.into(), &"P1".into()));
    assert_eq!(update["job_id"], late["job_id"]);
    assert_eq!((&update["verdict"], &update["late_outcome"]), (&"review".into(), &"pass".into()));
    assert_eq!((&update["serial"], &update["deadline_met"]), (&"A7K2M9PX".into(), &false.into()));
    assert_eq!(daemon.end().records, 2);
    let log = log(&site);
    assert!(
        log[0].questions.is_empty() && log[1].questions.len() == 2 && log[1].evidence.len() == 1
    );
}

#[test]
fn two_parts_in_flight_with_crossed_lateness_are_never_mixed() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n");
    let daemon = Running::start(&site);
    plc.wait_ready();
    // The first has time, and the model stands at it; the second, behind it, has none.
    plc.trigger(1, "");
    daemon.asked();
    plc.trigger(2, r#","deadline_ms":100"#);
    let late = plc.result("the late one", |_| true);
    assert_eq!((&late["trigger_id"], &late["part_id"]), (&2.into(), &"P2".into()));
    daemon.say(&[Say::Good, Say::Dent]);
    let of = |id: u64, is_update: bool| {
        move |one: &Value| one["trigger_id"] == id && one["updates"].is_null() != is_update
    };
    let first = plc.result("the first", of(1, false));
    assert_eq!((&first["verdict"], &first["deadline_met"]), (&"fail".into(), &true.into()));
    let update = plc.result("the update of the second", of(2, true));
    assert_eq!(update["updates"], late["result_id"]);
    // It was late before it was looked at: looking now would only make the next one late.
    assert_eq!((&update["verdict"], &update["late_outcome"]), (&"review".into(), &"review".into()));
    plc.trigger(3, "");
    daemon.say(&[Say::Good, Say::Good]);
    let third = plc.result("the third", of(3, false));
    assert_eq!((&third["verdict"], &third["part_id"]), (&"pass".into(), &"P3".into()));
    assert_eq!(daemon.end().records, 4);
    for result in plc.seen().under("result") {
        let id = result.payload["trigger_id"].as_u64().expect("one");
        assert_eq!(result.payload["part_id"], format!("P{id}"));
        let updates_other = !result.payload["updates"].is_null() && id != 2;
        assert!(!updates_other, "only the second was late: {:#}", result.payload);
    }
}

#[test]
fn what_must_not_be_obeyed_is_refused_with_its_word() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    // Kept by the broker from before: it would be carried out on every connection.
    plc.publish("trigger", &["-r", "-m", r#"{"trigger_id":99}"#]);
    let site = site(broker.port(), "[plc]\n");
    let mut daemon = Running::start(&site);
    let reason = |word: &'static str| move |reply: &Value| reply["reason"] == word;
    assert_eq!(plc.reply("trigger", reason("retained"))["trigger_id"], 99);
    plc.wait_ready();
    plc.send("trigger", r#"{"trigger_id":1,"deadlin_ms":5}"#);
    let text = plc.reply("trigger", reason("bad_payload"))["text"].to_string();
    assert!(text.contains("deadlin_ms"), "{text}");
    plc.send("trigger", "{\"trigger_id\":");
    plc.send("trigger", &format!(r#"{{"trigger_id":1,"part_id":"{}"}}"#, "x".repeat(5000)));
    plc.reply("trigger", reason("too_large"));
    plc.send("dance", "{}");
    plc.reply("dance", reason("unknown_command"));
    plc.send("recipe", r#"{"index":77}"#);
    plc.reply("recipe", reason("unknown_recipe"));
    plc.send("ack", r#"{"trigger_id":1}"#);
    plc.reply("ack", reason("not_offered"));
    plc.send("expect", "{}");
    plc.reply("expect", reason("not_offered"));
    plc.send("line", r#"{"state":"Running"}"#);
    plc.reply("line", reason("bad_payload"));
    plc.send("trigger", r#"{"trigger_id":2,"sent_at":"2001-01-01T00:00:00Z"}"#);
    plc.reply("trigger", reason("stale"));
    // The same message twice: one acknowledgement's worth, one inspection.
    let first = plc.trigger(3, "");
    plc.send("trigger", r#"{"trigger_id":3,"part_id":"P3"}"#);
    let copy = plc.reply("trigger", |reply| reply["duplicate"] == true);
    assert_eq!((&copy["accepted"], &copy["job_id"]), (&true.into(), &first["job_id"]));
    plc.send("trigger", r#"{"trigger_id":3,"part_id":"P4"}"#);
    plc.reply("trigger", reason("duplicate"));
    daemon.let_go();
    plc.result("the one result", |result| result["trigger_id"] == 3);
    assert_eq!(daemon.end().records, 1);
    assert_form(&plc.seen(), "cmd/trigger/reply", "reply");
}

#[test]
fn too_many_commands_are_refused_and_each_is_answered() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\ncommands_per_s = 1\n");
    let daemon = Running::start(&site);
    plc.wait_ready();
    let lines = site.dir.path().join("lines");
    fs::write(&lines, "{}\n".repeat(40)).expect("written");
    let sent = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-q", "1", "-p", &broker.port().to_string(), "-l"])
        .args(["-t", "inspectd/box/demo/cmd/reset"])
        .stdin(fs::File::open(&lines).expect("readable"))
        .status()
        .expect("mosquitto_pub starts");
    assert!(sent.success());
    let seen = plc.wait("40 replies", |seen| seen.under("cmd/reset/reply").len() >= 40);
    let replies = seen.under("cmd/reset/reply");
    let accepted = replies.iter().filter(|reply| reply.payload["accepted"] == true).count();
    let refused = replies.iter().filter(|reply| reply.payload["reason"] == "rate_limited").count();
    assert!(accepted >= 2 && refused >= 1 && accepted + refused == 40, "{accepted} {refused}");
    assert_eq!(daemon.end().records, 0);
}

/// mosquitto's own requester, which speaks MQTT 5: what comes back on its topic, with its words.
fn request(port: u16, name: &str, payload: &str) -> String {
    let asked = Command::new("mosquitto_rr")
        .args(["-V", "mqttv5", "-q", "1", "-W", "30", "-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-t", &format!("inspectd/box/demo/cmd/{name}"), "-e", "plant/press-3/replies"])
        .args(["-D", "publish", "correlation-data", "order-66", "-m", payload])
        .args(["-F", "%D %C %P %p"])
        .output()
        .expect("these tests need the package mosquitto-clients");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).expect("text")
}

#[test]
fn a_request_of_mqtt_5_is_answered_on_its_own_topic_with_its_own_words() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    plc.wait_ready();
    let reply = request(broker.port(), "trigger", r#"{"trigger_id":1,"request_id":"r"}"#);
    let start = "order-66 application/json schema:reply.v1 {";
    assert!(reply.starts_with(start), "{reply}");
    let payload: Value = serde_json::from_str(&reply[start.len() - 1..]).expect("JSON");
    assert_eq!((&payload["accepted"], &payload["request_id"]), (&true.into(), &"r".into()));
    let refused = request(broker.port(), "line", r#"{"state":"Running"}"#);
    assert!(refused.contains("order-66") && refused.contains("bad_payload"), "{refused}");
    // The usual topic has both as well, for whoever listens there.
    plc.reply("trigger", |reply| reply["request_id"] == "r");
    plc.reply("line", |reply| reply["accepted"] == false);
    plc.result("the result", |result| result["trigger_id"] == 1);
    assert_eq!(daemon.end().records, 1);
}

#[test]
fn what_the_controller_expects_is_a_part_of_the_verdict_and_is_kept() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n[rules.serial]\nexpect_commands = true\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    plc.wait_ready();
    let verdict = |id: u64| {
        plc.wait_ready();
        assert_eq!(plc.trigger(id, "")["accepted"], true);
        plc.result("a result", |result| result["trigger_id"] == id)
    };
    let unknown = verdict(1);
    assert!(
        unknown["verdict"] == "review" && has_reason(&unknown, "serial_unexpected"),
        "{unknown}"
    );
    plc.send("expect", r#"{"add":["A7K2M9PX"],"request_id":1}"#);
    plc.reply("expect", |reply| reply["request_id"] == 1 && reply["accepted"] == true);
    assert_eq!(verdict(2)["verdict"], "pass");
    for (id, bad) in [(2, r#""add":["no serial"]"#), (3, r#""clear":false"#), (4, r#""ad":[]"#)] {
        plc.send("expect", &format!("{{{bad},\"request_id\":{id}}}"));
        let reply = plc.reply("expect", |reply| reply["request_id"] == id);
        assert_eq!((&reply["accepted"], &reply["reason"]), (&false.into(), &"bad_payload".into()));
    }
    assert_eq!(verdict(3)["verdict"], "pass", "a refused command changes nothing");
    assert_eq!(daemon.end().records, 3);

    let mut daemon = Running::start(&site);
    daemon.let_go();
    assert_eq!(verdict(4)["verdict"], "pass", "the list is kept over a restart");
    plc.send("expect", r#"{"clear":true,"request_id":5}"#);
    plc.reply("expect", |reply| reply["request_id"] == 5 && reply["accepted"] == true);
    assert_eq!(verdict(5)["verdict"], "review");
    assert_eq!(daemon.end().records, 2);
}

#[test]
fn a_broker_that_is_cut_between_acknowledgement_and_result_delivers_it_later() {
    let mut broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let gate = plc.block_on(Gate::start(broker.port()));
    let site = site(gate.port(), "[plc]\n");
    let daemon = Running::start(&site);
    plc.wait_ready();
    assert_eq!(plc.trigger(1, "")["accepted"], true);
    daemon.asked();
    gate.shut();
    broker.kill();
    daemon.say(&[Say::Good, Say::Good]);
    broker.restart();
    plc.wait("the new subscription", |seen| seen.subscribed >= 2);
    let before = plc.seen().messages.len();
    gate.open();
    let result = plc.result("the result", |_| true);
    assert_eq!((&result["trigger_id"], &result["verdict"]), (&1.into(), &"pass".into()));
    // The new broker knew nothing: the state is told again.
    plc.wait("the state", |seen| {
        seen.messages[before..].iter().any(|one| one.topic == "inspectd/box/demo/state")
    });
    // The controller did not hear its acknowledgement and asks again: no second inspection.
    plc.send("trigger", r#"{"trigger_id":1,"part_id":"P1"}"#);
    plc.reply("trigger", |reply| reply["duplicate"] == true);
    assert_eq!(daemon.end().records, 1);
}

#[test]
fn results_wait_in_a_ring_until_they_are_acknowledged() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\nacknowledge = true\nring = 8\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    for id in 1..=8 {
        plc.wait_ready();
        assert_eq!(plc.trigger(id, "")["accepted"], true);
        plc.result("a result", |result| result["trigger_id"] == id);
    }
    let oldest = |id: u64| {
        move |seen: &Seen| newest(seen, "pending").is_some_and(|one| one["trigger_id"] == id)
    };
    plc.wait("the oldest", oldest(1));
    plc.wait("no readiness", |seen| {
        newest(seen, "state")
            .is_some_and(|state| state["ready"] == false && state["pending_acks"] == 8)
    });
    assert_eq!(plc.trigger(9, "")["reason"], "results_not_acknowledged");
    plc.send("ack", r#"{"trigger_id":1}"#);
    plc.wait("the second", oldest(2));
    plc.wait_ready();
    plc.send("ack", r#"{"result_id":"nothing"}"#);
    plc.reply("ack", |reply| reply["reason"] == "unknown_result");
    // One in the middle: the order of the others stays.
    plc.send("ack", r#"{"trigger_id":3}"#);
    plc.wait("six", |seen| newest(seen, "state").is_some_and(|state| state["pending_acks"] == 6));
    assert_eq!(daemon.end().records, 8);

    let mut daemon = Running::start(&site);
    daemon.let_go();
    let again = Controller::new(&broker);
    again.wait("six after the start", |seen| {
        let state = newest(seen, "state");
        state.is_some_and(|state| state["pending_acks"] == 6 && state["ready"] == true)
    });
    again.wait("the second, still", oldest(2));
    let newest_of = |id: u64| {
        again.send("ack", &format!("{{\"trigger_id\":{id}}}"));
        again.wait("the acknowledgement", |seen| {
            !seen.under("cmd/ack/reply").is_empty()
                && newest(seen, "cmd/ack/reply").is_some_and(|one| one["trigger_id"] == id)
        })
    };
    for id in [2, 4, 5, 6, 7, 8] {
        newest_of(id);
    }
    again.wait("an empty ring", |seen| {
        newest(seen, "pending").is_some_and(|one| one["result_id"].is_null())
    });
    assert_eq!(daemon.end().records, 0);
}

/// Writes the demo station's questions as a recipe of another name.
fn write_recipe(dir: &Path) {
    let station = fs::read_to_string(dir.join("stations/demo.toml")).expect("readable");
    let questions = &station[station.find("[[region]]").expect("a region")..];
    let questions =
        questions.replace("[plc]\n[[plc.recipe]]\nindex = 2\nfile = \"../cover.toml\"\n", "");
    fs::write(dir.join("cover.toml"), format!("recipe = \"cover\"\n{questions}")).expect("written");
}

#[test]
fn a_recipe_changes_between_parts_and_is_kept() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n[[plc.recipe]]\nindex = 2\nfile = \"../cover.toml\"\n");
    write_recipe(site.dir.path());
    let daemon = Running::start(&site);
    plc.wait_ready();
    plc.trigger(1, "");
    assert_eq!(daemon.asked().0, "plate");
    plc.send("recipe", r#"{"index":2,"request_id":5}"#);
    plc.wait("not ready", |seen| {
        newest(seen, "state").is_some_and(|state| state["not_ready_reason"] == "not_ready")
    });
    assert_eq!(plc.trigger(2, "")["reason"], "not_ready");
    daemon.say(&[Say::Good; 2]);
    let reply = plc.reply("recipe", |reply| reply["request_id"] == 5);
    assert_eq!((&reply["accepted"], &reply["recipe_index"]), (&true.into(), &2.into()));
    assert_eq!(plc.result("of the old one", |_| true)["recipe_id"], "plate");
    plc.send("recipe", r#"{"index":3}"#);
    plc.reply("recipe", |reply| reply["reason"] == "unknown_recipe");
    plc.wait_ready();
    plc.trigger(3, "");
    daemon.say(&[Say::Good; 2]);
    let result = plc.result("of the new one", |result| result["trigger_id"] == 3);
    assert_eq!(result["recipe_id"], "cover");
    assert_eq!(daemon.end().records, 2);
    let digests: Vec<String> = log(&site).into_iter().map(|one| one.digests.config).collect();
    assert_ne!(digests[0], digests[1], "each names the files that it was judged by");

    let daemon = Running::start(&site);
    let again = Controller::new(&broker);
    again.wait("the recipe of before", |seen| {
        let state = newest(seen, "state");
        state.is_some_and(|state| state["recipe_index"] == 2 && state["ready"] == true)
    });
    assert_eq!(daemon.end().records, 0);
}

#[test]
fn a_line_that_stands_still_is_not_inspected_and_raises_no_alarm() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n");
    site.edit("kind = \"command\"\nframe_wait_ms = 60000", "kind = \"every_frame\"");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    plc.result("parts", |_| true);
    let state = |word: &'static str| {
        move |seen: &Seen| newest(seen, "state").is_some_and(|state| state["state"] == word)
    };
    plc.wait("continuous", state("Operational.ContinuousExecution"));
    plc.send("trigger", r#"{"trigger_id":1}"#);
    plc.reply("trigger", |reply| reply["reason"] == "not_offered");
    plc.send("line", r#"{"state":"Held"}"#);
    plc.reply("line", |reply| reply["accepted"] == true);
    let ignored = |seen: &Seen| {
        let event = |one: &&&crate::support::mosquitto::Received| {
            one.payload["event"] == "PartIgnoredWhileStopped"
        };
        seen.under("event").iter().filter(event).count()
    };
    let held = plc.wait("parts that are ignored", |seen| ignored(seen) >= 3);
    assert!(!held.under("state").last().expect("one").payload["fault"].as_bool().expect("a flag"));
    // What was in hand is finished; then nothing more is recorded, however many parts go by.
    let mut count = 0;
    let is_still = (0..20).any(|_| {
        let before = ignored(&plc.seen());
        plc.wait("more that are ignored", |seen| ignored(seen) >= before + 3);
        let now = log(&site).len();
        std::mem::replace(&mut count, now) == now
    });
    assert!(is_still, "{count} records, and more with each part");
    plc.send("line", r#"{"state":"Execute"}"#);
    plc.wait("parts again", |seen| seen.under("result").len() > count);
    daemon.end();
}

#[test]
fn a_verdict_that_stands_is_told_before_the_last_question() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let more = "[[question]]\nname = \"again\"\nregion = \"plate\"\ntask = \"serial\"\n\
                template = \"#{8}\"\nalphabet = \"ACDEFHJKLMNPQRSTUWXY234679\"\n";
    let site = site(broker.port(), &format!("{more}[plc]\npartial = true\n"));
    let daemon = Running::start(&site);
    plc.wait_ready();
    plc.trigger(1, "");
    daemon.say(&[Say::Good, Say::Dent]);
    let partial = plc.result("the partial result", |_| true);
    assert_eq!((&partial["verdict"], &partial["is_partial"]), (&"fail".into(), &true.into()));
    assert_eq!((&partial["trigger_id"], &partial["deadline_met"]), (&1.into(), &true.into()));
    daemon.say(&[Say::Fail]);
    let full = plc.result("the full one", |result| result["is_partial"] == false);
    assert_eq!((&full["updates"], &full["verdict"]), (&partial["result_id"], &"fail".into()));
    assert_eq!((&full["part_id"], &full["deadline_met"]), (&"P1".into(), &true.into()));
    plc.wait_ready();
    plc.trigger(2, "");
    daemon.say(&[Say::Good; 3]);
    let good = plc.result("a good part", |result| result["trigger_id"] == 2);
    assert_eq!((&good["verdict"], &good["is_partial"]), (&"pass".into(), &false.into()));
    assert_eq!(daemon.end().records, 3);
}

#[test]
fn a_model_that_fails_is_a_fault_until_reset() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n");
    let daemon = Running::start(&site);
    for id in 1..=3 {
        plc.wait_ready();
        plc.trigger(id, "");
        daemon.say(&[Say::Fail; 2]);
        plc.result("a review", |result| result["trigger_id"] == id);
    }
    plc.wait("the fault", |seen| {
        newest(seen, "state").is_some_and(|state| {
            state["state"] == "Error" && state["fault_reason"] == "model_failing"
        })
    });
    let refused = plc.trigger(4, "");
    assert_eq!(refused["reason"], "not_ready");
    assert!(refused["text"].to_string().contains("model_failing"), "{refused}");
    plc.send("reset", "");
    plc.wait_ready();
    plc.trigger(5, "");
    daemon.say(&[Say::Good; 2]);
    plc.result("a pass", |result| result["verdict"] == "pass");
    assert_eq!(daemon.end().records, 4);
}

#[test]
fn the_commands_of_the_page_are_accepted() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/controller.md");
    let page = fs::read_to_string(page).expect("readable");
    let lines = page.lines().filter_map(|line| line.strip_prefix("    mosquitto_pub "));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() >= 3, "{lines:?}");
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    plc.wait_ready();
    for line in &lines {
        let shell = format!("mosquitto_pub -h 127.0.0.1 -p {} {line}", broker.port());
        let sent = std::process::Command::new("sh").args(["-c", &shell]).status();
        assert!(sent.expect("a shell").success(), "{shell}");
    }
    let accepted = |seen: &Seen| {
        let replies = seen.under("reply");
        replies.iter().filter(|reply| reply.payload["accepted"] == true).count()
    };
    plc.wait("an answer to each", |seen| accepted(seen) == lines.len());
    plc.result("the result", |result| result["part_id"] == "A-1");
    assert_eq!(daemon.end().records, 1);
}

#[test]
fn a_trigger_that_was_accepted_and_cut_off_is_recorded_after_the_start() {
    use inspectd::clock::SystemClock;
    use inspectd::inspection::ForeignId;
    use inspectd::store::{AcceptedTrigger, Store};

    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), "[plc]\n");
    {
        // What a power cut between the acknowledgement and the record leaves.
        let settings = inspectd::config::load(&site.file).expect("good").settings;
        let clock = std::sync::Arc::new(SystemClock);
        let store = Store::open(&settings.store, clock).expect("opens");
        let trigger = AcceptedTrigger {
            job_id: 5,
            trigger_id: ForeignId::Number(41),
            named_part: Some("P41".into()),
            part_id: "P41".into(),
            deadline_ms: 500,
            recipe_index: 1,
            accepted: jiff::Timestamp::now(),
        };
        store.keep_accepted("demo", &trigger).expect("kept");
    }
    let mut daemon = Running::start(&site);
    let result = plc.result("the cut-off part", |_| true);
    assert_eq!((&result["trigger_id"], &result["verdict"]), (&41.into(), &"review".into()));
    assert!(has_reason(&result, "restarted") && result["deadline_met"] == false);
    // Its message may still come again: it is answered, and not inspected.
    plc.wait_ready();
    let again = plc.trigger(41, "");
    assert_eq!((&again["duplicate"], &again["job_id"]), (&true.into(), &5.into()));
    daemon.let_go();
    assert_eq!(plc.trigger(42, "")["job_id"], 6);
    plc.result("the next one", |result| result["trigger_id"] == 42);
    assert_eq!(daemon.end().records, 2);
}

#[test]
fn a_record_without_a_contract_is_what_it_was_before_there_were_any() {
    use crate::support::records::inspection;
    use inspectd::inspection::{ForeignId, Inspection};

    let plain = inspection("left", 1);
    let mut value = serde_json::to_value(&plain).expect("JSON");
    for member in
        ["trigger_id", "deadline_ms", "deadline_met", "updates", "is_partial", "timeliness"]
    {
        assert!(value.get(member).is_none(), "{member}");
    }
    assert_eq!(serde_json::from_value::<Inspection>(value.clone()).expect("read"), plain);
    value["trigger_id"] = u64::MAX.into();
    value["updates"] = plain.result_id.to_string().into();
    let told: Inspection = serde_json::from_value(value).expect("read");
    assert_eq!(told.trigger_id, Some(ForeignId::Number(u64::MAX)));
    assert_eq!(told.timeliness.updates, Some(plain.result_id));
    let text = serde_json::to_string(&told).expect("JSON");
    assert_eq!(serde_json::from_str::<Inspection>(&text).expect("read"), told);
}
