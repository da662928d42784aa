//! Disks that are full, read-only, or taken by another program.
//!
//! Each test runs in a mount namespace of its own, on a small tmpfs that is gone with it. Where the
//! system allows neither, the test says that it was skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use inspectd::frame::Rgb8;
use inspectd::inspection::Inspection;
use inspectd::store::{Filter, Reader, ReserveState, Store, StoreError, StoreOptions};
use inspectd::verdict::Outcome;
use inspectd::{config, simulate};
use tempfile::tempdir;

use crate::support::records::{clock, inspection, open};
use crate::support::station::Site;

/// Runs `script` with `$DISK` mounted as an empty tmpfs of `kib` KiB. `None`: not allowed here.
fn on_small_disk(kib: u32, script: &str, arguments: &[&str]) -> Option<Output> {
    on_disk(&format!("mount -t tmpfs -o size={kib}k tmpfs \"$DISK\""), script, arguments)
}

/// Runs `script` in a mount namespace of its own, after `mount` has mounted something at `$DISK`. `None`:
/// not allowed here.
fn on_disk(mount: &str, script: &str, arguments: &[&str]) -> Option<Output> {
    let disk = tempdir().expect("a folder");
    let mount = format!("{mount} || exit 77\n{script}");
    let run = |namespace: &str| {
        Command::new("unshare")
            .args([namespace, "sh", "-c", &mount, "sh"])
            .args(arguments)
            .env("DISK", disk.path())
            .output()
            .ok()
            .filter(|output| output.status.success() || was_entered(output))
    };
    // With rights, or as a user who is root inside only.
    let output = run("-m").or_else(|| run("-Urm"));
    if output.is_none() {
        eprintln!("SKIPPED: this system does not let us do in a namespace:  {mount}");
    }
    output
}

/// Whether the script itself ran: `unshare` fails with 1 and a word of its own.
fn was_entered(output: &Output) -> bool {
    let told = String::from_utf8_lossy(&output.stderr);
    output.status.code() != Some(77) && !told.contains("unshare:")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Runs the ignored test `name` of this file on a small disk.
fn child(kib: u32, name: &str) {
    let room = module_path!().split_once("::").map_or("", |(_, room)| room);
    let mount = format!("mount -t tmpfs -o size={kib}k tmpfs \"$DISK\"");
    child_on_disk(&mount, &format!("{room}::{name}"));
}

/// Runs the ignored test of this full name after `mount`, as [`on_disk`]; its temporary files, too, lie
/// where `$DISK` is.
pub fn child_on_disk(mount: &str, name: &str) {
    let program = std::env::current_exe().expect("this program").display().to_string();
    let script = "export TMPDIR=\"$DISK\"; exec \"$1\" --exact \"$2\" --ignored --nocapture";
    let Some(output) = on_disk(mount, script, &[&program, name]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("1 passed"), "it ran: {}", said(&output));
    println!("{}", said(&output));
}

/// Writes a file until the disk is full.
pub fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}

fn picture(number: u8) -> Rgb8 {
    let mut picture = Rgb8::new(64, 64);
    picture.data.fill(number);
    picture
}

const RESERVE_BYTES: u64 = 2 << 20;

