//! The operations handbook: its commands run, its tables have every code, topic and key, its links lead somewhere.

mod reference;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::support::mosquitto::{DEADLINE, Mosquitto};

/// A page and its text.
struct Page {
    path: PathBuf,
    text: String,
}

/// How the commands of one block are tried.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Here,
    InASystem,
    NotAtAll,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    pages_in("docs/handbook")
}

fn pages_in(folder: &str) -> Vec<Page> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.sort();
    let read = |path: PathBuf| Page { text: fs::read_to_string(&path).expect("a page"), path };
    paths.into_iter().map(read).collect()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs/handbook").join(name)).expect("a page")
}

/// The blocks of shell commands, each with what the line before it says.
fn blocks(page: &Page) -> Vec<(Tried, String)> {
    let lines: Vec<&str> = page.text.lines().collect();
    let mut found = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "```sh") {
        let mark = lines[..at].iter().rev().find(|line| !line.is_empty()).expect("a line before");
        let tried = match *mark {
            "<!-- run -->" => Tried::Here,
            "<!-- system -->" => Tried::InASystem,
            told if told.starts_with("<!-- not run: ") => Tried::NotAtAll,
            _ => panic!("{}: line {} has commands that nobody tries", page.path.display(), at + 1),
        };
        let commands = lines[at + 1..].iter().take_while(|line| **line != "```");
        found.push((tried, commands.map(|line| format!("{line}\n")).collect()));
    }
    found
}

#[test]
fn the_commands_of_each_page_run_in_their_order() {
    let mut ran = 0;
    for page in pages() {
        let here: Vec<String> = blocks(&page)
            .into_iter()
            .filter_map(|(tried, commands)| (tried == Tried::Here).then_some(commands))
            .collect();
        if here.is_empty() {
            continue;
        }
        // As in the middle of the page on a first station: a configuration, pictures, the built-in model.
        let site = crate::support::station::Site::of_pictures(None);
        let program = Path::new(env!("CARGO_BIN_EXE_inspectd")).parent().expect("a folder");
        let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
        let script = here.concat();
        let shell = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(site.dir.path())
            .env("PATH", path)
            .env("INSPECTD_CONFIG", "inspectd.toml")
            .output()
            .expect("bash");
        let told = String::from_utf8_lossy(&[shell.stdout, shell.stderr].concat()).into_owned();
        assert!(shell.status.success(), "{}:\n{script}\n{told}", page.path.display());
        ran += here.len();
    }
    assert!(ran >= 6, "only {ran} blocks were found");
}

#[test]
fn links_lead_to_files_and_every_page_is_in_the_contents() {
    let contents = page("SUMMARY.md");
    let handbook = pages();
    let names = handbook.iter().map(|page| page.path.file_name().unwrap().to_str().unwrap());
    for name in names.filter(|name| *name != "SUMMARY.md") {
        assert!(contents.contains(&format!("({name})")), "{name} is in no contents");
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("a page");
    let subjects = pages_in("docs");
    for page in &subjects {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("docs/{name})")), "README.md does not lead to {name}");
    }
    for page in handbook.into_iter().chain(subjects).chain(pages_in("")) {
        let name = page.path.display();
        for target in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let path = page.path.parent().unwrap().join(file);
            assert!(path.exists(), "{name}: {target} leads nowhere");
        }
    }
}

/// The first column of the table below the heading, in the order of its rows: what stands in backticks.
fn told(text: &str, heading: &str) -> BTreeSet<String> {
    let section = text.split(&format!("## {heading}\n")).nth(1).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let words = rows
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    words.collect()
}

/// The program's own source, without what stands in its tests.
fn source(under: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs")
            {
                let file = fs::read_to_string(&path).expect("source");
                text += file.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            }
        }
    }
    text
}

/// Texts in quotes that follow `before`, whatever white space is between.
fn after(text: &str, before: &str) -> BTreeSet<String> {
    let rest = text.split(before).skip(1);
    let word = |rest: &str| {
        let word = rest.trim_start().strip_prefix('"')?.split('"').next()?;
        let is_code = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_code.then(|| word.to_owned())
    };
    rest.filter_map(word).collect()
}

