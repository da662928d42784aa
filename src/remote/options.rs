//! What the configuration says of one remote engine.

use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;

use super::breaker::BreakerOptions;
use crate::credential;

/// Longest address, in characters.
pub const URL_MAX_CHARS: usize = 1024;

/// One engine, by the name that stations call it.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: Kind,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The model that is asked for. `None`: the endpoint has one model only, as in Azure ML.
    pub model: Option<String>,
    /// The key, if it wants one.
    pub key: Option<credential::Source>,
    /// Under which header the key goes.
    pub key_header: KeyHeader,
    /// The deployment behind an endpoint of Azure ML, if it is not the one that the traffic rules pick.
    pub deployment: Option<String>,
    /// How the answer's form is asked for.
    pub form: AnswerForm,
    /// Ask for the probabilities of tokens. Default: yes; a server that knows none leaves them out, and
    /// one that refuses the question needs `false`.
    pub logprobs: bool,
    /// From the request to the last byte of the answer. Default 30 s; the part's deadline cuts it short.
    pub timeout: Duration,
    /// From the first packet to an open, encrypted connection. Default 3 s.
    pub connect_timeout: Duration,
    /// Questions at once. Default 4.
    pub parallel: usize,
    /// Longest response, in bytes. Default 4 MiB: the probabilities of a long answer take much room.
    pub max_response_bytes: u64,
    /// The plant's authority, as PEM. `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// When it is left alone.
    pub breaker: BreakerOptions,
}

/// What an engine speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `POST …/chat/completions`, as vLLM, llama.cpp's server, Ollama and NVIDIA NIM serve it.
    OpenAi,
    /// An online endpoint of Azure Machine Learning: chat completions, or `/score`.
    AzureMl,
}

/// Under which header a key goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    #[default]
    Bearer,
    /// `api-key: KEY`.
    ApiKey,
}

/// How the answer's form is asked for. Whatever is asked for, the answer is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerForm {
    /// `response_format` with the schema: the server lets the model write nothing else.
    #[default]
    JsonSchema,
    /// `response_format` for any JSON; the schema stands in the system text.
    JsonObject,
    /// Nothing but the schema in the system text.
    Prompt,
}

impl Kind {
    /// The word in configuration and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::AzureMl => "azure-ml",
        }
    }
}

/// An address, checked, with what has to stand behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    origin: String,
    path: String,
    api_version: Option<String>,
    /// The body is Azure ML's own, and not chat completions.
    is_score: bool,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl Endpoint {
    /// The endpoint at `url` of an engine of this kind. Where the path is not that of a question
    /// already, `/chat/completions` is put behind it.
    ///
    /// # Errors
    /// What is no address of a server, or holds what does not belong into one: a password, a query.
    pub fn parse(
        kind: Kind,
        url: &str,
        api_version: Option<&str>,
    ) -> Result<Endpoint, EndpointError> {
        let bad = |why: &str| Err(EndpointError(why.to_owned()));
        let Ok(uri) = url.parse::<Uri>() else {
            return bad("it is no address that begins with http:// or https://");
        };
        let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) => (scheme, authority),
            _ => return bad("it must begin with http:// or https:// and name a host"),
        };
        if authority.as_str().contains('@') {
            return bad("a name or password in it would stand in logs; use `key_file`");
        }
        if authority.host().is_empty() {
            return bad("it names no host");
        }
        if uri.query().is_some() || url.contains('#') {
            return bad("it must end before `?` and `#`; a version goes into `api_version`");
        }
        let path = uri.path().trim_end_matches('/');
        let is_score = kind == Kind::AzureMl && path.ends_with("/score");
        let path = match is_score || path.ends_with("/chat/completions") {
            true => path.to_owned(),
            false => format!("{path}/chat/completions"),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if api_version.is_some_and(|version| version.is_empty() || !version.chars().all(fits)) {
            return bad("`api_version` must be such as 2024-05-01-preview");
        }
        let origin = format!("{scheme}://{authority}");
        let api_version = api_version.map(str::to_owned);
        Ok(Endpoint { origin, path, api_version, is_score })
    }

    /// Scheme, host and port: what records name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The whole address that questions are sent to.
    pub fn url(&self) -> String {
        let version = self.api_version.as_ref().map(|version| format!("?api-version={version}"));
        format!("{}{}{}", self.origin, self.path, version.unwrap_or_default())
    }

    /// The address of the list of models, where there is one.
    pub fn models_url(&self) -> Option<String> {
        let base = self.path.strip_suffix("/chat/completions").filter(|_| !self.is_score)?;
        Some(format!("{}{base}/models", self.origin))
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The host, without its port.
    pub fn host(&self) -> &str {
        let authority = self.origin.split_once("://").map_or("", |(_, rest)| rest);
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let custom = if self.is_encrypted() { 443 } else { 80 };
        let port = self.origin.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or(custom)
    }

    /// Whether the body is Azure ML's own form for `/score`.
    pub fn is_score(&self) -> bool {
        self.is_score
    }
}

