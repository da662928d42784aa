//! Weighted sums: each character's value times a weight, added up, modulo a number.

use std::collections::BTreeMap;

use super::{ALPHANUMERIC, CODE_39};

/// Most weights of one scheme: a serial has no more characters.
pub const WEIGHTS_MAX: usize = 64;

/// Largest weight, value and modulus: sums stay far below what a number holds.
pub const NUMBER_MAX: u32 = 9_999;

/// A scheme of this kind. Made by [`Weighted::new`], which checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    values: BTreeMap<char, u32>,
    weights: Vec<u32>,
    from: End,
    /// In which base the digits of a product are added up, if they are.
    fold: Option<u32>,
    modulus: u32,
    remainder: Remainder,
    /// The check character for the value 0, 1, …
    characters: Vec<char>,
    position: Position,
}

/// The end of the serial at which the first weight stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first character.
    Left,
    /// The last character.
    Right,
}

/// What the check character stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// The sum modulo the modulus.
    Plain,
    /// What that lacks to the modulus; 0 for 0.
    Complement,
}

/// Where the check character stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the end.
    Last,
    /// So many characters after the first, so 0 is the first.
    At(usize),
}

/// What is wrong with a scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightedError {
    /// No weight, or too many, or one that is too large, or none but zeros.
    #[error("`weights` needs 1 to {WEIGHTS_MAX} numbers from 0 to {NUMBER_MAX}, not all of them 0")]
    Weights,
    /// A modulus below 2 or too large.
    #[error("`modulus` must be 2 to {NUMBER_MAX}")]
    Modulus,
    /// No character has a value.
    #[error("no character has a value")]
    NoValues,
    /// One character has two values.
    #[error("{0:?} stands there twice")]
    Twice(char),
    /// More check characters than remainders, or none.
    #[error("{given} check characters for the remainders 0 to {}", modulus - 1)]
    Characters {
        /// How many there are.
        given: usize,
        /// The modulus.
        modulus: u32,
    },
}

impl Weighted {
    /// A scheme over `values` (the characters of value 0, 1, …), with the defaults: every weight 1
    /// from the right, modulo 10, complement, the check digit last.
    pub fn new(values: &[&str]) -> Result<Weighted, WeightedError> {
        let mut known = BTreeMap::new();
        for (value, characters) in values.iter().enumerate() {
            for c in characters.chars() {
                if known.insert(c, value as u32).is_some() {
                    return Err(WeightedError::Twice(c));
                }
            }
        }
        if known.is_empty() {
            return Err(WeightedError::NoValues);
        }
        Ok(Weighted {
            values: known,
            weights: vec![1],
            from: End::Right,
            fold: None,
            modulus: 10,
            remainder: Remainder::Complement,
            characters: "0123456789".chars().collect(),
            position: Position::Last,
        })
    }

    /// With these weights, again and again, from that end of the serial without its check character.
    pub fn weights(mut self, weights: &[u32], from: End) -> Result<Weighted, WeightedError> {
        let fits = (1..=WEIGHTS_MAX).contains(&weights.len())
            && weights.iter().all(|weight| *weight <= NUMBER_MAX)
            && weights.iter().any(|weight| *weight > 0);
        if !fits {
            return Err(WeightedError::Weights);
        }
        (self.weights, self.from) = (weights.to_vec(), from);
        Ok(self)
    }

    /// With this modulus, and the check characters for the values 0, 1, … Where there are fewer than
    /// remainders, a serial of a later remainder does not exist.
    pub fn modulo(mut self, modulus: u32, characters: &str) -> Result<Weighted, WeightedError> {
        if !(2..=NUMBER_MAX).contains(&modulus) {
            return Err(WeightedError::Modulus);
        }
        let characters: Vec<char> = characters.chars().collect();
        if !(1..=modulus as usize).contains(&characters.len()) {
            return Err(WeightedError::Characters { given: characters.len(), modulus });
        }
        (self.modulus, self.characters) = (modulus, characters);
        Ok(self)
    }

    /// With the digits of each product added up in this base, as Luhn does: 2 times 7 counts 1 + 4.
    #[must_use]
    pub fn folded(mut self, base: u32) -> Weighted {
        self.fold = Some(base.max(2));
        self
    }

    /// With another meaning of the check character.
    #[must_use]
    pub fn remainder(mut self, remainder: Remainder) -> Weighted {
        self.remainder = remainder;
        self
    }

