//! Serial numbers through the real inspector with a scripted model, a real record and real lists.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use inspectd::clock::{Clock, ManualClock, Stamp};
use inspectd::config;
use inspectd::daemon::Ledger;
use inspectd::expected::{Access, ExpectedLists};
use inspectd::frame::{Frame, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, EvidenceKeeper, Inspector, Model, Part, Reply};
use inspectd::roi::Crop;
use inspectd::station::{Question, Station};
use inspectd::store::{Store, StoreOptions};
use inspectd::verdict::{Finding, Outcome, Reason, Seen, judge};
use inspectd::vlm::ask::{Answer, FieldConfidence, StopReason, Timings, TokenCounts};

use crate::support::records;
use crate::support::station::{Site, some_picture};

/// Says that it read what it is told.
struct Reads(String);

impl Model for Reads {
    fn ask(&mut self, _: &Station, question: &Question, _: &[&Crop], _: Instant) -> Reply {
        let text = match question.name.as_str() {
            "serial" => serde_json::json!({ "legible": true, "serial": self.0 }).to_string(),
            _ => r#"{"inspectable":true,"defects":[]}"#.to_owned(),
        };
        let field = |path: &str| FieldConfidence {
            path: path.to_owned(),
            probability: 0.9,
            min_token_probability: 0.9,
            min_allowed_mass: 0.9,
            tokens: 1,
        };
        let answer = Answer {
            text,
            fields: ["serial", "inspectable"].map(field).to_vec(),
            stop: StopReason::Complete,
            tokens: TokenCounts::default(),
            timings: Timings::default(),
        };
        Reply::new("scripted", Ok(answer))
    }
}

struct Kept;

impl EvidenceKeeper for Kept {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok("ab".repeat(32))
    }
}

/// A clock that can be told that it follows no time source.
struct Unsure(Arc<ManualClock>, bool);

impl Clock for Unsure {
    fn now(&self) -> Stamp {
        self.0.now()
    }

    fn boot_id(&self) -> String {
        self.0.boot_id()
    }

    fn synchronized(&self) -> bool {
        self.1
    }
}

/// A line whose model is told what it reads.
struct Line {
    site: Site,
    clock: Arc<ManualClock>,
    is_sure: bool,
    store: Option<Store>,
    next_job: u64,
}

impl Line {
    /// The demo station with `question` added to its serial question and `rules` below
    /// `[rules.serial]`.
    fn new(question: &str, rules: &str) -> Line {
        let site = Site::new(Path::new("/nowhere/line.mkv"), None);
        site.edit("alphabet = \"ACDEFHJKLMNPQRSTUWXY234679\"", question);
        site.edit("[rules]\n", &format!("[rules]\n[rules.serial]\n{rules}\n"));
        let start = jiff::Timestamp::from_second(1_784_000_000).expect("in range");
        let clock = Arc::new(ManualClock::new(start));
        Line { site, clock, is_sure: true, store: None, next_job: 1 }
    }

    fn store(&mut self) -> Store {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let options =
            StoreOptions { path: self.site.database(), ..StoreOptions::in_dir(Path::new("")) };
        let evidence_dir = self.site.dir.path().join("evidence");
        let options = StoreOptions { evidence_dir, ..options };
        let open = || Store::open(&options, clock).expect("the store opens");
        self.store.get_or_insert_with(open).clone()
    }

    /// Closes the record, as a restart does.
    fn restart(&mut self) {
        self.store = None;
    }

    fn station(&self, name: &str) -> Station {
        let loaded = config::load(&self.site.file).unwrap_or_else(|problems| panic!("{problems}"));
        let station = loaded.stations.into_iter().next().expect("one station");
        Station { name: name.into(), ..station }
    }

    fn lists(&self, station: &Station) -> ExpectedLists {
        let rule = station.rules.serial.as_ref().expect("a serial is asked for");
        let stations = [(station.name.as_str(), rule)];
        ExpectedLists::open(&self.site.database(), stations, Access::Write).expect("lists").0
    }

    /// The next part of the station, on which the model reads `serial`; recorded.
    fn reads(&mut self, serial: &str) -> Inspection {
        let part_id = format!("{:06}", self.next_job);
        self.reads_at("demo", &part_id, serial)
    }

