//! `inspectd check`: every problem at once, or what would run.

use std::io::{self, Write};
use std::path::Path;

use super::report::{Problem, Problems};
use super::station::adapter;
use super::{Loaded, Settings, load};
use crate::camera::{self, Source};
use crate::hard::{eye, gpio, registers};
use crate::quality::Gate;
use crate::roi::Area;
use crate::station::{Fallback, Question, Station, Task};
use crate::trigger::{self, PhotoEyeOptions, Way, WhichFrame};
use crate::verdict::Rules;
use crate::verdict::serial::{Consequence, SerialRule, Window};
use crate::vlm::AdapterRef;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Checked {
    /// The program would start with it.
    Good,
    /// The program would refuse it.
    Bad,
}

/// One more look at a configuration: problems, and lines for the summary.
pub type Look<'a> = dyn Fn(&Loaded) -> (Vec<Problem>, Vec<String>) + 'a;

impl Checked {
    /// The exit code: 0 good, 2 bad.
    pub fn code(self) -> u8 {
        match self {
            Checked::Good => 0,
            Checked::Bad => 2,
        }
    }
}

/// Checks the configuration at `path` and whether its cameras could be opened, without starting
/// anything, and prints what it found. Errors are those of `out`.
pub fn run(path: &Path, out: &mut dyn Write, colour: bool) -> io::Result<Checked> {
    run_with(path, out, colour, &|_| (vec![], vec![]))
}

/// As [`run`], with one more look by somebody who knows the model and the machine: `look` answers
/// problems, and lines for the summary.
pub fn run_with(
    path: &Path,
    out: &mut dyn Write,
    colour: bool,
    look: &Look<'_>,
) -> io::Result<Checked> {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            write!(out, "{}", problems.render(colour))?;
            writeln!(out, "{}", count(&problems))?;
            return Ok(Checked::Bad);
        }
    };
    let cameras = check_cameras(&loaded.stations);
    let (mut found, lines) = look(&loaded);
    found.extend(check_adapters(&loaded));
    found.extend(check_lines(&loaded.stations));
    let found = Problems::new(found);
    write!(out, "{}", loaded.warnings.render(colour))?;
    write!(out, "{}{}", cameras.render(colour), found.render(colour))?;
    if !cameras.is_empty() || found.errors() > 0 {
        writeln!(out, "{} is well written, but would not start on this machine.", path.display())?;
        return Ok(Checked::Bad);
    }
    writeln!(out, "{} is good. This would run:\n", path.display())?;
    summary(&loaded, out)?;
    if !lines.is_empty() {
        writeln!(out)?;
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(Checked::Good)
}

fn check_cameras(stations: &[Station]) -> Problems {
    let check = |station: &Station| camera::check(&station.name, &station.camera).err();
    let all = stations.iter().filter_map(check);
    Problems::new(all.map(|why| Problem::error(why.to_string())).collect())
}

/// Whether the lines that stations drive and watch are there.
fn check_lines(stations: &[Station]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for station in stations {
        let driven = station.outputs.gpio.as_ref().and_then(|line| gpio::check(line).err());
        let watched = match &station.trigger {
            trigger::Options::PhotoEye(options) => eye::check(options).err(),
            _ => None,
        };
        for (why, remedy) in [(driven, LINE_REMEDY), (watched, EYE_REMEDY)] {
            let title = why.map(|why| format!("station \"{}\": {why}", station.name));
            problems.extend(title.map(|title| Problem::error(title).remedy(remedy)));
        }
    }
    problems
}

/// What to do about a photo eye that cannot be had.
const EYE_REMEDY: &str = "correct `chip`, `line` and `encoder_line` in [trigger] (`gpioinfo` lists what there \
                          is), or let the user of the service open the chip";

/// What to do about a line that cannot be had.
const LINE_REMEDY: &str = "correct `chip` and `pass_line` in [gpio] (`gpioinfo` lists what there is), \
                           let the user of the service open the chip, or remove [gpio]";