    /// With the check character elsewhere.
    #[must_use]
    pub fn position(mut self, position: Position) -> Weighted {
        self.position = position;
        self
    }

    /// Whether `c` may stand in a serial.
    pub(super) fn serves(&self, c: char) -> bool {
        self.values.contains_key(&c) || self.characters.contains(&c)
    }

    /// Where the check character stands in a text of so many characters; `None` if it is too short.
    pub(super) fn check_at(&self, length: usize) -> Option<usize> {
        match self.position {
            Position::Last => length.checked_sub(1),
            Position::At(at) => (at < length).then_some(at),
        }
    }

    /// The check character of `body`, the serial without it.
    pub(super) fn check_of(&self, body: &[char]) -> Option<char> {
        let values: Option<Vec<u32>> = body.iter().map(|c| self.values.get(c).copied()).collect();
        let mut values = values?;
        if self.from == End::Right {
            values.reverse();
        }
        let weights = self.weights.iter().cycle();
        let sum: u64 =
            values.iter().zip(weights).map(|(value, weight)| self.term(*value, *weight)).sum();
        self.character(sum)
    }

    fn character(&self, sum: u64) -> Option<char> {
        let rest = sum % u64::from(self.modulus);
        let value = match self.remainder {
            Remainder::Plain => rest,
            Remainder::Complement => (u64::from(self.modulus) - rest) % u64::from(self.modulus),
        };
        self.characters.get(value as usize).copied()
    }

    /// What a character of `value` adds to the sum where `weight` stands.
    fn term(&self, value: u32, weight: u32) -> u64 {
        let mut product = u64::from(value) * u64::from(weight);
        let Some(base) = self.fold.map(u64::from) else { return product };
        let mut sum = 0;
        while product > 0 {
            sum += product % base;
            product /= base;
        }
        sum
    }

    /// Two characters that add the same, modulo the modulus, at some place.
    pub(super) fn blind_pair(&self) -> Option<(char, char)> {
        let all: Vec<(&char, &u32)> = self.values.iter().collect();
        // One character alone may be without weight, as at the place of the check in a VIN.
        for weight in &self.weights {
            let share = |value: &u32| self.term(*value, *weight) % u64::from(self.modulus);
            let mut first: BTreeMap<u64, char> = BTreeMap::new();
            for (c, value) in &all {
                if let Some(other) = first.insert(share(value), **c) {
                    return Some((other, **c));
                }
            }
        }
        None
    }
}