    fn reads_at(&mut self, station: &str, part_id: &str, serial: &str) -> Inspection {
        let station = Arc::new(self.station(station));
        let store = self.store();
        let ledger = Ledger::new(store.clone(), self.lists(&station));
        let clock: Arc<dyn Clock> = Arc::new(Unsure(self.clock.clone(), self.is_sure));
        let now = clock.now();
        let frame = Frame {
            sequence: 1,
            camera: Arc::from("demo"),
            captured: now,
            pipeline_ns: None,
            picture: some_picture().into(),
        };
        let mut part = Part::new(&station, self.next_job, part_id.into(), now);
        part.frame = Some(Arc::new(frame));
        self.next_job += 1;
        let clerk = Clerk::new(clock, "box", "model", "program");
        let mut inspector =
            Inspector::new(Reads(serial.into()), clerk).with_ledger(Arc::new(ledger));
        let inspection = inspector.inspect(&part, &Kept);
        store.commit(&inspection, &[]).expect("recorded");
        // The verdict can be repeated from what stands in the record.
        let body = serde_json::to_string(&inspection).expect("JSON");
        let record: Inspection = serde_json::from_str(&body).expect("a record");
        assert_eq!(record, inspection);
        let again = judge(&record.findings, &station.rules, &record.serial_facts);
        assert_eq!(again, inspection.verdict);
        inspection
    }

    fn codes(&mut self, serial: &str) -> Vec<String> {
        codes(&self.reads(serial))
    }
}

fn codes(inspection: &Inspection) -> Vec<String> {
    inspection.verdict.reasons.iter().map(|reason| reason.code.clone()).collect()
}

const LUHN: &str =
    "alphabet = \"0123456789OI\"\ncheck_digit = { scheme = \"luhn\", skip = \"OI\" }";

/// Letters that no scheme over digits counts, so that a misread one can be written down at all.
const LOOKS: &str = "confusions = [\"0O\", \"1I\"]";

#[test]
fn the_only_repair_is_proposed_and_the_part_goes_to_review() {
    let mut line = Line::new(
        "alphabet = \"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\"\ncheck_digit = \"mod37_36\"",
        LOOKS,
    );
    // Right: A7K2M90 and its check character; read with the letter O for the 0.
    let scheme = inspectd::verdict::CheckDigit::named("mod37_36").expect("a scheme");
    let check = scheme.right("A7K2M90_".replace('_', "0").as_str()).expect("a check character");
    let (good, misread) = (format!("A7K2M90{check}"), format!("A7K2M9O{check}"));
    let first = line.reads(&good);
    assert_eq!(first.verdict.outcome, Outcome::Pass, "{:?}", first.verdict);
    assert!(first.serial_facts.is_empty(), "nothing to look up");
    let second = line.reads(&misread);
    assert_eq!(second.verdict.outcome, Outcome::Review);
    assert_eq!(codes(&second), ["serial_check_digit", "serial_proposed"]);
    assert_eq!(second.serial(), Some(misread.as_str()), "the record says what was read");
    assert_eq!(second.serial_proposed(), Some(good.as_str()));
    assert!(second.verdict.reasons[1].text.contains("0 for O at 7"), "{:?}", second.verdict);
    // Nothing that looks like it holds: no proposal.
    assert_eq!(line.codes("A7K2M93Z"), ["serial_check_digit"]);
}

#[test]
fn an_accepted_repair_passes_and_stands_in_finding_record_and_message() {
    let rules = format!("{LOOKS}\naccept_repairs = true\nexpected = \"serials.txt\"");
    let mut line = Line::new("alphabet = \"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\"", &rules);
    let list = line.site.dir.path().join("stations/serials.txt");
    fs::write(&list, "# order 7\nA7K2M90X\nB7K2M90X\n").expect("written");
    let repaired = line.reads("A7K2M9OX");
    assert_eq!(repaired.verdict.outcome, Outcome::Pass, "{:?}", repaired.verdict);
    assert_eq!(repaired.serial(), Some("A7K2M90X"));
    assert_eq!(repaired.serial_proposed(), None);
    let Seen::Serial { value, proposed: Some(repair) } = &repaired.findings[0].seen else {
        panic!("{:?}", repaired.findings[0])
    };
    assert_eq!((value.as_deref(), repair.accepted), (Some("A7K2M9OX"), true));
    let facts = repaired.serial_facts[0].list.as_ref().expect("the list was asked");
    assert_eq!(facts.digest, inspectd::vlm::Digest::of(b"A7K2M90X\nB7K2M90X\n").to_string());
    assert_eq!((facts.entries, facts.has_reading), (2, false));
}

