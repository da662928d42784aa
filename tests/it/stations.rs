//! Stations that come and go while the daemon runs: by a reload, and without a lost part.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use inspectd::footage;
use inspectd::inspection::Inspection;
use inspectd::verdict::Outcome;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::mosquitto::{Mosquitto, free_port};
use crate::support::plc::{self, Controller, Running, Say, log, newest};
use crate::support::reload::{
    file, goes_on, nothing_is_lost, of, ok, refused, site_of_pictures, wait_until,
};
use crate::support::service::{Service, command};
use crate::support::station::Site;

/// Puts a station beside the first one, which differs in its name and as `change` says.
fn add(site: &Site, station: &str, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(file(site, "demo")).expect("readable");
    let text = text.replace("name = \"demo\"", &format!("name = \"{station}\""));
    fs::write(file(site, station), change(text)).expect("written");
}

/// The station is kept where the daemon does not look.
fn put_aside(site: &Site, station: &str) {
    fs::rename(file(site, station), site.dir.path().join(station)).expect("it is there");
}

fn put_back(site: &Site, station: &str) {
    fs::rename(site.dir.path().join(station), file(site, station)).expect("it was put aside");
}

/// The names of the stations that a running daemon tells of.
fn told_of(site: &Site) -> Vec<String> {
    let top = command(&site.file, &["top", "--json"]);
    let state: Value = serde_json::from_slice(&top.stdout).expect("JSON");
    let stations = state["stations"].as_array().expect("a list");
    stations.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn one_comes_one_goes_and_it_comes_back_while_parts_go_on() {
    let broker = Mosquitto::start();
    let plant = Controller::new(&broker);
    let site = site_of_pictures(Some(broker.port()));
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    let status = |names: &[&str]| {
        let names = json!(names);
        plant.wait(&format!("the status with {names}"), |seen| {
            newest(seen, "status").is_some_and(|status| status["stations"] == names)
        });
    };
    status(&["demo"]);

    add(&site, "second", |text| text);
    ok(&site, "station \"second\": new\n");
    goes_on(&site, "second");
    goes_on(&site, "demo");
    status(&["demo", "second"]);
    assert_eq!(told_of(&site), ["demo", "second"]);
    assert!(plant.seen().under("status").iter().all(|one| one.payload["online"] == true));

    put_aside(&site, "demo");
    ok(&site, "station \"demo\": gone\n");
    status(&["second"]);
    wait_until("it has left", || told_of(&site) == ["second"]);
    let left = of(&site, "demo").len();
    goes_on(&site, "second");
    assert_eq!(of(&site, "demo").len(), left, "no part of it any more");
    plant.wait("its camera has ended", |seen| {
        newest(seen, "demo/camera").is_some_and(|camera| camera["state"] == "ended")
    });

    put_back(&site, "demo");
    ok(&site, "station \"demo\": new\n");
    goes_on(&site, "demo");
    status(&["demo", "second"]);
    let (ended, told) = service.stop();
    assert!(ended.success(), "{told:?}");
    nothing_is_lost(&site, &["demo", "second"]);

    // What was recorded was told, once each.
    let all = log(&site);
    let seen = plant.wait("all results", |seen| seen.under("result").len() >= all.len());
    let ids: BTreeSet<String> =
        seen.results("result_id").iter().map(|id| id.as_str().expect("text").to_owned()).collect();
    assert_eq!(ids, all.iter().map(|look| look.result_id.to_string()).collect());
}

#[test]
fn the_only_one_gives_its_place_to_another() {
    let site = site_of_pictures(None);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    add(&site, "press", |text| text);
    put_aside(&site, "demo");
    ok(&site, "station \"press\": new\nstation \"demo\": gone\n");
    goes_on(&site, "press");
    wait_until("it has left", || told_of(&site) == ["press"]);
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo", "press"]);
}

#[test]
fn where_one_cannot_come_all_are_what_they_were() {
    let site = site_of_pictures(None);
    add(&site, "second", |text| text);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    goes_on(&site, "second");

    // Alone: nothing else is touched.
    let gone = |text: String| text.replace("\"../set\"", "\"../gone\"");
    add(&site, "third", gone);
    refused(&site, &["third", "gone"]);
    assert_eq!(told_of(&site), ["demo", "second"]);

    // With others that go and change: these come back.
    let second = fs::read_to_string(file(&site, "second")).expect("readable");
    fs::write(file(&site, "second"), format!("# another\n{second}")).expect("written");
    let before = of(&site, "second").last().expect("one").digests.config.clone();
    add(&site, "third", gone);
    put_aside(&site, "demo");
    refused(&site, &["third", "gone"]);
    let refused_at = Timestamp::now();
    goes_on(&site, "demo");
    goes_on(&site, "second");
    let mut names = told_of(&site);
    names.sort();
    assert_eq!(names, ["demo", "second"]);
    let after = of(&site, "second");
    let mut after = after.iter().filter(|look| look.times.triggered.wall > refused_at);
    assert!(after.all(|look| look.digests.config == before), "it is judged as before");

    // The same files, but for the fault, are taken.
    add_from(&site, "second", "third");
    ok(&site, "station \"second\": text\nstation \"third\": new\nstation \"demo\": gone\n");
    goes_on(&site, "third");
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo", "second", "third"]);
}

fn add_from(site: &Site, from: &str, station: &str) {
    let text = fs::read_to_string(file(site, from)).expect("readable");
    let text = text.replace(&format!("name = \"{from}\""), &format!("name = \"{station}\""));
    fs::write(file(site, station), text).expect("written");
}

#[test]
fn a_camera_that_only_one_can_have_goes_from_one_to_the_other() {
    let site = site_of_pictures(None);
    // Its pipeline listens at a port, which another one cannot while it does.
    let camera = format!(
        "pipeline = \"videotestsrc is-live=true ! video/x-raw,width=640,height=480,framerate=20/1 ! \
         tee name=all all. ! queue ! tcpserversink host=127.0.0.1 port={} all. ! queue\"",
        free_port()
    );
    site.edit("folder = \"../set\"", &camera);
    site.edit("repeat = true\ninterval_ms = 150\n", "");
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    add(&site, "press", |text| text);
    put_aside(&site, "demo");
    ok(&site, "station \"press\": new\nstation \"demo\": gone\n");
    goes_on(&site, "press");
    let is_lost =
        |look: &Inspection| look.verdict.reasons.iter().any(|reason| reason.code == "camera_lost");
    assert!(!log(&site).iter().any(is_lost), "it was free when it was opened");
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo", "press"]);
}

#[test]
fn a_part_in_hand_is_answered_before_its_station_has_left() {
    leaves_with_a_part_in_hand("3.1.1");
}

#[test]
fn a_part_in_hand_is_answered_before_its_station_has_left_by_mqtt_5() {
    leaves_with_a_part_in_hand("5");
}

fn leaves_with_a_part_in_hand(protocol: &str) {
    let broker = Mosquitto::start();
    let controller = Controller::new(&broker);
    let site = plc::site(broker.port(), "[plc]\n");
    let main = fs::read_to_string(&site.file).expect("readable");
    fs::write(&site.file, format!("{main}protocol = \"{protocol}\"\n")).expect("written");
    let daemon = Running::start(&site);
    controller.wait_ready();
    controller.trigger(1, "");
    daemon.asked();

    add(&site, "press", |text| text);
    put_aside(&site, "demo");
    ok(&site, "station \"press\": new\nstation \"demo\": gone\n");
    assert_eq!(told_of(&site), ["demo", "press"], "it has a part in hand");
    controller.send("trigger", r#"{"trigger_id":2,"part_id":"P2"}"#);
    // Nobody hears a command to a station that is gone: the next one is to the other.
    let other = Controller::of(&broker, "press");
    other.wait_ready();
    put_back(&site, "demo");
    refused(&site, &["station \"demo\": its last parts are not recorded yet"]);
    put_aside(&site, "demo");

    daemon.say(&[Say::Good, Say::Good]);
    let result = controller.result("the result", |result| result["trigger_id"] == 1);
    assert_eq!(result["verdict"], "pass");
    wait_until("it has left", || told_of(&site) == ["press"]);
    let state = controller.wait("halted", |seen| {
        newest(seen, "demo/state").is_some_and(|state| state["state"] == "Halted")
    });
    assert!(newest(&state, "demo/cmd/trigger/reply").is_some_and(|reply| reply["trigger_id"] == 1));

    // The new one is asked for parts on the connection that stood.
    let reply = other.trigger(7, "");
    assert_eq!(reply["accepted"], true, "{reply}");
    daemon.asked();
    daemon.say(&[Say::Good, Say::Dent]);
    let result = other.result("its result", |result| result["trigger_id"] == 7);
    assert_eq!((&result["station"], &result["verdict"]), (&"press".into(), &"fail".into()));
    other.wait("its heartbeat", |seen| !seen.under("press/heartbeat").is_empty());

    // It comes back, knows its triggers, and counts on.
    put_back(&site, "demo");
    ok(&site, "station \"demo\": new\n");
    controller.wait("ready again", |seen| {
        newest(seen, "demo/state").is_some_and(|state| state["ready"] == true)
    });
    let again = controller.trigger(3, "");
    assert_eq!((&again["accepted"], &again["job_id"]), (&true.into(), &2.into()));
    daemon.asked();
    daemon.say(&[Say::Good, Say::Good]);
    controller.result("its result", |result| result["trigger_id"] == 3);
    daemon.end();
    assert!(of(&site, "demo").iter().all(|look| look.verdict.outcome == Outcome::Pass));
    nothing_is_lost(&site, &["demo", "press"]);
    let seen = controller.seen();
    let status = seen.under("status");
    let online = status.iter().filter(|one| one.payload["online"] == true).count();
    assert_eq!(online + 1, status.len(), "one connection from the start to the end");
}

#[test]
fn triggers_of_the_others_are_answered_while_stations_come_and_go() {
    let broker = Mosquitto::start();
    let controller = Controller::new(&broker);
    let site = plc::site(broker.port(), "[plc]\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    controller.wait_ready();
    let changes = thread::spawn({
        let root = site.dir.path().to_owned();
        let main = site.file.clone();
        let text = fs::read_to_string(file(&site, "demo")).expect("readable");
        move || {
            let mut codes = Vec::new();
            for round in 0..6 {
                let path = root.join("stations/press.toml");
                match round % 2 {
                    0 => fs::write(&path, text.replace("name = \"demo\"", "name = \"press\"")),
                    _ => fs::remove_file(&path),
                }
                .expect("the disk works");
                codes.push(command(&main, &["reload"]).status.code());
            }
            codes
        }
    });
    let mut id = 0;
    while !changes.is_finished() || id < 20 {
        id += 1;
        let reply = controller.trigger(id, "");
        assert_eq!(reply["accepted"], true, "{reply}");
        controller.result("a result", |result| result["trigger_id"] == id);
    }
    assert_eq!(changes.join().expect("no panic"), [Some(0); 6]);
    daemon.end();
    assert_eq!(of(&site, "demo").len() as u64, id, "one record a trigger");
    nothing_is_lost(&site, &["demo"]);
}

#[test]
fn one_that_is_asked_for_parts_otherwise_comes_anew() {
    let broker = Mosquitto::start();
    let controller = Controller::new(&broker);
    let site = plc::site(broker.port(), "[plc]\n");
    let daemon = Running::start(&site);
    controller.wait_ready();
    controller.trigger(1, "");
    daemon.asked();
    let command = "kind = \"command\"\nframe_wait_ms = 60000";
    site.edit(command, "kind = \"interval\"\nevery_ms = 50");
    site.edit("[plc]\n", "");
    daemon.say(&[Say::Good, Say::Good]);
    ok(&site, "station \"demo\": [plc], trigger\n");
    let mut daemon = daemon;
    daemon.let_go();
    goes_on(&site, "demo");
    site.edit("kind = \"interval\"\nevery_ms = 50", command);
    site.edit("[rules]", "[plc]\nacknowledge = true\n[rules]");
    let before = Timestamp::now();
    ok(&site, "station \"demo\": [plc], trigger\n");
    let parts = of(&site, "demo").len();
    controller.wait("ready again", |seen| {
        newest(seen, "demo/state").is_some_and(|state| {
            let since: Timestamp = state["since"].as_str().expect("text").parse().expect("a time");
            state["ready"] == true && since >= before
        })
    });
    // It is still known which triggers were answered.
    controller.send("trigger", r#"{"trigger_id":1,"part_id":"P1"}"#);
    let reply = controller.trigger(2, "");
    assert_eq!(reply["accepted"], true, "{reply}");
    let result = controller.result("its result", |result| result["trigger_id"] == 2);
    assert_eq!(result["job_id"], parts + 1, "its jobs count on");
    daemon.end();
    nothing_is_lost(&site, &["demo"]);
    assert_eq!(of(&site, "demo").len(), parts + 1);
}

#[test]
fn one_that_comes_anew_while_footage_is_kept_has_a_folder_more() {
    let site = site_of_pictures(None);
    let shift = site.dir.path().join("shift");
    let path = shift.to_str().expect("text");
    let mut service = Service::start_as(&site, &["--record", path, "--keep-free-gb", "0"]);
    service.wait_for("READY=1");
    goes_on(&site, "demo");
    let text = fs::read_to_string(file(&site, "demo")).expect("readable");
    fs::write(file(&site, "demo"), format!("{text}[footage]\n")).expect("written");
    ok(&site, "station \"demo\": [footage]\n");
    goes_on(&site, "demo");
    // Nor is a recording the end of a run that goes back to what it was.
    let gone = text.replace("\"../set\"", "\"../gone\"");
    fs::write(file(&site, "demo"), gone).expect("written");
    refused(&site, &["gone"]);
    goes_on(&site, "demo");
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo"]);
    for folder in ["demo", "demo-2", "demo-3"] {
        let folder = shift.join(folder);
        let summary = footage::Summary::read(&folder).expect("footage");
        assert_eq!(summary.header.station, "demo");
    }
}
