//! The recursions of ISO/IEC 7064:2003, pure and hybrid.
//!
//! A pure system has a modulus that is prime and a radix: it finds every single misread character
//! and every swap of neighbours. A hybrid system has two moduli, and its check character comes from
//! the alphabet of the serial itself; it finds every single misread character and nearly every swap.

use super::ALPHANUMERIC;

/// One system of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iso7064 {
    /// The first number of its name.
    modulus: u32,
    /// The second number of its name.
    radix: u32,
    /// The characters of the body, by value.
    alphabet: &'static str,
    /// The character beyond the alphabet that only a check character can be.
    supplement: Option<char>,
    is_hybrid: bool,
}

const DIGITS: &str = "0123456789";
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

impl Iso7064 {
    /// MOD 11-2: digits, and a check of 0 to 9 or X.
    pub const MOD_11_2: Iso7064 = Iso7064::pure(11, 2, DIGITS, Some('X'));
    /// MOD 37-2: digits and letters, and a check that may be `*`.
    pub const MOD_37_2: Iso7064 = Iso7064::pure(37, 2, ALPHANUMERIC, Some('*'));
    /// MOD 97-10: two check digits. The standard has digits alone; a letter counts as the two digits
    /// from 10 to 35, as in an IBAN (ISO 13616) or LEI (ISO 17442).
    pub const MOD_97_10: Iso7064 = Iso7064::pure(97, 10, ALPHANUMERIC, None);
    /// MOD 11,10: digits.
    pub const MOD_11_10: Iso7064 = Iso7064::hybrid(11, 10, DIGITS);
    /// MOD 27,26: letters.
    pub const MOD_27_26: Iso7064 = Iso7064::hybrid(27, 26, LETTERS);
    /// MOD 37,36: digits and letters.
    pub const MOD_37_36: Iso7064 = Iso7064::hybrid(37, 36, ALPHANUMERIC);

    const fn pure(
        modulus: u32,
        radix: u32,
        alphabet: &'static str,
        supplement: Option<char>,
    ) -> Iso7064 {
        Iso7064 { modulus, radix, alphabet, supplement, is_hybrid: false }
    }

    const fn hybrid(modulus: u32, radix: u32, alphabet: &'static str) -> Iso7064 {
        Iso7064 { modulus, radix, alphabet, supplement: None, is_hybrid: true }
    }

    /// How many characters of a serial are its check.
    pub fn check_chars(&self) -> usize {
        if self.modulus == 97 { 2 } else { 1 }
    }

    /// Whether `c` may stand in a serial.
    pub fn serves(&self, c: char) -> bool {
        self.alphabet.contains(c) || self.supplement == Some(c)
    }

    /// The check characters of `body`; `None` if it holds a foreign character.
    pub fn check_of(&self, body: &[char]) -> Option<Vec<char>> {
        let place = |c: &char| self.alphabet.chars().position(|known| known == *c);
        let values: Option<Vec<u32>> = body.iter().map(|c| place(c).map(|at| at as u32)).collect();
        let values = values?;
        match (self.is_hybrid, self.check_chars()) {
            (true, _) => Some(vec![self.character(self.hybrid_check(&values))?]),
            (false, 1) => Some(vec![self.character(self.pure_check(&values))?]),
            (false, _) => {
                let check = mod_97_10(&values);
                let digit = |value: u32| char::from_digit(value, 10);
                Some(vec![digit(check / 10)?, digit(check % 10)?])
            }
        }
    }

    fn character(&self, value: u32) -> Option<char> {
        self.alphabet.chars().chain(self.supplement).nth(value as usize)
    }

    /// What makes the whole, each character times the radix to its place, 1 modulo the modulus.
    fn pure_check(&self, values: &[u32]) -> u32 {
        let step = |sum: u32, value: &u32| (sum + value) * self.radix % self.modulus;
        (self.modulus + 1 - values.iter().fold(0, step)) % self.modulus
    }

    fn hybrid_check(&self, values: &[u32]) -> u32 {
        let step = |product: u32, value: &u32| {
            let sum = (product + value) % self.radix;
            (if sum == 0 { self.radix } else { sum }) * 2 % self.modulus
        };
        (self.radix + 1 - values.iter().fold(self.radix, step)) % self.radix
    }
}

/// The two check digits, 02 to 98, as one number.
fn mod_97_10(values: &[u32]) -> u32 {
    let step = |rest: u32, value: &u32| {
        let shift = if *value < 10 { 10 } else { 100 };
        (rest * shift + value) % 97
    };
    98 - values.iter().fold(0, step) * 100 % 97
}
