//! `inspectd top`: a running daemon at a glance, in the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::Method;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget as _};

use super::ConfigFile;
use super::reload::database;
use crate::web::status::{Station, Status};
use crate::web::{self, client};

pub const EXAMPLES: &str = "\
Examples:
  inspectd top                          (q ends it)
  inspectd top --once                   (once, as text: for a script or a report)
  inspectd top --json | jq .health      (everything that is known)";

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lines of trouble that are shown; the number of others is told.
const TROUBLES_MAX: usize = 6;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Print the state once and end.
    #[arg(long)]
    once: bool,
    /// Print the state once, as JSON.
    #[arg(long, conflicts_with = "once")]
    json: bool,
    /// Seconds from one look to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    every: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600".to_owned()) }
}

/// Shows the daemon of this configuration until q, or once.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let socket = web::control_path(&database(&arguments.config)?);
    if arguments.json {
        let text = serde_json::to_string_pretty(&ask(&socket)?)?;
        return Ok(writeln!(io::stdout(), "{text}")?);
    }
    if arguments.once || !io::stdout().is_terminal() {
        return Ok(write!(io::stdout(), "{}", text_of(&ask(&socket)?))?);
    }
    let mut status = Ok(ask(&socket)?);
    let mut terminal = ratatui::try_init().context("the terminal cannot be used; try --once")?;
    let every = Duration::from_secs_f64(arguments.every);
    let ended = loop {
        let drawn = terminal.draw(|frame| draw(&status, frame.area(), frame.buffer_mut()));
        match drawn.and_then(|_| wants_to_end(every)) {
            Ok(false) => status = ask(&socket).map_err(|why| format!("{why:#}")),
            Ok(true) => break Ok(()),
            Err(why) => break Err(why),
        }
    };
    ratatui::restore();
    Ok(ended?)
}

fn ask(socket: &Path) -> anyhow::Result<Status> {
    let (_, body) = client::ask(socket, Method::GET, "/status", PATIENCE)?;
    serde_json::from_slice(&body).context("the daemon's answer cannot be read")
}

/// Waits for a key for as long as that; whether it was one that ends.
fn wants_to_end(wait: Duration) -> io::Result<bool> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !event::poll(left)? {
            return Ok(false);
        }
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let is_c = key.code == KeyCode::Char('c');
            let breaks = is_c && key.modifiers.contains(KeyModifiers::CONTROL);
            if breaks || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(true);
            }
        }
    }
}

/// The same as lines of text, without colours.
fn text_of(status: &Status) -> String {
    let troubles = troubles(status).len().min(TROUBLES_MAX + 1);
    let rows = 7 + status.stations.len() + troubles;
    let area = Rect::new(0, 0, 120, u16::try_from(rows).unwrap_or(u16::MAX));
    let mut buffer = Buffer::empty(area);
    draw_status(status, area, &mut buffer);
    let line = |y: u16| {
        let cells: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", cells.trim_end())
    };
    let text: String = (0..area.height).map(line).collect();
    format!("{}\n", text.trim_end())
}

fn draw(status: &Result<Status, String>, area: Rect, buffer: &mut Buffer) {
    match status {
        Ok(status) => draw_status(status, area, buffer),
        Err(why) => {
            let style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
            Paragraph::new(Span::styled(why.as_str(), style)).render(area, buffer);
        }
    }
}

fn draw_status(status: &Status, area: Rect, buffer: &mut Buffer) {
    let heading = Line::from(vec![
        Span::styled(format!("inspectd {}  ", status.version), Modifier::BOLD),
        Span::raw(format!("{}  up {}  ", status.device, duration(status.up_s))),
        state(status),
    ]);
    let troubles = troubles(status);
    let lines = 4 + u16::try_from(troubles.len().min(TROUBLES_MAX + 1)).unwrap_or(0);
    let [top, table] =
        Layout::vertical([Constraint::Length(lines + 1), Constraint::Min(2)]).areas(area);
    let mut text = vec![heading];
    let [model, delivery, machine] = [model(status), delivery(status), machine(status)];
    text.extend([Line::raw(model), Line::raw(delivery), Line::raw(machine)]);
    text.extend(troubles.iter().take(TROUBLES_MAX).cloned());
    if troubles.len() > TROUBLES_MAX {
        text.push(Line::raw(format!("and {} more", troubles.len() - TROUBLES_MAX)));
    }
    Paragraph::new(text).render(top, buffer);
    stations(status).render(table, buffer);
}

fn state(status: &Status) -> Span<'static> {
    let (word, colour) = match (status.health.is_ready(), status.health.degraded.is_empty()) {
        (true, true) => ("INSPECTING", Color::Green),
        (true, false) => ("INSPECTING, see below", Color::Yellow),
        (false, _) => ("NOT READY", Color::Red),
    };
    Span::styled(word, Style::new().fg(colour).add_modifier(Modifier::BOLD))
}

