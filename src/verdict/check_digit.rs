//! Check digits: a serial that carries one can be told from a misread one.

use serde::{Deserialize, Serialize};

/// How the last character of a serial is computed from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckDigit {
    /// Luhn's formula over digits (ISO/IEC 7812-1).
    Luhn,
    /// GS1's weights 3 and 1 from the right over digits (GTIN, SSCC).
    Gs1,
    /// ISO/IEC 7064 MOD 37,36 over digits and upper-case letters.
    Mod37_36,
}

impl CheckDigit {
    /// Whether `serial`, check digit last, is consistent. A character outside the scheme's
    /// alphabet, or fewer than two characters, is not.
    pub fn holds(self, serial: &str) -> bool {
        let base = if self == CheckDigit::Mod37_36 { 36 } else { 10 };
        let digits: Option<Vec<u32>> =
            serial.chars().map(|c| c.to_digit(base).filter(|_| !c.is_ascii_lowercase())).collect();
        let Some(digits) = digits.filter(|digits| digits.len() >= 2) else { return false };
        match self {
            CheckDigit::Luhn => luhn(&digits),
            CheckDigit::Gs1 => gs1(&digits),
            CheckDigit::Mod37_36 => mod_37_36(&digits),
        }
    }
}

fn luhn(digits: &[u32]) -> bool {
    let value = |(at, &digit): (usize, &u32)| match (at % 2, digit * 2) {
        (0, _) => digit,
        (_, doubled) if doubled > 9 => doubled - 9,
        (_, doubled) => doubled,
    };
    digits.iter().rev().enumerate().map(value).sum::<u32>() % 10 == 0
}

fn gs1(digits: &[u32]) -> bool {
    let value = |(at, &digit): (usize, &u32)| digit * if at % 2 == 0 { 1 } else { 3 };
    digits.iter().rev().enumerate().map(value).sum::<u32>() % 10 == 0
}

fn mod_37_36(digits: &[u32]) -> bool {
    let (last, body) = match digits.split_last() {
        Some(parts) => parts,
        None => return false,
    };
    let product = body.iter().fold(36, |product, &digit| {
        let sum = (product + digit) % 36;
        (if sum == 0 { 36 } else { sum }) * 2 % 37
    });
    (product + last) % 36 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_hold_and_their_neighbours_do_not() {
        for (scheme, good, bad) in [
            (CheckDigit::Luhn, "79927398713", "79927398710"),
            (CheckDigit::Gs1, "4006381333931", "4006381333932"),
            (CheckDigit::Mod37_36, "A12425GABC1234002M", "A12425GABC1234002N"),
        ] {
            assert!(scheme.holds(good), "{scheme:?} {good}");
            assert!(!scheme.holds(bad), "{scheme:?} {bad}");
        }
    }

    #[test]
    fn foreign_characters_and_short_texts_never_hold() {
        for text in ["", "7", "79a27398713", "½½", "a12425gabc1234002m"] {
            for scheme in [CheckDigit::Luhn, CheckDigit::Gs1, CheckDigit::Mod37_36] {
                assert!(!scheme.holds(text), "{scheme:?} {text}");
            }
        }
    }

    #[test]
    fn every_single_digit_error_is_found() {
        let good = "4006381333931";
        for at in 0..good.len() {
            for digit in b'0'..=b'9' {
                let mut bytes = good.as_bytes().to_vec();
                if bytes[at] != digit {
                    bytes[at] = digit;
                    let text = String::from_utf8(bytes).expect("ASCII");
                    assert!(!CheckDigit::Gs1.holds(&text) && !good.eq(&text), "{text}");
                }
            }
        }
    }
}
