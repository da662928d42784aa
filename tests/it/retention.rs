//! Retention on a real log with real files: what goes, what stays, and what the log says of it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inspectd::clock::{Clock, Stamp};
use inspectd::frame::Rgb8;
use inspectd::inspection::{Evidence, Inspection};
use inspectd::roi::RectPx;
use inspectd::store::retention::{Class, Pruner, Round, Rules, Time, UnderPressure, Why, preview};
use inspectd::store::verify::{Report, VerifyOptions, verify};
use inspectd::store::{Disposition, Store, StoreOptions, disposition, report};
use inspectd::verdict::{Outcome, Reason};
use tempfile::{TempDir, tempdir};

use crate::support::records::{inspection, options};
use crate::support::station::Site as Line;

const DAY: Duration = Duration::from_secs(86_400);

/// A clock that a test sets.
struct Turned(Mutex<(Stamp, bool)>);

impl Turned {
    /// At day 1,000 after 1970, following a time source.
    fn new() -> Arc<Turned> {
        let wall = jiff::Timestamp::UNIX_EPOCH + DAY * 1000;
        Arc::new(Turned(Mutex::new((Stamp { wall, monotonic_ns: 0 }, true))))
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) {
        let mut state = self.0.lock().expect("no panic");
        state.0.wall += time;
        state.0.monotonic_ns += time.as_nanos() as u64;
    }

    /// Sets the wall clock ahead without time passing.
    fn jump(&self, ahead: Duration) {
        self.0.lock().expect("no panic").0.wall += ahead;
    }

    fn follow(&self, source: bool) {
        self.0.lock().expect("no panic").1 = source;
    }
}

impl Clock for Turned {
    fn now(&self) -> Stamp {
        self.0.lock().expect("no panic").0
    }

    fn boot_id(&self) -> String {
        "boot".into()
    }

    fn synchronized(&self) -> bool {
        self.0.lock().expect("no panic").1
    }
}

/// A log with its clock and what it is to keep.
struct Site {
    dir: TempDir,
    clock: Arc<Turned>,
    store: Store,
    jobs: u64,
}

impl Site {
    fn new() -> Site {
        let (dir, clock) = (tempdir().expect("a folder"), Turned::new());
        let store = Store::open(&options(dir.path()), clock.clone()).expect("opens");
        Site { dir, clock, store, jobs: 0 }
    }

    fn options(&self, retention: Rules) -> StoreOptions {
        StoreOptions { retention, ..options(self.dir.path()) }
    }

    /// Commits a record of this outcome about `picture`; answers the digest of its file.
    fn record(&mut self, outcome: Outcome, picture: &Rgb8) -> String {
        let sha256 = self.store.put_evidence(picture).expect("kept");
        self.commit(outcome, &sha256, |_| {});
        sha256
    }

    fn commit(&mut self, outcome: Outcome, sha256: &str, change: impl FnOnce(&mut Inspection)) {
        self.jobs += 1;
        let mut look = inspection("left", self.jobs);
        look.verdict.outcome = outcome;
        look.times.decided = self.clock.now();
        look.times.clock_synchronized = self.clock.synchronized();
        let frame_px = RectPx { x: 0, y: 0, width: 16, height: 16 };
        look.evidence = vec![Evidence {
            region: "label".into(),
            frame_sequence: None,
            frame_px,
            sha256: sha256.into(),
        }];
        change(&mut look);
        self.store.commit(&look, &[]).expect("committed");
    }

    /// A record of a part that nobody looked at, for this reason.
    fn missed(&mut self, code: &str) -> String {
        let sha256 = self.store.put_evidence(&picture(9000 + self.jobs)).expect("kept");
        self.commit(Outcome::Review, &sha256, |look| {
            look.questions.clear();
            look.verdict.reasons = vec![Reason::new(code, "Nobody looked.")];
        });
        sha256
    }

    fn has(&self, sha256: &str) -> bool {
        self.store.evidence_path(sha256).exists()
    }

    fn pruner(&self, rules: Rules) -> Pruner {
        Pruner::open(&self.store, rules).expect("opens")
    }

    /// What a person decides about the newest record.
    fn decide(&self, disposition: Disposition) {
        let (path, wanted) = (self.store.path(), self.jobs.to_string());
        disposition::record(path, &*self.clock, &wanted, disposition, "A. Weber", None)
            .expect("recorded");
    }

