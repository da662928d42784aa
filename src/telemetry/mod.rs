//! What an operator may see: the log, and one line a part.
//!
//! Each event is a function here, so that a reader finds all that the log can say in one place.

mod log;
pub mod metrics;

use std::io::{self, Write};

use tracing::{debug, error, info, warn};

use crate::footage::clips::ClipCounts;
use crate::inspection::Inspection;
use crate::plc::Event;
use crate::plc::message::EventName;
use crate::verdict::{Outcome, Seen};
pub use log::{Format, set_level, start};
use metrics::METRICS;

/// The configuration was read again and taken; `changed`: what is another, nothing if all was the same.
pub fn reloaded(changed: &str) {
    METRICS.reloaded(true);
    info!(changed, "Configuration read again.");
}

/// The configuration was read again and refused: the old one goes on.
pub fn reload_refused(why: &str) {
    METRICS.reloaded(false);
    error!(why, "NEW CONFIGURATION REFUSED: the old one goes on.");
}

/// Metrics and health are served there.
pub fn web_serves(address: &str) {
    info!(address, "Metrics and health are served.");
}

/// Something of what the daemon serves cannot be served; inspection goes on.
pub fn web_failed(why: &str) {
    error!(why, "NOT SERVED.");
}

/// The program waits before it starts, as it failed to, several times.
pub fn start_waits(failed: u32, seconds: u64) {
    warn!(failed, seconds, "Started in vain before; waiting.");
}

/// The daemon inspects, on the device called `name`. `device` tells where the model computes, and in what.
pub fn ready(name: &str, stations: usize, model: &str, device: &str, database: &str) {
    METRICS.runs(name, model, device);
    info!(stations, model, device, database, "Ready.");
}

/// A GPU was hoped for and cannot be used.
pub fn computes_on_cpu(why: &str) {
    warn!(why, "NO GPU: the model computes on the CPU, many times slower.");
}

/// An engine elsewhere failed and is left alone for a while.
pub fn engine_rests(engine: &str, why: &str, rest_s: f64) {
    warn!(engine, why, rest_s, "Engine fails: it is left alone.");
}

/// It answers again.
pub fn engine_answers(engine: &str) {
    info!(engine, "Engine answers again.");
}

/// Traces reach their collector, for the first time.
pub fn traces_flow(collector: &str) {
    info!(collector, "Traces are sent.");
}

/// Traces do not reach their collector; told once, until they do. Inspection does not depend on it.
pub fn traces_lost(collector: &str, why: &str) {
    warn!(
        collector,
        why, "Traces are not taken: those that wait too long are dropped and counted."
    );
}

/// They do again.
pub fn traces_back(collector: &str) {
    info!(collector, "Traces are taken again.");
}

/// The collector took a message and not all spans of it.
pub fn traces_refused(spans: usize, why: &str) {
    debug!(spans, why, "The collector refused spans.");
}

/// The last traces were not sent before the end.
pub fn traces_cut_off() {
    warn!("The last traces were not sent: their collector does not answer.");
}

/// A part was decided and recorded.
pub fn decided(inspection: &Inspection, audit_sequence: i64) {
    info!(
        station = %inspection.station,
        part_id = %inspection.part_id,
        verdict = inspection.verdict.outcome.as_str(),
        serial = inspection.serial(),
        latency_ms = inspection.timings.latency_ms,
        result_id = %inspection.result_id,
        audit_sequence,
        "Part decided."
    );
}

/// A camera stopped delivering; `kind`: in which way.
pub fn camera_lost(station: &str, kind: &str, reason: &str) {
    METRICS.camera_lost(station, kind);
    warn!(station, kind, reason, "Camera lost.");
}

/// It delivers again.
pub fn camera_back(station: &str) {
    info!(station, "Camera back.");
}

/// Its pictures came to their end.
pub fn camera_ended(station: &str) {
    info!(station, "Camera ended.");
}

/// A station's photo eye or its encoder tells nothing: no part is seen.
pub fn trigger_failed(station: &str, reason: &str) {
    warn!(station, reason, "Trigger failed.");
}

/// It tells again.
pub fn trigger_back(station: &str) {
    info!(station, "Trigger back.");
}

/// Footage of a station's run was ended.
pub fn footage_kept(station: &str, frames: u64, dropped: u64) {
    info!(station, frames, dropped, "Footage kept.");
}

/// Footage cannot be kept any more; inspection goes on.
pub fn footage_ended(station: &str, why: &str) {
    error!(station, why, "FOOTAGE ENDS: nothing more is recorded.");
}

/// The seconds around a verdict were kept.
pub fn clip_written(station: &str, path: &str, frames: u64) {
    info!(station, path, frames, "Clip kept.");
}

/// The seconds around a verdict could not be kept; inspection goes on.
pub fn clip_failed(station: &str, why: &str) {
    error!(station, why, "A clip could not be kept.");
}