/// Whether each adapter is one for this model; each is looked at once.
fn check_adapters(loaded: &Loaded) -> Vec<Problem> {
    let mut seen: Vec<&AdapterRef> = Vec::new();
    let mut problems = Vec::new();
    let local = loaded.stations.iter().filter(|station| station.needs_model());
    for station in local.flat_map(Station::recipes) {
        for adapter in station.questions.iter().filter_map(|asked| asked.adapter.as_ref()) {
            if seen.contains(&adapter) {
                continue;
            }
            seen.push(adapter);
            if let Err(why) = adapter.check_fit(&loaded.settings.model.path) {
                let title =
                    format!("station \"{}\": the adapter does not fit: {why}", station.name);
                problems.push(Problem::error(title).remedy(adapter::remedy(&why)));
            }
        }
    }
    problems
}

fn count(problems: &Problems) -> String {
    let errors = problems.errors();
    let warnings = problems.len() - errors;
    let tail = match warnings {
        0 => String::new(),
        1 => " and 1 warning".to_owned(),
        many => format!(" and {many} warnings"),
    };
    format!("{errors} error{}{tail}", if errors == 1 { "" } else { "s" })
}

fn summary(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    device(&loaded.settings, out)?;
    for station in &loaded.stations {
        writeln!(out)?;
        one_station(station, out)?;
    }
    Ok(())
}

fn device(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    let model = &settings.model;
    writeln!(out, "device     {}", settings.device)?;
    if model.is_none() {
        writeln!(out, "model      none: engines elsewhere answer")?;
    } else {
        writeln!(
            out,
            "model      {}, device {}, {} threads, precision {}",
            model.path.display(),
            model.device,
            model.threads,
            model.precision.as_str()
        )?;
    }
    for engine in &settings.engines {
        let (kind, url) = (engine.kind.as_str(), engine.endpoint.url());
        let asked = engine.model.as_deref().unwrap_or("its own");
        writeln!(out, "engine     {}: {kind} at {url}, model {asked}", engine.name)?;
    }
    writeln!(out, "records    {}", settings.store.path.display())?;
    writeln!(out, "evidence   {}", settings.store.evidence_dir.display())?;
    if let Some(edge) = &settings.sparkplug {
        writeln!(out, "sparkplug  group {}, edge node {}", edge.group_id, edge.edge_node_id)?;
    }
    if let Some(postgres) = &settings.postgres {
        writeln!(
            out,
            "postgres   {}, database {}, schema {}{}",
            postgres.place(),
            postgres.database,
            postgres.schema,
            if postgres.tls.is_some() { ", over TLS" } else { ", not encrypted" }
        )?;
    }
    if let Some(modbus) = &settings.modbus {
        writeln!(out, "modbus     {}, unit {}", modbus.listen, modbus.unit_id)?;
    }
    match &settings.broker {
        Some(broker) => writeln!(
            out,
            "broker     {}:{}, MQTT {}{}, topics {}/{}/…",
            broker.host,
            broker.port,
            broker.protocol.as_str(),
            if broker.tls.is_some() { " over TLS" } else { ", not encrypted" },
            broker.prefix,
            broker.device
        ),
        None => writeln!(out, "broker     none: results are kept, not sent"),
    }
}

