//! The program itself: its daemon beside a real server, and the commands about the copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inspectd::store::Reader;

use crate::support::mosquitto::DEADLINE;
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::service::{Service, command};
use crate::support::station::Site;

/// A site that copies to `server`.
fn site(server: &Postgres) -> Site {
    let site = Site::of_pictures(None);
    fs::write(site.dir.path().join("pg.password"), format!("{PASSWORD}\n")).expect("written");
    let table = format!(
        "[postgres]\nhost = \"127.0.0.1\"\nport = {}\npassword_file = \"pg.password\"\n\
         batch_records = 5\nbackoff_min_ms = 50\nbackoff_max_ms = 200\n",
        server.port()
    );
    let main = fs::read_to_string(&site.file).expect("readable");
    fs::write(&site.file, main + &table).expect("written");
    site
}

fn records(site: &Site) -> u64 {
    let reader = Reader::open(&site.database()).expect("reads");
    reader.chain_end().expect("reads").unsigned_abs()
}

/// Waits until the log has `more` records than now.
fn wait_for_records(site: &Site, more: u64) {
    let (until, before) = (Instant::now() + DEADLINE, records(site));
    while records(site) < before + more {
        assert!(Instant::now() < until, "the line does not go on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn count(server: &Postgres) -> u64 {
    server.value("SELECT count(*) FROM inspectd.records").parse().expect("a number")
}

fn log_of(site: &Site) -> String {
    fs::read_to_string(site.dir.path().join("log")).expect("there")
}

/// Standard output, standard error and exit code of a command about `file`.
fn told(file: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = command(file, arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn a_line_runs_on_without_its_server_and_the_copy_follows() {
    let mut server = Postgres::start();
    server.crash();
    let site = site(&server);
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    wait_for_records(&site, 20);
    let status = service.command(&["top", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    let copy = &status["postgres"];
    assert!(copy["connected"] == false && copy["waiting"].as_u64() >= Some(20), "{copy}");
    let text = String::from_utf8(service.command(&["top", "--once"]).stdout).expect("text");
    assert!(text.contains("PostgreSQL AWAY"), "{text}");
    let (out, _, _) = told(&site.file, &["doctor"]);
    assert!(out.contains("no connection to PostgreSQL"), "{out}");
    let (_, err, code) = told(&site.file, &["upstream", "check"]);
    assert!(code == Some(6) && err.contains("no connection to PostgreSQL"), "{err}");
    assert!(service.stop().0.success(), "a clean end, with all of it in the log");

    server.restart();
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    wait_for_records(&site, 20);
    assert!(service.stop().0.success());
    let (out, _, code) = told(&site.file, &["upstream", "check"]);
    assert!(code == Some(0) && out.contains("nothing waits to be copied"), "{out}");
    assert_eq!(count(&server), records(&site), "the record of the stop is there as well");
    assert_eq!(server.sql("SELECT * FROM inspectd.breaks"), Vec::<Vec<String>>::new());
    let (out, _, _) = told(&site.file, &["doctor"]);
    assert!(out.contains("may change and delete records"), "it made the tables itself: {out}");
    assert!(!log_of(&site).contains(PASSWORD));

    // One who changed a record is found, by an exit code of its own.
    server.sql("UPDATE inspectd.records SET body = body || ' ' WHERE sequence = 4");
    let (out, err, code) = told(&site.file, &["upstream", "check", "--all"]);
    assert_eq!(code, Some(7), "{out}{err}");
    assert!(out.contains("BROKEN: altered_record at record 4"), "{out}");
}

/// Killed between the insertion and its commit, and between the commit and whatever would note it.
#[cfg(feature = "fault-points")]
#[test]
fn killed_in_the_middle_of_a_copy_every_record_is_there_once() {
    let server = Postgres::start();
    let site = site(&server);
    for point in ["copy_written:2", "copy_done:2", "copy_written:9", "copy_done:9"] {
        let mut service = Service::start(&site, None, &[("INSPECTD_DIE_AT", point)]);
        service.wait_to_be_killed();
    }
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    wait_for_records(&site, 10);
    assert!(service.stop().0.success());
    let (out, err, code) = told(&site.file, &["upstream", "check"]);
    assert!(code == Some(0) && out.contains("whole: "), "{out}{err}");
    assert_eq!(count(&server), records(&site));
    let distinct = "SELECT count(DISTINCT (chain_id, sequence)) = count(*) FROM inspectd.records";
    assert_eq!(server.value(distinct), "t");
}

#[test]
fn an_administrator_gets_the_tables_and_an_office_needs_no_device() {
    let server = Postgres::start();
    let site = site(&server);
    let schema = assert_cmd::Command::cargo_bin("inspectd")
        .expect("built by cargo")
        .args(["upstream", "schema", "plant"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    server.sql(std::str::from_utf8(&schema).expect("UTF-8"));
    assert_eq!(server.value("SELECT count(*) FROM plant.records"), "0");
    let mut service = Service::start(&site, None, &[]);
    service.wait_for("READY=1");
    wait_for_records(&site, 5);
    assert!(service.stop().0.success());
    // A file with nothing but where the server is.
    let office: PathBuf = site.dir.path().join("office.toml");
    let table = format!(
        "[database]\npath = \"none.db\"\n[postgres]\nhost = \"127.0.0.1\"\nport = {}\npassword_file = \"pg.password\"\n",
        server.port()
    );
    fs::write(&office, table).expect("written");
    let (out, err, code) = told(&office, &["upstream", "check", "--all"]);
    assert!(code == Some(0) && out.contains("log of box"), "{out}{err}");
    assert!(out.contains("the log itself is not on this machine"), "{out}");
    let (_, err, code) = told(&office, &["upstream", "check"]);
    assert!(code == Some(2) && err.contains("--log"), "{err}");
}
