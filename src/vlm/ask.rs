//! One question about some pictures → one answer, which is the JSON that was asked for or says why it is not.
//!
//! Everything that has to be right together stands in [`Engine::ask`] and [`write_answer`]; the rest of the room is
//! called from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use super::answer::{Answer, FieldConfidence, StopReason, Timings, TokenCounts};
use super::engine::Engine;
use super::error::EngineError;
use super::grammar::{Grammar, GrammarError, Matcher, Vocabulary};
use super::picture::Picture;
use super::prompt::{PromptError, Texts};
use super::sampler::{Draw, Sampler, SamplerError, Sampling, SamplingError};
use super::session::Session;

/// A question, ready to be asked about any pictures.
#[derive(Clone, Debug)]
pub struct Question {
    /// Instructions before everything else; empty for none.
    pub system: String,
    /// What is asked and what should be answered, without pictures.
    pub examples: Vec<(String, String)>,
    /// The question, with `<image>` where each picture stands, or without: then the pictures come first.
    pub text: String,
    /// Tiles of each picture's high-definition view.
    pub num_crops: usize,
    /// What an answer may be.
    pub grammar: Arc<Grammar>,
    /// How its tokens are drawn.
    pub sampling: Sampling,
}

/// When to give up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// No token is begun after this moment.
    pub deadline: Option<Instant>,
    /// No token is begun once this is true.
    pub cancel: Option<&'a AtomicBool>,
}

/// Why a question has no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The texts make no prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A sampling setting is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The longest answer does not fit into the tokens it is allowed.
    #[error(
        "an answer can take {budget} tokens, but sampling.max_tokens is {max_tokens}; raise it to {budget}, or allow shorter texts or fewer items"
    )]
    MaxTokens {
        /// Tokens of the longest answer.
        budget: usize,
        /// Tokens allowed.
        max_tokens: usize,
    },
    /// The engine refused the prompt or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The grammar failed.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The model's output could not be drawn from.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
}

/// What the loop needs of a model: take tokens, say what may follow.
pub trait Steps {
    /// Appends `ids` to what was said and returns the logits over what follows the last.
    fn append(&mut self, ids: &[u32]) -> Result<Vec<f32>, EngineError>;
}

impl Engine {
    /// Asks `question` about `pictures`. `session` may hold any earlier prompt; what it shares with this one is reused.
    /// It is answered with the adapter that the session was given last.
    pub fn ask(
        &self,
        session: &mut Session,
        question: &Question,
        pictures: &[Picture<'_>],
        limits: &Limits<'_>,
    ) -> Result<Answer, AskError> {
        let prompt = question.prompt(self, pictures.len())?;
        let encoded = self.encode(&prompt, pictures, question.num_crops)?;
        self.check_room(encoded.len(), question.grammar.budget_tokens())?;

        let pass = session.prompt(self, &encoded, pictures)?;
        let started = Instant::now();
        let mut steps = Live { engine: self, session };
        let mut answer =
            write_answer(&mut steps, pass.logits, &question.grammar, &question.sampling, limits)?;

        answer.tokens.prompt = pass.prompt_tokens;
        answer.tokens.image = pass.image_tokens;
        answer.tokens.reused = pass.reused_tokens;
        answer.timings = Timings {
            preprocess_ms: ms(pass.preprocess),
            tower_ms: ms(pass.tower),
            prefill_ms: ms(pass.prefill),
            decode_ms: ms(started.elapsed()),
        };
        Ok(answer)
    }

    /// This model's tokens for [`Grammar::compile`].
    pub fn vocabulary(self: &Arc<Engine>) -> Result<Vocabulary, GrammarError> {
        let tokens = (0..self.vocab_size() as u32)
            .map(|id| self.token_bytes(id).map(<[u8]>::to_vec))
            .collect();
        let engine = self.clone();
        Vocabulary::new(tokens, self.stop_ids(), move |text| {
            // The tokenizer puts a space before a text. A line feed takes it: no piece of the vocabulary joins a line
            // feed with what follows, so the ids after it are those of the text in the middle of a line.
            let ids = engine.tokenizer().encode_plain(&format!("\n{text}")).unwrap_or_default();
            let after = ids.iter().position(|&id| engine.token_bytes(id) == Some(b"\n".as_slice()));
            after.map_or_else(Vec::new, |at| ids[at + 1..].to_vec())
        })
    }
}

/// Writes one answer: what the grammar forces, else what the sampler draws from what it allows, until it is complete.
/// `logits` are about the first token. Counts and timings of the prompt are left at zero.
pub fn write_answer(
    steps: &mut impl Steps,
    mut logits: Vec<f32>,
    grammar: &Grammar,
    sampling: &Sampling,
    limits: &Limits<'_>,
) -> Result<Answer, AskError> {
    let mut sampler = Sampler::new(sampling)?;
    let mut matcher = grammar.start();
    let mut draws: Vec<Option<Draw>> = Vec::new(); // one per token; none for a forced one
    let mut free_text = Vec::new();
    let mut unread = Vec::new(); // accepted, not yet shown to the model
    let stop = loop {
        for id in matcher.forced()? {
            matcher.accept(id)?;
            draws.push(None);
            unread.push(id);
        }
        if matcher.is_done() {
            break StopReason::Complete;
        }
        if draws.len() >= sampling.max_tokens {
            break StopReason::Budget;
        }
        if let Some(reason) = limits.reached() {
            break reason;
        }
        if !unread.is_empty() {
            logits = steps.append(&unread)?;
            unread.clear();
        }
        let in_text = matcher.penalty_applies();
        if !in_text {
            free_text.clear();
        }
        let draw = sampler.draw(&logits, matcher.allowed()?, &free_text)?;
        matcher.accept(draw.token)?;
        draws.push(Some(draw));
        unread.push(draw.token);
        free_text.extend(in_text.then_some(draw.token));
    };
    let forced = draws.iter().filter(|draw| draw.is_none()).count();
    Ok(Answer {
        text: matcher.text(),
        fields: confidences(&matcher, &draws),
        stop,
        tokens: TokenCounts { generated: draws.len(), forced, ..TokenCounts::default() },
        timings: Timings::default(),
    })
}

impl Question {
    /// Whether every answer has room; called once, when the program starts. That prompt and answer fit the context
    /// together is only known with the pictures, and is checked before any computing.
    pub fn check(&self, engine: &Engine, pictures: usize) -> Result<(), AskError> {
        self.sampling.check()?;
        self.prompt(engine, pictures)?;
        let (budget, max_tokens) = (self.grammar.budget_tokens(), self.sampling.max_tokens);
        if budget > max_tokens {
            return Err(AskError::MaxTokens { budget, max_tokens });
        }
        engine.check_room(0, budget)?;
        Ok(())
    }