impl EngineOptions {
    /// An engine with the defaults for everything that can have one.
    pub fn new(name: &str, kind: Kind, endpoint: Endpoint) -> EngineOptions {
        EngineOptions {
            name: name.to_owned(),
            kind,
            endpoint,
            model: None,
            key: None,
            key_header: KeyHeader::default(),
            deployment: None,
            form: AnswerForm::default(),
            logprobs: true,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            parallel: 4,
            max_response_bytes: 4 << 20,
            ca_file: None,
            breaker: BreakerOptions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_that_of_questions() {
        let url =
            |kind, url: &str, version| Endpoint::parse(kind, url, version).map(|one| one.url());
        let same = "http://gpu:8000/v1/chat/completions";
        for base in ["http://gpu:8000/v1", "http://gpu:8000/v1/", same] {
            assert_eq!(url(Kind::OpenAi, base, None).as_deref(), Ok(same), "{base}");
        }
        let azure = "https://line.westeurope.inference.ml.azure.com";
        for (path, expected) in
            [("/score", "/score"), ("", "/chat/completions"), ("/v1", "/v1/chat/completions")]
        {
            let told = url(Kind::AzureMl, &format!("{azure}{path}"), None);
            assert_eq!(told, Ok(format!("{azure}{expected}")));
        }
        let versioned = url(Kind::AzureMl, azure, Some("2024-05-01-preview"));
        let whole = format!("{azure}/chat/completions?api-version=2024-05-01-preview");
        assert_eq!(versioned, Ok(whole));
        let score = Endpoint::parse(Kind::OpenAi, "http://gpu/score", None).expect("an address");
        assert!(!score.is_score(), "that form is Azure's");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "gpu:8000",
            "ftp://gpu/v1",
            "http://",
            "http:///v1",
            "https://u:p@gpu/v1",
            "http://gpu/v1?key=1",
            "http://gpu/v1#x",
            "http://g pu/",
        ] {
            assert!(Endpoint::parse(Kind::OpenAi, bad, None).is_err(), "{bad}");
        }
        assert!(Endpoint::parse(Kind::AzureMl, "https://h", Some("1&x=2")).is_err());
    }

    #[test]
    fn host_and_port_are_told() {
        let of = |url| Endpoint::parse(Kind::OpenAi, url, None).expect("an address");
        let told = |url| (of(url).host().to_owned(), of(url).port(), of(url).is_loopback());
        assert_eq!(told("http://gpu:8000/v1"), ("gpu".to_owned(), 8000, false));
        assert_eq!(told("https://10.0.0.7"), ("10.0.0.7".to_owned(), 443, false));
        assert_eq!(told("http://[::1]:11434/v1"), ("[::1]".to_owned(), 11434, true));
        assert_eq!(told("http://127.0.0.1/v1"), ("127.0.0.1".to_owned(), 80, true));
        assert_eq!(
            of("http://gpu:8000/v1").models_url().as_deref(),
            Some("http://gpu:8000/v1/models")
        );
    }
}
