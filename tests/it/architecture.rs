//! Who may know whom: the map of ARCHITECTURE.md as a table, so that a new edge is a decision.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms that its code may name.
const KNOWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("fault", &[]),
    ("frame", &["clock"]),
    ("roi", &["frame"]),
    ("quality", &["frame", "roi"]),
    ("calibration", &["frame", "provenance", "quality", "roi"]),
    ("fitness", &["roi", "station", "vlm"]),
    ("simulate", &["frame"]),
    ("platform", &[]),
    ("camera", &["clock", "credential", "frame", "platform"]),
    ("trigger", &["clock", "frame", "quality", "roi"]),
    ("footage", &["camera", "clock", "frame", "store", "trigger", "verdict"]),
    ("vlm", &[]),
    ("credential", &[]),
    ("remote", &["credential", "vlm"]),
    ("provenance", &["vlm"]),
    ("verdict", &["vlm"]),
    ("capacity", &["provenance", "roi", "station", "vlm"]),
    ("hard", &["clock", "inspection", "plc", "trigger", "verdict"]),
    (
        "station",
        &[
            "calibration",
            "camera",
            "footage",
            "frame",
            "hard",
            "plc",
            "quality",
            "roi",
            "trigger",
            "verdict",
            "vlm",
        ],
    ),
    ("inspection", &["clock", "frame", "quality", "remote", "roi", "verdict", "vlm"]),
    ("plc", &["clock", "inspection"]),
    (
        "inspector",
        &["clock", "frame", "inspection", "quality", "remote", "roi", "station", "verdict", "vlm"],
    ),
    ("store", &["clock", "fault", "frame", "inspection", "verdict"]),
    ("expected", &["provenance", "verdict"]),
    ("publish", &["clock", "credential", "fault", "inspection", "store", "verdict"]),
    ("sparkplug", &["clock", "inspection", "provenance", "publish", "store", "verdict"]),
    ("upstream", &["credential", "fault", "provenance", "publish", "store"]),
    (
        "config",
        &[
            "calibration",
            "camera",
            "credential",
            "footage",
            "hard",
            "frame",
            "plc",
            "provenance",
            "publish",
            "quality",
            "remote",
            "roi",
            "sparkplug",
            "station",
            "store",
            "telemetry",
            "traces",
            "trigger",
            "upstream",
            "verdict",
            "vlm",
            "web",
        ],
    ),
    ("telemetry", &["footage", "inspection", "plc", "verdict"]),
    ("traces", &["clock", "credential", "inspection", "remote", "telemetry", "verdict", "vlm"]),
    ("service", &[]),
    ("web", &[]),
    (
        "daemon",
        &[
            "camera",
            "capacity",
            "clock",
            "config",
            "expected",
            "fault",
            "footage",
            "frame",
            "hard",
            "inspection",
            "inspector",
            "platform",
            "plc",
            "publish",
            "quality",
            "remote",
            "service",
            "sparkplug",
            "station",
            "store",
            "telemetry",
            "traces",
            "trigger",
            "upstream",
            "verdict",
            "vlm",
            "web",
        ],
    ),
    (
        "bench",
        &["capacity", "clock", "frame", "inspection", "inspector", "simulate", "station", "vlm"],
    ),
    (
        "evaluate",
        &["clock", "frame", "inspection", "inspector", "quality", "roi", "station", "verdict"],
    ),
];

fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = src.join(format!("{room}.rs"));
    if file.exists() {
        return vec![file];
    }
    let mut found = Vec::new();
    let mut open = vec![src.join(room)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a room is a file or a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The rooms named after `crate::` in a source text, its tests left out.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let word = |rest: &str| {
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    let comment = |line: &&str| !line.trim_start().starts_with("//");
    code.lines()
        .filter(comment)
        .flat_map(|line| line.split("crate::").skip(1).map(word).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_room_knows_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for (room, allowed) in KNOWS {
        for path in sources(room) {
            let text = fs::read_to_string(&path).expect("readable");
            for other in named(&text) {
                if other != *room && !allowed.contains(&other.as_str()) {
                    wrong.push(format!("{} names crate::{other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_model_knows_no_wire_and_no_database() {
    for path in sources("vlm") {
        let text = fs::read_to_string(&path).expect("readable");
        for foreign in ["rumqttc", "rusqlite", "gstreamer", "toml::"] {
            assert!(!text.contains(foreign), "{} names {foreign}", path.display());
        }
    }
}