/// A station that was taken out of the configuration has no part in hand any more.
pub fn station_left(station: &str) {
    info!(station, "The station has left: all its parts are recorded.");
}

/// What became of a station's clips in this run.
pub fn clips_stopped(station: &str, counts: &ClipCounts) {
    let ClipCounts { written, failed, dropped, memory_peak_bytes, .. } = *counts;
    info!(station, written, failed, dropped, memory_peak_bytes, "Clips ended.");
}

/// Footage that is played was made with another configuration of its station.
pub fn footage_of_other_configuration(station: &str) {
    warn!(station, "The footage was made with another configuration: answers may differ.");
}

/// Footage that is played was not ended in good order.
pub fn footage_cut_off(station: &str, path: &str) {
    warn!(station, path, "The footage was cut off; what is whole is played.");
}

/// Footage that is played lacks frames.
pub fn footage_gap(station: &str, why: &str) {
    warn!(station, why, "The footage lacks frames.");
}

/// A triggered part cannot be looked at; it is recorded as review.
pub fn part_missed(station: &str, part_id: &str, reason: &str) {
    warn!(station, part_id, reason, "Part not inspected; recorded as review.");
}

/// A part's deadline passed before there was an answer; recorded as review, and an update follows.
pub fn deadline_missed(station: &str, part_id: &str) {
    warn!(station, part_id, "Deadline missed; recorded as review.");
}

/// A step of the contract with the line's controller.
pub fn contract(station: &str, event: &Event) {
    let (part_id, reason) = (event.part_id.as_deref(), event.reason.as_deref());
    match event.event {
        EventName::CommandRefused
        | EventName::FaultRaised
        | EventName::PictureOutOfLimits
        | EventName::PictureDrifted => {
            warn!(station, event = ?event.event, part_id, reason, text = event.text, "Controller told.");
        }
        EventName::RecipeChanged
        | EventName::LineStateChanged
        | EventName::FaultCleared
        | EventName::CameraLostWhileStopped
        | EventName::PartIgnoredWhileStopped
        | EventName::PictureWithinLimits
        | EventName::PictureDriftEnded => {
            info!(station, event = ?event.event, part_id, reason, text = event.text, "Controller told.");
        }
        EventName::JobStarted
        | EventName::AcquisitionDone
        | EventName::ResultReady
        | EventName::ResultAcknowledged => {
            debug!(station, event = ?event.event, part_id, reason, "Controller told.");
        }
    }
}

/// A picture cannot be judged by, after one that could: parts go to review.
pub fn picture_out(station: &str, part_id: &str, reason: &str, text: &str) {
    warn!(station, part_id, reason, text, "Picture out of limits; its part goes to review.");
}

/// Pictures can be judged by again.
pub fn picture_back(station: &str) {
    info!(station, "Pictures are within their limits again.");
}

/// A measure of a station's pictures has come near to its limit, or has gone back.
pub fn picture_drift(station: &str, has_drifted: bool, text: &str) {
    match has_drifted {
        true => warn!(station, text, "Pictures drift: see to light, lens and camera."),
        false => info!(station, text, "Pictures no longer drift."),
    }
}

/// An event could not be added to the audit log; inspections go on, as their records are others.
pub fn event_not_recorded(reason: &str) {
    error!(reason, "An event could not be added to the audit log.");
}

/// Registers are served there.
pub fn modbus_serves(address: &str) {
    info!(address, "Modbus TCP: registers are served.");
}

/// A hard output can no longer be driven, or answers nobody: the station is in fault.
pub fn output_failed(station: &str, output: &str, reason: &str) {
    error!(station, output, reason, "HARD OUTPUT FAILED: the station takes no parts.");
}

/// It can be driven again.
pub fn output_back(station: &str, output: &str) {
    info!(station, output, "Hard output back.");
}

/// The recipe that was active before the start is no longer in the configuration.
pub fn recipe_gone(station: &str, index: u32) {
    warn!(station, index, "The recipe that was active is gone; the station's own is active.");
}

/// Something that the line's controller should have been told was not sent.
pub fn not_told(station: &str, reason: &str) {
    warn!(station, reason, "A message to the controller was dropped.");
}

/// A triggered part was passed over by `inspect_every`; it is recorded as review.
pub fn part_not_sampled(station: &str, part_id: &str) {
    info!(station, part_id, "Part not sampled; recorded as review.");
}

/// The file of expected serials was changed, and takes the place of the list that commands made.
pub fn expected_list_outdated(station: &str) {
    warn!(
        station,
        "The file of expected serials has changed: what commands made of it is dropped."
    );
}

/// Something about this machine and what is asked of it.
pub fn capacity(text: &str, remedy: &str) {
    warn!(remedy, "{text}");
}

