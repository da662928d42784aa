//! One request of OTLP over HTTP, one answer, both bounded.

use std::io::Read;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use ureq::http::Response;
use ureq::http::header::RETRY_AFTER;
use ureq::{Agent, Body};

use super::options::{KeyHeader, Options};
use super::span::attribute;
use crate::credential;
use crate::remote::way::Way;
use crate::remote::{Failure, Why, reply};

/// What the body of request and answer is.
const PROTOBUF: &str = "application/x-protobuf";

/// Longest answer that is read, in bytes: it has two numbers and a sentence.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where spans go.
pub struct Collector {
    agent: Agent,
    way: Way,
    options: Options,
    resource: Resource,
}

/// What the collector did not take of what it accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// So many spans.
    pub spans: usize,
    /// Why, in its words.
    pub why: String,
}

impl Collector {
    /// The collector of the device of this name. Nothing is opened yet.
    ///
    /// # Errors
    /// Certificates that cannot be used, in words for a person.
    pub fn new(options: &Options, device: &str) -> Result<Collector, String> {
        let way = Way {
            address: options.endpoint.clone(),
            ca_file: options.ca_file.clone(),
            connect_timeout: CONNECT_TIMEOUT.min(options.timeout),
            accept: PROTOBUF,
            parallel: 1,
        };
        let resource = Resource {
            attributes: vec![
                attribute("service.name", "inspectd"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
                attribute("service.instance.id", device),
            ],
            ..Resource::default()
        };
        Ok(Collector { agent: way.agent()?, way, options: options.clone(), resource })
    }

    /// Where it is.
    pub fn origin(&self) -> &str {
        self.options.endpoint.origin()
    }

    /// The body that tells of `spans`.
    pub fn body(&self, spans: Vec<Span>) -> Vec<u8> {
        let scope = InstrumentationScope {
            name: "inspectd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let of_us = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_us] }.encode_to_vec()
    }

    /// Sends `body` and waits for the answer.
    ///
    /// # Errors
    /// Anything but a status that says that it was taken.
    pub fn send(&self, body: &[u8]) -> Result<Refused, Failure> {
        let url = format!("{}{}", self.options.endpoint.origin(), self.options.endpoint.path());
        let mut request = self.agent.post(url).header("Content-Type", PROTOBUF);
        if let Some(source) = &self.options.key {
            // Read anew each time, so that one that was renewed holds.
            let key = credential::read(source)
                .map_err(|why| Failure::new(Why::NoKey, why.to_string()))?;
            request = match &self.options.key_header {
                KeyHeader::Bearer => {
                    request.header("Authorization", format!("Bearer {}", key.reveal()))
                }
                KeyHeader::Named(name) => request.header(name, key.reveal()),
            };
        }
        let timeout = self.options.timeout;
        let answer = request.config().timeout_global(Some(timeout)).build().send(body);
        let answer = answer.map_err(|error| self.way.explain(&error, timeout))?;
        let status = answer.status().as_u16();
        let rest = retry_after(&answer);
        let mut told = Vec::new();
        let read = answer.into_body().into_reader().take(ANSWER_MAX_BYTES).read_to_end(&mut told);
        match status {
            200..=299 => {
                read.map_err(|why| self.way.explain(&ureq::Error::from(why), timeout))?;
                refused(&told)
            }
            // What is missing of an excuse does not matter.
            _ => Err(Failure { rest, ..bad_status(status) }),
        }
    }
}

/// What an answer to a good request says. A server that is no collector answers in another form.
fn refused(told: &[u8]) -> Result<Refused, Failure> {
    let response = ExportTraceServiceResponse::decode(told).map_err(|_| {
        Failure::new(Why::NotOfInterface, "its answer is not OTLP: it is no collector of traces")
    })?;
    let partial = response.partial_success.unwrap_or_default();
    let spans = usize::try_from(partial.rejected_spans).unwrap_or(0);
    Ok(Refused { spans, why: reply::clean(&partial.error_message) })
}

fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

fn bad_status(status: u16) -> Failure {
    let failure = |why, text: &str| Failure::new(why, format!("{text} (status {status})"));
    match status {
        300..=399 => failure(Why::Redirected, "it redirects elsewhere, which is not followed"),
        401 | 403 => failure(Why::Forbidden, "it does not accept the key"),
        404 | 405 => {
            failure(Why::Rejected, "it takes no traces there; most do at /v1/traces, port 4318")
        }
        429 | 503 => failure(Why::Busy, "it has too much to do"),
        502 | 504 => failure(Why::Busy, "what is behind it does not answer"),
        500..=599 => failure(Why::ServerError, "it failed"),
        _ => failure(Why::Rejected, "it does not accept what is sent"),
    }
}

/// Whether the same spans may be taken a moment later, as OTLP has it.
pub fn may_pass(failure: &Failure) -> bool {
    matches!(failure.why, Why::Unreachable | Why::Tls | Why::NoKey | Why::Timeout | Why::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_strictly() {
        assert_eq!(refused(b""), Ok(Refused::default()));
        assert!(refused(b"<html>welcome</html>").is_err());
        let partial = opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess {
            rejected_spans: 3,
            error_message: "too\nold".to_owned(),
        };
        let told = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(refused(&told), Ok(Refused { spans: 3, why: "too old".to_owned() }));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, again) in [
            (400, false),
            (404, false),
            (429, true),
            (500, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            assert_eq!(may_pass(&bad_status(status)), again, "{status}");
        }
    }
}
