//! A new configuration while the daemon runs: taken without a lost part, or refused as a whole.

use std::collections::BTreeSet;
use std::fs;

use inspectd::inspection::Inspection;
use inspectd::store::verify::{VerifyOptions, verify};
use inspectd::store::{Reader, Record};
use inspectd::verdict::Outcome;

use crate::support::reload::wait_until;
use crate::support::service::Service;
use crate::support::station::Site;

fn records(site: &Site) -> Vec<Record> {
    let reader = Reader::open(&site.database()).expect("the log opens");
    reader.after(0, 1_000_000).expect("read")
}

/// The configuration's digests in the records, in the order in which they first appear.
fn digests(site: &Site) -> Vec<String> {
    let mut seen = Vec::new();
    for record in records(site) {
        let digest = record.inspection().expect("a record").digests.config;
        if !seen.contains(&digest) {
            seen.push(digest);
        }
    }
    seen
}

fn reload(service: &Service) -> (Option<i32>, String) {
    let told = service.command(&["reload"]);
    let text = [told.stdout, told.stderr].concat();
    (told.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn a_good_one_is_taken_and_a_bad_one_refused_while_parts_go_on() {
    let site = Site::of_pictures(None);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    wait_until("a first record", || !records(&site).is_empty());
    let (code, text) = reload(&service);
    assert_eq!((code, text.as_str()), (Some(0), "Nothing has changed.\n"));

    // Another text: the next parts are asked and judged by it.
    let station = site.dir.path().join("stations/demo.toml");
    let first = fs::read_to_string(&station).unwrap();
    fs::write(&station, format!("# another\n{first}")).unwrap();
    let (code, text) = reload(&service);
    assert_eq!((code, text.as_str()), (Some(0), "station \"demo\": text\n"));
    wait_until("records under the second", || digests(&site).len() == 2);

    // A bad one is refused with the place, and the second goes on.
    fs::write(&station, first.replace("deadline_ms", "deadline_sm")).unwrap();
    let (code, text) = reload(&service);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("demo.toml") && text.contains("deadline_sm"), "{text}");
    let bad = fs::read_to_string(&station).unwrap();

    // What takes a restart is refused, too, and named; then nothing else is taken.
    fs::write(&station, format!("# a third\n{first}")).unwrap();
    let main = fs::read_to_string(&site.file).unwrap();
    fs::write(&site.file, format!("{main}[postgres]\nhost = \"127.0.0.1\"\n")).unwrap();
    let (code, text) = reload(&service);
    fs::write(&site.file, main).unwrap();
    assert_eq!(code, Some(2), "{text}");
    for part in ["restart", "[postgres]"] {
        assert!(text.contains(part), "{text}");
    }
    let main = fs::read_to_string(&site.file).unwrap();
    let traces = "[traces]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n";
    fs::write(&station, &first).unwrap();
    fs::write(&site.file, format!("{main}{traces}")).unwrap();
    let (code, text) = reload(&service);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("restart") && text.contains("[traces]"), "{text}");
    fs::write(&site.file, main).unwrap();
    let seen = records(&site).len();
    wait_until("more records", || records(&site).len() > seen + 2);
    assert_eq!(digests(&site).len(), 2, "nothing of what was refused is in force");

    // Another camera, by the signal.
    let folder = site.dir.path().join("more");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(site.dir.path().join("set")).unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    fs::write(&station, first.replace("\"../set\"", "\"../more\"")).unwrap();
    service.told.clear();
    service.signal(libc::SIGHUP);
    service.wait_for("RELOADING=1");
    service.wait_for("READY=1");
    wait_until("records under the third", || digests(&site).len() == 3);
    assert_ne!(bad, first);

    assert!(service.stop().0.success());
    assert_eq!(
        fs::read_to_string(&station).unwrap(),
        first.replace("\"../set\"", "\"../more\""),
        "no file of the user is written"
    );
    let all = records(&site);
    let jobs: BTreeSet<u64> =
        all.iter().map(|record| record.inspection().expect("a record").job_id).collect();
    let last = *jobs.last().expect("some");
    assert_eq!(jobs.len() as u64, last, "every part from 1 to the last has a record");
    let reader = Reader::open(&site.database()).expect("the log opens");
    let report = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).expect("readable");
    assert!(report.breaks.is_empty(), "{report:?}");
}