    /// The log and its pictures, as `audit verify` sees them.
    fn verified(&self) -> Report {
        let evidence_dir = Some(self.dir.path().join("evidence"));
        let options = VerifyOptions { evidence_dir, ..VerifyOptions::default() };
        let reader = self.store.reader().expect("reads");
        let report = verify(&reader, &options, &mut |_, _| {}).expect("reads");
        assert_eq!(report.break_count, 0, "{:?}", report.breaks);
        report
    }

    fn round(&self, rules: Rules) -> Round {
        self.pruner(rules).round().expect("a round")
    }
}

/// A small picture that no other number has.
fn picture(number: u64) -> Rgb8 {
    let mut picture = Rgb8::new(16, 16);
    picture.data[..8].copy_from_slice(&number.to_le_bytes());
    picture
}

fn days(pass: u32) -> Rules {
    Rules { pass_days: Some(pass), ..Rules::default() }
}

#[test]
fn each_kind_goes_at_its_own_age_and_the_log_names_it_first() {
    let mut site = Site::new();
    let pass = site.record(Outcome::Pass, &picture(1));
    let fail = site.record(Outcome::Fail, &picture(2));
    let review = site.record(Outcome::Review, &picture(3));
    let skipped = site.missed("not_sampled");
    let missed = site.missed("queue_full");
    let rules = Rules {
        pass_days: Some(2),
        not_sampled_days: Some(4),
        missed_days: Some(6),
        fail_days: Some(8),
        review_days: Some(10),
        ..Rules::default()
    };
    let kinds = [&pass, &skipped, &missed, &fail, &review];
    assert_eq!(site.round(rules).files, 0);
    for gone in 1..=kinds.len() {
        site.clock.pass(DAY * 2 + Duration::from_secs(1));
        let told =
            preview(&site.store.reader().expect("reads"), &site.options(rules), &*site.clock)
                .expect("reads");
        let round = site.round(rules);
        assert_eq!((round.files, round.events, round.time), (1, 1, Time::Known), "{gone}");
        assert_eq!(told.parts.values().map(|(files, _)| files).sum::<u64>(), 1, "{told:?}");
        for (at, name) in kinds.iter().enumerate() {
            assert_eq!(site.has(name), at >= gone, "kind {at} after {gone} times two days");
        }
    }
    assert_eq!(site.round(rules), Round { has_read_all: true, ..Round::default() });
    let report = site.verified();
    assert_eq!((report.evidence_files, report.evidence_removed), (0, 5));
    let (reader, evidence) =
        (site.store.reader().expect("reads"), site.dir.path().join("evidence"));
    let mut shown = Vec::new();
    report::show(&reader, "1", false, Some(&evidence), &mut shown).expect("shown");
    let shown = String::from_utf8(shown).expect("UTF-8");
    assert!(shown.contains("removed by retention at 1972"), "{shown}");
}

#[test]
fn without_rules_nothing_goes_and_no_index_is_made() {
    let mut site = Site::new();
    let kept = site.record(Outcome::Pass, &picture(1));
    site.clock.pass(DAY * 900);
    let mut pruner = site.pruner(Rules::default());
    assert_eq!(pruner.round().expect("a round").files, 0);
    assert!(site.has(&kept));
}

#[test]
fn a_picture_that_a_fail_names_too_stays_with_the_fail() {
    let mut site = Site::new();
    let shared = site.record(Outcome::Pass, &picture(1));
    assert_eq!(site.record(Outcome::Fail, &picture(1)), shared);
    assert_eq!(site.record(Outcome::Pass, &picture(1)), shared);
    let alone = site.record(Outcome::Pass, &picture(2));
    site.clock.pass(DAY * 5);
    assert_eq!(site.round(days(1)).files, 1);
    assert!(site.has(&shared) && !site.has(&alone));
    let both = Rules { fail_days: Some(3), ..days(1) };
    assert_eq!(site.round(both).files, 1);
    assert!(!site.has(&shared));
}

#[test]
fn a_picture_that_a_younger_record_names_again_stays() {
    let mut site = Site::new();
    let again = site.record(Outcome::Pass, &picture(1));
    site.clock.pass(DAY * 3);
    site.record(Outcome::Pass, &picture(1));
    assert_eq!(site.round(days(2)).files, 0);
    // It comes back after it has gone, too.
    site.clock.pass(DAY * 3);
    assert_eq!(site.round(days(2)).files, 1);
    assert!(!site.has(&again));
    site.record(Outcome::Pass, &picture(1));
    assert_eq!(site.round(days(2)).files, 0);
    assert!(site.has(&again));
}