/// The record cannot be written: the daemon stops, as inspecting without a record is worse.
pub fn record_failed(reason: &str) {
    error!(reason, "Record could not be written; stopping.");
}

/// Another program holds the database; the record waits for it.
pub fn record_waits(reason: &str) {
    warn!(reason, "A record waits for the database.");
}

/// The run before was cut off: power, crash or kill.
pub fn unclean_start() {
    warn!("The run before did not stop in good order; the audit log says so.");
}

/// The audit log is not what its kept heads say.
pub fn heads_differ(how: &str) {
    error!(how, "THE AUDIT LOG CONTRADICTS ITS KEPT HEADS; run `inspectd audit verify`.");
}

/// The broker does not hold the newest head of the audit log.
pub fn head_not_told(reason: &str) {
    warn!(reason, "The head of the audit log could not be published.");
}

/// The disk is full, and records go into what was kept in reserve.
pub fn reserve_in_use() {
    error!(
        "DISK FULL: the audit log lives on its reserve. Parts are recorded without pictures, none \
         of them as a pass. Free some space."
    );
}

/// The reserve is used up.
pub fn reserve_spent() {
    error!("DISK FULL: the audit log's reserve is used up. No more parts can be inspected.");
}

/// The reserve is there again.
pub fn reserve_whole() {
    info!("The audit log's reserve is whole again; pictures are kept.");
}

/// Pictures were removed, as the configuration says; `events` records of the log name them.
pub fn pictures_removed(files: u64, bytes: u64, events: u64) {
    info!(files, bytes, events, "Pictures removed by retention.");
}

/// Retention cannot do what the configuration asks.
pub fn retention_waits(why: &str) {
    warn!(why, "Retention waits.");
}

/// Retention failed; it is tried again.
pub fn retention_failed(why: &str) {
    error!(why, "Retention failed; it is tried again.");
}

/// A thread makes no progress; the service manager is told no more that all is well.
pub fn hung(what: &str, seconds: f64) {
    error!(what, seconds, "HUNG: no progress. The watchdog will start the program anew.");
}

/// Whatever made no progress goes on.
pub fn goes_on() {
    info!("Everything makes progress again.");
}

/// The daemon ends, and these records are not known to be in PostgreSQL; the next start copies them.
pub fn not_copied(records: u64) {
    warn!(records, "Records wait for their copy to PostgreSQL; the next start goes on.");
}

/// The end is near.
pub fn stopping(why: &str) {
    info!(why, "Stopping: finishing the part in hand.");
}

/// All is closed.
pub fn stopped(
    records: u64,
    unsent: u64,
    commit_p50_us: u64,
    commit_p99_us: u64,
    commit_max_us: u64,
) {
    info!(records, unsent, commit_p50_us, commit_p99_us, commit_max_us, "Stopped.");
}

/// Prints the heading of the part lines.
pub fn print_heading(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<12} {:<10} {:<10} {:<8} {:<12} {:>9}  DEFECTS AND REASONS",
        "TIME", "STATION", "PART", "VERDICT", "SERIAL", "LATENCY"
    )
}

/// Prints one line about one part: time, station, part, verdict, serial, latency, defects.
pub fn print_part(out: &mut dyn Write, inspection: &Inspection, colour: bool) -> io::Result<()> {
    let verdict = inspection.verdict.outcome;
    let paint = match (colour, verdict) {
        (false, _) => ("", ""),
        (true, Outcome::Pass) => ("\x1b[32m", "\x1b[0m"),
        (true, Outcome::Fail) => ("\x1b[31m", "\x1b[0m"),
        (true, Outcome::Review) => ("\x1b[33m", "\x1b[0m"),
    };
    let time = inspection.times.decided.wall.to_zoned(jiff::tz::TimeZone::system());
    writeln!(
        out,
        "{:<12} {:<10} {:<10} {}{:<8}{} {:<12} {:>6.0} ms  {}",
        time.strftime("%H:%M:%S%.3f"),
        inspection.station,
        inspection.part_id,
        paint.0,
        verdict.as_str(),
        paint.1,
        inspection.serial().unwrap_or("-"),
        inspection.timings.latency_ms,
        remarks(inspection)
    )
}

/// Defects first, then the reasons that are not defects.
fn remarks(inspection: &Inspection) -> String {
    let defects = inspection.defects().filter_map(|finding| match &finding.seen {
        Seen::Defect { class, severity, location } => {
            Some(format!("{severity} {class} ({location})"))
        }
        _ => None,
    });
    let reasons = &inspection.verdict.reasons;
    let others = reasons
        .iter()
        .filter(|reason| reason.code != "defect")
        .map(|reason| reason.text.replace(char::is_control, " "));
    let all: Vec<String> = defects.chain(others).collect();
    if all.is_empty() { "-".to_owned() } else { all.join("; ") }
}