#[test]
fn what_one_station_cannot_take_no_station_takes() {
    let site = Site::of_pictures(None);
    let first = site.dir.path().join("stations/demo.toml");
    let second = site.dir.path().join("stations/other.toml");
    let text = fs::read_to_string(&first).unwrap();
    fs::write(&second, text.replace("name = \"demo\"", "name = \"other\"")).unwrap();
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    let of = |site: &Site, station: &str| {
        let looks = records(site).into_iter().map(|record| record.inspection().expect("a record"));
        looks.filter(|look| look.station == station).collect::<Vec<_>>()
    };
    wait_until("records of both", || {
        !of(&site, "demo").is_empty() && !of(&site, "other").is_empty()
    });
    let before = of(&site, "demo")[0].digests.config.clone();

    fs::write(&first, format!("# another\n{text}")).unwrap();
    let lost = fs::read_to_string(&second).unwrap().replace("\"../set\"", "\"../gone\"");
    fs::write(&second, lost).unwrap();
    let (code, told) = reload(&service);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("station \"other\"") && told.contains("gone"), "{told}");

    let refused = jiff::Timestamp::now();
    for station in ["demo", "other"] {
        wait_until("parts triggered after the refusal", || {
            of(&site, station).iter().any(|look| look.times.triggered.wall > refused)
        });
        let after = of(&site, station);
        let newest = after.iter().filter(|look| look.times.triggered.wall > refused);
        let digests: BTreeSet<&String> = newest.map(|look| &look.digests.config).collect();
        assert_eq!(digests.len(), 1, "{station} runs under one configuration");
        if station == "demo" {
            assert!(digests.contains(&before), "{station} is what it was");
        }
    }
    assert!(service.stop().0.success());
}

#[test]
fn places_and_expected_serials_are_others_from_one_part_to_the_next() {
    let site = Site::of_pictures(None);
    site.edit("repeat = true\nrealtime = false\n", "repeat = true\ninterval_ms = 150\n");
    let list = site.dir.path().join("stations/serials.txt");
    fs::write(&list, "AAAAAAAA\n").unwrap();
    let rules = "[rules]\n[rules.serial]\nexpected = \"serials.txt\"\nunexpected = \"fail\"\n";
    site.edit("[rules]\n", rules);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    let looks = || records(&site).into_iter().map(|record| record.inspection().expect("whole"));
    let codes = |look: &Inspection| -> Vec<String> {
        look.verdict.reasons.iter().map(|reason| reason.code.to_string()).collect()
    };
    let is_unexpected = |look: &Inspection| codes(look).contains(&"serial_unexpected".to_owned());
    wait_until("every serial that is read is unexpected", || {
        looks().any(|look| is_unexpected(&look))
    });
    assert!(looks().all(|look| look.verdict.outcome != Outcome::Pass));

    // The list as the belt needs it: what the parts have that it shows.
    let read: BTreeSet<String> = looks().filter_map(|look| serial(&look)).collect();
    fs::write(&list, read.iter().map(|serial| format!("{serial}\n")).collect::<String>()).unwrap();
    let station = site.dir.path().join("stations/demo.toml");
    let text = fs::read_to_string(&station).unwrap();
    fs::write(&station, text.replace("queue_parts = 8", "queue_parts = 3")).unwrap();
    let (code, told) = reload(&service);
    let expected = "station \"demo\": queue_parts, expected serials\n";
    assert_eq!((code, told.as_str()), (Some(0), expected));
    let now = jiff::Timestamp::now();
    wait_until("a serial that is expected now", || {
        looks().any(|look| {
            look.times.triggered.wall > now
                && serial(&look).is_some_and(|serial| read.contains(&serial))
                && !is_unexpected(&look)
        })
    });
    let top = service.command(&["top", "--json"]);
    let state: serde_json::Value = serde_json::from_slice(&top.stdout).expect("JSON");
    assert_eq!(state["stations"][0]["queue_places"], 3, "{state}");

    // More text for the model to read takes more memory, and that is told.
    let planned =
        |state: &serde_json::Value| state["model"]["planned_bytes"].as_u64().expect("known");
    let before = planned(&state);
    let text = fs::read_to_string(&station).unwrap();
    let longer = format!("task = \"serial\"\nsystem = \"{}\"\n", "Look well. ".repeat(60));
    fs::write(&station, text.replacen("task = \"serial\"\n", &longer, 1)).unwrap();
    let (code, told) = reload(&service);
    assert_eq!(code, Some(0), "{told}");
    let top = service.command(&["top", "--json"]);
    let state: serde_json::Value = serde_json::from_slice(&top.stdout).expect("JSON");
    assert!(planned(&state) > before, "{state}");

    // A list that cannot be is refused, and the one before holds.
    fs::write(&list, [0xff, 0xfe, b'\n']).unwrap();
    let (code, told) = reload(&service);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("serials.txt"), "{told}");
    assert!(service.stop().0.success());
}

/// The serial that was read, whatever became of it.
fn serial(look: &Inspection) -> Option<String> {
    look.serial_facts.first().map(|facts| facts.reading.clone())
}
