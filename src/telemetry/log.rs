//! Where the log goes, and in which form.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::warn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Where systemd says that a service's standard error is its journal: device and inode.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, fields of the journal in a service, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// Entries of systemd's journal, each member a field: `INSPECTD_STATION`, `INSPECTD_PART_ID`.
    Journal,
}

/// Starts the log on standard error or in the journal. `level` is a filter such as `info` or
/// `inspectd=debug`; an unreadable one falls back to `info` and says so. A second call changes nothing.
pub fn start(level: &str, format: Format) {
    let parsed = EnvFilter::try_new(level);
    let bad = parsed.is_err();
    let (filter, handle) = reload::Layer::new(parsed.unwrap_or_else(|_| EnvFilter::new("info")));
    let (writer, lacks_journal) = writer(format);
    let started =
        tracing_subscriber::registry().with(writer.with_filter(filter)).try_init().is_ok();
    if !started {
        return;
    }
    // The first log is the one that runs.
    let _ = SET_LEVEL.set(Box::new(move |filter| {
        if let Err(error) = handle.reload(filter) {
            warn!(%error, "The log's level cannot be changed.");
        }
    }));
    if bad {
        warn!(level, "Log level not understood; using info.");
    }
    if let Some(error) = lacks_journal {
        warn!(%error, "The journal cannot be reached; the log is JSON on standard error.");
    }
}

type SetLevel = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// How the running log's level is changed.
static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// The log tells more or less from now on, as in [`start`].
pub fn set_level(level: &str) {
    if let (Some(set), Ok(filter)) = (SET_LEVEL.get(), EnvFilter::try_new(level)) {
        set(filter);
    }
}

type Writer = Box<dyn Layer<Registry> + Send + Sync>;

/// What writes in `format`, and why the journal cannot, if it should.
fn writer(format: Format) -> (Writer, Option<io::Error>) {
    let is_terminal = io::stderr().is_terminal();
    let json =
        || -> Writer { Box::new(fmt::layer().json().flatten_event(true).with_writer(io::stderr)) };
    let format = match format {
        Format::Auto if is_terminal => Format::Human,
        Format::Auto if is_journal() => Format::Journal,
        Format::Auto => Format::Json,
        chosen => chosen,
    };
    match format {
        Format::Human => {
            let text = fmt::layer().with_target(false).with_ansi(is_terminal);
            (Box::new(text.with_writer(io::stderr)), None)
        }
        Format::Journal => match tracing_journald::layer() {
            Ok(layer) => {
                let layer = layer.with_syslog_identifier("inspectd".into());
                (Box::new(layer.with_field_prefix(Some("INSPECTD".into()))), None)
            }
            Err(why) => (json(), Some(why)),
        },
        Format::Auto | Format::Json => (json(), None),
    }
}

/// Whether standard error is the journal that systemd named.
fn is_journal() -> bool {
    let Ok(named) = std::env::var(JOURNAL_STREAM) else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}
