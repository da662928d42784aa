//! The model room: picture + question + schema in, answer out. It imports nothing from the rest of
//! the program.
//!
//! In the order in which data goes through it:
//!
//! | file | what |
//! |---|---|
//! | [`config`], `json_fields` | the numbers of a model folder, checked once |
//! | [`model_files`] | which files a model has, by name |
//! | [`device`], `device_memory` | the CPU or a GPU: what was wished, what was found, whether the model fits |
//! | [`mapped`], [`weights`], `safetensors`, [`gguf`], [`linear`] | named tensors out of mapped files; the seam between full and quantised weights |
//! | [`digest`], [`pending_digest`] | what names a model in a record, computed beside all else |
//! | [`quantize`], [`calibrate`] | a published folder to one GGUF file; which inputs count most |
//! | [`quant`] | products with quantised weights |
//! | [`weight_bytes`] | how many bytes of weights a product reads |
//! | [`tokenizer`], [`encoded`] | text to ids and back; where the pictures stand among them |
//! | [`picture`], [`resize`], [`pixels`] | RGB pixels to normalised tiles of (3, 336, 336) |
//! | [`vision`] | a tile to 576 patch features |
//! | [`projector`] | patch features to embeddings, with line ends and separator |
//! | [`rope`], [`cache_form`], [`kv_cache`], `attend`, [`decoder`] | embeddings to hidden states and logits |
//! | [`lora`] | adapters beside the decoder's layers, one a question |
//! | [`engine`], [`session`] | the parts put together; one sequence in progress, and what it may reuse |
//! | [`prompt`], [`grammar`], [`sampler`], [`ask`], [`answer`] | logits under a schema's mask to tokens, tokens to an answer |
//! | [`accuracy`] | how far fewer bits move the model |
//! | [`progress`] | layers computed, by which slow is told from stuck |
//! | [`card`] | what a model is, read without its weights |
//! | `activation` | silu and GELU on all threads |
//! | [`trace`] | the tensors of one prompt, written for comparison with the published code |
//!
//! Weights are `&self`, state is passed in, and every tensor line ends in its shape. Numbers follow
//! the published Python and are compared with its stored tensors in `tests/it/vlm_reference.rs`.

pub mod accuracy;
mod activation;
pub mod answer;
pub mod ask;
mod attend;
pub mod cache_form;
pub mod calibrate;
pub mod card;
pub mod config;
pub mod decoder;
pub mod device;
mod device_memory;
pub mod digest;
pub mod encoded;
pub mod engine;
pub mod error;
pub mod gguf;
pub mod grammar;
mod json_fields;
pub mod kv_cache;
pub mod linear;
pub mod lora;
pub mod mapped;
pub mod model_files;
pub mod pending_digest;
pub mod picture;
mod picture_memory;
pub mod pixels;
pub mod progress;
pub mod projector;
pub mod prompt;
pub mod quant;
pub mod quantize;
pub mod resize;
pub mod rope;
mod safetensors;
pub mod sampler;
pub mod session;
pub mod tokenizer;
pub mod trace;
pub mod vision;
pub mod weight_bytes;
pub mod weights;

pub use cache_form::{CacheForm, CacheWish};
pub use card::ModelCard;
pub use config::{LongContext, ModelConfig};
pub use device::{DeviceWish, Placement, Precision};
pub use digest::Digest;
pub use encoded::Encoded;
pub use engine::{Engine, EngineId, EngineOptions};
pub use error::{EngineError, LoadError};
pub use lora::{Adapter, AdapterRef};
pub use pending_digest::{DigestError, PendingDigest};
pub use picture::Picture;
pub use session::{PromptPass, Session};
pub use tokenizer::{ChatTokenizer, Message, Role, chat_prompt, image_tag};
