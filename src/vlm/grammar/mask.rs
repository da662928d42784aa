//! Which tokens may come next: a grammar compiled once per question, and its state during one answer.

use std::ops::Range;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::SimpleVob;

use super::answer::AnswerSpec;
use super::cursor::{Cursor, FieldTokens};
use super::vocabulary::Vocabulary;
use super::{GrammarError, pattern};

/// The language of one question's answers over one model's tokens.
pub struct Grammar {
    spec: AnswerSpec,
    vocabulary: Vocabulary,
    pristine: llguidance::Matcher,
    stop: TokenMask,
}

/// A set of token ids.
#[derive(Clone)]
pub struct TokenMask(SimpleVob);

/// One answer being written. After an error it is of no further use; start another.
pub struct Matcher {
    automaton: llguidance::Matcher,
    vocabulary: Vocabulary,
    stop: TokenMask,
    /// The mask of the present state, until a token is accepted.
    mask: Option<TokenMask>,
    cursor: Cursor,
    /// The answer so far, with the space a first token may carry.
    bytes: Vec<u8>,
    /// Which bytes each accepted token stands for.
    tokens: Vec<Range<usize>>,
}

impl Grammar {
    /// Compiles `spec` for `vocabulary`. Milliseconds; done once, when the program starts.
    pub fn compile(spec: &AnswerSpec, vocabulary: &Vocabulary) -> Result<Grammar, GrammarError> {
        // A tokenizer puts a space before a segment. Models trained on whole conversations begin an answer with it,
        // models trained on the bare answer do not; each may do as it was taught.
        let language = format!(" ?{}", pattern::of(spec.form()));
        let parser = vocabulary.factory.create_parser(TopLevelGrammar::from_regex(&language));
        let pristine = llguidance::Matcher::new(parser);
        if let Some(problem) = pristine.get_error() {
            return Err(GrammarError::Compile(problem));
        }
        let mut stop = SimpleVob::alloc(vocabulary.len());
        vocabulary.stop_ids().iter().for_each(|&id| stop.allow_token(id));
        Ok(Grammar {
            spec: spec.clone(),
            vocabulary: vocabulary.clone(),
            pristine,
            stop: TokenMask(stop),
        })
    }

    /// A fresh answer.
    pub fn start(&self) -> Matcher {
        Matcher {
            // Deep, so that an automaton that fails leaves nothing behind for the next answer.
            automaton: self.pristine.deep_clone(),
            vocabulary: self.vocabulary.clone(),
            stop: self.stop.clone(),
            mask: None,
            cursor: Cursor::new(self.spec.form().text_paths()),
            bytes: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// What the answers are.
    pub fn spec(&self) -> &AnswerSpec {
        &self.spec
    }

    /// The tokens it was compiled for.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The most tokens an answer can take, the stop token included.
    pub fn budget_tokens(&self) -> usize {
        self.spec.budget_tokens()
    }
}

impl Matcher {
    /// The tokens that must come next, as the tokenizer would cut them; often none. A last piece that could join what
    /// follows it is held back, so the model chooses that boundary itself. The caller accepts them one by one.
    pub fn forced(&mut self) -> Result<Vec<u32>, GrammarError> {
        if self.is_done() {
            return Ok(Vec::new());
        }
        let forced = self.automaton.compute_ff_tokens();
        match self.automaton.get_error() {
            Some(problem) => Err(self.failed(problem)),
            None => Ok(forced),
        }
    }

    /// The tokens that may come next. Never empty: once the answer is complete, the stop tokens.
    pub fn allowed(&mut self) -> Result<&TokenMask, GrammarError> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None if self.is_done() => self.stop.clone(),
            None => match self.automaton.compute_mask() {
                Ok(mask) => TokenMask(mask),
                Err(problem) => return Err(self.failed(problem.to_string())),
            },
        };
        Ok(self.mask.insert(mask))
    }

    /// Takes `token` as the next one.
    pub fn accept(&mut self, token: u32) -> Result<(), GrammarError> {
        self.mask = None;
        if self.is_done() && self.stop.contains(token) {
            return Ok(());
        }
        let bytes = self.vocabulary.bytes(token);
        if bytes.is_empty() || self.is_done() {
            return Err(self.refused(token));
        }
        let start = self.bytes.len();
        match self.automaton.try_consume_tokens(&[token]) {
            Ok(1) => {}
            Ok(_) => return Err(self.refused(token)),
            Err(problem) => return Err(self.failed(problem.to_string())),
        }
        self.bytes.extend_from_slice(bytes);
        self.cursor.read(&self.bytes[start..]);
        self.tokens.push(start..self.bytes.len());
        Ok(())
    }

    /// Whether the answer is complete, so that only a stop token can follow.
    pub fn is_done(&self) -> bool {
        self.automaton.stop_reason() == StopReason::NoExtension
    }

    /// Whether the next token belongs to free text, the only place where repeating oneself is a fault. A serial, a
    /// number and the members' names repeat because they must.
    pub fn penalty_applies(&self) -> bool {
        self.cursor.in_free_text()
    }

    /// The answer so far, without the space before it. Not to be parsed before [`Matcher::is_done`].
    pub fn text(&self) -> String {
        // A token can end inside a character; what is whole is kept, which for a finished answer is everything.
        let bytes = self.bytes.strip_prefix(b" ").unwrap_or(&self.bytes);
        let whole = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        whole.to_owned()
    }