#[test]
fn a_repair_that_is_one_of_two_is_no_repair() {
    let rules = format!("{LOOKS}\naccept_repairs = true\nexpected = \"serials.txt\"");
    let mut line = Line::new("alphabet = \"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\"", &rules);
    let list = line.site.dir.path().join("stations/serials.txt");
    fs::write(&list, "A7K2M90X\nA7K2M9OX\nC1C1C1C1\n").expect("written");
    assert_eq!(line.codes("A7K2M90X"), ["serial_ambiguous"], "both are expected");
    assert_eq!(line.codes("C1CIC1C1"), Vec::<String>::new());
    fs::write(&list, "A01K2M9X\nAOIK2M9X\n").expect("written");
    assert_eq!(line.codes("A0IK2M9X"), ["serial_unexpected"], "two repairs are none");
}

#[test]
fn a_record_may_not_be_forged_by_a_proposal_of_its_own() {
    let line = Line::new(LUHN, "");
    let rules = line.station("demo").rules;
    let seen = Seen::Serial {
        value: Some("79927390".into()),
        proposed: Some(inspectd::verdict::serial::Repair {
            serial: "79927398".into(),
            accepted: true,
        }),
    };
    let (question, region) = ("serial".into(), "r".into());
    let finding = Finding { question, region, seen, confidence: 1.0, is_unrated: false };
    let verdict = judge(&[finding], &rules, &[]);
    assert!(verdict.reasons.iter().any(|reason| reason.code == "serial_check_digit"));
}

#[test]
fn the_same_serial_on_another_part_is_review_and_names_the_record() {
    let mut line = Line::new("", "unique_within = \"30d\"");
    let first = line.reads("A7K2M9PX");
    assert_eq!(first.verdict.outcome, Outcome::Pass, "{:?}", first.verdict);
    let again = line.reads_at("demo", &first.part_id, "A7K2M9PX");
    assert_eq!(again.verdict.outcome, Outcome::Pass, "the same part, looked at twice");
    let second = line.reads("A7K2M9PX");
    assert_eq!(codes(&second), ["serial_duplicate"]);
    let text = &second.verdict.reasons[0].text;
    assert!(text.contains("record 2") && text.contains(&again.result_id.to_string()), "{text}");
    assert_eq!(second.serial_facts[0].earlier.as_ref().map(|earlier| earlier.sequence), Some(2));
    line.restart();
    assert_eq!(line.codes("A7K2M9PX"), ["serial_duplicate"], "the window goes on");
    line.clock.advance(Duration::from_secs(31 * 24 * 3600));
    // What dates the old records as older than the window is that they followed a time source.
    assert_eq!(line.codes("A7K2M9PX"), Vec::<String>::new());
    assert_eq!(line.codes("A7K2M9PX"), ["serial_duplicate"]);
}

#[test]
fn a_window_of_days_without_a_sure_clock_counts_whatever_may_be_within_it() {
    let mut line = Line::new("", "unique_within = \"30d\"");
    line.reads("A7K2M9PX");
    line.clock.advance(Duration::from_secs(31 * 24 * 3600));
    line.is_sure = false;
    assert_eq!(line.codes("A7K2M9PX"), ["serial_duplicate"], "nobody knows how late it is");
    line.is_sure = true;
    line.reads("B7K2M9PX");
    line.is_sure = false;
    // It is now at least as late as the last sure record says; the first one is older than 30 days.
    // The second has no time, and may be within them.
    let third = line.reads("A7K2M9PX");
    assert_eq!(third.serial_facts[0].earlier.as_ref().map(|earlier| earlier.sequence), Some(2));
}

