//! The model's tokens as the grammar sees them: bytes that an answer may be spelled with, and the rest.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};

use super::{GrammarError, pattern};

/// Fewer ids cannot spell every byte; more do not fit the automaton's 24-bit token numbers.
const SIZES: std::ops::RangeInclusive<usize> = 2..=1 << 23;

/// A model's tokens, prepared once and shared by all grammars. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary {
    pub(super) factory: Arc<ParserFactory>,
    words: Arc<Words>,
}

impl Vocabulary {
    /// `tokens[id]` is the text of an ordinary token, bytes of byte pieces included, and `None` for what never belongs
    /// in an answer: control tokens, placeholders, rows of padding. Its length is the length of a row of logits.
    /// `stop` are the ids that end an answer. `tokenize` turns text from the middle of a segment into ids, so without
    /// the prefix space a tokenizer puts before a segment.
    pub fn new(
        tokens: Vec<Option<Vec<u8>>>,
        stop: &[u32],
        tokenize: impl Fn(&str) -> Vec<u32> + Send + Sync + 'static,
    ) -> Result<Vocabulary, GrammarError> {
        let fault = |problem: String| Err(GrammarError::Vocabulary(problem));
        if !SIZES.contains(&tokens.len()) {
            return fault(format!(
                "{} tokens; the model's files do not belong together",
                tokens.len()
            ));
        }
        let Some(&first_stop) = stop.first() else {
            return fault("no stop token, so no answer could end".to_owned());
        };
        if let Some(id) =
            stop.iter().find(|&&id| tokens.get(id as usize).is_none_or(|t| t.is_some()))
        {
            return fault(format!("stop token {id} is not a control token of this model"));
        }
        let bytes = one_id_per_text(tokens, &tokenize);
        if let Some(byte) = (b' '..=b'~').find(|&b| !bytes.iter().any(|t| t == &[b])) {
            return fault(format!(
                "no token for `{}`, so some answers could not be written",
                byte as char
            ));
        }

        let info = TokRxInfo::new(bytes.len() as u32, first_stop);
        // Tries and slices are built by code that asserts; a model file must not be able to take the daemon down.
        let built = catch_unwind(AssertUnwindSafe(|| {
            let trie = TokTrie::from(&info, &bytes).with_eos_tokens(stop);
            let words = Arc::new(Words { trie, tokenize: Box::new(tokenize), stop: stop.to_vec() });
            let env: TokEnv = words.clone();
            let factory = ParserFactory::new(&env, capabilities(), &slices());
            (words, factory)
        }));
        let (words, mut factory) = match built {
            Ok((words, Ok(factory))) => (words, factory),
            Ok((_, Err(problem))) => return fault(problem.to_string()),
            Err(_) => return fault("the token list breaks the automaton's assumptions".to_owned()),
        };
        words.check_tokenizer()?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Vocabulary { factory: Arc::new(factory), words })
    }

    /// How many ids there are, which is the length of a row of logits.
    pub fn len(&self) -> usize {
        self.words.trie.vocab_size()
    }

    /// Never true: [`Vocabulary::new`] refuses an empty list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.words.stop
    }

    /// The bytes an id stands for in an answer; none for control tokens and for second spellings of the same bytes.
    pub fn bytes(&self, id: u32) -> &[u8] {
        if self.stop_ids().contains(&id) { &[] } else { self.words.trie.token(id) }
    }
}

/// Forced tokens are taken, tokens already written are not.
fn capabilities() -> InferenceCapabilities {
    InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() }
}

/// Classes of text whose tokens are looked up once per vocabulary instead of once per mask: what free text is made of.
fn slices() -> Vec<String> {
    let class = pattern::text_class();
    vec![format!("{class}{{1,10}}"), format!("{class}{{1,30}}"), format!("{class}+")]
}

/// Where several ids have the same bytes, the one the tokenizer uses keeps them: the byte piece of `A` stands beside
/// the letter `A`, and the model was never taught to write the first. All others become empty, which no mask allows.
fn one_id_per_text(
    tokens: Vec<Option<Vec<u8>>>,
    tokenize: &impl Fn(&str) -> Vec<u32>,
) -> Vec<Vec<u8>> {
    let mut owner: HashMap<Vec<u8>, u32> = HashMap::with_capacity(tokens.len());
    for (id, bytes) in (0u32..).zip(&tokens) {
        let Some(bytes) = bytes.as_ref().filter(|b| !b.is_empty()) else { continue };
        // Byte pieces come first in the vocabulary, so the later id wins unless the tokenizer prefers the earlier one.
        let keep = owner.get(bytes).is_some_and(|&earlier| {
            std::str::from_utf8(bytes).is_ok_and(|text| tokenize(text) == [earlier])
        });
        if !keep {
            owner.insert(bytes.clone(), id);
        }
    }
    let mut words = vec![Vec::new(); tokens.len()];
    for (bytes, id) in owner {
        // 0xff marks control tokens in the automaton and never occurs in UTF-8; such a byte piece is of no use here.
        if !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
            words[id as usize] = bytes;
        }
    }
    words
}