#[test]
fn every_reason_is_explained_and_none_that_is_not_there() {
    let told = told(&page("codes.md"), "Reasons");
    let rooms = ["src/verdict", "src/inspector", "src/daemon", "src/trigger"].map(source).concat();
    let mut codes = after(&rooms, "Reason::new(");
    codes.extend(after(&rooms, "record_unknown("));
    codes.extend(after(&rooms, "code:"));
    codes.extend(
        after(&source("src/remote"), "=>")
            .into_iter()
            .filter(|code| code.starts_with("engine_") || code.starts_with("answer_")),
    );
    codes.extend(
        after(&source("src/quality"), "=>").into_iter().filter(|code| code.starts_with("picture_")),
    );
    // Those with a name of their own.
    for name in [
        "DEADLINE_MISSED",
        "DISPUTED",
        "VOTE_SHORT",
        "QUESTION_FAILED",
        "FALLBACK_FULL",
        "NOT_SAMPLED",
    ] {
        let value = after(&rooms, &format!("const {name}: &str ="));
        assert_eq!(value.len(), 1, "{name}");
        codes.extend(value);
    }
    let missing: Vec<_> = codes.difference(&told).collect();
    assert!(missing.is_empty(), "docs/handbook/codes.md lacks {missing:?}");
    let quoted = |code: &&String| !rooms.contains(&format!("\"{code}\"")) && !codes.contains(*code);
    let gone: Vec<_> = told.iter().filter(quoted).collect();
    assert!(gone.is_empty(), "docs/handbook/codes.md explains {gone:?}, which nothing says");
}

#[test]
fn events_refusals_and_exit_codes_are_those_that_there_are() {
    let text = page("codes.md");
    let events = source("src/store");
    let kinds = events.split("EventKind::Genesis =>").nth(1).expect("the words");
    let kinds = format!("=>{}", kinds.split("        }\n").next().unwrap_or_default());
    assert_eq!(told(&text, "Events of the audit log"), after(&kinds, "=>"));
    let refusals = source("src/plc");
    let codes = refusals.split("Code::NotReady =>").nth(1).expect("the words");
    let codes = format!("=>{}", codes.split("        }\n").next().unwrap_or_default());
    assert_eq!(told(&text, "Refused commands"), after(&codes, "=>"));
    let exits = source("src/cli");
    let exits = exits.split("pub enum Exit {").nth(1).and_then(|rest| rest.split("\n}").next());
    let codes = exits
        .expect("the codes")
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split(" = ").nth(1));
    for code in codes {
        assert!(text.contains(&format!("\n| {code} | ")), "exit code {code} is not explained");
    }
}

#[test]
fn every_topic_and_schema_is_listed() {
    let text = page("topics.md");
    let api =
        fs::read_to_string(root().join("src/publish/schema/asyncapi.yaml")).expect("readable");
    let topics =
        api.lines().filter_map(|line| line.trim().strip_prefix("address: '")?.strip_suffix('\''));
    let mut count = 0;
    for topic in topics {
        assert!(text.contains(&format!("| `{topic}` |")), "{topic} is not listed");
        count += 1;
    }
    assert_eq!(text.matches("\n| `{prefix}").count(), count, "a topic is listed that there is not");
    for schema in inspectd::publish::schema::ALL {
        assert!(text.contains(&format!("`{}`", schema.name)), "{} is not listed", schema.name);
    }
}

/// The configuration of a bridge, with two brokers.
#[test]
fn a_bridge_carries_results_up_and_no_command_down() {
    let text = page("fleet.md");
    let bridge =
        text.split("```conf\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a bridge");
    let plant = Mosquitto::start();
    let bridge = bridge.replace("broker.plant:1883", &format!("127.0.0.1:{}", plant.port()));
    let cell = Mosquitto::configured(|_| bridge);
    let publish = |broker: &Mosquitto, topic: &str| {
        let port = broker.port().to_string();
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-m", topic, "-t", topic]);
        assert!(command.status().expect("mosquitto-clients").success());
    };
    let kept = |broker: &Mosquitto, topic: &str, seconds: &str| {
        let port = broker.port().to_string();
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &port, "-C", "1", "-W", seconds, "-t", topic]);
        String::from_utf8(command.output().expect("mosquitto-clients").stdout).expect("text")
    };
    publish(&plant, "inspectd/press-3/plate/cmd/trigger");
    publish(&cell, "inspectd/press-3/plate/cmd/trigger/reply");
    // `last` is retained, so it matters not whether the bridge stood already when it was sent.
    publish(&cell, "inspectd/press-3/plate/last");
    let until = Instant::now() + DEADLINE;
    while kept(&plant, "inspectd/press-3/plate/last", "1").is_empty() {
        assert!(Instant::now() < until, "the bridge carries nothing");
    }
    publish(&cell, "inspectd/press-3/status");
    while kept(&plant, "inspectd/press-3/status", "1").is_empty() {
        assert!(Instant::now() < until, "the bridge carries no status");
    }
    // What was sent before these has had its time: both ways are in order.
    assert_eq!(kept(&cell, "inspectd/press-3/plate/cmd/trigger", "1"), "");
    assert_eq!(kept(&plant, "inspectd/press-3/plate/cmd/trigger/reply", "1"), "");
}
