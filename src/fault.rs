//! Labelled points at which a test can kill this process, or stop one of its threads, so that what a crash leaves behind is
//! looked at and not guessed.
//!
//! Without the feature `fault-points`, as in every release, a point is nothing. With it, the
//! environment variable `INSPECTD_DIE_AT=LABEL:N` kills the process with SIGKILL when it comes to the
//! point LABEL for the N-th time: no destructor runs, no buffer is written. `INSPECTD_HANG_AT=LABEL:N`
//! stops the thread that comes there for the N-th time, for ever.

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
/// Those of the copy upstream, which a run without it never comes to.
pub const UPSTREAM: [&str; 2] = [COPY_WRITTEN, COPY_DONE];

/// Records are written into the database upstream, and not committed there.
pub const COPY_WRITTEN: &str = "copy_written";
/// They are committed there, and nobody here knows.
pub const COPY_DONE: &str = "copy_done";
/// Stopping: everything was sent, and the goodbye was not said.
pub const STOP_DRAINED: &str = "stop_drained";

/// Points at which a test can make a thread stop for ever, and one of those above.
pub const HANGS: [&str; 3] = [FRAME_SEEN, MODEL_ASKED, COMMIT_BEGUN];

/// A station's thread has a frame.
pub const FRAME_SEEN: &str = "frame_seen";
/// The model's thread has a part.
pub const MODEL_ASKED: &str = "model_asked";

/// Dies or hangs here if a test asked for it.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_label: &'static str) {}

/// Dies or hangs here if a test asked for it.
#[cfg(feature = "fault-points")]
pub fn point(label: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static DIE: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HANG: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static DIED: AtomicU64 = AtomicU64::new(0);
    static HUNG: AtomicU64 = AtomicU64::new(0);
    let is_now = |asked: &Option<(String, u64)>, passed: &AtomicU64| {
        asked.as_ref().is_some_and(|(wanted, count)| {
            wanted == label && passed.fetch_add(1, Ordering::SeqCst) + 1 == *count
        })
    };
    if is_now(
        DIE.get_or_init(|| asked("INSPECTD_DIE_AT", &[LABELS.as_slice(), &UPSTREAM].concat())),
        &DIED,
    ) {
        // SAFETY: a signal to this process; it does not return.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    if is_now(HANG.get_or_init(|| asked("INSPECTD_HANG_AT", &HANGS)), &HUNG) {
        loop {
            std::thread::park();
        }
    }
}

#[cfg(feature = "fault-points")]
fn asked(variable: &str, labels: &[&str]) -> Option<(String, u64)> {
    let text = std::env::var(variable).ok()?;
    let (label, count) = text.split_once(':')?;
    assert!(labels.contains(&label), "{variable}: there is no point {label}");
    Some((label.to_owned(), count.parse().expect("LABEL:N")))
}