#[test]
#[ignore = "started by a_full_disk_costs_pictures_then_the_daemon_but_no_record"]
fn child_full() {
    let Some(disk) = std::env::var_os("DISK").map(PathBuf::from) else { return };
    let options = StoreOptions { reserve_bytes: RESERVE_BYTES, ..StoreOptions::in_dir(&disk) };
    let store = Store::open(&options, clock()).expect("opens");
    assert_eq!(store.reserve(), ReserveState::Whole);
    let held = std::fs::metadata(disk.join("inspectd.db.reserve")).expect("is there");
    assert!(std::os::unix::fs::MetadataExt::blocks(&held) * 512 >= RESERVE_BYTES);
    let mut acknowledged = Vec::new();
    let mut job = 0;
    let mut commit_while = |state: ReserveState| {
        for _ in 0..2000 {
            job += 1;
            let look = inspection("left", job);
            match store.commit(&look, &[]) {
                Ok(_) => acknowledged.push(look),
                Err(why) => return Some(why),
            }
            if store.reserve() != state {
                return None;
            }
        }
        panic!("the disk never filled");
    };
    store.put_evidence(&picture(1)).expect("there is room");
    let unfinished =
        || std::fs::read_dir(disk.join("evidence/.unfinished")).expect("a folder").count();
    let filler = disk.join("filler");
    fill(&filler);
    let told = store.put_evidence(&picture(2)).expect_err("there is no room");
    assert!(matches!(told, StoreError::Full { .. }), "{told}");
    assert_eq!(unfinished(), 0, "what was begun takes no room");
    assert!(commit_while(ReserveState::Whole).is_none(), "the reserve takes the record");
    assert_eq!(store.reserve(), ReserveState::InUse);
    let told = store.put_evidence(&picture(2)).expect_err("what is left is for records");
    assert!(matches!(told, StoreError::NoPictures { .. }), "{told}");
    assert_eq!(store.tend_reserve(), ReserveState::InUse, "there is no room for it yet");

    // Space is back: the reserve is made again, and pictures are kept.
    std::fs::remove_file(&filler).expect("removed");
    assert_eq!(store.tend_reserve(), ReserveState::Whole);
    store.put_evidence(&picture(2)).expect("there is room");

    // Full again, and nobody frees anything: down to the last, and then an error that says so.
    fill(&filler);
    assert!(commit_while(ReserveState::Whole).is_none());
    assert!(commit_while(ReserveState::InUse).is_none());
    assert_eq!(store.reserve(), ReserveState::Spent);
    let told = commit_while(ReserveState::Spent).expect("the end");
    assert!(matches!(told, StoreError::Full { .. }), "{told}");
    drop(store);
    std::fs::remove_file(&filler).expect("removed");
    let store = open(&disk);
    let records = store.reader().expect("reads").list(&Filter::default()).expect("reads");
    let looks: Vec<Inspection> =
        records.iter().map(|one| one.inspection().expect("whole")).collect();
    assert_eq!(looks, acknowledged, "what was acknowledged is there, and nothing else");
}

#[test]
fn a_full_disk_costs_pictures_then_the_daemon_but_no_record() {
    child(8 << 10, "child_full");
}

#[test]
#[ignore = "started by a_store_opens_on_a_disk_that_is_full"]
fn child_opens_full() {
    let Some(disk) = std::env::var_os("DISK").map(PathBuf::from) else { return };
    let options = StoreOptions { reserve_bytes: RESERVE_BYTES, ..StoreOptions::in_dir(&disk) };
    let store = Store::open(&options, clock()).expect("opens");
    store.commit(&inspection("left", 1), &[]).expect("committed");
    drop(store);
    fill(&disk.join("filler"));
    let store = Store::open(&options, clock()).expect("opens on what is in reserve");
    assert_eq!(store.reserve(), ReserveState::InUse);
    store.commit(&inspection("left", 2), &[]).expect("committed");
    assert!(matches!(store.put_evidence(&picture(1)), Err(StoreError::NoPictures { .. })));
    drop(store);
    // Without a reserve it is refused, with the reason.
    let none = StoreOptions { reserve_bytes: 0, ..options };
    fill(&disk.join("more"));
    let _ = std::fs::remove_file(disk.join("inspectd.db.reserve"));
    fill(&disk.join("most"));
    let told = Store::open(&none, clock()).expect_err("no room at all").to_string();
    assert!(told.contains("full"), "{told}");
}

#[test]
fn a_store_opens_on_a_disk_that_is_full() {
    child(8 << 10, "child_opens_full");
}

#[test]
fn a_backup_or_export_that_finds_the_disk_full_says_so_and_leaves_nothing() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    for job in 1..=300 {
        store.commit(&inspection("left", job), &[]).expect("committed");
    }
    let log = dir.path().join("inspectd.db").display().to_string();
    let script = "\
        \"$1\" audit --database \"$2\" backup --to \"$DISK/copy.db\" && exit 1
        \"$1\" audit --database \"$2\" export --out \"$DISK/all.jsonl\" && exit 1
        ls -A \"$DISK\"";
    let program = env!("CARGO_BIN_EXE_inspectd").to_owned();
    let Some(output) = on_small_disk(128, script, &[&program, &log]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "", "nothing half is left");
    let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(told.contains("disk is full") && told.contains("no space left"), "{told}");
}

