//! What the program relies on: checked, complete, with every path resolved.
//!
//! Each room has its own options; here they are only put together. What a person writes, key by
//! key, stands in `config/inspectd.toml`, which is the manual.

use std::path::PathBuf;

use crate::hard::modbus;
use crate::publish::PublishOptions;
use crate::remote::EngineOptions;
use crate::sparkplug::SparkplugOptions;
use crate::store::StoreOptions;
use crate::telemetry;
use crate::traces;
use crate::upstream::UpstreamOptions;
use crate::vlm::config::LongContext;
pub use crate::vlm::device::Precision;
use crate::vlm::device::{DeviceWish, Placement};
use crate::vlm::{CacheWish, Digest, EngineOptions as LocalOptions};
use crate::web;

/// Everything in `inspectd.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[device] name`: stands in every record and topic. Required.
    pub device: String,
    /// `[model]`: what answers the questions.
    pub model: Model,
    /// `[engines.NAME]`: who else may answer them. None without such tables.
    pub engines: Vec<EngineOptions>,
    /// `[database]`: where records and evidence are kept.
    pub store: StoreOptions,
    /// `[broker]`: where results are sent. `None`, without that table: records are kept and
    /// nothing is sent.
    pub broker: Option<PublishOptions>,
    /// `[sparkplug]`: how the device shows itself by Sparkplug. `None`, without that table: not at all.
    pub sparkplug: Option<SparkplugOptions>,
    /// `[postgres]`: where the audit log is copied to. `None`, without that table: nowhere.
    pub postgres: Option<UpstreamOptions>,
    /// `[modbus]`: where registers are served. `None`, without that table: nowhere.
    pub modbus: Option<modbus::Options>,
    /// `[web]`: where metrics and health are served. `None`, without that table: nowhere, unless the
    /// service manager has opened a socket for that.
    pub web: Option<web::Options>,
    /// `[traces]`: where traces of parts are sent. `None`, without that table: nowhere.
    pub traces: Option<traces::Options>,
    /// `[log]`: what the log tells.
    pub log: Log,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The model's folder: `config.json`, tokenizer, tensors. Required, unless every station asks an
    /// engine elsewhere and falls back on nobody; then it is empty.
    pub path: PathBuf,
    /// Where the model computes. Default `auto`: the first GPU in a program and on a machine that
    /// have one, else the processor. A GPU that is named and not there refuses to start.
    pub device: DeviceWish,
    /// Processor threads for the model. Default: as many as the machine has. Fewer leave room for
    /// the camera and are slower; more than the cores are slower too.
    pub threads: usize,
    /// The form in which numbers are held. Default `auto`: `f32` on the processor, `bf16` on a GPU.
    /// The two short forms halve the memory; on most processors without a GPU they are slower, and
    /// their answers may differ slightly.
    pub precision: Precision,
    /// What the keys and values of a prompt are kept in. Default `auto`: as `precision` says, but
    /// `f16` beside quantised weights. `compact` takes under half of `f16`, and answers may differ
    /// slightly; it is for the processor with numbers in f32.
    pub cache: CacheWish,
    /// What happens when a text grows past the length up to which the short position factors hold.
    /// Default `reprefill`, which is exact; `keep` is cheap and far from exact.
    pub long_context: LongContext,
    /// The digest that the model must have, because its list of files was signed; `None`: nobody asked.
    pub signed_digest: Option<Digest>,
    /// Most positions of one prompt with its answer. Default: what the model was made for. Too low
    /// refuses long questions; too high lets one question take much memory.
    pub max_context: Option<usize>,
    /// Bytes for pictures that the model has already looked at. Default 64 MiB. Too low looks
    /// again for each question; too high only costs memory.
    pub picture_cache_bytes: usize,
    /// Bytes that the adapters of all stations together may take. Default 256 MiB. Too low refuses
    /// to start; too high only matters where many adapters are named.
    pub adapters_max_bytes: usize,
    /// Most memory that the model may take, in bytes. Default: what the machine has. More than that
    /// is refused, and so is a model that would take more.
    pub memory_budget_bytes: Option<u64>,
}

impl Model {
    /// No model: nobody needs one.
    pub(super) fn none() -> Model {
        Model {
            path: PathBuf::new(),
            device: DeviceWish::default(),
            threads: 1,
            precision: Precision::default(),
            cache: CacheWish::default(),
            long_context: LongContext::default(),
            signed_digest: None,
            max_context: None,
            picture_cache_bytes: 0,
            adapters_max_bytes: 0,
            memory_budget_bytes: None,
        }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// What the engine is to be loaded with on the device that was found.
    pub fn engine_options(&self, placement: &Placement) -> LocalOptions {
        LocalOptions {
            dtype: self.precision.dtype(&placement.device),
            device: placement.device.clone(),
            cache: self.cache,
            long_context: self.long_context,
            expected_digest: self.signed_digest,
            max_context: self.max_context,
            picture_cache_bytes: self.picture_cache_bytes,
            adapters_max_bytes: self.adapters_max_bytes,
            ..LocalOptions::default()
        }
    }
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// What is told. Default `info`: one line a part. `warn` tells only of trouble; `debug` and
    /// `trace` fill a disk.
    pub level: Level,
    /// How it is told. Default `auto`: for people on a terminal, JSON elsewhere.
    pub format: telemetry::Format,
}

/// How much the log tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// What stops the program.
    Error,
    /// Also what needs a person soon.
    Warn,
    /// Also each part.
    #[default]
    Info,
    /// Also each step.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word that is written for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}
