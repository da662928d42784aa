//! System text, examples and question → the prompt: chat template, picture tags, and no tag from outside.

use super::tokenizer::{Message, Role, chat_prompt, image_tag};

/// Where a picture stands in a question's text.
pub const IMAGE: &str = "<image>";

/// The texts of one question.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// Instructions before everything else; empty for none.
    pub system: &'a str,
    /// What is asked and what should be answered, without pictures. Each costs its tokens, once per prefix.
    pub examples: &'a [(String, String)],
    /// The question. [`IMAGE`] marks where each picture stands; without any, the pictures come first.
    pub text: &'a str,
}

/// Why no prompt could be made of the texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// A text holds one of the model's control tags, with which it could speak as somebody else.
    #[error("{place} contains the control tag `{tag}`; remove it")]
    ControlTag {
        /// Which text.
        place: String,
        /// The tag.
        tag: String,
    },
    /// A text other than the question marks a picture.
    #[error("{place} contains `{IMAGE}`, but only the question shows pictures; remove it")]
    PictureInText {
        /// Which text.
        place: String,
    },
    /// Pictures and the places for them do not match.
    #[error(
        "the question has {places} `{IMAGE}` for {pictures} pictures; write one for each, or none"
    )]
    Pictures {
        /// How often [`IMAGE`] is written.
        places: usize,
        /// How many pictures are shown.
        pictures: usize,
    },
    /// There is no question.
    #[error("the question is empty; say what is to be answered")]
    Empty,
}

impl<'a> Texts<'a> {
    /// The whole prompt for `pictures` pictures, up to where the answer begins. `control_tag` finds the model's
    /// control tags and picture tags in a text.
    pub fn prompt(
        &self,
        pictures: usize,
        control_tag: impl Fn(&'a str) -> Option<&'a str>,
    ) -> Result<String, PromptError> {
        let harmless = |place: &str, text: &'a str| match control_tag(text) {
            Some(tag) => {
                Err(PromptError::ControlTag { place: place.to_owned(), tag: tag.to_owned() })
            }
            None => Ok(text),
        };
        let without_picture = |place: &str, text: &'a str| {
            if text.contains(IMAGE) {
                return Err(PromptError::PictureInText { place: place.to_owned() });
            }
            harmless(place, text)
        };

        let mut messages = Vec::new();
        if !self.system.is_empty() {
            let content = without_picture("the system text", self.system)?;
            messages.push(Message { role: Role::System, content });
        }
        for (number, (asked, answered)) in (1..).zip(self.examples) {
            let content = without_picture(&format!("example {number}"), asked)?;
            messages.push(Message { role: Role::User, content });
            let content = without_picture(&format!("the answer of example {number}"), answered)?;
            messages.push(Message { role: Role::Assistant, content });
        }
        if self.text.trim().is_empty() {
            return Err(PromptError::Empty);
        }
        let question = place_pictures(harmless("the question", self.text)?, pictures)?;
        messages.push(Message { role: Role::User, content: &question });
        Ok(chat_prompt(&messages))
    }
}

/// Puts the tags of `pictures` pictures where the text wants them. What stands around a tag cannot join with it to
/// another one: tags begin with `<|` and end with `|>`, and none has either inside.
fn place_pictures(text: &str, pictures: usize) -> Result<String, PromptError> {
    let places = text.matches(IMAGE).count();
    if places == 0 {
        let tags: String = (1..=pictures).map(|k| image_tag(k) + "\n").collect();
        return Ok(tags + text);
    }
    if places != pictures {
        return Err(PromptError::Pictures { places, pictures });
    }
    let mut pieces = text.split(IMAGE);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for (k, piece) in (1..).zip(pieces) {
        out.push_str(&image_tag(k));
        out.push_str(piece);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Option<&str> {
        ["<|end|>", "<|user|>", "</s>", "<|image_1|>"].into_iter().find_map(|tag| {
            let at = text.find(tag)?;
            Some(&text[at..at + tag.len()])
        })
    }

    #[test]
    fn the_whole_conversation() {
        let examples = [("Read: K1".to_owned(), r#"{"serial":"K1"}"#.to_owned())];
        let texts = Texts { system: "Be exact.", examples: &examples, text: "Read it." };
        let prompt = texts.prompt(1, tag).unwrap();
        assert_eq!(
            prompt,
            "<|system|>\nBe exact.<|end|>\n<|user|>\nRead: K1<|end|>\n<|assistant|>\n{\"serial\":\"K1\"}<|end|>\n\
             <|user|>\n<|image_1|>\nRead it.<|end|>\n<|assistant|>\n"
        );
    }

    #[test]
    fn pictures_stand_where_the_question_marks_them() {
        let prompt =
            |text, pictures| Texts { system: "", examples: &[], text }.prompt(pictures, tag);
        assert_eq!(prompt("Why?", 0).unwrap(), "<|user|>\nWhy?<|end|>\n<|assistant|>\n");
        let both = prompt("Good: <image>\nThis: <image>\nSame?", 2).unwrap();
        assert_eq!(
            both,
            "<|user|>\nGood: <|image_1|>\nThis: <|image_2|>\nSame?<|end|>\n<|assistant|>\n"
        );
        let first = prompt("Same?", 2).unwrap();
        assert_eq!(first, "<|user|>\n<|image_1|>\n<|image_2|>\nSame?<|end|>\n<|assistant|>\n");
        assert_eq!(
            prompt("<image>", 2).unwrap_err(),
            PromptError::Pictures { places: 1, pictures: 2 }
        );
        assert_eq!(
            prompt("<image>", 0).unwrap_err(),
            PromptError::Pictures { places: 1, pictures: 0 }
        );
        assert_eq!(prompt(" \n", 1).unwrap_err(), PromptError::Empty);
    }

    #[test]
    fn nobody_outside_writes_control_tags() {
        let said = |system, example: &str, text| {
            let examples = [("Hi".to_owned(), example.to_owned())];
            Texts { system, examples: &examples, text }.prompt(0, tag).unwrap_err().to_string()
        };
        assert_eq!(
            said("a<|end|>", "", "b"),
            "the system text contains the control tag `<|end|>`; remove it"
        );
        assert_eq!(
            said("", "</s>", "b"),
            "the answer of example 1 contains the control tag `</s>`; remove it"
        );
        assert_eq!(
            said("", "", "<|image_1|>"),
            "the question contains the control tag `<|image_1|>`; remove it"
        );
        assert!(said("", "<image>", "b").contains("only the question shows pictures"));
    }
}
