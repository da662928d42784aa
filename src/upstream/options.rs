//! Where the log is copied to, and how.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::credential::Source;
use crate::publish::TlsOptions;

/// Longest name of a schema, in characters: PostgreSQL cuts longer ones.
pub const SCHEMA_MAX_CHARS: usize = 63;

/// Where the log is copied to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// The server's name or address, or the folder of its socket file, which begins with `/`.
    pub host: String,
    /// Its port; 5432 by custom.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Where its password is; `None`: the server asks for none.
    pub password: Option<Source>,
    /// How the connection is encrypted; `None`: it is not.
    pub tls: Option<TlsOptions>,
    /// The schema of the tables.
    pub schema: String,
    /// Make the tables if they are not there.
    pub create_tables: bool,
    /// Records of one transaction at most. More is quicker over a slow link, and holds more memory.
    pub batch_records: usize,
    /// Bytes of bodies of one transaction at most; a longer record goes alone.
    pub batch_bytes: usize,
    /// Time for a connection, log-in included.
    pub connect_timeout: Duration,
    /// Time for one statement. The server gives up after it; the device does a little later.
    pub statement_timeout: Duration,
    /// First wait before a new connection.
    pub backoff_min: Duration,
    /// Longest wait before a new connection.
    pub backoff_max: Duration,
    /// How often the table is asked whether it still holds what it was given, while a connection stands.
    pub confirm_every: Duration,
    /// This device's name, for whoever looks at the server's sessions.
    pub device: String,
    /// The file that tells the next start how far the copy had come.
    pub kept: PathBuf,
}

impl UpstreamOptions {
    /// The defaults, for this server and device; `log` is the audit log's database file. Encrypted,
    /// unless the server is on this machine.
    pub fn new(host: &str, device: &str, log: &Path) -> UpstreamOptions {
        let mut kept = log.as_os_str().to_owned();
        kept.push(".postgres");
        UpstreamOptions {
            host: host.to_owned(),
            port: 5432,
            database: "inspectd".to_owned(),
            user: "inspectd".to_owned(),
            password: None,
            tls: (!is_here(host)).then(TlsOptions::default),
            schema: "inspectd".to_owned(),
            create_tables: true,
            batch_records: 500,
            batch_bytes: 1 << 20,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            confirm_every: Duration::from_secs(30),
            device: device.to_owned(),
            kept: kept.into(),
        }
    }

    /// Whether the server is reached by a socket file.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The server, as it is told to a person.
    pub fn place(&self) -> String {
        match self.is_socket() {
            true => format!("{}/.s.PGSQL.{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Whether `host` is this machine: nobody else reads what goes there.
pub fn is_here(host: &str) -> bool {
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `name` is a schema's name that means the same with and without quotes.
pub fn is_schema_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    starts && name.len() <= SCHEMA_MAX_CHARS && name.chars().all(fits) && !name.starts_with("pg_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_plain_text_by_itself() {
        for host in ["/run/postgresql", "localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_here(host), "{host}");
        }
        for host in ["10.0.0.5", "db.plant", "localhost.plant", "::", "0.0.0.0"] {
            assert!(!is_here(host), "{host}");
        }
    }

    #[test]
    fn a_schema_is_a_plain_name() {
        for good in ["inspectd", "line_3", "_x"] {
            assert!(is_schema_name(good), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "3x", "Inspectd", "a-b", "a\"; DROP", "pg_catalog", "ä", &long] {
            assert!(!is_schema_name(bad), "{bad}");
        }
    }
}
