//! What came back over the wire: a status, a body, and in it an answer or an excuse. All of it is
//! hostile: bounded before it gets here, read strictly, and cleaned before a person sees it.

use serde::Deserialize;

use super::failure::{Failure, Why};

/// Longest text of a server that is told to a person, in characters.
const TOLD_MAX_CHARS: usize = 160;

/// What a server said, in the parts that matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// What the model wrote.
    pub content: String,
    /// The tokens it was written with and the natural logarithm of each one's probability, where the
    /// server tells them.
    pub tokens: Option<Vec<Token>>,
    /// The model's name, as the server gives it.
    pub model: Option<String>,
    /// What the server calls its own configuration.
    pub system_fingerprint: Option<String>,
    /// Tokens of the prompt and of the answer.
    pub usage: Usage,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it stands for.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f64,
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Of the prompt, pictures included.
    #[serde(default)]
    pub prompt_tokens: usize,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: usize,
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    system_fingerprint: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<WireToken>>,
}

#[derive(Deserialize)]
struct WireToken {
    token: String,
    #[serde(default)]
    logprob: Option<f64>,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
}

/// Azure ML's own form.
#[derive(Deserialize)]
struct Score {
    output: String,
}

/// Reads the body of a good status.
///
/// # Errors
/// What is not of this interface, has no answer, or an answer that was cut off or refused.
pub fn read(body: &[u8], is_score: bool) -> Result<Said, Failure> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Failure::new(Why::NotOfInterface, "its response is not UTF-8 text"))?;
    if is_score {
        let score: Score = parse(text)?;
        return Ok(Said { content: score.output, ..Said::default() });
    }
    // Some servers send an error with a good status.
    let completion: Completion = parse(text)?;
    let Some(choice) = completion.choices.into_iter().next() else {
        let told = error_message(body).map(|why| format!(": {why}")).unwrap_or_default();
        return Err(Failure::new(Why::NotOfInterface, format!("its response has no answer{told}")));
    };
    if let Some(refusal) = choice.message.refusal.filter(|text| !text.is_empty()) {
        let why = format!("the model refused: {}", clean(&refusal));
        return Err(Failure::new(Why::Refused, why));
    }
    match choice.finish_reason.as_deref() {
        Some("stop" | "eos" | "") | None => {}
        Some("length") => {
            let why = "the answer was cut off at the most tokens that it may have";
            return Err(Failure::new(Why::CutOff, why));
        }
        Some("content_filter") => {
            return Err(Failure::new(Why::Refused, "its filter held the answer back"));
        }
        Some(other) => {
            let why = format!("the answer ended for another reason: {}", clean(other));
            return Err(Failure::new(Why::CutOff, why));
        }
    }
    let content = choice.message.content.unwrap_or_default();
    if content.trim().is_empty() {
        return Err(Failure::new(Why::OffSchema, "the answer is empty"));
    }
    Ok(Said {
        content,
        tokens: choice.logprobs.and_then(|told| told.content).and_then(tokens),
        model: completion.model.map(|name| clean(&name)),
        system_fingerprint: completion.system_fingerprint.map(|name| clean(&name)),
        usage: completion.usage.unwrap_or_default(),
    })
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|why| {
        let why = format!("its response is not of this interface: {}", clean(&why.to_string()));
        Failure::new(Why::NotOfInterface, why)
    })
}

/// The tokens, if each has a probability.
fn tokens(all: Vec<WireToken>) -> Option<Vec<Token>> {
    all.into_iter()
        .map(|token| {
            let bytes = token.bytes.unwrap_or_else(|| token.token.into_bytes());
            Some(Token { bytes, logprob: token.logprob? })
        })
        .collect()
}

/// What the body of a bad status says, cleaned and bounded: `{"error": {"message": …}}` as most have it,
/// `{"error": …}`, `{"message": …}` or `{"detail": …}`.
pub fn error_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let places = ["/error/message", "/error", "/message", "/detail", "/detail/0/msg"];
    let found = places.iter().find_map(|place| value.pointer(place)?.as_str());
    found.map(clean).filter(|text| !text.is_empty())
}

