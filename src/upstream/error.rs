//! Why the log is not copied now. Each text says what to do; none holds a password.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error as Postgres;
use tokio_postgres::error::{DbError, SqlState};

use super::options::UpstreamOptions;
use crate::credential::CredentialError;
use crate::publish::PublishError;
use crate::store::StoreError;

/// Longest text of the server that is told, in characters.
const TEXT_MAX_CHARS: usize = 300;

/// Why the log is not copied.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The password cannot be had.
    #[error(transparent)]
    Password(#[from] CredentialError),
    /// A file for TLS cannot be used.
    #[error("{0}")]
    Tls(String),
    /// There is no connection.
    #[error("no connection to PostgreSQL at {place}: {why}")]
    Connect {
        /// The server.
        place: String,
        /// What went wrong, and what to do.
        why: String,
    },
    /// A statement failed, or the connection with it.
    #[error("PostgreSQL cannot {doing}: {why}")]
    Statement {
        /// What was tried.
        doing: &'static str,
        /// What went wrong, and what to do.
        why: String,
    },
    /// A statement had no answer in time.
    #[error("PostgreSQL did not {doing} within {seconds} s; the connection is made anew")]
    Late {
        /// What was tried.
        doing: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// What is there contradicts the log. It is left as it is; a person has to look.
    #[error("{0}")]
    Conflict(String),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This machine has no thread or runtime to give.
    #[error("cannot start the copy to PostgreSQL: {0}")]
    Start(io::Error),
}

impl UpstreamError {
    /// Whether only a person can mend it.
    pub fn is_conflict(&self) -> bool {
        matches!(self, UpstreamError::Conflict(_))
    }
}

impl From<PublishError> for UpstreamError {
    /// Of the files of a connection; the text names the file and what it should hold.
    fn from(why: PublishError) -> UpstreamError {
        UpstreamError::Tls(match why {
            PublishError::File { what, path, why, remedy } => {
                format!("cannot use the {what} in {}: {why}; {remedy}", path.display())
            }
            other => other.to_string(),
        })
    }
}

/// Why the connection could not be made, and what to do.
pub fn connecting(error: &Postgres, options: &UpstreamOptions) -> UpstreamError {
    let why = match (error.as_db_error(), tls_error(error)) {
        (Some(told), _) => refused(told, options),
        (None, Some(why)) => explain_tls(why, options),
        // The library has no other way to tell these two.
        (None, None) => match causes(error) {
            text if text.contains("does not support TLS") => format!(
                "it does not offer TLS: set  ssl = on  in postgresql.conf, or  tls = false  ({text})"
            ),
            text if text.contains("password missing") => {
                format!("it asks for a password: set `password_file` ({text})")
            }
            text => text,
        },
    };
    UpstreamError::Connect { place: options.place(), why }
}

/// Why a statement failed, and what to do.
pub fn doing(doing: &'static str, error: &Postgres, options: &UpstreamOptions) -> UpstreamError {
    let why = match error.as_db_error() {
        Some(told) => refused(told, options),
        None => causes(error),
    };
    UpstreamError::Statement { doing, why }
}

/// What the server said, with what to do about it.
fn refused(told: &DbError, options: &UpstreamOptions) -> String {
    let UpstreamOptions { user, database, schema, .. } = options;
    let code = told.code();
    let remedy = if *code == SqlState::INVALID_PASSWORD {
        format!("correct the password of role {user} in `password_file` or at the server")
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        format!("let role {user} in by a line of pg_hba.conf, with hostssl where TLS is used")
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        format!("make it: createdb -E UTF8 {database}")
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        format!(
            "let an administrator run what `inspectd upstream schema` prints, and grant USAGE on \
             schema {schema}, SELECT and INSERT on its tables to {user}"
        )
    } else if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
        "the tables are not those that `inspectd upstream schema` prints".to_owned()
    } else if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE {
        "it was too slow, or something holds the table; see `statement_timeout_s`".to_owned()
    } else if *code == SqlState::DISK_FULL {
        "free some space at the server".to_owned()
    } else {
        return format!("{} ({})", clean(told.message()), code.code());
    };
    format!("{} ({}): {remedy}", clean(told.message()), code.code())
}

fn explain_tls(error: &rustls::Error, options: &UpstreamOptions) -> String {
    use rustls::{CertificateError as Bad, Error};
    let ca = options.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
    let ca = ca.map_or("this system's root certificates".to_owned(), |it| it.display().to_string());
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => format!(
            "its certificate is not signed by an authority in {ca}: put the certificate of the one \
             that signed it into `ca_file`"
        ),
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("its certificate is for another name: write that as `server_name` ({error})")
        }
        Error::InvalidCertificate(why) => {
            format!("its certificate is not accepted: {why}; renew it, or correct the clock")
        }
        Error::AlertReceived(alert) => format!(
            "it ended the TLS handshake ({alert:?}): see `client_cert`, and ssl_ca_file at the server"
        ),
        other => format!("TLS failed: {other}"),
    }
}

/// The TLS error at the bottom, if there is one.
fn tls_error(error: &Postgres) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(at) = cause {
        if let Some(found) = at.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = at.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(found);
        }
        cause = at.source();
    }
    None
}

/// The error with what caused it.
fn causes(error: &Postgres) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(at) = cause {
        text = format!("{text}: {at}");
        cause = at.source();
    }
    clean(&text)
}

/// A text of the server as it may stand in a log: one line, of bounded length.
pub fn clean(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut told: String = text.chars().take(TEXT_MAX_CHARS).map(plain).collect();
    if text.chars().nth(TEXT_MAX_CHARS).is_some() {
        told.push('…');
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_one_line_of_bounded_length() {
        assert_eq!(clean("a\nb\u{1b}[31mc"), "a b [31mc");
        let long = "ä".repeat(1000);
        assert_eq!(clean(&long).chars().count(), TEXT_MAX_CHARS + 1);
    }

    #[test]
    fn files_of_a_connection_are_named_without_another_protocol() {
        let why = PublishError::File {
            what: "CA certificates",
            path: "/etc/ca.pem".into(),
            why: "gone".into(),
            remedy: "put it there",
        };
        let told = UpstreamError::from(why).to_string();
        assert_eq!(told, "cannot use the CA certificates in /etc/ca.pem: gone; put it there");
    }
}
