//! The real program with a line, a broker and a collector.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use inspectd::inspection::Inspection;
use inspectd::store::{Filter, Reader};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::support::collector::{self, attributes};
use crate::support::engine_server::{Act, EngineServer};
use crate::support::mosquitto::{DEADLINE, Mosquitto, free_port};
use crate::support::station::Site;

/// Parts of one run.
const PARTS: usize = 6;

/// A line of pictures that each are a part, with time enough for each, and traces that go to `server`.
fn site(server: &EngineServer, broker: Option<u16>, more: &str) -> Site {
    site_of(&collector::url(server), broker, more)
}

/// The same, with a collector at this address.
fn site_of(url: &str, broker: Option<u16>, more: &str) -> Site {
    let site = Site::of_pictures(broker);
    site.edit("deadline_ms = ", "deadline_ms = 600000 # was ");
    let mut file = OpenOptions::new().append(true).open(&site.file).expect("there");
    write!(file, "[traces]\nendpoint = \"{url}\"\n{more}").expect("written");
    site
}

/// Runs it to its end; answers what it told on standard error.
fn run(site: &Site) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["run", "--parts", &PARTS.to_string(), "--config"])
        .arg(&site.file)
        .stdout(Stdio::null())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    told
}

fn looks(site: &Site) -> Vec<Inspection> {
    let reader = Reader::open(&site.database()).expect("the log is readable");
    let records = reader.list(&Filter::default()).expect("records are readable");
    records.iter().map(|record| record.inspection().expect("whole")).collect()
}

/// The one span of `spans` with this name.
fn named<'s>(spans: &[&'s Span], name: &str) -> &'s Span {
    let found: Vec<&&Span> = spans.iter().filter(|span| span.name == name).collect();
    let [one] = found[..] else { panic!("{} spans \"{name}\" of {spans:?}", found.len()) };
    one
}

