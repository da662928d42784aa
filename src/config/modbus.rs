//! `[modbus]` of `inspectd.toml`, and whether the stations' registers fit together.

use std::net::SocketAddr;

use super::reader::Reader;
use super::report::Problem;
use crate::hard::modbus::Options;
use crate::hard::registers::WORDS;
use crate::station::Station;

/// Reads the table; `None` if it is not there.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    if !table.is_present() {
        return None;
    }
    let mut options = Options::default();
    let example = SocketAddr::from(([10, 0, 0, 7], options.listen.port()));
    if let Some(address) = table.listen_address("listen", example) {
        options.listen = address;
    }
    if let Some(unit) = table.whole("unit_id", 1..=247) {
        options.unit_id = unit.into_inner() as u8;
    }
    table.finish();
    Some(options)
}

/// Whether the registers of the stations are served, and none are those of two.
pub fn check(is_served: bool, stations: &[Station], problems: &mut Vec<Problem>) {
    let mut based: Vec<(u16, &str)> = stations
        .iter()
        .filter_map(|station| Some((station.outputs.modbus_base?, station.name.as_str())))
        .collect();
    if let (false, Some((_, name))) = (is_served, based.first()) {
        let title = format!("station \"{name}\" has registers, and nothing serves them");
        let remedy = "add a table  [modbus]  to inspectd.toml, or remove [modbus] from the station";
        problems.push(Problem::error(title).remedy(remedy));
    }
    if is_served && based.is_empty() {
        let title = "[modbus] serves the registers of no station";
        let remedy = "add to a station's file  [modbus]  and  base = 0";
        problems.push(Problem::warning(title).remedy(remedy));
    }
    based.sort_unstable();
    for pair in based.windows(2) {
        let ((first, one), (second, other)) = (pair[0], pair[1]);
        if second - first < WORDS {
            let title = format!("the registers of \"{one}\" and \"{other}\" overlap");
            let remedy = format!("each station has {WORDS}: write  base = {}", next(first));
            problems.push(Problem::error(title).remedy(remedy));
        }
    }
}

/// A round number behind the registers that begin at `base`.
fn next(base: u16) -> u32 {
    (u32::from(base) + u32::from(WORDS)).next_multiple_of(100)
}
