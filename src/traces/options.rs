//! What the configuration says of traces.

use std::path::PathBuf;
use std::time::Duration;

use crate::credential;
use crate::remote::Address;

/// `[traces]`: where traces go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The collector, with the path of its traces: `http://collector.plant:4318/v1/traces`. Required.
    pub endpoint: Address,
    /// Which share of the parts that passed is traced, 0 to 1; all others are. Default 1.
    pub share: f64,
    /// Traces that may wait for the collector. Default 512, which is about 5 MiB. Too few lose traces when many
    /// parts come at once; more only cost memory.
    pub queue_parts: usize,
    /// From the request to the end of the answer. Default 5 s.
    pub timeout: Duration,
    /// How long the same traces are tried again, then they are dropped. Default 60 s.
    pub give_up: Duration,
    /// Whether a trace names the serial that was read. Default: no.
    pub serials: bool,
    /// The key, if the collector wants one.
    pub key: Option<credential::Source>,
    /// Under which header the key goes.
    pub key_header: KeyHeader,
    /// The plant's authority, as PEM. `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// Under which header a key goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    #[default]
    Bearer,
    /// `NAME: KEY`.
    Named(String),
}

impl Options {
    /// A collector with the defaults for everything that can have one.
    pub fn new(endpoint: Address) -> Options {
        Options {
            endpoint,
            share: 1.0,
            queue_parts: 512,
            timeout: Duration::from_secs(5),
            give_up: Duration::from_secs(60),
            serials: false,
            key: None,
            key_header: KeyHeader::default(),
            ca_file: None,
        }
    }
}
