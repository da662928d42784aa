//! Nothing is lost where the database or its disk fails under a daemon at work: another program locks the
//! database, input and output fail, the disk fills, the file system turns read-only. A subscriber that lives
//! through all of it counts.
//!
//! Each test prints its figures: run it with `--nocapture`, or as `scripts/soak` does.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use inspectd::store::{Filter, Reader};
use rusqlite::Connection;
use tokio::runtime::Runtime;

use crate::faults::{Figures, Run, runtime, settle, site};
use crate::full_disk::{child_on_disk, fill};
use crate::support::mosquitto::{DEADLINE, Mosquitto, Subscriber};
use crate::support::station::Site;

/// A broker, who listens to it, and a site that looks at parts without end.
struct Watched {
    _broker: Mosquitto,
    runtime: Runtime,
    subscriber: Subscriber,
    site: Site,
}

impl Watched {
    fn start() -> Watched {
        let (broker, runtime) = (Mosquitto::start(), runtime());
        let subscriber = runtime.block_on(Subscriber::start(broker.port()));
        let site = site(broker.port());
        Watched { _broker: broker, runtime, subscriber, site }
    }

    /// Different results that were told so far.
    fn told(&self) -> usize {
        let results = self.subscriber.seen().results("result_id");
        results.iter().filter_map(|id| id.as_str()).collect::<BTreeSet<_>>().len()
    }

    /// Waits until so many more were told; answers how long that took.
    fn wait_more(&self, count: usize) -> Duration {
        let (since, wanted) = (Instant::now(), self.told() + count);
        let until = since + DEADLINE;
        while self.told() < wanted {
            assert!(Instant::now() < until, "waited in vain for {count} more results");
            std::thread::sleep(Duration::from_millis(5));
        }
        since.elapsed()
    }

    /// The first start after a failure: how long until its first part, and then the figures.
    fn recover(&self) -> (Duration, Figures) {
        let mut run = Run::start(&self.site, &[]);
        let first = run.first_part();
        self.wait_more(3);
        run.kill();
        (first, settle(&self.site, &self.runtime, &self.subscriber))
    }

    fn tell(&self, fault: &str, recovery: Duration, figures: Figures) {
        println!("{fault}: {figures}; recovery {recovery:?}");
        assert_eq!(figures.lost, 0);
    }

    fn records(&self) -> u64 {
        let reader = Reader::open(&self.site.database()).expect("reads");
        reader.count(&Filter::default()).expect("counts")
    }
}

#[test]
fn a_database_that_is_locked_for_longer_than_a_statement_waits_costs_no_part() {
    let watched = Watched::start();
    let mut run = Run::start(&watched.site, &[]);
    run.first_part();
    watched.wait_more(3);
    let other = Connection::open(watched.site.database()).expect("opens");
    other.busy_timeout(DEADLINE).expect("set");
    other.execute_batch("BEGIN EXCLUSIVE").expect("held");
    let held = watched.records();
    // The fault is its length: longer than the 5 seconds for which a statement waits.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(watched.records(), held, "nobody writes meanwhile");
    assert!(run.is_alive(), "it waits");
    other.execute_batch("ROLLBACK").expect("let go");
    let recovery = watched.wait_more(3);
    assert!(run.is_alive(), "it is the same run");
    run.kill();
    let figures = settle(&watched.site, &watched.runtime, &watched.subscriber);
    watched.tell("locked for 7 s", recovery, figures);
}

/// Sets how many bytes of a file the process `pid` may write.
fn limit_files(pid: u32, bytes: libc::rlim_t) {
    let pid = libc::pid_t::try_from(pid).expect("a process number");
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` lives through the call, and nothing is asked to be written back.
    let done = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_disk_that_refuses_every_write_ends_the_run_and_costs_nothing_that_was_told() {
    let watched = Watched::start();
    let mut run = Run::start(&watched.site, &[]);
    run.first_part();
    watched.wait_more(3);
    // Every write to a file fails from now on, as on a disk with faults.
    limit_files(run.pid(), 0);
    let status = run.end();
    assert!(!status.success(), "{status}: it ends, as inspecting without a record is worse");
    let (recovery, figures) = watched.recover();
    watched.tell("every write fails", recovery, figures);
}

#[test]
#[ignore = "started by a_disk_that_fills_at_work_ends_the_run_and_costs_nothing_that_was_told"]
fn child_fills() {
    let Some(disk) = std::env::var_os("DISK") else { return };
    let watched = Watched::start();
    let mut run = Run::start(&watched.site, &[]);
    run.first_part();
    let filler = Path::new(&disk).join("filler");
    fill(&filler);
    let status = run.end();
    assert!(!status.success(), "{status}: it ends before a part finds no room");
    std::fs::remove_file(&filler).expect("removed");
    let (recovery, figures) = watched.recover();
    watched.tell("disk full", recovery, figures);
}

#[test]
fn a_disk_that_fills_at_work_ends_the_run_and_costs_nothing_that_was_told() {
    child_on_disk("mount -t tmpfs -o size=64m tmpfs \"$DISK\"", "faults_store::child_fills");
}

/// A file system in a file, which turns read-only when it is told that it has faults.
const MOUNT_EXT4: &str = "\
    image=$(mktemp) && dd if=/dev/zero of=\"$image\" bs=1M count=64 2>/dev/null &&
    mkfs.ext4 -q \"$image\" && mount -o loop,errors=remount-ro \"$image\" \"$DISK\"; done=$?
    rm -f \"$image\"; [ $done = 0 ]";

#[test]
#[ignore = "started by a_disk_that_turns_read_only_ends_the_run_and_costs_nothing_that_was_told"]
fn child_turns_read_only() {
    let Some(disk) = std::env::var_os("DISK") else { return };
    let mount = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).arg(&disk).status().expect("runs");
        assert!(status.success(), "{program} {arguments:?}");
    };
    let watched = Watched::start();
    // What was installed lies on the disk long before it fails.
    assert!(Command::new("sync").status().expect("runs").success());
    let mut run = Run::start(&watched.site, &[]);
    run.first_part();
    watched.wait_more(3);
    mount("mount", &["-o", "remount,abort"]);
    let status = run.end();
    assert!(!status.success(), "{status}: it ends, as inspecting without a record is worse");
    // A start there is refused, and touches nothing.
    let refused = Run::start(&watched.site, &[]).end();
    assert!(!refused.success(), "{refused}");
    // The device stays with its mount: what is mounted is what was there, its journal played back.
    let device = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&disk).output();
    let device = String::from_utf8(device.expect("runs").stdout).expect("UTF-8");
    let kept = std::fs::File::open(device.trim()).expect("the device is kept open");
    mount("umount", &[]);
    mount("mount", &[device.trim()]);
    drop(kept);
    let (recovery, figures) = watched.recover();
    watched.tell("read-only", recovery, figures);
}

#[test]
fn a_disk_that_turns_read_only_ends_the_run_and_costs_nothing_that_was_told() {
    child_on_disk(MOUNT_EXT4, "faults_store::child_turns_read_only");
}