fn one_station(station: &Station, out: &mut dyn Write) -> io::Result<()> {
    let simulated = if station.is_simulated { ", simulated" } else { "" };
    writeln!(out, "station    {} (recipe {}{simulated})", station.name, station.recipe)?;
    writeln!(out, "  camera   {}", source(&station.camera.source))?;
    if let Some(used) = &station.calibration {
        let [width, height] = used.calibration.frame_px;
        writeln!(out, "  calibrated for {width}x{height} px, digest {}", used.digest)?;
    }
    writeln!(out, "  trigger  {}", trigger(&station.trigger))?;
    if let Some(used) = &station.engine {
        let otherwise = match used.fallback {
            Fallback::Review => "review".to_owned(),
            Fallback::Local { reserve } => {
                format!("the own model in the last {} ms", reserve.as_millis())
            }
        };
        writeln!(out, "  engine   {}; where it does not answer: {otherwise}", used.name)?;
    }
    writeln!(
        out,
        "  verdict  within {} ms, {} parts may wait",
        station.deadline.as_millis(),
        station.queue_parts
    )?;
    for region in &station.regions {
        writeln!(out, "  region   {}: {}", region.name, area(&region.area))?;
    }
    let gate = &station.quality;
    if *gate != Gate::default() {
        let (references, fixed) = (gate.references.len(), gate.fixed.len());
        writeln!(out, "  quality  {references} regions with a reference, {fixed} fixed areas")?;
    }
    for asked in &station.questions {
        writeln!(out, "  question {}: {}", asked.name, question(asked))?;
        if let Some(adapter) = &asked.adapter {
            writeln!(out, "  adapter  {}, digest {}", adapter.dir.display(), adapter.digest)?;
        }
    }
    rules(&station.rules, out)?;
    if station.inspect_every > 1 {
        let n = station.inspect_every;
        writeln!(
            out,
            "  sample   one part in {n} is inspected, the others are recorded as review"
        )?;
    }
    if let Some(base) = station.outputs.modbus_base {
        writeln!(out, "  modbus   registers {base} to {}", base + (registers::WORDS - 1))?;
    }
    if let Some(gpio) = &station.outputs.gpio {
        let (line, chip, hold) = (gpio.pass_line, gpio.chip.display(), gpio.hold.as_millis());
        writeln!(out, "  gpio     line {line} of {chip} permits a pass, for {hold} ms at most")?;
    }
    writeln!(out, "  digest   {}", station.config_digest)?;
    contract(station, out)
}

/// What was agreed on with the controller, and the other recipes that it may ask for.
fn contract(station: &Station, out: &mut dyn Write) -> io::Result<()> {
    let Some(plc) = &station.plc else { return Ok(()) };
    let ring = match plc.acknowledge {
        true => format!("{} results may wait to be acknowledged", plc.ring),
        false => "results are not acknowledged".to_owned(),
    };
    writeln!(
        out,
        "  plc      {ring}; heartbeat each {} ms, {} commands a second",
        plc.heartbeat.as_millis(),
        plc.commands_per_s
    )?;
    for recipe in station.recipes() {
        let (index, name, asked) = (recipe.recipe_index, &recipe.recipe, recipe.questions.len());
        let s = if asked == 1 { "" } else { "s" };
        writeln!(out, "  recipe   {index}: {name}, {asked} question{s}")?;
        if recipe.config_digest != station.config_digest {
            writeln!(out, "  digest   {} (recipe {index})", recipe.config_digest)?;
        }
    }
    Ok(())
}

/// The source in words. What stands before an `@` in an address may be a password.
fn source(source: &Source) -> String {
    match source {
        Source::Uri(uri) => match uri.split_once("://").zip(uri.rsplit_once('@')) {
            Some(((scheme, _), (_, host))) if scheme.starts_with("rtsp") => {
                format!("{scheme}://…@{host}")
            }
            _ => uri.clone(),
        },
        Source::Device(path) => path.display().to_string(),
        Source::Csi(sensor) => format!("camera {sensor} at the board's connector"),
        Source::Libcamera(name) => format!("libcamera {name}"),
        Source::Genicam { name: Some(name), .. } => format!("GenICam {name}"),
        Source::Genicam { name: None, .. } => "the first GenICam camera that answers".to_owned(),
        Source::Pipeline(text) => format!("pipeline {text}"),
        Source::Folder { path, interval: None } => format!("pictures in {}", path.display()),
        Source::Folder { path, interval: Some(interval) } => {
            format!("pictures in {}, one each {} ms", path.display(), interval.as_millis())
        }
    }
}