/// A line of 24 pictures, each a part, with its log on a disk of its own.
fn site(disk: &str) -> Site {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let out = site.dir.path().join("set");
    let mix = simulate::Mix::default();
    let options = simulate::SetOptions { count: 24, seed: 99, dense: false, mix, out };
    simulate::write_set(&options, |_| {}).expect("a set is written");
    site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
    site.edit("kind = \"presence\"", "kind = \"every_frame\"");
    site.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    let main = std::fs::read_to_string(&site.file).expect("readable");
    let main = main
        .replace("path = \"audit.db\"", &format!("path = \"{disk}/audit.db\""))
        .replace("evidence = \"evidence\"", &format!("evidence = \"{disk}/evidence\""))
        .replace("reserve_mib = 1", "reserve_mib = 2");
    std::fs::write(&site.file, main).expect("written");
    config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    site
}

#[test]
fn a_line_whose_disk_fills_records_each_part_and_passes_none_without_its_picture() {
    let link = tempdir().expect("a folder");
    // The disk's folder is known when it is mounted: a link stands for it in the configuration.
    let disk = link.path().join("disk");
    let site = site(&disk.display().to_string());
    let script = "\
        ln -s \"$DISK\" \"$3\"
        \"$1\" run --config \"$2\" >&2 || exit 3
        \"$1\" audit --config \"$2\" export";
    let program = env!("CARGO_BIN_EXE_inspectd").to_owned();
    let (config, disk) = (site.file.display().to_string(), disk.display().to_string());
    let Some(output) = on_small_disk(4 << 10, script, &[&program, &config, &disk]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let looks: Vec<Inspection> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|value| serde_json::from_value(value["inspection"].clone()).expect("whole"))
        .collect();
    let mut jobs: Vec<u64> = looks.iter().map(|look| look.job_id).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, (1..=24).collect::<Vec<_>>());
    let without: Vec<&Inspection> = looks.iter().filter(|look| look.evidence.is_empty()).collect();
    assert!(!without.is_empty() && without.len() < 24, "{} of 24 without", without.len());
    for look in without {
        let codes: Vec<&str> = look.verdict.reasons.iter().map(|one| one.code.as_str()).collect();
        assert!(codes.contains(&"evidence_lost"), "{codes:?}");
        assert_ne!(look.verdict.outcome, Outcome::Pass);
    }
    assert!(said(&output).contains("DISK FULL"), "{}", said(&output));
}

#[test]
fn a_disk_that_cannot_be_written_is_exit_code_4_and_its_log_is_untouched() {
    let dir = tempdir().expect("a folder");
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    drop(open(dir.path()));
    std::fs::rename(dir.path().join("inspectd.db"), site.database()).expect("moved");
    let before = std::fs::read(site.database()).expect("is there");
    // Not a new disk, but the site's own folder, bound read-only to itself.
    let script = "\
        mount --bind \"$3\" \"$3\" && mount -o remount,bind,ro \"$3\" || exit 77
        \"$1\" run --config \"$2\"";
    let program = env!("CARGO_BIN_EXE_inspectd").to_owned();
    let (config, folder) = (site.file.display().to_string(), site.dir.path().display().to_string());
    let Some(output) = on_small_disk(64, script, &[&program, &config, &folder]) else { return };
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).to_lowercase().contains("read-only"), "{}", said(&output));
    assert_eq!(std::fs::read(site.database()).expect("is there"), before);
}

#[test]
fn a_database_that_another_program_holds_is_said_and_the_record_can_be_written_after() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("inspectd.db")).expect("opens");
    raw.execute_batch("BEGIN IMMEDIATE").expect("held");
    let look = inspection("left", 1);
    let told = store.commit(&look, &[]).expect_err("held");
    assert!(matches!(told, StoreError::Locked { .. }), "{told}");
    assert!(told.to_string().contains("locked by another program"), "{told}");
    raw.execute_batch("ROLLBACK").expect("let go");
    assert_eq!(store.commit(&look, &[]).expect("committed"), 1);
    let reader = Reader::open(&dir.path().join("inspectd.db")).expect("reads");
    assert_eq!(reader.count(&Filter::default()).expect("counts"), 1);
}