#[test]
fn nothing_goes_by_age_while_the_clock_follows_nothing() {
    let mut site = Site::new();
    let old = site.record(Outcome::Pass, &picture(1));
    site.clock.pass(DAY * 5);
    site.clock.follow(false);
    let mut pruner = site.pruner(days(2));
    let round = pruner.round().expect("a round");
    assert_eq!((round.files, round.time), (0, Time::NotSynchronized));
    assert!(site.has(&old));
    site.clock.follow(true);
    assert_eq!(pruner.round().expect("a round").files, 1);
}

#[test]
fn a_record_from_1970_is_as_old_as_the_next_one_whose_clock_was_right() {
    let mut site = Site::new();
    site.clock.follow(false);
    let sha256 = site.store.put_evidence(&picture(1)).expect("kept");
    site.commit(Outcome::Pass, &sha256, |look| {
        look.times.decided.wall = jiff::Timestamp::UNIX_EPOCH;
    });
    site.clock.follow(true);
    let mut pruner = site.pruner(days(2));
    assert_eq!(pruner.round().expect("a round").files, 0, "nobody knows how old it is");
    site.record(Outcome::Fail, &picture(2));
    assert_eq!(pruner.round().expect("a round").files, 0, "it may be of this moment");
    site.clock.pass(DAY * 2 + Duration::from_secs(1));
    assert_eq!(pruner.round().expect("a round").files, 1);
    assert!(!site.has(&sha256));
}

#[test]
fn a_clock_that_jumps_a_year_ahead_is_believed_slowly_also_after_a_restart() {
    let mut site = Site::new();
    let kept = site.record(Outcome::Pass, &picture(1));
    let mut pruner = site.pruner(days(30));
    pruner.round().expect("a round");
    site.clock.jump(DAY * 365);
    for _ in 0..3 {
        let round = pruner.round().expect("a round");
        let ahead = Time::Ahead(365 * DAY.as_millis() as i64);
        assert_eq!((round.files, round.time), (0, ahead));
        drop(pruner);
        pruner = site.pruner(days(30));
    }
    // It runs a day an hour: on the second day it is past the limit.
    let mut hours = 0;
    pruner.round().expect("a round");
    while site.has(&kept) {
        hours += 1;
        assert!(hours < 100, "it goes on");
        site.clock.pass(Duration::from_secs(3600));
        pruner.round().expect("a round");
    }
    assert!((29..=32).contains(&hours), "{hours} hours");
}

#[test]
fn a_clock_that_was_set_right_again_takes_nothing_back() {
    let mut site = Site::new();
    site.record(Outcome::Pass, &picture(1));
    let mut pruner = site.pruner(days(30));
    pruner.round().expect("a round");
    site.clock.jump(DAY * 365);
    pruner.round().expect("a round");
    site.clock.0.lock().expect("no panic").0.wall -= DAY * 365;
    let round = pruner.round().expect("a round");
    assert_eq!((round.files, round.time), (0, Time::Known));
}

#[test]
fn a_round_removes_a_bounded_number() {
    let mut site = Site::new();
    for number in 0..1100 {
        site.record(Outcome::Pass, &picture(number));
    }
    site.clock.pass(DAY * 5);
    let mut pruner = site.pruner(days(1));
    let first = pruner.round().expect("a round");
    assert_eq!((first.files, first.events, first.more), (1000, 2, false));
    let second = pruner.round().expect("a round");
    assert_eq!((second.files, second.events), (100, 1));
    assert_eq!(pruner.round().expect("a round").files, 0);
}

/// Rules that let `bytes` of pictures stay.
fn most(bytes: u64, under_pressure: UnderPressure) -> Rules {
    Rules { max_evidence_bytes: Some(bytes), under_pressure, ..Rules::default() }
}

