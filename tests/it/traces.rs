//! Traces: of a real daemon with a real broker, and of made-up records, by a collector that does as it is told.

#[cfg(feature = "gst")]
mod daemon;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inspectd::clock::Stamp;
use inspectd::inspection::Inspection;
use inspectd::remote::Address;
use inspectd::telemetry::metrics::{METRICS, Sample};
use inspectd::traces::{Commit, Delivered, KeyHeader, Options, Traces};
use inspectd::verdict::Outcome;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::support::certificates::Authority;
use crate::support::collector::{self, attributes};
use crate::support::engine_server::{Act, Asked, EngineServer};
use crate::support::records;

/// Longer than any of these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn collector(script: impl Fn(&Asked, usize) -> Act + Send + Sync + 'static) -> EngineServer {
    EngineServer::start(script)
}

fn options(server: &EngineServer) -> Options {
    Options::new(Address::parse(&collector::url(server)).expect("an address"))
}

fn start(options: &Options) -> Traces {
    Traces::start(options, "box").expect("they start")
}

fn later(stamp: &Stamp, ms: u64) -> Stamp {
    stamp.at(stamp.monotonic_ns + ms * 1_000_000)
}

/// Written three milliseconds after it was decided, in two.
fn commit(look: &Inspection) -> Commit {
    let decided = &look.times.decided;
    Commit { begun: later(decided, 3), ended: later(decided, 5) }
}

/// A metric's value now; 0 if it was never counted.
fn metric(line: &str) -> u64 {
    let text = METRICS.text(&Sample::default());
    let value = text.lines().find_map(|told| told.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or(0)
}

fn dropped(reason: &str) -> u64 {
    metric(&format!("inspectd_trace_spans_dropped_total{{reason=\"{reason}\"}}"))
}

fn sent() -> u64 {
    metric("inspectd_trace_spans_sent_total")
}

fn roots(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| span.parent_span_id.is_empty()).collect()
}

#[test]
fn what_did_not_pass_is_always_sent_and_its_delivery_with_it() {
    let server = collector(|_, _| collector::taken());
    let traces = start(&Options { share: 0.0, ..options(&server) });
    let looks: Vec<Inspection> = (1..=12).map(|job| records::inspection("press", job)).collect();
    for look in &looks {
        traces.part(look, &commit(look));
        let at = look.times.decided.wall;
        traces.delivered(&Delivered {
            result_id: look.result_id,
            verdict: look.verdict.outcome,
            broker: ("broker.plant", 1883),
            topic: "inspectd/box/press/result",
            bytes: 700,
            is_replayed: false,
            times: [at, at + Duration::from_millis(4), at + Duration::from_millis(9)],
        });
    }
    traces.finish(PATIENCE);
    let spans = collector::spans(&server);
    let wanted: Vec<&Inspection> =
        looks.iter().filter(|look| look.verdict.outcome != Outcome::Pass).collect();
    assert!(wanted.len() < looks.len() && wanted.len() > 3, "both kinds are there");
    let ids: Vec<&[u8]> = roots(&spans).iter().map(|root| &root.trace_id[..]).collect();
    assert_eq!(ids, wanted.iter().map(|look| &look.result_id.as_bytes()[..]).collect::<Vec<_>>());
    for (look, root) in wanted.iter().zip(roots(&spans)) {
        let of_trace = spans.iter().filter(|span| span.trace_id == root.trace_id);
        let publish = of_trace.filter(|span| span.name.starts_with("publish"));
        let [publish] = publish.collect::<Vec<_>>()[..] else { panic!("one delivery") };
        assert_eq!(publish.parent_span_id, root.span_id);
        assert_eq!(publish.end_time_unix_nano - publish.start_time_unix_nano, 9_000_000);
        assert_eq!(publish.events[0].time_unix_nano - publish.start_time_unix_nano, 4_000_000);
        let told = attributes(&publish.attributes);
        assert_eq!(told["messaging.message.id"], look.result_id.to_string());
        assert_eq!((&*told["messaging.system"], &*told["server.port"]), ("mqtt", "1883"));
    }
    assert_eq!(sent(), spans.len() as u64);
}

