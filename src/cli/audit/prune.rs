//! `inspectd audit prune`.

use std::io::Write;
use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};

use crate::cli::Exit;
use crate::clock::SystemClock;
use crate::store::retention::{self, Pruner, Time};
use crate::store::{Reader, Store, StoreOptions};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only show what would go. A daemon may be running.
    #[arg(long)]
    pub dry_run: bool,
}

/// Shows what the configuration would remove now.
pub fn preview(reader: &Reader, options: &StoreOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    if options.retention.is_off() {
        writeln!(out, "[retention] names no limit: pictures are kept for ever.")?;
        return Ok(());
    }
    let told = retention::preview(reader, options, &SystemClock)
        .map_err(|why| Exit::Store.because(why))?;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["For", "Of", "Pictures", "MiB"]);
    for right in [2, 3] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for ((why, class), (files, bytes)) in &told.parts {
        table.add_row([why.as_str(), class.as_str(), &files.to_string(), &mib(*bytes)]);
    }
    if told.parts.is_empty() {
        writeln!(out, "Nothing would go.")?;
    } else {
        writeln!(out, "{table}")?;
    }
    let (files, bytes) = told.all;
    let free = mib(told.free_bytes);
    writeln!(out, "There are {files} pictures of {} MiB; {free} MiB are free.", mib(bytes))?;
    if told.stuck_bytes > 0 {
        let stuck = mib(told.stuck_bytes);
        writeln!(out, "{stuck} MiB more are to be freed, and nothing else may go.")?;
    }
    match told.time {
        Time::Known => {}
        Time::NotSynchronized => {
            writeln!(out, "The clock follows no time source: nothing goes by age.")?;
        }
        Time::Ahead(ms) => writeln!(
            out,
            "The clock is {} days ahead of the record and is believed slowly.",
            ms / 86_400_000
        )?,
    }
    Ok(())
}

/// Removes it, round by round, where no daemon does.
pub fn run(options: &StoreOptions) -> anyhow::Result<()> {
    let refused = |why| Exit::Store.because(why);
    let store = Store::open(options, Arc::new(SystemClock)).map_err(refused)?;
    let mut pruner = Pruner::open(&store, options.retention).map_err(refused)?;
    let (mut files, mut bytes) = (0, 0);
    loop {
        let round = pruner.round().map_err(refused)?;
        (files, bytes) = (files + round.files, bytes + round.bytes);
        if round.has_read_all && round.files == 0 {
            break;
        }
    }
    println!("{files} pictures of {} MiB removed.", mib(bytes));
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