#[test]
fn for_want_of_space_the_oldest_passes_go_and_what_may_not_go_is_told() {
    let mut site = Site::new();
    let review = site.record(Outcome::Review, &picture(1));
    let fail = site.record(Outcome::Fail, &picture(2));
    let skipped = site.missed("not_sampled");
    let missed = site.missed("queue_full");
    let passes: Vec<String> = (10..20).map(|n| site.record(Outcome::Pass, &picture(n))).collect();
    let bytes =
        |name: &String| std::fs::metadata(site.store.evidence_path(name)).map_or(0, |f| f.len());
    let held: u64 = [&review, &fail, &skipped, &missed].map(bytes).iter().sum();
    let newest: u64 = passes[7..].iter().map(bytes).sum();
    let round = site.round(most(held + newest, UnderPressure::Passes));
    assert_eq!((round.files, round.stuck_bytes), (7, 0));
    assert!(passes[..7].iter().all(|name| !site.has(name)));
    assert!(passes[7..].iter().all(|name| site.has(name)));

    let round = site.round(most(1, UnderPressure::Passes));
    assert_eq!((round.files, round.stuck_bytes, round.more), (3, held - 1, false));
    assert!([&review, &fail, &skipped, &missed].iter().all(|name| site.has(name)));
    let round = site.round(most(1, UnderPressure::NotSampled));
    assert_eq!((round.files, site.has(&skipped), site.has(&fail)), (1, false, true));
    let round = site.round(most(1, UnderPressure::All));
    assert_eq!(round.files, 1);
    assert!(!site.has(&fail), "fails may go by that word");
    assert!(site.has(&review) && site.has(&missed), "who waits for a person never goes");
}

#[test]
fn a_picture_of_a_record_on_its_way_stays() {
    let mut site = Site::new();
    let name = site.record(Outcome::Pass, &picture(1));
    site.clock.pass(DAY * 5);
    let mut pruner = site.pruner(days(1));
    // The same picture again: it is not written anew, and its record is not committed yet.
    assert_eq!(site.store.put_evidence(&picture(1)).expect("kept"), name);
    assert_eq!(pruner.round().expect("a round").files, 0);
    assert!(site.has(&name));
    site.commit(Outcome::Pass, &name, |_| {});
    assert_eq!(pruner.round().expect("a round").files, 0, "the younger record holds it");
    assert!(site.has(&name));
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_all(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("copied")),
        }
    }
}

#[test]
fn after_a_crash_between_the_record_and_the_removal_the_next_round_removes() {
    let mut site = Site::new();
    let names: Vec<String> = (0..5).map(|n| site.record(Outcome::Pass, &picture(n))).collect();
    site.round(days(1));
    let (evidence, before) = (site.dir.path().join("evidence"), site.dir.path().join("before"));
    copy_all(&evidence, &before);
    let index = site.dir.path().join("inspectd.db.pictures");
    let index_before = std::fs::read(&index).expect("is there");
    site.clock.pass(DAY * 5);
    assert_eq!(site.round(days(1)).files, 5);
    // What a power cut leaves: the record of the removal is on the disk, the removal is not.
    copy_all(&before, &evidence);
    std::fs::write(&index, index_before).expect("written");
    assert!(names.iter().all(|name| site.has(name)));
    site.verified();
    assert_eq!(site.round(days(1)).files, 5);
    assert!(names.iter().all(|name| !site.has(name)));
    site.verified();
}

#[test]
fn an_index_that_is_missing_damaged_or_of_another_log_is_made_anew() {
    let index = |site: &Site| site.dir.path().join("inspectd.db.pictures");
    let remove: fn(&Path) = |path| std::fs::remove_file(path).expect("removed");
    let damage: fn(&Path) = |path| std::fs::write(path, b"no database at all").expect("written");
    let strange: fn(&Path) = |path| {
        let mut other = Site::new();
        other.record(Outcome::Pass, &picture(77));
        other.round(days(1));
        std::fs::copy(other.dir.path().join("inspectd.db.pictures"), path).expect("copied");
    };
    for harm in [remove, damage, strange] {
        let mut site = Site::new();
        let old = site.record(Outcome::Pass, &picture(1));
        let held = site.record(Outcome::Fail, &picture(2));
        site.round(days(1));
        harm(&index(&site));
        site.clock.pass(DAY * 5);
        assert_eq!(site.round(days(1)).files, 1);
        assert!(!site.has(&old) && site.has(&held));
    }
}