#[test]
fn serials_are_named_only_where_that_is_asked_for_and_an_update_leads_to_what_it_completes() {
    let server = collector(|_, _| collector::taken());
    let mut late = records::inspection("press", 5);
    let earlier = uuid::Uuid::now_v7();
    late = late.into_update(earlier);
    let serial = late.serial().expect("it has one").to_owned();
    for serials in [false, true] {
        let traces = start(&Options { serials, ..options(&server) });
        traces.part(&late, &commit(&late));
        traces.finish(PATIENCE);
    }
    let asked = server.asked();
    let told = |at: usize| String::from_utf8_lossy(&asked[at].body).contains(&serial);
    assert_eq!((asked.len(), told(0), told(1)), (2, false, true));
    let spans = collector::spans(&server);
    let [first, second] = roots(&spans)[..] else { panic!("two roots") };
    assert_eq!(first.span_id, second.span_id, "what is sent twice is known for one");
    assert_eq!(first.links[0].trace_id, earlier.as_bytes());
    let prompt = &late.questions[0].prompt;
    assert!(!String::from_utf8_lossy(&asked[1].body).contains(prompt.as_str()));
}

#[test]
fn a_clock_that_was_set_and_a_picture_before_its_trigger_turn_no_span_around() {
    let server = collector(|_, _| collector::taken());
    let traces = start(&options(&server));
    let mut look = records::inspection("press", 1);
    let triggered = look.times.triggered;
    look.times.captured =
        Some(Stamp { monotonic_ns: triggered.monotonic_ns - 40_000_000, ..triggered });
    // An hour back by the wall clock, 812 ms later by the other.
    let hour = jiff::SignedDuration::from_hours(1);
    let decided = later(&triggered, 812);
    look.times.decided = Stamp { wall: decided.wall - hour, ..decided };
    look.timings.queued_ms = 10.0;
    // More than there is room for.
    look.timings.evidence_ms = f64::MAX;
    look.timings.quality_ms = f64::NAN;
    traces.part(&look, &commit(&look));
    traces.finish(PATIENCE);
    let spans = collector::spans(&server);
    let root = roots(&spans)[0];
    assert_eq!(root.end_time_unix_nano - root.start_time_unix_nano, 857_000_000);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let stages = ["trigger", "queue", "cut", "quality", "model"];
    let after = ["question serial", "evidence", "judge", "commit"];
    assert_eq!(names, [&["part"][..], &stages, &after].concat());
    for span in &spans[1..] {
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{}", span.name);
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
    }
    let question = spans.iter().find(|span| span.name == "question serial").expect("there");
    assert_eq!(attributes(&question.attributes)["error.type"], "no_answer");
}

#[test]
fn nobody_waits_for_a_collector_that_hangs_and_what_finds_no_place_is_counted() {
    let server = collector(|_, _| Act::Hang);
    let traces = start(&Options { queue_parts: 4, timeout: PATIENCE, ..options(&server) });
    let look = records::inspection("press", 3);
    // More than one message and the queue can hold.
    let parts = 1000;
    for _ in 0..parts {
        traces.part(&look, &commit(&look));
    }
    let of_part = {
        let taker = collector(|_, _| collector::taken());
        let traces = start(&options(&taker));
        traces.part(&look, &commit(&look));
        traces.finish(PATIENCE);
        spans_of(&taker.asked()[0])
    };
    let lost = dropped("queue_full");
    assert!(lost > 0 && lost.is_multiple_of(of_part) && lost < parts * of_part, "{lost}");
    // It ends all the same, and says that it could not send.
    traces.finish(Duration::from_millis(10));
}

#[test]
fn a_collector_that_is_busy_gets_the_same_message_again() {
    let server = collector(|_, before| match before {
        0 => collector::say(503, &[("Retry-After", "0")], "busy"),
        1 => collector::say(429, &[], ""),
        _ => collector::taken(),
    });
    let traces = start(&options(&server));
    let look = records::inspection("press", 3);
    traces.part(&look, &commit(&look));
    collector::wait_for(&server, "three tries", |spans| roots(spans).len() == 3);
    traces.finish(PATIENCE);
    let asked = server.asked();
    assert!(asked.iter().all(|one| one.body == asked[0].body), "nothing is lost or doubled");
    assert_eq!((sent(), dropped("not_delivered")), (spans_of(&asked[0]), 0));
}