fn length_ms(span: &Span) -> f64 {
    (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e6
}

/// One trace against the record that it is about.
fn compare(look: &Inspection, spans: &[&Span]) {
    let root = named(spans, "part");
    assert!(root.parent_span_id.is_empty());
    let ids: BTreeSet<&[u8]> = spans.iter().map(|span| &span.span_id[..]).collect();
    assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
    let told = attributes(&root.attributes);
    assert_eq!(told["inspectd.result_id"], look.result_id.to_string());
    assert_eq!(told["inspectd.part_id"], look.part_id);
    assert_eq!(told["inspectd.verdict"], look.verdict.outcome.as_str());
    let reasons: Vec<&str> = look.verdict.reasons.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(told["inspectd.reasons"], reasons.join(","));
    assert!(look.digests.model.starts_with(&told["inspectd.model"]));
    assert_eq!(told["inspectd.station"], "demo");

    // The stages, one behind the other, as long as the record says, within the part.
    let times = &look.timings;
    let stages = [
        ("queue", times.queued_ms),
        ("cut", times.crop_ms),
        ("quality", times.quality_ms),
        ("model", times.model_ms),
        ("evidence", times.evidence_ms),
    ];
    let mut end = root.start_time_unix_nano;
    for (name, ms) in stages {
        let span = named(spans, name);
        assert_eq!(span.parent_span_id, root.span_id, "{name}");
        assert_eq!(span.start_time_unix_nano, end, "{name} begins where the stage before ends");
        assert!((length_ms(span) - ms).abs() < 0.002, "{name}: {} and {ms}", length_ms(span));
        end = span.end_time_unix_nano;
    }
    let (judge, commit) = (named(spans, "judge"), named(spans, "commit"));
    assert_eq!((judge.start_time_unix_nano, &judge.parent_span_id), (end, &root.span_id));
    assert!(commit.start_time_unix_nano >= judge.end_time_unix_nano);
    assert_eq!(commit.parent_span_id, root.span_id);
    assert_eq!(root.end_time_unix_nano, commit.end_time_unix_nano, "a part ends with its record");

    let model = named(spans, "model");
    let questions: Vec<&&Span> =
        spans.iter().filter(|span| span.name.starts_with("question ")).collect();
    assert_eq!(questions.len(), look.questions.len());
    for (span, asked) in questions.iter().zip(&look.questions) {
        assert_eq!(span.name, format!("question {}", asked.question));
        assert_eq!(span.parent_span_id, model.span_id);
        assert!(span.start_time_unix_nano >= model.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= model.end_time_unix_nano);
        let (told, answer) = (attributes(&span.attributes), asked.answer.as_ref().expect("one"));
        assert_eq!(told["gen_ai.usage.input_tokens"], answer.tokens.prompt.to_string());
        assert_eq!(told["gen_ai.usage.output_tokens"], answer.tokens.generated.to_string());
        assert_eq!(told["inspectd.prefill_ms"], answer.timings.prefill_ms.to_string());
        assert_eq!(told["inspectd.decode_ms"], answer.timings.decode_ms.to_string());
        assert!(length_ms(span) >= answer.timings.decode_ms - 0.002);
    }
    compare_delivery(look, spans, root);
}

fn compare_delivery(look: &Inspection, spans: &[&Span], root: &Span) {
    let publish = named(spans, "publish inspectd/box/demo/result");
    assert_eq!(publish.parent_span_id, root.span_id);
    assert_eq!(publish.kind, i32::from(SpanKind::Producer));
    assert_eq!(attributes(&publish.attributes)["messaging.message.id"], look.result_id.to_string());
    let [begun, over, ended] = [
        publish.start_time_unix_nano,
        publish.events[0].time_unix_nano,
        publish.end_time_unix_nano,
    ];
    assert!(begun <= over && over <= ended);
}

/// All of `spans` against all records.
fn compare_all(looks: &[Inspection], spans: &[Span]) {
    let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    spans.iter().for_each(|span| traces.entry(&span.trace_id).or_default().push(span));
    assert_eq!(traces.len(), looks.len());
    for look in looks {
        let of_look = traces.get(&look.result_id.as_bytes()[..]).expect("the record's id");
        compare(look, of_look);
    }
}

/// A collector of others: a process, killed with its test. It is on the search path, or `INSPECTD_ROTEL` names it.
struct Rotel(Child);

impl Rotel {
    /// One that listens on the port that is answered, too, and passes all on to `behind`. `None`: there is none here.
    fn start(behind: &EngineServer) -> Option<(Rotel, u16)> {
        let program = std::env::var("INSPECTD_ROTEL").unwrap_or_else(|_| "rotel-agent".to_owned());
        let (port, other) = (free_port(), free_port());
        let started = Command::new(program)
            .args(["start", "--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{other}")])
            .args([
                "--otlp-exporter-endpoint",
                &behind.url(),
                "--otlp-exporter-compression",
                "none",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let rotel = Rotel(started.ok()?);
        let until = Instant::now() + DEADLINE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < until, "the collector does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some((rotel, port))
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_collector_of_others_takes_every_span_and_passes_it_on() {
    let behind = EngineServer::start(|_, _| collector::taken());
    let Some((_rotel, port)) = Rotel::start(&behind) else {
        eprintln!("skipped: the collector rotel-agent is not here (`pip install rotel` has it)");
        return;
    };
    let broker = Mosquitto::start();
    let url = format!("http://127.0.0.1:{port}/v1/traces");
    let site = site_of(&url, Some(broker.port()), "");
    let told = run(&site);
    assert!(!told.contains("Traces are not taken"), "{told}");
    let looks = looks(&site);
    assert_eq!(looks.len(), PARTS);
    let published = |spans: &[Span]| {
        spans.iter().filter(|span| span.name.starts_with("publish ")).count() == PARTS
    };
    let spans = collector::wait_for(&behind, "every delivery", published);
    compare_all(&looks, &spans);
}

#[test]
fn a_trace_tells_what_its_record_tells_and_is_found_by_its_id() {
    let server = EngineServer::start(|_, _| collector::taken());
    let broker = Mosquitto::start();
    let site = site(&server, Some(broker.port()), "");
    run(&site);
    let looks = looks(&site);
    assert_eq!(looks.len(), PARTS);
    compare_all(&looks, &collector::spans(&server));
    for asked in server.asked() {
        let request = collector::request(&asked);
        let resource = request.resource_spans[0].resource.as_ref().expect("told");
        let told = attributes(&resource.attributes);
        assert_eq!((&*told["service.name"], &*told["service.instance.id"]), ("inspectd", "box"));
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        for serial in looks.iter().filter_map(Inspection::serial) {
            assert!(!body.contains(serial), "no serial that nobody asked for");
        }
    }
}

#[test]
fn a_collector_in_trouble_costs_no_part_and_one_line_of_the_log() {
    type Script = fn() -> Act;
    let all: [(&str, Script); 3] = [
        ("hangs", || Act::Hang),
        ("503", || collector::say(503, &[], "")),
        ("garbage", || collector::say(200, &[], "\u{0}\u{1}garbage")),
    ];
    for (what, act) in all {
        let server = EngineServer::start(move |_, _| act());
        let site = site(&server, None, "timeout_s = 0.2\nqueue_parts = 1\n");
        let told = run(&site);
        assert_eq!(looks(&site).len(), PARTS, "{what}");
        assert!(!server.asked().is_empty(), "{what}");
        assert_eq!(told.matches("Traces are not taken").count(), 1, "{what}: {told}");
    }
}

#[test]
fn without_the_table_nothing_is_sent() {
    let server = EngineServer::start(|_, _| collector::taken());
    let site = site(&server, None, "");
    let text = fs::read_to_string(&site.file).expect("readable");
    let (before, _) = text.split_once("[traces]").expect("there");
    fs::write(&site.file, before).expect("written");
    run(&site);
    assert_eq!(looks(&site).len(), PARTS);
    assert!(server.asked().is_empty());
}