fn trigger(options: &trigger::Options) -> String {
    match options {
        trigger::Options::EveryFrame => "every frame".to_owned(),
        trigger::Options::Interval { every } => format!("a frame each {} ms", every.as_millis()),
        trigger::Options::Presence(options) => {
            format!("each part that passes the centre{}", burst(options.burst_frames))
        }
        trigger::Options::Command(options) => {
            let which = match options.frame {
                WhichFrame::Next => "the next frame",
                WhichFrame::Newest => "the newest frame",
            };
            let (wait, burst) = (options.wait.as_millis(), burst(options.burst_frames));
            format!("cmd/trigger: {which}, within {wait} ms{burst}")
        }
        trigger::Options::PhotoEye(options) => photo_eye(options),
    }
}

fn photo_eye(eye: &PhotoEyeOptions) -> String {
    let way = match &eye.way {
        Way::Time { delay, .. } => format!("{} ms", delay.as_millis()),
        Way::Encoder(encoder) => format!("{} mm (line {})", encoder.distance_mm, encoder.line),
    };
    let (line, chip, within) = (eye.line, eye.chip.display(), eye.frame_within.as_millis());
    let burst = burst(eye.burst_frames);
    format!(
        "photo eye at line {line} of {chip}, {way} before the camera, within {within} ms{burst}"
    )
}

fn burst(frames: usize) -> String {
    match frames {
        1 => String::new(),
        frames => format!(", the sharpest of {frames} frames"),
    }
}

fn area(area: &Area) -> String {
    match area {
        Area::Whole => "the whole frame".to_owned(),
        Area::Pixels(rect) => {
            format!("{}x{} px at {}, {}", rect.width, rect.height, rect.x, rect.y)
        }
        Area::Fraction { x, y, width, height } => {
            format!("{width:.3} x {height:.3} of the frame at {x:.3}, {y:.3}")
        }
    }
}

fn question(question: &Question) -> String {
    let about = match &question.task {
        Task::Serial(spec) => format!("a serial like {}", spec.template),
        Task::Defects(spec) => format!("up to {} of {}", spec.max_count, spec.classes.join(", ")),
        Task::Fields(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            format!("the fields {}", names.join(", "))
        }
    };
    format!("{about}; shows {}", question.regions.join(", "))
}

fn serial(rule: &SerialRule, out: &mut dyn Write) -> io::Result<()> {
    if let Some(scheme) = &rule.check_digit {
        writeln!(out, "  serial   check digit {}", scheme.name())?;
    }
    if !rule.confusions.is_empty() {
        let word = if rule.accept_repairs { "accepted" } else { "proposed" };
        writeln!(out, "  serial   look-alikes: the only one that holds is {word}")?;
    }
    if let Some(unique) = &rule.unique {
        let within = match unique.window {
            Window::Time { ms } => format!("{} minutes", ms / 60_000),
            Window::Parts { count } => format!("{count} parts"),
            Window::Always => "all time".to_owned(),
        };
        let word = consequence(unique.otherwise);
        writeln!(out, "  serial   {word} if another part within {within} has it")?;
    }
    if let Some(expected) = &rule.expected {
        let word = consequence(expected.otherwise);
        writeln!(out, "  serial   {word} if it is none of {} expected", expected.list.len())?;
        writeln!(out, "  expected {}", expected.list.digest())?;
    }
    Ok(())
}

fn consequence(otherwise: Consequence) -> &'static str {
    match otherwise {
        Consequence::Review => "review",
        Consequence::Fail => "fail",
    }
}

fn rules(rules: &Rules, out: &mut dyn Write) -> io::Result<()> {
    for rule in &rules.defects {
        let mut parts = Vec::new();
        for (word, list) in [("fail", &rule.fail), ("review", &rule.review), ("pass", &rule.pass)] {
            if !list.is_empty() {
                parts.push(format!("{word} if {}", list.join(" or ")));
            }
        }
        writeln!(out, "  rule     {}: {}", rule.class, parts.join(", "))?;
    }
    if let Some(rule) = &rules.serial {
        serial(rule, out)?;
    }
    if rules.confidence_min > 0.0 {
        writeln!(out, "  rule     review if less than {} probable", rules.confidence_min)?;
    }
    Ok(())
}
