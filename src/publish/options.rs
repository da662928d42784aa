//! Where and how to deliver, and why that cannot begin.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::access::Access;
use super::message;
use super::tls::Tls;
use super::topics::{self, Kind, NameError, Topics};
use crate::store::StoreError;

/// Where and how to deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishOptions {
    /// The broker's name or address.
    pub host: String,
    /// Its port; 1883 by custom.
    pub port: u16,
    /// Our name at the broker, unique there: of two with one name, each throws the other out.
    pub client_id: String,
    /// What every topic begins with: one or more names with `/` between them.
    pub prefix: String,
    /// This device's name, a level of every topic.
    pub device: String,
    /// The stations' names.
    pub stations: Vec<String>,
    /// The protocol spoken.
    pub protocol: Protocol,
    /// How the connection is encrypted; `None`: it is not.
    pub tls: Option<TlsOptions>,
    /// User name at the broker, if it asks for one.
    pub username: Option<String>,
    /// File with the password: its first line. Without `username`: the user name in its first line,
    /// the password in its second. Read anew on each dial.
    pub password_file: Option<PathBuf>,
    /// The same as a credential of systemd: the name given to `LoadCredential=`.
    pub password_credential: Option<String>,
    /// How often a silent connection is tried, 5 s or more. Longer: a dead broker is noticed late,
    /// and so is a dead device by those who watch its status.
    pub keep_alive: Duration,
    /// Messages sent and not yet acknowledged, 1 to 20. More is quicker over a slow link and sends
    /// more copies after a cut.
    pub inflight: u16,
    /// Longest packet in bytes, 2 KiB or more. A longer message is put aside, with an error in the
    /// log: no larger than the broker takes, or it cuts the connection on each.
    pub max_packet_bytes: usize,
    /// Results sent in a second at most while they are late, 1 to 10,000. Low: a long outage is made
    /// up for slowly. High: receivers get more at once than they may bear.
    pub backlog_per_s: u32,
    /// How long a result that waits is live, in whole seconds; then it is backlog, which is sent
    /// after what is live, at a limited rate, and marked `replayed`.
    pub live_for: Duration,
    /// How long the broker keeps a message of this kind for those who are away, in seconds (MQTT 5);
    /// for ever if the kind is not named.
    pub expiry_s: BTreeMap<Kind, u32>,
    /// The longer side of a small picture (JPEG) in each result, in pixels, 512 at most; 0: none. It
    /// is left out where it would make the packet too long.
    pub thumbnail_px: u32,
    /// First wait before a new dial.
    pub backoff_min: Duration,
    /// Longest wait before a new dial.
    pub backoff_max: Duration,
    /// A connection that acknowledges nothing for so long, while something waits for it, is given
    /// up and made anew.
    pub watchdog: Duration,
    /// Time for a dial, in whole seconds.
    pub connect_timeout: Duration,
    /// A message that was sent stays in the outbox, for `audit show`, until there are so many newer
    /// ones. The record itself keeps everything.
    pub keep_sent_rows: usize,
}

/// Which MQTT is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 5. The default, because only here does a broker say that it did not take a message: with
    /// 3.1.1 it acknowledges one that its access rules forbid, and throws it away.
    #[default]
    V5,
    /// MQTT 3.1.1, for brokers that know nothing newer.
    V311,
}

impl Protocol {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::V5 => "5",
            Protocol::V311 => "3.1.1",
        }
    }
}

/// How a connection is encrypted, and who is believed. All files are PEM, and read anew on each dial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates of the authorities that may have signed the broker's; the system's without it.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, with those between it and its authority after it, if the broker asks for one.
    pub client_cert: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
    /// The name in the broker's certificate, where it is not `host`.
    pub server_name: Option<String>,
}

impl TlsOptions {
    fn check(&self) -> Result<(), PublishError> {
        let name = self.server_name.as_deref();
        let tests = [
            (
                "client_key",
                self.client_cert.is_some() == self.client_key.is_some(),
                "client_cert and client_key belong together: set both or none",
            ),
            (
                "server_name",
                name.is_none_or(|name| rustls::pki_types::ServerName::try_from(name).is_ok()),
                "a host name or an IP address, as in the broker's certificate",
            ),
        ];
        match tests.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, wanted)) => Err(PublishError::Setting { setting, wanted }),
            None => Ok(()),
        }
    }
}

impl PublishOptions {
    /// The defaults, for this broker, device and stations.
    pub fn new(host: &str, port: u16, device: &str, stations: &[String]) -> PublishOptions {
        PublishOptions {
            host: host.to_owned(),
            port,
            client_id: format!("inspectd-{device}"),
            prefix: "inspectd".to_owned(),
            device: device.to_owned(),
            stations: stations.to_vec(),
            protocol: Protocol::default(),
            tls: None,
            username: None,
            password_file: None,
            password_credential: None,
            keep_alive: Duration::from_secs(30),
            inflight: 16,
            max_packet_bytes: 64 * 1024,
            backlog_per_s: 50,
            live_for: Duration::from_secs(10),
            expiry_s: BTreeMap::new(),
            thumbnail_px: 0,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            watchdog: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            keep_sent_rows: 10_000,
        }
    }