/// The named schemes of this kind.
pub(super) fn named(name: &str) -> Option<Weighted> {
    let over = |alphabet: &str| {
        let values: Vec<String> = alphabet.chars().map(String::from).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Weighted::new(&values)
    };
    let digits = || over("0123456789");
    let made = match name {
        // ISO/IEC 7812-1, annex B.
        "luhn" => digits().and_then(|w| w.weights(&[2, 1], End::Right)).map(|w| w.folded(10)),
        // The same over 36 characters: digits of a product are those of base 36.
        "luhn36" => over(ALPHANUMERIC)
            .and_then(|w| w.weights(&[2, 1], End::Right))
            .and_then(|w| w.modulo(36, ALPHANUMERIC))
            .map(|w| w.folded(36)),
        // GS1 General Specifications, 7.9: GTIN, SSCC, GLN.
        "gs1" => digits().and_then(|w| w.weights(&[3, 1], End::Right)),
        // The plain sum of the digits, filled up to a ten.
        "mod10" => digits(),
        // 2 to 7 from the right, as on accounts and parcels; X stands for 10.
        "mod11" => digits()
            .and_then(|w| w.weights(&[2, 3, 4, 5, 6, 7], End::Right))
            .and_then(|w| w.modulo(11, "0123456789X")),
        // ISO 2108 before 2005.
        "isbn10" => digits()
            .and_then(|w| w.weights(&[2, 3, 4, 5, 6, 7, 8, 9, 10], End::Right))
            .and_then(|w| w.modulo(11, "0123456789X")),
        "mod36" => over(ALPHANUMERIC)
            .and_then(|w| w.modulo(36, ALPHANUMERIC))
            .map(|w| w.remainder(Remainder::Plain)),
        // ISO/IEC 16388, annex A: Code 39, HIBC, military labels.
        "mod43" => {
            over(CODE_39).and_then(|w| w.modulo(43, CODE_39)).map(|w| w.remainder(Remainder::Plain))
        }
        _ => return None,
    };
    Some(made.expect("the named schemes are good, as a test shows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::CheckDigit;

    /// ISO 3779 and 49 CFR 565.15: letters count as digits, the check stands ninth.
    fn vin() -> CheckDigit {
        let values = ["0", "1AJ", "2BKS", "3CLT", "4DMU", "5ENV", "6FW", "7GPX", "8HY", "9RZ"];
        let weights = [8, 7, 6, 5, 4, 3, 2, 10, 9, 8, 7, 6, 5, 4, 3, 2];
        let made = Weighted::new(&values)
            .and_then(|w| w.weights(&weights, End::Left))
            .and_then(|w| w.modulo(11, "0123456789X"))
            .map(|w| w.remainder(Remainder::Plain).position(Position::At(8)));
        CheckDigit::own(made.expect("a scheme"))
    }

    #[test]
    fn a_vehicle_s_number_can_be_written_as_an_own_scheme() {
        assert!(vin().holds("1M8GDM9AXKP042788") && vin().holds("11111111111111111"));
        assert!(!vin().holds("1M8GDM9AXKP042789") && !vin().holds("1M8GDM9A0KP042788"));
        assert_eq!(vin().right("1M8GDM9A0KP042788").as_deref(), Some("X"));
        assert_eq!(vin().blind_pair(), Some(('1', 'A')), "they count the same");
        assert!(!vin().holds("1M8GDM9"), "too short to have a ninth character");
    }

    #[test]
    fn a_container_s_number_can_be_written_as_an_own_scheme() {
        // ISO 6346: letters from 10 without the multiples of 11; powers of two; ten is written 0.
        let mut values: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        for letter in 'A'..='Z' {
            if values.len().is_multiple_of(11) {
                values.push(String::new());
            }
            values.push(letter.to_string());
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let made = Weighted::new(&values)
            .and_then(|w| w.weights(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 512], End::Left))
            .and_then(|w| w.modulo(11, "01234567890"))
            .map(|w| w.remainder(Remainder::Plain));
        let scheme = CheckDigit::own(made.expect("a scheme"));
        assert!(scheme.holds("CSQU3054383") && !scheme.holds("CSQU3054384"));
    }

    #[test]
    fn a_parcel_s_number_can_be_written_as_an_own_scheme() {
        // UPU S10: eight digits; a rest of 0 is written 5, one of 1 is written 0.
        let values = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let made = Weighted::new(&values)
            .and_then(|w| w.weights(&[8, 6, 4, 2, 3, 5, 9, 7], End::Left))
            .and_then(|w| w.modulo(11, "51234567890"));
        let scheme = CheckDigit::own(made.expect("a scheme")).without("RR", "GB");
        assert!(scheme.holds("RR473124829GB") && !scheme.holds("RR473124828GB"));
    }

    #[test]
    fn a_scheme_that_cannot_be_is_refused() {
        let digits = || Weighted::new(&["0", "1"]).expect("a scheme");
        assert_eq!(Weighted::new(&["0", "10"]), Err(WeightedError::Twice('0')));
        assert_eq!(Weighted::new(&["", ""]), Err(WeightedError::NoValues));
        for weights in [&[][..], &[0, 0], &[1; 65], &[10_000]] {
            assert_eq!(digits().weights(weights, End::Left), Err(WeightedError::Weights));
        }
        assert_eq!(digits().modulo(1, "0"), Err(WeightedError::Modulus));
        assert_eq!(
            digits().modulo(2, "012").expect_err("too many").to_string(),
            "3 check characters for the remainders 0 to 1"
        );
    }

    #[test]
    fn a_remainder_without_a_character_is_no_serial() {
        let eleven = Weighted::new(&["0", "1", "2"]).expect("a scheme").modulo(11, "0123456789");
        let scheme = CheckDigit::own(eleven.expect("a scheme"));
        assert_eq!(scheme.right("10"), None, "11 - 1 has no character");
        assert!(scheme.holds("29"));
    }

    #[test]
    fn a_weight_that_shares_a_factor_with_the_modulus_is_blind() {
        let even = Weighted::new(&["0", "1", "2", "3", "4", "5"]).expect("a scheme");
        let even = even.weights(&[2, 1], End::Right).expect("good");
        assert_eq!(CheckDigit::own(even).blind_pair(), Some(('0', '5')));
    }
}
