//! `inspectd.toml` and the station files.

use std::fs;
use std::path::Path;

use inspectd::config::{self, Loaded};
use inspectd::trigger::Trigger;

/// A main file to go with a hostile station.
const MAIN: &[u8] =
    b"[device]\nname = \"box\"\n[model]\npath = \"model\"\n[broker]\nhost = \"127.0.0.1\"\n";

/// A station to go with a hostile main file.
const STATION: &[u8] = include_bytes!("../../config/stations/demo.toml");

/// Longest deadline of a station, in milliseconds, as the manual says.
const DEADLINE_MAX_MS: u128 = 600_000;

/// A station's file, and behind a zero byte a recipe's, which it may name as `../recipe.toml`.
pub fn station_toml(bytes: &[u8]) {
    let [station, recipe] = super::parts(bytes);
    load(MAIN, station, recipe);
}

/// The main file.
pub fn main_toml(bytes: &[u8]) {
    load(bytes, STATION, b"");
}

fn load(main: &[u8], station: &[u8], recipe: &[u8]) {
    super::in_folder(|dir| {
        let file = dir.join("inspectd.toml");
        fs::create_dir(dir.join("stations")).expect("made");
        fs::write(&file, main).expect("written");
        fs::write(dir.join("stations/one.toml"), station).expect("written");
        fs::write(dir.join("recipe.toml"), recipe).expect("written");
        load_twice(&file);
    });
}

fn load_twice(file: &Path) {
    match (config::load(file), config::load(file)) {
        (Ok(one), Ok(two)) => {
            assert_eq!(format!("{one:?}"), format!("{two:?}"), "it loads the same once more");
            check(&one);
        }
        (Err(one), Err(two)) => {
            assert!(one.errors() > 0);
            one.iter().for_each(|problem| super::check_message(problem.title()));
            assert_eq!(one.render(false), two.render(false));
        }
        _ => panic!("it loads once and not the other time"),
    }
}

/// What the rooms behind the configuration rely on.
fn check(loaded: &Loaded) {
    assert_eq!(loaded.warnings.errors(), 0);
    assert!(!loaded.stations.is_empty());
    for station in loaded.stations.iter().flat_map(|station| station.recipes()) {
        assert!((1..=DEADLINE_MAX_MS).contains(&station.deadline.as_millis()), "{station:?}");
        assert!(station.queue_parts > 0 && station.inspect_every > 0);
        assert!(!station.regions.is_empty() && !station.questions.is_empty());
        assert!(Trigger::new(&station.trigger).is_ok(), "{:?}", station.trigger);
        for question in &station.questions {
            assert!(question.task.answer().is_ok(), "{question:?}");
            let known = |name: &String| station.regions.iter().any(|region| region.name == *name);
            assert!(!question.regions.is_empty() && question.regions.iter().all(known));
        }
        if let Some(plc) = &station.plc {
            assert!(inspectd::plc::RING_RANGE.contains(&plc.ring));
            assert!(plc.commands_per_s > 0 && !plc.heartbeat.is_zero());
        }
    }
}
