//! How sure an engine elsewhere was, as far as it tells.
//!
//! Our own model's number for a value is the product, over the tokens that carry it, of each one's share
//! among the tokens that the grammar allowed. A server tells each token's share among *all* tokens, or,
//! where it masks first, among the allowed ones. The former is never more than the latter, so the product
//! of what it tells is never more than our own number would be: a threshold that holds for one holds for
//! the other. The mass of the allowed tokens is not told; the smallest share of a chosen token is a lower
//! bound of it, as that token was allowed.

use std::ops::Range;

use super::reply::Token;
use crate::vlm::answer::FieldConfidence;
use crate::vlm::grammar::reread::FieldBytes;

/// The confidence of each field of `content`. `None`: the tokens are not those of the text, or what is told
/// are no probabilities; then nobody knows.
pub fn of(content: &str, fields: &[FieldBytes], tokens: &[Token]) -> Option<Vec<FieldConfidence>> {
    let is_share = |token: &Token| token.logprob <= 0.0;
    // A server that takes the likeliest token and tells a share of 1 for each tells nothing.
    let says_something = tokens.iter().any(|token| token.logprob < 0.0);
    if !tokens.iter().all(is_share) || !says_something {
        return None;
    }
    let places = places(content, tokens)?;
    fields.iter().map(|field| one(field, tokens, &places)).collect()
}

/// Which bytes of `content` each token stands for. Those before and behind it stand for none: what ends an
/// answer, white space, a fence of code or a train of thought that the server took off. Where the text
/// stands there twice nobody knows which one counts.
fn places(content: &str, tokens: &[Token]) -> Option<Vec<Range<usize>>> {
    let told: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.iter().copied()).collect();
    let mut found = told.windows(content.len().max(1)).enumerate();
    let mut next = || found.find(|(_, piece)| *piece == content.as_bytes()).map(|(at, _)| at);
    let starts = next()?;
    if next().is_some() {
        return None;
    }
    let mut at = 0;
    let range = |token: &Token| {
        let (start, end) = (at, at + token.bytes.len());
        at = end;
        let inside = |byte: usize| byte.saturating_sub(starts).min(content.len());
        inside(start)..inside(end)
    };
    Some(tokens.iter().map(range).collect())
}

fn one(field: &FieldBytes, tokens: &[Token], places: &[Range<usize>]) -> Option<FieldConfidence> {
    let touches = |place: &&Range<usize>| {
        field.bytes.iter().any(|own| own.start < place.end && place.start < own.end)
    };
    let own = tokens.iter().zip(places).filter(|(_, place)| touches(place));
    let shares: Vec<f64> = own.map(|(token, _)| token.logprob.exp()).collect();
    // A value that no token carries: the tokens are not those of the text after all.
    let least = shares.iter().copied().reduce(f64::min)?;
    Some(FieldConfidence {
        path: field.path.clone(),
        probability: shares.iter().product(),
        min_token_probability: least,
        min_allowed_mass: least,
        tokens: shares.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens cut at `|`, each of them half as likely as the one before.
    fn tokens(marked: &str) -> Vec<Token> {
        let token = |(at, piece): (usize, &str)| Token {
            bytes: piece.as_bytes().to_vec(),
            logprob: -(at as f64) * std::f64::consts::LN_2,
        };
        marked.split('|').enumerate().map(token).collect()
    }

    fn field(path: &str, bytes: Range<usize>) -> FieldBytes {
        FieldBytes { path: path.to_owned(), bytes: bytes.map(|at| at..at + 1).collect() }
    }

    const TEXT: &str = r#"{"serial": "A1B2"}"#;

    #[test]
    fn a_value_is_as_sure_as_its_tokens_together() {
        let fields = [field("serial", 11..17)];
        let found = of(TEXT, &fields, &tokens("{\"|serial\":| \"|A1|B2|\"}|<end>")).expect("told");
        // The quote, two pieces, and the quote with the brace: 1/4, 1/8, 1/16, 1/32.
        assert_eq!(found[0].tokens, 4);
        assert!((found[0].probability - 0.5f64.powi(2 + 3 + 4 + 5)).abs() < 1e-12);
        assert!((found[0].min_token_probability - 0.5f64.powi(5)).abs() < 1e-12);
        let spaced = of(TEXT, &fields, &tokens(" \n|{\"serial\": \"|A1B2\"}")).expect("told");
        assert_eq!(spaced[0].tokens, 2, "white space that was taken off counts for nothing");
        let fenced = of(TEXT, &fields, &tokens("```json\n|{\"serial\": \"A1|B2\"}|\n```"));
        assert_eq!(fenced.expect("told")[0].tokens, 2, "nor does a fence");
    }

    #[test]
    fn what_tells_nothing_is_no_confidence() {
        let fields = [field("serial", 11..17)];
        assert_eq!(of(TEXT, &fields, &[]), None);
        assert_eq!(of(TEXT, &fields, &tokens("{\"serial\": \"A1|C2\"}")), None, "another text");
        assert_eq!(of(TEXT, &fields, &tokens("{\"serial\": \"A1|B2")), None, "it ends too soon");
        assert_eq!(of(TEXT, &fields, &tokens(&format!("{TEXT}|{TEXT}"))), None, "which of them?");
        let mut sure = tokens("{\"serial\": \"A1|B2\"}");
        for logprob in [0.0, 0.1, f64::NAN, f64::INFINITY] {
            sure.iter_mut().for_each(|token| token.logprob = logprob);
            assert_eq!(of(TEXT, &fields, &sure), None, "{logprob}");
        }
        sure[0].logprob = f64::NEG_INFINITY;
        sure[1].logprob = 0.0;
        assert_eq!(of(TEXT, &fields, &sure).expect("told")[0].probability, 0.0);
    }
}
