//! `inspectd serial test`: what a station's rules say about serial numbers.

use std::io::{self, BufRead, Write};

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::{ConfigFile, Exit};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::daemon::Ledger;
use crate::expected::{Access, ExpectedLists};
use crate::inspector::{Asking, look_up};
use crate::station::Station;
use crate::store::Reader;
use crate::verdict::serial::{self, Repair, SerialFacts, SerialRule};
use crate::verdict::{Outcome, Reason};

pub const EXAMPLES: &str = "\
Examples:
  inspectd serial test --station plate A7K2M9PX
  inspectd serial test --config config/inspectd.toml --station demo A7K2M9PX AOK2M9PX
  inspectd serial test --station plate --json < serials.txt

Each serial is judged as if it had been read from a part of the station now: template, check
digit, look-alikes, the list of expected serials, other parts in the audit log. Nothing is
written. The exit code is 0 if all hold and 6 if one does not.";

/// Most serials of one call.
const SERIALS_MAX: usize = 1_000_000;

/// Longest line that is taken from standard input, in bytes.
const LINE_MAX_BYTES: u64 = 4096;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say of each serial what each rule says.
    #[command(after_help = EXAMPLES)]
    Test(TestArguments),
}

#[derive(clap::Args, Debug)]
struct TestArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The station whose rules apply.
    #[arg(long)]
    station: String,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// The serials; without any they are read from standard input, one a line.
    #[arg(value_name = "SERIAL")]
    serials: Vec<String>,
}

/// What each rule says about one serial.
#[derive(Debug, Serialize)]
struct Tried {
    serial: String,
    verdict: Outcome,
    /// Of the template's form.
    template: bool,
    /// The check digit is right; `None`: there is none.
    check_digit: Option<bool>,
    /// The check digit that would be right, if there is one.
    check_digit_right: Option<String>,
    /// The one text that it may have been.
    repair: Option<Repair>,
    /// What was looked up.
    facts: Option<SerialFacts>,
    reasons: Vec<Reason>,
}

/// Tries the serials and answers by the exit code whether all hold.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Command::Test(arguments) = &arguments.command;
    let loaded = super::run::load(&arguments.config)?;
    let station = super::inspect::pick(&loaded.stations, &arguments.station)?;
    let Some(rule) = &station.rules.serial else {
        let why = format!("station \"{}\" asks for no serial number", station.name);
        return Err(Exit::Usage.because(anyhow::anyhow!(why)));
    };
    let serials = match arguments.serials.is_empty() {
        true => read_serials(&mut io::stdin().lock())?,
        false => arguments.serials.clone(),
    };
    if serials.is_empty() {
        return Err(Exit::Usage.because(anyhow::anyhow!("no serial was given")));
    }
    let ledger = ledger_beside(&loaded.settings, station)?;
    let tried: Vec<Tried> =
        serials.iter().map(|text| try_one(text, rule, station, &ledger)).collect();
    let out = &mut io::stdout().lock();
    match arguments.json {
        true => tried.iter().try_for_each(|one| -> anyhow::Result<()> {
            writeln!(out, "{}", serde_json::to_string(one)?)?;
            Ok(())
        })?,
        false => print(&tried, rule, out)?,
    }
    let bad = tried.iter().filter(|one| one.verdict != Outcome::Pass).count();
    if bad > 0 {
        let why = format!("{bad} of {} do not hold", tried.len());
        return Err(Exit::Check.because(anyhow::anyhow!(why)));
    }
    Ok(())
}

/// The record and the lists of a configuration, to look into beside a daemon. Nothing is opened that
/// the station's rules do not need.
pub(super) fn ledger_beside(settings: &Settings, station: &Station) -> anyhow::Result<Ledger> {
    let Some(rule) = &station.rules.serial else {
        return Ok(Ledger::beside(None, ExpectedLists::default()));
    };
    let database = &settings.store.path;
    let stations = [(station.name.as_str(), rule)];
    let (lists, _) = ExpectedLists::open(database, stations, Access::Read)
        .map_err(|error| Exit::Store.because(error))?;
    let reader = (rule.looks_up() && database.exists()).then(|| Reader::open(database));
    let reader = reader.transpose().map_err(|error| Exit::Store.because(error))?;
    Ok(Ledger::beside(reader, lists))
}

