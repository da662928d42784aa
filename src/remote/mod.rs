//! Engines elsewhere: a server that speaks chat completions with pictures and answers by a schema.
//!
//! ```text
//! Asking ─request→ body ─client→ response ─reply→ text, tokens ─confidence→ Answer
//!             breaker: may it be asked?      failure: why there is no answer
//! ```
//!
//! Nothing that comes back is believed: the text must be of the question's language, byte for byte as our
//! own model's would be ([`crate::vlm::grammar::reread`]), and the rules judge it as they judge that.
//! [`engine::Engine`] puts it together; it is shared by the threads that ask. [`way`] is how any server is
//! reached; `traces` goes by it, too.

pub mod address;
pub mod answered;
pub mod breaker;
mod client;
mod confidence;
pub mod engine;
pub mod failure;
pub mod options;
pub mod probe;
pub mod reply;
mod request;
mod tls;
pub mod way;

pub use address::{Address, AddressError};
pub use answered::{AnsweredBy, RemoteTimings};
pub use breaker::BreakerOptions;
pub use engine::{Engine, Pace, Question, Told};
pub use failure::{Failure, Why};
pub use options::{AnswerForm, Endpoint, EngineOptions, KeyHeader, Kind};
pub use tls::check_ca;