    /// These options, but for how the broker is reached, which is as `other` says: what may be another from one
    /// connection to the next.
    #[must_use]
    pub fn reaching_as(&self, other: &PublishOptions) -> PublishOptions {
        let other = other.clone();
        PublishOptions {
            host: other.host,
            port: other.port,
            client_id: other.client_id,
            protocol: other.protocol,
            tls: other.tls,
            username: other.username,
            password_file: other.password_file,
            password_credential: other.password_credential,
            inflight: other.inflight,
            backoff_min: other.backoff_min,
            backoff_max: other.backoff_max,
            watchdog: other.watchdog,
            connect_timeout: other.connect_timeout,
            ..self.clone()
        }
    }

    /// Finds the first setting that cannot work.
    pub fn check(&self) -> Result<(), PublishError> {
        Topics::new(&self.prefix, &self.device)?;
        self.stations.iter().try_for_each(|station| topics::check_station(station))?;
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        let second = Duration::from_secs(1);
        let tests = [
            ("host", !self.host.is_empty(), "the broker's name or address is missing"),
            ("port", self.port != 0, "it is 0; 1883 is usual"),
            ("client_id", client_id_works(&self.client_id), "1 to 128 printable characters"),
            ("keep_alive", self.keep_alive >= 5 * second, "5 s or more"),
            ("keep_alive", self.keep_alive.as_secs() <= u64::from(u16::MAX), "65535 s at most"),
            ("inflight", (1..=20).contains(&self.inflight), "1 to 20"),
            (
                "max_packet_bytes",
                (2048..1 << 28).contains(&self.max_packet_bytes),
                "2 KiB to 256 MiB",
            ),
            (
                "max_packet_bytes",
                self.status_fits(),
                "room for the status, which lists all stations",
            ),
            ("backoff_min", !self.backoff_min.is_zero(), "more than nothing"),
            ("backoff_max", self.backoff_max >= self.backoff_min, "not below backoff_min"),
            ("watchdog", self.watchdog >= second, "1 s or more"),
            ("connect_timeout", self.connect_timeout >= second, "1 s or more"),
            ("backlog_per_s", (1..=10_000).contains(&self.backlog_per_s), "1 to 10000"),
            (
                "thumbnail_px",
                self.thumbnail_px <= 512,
                "512 at most; evidence is a file, not a message",
            ),
            ("live_for", self.live_for >= second, "1 s or more"),
            (
                "password_credential",
                self.password_credential.is_none() || self.password_file.is_none(),
                "name a credential or a password_file, not both",
            ),
            (
                "password_credential",
                self.password_credential.as_deref().is_none_or(is_plain_name),
                "the name given to LoadCredential= in the unit, without a path",
            ),
            (
                "expiry",
                self.expiry_s.is_empty() || self.protocol == Protocol::V5,
                "MQTT 3.1.1 knows no expiry: leave it out, or set protocol = \"5\"",
            ),
            (
                "host",
                self.tls.is_none() || self.host.parse::<Ipv6Addr>().is_err(),
                "TLS needs the broker's name or its IPv4 address, not an IPv6 address",
            ),
        ];
        match tests.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, wanted)) => Err(PublishError::Setting { setting, wanted }),
            None => Ok(()),
        }
    }

    /// Reads all files that a dial needs, to find what is wrong with them before. Blocks on the disk.
    pub fn check_files(&self) -> Result<(), PublishError> {
        Access::read(self).map(drop)
    }

    /// Reads the files of `tls`, to find what is wrong with them before a dial does.
    pub fn check_tls_files(&self) -> Result<(), PublishError> {
        let read = self.tls.as_ref().map(|tls| Tls::read(tls, self)).transpose();
        read.map(drop)
    }

    /// The status also goes out as the last will, with the greeting: too long, there would never be
    /// a connection.
    fn status_fits(&self) -> bool {
        let status = message::status(&self.device, &self.stations, message::Status::Lost);
        let greeting_bytes = 1024;
        status.len() + greeting_bytes <= self.max_packet_bytes
    }
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

fn client_id_works(client_id: &str) -> bool {
    (1..=128).contains(&client_id.chars().count())
        && !client_id.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Why delivery cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A name cannot be part of a topic.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A setting cannot work.
    #[error("the MQTT setting `{setting}` cannot work: {wanted}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A file that a dial needs cannot be used.
    #[error("cannot use the MQTT {what} in {path}: {why}; {remedy}", path = .path.display())]
    File {
        /// What it is to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A credential of systemd is named, and systemd gave none.
    #[error(
        "the MQTT credential \"{0}\" is not there: systemd hands it over only if the unit says \
         LoadCredential={0}:FILE"
    )]
    NoCredentials(String),
    /// The system's own certificates cannot be used.
    #[error(
        "cannot use this system's root certificates: {0}; install ca-certificates or set ca_file"
    )]
    Roots(String),
    /// The outbox cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