fn try_one(text: &str, rule: &SerialRule, station: &Station, ledger: &Ledger) -> Tried {
    let clock = SystemClock;
    let now_ms = clock.synchronized().then(|| clock.now().wall.as_millisecond());
    let asking = Asking { station, part_id: "", job_id: None, now_ms };
    let facts = rule.looks_up().then(|| look_up(rule, text, &asking, ledger));
    let (mut reasons, mut doubtful) = (Vec::new(), Vec::new());
    serial::check(text, rule, facts.as_ref(), &mut reasons, &mut doubtful);
    let verdict = match (reasons.is_empty(), doubtful.is_empty()) {
        (false, _) => Outcome::Fail,
        (true, false) => Outcome::Review,
        (true, true) => Outcome::Pass,
    };
    reasons.append(&mut doubtful);
    let list = facts.as_ref().and_then(|facts| facts.list.as_ref());
    Tried {
        serial: text.to_owned(),
        verdict,
        template: rule.form.matches(text),
        check_digit: rule.check_digit.as_ref().map(|scheme| scheme.holds(text)),
        check_digit_right: rule.check_digit.as_ref().and_then(|scheme| scheme.right(text)),
        repair: rule.repair(text, list),
        facts,
        reasons,
    }
}

fn read_serials(input: &mut dyn BufRead) -> anyhow::Result<Vec<String>> {
    let unreadable = |why: String| Exit::Usage.because(anyhow::anyhow!("standard input: {why}"));
    let mut serials = Vec::new();
    loop {
        let mut line = String::new();
        let mut limited = io::Read::take(&mut *input, LINE_MAX_BYTES);
        let count = limited.read_line(&mut line).map_err(|why| unreadable(why.to_string()))?;
        if count as u64 == LINE_MAX_BYTES {
            return Err(unreadable(format!("line {} is too long", serials.len() + 1)));
        }
        if count == 0 {
            return Ok(serials);
        }
        let text = line.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            continue;
        }
        if serials.len() == SERIALS_MAX {
            return Err(unreadable(format!("more than {SERIALS_MAX} serials")));
        }
        serials.push(text.to_owned());
    }
}

fn print(tried: &[Tried], rule: &SerialRule, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "serial",
        "template",
        "check digit",
        "repair",
        "expected",
        "other part",
        "verdict",
    ]);
    for one in tried {
        table.add_row(cells(one, rule));
    }
    writeln!(out, "{table}")?;
    for one in tried {
        for reason in &one.reasons {
            writeln!(out, "{}: {} ({})", printable(&one.serial), reason.text, reason.code)?;
        }
    }
    Ok(())
}

fn cells(one: &Tried, rule: &SerialRule) -> [String; 7] {
    let none = || "–".to_owned();
    let check = match (one.check_digit, &one.check_digit_right) {
        (None, _) => none(),
        (Some(true), _) => "right".to_owned(),
        (Some(false), Some(right)) => format!("wrong: {right} would be right"),
        (Some(false), None) => "cannot be computed".to_owned(),
    };
    let repair = one.repair.as_ref().map_or_else(none, |repair| {
        let word = if repair.accepted { "accepted" } else { "proposed" };
        format!("{} {word}", repair.serial)
    });
    let list = one.facts.as_ref().and_then(|facts| facts.list.as_ref());
    let expected = match list {
        Some(list) if list.has_reading => "yes".to_owned(),
        Some(list) => format!("no, of {}", list.entries),
        None if rule.expected.is_some() => "unknown".to_owned(),
        None => none(),
    };
    let earlier =
        one.facts.as_ref().and_then(|facts| facts.earlier.as_ref().or(facts.used.as_ref()));
    let other = earlier.map_or_else(none, |earlier| {
        format!("record {}: {}", earlier.sequence, printable(&earlier.serial))
    });
    let template = if one.template { "yes" } else { "no" };
    let verdict = one.verdict.as_str().to_owned();
    [printable(&one.serial), template.to_owned(), check, repair, expected, other, verdict]
}

/// Without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(80).collect()
}
