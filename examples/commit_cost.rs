//! What a commit costs: `cargo run --release --example commit_cost -- DIR COMMITS`.
//!
//! Writes made-up records with their message into a new audit log in DIR, which should lie on the
//! disk in question, and prints the times of a commit. Two programs are compared by running them in
//! turn, several times.

// As in the tests: made-up records may stop at the first thing that is not as it should be.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use inspectd::publish::message;

#[path = "../tests/it/support/records.rs"]
mod records;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(commits)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: commit_cost DIR COMMITS");
        std::process::exit(2);
    };
    let commits: u64 = commits.parse().expect("a number of commits");
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    let store = records::open(Path::new(&dir));
    let mut times_us: Vec<u128> = (1..=commits)
        .map(|job_id| {
            let look = records::inspection("left", job_id);
            let messages = [message::result(&look)];
            let start = Instant::now();
            store.commit(&look, &messages).expect("a commit");
            start.elapsed().as_micros()
        })
        .collect();
    times_us.sort_unstable();
    let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize];
    println!("{commits} commits: p50 {} us, p99 {} us, max {} us", at(0.5), at(0.99), at(1.0));
}
