//! Metrics and what is made of them: read by a real Prometheus, and named alike everywhere.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use inspectd::telemetry::metrics::{METRICS, Sample, StationSample, TracesDropped};
use serde_json::Value;

use crate::support::mosquitto::DEADLINE;
use crate::support::records;
use crate::support::service::Service;
use crate::support::station::Site;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring")
}

/// A program of Prometheus, where it is installed or was unpacked by scripts/test.
fn program(name: &str) -> Option<PathBuf> {
    let unpacked =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/prometheus/usr/bin").join(name);
    let all = [unpacked, Path::new("/usr/bin").join(name), Path::new("/usr/local/bin").join(name)];
    let found = all.into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

/// Every name that begins as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("inspectd_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let mut late = records::inspection("press", 3);
    late.timeliness.deadline_met = Some(false);
    METRICS.recorded(&late, 0.002);
    METRICS.camera_lost("press", "stalled");
    METRICS.reloaded(false);
    METRICS.delivered("press", true, 0.3);
    METRICS.traces_dropped(TracesDropped::Refused, 1);
    METRICS.runs("line-3", "model", "CPU");
    let station = StationSample { name: "press".into(), ..StationSample::default() };
    let temperatures = vec![("cpu".to_owned(), 50.0)];
    let rails_watts = vec![("VDD_IN".to_owned(), 7.5)];
    let power_mode = Some("15W".to_owned());
    let sample = Sample {
        stations: vec![station],
        temperatures,
        rails_watts,
        power_mode,
        ..Sample::default()
    };
    let known = names(&METRICS.text(&sample));
    for file in ["alerts.yml", "alerts_test.yml", "grafana.json"] {
        let text = fs::read_to_string(folder().join(file)).expect("there");
        let used = names(&text);
        assert!(used.len() > 3, "{file}");
        let unknown: Vec<&String> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}; there are {known:?}");
    }
    let table = fs::read_to_string(folder().join("README.md")).expect("there");
    let endings = ["_bucket", "_sum", "_count"];
    for name in known.iter().filter(|name| !endings.iter().any(|end| name.ends_with(end))) {
        let short = name.trim_start_matches("inspectd");
        // The name of a family stands without the ending of its counter's line.
        let is_told = [name.as_str(), short].iter().any(|it| table.contains(it))
            || table.contains(&format!("{name}_total"))
            || table.contains(&format!("{short}_total"));
        assert!(is_told, "monitoring/README.md does not tell of {name}");
    }
}

