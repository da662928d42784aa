//! A prompt ready for the model: ids, with the places of the pictures among them.
//!
//! The published processor splits a prompt at the picture tags and tokenises every piece on its
//! own, so every piece begins with its own `<s>`. Between the pieces stand as many copies of -k as
//! picture k takes tokens. Source: `Phi3VProcessor._convert_images_texts_to_inputs`,
//! processing_phi3_v.py.

use super::config::MAX_NUM_CROPS;
use super::digest::Digest;
use super::error::EngineError;
use super::picture::Picture;
use super::pixels::Layout;
use super::tokenizer::{ChatTokenizer, image_tags};

/// A prompt as ids, and the pictures it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Text ids, 0 or more; picture k, counted from 1, is a run of -k.
    pub ids: Vec<i32>,
    /// Tokens of each picture.
    pub image_tokens: Vec<usize>,
    /// Digest of each picture's pixels.
    pub pictures: Vec<Digest>,
    /// Most tiles each picture is cut into.
    pub num_crops: usize,
}

impl Encoded {
    /// Tokens in all.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is nothing in it. A prompt made of text has at least its `<s>`.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Tokens of all pictures together.
    pub fn total_image_tokens(&self) -> usize {
        self.image_tokens.iter().sum()
    }

    /// Encodes `prompt`, the whole text after the chat template, whose tags `<|image_1|>`,
    /// `<|image_2|>`, ... stand for `pictures` in this order, each exactly once. Without pictures a
    /// tag is ordinary text.
    ///
    /// # Errors
    /// [`EngineError::Prompt`] if tags and pictures do not fit together; [`EngineError::Picture`]
    /// for a picture that cannot be laid out.
    pub fn from_prompt(
        tokenizer: &ChatTokenizer,
        prompt: &str,
        pictures: &[Picture<'_>],
        num_crops: usize,
    ) -> Result<Encoded, EngineError> {
        let image_tokens = count_tokens(pictures, num_crops)?;
        let tags = if pictures.is_empty() { Vec::new() } else { image_tags(prompt) };
        let found: Vec<Option<usize>> = tags.iter().map(|tag| tag.number).collect();
        if !found.iter().copied().eq((1..=pictures.len()).map(Some)) {
            let found: Vec<&str> = tags.iter().map(|tag| &prompt[tag.range.clone()]).collect();
            return Err(EngineError::Prompt(format!(
                "{} pictures need the tags <|image_1|> to <|image_{}|>, each once and in this order; found {}",
                pictures.len(),
                pictures.len(),
                if found.is_empty() { "none".to_string() } else { found.join(" ") },
            )));
        }
        let mut ids = Vec::new();
        let mut from = 0;
        for (tag, tokens) in tags.iter().zip(&image_tokens) {
            push_text(&mut ids, tokenizer, &prompt[from..tag.range.start])?;
            let sentinel = tag.number.map_or(0, |k| -(k as i32)); // at most as many as there are pictures
            ids.extend(std::iter::repeat_n(sentinel, *tokens));
            from = tag.range.end;
        }
        push_text(&mut ids, tokenizer, &prompt[from..])?;
        Ok(Encoded { ids, image_tokens, pictures: digests(pictures), num_crops })
    }

    /// Takes ids as they are, picture k being a run of -k as long as the picture takes tokens.
    /// `vocab` bounds the ids.
    ///
    /// # Errors
    /// As [`Encoded::from_prompt`], and for an id that has no embedding.
    pub fn from_ids(
        ids: Vec<i32>,
        pictures: &[Picture<'_>],
        num_crops: usize,
        vocab: usize,
    ) -> Result<Encoded, EngineError> {
        let image_tokens = count_tokens(pictures, num_crops)?;
        if let Some(id) = ids.iter().find(|id| **id >= 0 && **id as usize >= vocab) {
            return Err(EngineError::Prompt(format!(
                "id {id} has no embedding, the model has {vocab}"
            )));
        }
        let expected =
            image_tokens.iter().zip(1..).flat_map(|(tokens, k)| std::iter::repeat_n(-k, *tokens));
        if !ids.iter().copied().filter(|id| *id < 0).eq(expected) {
            let problem = format!(
                "the negative ids must be -1, -2, ... for pictures of {image_tokens:?} tokens"
            );
            return Err(EngineError::Prompt(problem));
        }
        Ok(Encoded { ids, image_tokens, pictures: digests(pictures), num_crops })
    }
}

fn push_text(
    ids: &mut Vec<i32>,
    tokenizer: &ChatTokenizer,
    piece: &str,
) -> Result<(), EngineError> {
    ids.extend(tokenizer.encode(piece)?.into_iter().map(|id| id as i32)); // a vocabulary has at most 2^20 ids
    Ok(())
}

fn digests(pictures: &[Picture<'_>]) -> Vec<Digest> {
    pictures.iter().map(Picture::digest).collect()
}

fn count_tokens(pictures: &[Picture<'_>], num_crops: usize) -> Result<Vec<usize>, EngineError> {
    if !(1..=MAX_NUM_CROPS).contains(&num_crops) {
        return Err(EngineError::Prompt(format!(
            "num_crops must be 1 to {MAX_NUM_CROPS}, not {num_crops}"
        )));
    }
    let tokens = |picture: &Picture<'_>| {
        Ok(Layout::of(picture.width(), picture.height(), num_crops)?.tokens())
    };
    pictures.iter().map(tokens).collect()
}
