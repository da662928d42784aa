//! `[modbus]` and `[gpio]` of a station: what shows its verdicts without a broker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::super::reader::Reader;
use super::super::report::Problem;
use super::LINE_MAX;
use crate::hard::registers::WORDS;
use crate::hard::{Outputs, gpio};
use crate::station::Station;
use crate::trigger;

/// Longest time for which a line may show a pass, in milliseconds.
const HOLD_MAX_MS: i64 = 60_000;

/// Reads both tables.
pub fn read(top: &mut Reader<'_>, inspect_every: Option<&Spanned<i64>>) -> Outputs {
    let mut registers = top.table("modbus");
    let base = registers.whole("base", 0..=65_536 - i64::from(WORDS));
    if registers.is_present() {
        registers.required("base", base.as_ref(), "base = 0");
    }
    registers.finish();
    let outputs = Outputs {
        modbus_base: base.map(|base| base.into_inner() as u16),
        gpio: read_line(top.table("gpio")),
    };
    if let Some(every) = inspect_every.filter(|every| *every.get_ref() > 1 && outputs.is_any()) {
        let title = format!("only one part in {} can pass", every.get_ref());
        let remedy = "on [modbus] and [gpio] a part that nobody looked at reads as reject: remove \
                      `inspect_every`, or sort by the results on MQTT";
        top.warn(every.span(), title, remedy);
    }
    outputs
}

fn read_line(mut table: Reader<'_>) -> Option<gpio::Options> {
    if !table.is_present() {
        return None;
    }
    let chip = table.path("chip");
    let chip = table.required("chip", chip, "chip = \"/dev/gpiochip0\"");
    let mut line = |key| table.whole(key, 0..=LINE_MAX);
    let (pass, alive) = (line("pass_line"), line("alive_line"));
    let pass = table.required("pass_line", pass, "pass_line = 17");
    if let Some((pass, alive)) = pass.as_ref().zip(alive.as_ref())
        && pass.get_ref() == alive.get_ref()
    {
        table.error(alive.span(), "`alive_line` is `pass_line`", "name another line");
    }
    let hold = table.whole("hold_ms", 10..=HOLD_MAX_MS);
    let hold = table.required("hold_ms", hold, "hold_ms = 500");
    let active_low = table.flag("active_low").is_some_and(|flag| flag.into_inner());
    table.finish();
    Some(gpio::Options {
        chip: chip?.into_inner(),
        pass_line: pass?.into_inner() as u32,
        active_low,
        hold: Duration::from_millis(hold?.into_inner() as u64),
        alive_line: alive.map(|line| line.into_inner() as u32),
    })
}

/// Whether no line is used twice: driven by two stations, or driven and watched.
pub fn check(stations: &[Station], problems: &mut Vec<Problem>) {
    let mut users: BTreeMap<(PathBuf, u32), &str> = BTreeMap::new();
    for station in stations {
        let driven = station
            .outputs
            .gpio
            .iter()
            .flat_map(|gpio| gpio.lines().map(|line| (gpio.chip.clone(), line)));
        let watched = match &station.trigger {
            trigger::Options::PhotoEye(eye) => Some(eye),
            _ => None,
        };
        let watched =
            watched.into_iter().flat_map(|eye| eye.lines().map(|line| (eye.chip.clone(), line)));
        for place in driven.chain(watched) {
            let (chip, line) = (place.0.display().to_string(), place.1);
            let Some(first) = users.insert(place, &station.name) else { continue };
            let title = match first == station.name {
                true => format!("\"{first}\" watches a line that it drives: {line} of {chip}"),
                false => format!(
                    "\"{first}\" and \"{}\" use the same line: {line} of {chip}",
                    station.name
                ),
            };
            problems.push(Problem::error(title).remedy("give each station lines of its own"));
        }
    }
}
