//! The broker is reached otherwise while the daemon runs: by a reload, and without a lost result.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::mosquitto::{Mosquitto, Seen, free_port};
use crate::support::plc::{self, Controller, Running, log, newest};
use crate::support::reload::{
    goes_on, nothing_is_lost, of, ok, refused, site_of_pictures, wait_until,
};
use crate::support::service::{Service, command};
use crate::support::station::Site;

/// Replaces `from` by `to` in the site's main file.
fn edit(site: &Site, from: &str, to: &str) {
    let text = fs::read_to_string(&site.file).expect("readable");
    assert!(text.contains(from), "no \"{from}\" in {text}");
    fs::write(&site.file, text.replacen(from, to, 1)).expect("written");
}

fn port(port: u16) -> String {
    format!("port = {port}\n")
}

/// The main file is part of what decides, so a station's text is another, too.
const MOVED: &str = "station \"demo\": text\n[broker]\n";

fn ids(seen: &Seen) -> BTreeSet<String> {
    let ids = seen.results("result_id").into_iter();
    ids.map(|id| id.as_str().expect("text").to_owned()).collect()
}

fn status(seen: &Seen) -> Option<(bool, String)> {
    let status = newest(seen, "box/status")?;
    let reason = status["reason"].as_str()?.to_owned();
    Some((status["online"] == true, reason))
}

#[test]
fn results_go_on_at_another_broker_and_none_is_lost() {
    let (first, second) = (Mosquitto::start(), Mosquitto::start());
    let (here, there) = (Controller::new(&first), Controller::new(&second));
    let site = site_of_pictures(Some(first.port()));
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    here.wait("some results", |seen| seen.under("result").len() > 2);

    edit(&site, &port(first.port()), &port(second.port()));
    edit(&site, "[broker]\n", "[broker]\nprotocol = \"3.1.1\"\n");
    ok(&site, MOVED);
    there.wait("results at the other", |seen| seen.under("result").len() > 2);
    let seen = there.wait("the status", |seen| status(seen).is_some_and(|(online, _)| online));
    assert!(!seen.under("demo/camera").is_empty(), "states are told anew");
    let left = here.wait("the goodbye", |seen| status(seen).is_some_and(|(online, _)| !online));
    assert_eq!(status(&left), Some((false, "stopped".into())), "and no last will");

    // Nobody is there: results wait, parts go on; then they find where the broker is.
    let nowhere = free_port();
    edit(&site, &port(second.port()), &port(nowhere));
    ok(&site, MOVED);
    goes_on(&site, "demo");
    wait_until("results wait", || {
        let top = command(&site.file, &["top", "--json"]);
        let state: Value = serde_json::from_slice(&top.stdout).expect("JSON");
        state["broker"]["unsent"].as_u64().is_some_and(|unsent| unsent > 2)
    });
    edit(&site, &port(nowhere), &port(first.port()));
    ok(&site, MOVED);
    here.wait("those that waited", |seen| {
        seen.under("result").len() > left.under("result").len() + 2
    });
    assert!(service.stop().0.success());
    nothing_is_lost(&site, &["demo"]);
    let all: BTreeSet<String> = log(&site).iter().map(|look| look.result_id.to_string()).collect();
    let union = || &ids(&here.seen()) | &ids(&there.seen());
    wait_until("every record was told", || union() == all);
    let sent = |seen: &Seen| seen.results("job_id").iter().filter_map(Value::as_u64).max();
    assert!(sent(&left) < sent(&there.seen()));
}

#[test]
fn commands_are_heard_at_the_other_broker_and_files_that_cannot_be_read_are_refused() {
    let (first, second) = (Mosquitto::start(), Mosquitto::start());
    let (here, there) = (Controller::new(&first), Controller::new(&second));
    let site = plc::site(first.port(), "[plc]\n");
    let mut daemon = Running::start(&site);
    daemon.let_go();
    here.wait_ready();
    assert_eq!(here.trigger(1, "")["accepted"], true);
    here.result("a result", |result| result["trigger_id"] == 1);

    // Its password is not there yet.
    edit(&site, &port(first.port()), &port(second.port()));
    edit(&site, "[broker]\n", "[broker]\nusername = \"line\"\npassword_file = \"login\"\n");
    refused(&site, &["password", "login"]);
    assert_eq!(here.trigger(2, "")["accepted"], true);
    here.result("a result", |result| result["trigger_id"] == 2);

    fs::write(site.dir.path().join("login"), "word\n").expect("written");
    ok(&site, MOVED);
    there.wait_ready();
    let reply = there.trigger(3, "");
    assert_eq!((&reply["accepted"], &reply["job_id"]), (&true.into(), &3.into()));
    there.result("a result", |result| result["trigger_id"] == 3);
    // Nobody listens there any more.
    here.send("trigger", r#"{"trigger_id":4,"part_id":"P4"}"#);
    let reply = there.trigger(5, "");
    assert_eq!(reply["job_id"], 4, "{reply}");
    there.result("a result", |result| result["trigger_id"] == 5);
    daemon.end();
    nothing_is_lost(&site, &["demo"]);
    assert_eq!(of(&site, "demo").len(), 4);
}
