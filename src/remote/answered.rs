//! Who answered a question, as it stands in the permanent record. Plain data.

use serde::{Deserialize, Serialize};

/// The engine that was asked, and what is known of it. No secret is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnsweredBy {
    /// Its name in the configuration.
    pub engine: String,
    /// What it speaks: `openai`, `azure-ml`.
    pub kind: String,
    /// Scheme, host and port.
    pub origin: String,
    /// The model that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_asked: Option<String>,
    /// The model that answered, as the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the server calls its own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
    /// SHA-256 of the request's body. The record's prompt is that body with `sha256:` and a digest in the
    /// place of each picture: with the evidence files in their places it has this digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
    /// SHA-256 of the response's body, which is not kept; the answer's text is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_sha256: Option<String>,
    /// The response's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often the question was sent.
    pub attempts: u32,
    /// The server told no probabilities: every confidence of this answer is 0 and means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unrated: bool,
    /// Where the time went.
    pub timings: RemoteTimings,
    /// The code and the text of why the device's own model answered in its place; `None`: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallen_back: Option<FallenBack>,
}

/// Why the device's own model answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallenBack {
    /// A fixed word, such as `engine_timeout`.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

/// Milliseconds of one question to an engine elsewhere, of its last try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RemoteTimings {
    /// Making the body.
    pub encode_ms: f64,
    /// From the call to the head of the response, with the connection if a new one was needed.
    pub first_byte_ms: f64,
    /// From the call to the end of the response.
    pub total_ms: f64,
}
