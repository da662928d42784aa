//! Text to ids and back, the chat template, and what must not come from outside.
//!
//! The published `tokenizer.json` decides everything: byte fallback, the U+2581 that stands for a
//! space and is put before every piece of text, and which added tokens swallow the white space
//! after them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tokenizers::Tokenizer;

use super::error::{EngineError, LoadError};
use super::json_fields::parse_object;

/// Names of tokens that end an answer, whatever `generation_config.json` says: published
/// checkpoints name `</s>`, which the model never writes.
const STOP_TOKENS: [&str; 3] = ["<|end|>", "<|endoftext|>", "<|assistant|>"];

/// A model's tokenizer with its tokens' bytes spelled out.
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
    /// Bytes of each id; `None` for control tokens and ids without a token.
    bytes: Vec<Option<Box<[u8]>>>,
    /// Text of the added tokens, longest first.
    control: Vec<String>,
    stop_ids: Vec<u32>,
}

/// Who speaks in a chat message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a chat.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said. Text from outside must have passed [`ChatTokenizer::control_tag`].
    pub content: &'a str,
}

impl Role {
    fn tag(self) -> &'static str {
        match self {
            Role::System => "<|system|>",
            Role::User => "<|user|>",
            Role::Assistant => "<|assistant|>",
        }
    }
}

/// The published chat template: `<|role|>\ncontent<|end|>\n` for each message, then the opening of
/// the model's answer unless the model spoke last. There is no default system message.
pub fn chat_prompt(messages: &[Message<'_>]) -> String {
    let mut prompt = String::new();
    for message in messages {
        prompt.push_str(message.role.tag());
        prompt.push('\n');
        prompt.push_str(message.content);
        prompt.push_str("<|end|>\n");
    }
    if messages.last().is_some_and(|message| message.role != Role::Assistant) {
        prompt.push_str("<|assistant|>\n");
    }
    prompt
}

/// The tag that stands for picture `k`, counted from 1. It is plain text, not a token.
pub fn image_tag(k: usize) -> String {
    format!("<|image_{k}|>")
}

/// Where a picture tag stands in a text: the bytes it takes and its number (`None` if too large to
/// count).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagPlace {
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) number: Option<usize>,
}

/// The picture tags of `text` in reading order.
pub(crate) fn image_tags(text: &str) -> Vec<TagPlace> {
    const OPEN: &str = "<|image_";
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find(OPEN) {
        let start = from + found;
        let digits_at = start + OPEN.len();
        let digits = text[digits_at..].bytes().take_while(u8::is_ascii_digit).count();
        let end = digits_at + digits;
        if digits > 0 && text[end..].starts_with("|>") {
            places.push(TagPlace {
                range: start..end + 2,
                number: text[digits_at..end].parse().ok(),
            });
        }
        from = end;
    }
    places
}

impl ChatTokenizer {
    /// Builds the tokenizer from the bytes of `tokenizer.json`. `eos_ids` are added to the stop
    /// ids; `vocab` is the number of embedding rows, which no id may reach.
    pub(crate) fn load(
        path: &Path,
        json: &[u8],
        eos_ids: &[u32],
        vocab: usize,
    ) -> Result<ChatTokenizer, LoadError> {
        let refuse = |problem: String| LoadError::Tokenizer { path: path.to_path_buf(), problem };
        parse_object(path, json)?;
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(json))
            .map_err(|e| refuse(format!("is not a usable tokenizer: {e}")))?;
        // A file saved after training may cut or pad texts; a prompt must be neither.
        tokenizer.with_padding(None).with_truncation(None).map_err(|e| refuse(e.to_string()))?;

        let added = tokenizer.get_added_tokens_decoder();
        let mut bytes = vec![None; vocab];
        for (token, id) in tokenizer.get_vocab(true) {
            let place = bytes.get_mut(id as usize).ok_or_else(|| {
                refuse(format!("token {token:?} has id {id}, the model has {vocab} embeddings"))
            })?;
            if !added.contains_key(&id) {
                *place = Some(token_text(&token));
            }
        }
        let mut control: Vec<String> = added.values().map(|token| token.content.clone()).collect();
        control.retain(|content| !content.is_empty());
        control.sort_by_key(|content| (usize::MAX - content.len(), content.clone()));