fn spans_of(asked: &Asked) -> u64 {
    collector::request(asked).resource_spans[0].scope_spans[0].spans.len() as u64
}

#[test]
fn what_is_no_collector_costs_the_spans_and_is_not_asked_twice_for_them() {
    let html = &[("Content-Type", "text/html")];
    let elsewhere = &[("Location", "http://127.0.0.1:1/v1/traces")];
    for act in [
        collector::say(200, html, "<html>Welcome!</html>"),
        collector::say(400, &[], "what?"),
        collector::say(404, html, "<html>nothing here</html>"),
        collector::say(307, elsewhere, ""),
        collector::say(500, &[], ""),
        Act::Close,
    ] {
        let may_pass = matches!(act, Act::Close);
        let server = collector(move |_, _| act.clone());
        let before = dropped("not_delivered");
        let traces = start(&options(&server));
        let look = records::inspection("press", 3);
        traces.part(&look, &commit(&look));
        traces.finish(PATIENCE);
        let asked = server.asked();
        assert!(asked.len() == 1 || may_pass, "{}", asked.len());
        assert_eq!(dropped("not_delivered") - before, spans_of(&asked[0]));
    }
    assert_eq!(sent(), 0);
}

#[test]
fn a_collector_that_stays_away_is_given_up_and_the_next_traces_are_tried() {
    let is_up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&is_up);
    let server = collector(move |_, _| match seen.load(std::sync::atomic::Ordering::SeqCst) {
        false => collector::say(503, &[], ""),
        true => collector::taken(),
    });
    let traces = start(&Options { give_up: Duration::from_secs(1), ..options(&server) });
    let look = records::inspection("press", 3);
    traces.part(&look, &commit(&look));
    let until = std::time::Instant::now() + PATIENCE;
    while dropped("not_delivered") == 0 {
        assert!(std::time::Instant::now() < until, "they are kept for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    is_up.store(true, std::sync::atomic::Ordering::SeqCst);
    let other = records::inspection("press", 4);
    traces.part(&other, &commit(&other));
    let id = other.result_id.as_bytes();
    collector::wait_for(&server, "the next", |spans| spans.iter().any(|span| span.trace_id == id));
    traces.finish(PATIENCE);
    assert!(sent() > 0);
}

#[test]
fn spans_that_the_collector_refuses_are_counted() {
    let server = collector(|_, _| collector::refused(2));
    let traces = start(&options(&server));
    let look = records::inspection("press", 3);
    traces.part(&look, &commit(&look));
    traces.finish(PATIENCE);
    assert_eq!((dropped("refused"), sent()), (2, spans_of(&server.asked()[0]) - 2));
}

#[test]
fn a_key_goes_under_its_header_and_certificates_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let (plant, other) = (Authority::new("plant"), Authority::new("other"));
    let ca_file = plant.write(&dir.path().join("plant.pem"));
    let foreign = other.write(&dir.path().join("other.pem"));
    let (crt, key) = plant.sign(dir.path(), "collector", "localhost", false);
    let secret = dir.path().join("collector.key");
    std::fs::write(dir.path().join("secret"), "s3cret\n").expect("written");
    assert_eq!(key, secret);
    let pair: Option<(&Path, &Path)> = Some((&crt, &key));
    let server = EngineServer::start_on(0, pair, |_, _| collector::taken());
    let look = records::inspection("press", 3);
    let source = inspectd::credential::Source::File(dir.path().join("secret"));
    for (key_header, name, value) in [
        (KeyHeader::Bearer, "authorization", "Bearer s3cret"),
        (KeyHeader::Named("x-api-key".into()), "x-api-key", "s3cret"),
    ] {
        let (key, ca_file) = (Some(source.clone()), Some(ca_file.clone()));
        let traces = start(&Options { key, key_header, ca_file, ..options(&server) });
        traces.part(&look, &commit(&look));
        traces.finish(PATIENCE);
        assert_eq!(server.asked().last().expect("a message").headers[name], value);
    }
    let (before, count) = (dropped("not_delivered"), server.asked().len());
    let traces = start(&Options { ca_file: Some(foreign), ..options(&server) });
    traces.part(&look, &commit(&look));
    traces.finish(PATIENCE);
    assert_eq!(server.asked().len(), count, "nothing goes to a server that nobody vouches for");
    assert!(dropped("not_delivered") > before);
}
