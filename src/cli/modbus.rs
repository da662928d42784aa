//! `inspectd modbus`.

use std::io::{self, Write};

use comfy_table::{Table, presets};

use super::{ConfigFile, Exit};
use crate::hard::registers::{ROWS, Row};
use crate::station::Station;

pub const EXAMPLES: &str = "\
Examples:
  inspectd modbus map
  inspectd modbus map --config config/inspectd.toml --csv > registers.csv

Addresses count from 0, as requests do; tools that write 40001 for the first holding register add
40001 to them. Holding registers (function 3) and input registers (function 4) are the same. Read
a station's whole block in one request: then all of it is of one moment.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Print which register shows what, for the stations of a configuration.
    #[command(after_help = EXAMPLES)]
    Map {
        #[command(flatten)]
        config: ConfigFile,
        /// Print CSV, to be imported.
        #[arg(long)]
        csv: bool,
    },
}

/// Prints the register map.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Action::Map { config, csv } = &arguments.action;
    let loaded = super::run::load(config)?;
    let Some(modbus) = &loaded.settings.modbus else {
        let text = "this configuration serves no registers: add [modbus] to it, and [modbus] with a \
                    `base` to a station";
        return Err(Exit::Usage.because(anyhow::anyhow!(text)));
    };
    let out = &mut io::stdout().lock();
    let rows = loaded.stations.iter().flat_map(rows_of);
    if *csv {
        return write_csv(rows, out);
    }
    writeln!(out, "Modbus TCP on {}, unit {}; functions 3 and 4\n", modbus.listen, modbus.unit_id)?;
    for station in loaded.stations.iter().filter(|it| it.outputs.modbus_base.is_some()) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY);
        table.set_header(["address", "words", "name", "type", "meaning"]);
        for (_, address, row) in rows_of(station) {
            let (address, words) = (address.to_string(), row.words.to_string());
            table.add_row([&address, &words, row.name, row.kind.as_str(), row.about]);
        }
        writeln!(out, "station {}\n{table}\n", station.name)?;
    }
    Ok(())
}

/// Each row of a station with its address.
fn rows_of(station: &Station) -> impl Iterator<Item = (&str, u16, &'static Row)> {
    let base = station.outputs.modbus_base;
    let of = move |base: u16| ROWS.iter().map(move |row| (&*station.name, base + row.at, row));
    base.into_iter().flat_map(of)
}

fn write_csv<'s>(
    rows: impl Iterator<Item = (&'s str, u16, &'static Row)>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["station", "address", "words", "name", "type", "meaning"])?;
    for (station, address, row) in rows {
        let (address, words) = (address.to_string(), row.words.to_string());
        csv.write_record([station, &address, &words, row.name, row.kind.as_str(), row.about])?;
    }
    csv.flush()?;
    Ok(())
}