    /// The prompt as the model gets it, picture tags in their places.
    pub fn prompt(&self, engine: &Engine, pictures: usize) -> Result<String, PromptError> {
        let texts = Texts { system: &self.system, examples: &self.examples, text: &self.text };
        texts.prompt(pictures, |text| engine.tokenizer().control_tag(text))
    }
}

impl Limits<'_> {
    fn reached(&self) -> Option<StopReason> {
        if self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Some(StopReason::Cancelled);
        }
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
            .then_some(StopReason::Deadline)
    }
}

fn confidences(matcher: &Matcher, draws: &[Option<Draw>]) -> Vec<FieldConfidence> {
    let one = |field: super::grammar::FieldTokens| {
        let drawn =
            || field.tokens.iter().filter_map(|&position| draws.get(position).copied().flatten());
        FieldConfidence {
            probability: drawn().map(|draw| draw.probability).product(),
            min_token_probability: drawn().map(|draw| draw.probability).fold(1.0, f64::min),
            min_allowed_mass: drawn().map(|draw| draw.allowed_mass).fold(1.0, f64::min),
            tokens: field.tokens.len(),
            path: field.path,
        }
    };
    matcher.fields().into_iter().map(one).collect()
}

/// The engine with the conversation it is in.
struct Live<'a> {
    engine: &'a Engine,
    session: &'a mut Session,
}

