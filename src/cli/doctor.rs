//! `inspectd doctor`: what is wrong on this machine, and what to do.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;

use super::{ConfigFile, Exit};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Loaded, Settings};
use crate::daemon::plan;
use crate::platform::{power, sensors};
use crate::station::Station;
use crate::store::{Reader, free_bytes};
use crate::upstream::tables::{Tables, VERSION};
use crate::upstream::{UpstreamOptions, check};
use crate::vlm::device;
use crate::web::status::Status;
use crate::web::{self, client};
use crate::{camera, platform};

pub const EXAMPLES: &str = "\
Examples:
  inspectd doctor                        (before the service is started, or when something is wrong)
  sudo -u inspectd inspectd doctor       (with the rights that the service has)

Each line is good, something to see to (!), or something that keeps parts from being inspected
(x): then the exit code is 6.";

/// Longest wait for another machine, or for the daemon.
const PATIENCE: Duration = Duration::from_secs(3);

/// Free bytes below which the disk is something to see to.
const DISK_LOW_BYTES: u64 = 1 << 30;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// How one thing is.
enum Finding {
    Good(String),
    /// What it is, and what to do.
    See(String, String),
    /// The same of something that keeps parts from being inspected.
    Bad(String, String),
}

use Finding::{Bad, Good, See};

/// Looks at everything, prints it, and fails if something is bad.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let colour = io::stdout().is_terminal();
    let mut bad = 0;
    let mut out = io::stdout().lock();
    let mut tell = |name: &str, finding: Finding| -> io::Result<()> {
        let (mark, paint, text, remedy) = match finding {
            Good(text) => ("ok", "\x1b[32m", text, None),
            See(text, remedy) => ("! ", "\x1b[33m", text, Some(remedy)),
            Bad(text, remedy) => ("x ", "\x1b[31m", text, Some(remedy)),
        };
        bad += usize::from(mark == "x ");
        let (paint, plain) = if colour { (paint, "\x1b[0m") } else { ("", "") };
        writeln!(out, "{paint}{mark}{plain} {name:<13} {text}")?;
        if let Some(remedy) = remedy {
            writeln!(out, "   {:<13} -> {remedy}", "")?;
        }
        Ok(())
    };
    tell("machine", board())?;
    tell("clock", clock())?;
    tell("heat", heat())?;
    match config::load(&arguments.config.path) {
        Err(problems) => {
            let text =
                format!("{} problem(s) in {}", problems.len(), arguments.config.path.display());
            tell("configuration", Bad(text, "inspectd check shows each with its line".into()))?;
        }
        Ok(loaded) => {
            let stations = loaded.stations.len();
            tell("configuration", Good(format!("{stations} station(s)")))?;
            for (name, finding) in look(&loaded) {
                tell(name, finding)?;
            }
        }
    }
    match bad {
        0 => Ok(()),
        bad => {
            Err(Exit::Check
                .because(anyhow::anyhow!("{bad} thing(s) keep parts from being inspected")))
        }
    }
}

fn look(loaded: &Loaded) -> Vec<(&'static str, Finding)> {
    let settings = &loaded.settings;
    let mut all = vec![("processor", processor(settings)), ("model", model(loaded))];
    all.extend(loaded.stations.iter().map(|station| ("camera", one_camera(station))));
    all.extend([("disk", disk(settings)), ("audit log", audit_log(settings))]);
    all.push(("broker", broker(settings)));
    all.extend(settings.postgres.as_ref().map(|options| ("postgres", postgres(options))));
    all.push(("daemon", daemon(settings)));
    all
}

fn board() -> Finding {
    let found = platform::Platform::detect();
    Good(format!("{:?}: {}", found.platform, found.because))
}

fn clock() -> Finding {
    match SystemClock.synchronized() {
        true => Good("follows a time source".into()),
        false => See(
            "follows no time source; records say so".into(),
            "set up NTP, as with `timedatectl set-ntp true` and a server that the plant allows"
                .into(),
        ),
    }
}

fn heat() -> Finding {
    let hottest = sensors::temperatures().into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let text =
        hottest.map_or("no sensor".to_owned(), |(zone, c)| format!("{c:.0} °C at most ({zone})"));
    if power::power().is_under_voltage == Some(true) {
        let remedy = "give it a supply and a cable that are strong enough".into();
        return See(format!("{text}; the supply's voltage is too low"), remedy);
    }
    match sensors::is_throttled() {
        Some(true) => See(
            format!("{text}; the machine has slowed itself down"),
            "cool it, or give it a supply that is strong enough".into(),
        ),
        _ => Good(text),
    }
}

fn processor(settings: &Settings) -> Finding {
    match device::find(settings.model.device) {
        Err(why) => Bad(why.to_string(), "see `device` in [model]".into()),
        Ok(found) => match found.fallback {
            None => Good(device::name(&found.device)),
            Some(why) => See(
                format!("{}, without a GPU: {why}", device::name(&found.device)),
                "nothing, if there is none; else install inspectd-cuda and its libraries".into(),
            ),
        },
    }
}

