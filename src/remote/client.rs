//! One request, one response: bounded in time and size, never led elsewhere.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use ureq::{Agent, Body};

use super::failure::{Failure, Why};
use super::options::{EngineOptions, KeyHeader};
use super::reply;
use super::way::{self, Way};
use crate::credential;

/// Longest body of a bad status that is looked into, in bytes.
const ERROR_MAX_BYTES: u64 = 16 * 1024;

/// A connection to one engine, used again as long as it stands.
pub struct Client {
    agent: Agent,
    way: Way,
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
        let way = Way {
            address: options.endpoint.address().clone(),
            ca_file: options.ca_file.clone(),
            connect_timeout: options.connect_timeout,
            accept: "application/json",
            parallel: options.parallel,
        };
        Ok(Client { agent: way.agent()?, way, options: options.clone() })
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
        let response = response.map_err(|error| (self.way.explain(&error, timeout), None))?;
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
            return Err(bad(self.way.explain(&ureq::Error::from(error), timeout)));
        }
        if body.len() as u64 > most {
            let why = format!("its response has more than {most} bytes; raise max_response_kib");
            return Err(bad(Failure::new(Why::TooLarge, why)));
        }
        Ok(Response200 { body, first_byte, total: started.elapsed() })
    }
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
        300..=399 => way::redirected(),
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