#[test]
fn a_preview_says_what_would_go_and_changes_nothing() {
    let mut site = Site::new();
    let names: Vec<String> = (0..4).map(|n| site.record(Outcome::Pass, &picture(n))).collect();
    site.record(Outcome::Fail, &picture(9));
    site.clock.pass(DAY * 5);
    let young = site.record(Outcome::Pass, &picture(10));
    let rules = Rules { max_evidence_bytes: Some(1), ..days(2) };
    let reader = site.store.reader().expect("reads");
    let told = preview(&reader, &site.options(rules), &*site.clock).expect("reads");
    assert_eq!(told.parts[&(Why::Age, Class::Pass)].0, 4);
    assert_eq!(told.parts[&(Why::Space, Class::Pass)].0, 1);
    assert_eq!((told.parts.len(), told.all.0), (2, 6));
    assert!(told.stuck_bytes > 0, "the fail may not go");
    assert!(names.iter().chain([&young]).all(|name| site.has(name)));
    assert!(!site.dir.path().join("inspectd.db.pictures").exists());
}

#[test]
fn a_review_may_go_when_a_person_has_decided_and_a_pass_found_bad_is_kept_as_a_fail() {
    let mut site = Site::new();
    let open = site.record(Outcome::Review, &picture(1));
    let mut pruner = site.pruner(most(1, UnderPressure::All));
    assert_eq!(pruner.round().expect("a round").files, 0);
    let decided = site.record(Outcome::Review, &picture(2));
    site.decide(Disposition::Rework);
    let missed = site.missed("queue_full");
    site.decide(Disposition::Pass);
    let escape = site.record(Outcome::Pass, &picture(3));
    site.decide(Disposition::Scrap);
    let pass = site.record(Outcome::Pass, &picture(4));
    site.decide(Disposition::Pass);

    assert_eq!(site.round(most(1, UnderPressure::NotSampled)).files, 1);
    assert!(!site.has(&pass) && site.has(&escape), "who found it bad may need the picture");
    assert_eq!(pruner.round().expect("a round").files, 3);
    assert!([&decided, &missed, &escape].iter().all(|name| !site.has(name)));
    assert!(site.has(&open), "nobody has decided about it");
    site.verified();
}

#[test]
fn a_daemon_prunes_at_its_start_and_the_command_without_one() {
    let line = Line::new(Path::new("/nowhere/line.mkv"), None);
    let out = line.dir.path().join("set");
    let mix = inspectd::simulate::Mix::default();
    let set = inspectd::simulate::SetOptions { count: 30, seed: 7, dense: false, mix, out };
    inspectd::simulate::write_set(&set, |_| {}).expect("a set is written");
    line.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
    line.edit("kind = \"presence\"", "kind = \"every_frame\"");
    line.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
    line.edit("name = \"demo\"", "name = \"demo\"\ninspect_every = 1000");
    let mut main = std::fs::read_to_string(&line.file).expect("readable");
    main += "[retention]\nmax_evidence_mib = 1\nunder_pressure = \"not_sampled\"\n";
    std::fs::write(&line.file, main).expect("written");
    let inspectd = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_inspectd"))
            .args(arguments)
            .env("INSPECTD_CONFIG", &line.file)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let kept = || -> u64 {
        let folders = std::fs::read_dir(line.dir.path().join("evidence")).expect("a folder");
        let files = folders
            .flatten()
            .flat_map(|folder| std::fs::read_dir(folder.path()).expect("a folder").flatten());
        files.map(|file| file.metadata().expect("a file").len()).sum()
    };
    let events = || -> i64 {
        let raw = rusqlite::Connection::open(line.database()).expect("opens");
        let sql = "SELECT count(*) FROM chain WHERE kind = 'retention'";
        raw.query_row(sql, [], |row| row.get(0)).expect("reads")
    };
    inspectd(&["run"]);
    assert!(kept() > 1 << 20, "there is something to remove: {}", kept());
    assert_eq!(events(), 0);
    let told = inspectd(&["audit", "prune", "--dry-run"]);
    assert!(told.contains("not_sampled") && told.contains("space"), "{told}");
    assert!(kept() > 1 << 20 && events() == 0, "it only tells");
    inspectd(&["run"]);
    assert!(events() > 0, "the daemon did it");
    inspectd(&["audit", "prune"]);
    assert!(kept() <= 1 << 20, "{}", kept());
    let told = inspectd(&["audit", "prune", "--dry-run"]);
    assert!(told.contains("Nothing would go"), "{told}");
    inspectd(&["audit", "verify"]);
}