#[test]
fn a_window_of_parts_counts_the_station_s_parts() {
    let mut line = Line::new("", "unique_within = \"2 parts\"");
    line.reads("A7K2M9PX");
    line.reads("B7K2M9PX");
    assert_eq!(line.codes("A7K2M9PX"), ["serial_duplicate"], "two parts ago");
    line.reads("C7K2M9PX");
    line.reads("D7K2M9PX");
    assert_eq!(line.codes("A7K2M9PX"), Vec::<String>::new(), "three parts ago");
}

#[test]
fn another_station_counts_by_choice_alone() {
    for (scope, expected) in [("station", None), ("device", Some("serial_duplicate"))] {
        let rules = format!("unique_within = \"1000 parts\"\nscope = \"{scope}\"");
        let mut line = Line::new("", &rules);
        line.reads_at("first", "000001", "A7K2M9PX");
        // The part's number is each station's own count: the same number is not the same part.
        let second = line.reads_at("second", "000001", "A7K2M9PX");
        assert_eq!(codes(&second).first().map(String::as_str), expected, "{scope}");
    }
}

#[test]
fn a_duplicate_fails_by_choice_but_a_look_alike_never_does() {
    let rules = format!("{LOOKS}\nunique_within = \"1h\"\nduplicate = \"fail\"");
    let mut line = Line::new("alphabet = \"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\"", &rules);
    line.reads("A7K2M90X");
    let look_alike = line.reads("A7K2M9OX");
    assert_eq!(look_alike.verdict.outcome, Outcome::Review);
    assert_eq!(codes(&look_alike), ["serial_look_alike"]);
    let duplicate = line.reads("A7K2M90X");
    assert_eq!(duplicate.verdict.outcome, Outcome::Fail);
    let facts = duplicate.serial_facts[0].earlier.as_ref().expect("an earlier part");
    assert_eq!((facts.sequence, facts.serial.as_str()), (1, "A7K2M90X"), "the same goes first");
}

#[test]
fn a_serial_with_a_wrong_check_digit_cannot_fail_by_what_it_seems_to_be() {
    let rules = "unique_within = \"1h\"\nduplicate = \"fail\"\nexpected = \"serials.txt\"\n\
                 unexpected = \"fail\"";
    let mut line = Line::new("alphabet = \"0123456789\"\ncheck_digit = \"gs1\"", rules);
    fs::write(line.site.dir.path().join("stations/serials.txt"), "40063812\n").expect("written");
    let wrong = line.reads("40063813");
    assert_eq!(wrong.verdict.outcome, Outcome::Review, "{:?}", wrong.verdict);
    assert_eq!(codes(&wrong), ["serial_check_digit", "serial_unexpected"]);
    let foreign = line.reads("12345670");
    assert_eq!(
        (foreign.verdict.outcome, codes(&foreign)),
        (Outcome::Fail, vec!["serial_unexpected".into()])
    );
}

