//! The way to a server: never led elsewhere, never by a proxy, and its failures in words for a person.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use ureq::{Agent, Timeout};

use super::address::Address;
use super::failure::{Failure, Why};
use super::{reply, tls};

/// How one server is reached.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where it is.
    pub address: Address,
    /// The plant's authority, as PEM. `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// From the first packet to an open, encrypted connection.
    pub connect_timeout: Duration,
    /// Which kind of answer is wanted.
    pub accept: &'static str,
    /// Connections that are kept open between requests.
    pub parallel: usize,
}

impl Way {
    /// What asks the server. Nothing is opened yet.
    ///
    /// # Errors
    /// Certificates that cannot be used, in words for a person.
    pub fn agent(&self) -> Result<Agent, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(self.address.is_encrypted())
            // A redirect would take what is sent, and the key, where nobody wrote that they may go.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A variable of the environment must not either.
            .proxy(None)
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .tls_config(tls::config(&self.address, self.ca_file.as_deref())?)
            .max_idle_connections_per_host(self.parallel)
            .accept(self.accept)
            // Nothing that is small on the wire may be huge in memory.
            .accept_encoding("identity")
            .user_agent(concat!("inspectd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Agent::new_with_config(config))
    }

    /// What an error of the library means, without the library's words where there are better ones.
    pub fn explain(&self, error: &ureq::Error, timeout: Duration) -> Failure {
        let host = self.address.host();
        match error {
            ureq::Error::HostNotFound => {
                Failure::new(Why::Unreachable, format!("there is no host \"{host}\""))
            }
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                let ms = self.connect_timeout.min(timeout).as_millis();
                Failure::new(Why::Unreachable, format!("no connection within {ms} ms"))
            }
            ureq::Error::Timeout(_) => {
                let ms = timeout.as_millis();
                Failure::new(Why::Timeout, format!("no answer within {ms} ms"))
            }
            ureq::Error::Io(why) => match inner(why) {
                Some(ureq::Error::Io(_)) | None => self.explain_io(why),
                Some(own) => self.explain(own, timeout),
            },
            ureq::Error::Rustls(why) => self.explain_tls(why),
            ureq::Error::Tls(why) => Failure::new(Why::Tls, format!("TLS failed: {why}")),
            ureq::Error::RequireHttpsOnly(_) | ureq::Error::TooManyRedirects => redirected(),
            ureq::Error::LargeResponseHeader(..) => {
                Failure::new(Why::NotOfInterface, "the head of its response is too long")
            }
            other => Failure::new(
                Why::NotOfInterface,
                format!("HTTP failed: {}", reply::clean(&other.to_string())),
            ),
        }
    }

    fn explain_io(&self, why: &std::io::Error) -> Failure {
        if let Some(tls) = source_of::<rustls::Error>(why) {
            return self.explain_tls(tls);
        }
        match why.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                let port = self.address.port();
                Failure::new(Why::Unreachable, format!("nothing listens at port {port}"))
            }
            _ => Failure::new(
                Why::Unreachable,
                format!("the connection broke: {}", reply::clean(&why.to_string())),
            ),
        }
    }

    fn explain_tls(&self, why: &rustls::Error) -> Failure {
        use rustls::{CertificateError, Error};
        let ca = self.ca_file.as_ref();
        let ca = ca.map_or("this system's root certificates".to_owned(), |file| {
            file.display().to_string()
        });
        let text = match why {
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => {
                format!("its certificate is not signed by an authority in {ca}: set `ca_file`")
            }
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("its certificate is not for \"{}\"", self.address.host()),
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => "its certificate has expired, or this machine's clock is wrong".to_owned(),
            Error::InvalidMessage(_) => {
                "it does not speak TLS: write http:// or another port".to_owned()
            }
            other => format!("TLS failed: {}", reply::clean(&other.to_string())),
        };
        Failure::new(Why::Tls, text)
    }
}

/// The library's error inside one of input and output.
fn inner(why: &std::io::Error) -> Option<&ureq::Error> {
    why.get_ref()?.downcast_ref()
}

/// The first error of this type behind another.
fn source_of<T: std::error::Error + 'static>(why: &std::io::Error) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(why.get_ref()?);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    why.source()?.downcast_ref()
}

/// The server sends us elsewhere.
pub fn redirected() -> Failure {
    Failure::new(
        Why::Redirected,
        "it redirects elsewhere, which is not followed; write that address in its place",
    )
}
