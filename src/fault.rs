//! Labelled points at which a test can kill this process, so that what a crash leaves behind is
//! looked at and not guessed.
//!
//! Without the feature `fault-points`, as in every release, a point is nothing. With it, the
//! environment variable `INSPECTD_DIE_AT=LABEL:N` kills the process with SIGKILL when it comes to the
//! point LABEL for the N-th time: no destructor runs, no buffer is written.

/// All labels, in the order in which a part meets them.
pub const LABELS: [&str; 10] = [
    EVIDENCE_WRITTEN,
    EVIDENCE_NAMED,
    COMMIT_BEGUN,
    COMMIT_WRITTEN,
    COMMIT_DONE,
    RECORD_TOLD,
    RESULT_HANDED_OVER,
    RESULT_ACKNOWLEDGED,
    RESULT_MARKED,
    STOP_DRAINED,
];

/// A picture's file is on the disk, under another name.
pub const EVIDENCE_WRITTEN: &str = "evidence_written";
/// A picture's file has its name.
pub const EVIDENCE_NAMED: &str = "evidence_named";
/// The transaction of a record has begun.
pub const COMMIT_BEGUN: &str = "commit_begun";
/// Record and messages are written, and not committed.
pub const COMMIT_WRITTEN: &str = "commit_written";
/// They are committed, and nobody knows.
pub const COMMIT_DONE: &str = "commit_done";
/// The publisher has been woken.
pub const RECORD_TOLD: &str = "record_told";
/// A result was handed to the connection.
pub const RESULT_HANDED_OVER: &str = "result_handed_over";
/// The broker has acknowledged results, and they are not marked as sent.
pub const RESULT_ACKNOWLEDGED: &str = "result_acknowledged";
/// They are marked.
pub const RESULT_MARKED: &str = "result_marked";
/// Stopping: everything was sent, and the goodbye was not said.
pub const STOP_DRAINED: &str = "stop_drained";

/// Dies here if a test asked for it.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_label: &'static str) {}

/// Dies here if a test asked for it.
#[cfg(feature = "fault-points")]
pub fn point(label: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("INSPECTD_DIE_AT").ok()?;
        let (label, count) = text.split_once(':')?;
        assert!(LABELS.contains(&label), "INSPECTD_DIE_AT: there is no point {label}");
        Some((label.to_owned(), count.parse().expect("INSPECTD_DIE_AT: LABEL:N")))
    });
    let Some((wanted, count)) = asked else { return };
    if wanted == label && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        // SAFETY: a signal to this process; it does not return.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