#[test]
fn each_expected_serial_is_for_one_part() {
    let rules = "expect_commands = true\nexpected_once = true";
    let mut line = Line::new("", rules);
    assert_eq!(line.codes("A7K2M9PX"), ["serial_unexpected"], "nothing is expected yet");
    let station = line.station("demo");
    let lists = line.lists(&station);
    lists.apply("demo", br#"{"add":["B7K2M9PX"]}"#).expect("allowed");
    let digest = lists.get("demo").expect("a list").listed("x", &[]).digest;
    drop(lists);
    let first = line.reads("B7K2M9PX");
    assert_eq!(first.verdict.outcome, Outcome::Pass, "{:?}", first.verdict);
    assert_eq!(first.serial_facts[0].list.as_ref().map(|list| &list.digest), Some(&digest));
    line.restart();
    let second = line.reads("B7K2M9PX");
    assert_eq!(codes(&second), ["serial_used"]);
    assert_eq!(second.serial_facts[0].used.as_ref().map(|used| used.sequence), Some(2));
}

#[test]
fn what_cannot_be_looked_up_is_review() {
    let line = Line::new("", "unique_within = \"30d\"\nexpect_commands = true");
    let station = Arc::new(line.station("demo"));
    let clock: Arc<dyn Clock> = line.clock.clone();
    let now = clock.now();
    let mut part = Part::new(&station, 1, "1".into(), now);
    part.frame = Some(Arc::new(Frame {
        sequence: 1,
        camera: Arc::from("demo"),
        captured: now,
        pipeline_ns: None,
        picture: some_picture().into(),
    }));
    // An inspector without a ledger.
    let mut inspector =
        Inspector::new(Reads("A7K2M9PX".into()), Clerk::new(clock, "box", "m", "p"));
    let inspection = inspector.inspect(&part, &Kept);
    assert_eq!(inspection.verdict.outcome, Outcome::Review);
    assert!(codes(&inspection).contains(&"serial_unchecked".to_owned()));
}

#[test]
fn a_missing_fact_never_passes() {
    let line = Line::new("", "unique_within = \"30d\"");
    let rules = line.station("demo").rules;
    let serial = Seen::Serial { value: Some("A7K2M9PX".into()), proposed: None };
    let finding = |seen| Finding {
        question: "q".into(),
        region: "r".into(),
        seen,
        confidence: 1.0,
        is_unrated: false,
    };
    let findings = [finding(serial), finding(Seen::Inspected { count: 0 })];
    let verdict = judge(&findings, &rules, &[]);
    assert_eq!(verdict.outcome, Outcome::Review);
    let codes: Vec<&str> =
        verdict.reasons.iter().map(|reason: &Reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["serial_unchecked"]);
}

#[test]
fn a_simulated_record_does_not_count_for_the_line() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = records::open(dir.path());
    let mut simulated = records::inspection("press", 1);
    simulated.is_simulated = true;
    store.commit(&simulated, &[]).expect("recorded");
    let serial = simulated.serial().expect("a serial").to_owned();
    let texts = [serial.clone()];
    let query = |is_simulated| inspectd::verdict::serial::EarlierQuery {
        station: "press",
        part_id: "another",
        job_id: Some(2),
        serial: &serial,
        texts: &texts,
        window: inspectd::verdict::serial::Window::Always,
        scope: Default::default(),
        now_ms: None,
        is_simulated,
    };
    assert_eq!(store.earlier_serial(&query(false)).expect("readable"), None);
    let reader = store.reader().expect("opens");
    assert!(reader.earlier_serial(&query(true)).expect("readable").is_some());
}

#[test]
fn a_record_from_before_serials_were_looked_up_is_read() {
    let inspection = records::inspection("press", 1);
    let text = serde_json::to_string(&inspection).expect("JSON");
    assert!(!text.contains("serial_facts") && !text.contains("proposed"), "{text}");
    assert_eq!(serde_json::from_str::<Inspection>(&text).expect("a record"), inspection);
}

fn test(site: &Site) -> Command {
    let mut command = Command::cargo_bin("inspectd").expect("built by cargo");
    command.args(["serial", "test", "--station", "demo", "-c"]).arg(&site.file);
    command
}

#[test]
fn serial_test_says_what_each_rule_says() {
    let rules = format!("{LOOKS}\nunique_within = \"30d\"\nexpected = \"serials.txt\"");
    let question = "alphabet = \"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\"";
    let mut line = Line::new(question, &rules);
    fs::write(line.site.dir.path().join("stations/serials.txt"), "A7K2M90X\nB7K2M90X\n")
        .expect("written");
    test(&line.site).arg("B7K2M90X").assert().success();
    assert!(!line.site.database().exists(), "nothing is written");
    line.reads("A7K2M90X");
    line.restart();
    let output = test(&line.site).args(["A7K2M9OX", "A7K2M90X", "B7K2M90X", "A7"]).assert().code(6);
    let table = String::from_utf8(output.get_output().stdout.clone()).expect("UTF-8");
    for part in ["A7K2M90X proposed", "record 1", "serial_duplicate", "serial_template", "no, of 2"]
    {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let output =
        test(&line.site).arg("--json").write_stdin("B7K2M90X\r\n\nA7K2M9OX\n").assert().code(6);
    let text = String::from_utf8(output.get_output().stdout.clone()).expect("UTF-8");
    let all: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["verdict"], "pass");
    assert_eq!(all[1]["repair"]["serial"], "A7K2M90X");
    test(&line.site).write_stdin("").assert().code(2);
}
