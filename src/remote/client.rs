//! One request, one response: bounded in time and size, never led elsewhere.

use std::error::Error as _;
use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use ureq::{Agent, Body, Timeout};

use super::failure::{Failure, Why};
use super::options::{EngineOptions, KeyHeader};
use super::{reply, tls};
use crate::credential;

/// Longest body of a bad status that is looked into, in bytes.
const ERROR_MAX_BYTES: u64 = 16 * 1024;

/// A connection to one engine, used again as long as it stands.
pub struct Client {
    agent: Agent,
    options: EngineOptions,
}

/// A response that came whole.
pub struct Response200 {
    /// Its body.
    pub body: Vec<u8>,
    /// From the call to its head.
    pub first_byte: Duration,
    /// From the call to its end.
    pub total: Duration,
}

/// A failure, and the status, if a response began.
pub type Bad = (Failure, Option<u16>);

impl Client {
    /// A client for an engine. Nothing is opened yet.
    ///
    /// # Errors
    /// Certificates that cannot be used, in words for a person.
    pub fn new(options: &EngineOptions) -> Result<Client, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(options.endpoint.is_encrypted())
            // A redirect would take pictures and key where nobody wrote that they may go.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A variable of the environment must not either.
            .proxy(None)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .tls_config(tls::config(options)?)
            .max_idle_connections_per_host(options.parallel)
            .accept("application/json")
            // Nothing that is small on the wire may be huge in memory.
            .accept_encoding("identity")
            .user_agent(concat!("inspectd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Client { agent: Agent::new_with_config(config), options: options.clone() })
    }

    /// Sends `body` and waits for the whole response, for `timeout` at most.
    ///
    /// # Errors
    /// Anything but a good status with a body of bounded length.
    pub fn post(&self, body: &[u8], timeout: Duration) -> Result<Response200, Bad> {
        let mut request =
            self.agent.post(self.options.endpoint.url()).header("Content-Type", "application/json");
        for (name, value) in self.headers()? {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let response = request.config().timeout_global(Some(timeout)).build().send(body);
        self.take(response, started, timeout)
    }

    /// Asks for `url` of the same server.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn get(&self, url: &str, timeout: Duration) -> Result<Response200, Bad> {
        let mut request = self.agent.get(url);
        for (name, value) in self.headers()? {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let response = request.config().timeout_global(Some(timeout)).build().call();
        self.take(response, started, timeout)
    }

    /// Key and deployment. The key is read anew each time, so that one that was renewed holds.
    fn headers(&self) -> Result<Vec<(&'static str, String)>, Bad> {
        let mut headers = Vec::new();
        if let Some(source) = &self.options.key {
            let no_key = |why: credential::CredentialError| {
                (Failure::new(Why::NoKey, why.to_string()), None)
            };
            let key = credential::read(source).map_err(no_key)?;
            headers.push(match self.options.key_header {
                KeyHeader::Bearer => ("Authorization", format!("Bearer {}", key.reveal())),
                KeyHeader::ApiKey => ("api-key", key.reveal().to_owned()),
            });
        }
        if let Some(deployment) = &self.options.deployment {
            headers.push(("azureml-model-deployment", deployment.clone()));
        }
        Ok(headers)
    }

    fn take(
        &self,
        response: Result<Response<Body>, ureq::Error>,
        started: Instant,
        timeout: Duration,
    ) -> Result<Response200, Bad> {
        let response = response.map_err(|error| (self.explain(&error, timeout), None))?;
        let first_byte = started.elapsed();
        let status = response.status().as_u16();
        let bad = |failure| (failure, Some(status));
        if status != 200 {
            return Err(bad(bad_status(status, response)));
        }
        check_headers(&response).map_err(bad)?;
        let most = self.options.max_response_bytes;
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(most + 1);
        if let Err(error) = reader.read_to_end(&mut body) {
            return Err(bad(self.explain(&ureq::Error::from(error), timeout)));
        }
        if body.len() as u64 > most {
            let why = format!("its response has more than {most} bytes; raise max_response_kib");
            return Err(bad(Failure::new(Why::TooLarge, why)));
        }
        Ok(Response200 { body, first_byte, total: started.elapsed() })
    }

    /// What an error of the library means, without the library's words where there are better ones.
    fn explain(&self, error: &ureq::Error, timeout: Duration) -> Failure {
        let host = self.options.endpoint.host();
        match error {
            ureq::Error::HostNotFound => {
                Failure::new(Why::Unreachable, format!("there is no host \"{host}\""))
            }
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                let ms = self.options.connect_timeout.min(timeout).as_millis();
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
                let port = self.options.endpoint.port();
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
        let ca = self.options.ca_file.as_ref();
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
            ) => format!("its certificate is not for \"{}\"", self.options.endpoint.host()),
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

fn redirected() -> Failure {
    Failure::new(
        Why::Redirected,
        "it redirects elsewhere, which is not followed; write that address as `url`",
    )
}

/// What a status other than 200 means.
fn bad_status(status: u16, response: Response<Body>) -> Failure {
    let seconds = response.headers().get(RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    let mut body = Vec::new();
    // What is missing of an excuse does not matter.
    let _ = response.into_body().into_reader().take(ERROR_MAX_BYTES).read_to_end(&mut body);
    let told = reply::error_message(&body).map(|text| format!(": {text}")).unwrap_or_default();
    let failure = |why, text: &str| Failure::new(why, format!("{text} (status {status}{told})"));
    let failure = match status {
        300..=399 => redirected(),
        401 | 403 => failure(Why::Forbidden, "it does not accept the key"),
        404 => failure(Why::Rejected, "it knows no such model or address"),
        413 => failure(Why::Rejected, "the pictures are too large for it"),
        429 => failure(Why::Busy, "it has too much to do"),
        503 => failure(Why::Busy, "it is not ready"),
        500..=599 => failure(Why::ServerError, "it failed"),
        _ => failure(Why::Rejected, "it does not accept the question"),
    };
    Failure { rest: seconds.map(|count| Duration::from_secs(count.into())), ..failure }
}

/// A body of another kind is not looked into: a login page, or something packed.
fn check_headers(response: &Response<Body>) -> Result<(), Failure> {
    let text = |name| response.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(packed) = text(CONTENT_ENCODING).filter(|word| *word != "identity") {
        let why =
            format!("its response is packed ({}), which was not asked for", reply::clean(packed));
        return Err(Failure::new(Why::NotOfInterface, why));
    }
    let kind = text(CONTENT_TYPE).unwrap_or("").to_ascii_lowercase();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        let kind = if kind.is_empty() { "of no kind".to_owned() } else { reply::clean(&kind) };
        return Err(Failure::new(Why::NotOfInterface, format!("its response is {kind}, not JSON")));
    }
    Ok(())
}
