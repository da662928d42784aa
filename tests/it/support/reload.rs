//! A running daemon that is given other configurations.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use inspectd::inspection::Inspection;
use inspectd::store::Reader;
use inspectd::store::verify::{VerifyOptions, verify};

use super::mosquitto::DEADLINE;
use super::plc::{Running, log};
use super::station::Site;

/// Waits until `is_so`, which is asked again and again.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The file of a station.
pub fn file(site: &Site, station: &str) -> PathBuf {
    site.dir.path().join(format!("stations/{station}.toml"))
}

/// A site whose station looks at a picture some times a second.
pub fn site_of_pictures(broker: Option<u16>) -> Site {
    let site = Site::of_pictures(broker);
    site.edit("repeat = true\nrealtime = false\n", "repeat = true\ninterval_ms = 150\n");
    site
}

/// The records of a station, in their order.
pub fn of(site: &Site, station: &str) -> Vec<Inspection> {
    log(site).into_iter().filter(|look| look.station == station).collect()
}

/// Waits until the station has records of parts that were triggered after now.
pub fn goes_on(site: &Site, station: &str) {
    let now = jiff::Timestamp::now();
    wait_until(&format!("parts of {station}"), || {
        of(site, station).iter().any(|look| look.times.triggered.wall > now)
    });
}

/// Every job of the station, from the first to the last, has a record; and the log is whole.
pub fn nothing_is_lost(site: &Site, stations: &[&str]) {
    for station in stations {
        let jobs: BTreeSet<u64> = of(site, station).iter().map(|look| look.job_id).collect();
        let last = *jobs.last().expect("some");
        assert_eq!(jobs.len() as u64, last, "{station}: every part from 1 to the last");
    }
    let reader = Reader::open(&site.database()).expect("the log opens");
    let report = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).expect("readable");
    assert!(report.breaks.is_empty(), "{report:?}");
}

/// Reloads; the daemon takes it, and has `told` what is another now.
pub fn ok(site: &Site, told: &str) {
    let (code, text) = Running::reload(site);
    assert_eq!((code, text.as_str()), (Some(0), told));
}

/// Reloads; the daemon refuses it and tells all of `parts`.
pub fn refused(site: &Site, parts: &[&str]) {
    let (code, text) = Running::reload(site);
    assert_eq!(code, Some(2), "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "no \"{part}\" in {text}"));
}