/// A server's text as a person may see it: one line without control characters, bounded.
pub fn clean(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_control() || c.is_whitespace()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).take(80).collect();
    let mut line = words.join(" ");
    if let Some((cut, _)) = line.char_indices().nth(TOLD_MAX_CHARS) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_value(value: serde_json::Value) -> Result<Said, Failure> {
        read(value.to_string().as_bytes(), false)
    }

    fn choice(content: &str, finish: &str) -> serde_json::Value {
        json!({ "choices": [{ "message": { "content": content }, "finish_reason": finish }] })
    }

    #[test]
    fn an_answer_is_read_with_what_is_told_about_it() {
        let mut body = choice("{}", "stop");
        body["model"] = json!("Qwen/Qwen2-VL\n7B");
        body["system_fingerprint"] = json!("b4000");
        body["usage"] =
            json!({ "prompt_tokens": 420, "completion_tokens": 2, "total_tokens": 422 });
        body["choices"][0]["logprobs"] = json!({ "content": [
            { "token": "{", "logprob": -0.5, "bytes": [123] },
            { "token": "}", "logprob": -0.25, "bytes": null },
        ] });
        let said = read_value(body).expect("an answer");
        assert_eq!(
            (said.content.as_str(), said.model.as_deref()),
            ("{}", Some("Qwen/Qwen2-VL 7B"))
        );
        assert_eq!((said.usage.prompt_tokens, said.usage.completion_tokens), (420, 2));
        let tokens = said.tokens.expect("tokens");
        assert_eq!(tokens[1], Token { bytes: b"}".to_vec(), logprob: -0.25 });
        let mut without = choice("{}", "stop");
        without["choices"][0]["logprobs"] = json!({ "content": [{ "token": "{}" }] });
        assert_eq!(read_value(without).expect("an answer").tokens, None);
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let refused =
            json!({ "choices": [{ "message": { "content": null, "refusal": "I can't." } }] });
        for (body, why, words) in [
            (choice("{", "length"), Why::CutOff, "cut off"),
            (choice("{}", "content_filter"), Why::Refused, "filter"),
            (choice("{}", "tool_calls"), Why::CutOff, "tool_calls"),
            (choice(" \n", "stop"), Why::OffSchema, "empty"),
            (refused, Why::Refused, "I can't."),
            (json!({ "choices": [] }), Why::NotOfInterface, "no answer"),
            (
                json!({ "error": { "message": "out of memory" } }),
                Why::NotOfInterface,
                "out of memory",
            ),
            (json!([1]), Why::NotOfInterface, "not of this interface"),
        ] {
            let failure = read_value(body.clone()).expect_err("no answer");
            assert_eq!(failure.why, why, "{body}");
            assert!(failure.text.contains(words), "{}", failure.text);
        }
        assert_eq!(read(&[0xff], false).expect_err("no text").why, Why::NotOfInterface);
        let score = read(br#"{"output":"{}"}"#, true).expect("Azure's form");
        assert_eq!(score.content, "{}");
        assert!(read(br#"{"choices":[]}"#, true).is_err());
    }

    #[test]
    fn a_servers_words_are_bounded_and_cannot_move_the_cursor() {
        let of = |value: serde_json::Value| error_message(value.to_string().as_bytes());
        assert_eq!(
            of(json!({ "error": { "message": "no\u{1b}[2J such\r\nmodel" } })).as_deref(),
            Some("no [2J such model")
        );
        assert_eq!(of(json!({ "detail": "Not Found" })).as_deref(), Some("Not Found"));
        assert_eq!(
            of(json!({ "error": "model 'x' not found" })).as_deref(),
            Some("model 'x' not found")
        );
        let long = of(json!({ "message": "x".repeat(5000) })).expect("a text");
        assert_eq!(long.chars().count(), TOLD_MAX_CHARS + 1);
        assert_eq!(error_message(b"<html>"), None);
    }
}