fn model(loaded: &Loaded) -> Finding {
    let stations: Vec<Arc<Station>> = loaded.stations.iter().cloned().map(Arc::new).collect();
    match plan::make(&loaded.settings, &stations, "") {
        Err(why) => Bad(why.to_string(), "see `path` in [model]".into()),
        Ok(plan) => {
            let need = plan.footprint.total_bytes() >> 20;
            let have = plan.budget_bytes.map_or("?".to_owned(), |bytes| (bytes >> 20).to_string());
            let text = format!("needs {need} MiB of {have} MiB");
            match plan.remarks.first() {
                None => Good(text),
                Some(remark) => See(format!("{text}; {}", remark.text), remark.remedy.clone()),
            }
        }
    }
}

fn one_camera(station: &Station) -> Finding {
    match camera::check(&station.name, &station.camera) {
        Ok(()) => Good(format!("\"{}\" can be opened as it is configured", station.name)),
        Err(why) => {
            Bad(why.to_string(), "inspectd camera lists cameras and what is missing".into())
        }
    }
}

fn disk(settings: &Settings) -> Finding {
    let folder = settings.store.path.parent().unwrap_or(Path::new("."));
    if !folder.exists() {
        return See(
            format!("{} is not there yet", folder.display()),
            "nothing for the service, which makes it; else make it".into(),
        );
    }
    match free_bytes(folder) {
        Err(why) => Bad(
            format!("{}: {why}", folder.display()),
            "make the folder, for the user of the service; see `path` in [database]".into(),
        ),
        Ok(free) if free < DISK_LOW_BYTES => See(
            format!("{} MiB are free in {}", free >> 20, folder.display()),
            "bound the pictures by [retention], or use a larger disk".into(),
        ),
        Ok(free) => match tempfile::tempfile_in(folder) {
            Ok(_) => Good(format!("{} MiB are free in {}", free >> 20, folder.display())),
            Err(why) => Bad(
                format!("{} cannot be written: {why}", folder.display()),
                "let the user of the service write it, or run this as that user".into(),
            ),
        },
    }
}

fn audit_log(settings: &Settings) -> Finding {
    let path = &settings.store.path;
    if !path.exists() {
        return Good(format!("{} is not there yet", path.display()));
    }
    match Reader::open(path).and_then(|reader| reader.newest()) {
        Ok(newest) => Good(format!("{newest} records; `inspectd audit verify` proves them")),
        Err(why) => Bad(why.to_string(), "inspectd audit verify says what is left".into()),
    }
}

fn broker(settings: &Settings) -> Finding {
    let Some(broker) = &settings.broker else {
        return Good("none is configured".into());
    };
    let name = format!("{}:{}", broker.host, broker.port);
    let remedy = "the address in [broker], the network, the firewall; results wait meanwhile";
    let found = (broker.host.as_str(), broker.port).to_socket_addrs();
    let Some(address) = found.ok().and_then(|mut all| all.next()) else {
        return See(format!("{name} has no address"), remedy.into());
    };
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Good(format!("{name} takes connections")),
        Err(why) => See(format!("{name}: {why}"), remedy.into()),
    }
}

/// None of it keeps parts from being inspected: records wait in the audit log.
fn postgres(options: &UpstreamOptions) -> Finding {
    let options = UpstreamOptions {
        connect_timeout: options.connect_timeout.min(PATIENCE),
        statement_timeout: options.statement_timeout.min(PATIENCE),
        ..options.clone()
    };
    let (place, database) = (options.place(), &options.database);
    let found = match check::probe(&options) {
        Err(why) => return See(why.to_string(), "see [postgres]; records wait meanwhile".into()),
        Ok(found) => found,
    };
    let has = format!("{place}, database {database}, version {}", found.version);
    let by_admin = "let an administrator run what `inspectd upstream schema` prints, and grant the \
                    rights of docs/postgres.md";
    match (found.tables, found.rights) {
        (Tables::Absent, _) if options.create_tables => {
            Good(format!("{has}; the service makes the tables"))
        }
        (Tables::Absent, _) => See(format!("{has}: there are no tables"), by_admin.into()),
        (Tables::Form(form), _) if form != VERSION => See(
            format!("{has}: its tables have the form {form}, this inspectd knows {VERSION}"),
            "update the older of the two, or name another `schema`".into(),
        ),
        (_, Some(rights)) if !rights.may_copy => {
            See(format!("{has}: role {} may not add records", options.user), by_admin.into())
        }
        (_, Some(rights)) if rights.may_change => See(
            format!("{has}: role {} may change and delete records", options.user),
            "grant it SELECT and INSERT alone, see docs/postgres.md".into(),
        ),
        _ => Good(format!("{has}; records can be added, and nothing else")),
    }
}

fn daemon(settings: &Settings) -> Finding {
    let socket = web::control_path(&settings.store.path);
    let asked = client::ask(&socket, Method::GET, "/status", PATIENCE);
    let status = match asked {
        Err(why @ client::ClientError::NotAllowed { .. }) => {
            return See(why.to_string(), "run this as root".into());
        }
        Err(_) => return Good("does not run with this configuration".into()),
        Ok((_, body)) => serde_json::from_slice::<Status>(&body),
    };
    match status {
        Err(why) => See(format!("its answer cannot be read: {why}"), "restart it".into()),
        Ok(status) if status.health.is_ready() => {
            Good(format!("inspects, {} station(s)", status.stations.len()))
        }
        Ok(status) => {
            let health = status.health;
            let what = [health.hung, health.not_ready].concat().join("; ");
            Bad(what, "inspectd top shows it; journalctl -u inspectd has the reasons".into())
        }
    }
}