fn board() -> Value {
    let board = fs::read_to_string(folder().join("grafana.json")).expect("there");
    serde_json::from_str(&board).expect("JSON")
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The queries of a panel.
fn queries(panel: &Value) -> Vec<&str> {
    list(panel, "targets").iter().filter_map(|target| target["expr"].as_str()).collect()
}

/// Metrics that Prometheus keeps by station.
const BY_STATION: [&str; 5] = ["_ready", "_parts_total", "_latency_seconds", "_frames", "_queue"];

#[test]
fn the_dashboard_is_for_a_fleet() {
    let board = board();
    for name in ["device", "instance", "station"] {
        let all = list(&board["templating"], "list");
        let variable = all.iter().find(|variable| variable["name"] == name).expect(name);
        assert!(variable["multi"] == true && variable["includeAll"] == true, "{name}");
    }
    let panels = list(&board, "panels");
    let rows: Vec<usize> = (0..panels.len()).filter(|&at| panels[at]["type"] == "row").collect();
    let [0, line, machine] = rows[..] else {
        panic!("an overview, the line, the machine: {rows:?}")
    };
    let text = |panel: &Value| queries(panel).join("\n");
    for panel in &panels[1..line] {
        assert!(!text(panel).contains("$instance"), "the overview is of all: {}", panel["title"]);
    }
    for panel in panels[line + 1..].iter().filter(|panel| panel["type"] != "row") {
        for query in queries(panel) {
            assert!(query.contains("instance=~\"$instance\""), "{query}");
            let is_of_station = BY_STATION.iter().any(|name| query.contains(name));
            assert!(!is_of_station || query.contains("station=~\"$station\""), "{query}");
        }
    }
    assert!(machine > line + 5);
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{} twice", panel["id"]);
        let of = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        assert!(of("x") + of("w") <= 24, "{}", panel["title"]);
        for (x, y) in (of("x")..of("x") + of("w"))
            .flat_map(|x| (of("y")..of("y") + of("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert((x, y)), "{} lies over another at {x}, {y}", panel["title"]);
        }
    }
}

#[test]
fn prometheus_understands_every_query_of_the_dashboard() {
    let Some(promtool) = program("promtool") else { return };
    let board = board();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let all: Vec<&str> = list(&board, "panels").iter().flat_map(queries).collect();
    for (at, query) in all.iter().enumerate() {
        let mut query = (*query).to_owned();
        let stand_ins = [("$instance", ".*"), ("$station", ".*"), ("$__rate_interval", "5m")];
        for (variable, value) in stand_ins.into_iter().chain([("$__range", "1h")]) {
            query = query.replace(variable, value);
        }
        // A JSON text is a YAML text.
        let query = serde_json::to_string(&query).expect("a text");
        rules += &format!("      - record: query:{at}\n        expr: {query}\n");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("queries.yml");
    fs::write(&file, rules).expect("written");
    let told = Command::new(&promtool).args(["check", "rules"]).arg(&file).output();
    let told = told.expect("it runs");
    let text = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    assert!(told.status.success() && all.len() > 30, "{text}");
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let Some(promtool) = program("promtool") else { return };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let told = Command::new(&promtool).args(arguments).current_dir(folder()).output();
        let told = told.expect("it runs");
        let text = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
        assert!(told.status.success(), "{text}");
    }
}

/// A Prometheus of its own, killed on drop.
struct Prometheus {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &Path, target: &str) -> Prometheus {
        let dir = tempfile::tempdir().expect("a folder");
        let config = fs::read_to_string(folder().join("prometheus.yml")).expect("there");
        let config = config.replace("127.0.0.1:9480", target).replace("15s", "1s");
        fs::write(dir.path().join("prometheus.yml"), config).expect("written");
        fs::copy(folder().join("alerts.yml"), dir.path().join("alerts.yml")).expect("copied");
        // Freed just before it is taken again, as it takes no socket that is open.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("known").to_string();
        drop(free);
        let child = Command::new(program)
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Prometheus { child, address, _dir: dir }
    }

    /// The value of the first series that `query` finds; `None`: none, or it does not answer yet.
    fn value(&self, query: &str) -> Option<f64> {
        let mut response = ureq::get(format!("http://{}/api/v1/query", self.address))
            .query("query", query)
            .call()
            .ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        let told: serde_json::Value = serde_json::from_str(&text).ok()?;
        told["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_reads_what_the_daemon_serves() {
    let Some(program) = program("prometheus") else { return };
    let site = Site::of_pictures(None);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("known").to_string();
    let mut service = Service::start_with(&site, None, &[], Some(&listener));
    drop(listener);
    service.wait_for("READY=1");
    let prometheus = Prometheus::start(&program, &address);
    let until = Instant::now() + DEADLINE;
    let wanted = [
        "up{job=\"inspectd\"} == 1",
        "sum(inspectd_parts_total) > 0",
        "inspectd_latency_seconds_count{station=\"demo\"} > 0",
        "histogram_quantile(0.5, rate(inspectd_commit_seconds_bucket[1m])) > 0",
        "inspectd_camera_up{station=\"demo\"} == 1",
        "inspectd_memory_resident_bytes > 1e6",
    ];
    for query in wanted {
        while prometheus.value(query).is_none() {
            assert!(Instant::now() < until, "nothing for {query}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert!(service.stop().0.success());
}

#[test]
fn grafanas_own_types_read_the_whole_dashboard() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/grafana/bin/python");
    if !python.exists() {
        eprintln!("SKIPPED: no types of Grafana in target/grafana; scripts/test installs them");
        return;
    }
    let read = |dashboard: &Path| {
        let told =
            Command::new(&python).arg(root.join("tests/dashboard.py")).arg(dashboard).output();
        let told = told.expect("it runs");
        (told.status.code(), String::from_utf8_lossy(&told.stdout).into_owned())
    };
    let ours = folder().join("grafana.json");
    let (code, told) = read(&ours);
    assert_eq!(code, Some(0), "{told}");
    // One that has a key which Grafana does not know is found out.
    let dir = tempfile::tempdir().expect("a folder");
    let wrong = dir.path().join("wrong.json");
    let text = fs::read_to_string(ours).expect("readable");
    fs::write(&wrong, text.replacen("\"reduceOptions\"", "\"reduceOption\"", 1)).expect("written");
    let (code, told) = read(&wrong);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("options/reduceOption: not known"), "{told}");
}
