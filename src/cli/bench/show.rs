//! What `inspectd bench` shows: a progress bar, the report, the comparison.

use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::compare::Change;
use crate::bench::probe::Rates;
use crate::bench::stage::{Figures, Product, Unit};
use crate::bench::{Comparison, Report, Stage};

/// How far a measurement is, on standard error; silent where that is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    done: u64,
}

impl Progress {
    /// A bar for so many runs.
    pub(super) fn new(runs: usize) -> Progress {
        let bar = ProgressBar::new(runs as u64);
        if let Ok(style) = ProgressStyle::with_template("{msg:>14} {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        Progress { bar, done: 0 }
    }

    /// A run of the stage `id` begins, or the model is loaded before the first one.
    pub(super) fn step(&mut self, id: &str) {
        self.bar.set_message(id.to_owned());
        self.bar.set_position(self.done);
        if id != "loading" {
            self.done += 1;
        }
    }

    /// All runs are done, and `what` follows.
    pub(super) fn last(&mut self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.set_position(self.done);
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints machine, program, model, limits and stages.
pub(super) fn report(report: &Report) {
    let (machine, model, build) = (&report.machine, &report.model, &report.build);
    let memory = machine.memory_bytes.map_or_else(String::new, |bytes| format!(", {}", mb(bytes)));
    println!("machine      {}, {} cores{memory}", machine.cpu, machine.cores);
    println!("             {}", machine.features.join(" "));
    println!(
        "program      {} {} for {}, quantised weights with {}",
        build.version, build.profile, build.target, build.kernels
    );
    if !report.stages.is_empty() {
        let blocks = match model.quantised_bytes {
            0 => String::new(),
            bytes => format!(" ({} quantised)", mb(bytes)),
        };
        let digest: String = model.digest.chars().take(12).collect();
        println!(
            "model        {} {digest}, weights {}{blocks}",
            model.name,
            mb(model.weights_bytes)
        );
        println!(
            "             {} on {}, cache {}, {} threads",
            model.precision, model.device, model.cache, model.threads
        );
        println!(
            "memory       {} resident, {} at most",
            mb(report.memory.resident_bytes),
            mb(report.memory.peak_bytes)
        );
    }
    println!("{}", limits(report));
    if !report.stages.is_empty() {
        println!("{}", stages(&report.stages));
        println!("of: share of the limit with as many threads as computed.");
    }
}

/// The comparison, and what differs beside the times.
pub(super) fn comparison(comparison: &Comparison) {
    let mut table = table(&["stage", "before", "now", "ratio", "noise", ""]);
    for line in &comparison.lines {
        let word = match line.change {
            Change::Slower => Cell::new("SLOWER").fg(Color::Red),
            Change::Faster => Cell::new("faster").fg(Color::Green),
            Change::Same => Cell::new(""),
        };
        table.add_row([
            Cell::new(&line.id),
            right(time(line.old_s)),
            right(time(line.new_s)),
            right(format!("{:.3}", line.ratio)),
            right(format!("{:.1} %", line.noise * 100.0)),
            word,
        ]);
    }
    println!("{table}");
    println!("ratio: time now over time before. noise: both spreads over the time before.");
    for line in comparison.left_out.iter().chain(&comparison.remarks) {
        println!("! {line}");
    }
}

fn limits(report: &Report) -> Table {
    let limits = &report.limits;
    let all = format!("{} threads", limits.threads);
    let columns: &[&str] = &["limit", "1 thread", &all];
    let columns = if limits.threads > 1 { columns } else { &columns[..2] };
    let mut table = table(columns);
    let mut row = |name: String, rate: fn(&Rates) -> f64| {
        let shown = |rates| right(figure(rate(rates) / 1e9));
        let row = [Cell::new(name), shown(&limits.one), shown(&limits.all)];
        table.add_row(row.into_iter().take(columns.len()));
    };
    row("memory, GB/s".to_owned(), |rates| rates.read_bytes_per_s);
    row(format!("f32, GFLOP/s ({})", limits.float), |rates| rates.float_op_per_s);
    row(format!("8 bits, GOP/s ({})", limits.int8), |rates| rates.int8_op_per_s);
    table
}

fn stages(stages: &[Stage]) -> Table {
    let names =
        ["stage", "median", "spread", "rate", "GFLOP/s", "of", "GB/s", "of", "product", "runs"];
    let mut table = table(&names);
    for stage in stages {
        let Figures { median_s, spread_s, units_per_s, gflop_per_s, .. } = stage.figures;
        let Figures { compute_share, gbyte_per_s, memory_share, .. } = stage.figures;
        let share = |share: Option<f64>| {
            right(share.map_or("–".to_owned(), |s| format!("{:.1} %", s * 100.0)))
        };
        table.add_row([
            Cell::new(&stage.id),
            right(time(median_s)),
            right(format!("{:.1} %", spread_s / median_s * 100.0)),
            right(format!("{} {}/s", figure(units_per_s), word(stage.unit))),
            right(figure(gflop_per_s)),
            share(compute_share),
            right(gbyte_per_s.map_or("–".to_owned(), figure)),
            share(memory_share),
            Cell::new(match stage.product {
                Product::Float => "f32",
                Product::Int8 => "8 bits",
            }),
            right(stage.runs_s.len().to_string()),
        ]);
    }
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(header.iter().copied());
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn word(unit: Unit) -> &'static str {
    match unit {
        Unit::Views => "views",
        Unit::Tokens => "tokens",
        Unit::Parts => "parts",
    }
}

/// Seconds in the unit in which people read them.
fn time(seconds: f64) -> String {
    match seconds {
        long if long >= 10.0 => format!("{long:.1} s"),
        middle if middle >= 1.0 => format!("{middle:.2} s"),
        short if short >= 1e-2 => format!("{:.1} ms", short * 1e3),
        shorter => format!("{:.3} ms", shorter * 1e3),
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

fn mb(bytes: u64) -> String {
    match bytes {
        large if large >= 1_000_000_000 => format!("{:.2} GB", large as f64 / 1e9),
        small => format!("{:.1} MB", small as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_units() {
        assert_eq!(
            [time(12.34), time(1.234), time(0.1234), time(0.001234)],
            ["12.3 s", "1.23 s", "123.4 ms", "1.234 ms"]
        );
        assert_eq!([figure(1234.5), figure(12.34), figure(0.1234)], ["1234", "12.3", "0.12"]);
        assert_eq!([mb(2_700_000_000), mb(5_250_000)], ["2.70 GB", "5.2 MB"]);
    }
}