/// Text to ids, without the prefix space.
type Tokenize = Box<dyn Fn(&str) -> Vec<u32> + Send + Sync>;

/// What the automaton asks about tokens.
struct Words {
    trie: TokTrie,
    tokenize: Tokenize,
    stop: Vec<u32>,
}

impl Words {
    /// Forced text becomes tokens through `tokenize`; what it returns must be that text and nothing before it.
    fn check_tokenizer(&self) -> Result<(), GrammarError> {
        for text in ["{\"a\":", " {\"legible\":true,\"serial\":\"", "e", "é"] {
            let ids = (self.tokenize)(text);
            let back: Vec<u8> = ids.iter().flat_map(|&id| self.trie.token(id)).copied().collect();
            if back != text.as_bytes() {
                let back = String::from_utf8_lossy(&back);
                return Err(GrammarError::Vocabulary(format!(
                    "the tokenizer turns `{text}` into `{back}`"
                )));
            }
        }
        Ok(())
    }
}

impl TokenizerEnv for Words {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, s: &[u8]) -> Vec<TokenId> {
        let ids = std::str::from_utf8(s).map(|text| (self.tokenize)(text)).unwrap_or_default();
        let exact = ids.iter().flat_map(|&id| self.trie.token(id)).eq(s);
        // Not exact: half a character, or text in which the tokenizer sees a control token.
        if exact { ids } else { self.trie.greedy_tokenize(s) }
    }
}

impl Vocabulary {
    /// One token per byte, then `<|user|>` (256) and `<|end|>` (257): for texts of which no tokens are known.
    pub(in crate::vlm) fn bytewise() -> Vocabulary {
        let mut tokens: Vec<Option<Vec<u8>>> = (0..=255).map(|byte| Some(vec![byte])).collect();
        tokens.extend([None, None]);
        Vocabulary::new(tokens, &[257], |text| text.bytes().map(u32::from).collect())
            .expect("bytes and one stop token can constrain an answer")
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vocabulary({} tokens, stop {:?})", self.len(), self.stop_ids())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(
        tokens: Vec<Option<Vec<u8>>>,
        stop: &[u32],
        tokenize: fn(&str) -> Vec<u32>,
    ) -> String {
        Vocabulary::new(tokens, stop, tokenize).unwrap_err().to_string()
    }

    fn bytes() -> Vec<Option<Vec<u8>>> {
        (0..=255).map(|byte| Some(vec![byte])).chain([None]).collect()
    }

    #[test]
    fn odd_token_lists_are_refused_and_do_not_panic() {
        let plain = |text: &str| text.bytes().map(u32::from).collect();
        assert!(refused(vec![], &[0], plain).contains("0 tokens"));
        assert!(refused(bytes(), &[], plain).contains("no stop token"));
        assert!(refused(bytes(), &[65], plain).contains("stop token 65 is not a control token"));
        assert!(refused(bytes(), &[999], plain).contains("stop token 999"));
        assert!(refused(vec![None; 300], &[1], plain).contains("no token for ` `"));
        let prefixed = |text: &str| format!(" {text}").bytes().map(u32::from).collect();
        assert!(refused(bytes(), &[256], prefixed).contains("turns `{\"a\":` into ` {\"a\":`"));
        assert!(Vocabulary::new(bytes(), &[256], plain).is_ok());
    }

    #[test]
    fn of_two_spellings_the_tokenizers_own_is_kept() {
        let mut tokens = bytes();
        tokens.push(Some(b"a".to_vec()));
        tokens.push(Some(b"b".to_vec()));
        // This tokenizer writes `a` with its own piece and `b` with the byte.
        let tokenize =
            |text: &str| text.bytes().map(|b| if b == b'a' { 257 } else { u32::from(b) }).collect();
        let vocabulary = Vocabulary::new(tokens, &[256], tokenize).unwrap();
        assert_eq!((vocabulary.bytes(97), vocabulary.bytes(257)), (&b""[..], &b"a"[..]));
        assert_eq!((vocabulary.bytes(98), vocabulary.bytes(258)), (&b"b"[..], &b""[..]));
        assert_eq!(
            (vocabulary.bytes(256), vocabulary.bytes(0xff), vocabulary.bytes(9999)),
            (&b""[..], &b""[..], &b""[..])
        );
    }
}