        let mut stop_ids = eos_ids.to_vec();
        stop_ids.extend(STOP_TOKENS.iter().filter_map(|token| tokenizer.token_to_id(token)));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let loaded = ChatTokenizer { tokenizer, bytes, control, stop_ids };
        // Whether it can be used shows now, not at the first question.
        let ids = loaded.encode("a").map_err(|why| refuse(why.to_string()))?;
        loaded.decode_all(&ids).map_err(|why| refuse(why.to_string()))?;
        Ok(loaded)
    }

    /// The ids of `text`, with the `<s>` that the tokenizer puts first. Added tokens written in
    /// `text` become their ids.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_with(text, true)
    }

    /// The ids of `text` without the `<s>`. The text still gets the tokenizer's leading U+2581.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, first: bool) -> Result<Vec<u32>, EngineError> {
        let encoding =
            guarded(|| self.tokenizer.encode_fast(text, first)).map_err(EngineError::Tokenizer)?;
        let ids = encoding.get_ids();
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.bytes.len()) {
            let vocab = self.bytes.len();
            let text = format!("a text becomes the id {id}, the model has {vocab} embeddings");
            return Err(EngineError::Tokenizer(text));
        }
        Ok(ids.to_vec())
    }

    /// The text of `ids`: control tokens left out, one leading space stripped, broken UTF-8
    /// replaced.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        guarded(|| self.tokenizer.decode(ids, true)).map_err(EngineError::Tokenizer)
    }

    /// The same with the control tokens written out, as the publisher's cases have it.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String, EngineError> {
        guarded(|| self.tokenizer.decode(ids, false)).map_err(EngineError::Tokenizer)
    }

    /// The bytes that token `id` adds to a text; U+2581 counts as a space. `None` for control
    /// tokens and ids without a token, which add no text.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize)?.as_deref()
    }

    /// All tokens that add text, as (id, bytes), ascending by id.
    pub fn text_tokens(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.bytes.iter().enumerate().filter_map(|(id, bytes)| Some((id as u32, bytes.as_deref()?)))
    }

    /// Ids that end an answer, ascending.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The id of a token by its text, such as `<|end|>`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The first control tag in `text`: an added token such as `<|end|>` or `</s>`, or a picture
    /// tag. Text that comes from outside (a question, a part's number) must have none: it would end
    /// the user's message or show another picture. Check the text as assembled, because two
    /// harmless halves can join to a tag.
    pub fn control_tag<'t>(&self, text: &'t str) -> Option<&'t str> {
        let added =
            self.control.iter().filter_map(|tag| text.find(tag).map(|at| at..at + tag.len()));
        let pictures = image_tags(text).into_iter().map(|place| place.range);
        let first =
            added.chain(pictures).min_by_key(|range| (range.start, usize::MAX - range.end))?;
        Some(&text[first])
    }
}

/// What the library makes of a text or of a file. It panics where a part of `tokenizer.json` is not what
/// it relies on (a template that names no token, a decoder that strips more than there is): the fault of a
/// file, and so an error.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|why| why.to_string()),
        Err(_) => {
            Err("the tokenizer breaks off; its file is damaged or of another model".to_owned())
        }
    }
}

/// A vocabulary entry's bytes: `<0x0A>` is a byte, U+2581 is a space, the rest is itself.
fn token_text(token: &str) -> Box<[u8]> {
    let hex = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .filter(|hex| hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => Box::new([byte]),
        None => token.replace('\u{2581}', " ").into_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_as_published() {
        let user = |content| Message { role: Role::User, content };
        assert_eq!(chat_prompt(&[user("Hi")]), "<|user|>\nHi<|end|>\n<|assistant|>\n");
        let said = Message { role: Role::Assistant, content: "Yes" };
        assert_eq!(
            chat_prompt(&[user("Hi"), said]),
            "<|user|>\nHi<|end|>\n<|assistant|>\nYes<|end|>\n"
        );
        assert_eq!(chat_prompt(&[]), "");
    }

    #[test]
    fn picture_tags_are_found_and_near_misses_are_not() {
        let numbers = |text: &str| -> Vec<Option<usize>> {
            image_tags(text).iter().map(|tag| tag.number).collect()
        };
        assert_eq!(numbers("<|image_1|>\n<|image_12|>x"), [Some(1), Some(12)]);
        assert_eq!(numbers("<|image_|><|image_1|<|image_1<|image_1|>"), [Some(1)]);
        assert_eq!(numbers("<|image_99999999999999999999999|>"), [None]);
        assert_eq!(numbers("<|image_é|><|image_1é|>"), []);
    }

    #[test]
    fn byte_tokens_and_spaces_become_bytes() {
        assert_eq!(&*token_text("<0x0A>"), b"\n");
        assert_eq!(&*token_text("\u{2581}the"), b" the");
        assert_eq!(&*token_text("<0x0AB>"), b"<0x0AB>");
    }
}