fn troubles(status: &Status) -> Vec<Line<'static>> {
    let health = &status.health;
    let line = |mark: &'static str, colour, text: String| {
        Line::from(vec![Span::styled(mark, Style::new().fg(colour)), Span::raw(text)])
    };
    let hung = health.hung.iter().map(|name| line("HUNG  ", Color::Red, name.clone()));
    let not_ready = health.not_ready.iter().map(|it| line("DOWN  ", Color::Red, it.clone()));
    let degraded = health.degraded.iter().map(|it| line("SEE   ", Color::Yellow, it.clone()));
    hung.chain(not_ready).chain(degraded).collect()
}

fn model(status: &Status) -> String {
    let planned = status.model.planned_bytes.map(|bytes| format!(", {} planned", mib(Some(bytes))));
    let planned = planned.unwrap_or_default();
    format!("model   {} ({}){planned}", status.model.path, status.model.computes_on)
}

fn delivery(status: &Status) -> String {
    let disk = &status.disk;
    let disk = format!("disk {} free, log {}", mib(disk.free_bytes), mib(disk.database_bytes));
    match &status.broker {
        None => format!("broker  none{}; {disk}", copy(status)),
        Some(broker) => {
            let is = if broker.connected { "connected" } else { "AWAY" };
            let oldest = broker.oldest_s.map(|s| format!(", the oldest {}", duration(s)));
            let oldest = oldest.unwrap_or_default();
            format!("broker  {is}, {} results wait{oldest}{}; {disk}", broker.unsent, copy(status))
        }
    }
}

/// Nothing where no copy is configured.
fn copy(status: &Status) -> String {
    let Some(copy) = &status.postgres else { return String::new() };
    let is = match (&copy.conflict, copy.connected) {
        (Some(_), _) => "STANDS STILL",
        (None, true) => "connected",
        (None, false) => "AWAY",
    };
    format!("; PostgreSQL {is}, {} records wait", copy.waiting)
}

fn machine(status: &Status) -> String {
    let machine = &status.machine;
    let hottest = machine.temperatures_celsius.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let heat = hottest.map(|(zone, celsius)| format!(", {celsius:.0} °C ({zone})"));
    let slow = if machine.throttled == Some(true) { ", THROTTLED" } else { "" };
    let weak = if machine.power.under_voltage == Some(true) { ", UNDER-VOLTAGE" } else { "" };
    let memory =
        format!("{} used, {} left", mib(machine.memory_bytes), mib(machine.available_bytes));
    format!("machine memory {memory}{}{slow}{weak}", heat.unwrap_or_default())
}

fn stations(status: &Status) -> Table<'static> {
    let titles = [
        "STATION", "RECIPE", "STATE", "CAMERA", "FRAMES", "LOST", "QUEUE", "PASS", "FAIL",
        "REVIEW", "P50", "P95", "LAST",
    ];
    let widths = [
        Constraint::Min(10),
        Constraint::Min(8),
        Constraint::Length(14),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    let heading = Row::new(titles).style(Modifier::BOLD);
    Table::new(status.stations.iter().map(row), widths).header(heading).column_spacing(1)
}

fn row(one: &Station) -> Row<'static> {
    let ms = |at: usize| one.latency_ms.map_or("-".to_owned(), |ms| format!("{:.0}ms", ms[at]));
    let last = one.last.as_ref().map_or("-", |last| last.verdict.as_str());
    let colour = match last {
        "pass" => Color::Green,
        "fail" => Color::Red,
        "review" => Color::Yellow,
        _ => Color::Reset,
    };
    let (camera, of_camera) =
        if one.camera.delivers { ("ok", Color::Reset) } else { ("LOST", Color::Red) };
    // The word of OPC 40100-1 before the dot says nothing that the one after it does not.
    let state = match one.state.rsplit('.').next().unwrap_or_default() {
        "SingleExecution" | "ContinuousExecution" => "executing".to_owned(),
        word => word.to_lowercase(),
    };
    let of_state = if one.fault.is_some() { Color::Red } else { Color::Reset };
    Row::new([
        Cell::new(one.name.clone()),
        Cell::new(one.recipe.clone()),
        Cell::new(state).style(of_state),
        Cell::new(camera).style(of_camera),
        Cell::new(one.camera.frames.to_string()),
        Cell::new((one.camera.dropped + one.camera.damaged).to_string()),
        Cell::new(format!("{}/{}", one.queue, one.queue_places)),
        Cell::new(one.parts.pass.to_string()),
        Cell::new(one.parts.fail.to_string()),
        Cell::new(one.parts.review.to_string()),
        Cell::new(ms(0)),
        Cell::new(ms(1)),
        Cell::new(last.to_owned()).style(colour),
    ])
}

fn mib(bytes: Option<u64>) -> String {
    match bytes {
        None => "?".to_owned(),
        Some(bytes) if bytes >= 10 << 30 => format!("{} GiB", bytes >> 30),
        Some(bytes) => format!("{} MiB", bytes >> 20),
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
