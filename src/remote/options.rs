//! What the configuration says of one remote engine.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{Address, AddressError};
use super::breaker::BreakerOptions;
use crate::credential;

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

/// Where an engine is asked: its address, with what has to stand behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: Address,
    path: String,
    api_version: Option<String>,
    /// The body is Azure ML's own, and not chat completions.
    is_score: bool,
}

impl Endpoint {
    /// The endpoint at `url` of an engine of this kind. Where the path is not that of a question
    /// already, `/chat/completions` is put behind it.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse(
        kind: Kind,
        url: &str,
        api_version: Option<&str>,
    ) -> Result<Endpoint, AddressError> {
        let address = Address::parse(url).map_err(|why| match url.contains('?') {
            true => AddressError(format!("{why}; a version goes into `api_version`")),
            false => why,
        })?;
        let path = address.path();
        let is_score = kind == Kind::AzureMl && path.ends_with("/score");
        let path = match is_score || path.ends_with("/chat/completions") {
            true => path.to_owned(),
            false => format!("{path}/chat/completions"),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if api_version.is_some_and(|version| version.is_empty() || !version.chars().all(fits)) {
            return Err(AddressError("`api_version` must be such as 2024-05-01-preview".into()));
        }
        let api_version = api_version.map(str::to_owned);
        Ok(Endpoint { address, path, api_version, is_score })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Scheme, host and port: what records name.
    pub fn origin(&self) -> &str {
        self.address.origin()
    }

    /// The whole address that questions are sent to.
    pub fn url(&self) -> String {
        let version = self.api_version.as_ref().map(|version| format!("?api-version={version}"));
        format!("{}{}{}", self.origin(), self.path, version.unwrap_or_default())
    }

    /// The address of the list of models, where there is one.
    pub fn models_url(&self) -> Option<String> {
        let base = self.path.strip_suffix("/chat/completions").filter(|_| !self.is_score)?;
        Some(format!("{}{base}/models", self.origin()))
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
    fn what_belongs_elsewhere_is_refused() {
        let told = Endpoint::parse(Kind::AzureMl, "https://h/score?api-version=1", None);
        assert!(told.expect_err("a query").to_string().contains("`api_version`"));
        assert!(Endpoint::parse(Kind::AzureMl, "https://h", Some("1&x=2")).is_err());
        let of = |url| Endpoint::parse(Kind::OpenAi, url, None).expect("an address");
        let models = of("http://gpu:8000/v1").models_url();
        assert_eq!(models.as_deref(), Some("http://gpu:8000/v1/models"));
    }
}