impl Steps for Live<'_> {
    fn append(&mut self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.session.append_last(self.engine, ids)
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::grammar::{AnswerSpec, FieldKind, FieldSpec, SerialSpec, Template};
    use super::*;

    /// A model that wants to write `text`, byte by byte, with the same certainty each time.
    struct Script<'a> {
        text: &'a [u8],
        read: usize,
        cancel_at: Option<(usize, &'a AtomicBool)>,
    }

    impl Script<'_> {
        fn logits(&self) -> Vec<f32> {
            let mut logits = vec![0.0; 258];
            if let Some(&byte) = self.text.get(self.read) {
                logits[usize::from(byte)] = 8.0;
            }
            logits
        }
    }

    impl Steps for Script<'_> {
        fn append(&mut self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
            self.read += ids.len();
            if let Some((_, flag)) = self.cancel_at.filter(|(at, _)| self.read >= *at) {
                flag.store(true, Ordering::Relaxed);
            }
            Ok(self.logits())
        }
    }

    fn serial() -> Grammar {
        let template = Template::parse("####", "ABC123").unwrap();
        let spec = AnswerSpec::serial(&SerialSpec::new(template)).unwrap();
        Grammar::compile(&spec, &Vocabulary::bytewise()).unwrap()
    }

    fn run(grammar: &Grammar, text: &str, sampling: &Sampling, limits: &Limits<'_>) -> Answer {
        let mut script = Script { text: text.as_bytes(), read: 0, cancel_at: None };
        let first = script.logits();
        write_answer(&mut script, first, grammar, sampling, limits).unwrap()
    }

    #[test]
    fn the_answer_is_what_the_model_wanted_with_its_certainty() {
        let text = r#"{"legible":true,"serial":"A1B2"}"#;
        let answer = run(&serial(), text, &Sampling::default(), &Limits::default());
        assert_eq!((answer.text.as_str(), answer.stop), (text, StopReason::Complete));
        assert_eq!(answer.tokens.generated, text.len());
        // Drawn: `{` or the space, `t` or `f`, four characters, and that the quote follows instead of a fifth.
        assert_eq!(answer.tokens.forced, text.len() - 7);
        let sure = 8f64.exp();
        let legible = sure / (sure + 1.0);
        assert!((answer.confidence("legible").unwrap().probability - legible).abs() < 1e-9);
        let read = sure / (sure + 5.0) * (sure / (sure + 6.0)).powi(4);
        let serial = answer.confidence("serial").unwrap();
        assert!((serial.probability - read).abs() < 1e-9, "{serial:?}");
        assert!((serial.min_token_probability - sure / (sure + 6.0)).abs() < 1e-9);
        assert!((serial.min_allowed_mass - (sure + 5.0) / (sure + 257.0)).abs() < 1e-9);
        assert_eq!(serial.tokens, 6);
    }

    #[test]
    fn wanting_the_forbidden_shows_in_the_allowed_mass() {
        let text = r#"{"legible":true,"serial":"A1O2"}"#;
        let answer = run(&serial(), text, &Sampling::default(), &Limits::default());
        assert!(answer.is_complete());
        assert!(answer.confidence("serial").unwrap().min_allowed_mass < 0.003);
    }

    #[test]
    fn what_is_cut_off_says_so() {
        let text = r#"{"legible":true,"serial":"A1B2"}"#;
        let late = Limits { deadline: Some(Instant::now()), cancel: None };
        let answer = run(&serial(), text, &Sampling::default(), &late);
        assert_eq!(
            (answer.stop, answer.text.as_str(), answer.tokens.generated),
            (StopReason::Deadline, "", 0)
        );

        let few = Sampling { max_tokens: 27, ..Sampling::default() };
        let answer = run(&serial(), text, &few, &Limits::default());
        assert_eq!(
            (answer.stop, answer.text.as_str()),
            (StopReason::Budget, r#"{"legible":true,"serial":"A"#)
        );

        let flag = AtomicBool::new(false);
        let mut script = Script { text: text.as_bytes(), read: 0, cancel_at: Some((28, &flag)) };
        let (first, limits) = (script.logits(), Limits { deadline: None, cancel: Some(&flag) });
        let answer =
            write_answer(&mut script, first, &serial(), &Sampling::default(), &limits).unwrap();
        assert_eq!(
            (answer.stop, answer.text.as_str()),
            (StopReason::Cancelled, r#"{"legible":true,"serial":"A1B"#)
        );
        assert!(!answer.is_complete());
    }

    #[test]
    fn the_penalty_reaches_free_text_only() {
        let fields = ["a", "b"].map(|name| FieldSpec {
            name: name.to_owned(),
            kind: FieldKind::Text { max_chars: 3 },
        });
        let template = Template::parse("#{3}", "X").unwrap();
        let serial = FieldSpec {
            name: "s".to_owned(),
            kind: FieldKind::Serial(SerialSpec { template, strict: true }),
        };
        let spec = AnswerSpec::fields([fields.to_vec(), vec![serial]].concat()).unwrap();
        let grammar = Grammar::compile(&spec, &Vocabulary::bytewise()).unwrap();
        // Always `X` a little above `Y`, and quotes to begin a string.
        struct Stutter;
        impl Steps for Stutter {
            fn append(&mut self, _: &[u32]) -> Result<Vec<f32>, EngineError> {
                let mut logits = vec![0.0; 258];
                (logits[usize::from(b'X')], logits[usize::from(b'Y')], logits[usize::from(b'"')]) =
                    (9.0, 8.0, 2.0);
                Ok(logits)
            }
        }
        let sampling = Sampling { repeat_penalty: 1.5, ..Sampling::default() };
        let first = Stutter.append(&[]).unwrap();
        let answer =
            write_answer(&mut Stutter, first, &grammar, &sampling, &Limits::default()).unwrap();
        // Within `a`: X, then Y, then both penalised; `b` begins anew; the serial repeats.
        assert_eq!(answer.text, r#"{"a":"XYX","b":"XYX","s":"XXX"}"#);
    }

    #[test]
    fn an_answer_survives_the_record() {
        let answer = run(
            &serial(),
            r#"{"legible":false,"serial":null}"#,
            &Sampling::default(),
            &Limits::default(),
        );
        let json = serde_json::to_string(&answer).unwrap();
        assert!(json.contains(r#""stop":"complete""#), "{json}");
        assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer);
    }

    #[test]
    fn a_broken_model_is_an_error() {
        let error = write_answer(
            &mut Script { text: b"", read: 0, cancel_at: None },
            vec![f32::NAN; 258],
            &serial(),
            &Sampling::default(),
            &Limits::default(),
        );
        assert!(matches!(error, Err(AskError::Sampler(_))));
    }
}