    /// For each value met so far, by its path, which of the accepted tokens carry it (counted from 0).
    pub fn fields(&self) -> Vec<FieldTokens> {
        self.cursor.fields(&self.tokens)
    }

    fn refused(&self, token: u32) -> GrammarError {
        GrammarError::Refused { token, text: self.text() }
    }

    fn failed(&self, problem: String) -> GrammarError {
        GrammarError::Failed { text: self.text(), problem }
    }
}

impl TokenMask {
    /// A mask over `size` ids that allows `ids`; ids beyond it are left out.
    pub fn of(size: usize, ids: &[u32]) -> TokenMask {
        let mut mask = SimpleVob::alloc(size);
        ids.iter().filter(|&&id| (id as usize) < size).for_each(|&id| mask.allow_token(id));
        TokenMask(mask)
    }

    /// Whether `id` is allowed.
    pub fn contains(&self, id: u32) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }

    /// How many ids are allowed.
    pub fn count(&self) -> usize {
        self.0.num_set()
    }

    /// The allowed ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().take_while(|&id| (id as usize) < self.0.len())
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grammar({:?} over {:?})", self.spec.kind(), self.vocabulary)
    }
}

impl std::fmt::Debug for TokenMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenMask({} of {})", self.count(), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecimalSpec, DefectsSpec, FieldKind, FieldSpec, SerialSpec, Template};
    use super::*;

    fn ids(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    /// Another engine may be handed the schema alone; its grammar must know our answers and refuse what ours does.
    #[test]
    fn a_grammar_made_of_the_schema_knows_the_same_answers() {
        let template = Template::parse("9{3}-A#", "AB0123456789").unwrap();
        let serial = AnswerSpec::serial(&SerialSpec { template, strict: true }).unwrap();
        let defects = AnswerSpec::defects(&DefectsSpec::new(["scratch", "\"dent\""])).unwrap();
        let range = DecimalSpec { min: -1.0, max: 8.5, digits: 1, strict: true };
        let field = |name: &str, kind| FieldSpec { name: name.to_owned(), kind };
        let fields = AnswerSpec::fields(vec![
            field("note", FieldKind::Text { max_chars: 8 }),
            field("bar", FieldKind::Decimal(range)),
            field("ok", FieldKind::Bool),
        ])
        .unwrap();
        let item = r#"{"class":"\"dent\"","severity":"unclear","location":"upper left"}"#;
        let cases = [
            (&serial, r#"{"legible":true,"serial":"123-AB"}"#.to_owned(), true),
            (&serial, r#"{"legible":false,"serial":null}"#.to_owned(), true),
            (&serial, r#"{"legible":true,"serial":"123-1A"}"#.to_owned(), false),
            (&defects, r#"{"inspectable":true,"defects":[]}"#.to_owned(), true),
            (&defects, format!(r#"{{"inspectable":true,"defects":[{item},{item}]}}"#), true),
            (
                &defects,
                format!(r#"{{"inspectable":true,"defects":[{}]}}"#, [item; 5].join(",")),
                false,
            ),
            (&fields, r#"{"note":"a \"ß\" 裂","bar":8.5,"ok":true}"#.to_owned(), true),
            (&fields, r#"{"note":null,"bar":-0.5,"ok":null}"#.to_owned(), true),
            (&fields, r#"{"note":"123456789","bar":8.5,"ok":true}"#.to_owned(), false),
            (&fields, r#"{"note":"a","bar":8.6,"ok":true}"#.to_owned(), false),
            (&fields, r#"{"note": "a","bar":8.5,"ok":true}"#.to_owned(), false),
            (&fields, r#"{"bar":8.5,"note":"a","ok":true}"#.to_owned(), false),
        ];
        let vocabulary = Vocabulary::bytewise();
        for (spec, text, known) in cases {
            let ids = ids(&text);
            let mut ours = Grammar::compile(spec, &vocabulary).unwrap().start();
            assert_eq!(
                ids.iter().all(|&id| ours.accept(id).is_ok()) && ours.is_done(),
                known,
                "{text}"
            );
            let grammar = TopLevelGrammar::from_json_schema(spec.schema());
            let mut theirs = llguidance::Matcher::new(vocabulary.factory.create_parser(grammar));
            assert_eq!(theirs.get_error(), None, "{text}");
            assert_eq!(theirs.try_consume_tokens(&ids).unwrap() == ids.len(), known, "{text}");
        }
    }

    #[test]
    fn a_refused_token_names_itself_and_changes_nothing() {
        let template = Template::parse("9{3}", "0123456789").unwrap();
        let spec = AnswerSpec::serial(&SerialSpec::new(template)).unwrap();
        let mut matcher = Grammar::compile(&spec, &Vocabulary::bytewise()).unwrap().start();
        assert!(matcher.forced().unwrap().is_empty(), "a space may come first, or may not");
        ids(r#" {"legible":"#).into_iter().for_each(|id| matcher.accept(id).unwrap());
        for id in [u32::from(b'x'), 256, 257, 258, u32::MAX] {
            let text = r#"{"legible":"#.to_owned();
            assert_eq!(matcher.accept(id), Err(GrammarError::Refused { token: id, text }));
        }
        assert_eq!(matcher.allowed().unwrap().iter().collect::<Vec<_>>(), ids("ft"));
        matcher.accept(u32::from(b'f')).unwrap();
        assert_eq!(matcher.forced().unwrap(), ids(r#"alse,"serial":null}"#));
    }
}
