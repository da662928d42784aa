//! Numbers as text: one spelling per value, bounded length, and a range that either holds or shows.
//!
//! A grammar that ends a number at its upper bound turns a reading of 45 on a scale of 0 to 40 into a 4: well formed,
//! in range and wrong. So unless a field is `strict`, the grammar admits a sign and one digit more than the range
//! needs. Whatever is cut off then still has more digits than any value in the range, and a rule sees it.

use super::answer::AnswerError;
use super::check::wrong;
use super::form::Form;

/// The most digits before the decimal point, so that every value is exact in a 64-bit float.
pub(super) const MAX_DIGITS: usize = 15;

/// A whole number and the range it is expected in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerSpec {
    /// Lowest expected value.
    pub min: i64,
    /// Highest expected value.
    pub max: i64,
    /// Whether the grammar admits only values in range. Off by default; the head of this file says why.
    pub strict: bool,
}

/// A number with places after the point, and the range it is expected in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecimalSpec {
    /// Lowest expected value.
    pub min: f64,
    /// Highest expected value.
    pub max: f64,
    /// The most places after the point, 0 to 6.
    pub digits: u8,
    /// Whether the grammar admits only values in range. Off by default; the head of this file says why.
    pub strict: bool,
}

impl IntegerSpec {
    /// Whether a reading lies in the expected range.
    pub fn contains(&self, value: i64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Digits of the largest magnitude in range.
    pub(super) fn digits(&self) -> usize {
        self.min.unsigned_abs().max(self.max.unsigned_abs()).to_string().len()
    }

    pub(super) fn checked(&self, path: &str) -> Result<Form, AnswerError> {
        if self.min > self.max {
            return Err(wrong(path, &format!("min {} is above max {}", self.min, self.max)));
        }
        if self.digits() >= MAX_DIGITS {
            return Err(wrong(
                path,
                &format!("min and max must have fewer than {} digits", MAX_DIGITS),
            ));
        }
        Ok(Form::Integer(*self))
    }
}

impl DecimalSpec {
    /// Whether a reading lies in the expected range.
    pub fn contains(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Digits before the point of the largest magnitude in range.
    pub(super) fn whole_digits(&self) -> usize {
        let largest = self.min.abs().max(self.max.abs()).trunc();
        format!("{largest:.0}").len()
    }

    /// The range in units of the last of `places` places: every value in it, and none beside.
    pub(super) fn scaled(&self, places: usize) -> (i128, i128) {
        let unit = 10f64.powi(self.digits.into());
        let (low, high) = ((self.min * unit).round() as i128, (self.max * unit).round() as i128);
        let step = 10i128.pow((usize::from(self.digits) - places) as u32);
        (-(-low).div_euclid(step), high.div_euclid(step))
    }

    pub(super) fn checked(&self, path: &str) -> Result<Form, AnswerError> {
        if !(self.min.is_finite() && self.max.is_finite() && self.min <= self.max) {
            return Err(wrong(
                path,
                &format!(
                    "min {} and max {} must be numbers, min not above max",
                    self.min, self.max
                ),
            ));
        }
        if self.digits > 6 {
            return Err(wrong(path, "digits must be 0 to 6"));
        }
        if self.whole_digits() + usize::from(self.digits) >= MAX_DIGITS {
            return Err(wrong(
                path,
                &format!("min, max and digits together need {} digits or more", MAX_DIGITS),
            ));
        }
        let unit = 10f64.powi(self.digits.into());
        let whole = |value: f64| ((value * unit).round() - value * unit).abs() < 1e-6;
        if !(whole(self.min) && whole(self.max)) {
            let problem = format!(
                "min {} and max {} must have at most {} places",
                self.min, self.max, self.digits
            );
            return Err(wrong(path, &problem));
        }
        Ok(Form::Decimal(*self))
    }
}

/// The expression for an integer field.
pub(super) fn integer(spec: &IntegerSpec) -> String {
    if spec.strict {
        return range(spec.min.into(), spec.max.into(), 0);
    }
    format!("(0|-?[1-9]{})", more_digits(spec.digits()))
}

/// The expression for a decimal field: 0 to `digits` places after the point, none of them required.
pub(super) fn decimal(spec: &DecimalSpec) -> String {
    if spec.strict {
        // A value with k places is an integer of k more digits with a point put in.
        let ways: Vec<String> = (0..=usize::from(spec.digits))
            .filter_map(|places| {
                let (low, high) = spec.scaled(places);
                (low <= high).then(|| range(low, high, places))
            })
            .collect();
        return format!("({})", ways.join("|"));
    }
    let whole = format!("(0|[1-9]{})", more_digits(spec.whole_digits()));
    match spec.digits {
        0 => format!("(0|-?[1-9]{})", more_digits(spec.whole_digits())),
        // `-0` alone is left out: it reads back as another number than it looks.
        places => format!(
            r"(0|-?[1-9]{}|-?{whole}\.[0-9]{{1,{places}}})",
            more_digits(spec.whole_digits())
        ),
    }
}

/// After a first digit: up to as many more as the range has digits, which is one more than it needs.
fn more_digits(digits: usize) -> String {
    format!("[0-9]{{0,{digits}}}")
}

/// The integers from `low` to `high`, written with a point before the last `places` digits.
fn range(low: i128, high: i128, places: usize) -> String {
    let mut ways = Vec::new();
    if low < 0 {
        // Without a minus zero: from the magnitude of the end nearer to zero up to that of the lower end.
        let nearest = (-high).max(1);
        ways.push(format!("-{}", magnitudes(nearest as u128, (-low) as u128, places)));
    }
    if high >= 0 {
        ways.push(magnitudes(low.max(0) as u128, high as u128, places));
    }
    format!("({})", ways.join("|"))
}

/// `low` to `high` without sign: one alternative per length, since a longer number starts with another digit.
fn magnitudes(low: u128, high: u128, places: usize) -> String {
    let width = places + 1;
    let shortest = low.to_string().len().max(width);
    let longest = high.to_string().len().max(width);
    let ways: Vec<String> = (shortest..=longest)
        .map(|len| {
            let least = if len == width { low } else { low.max(10u128.pow(len as u32 - 1)) };
            let most = high.min(10u128.pow(len as u32) - 1);
            let (least, most) = (format!("{least:0len$}"), format!("{most:0len$}"));
            same_length(least.as_bytes(), most.as_bytes(), places)
        })
        .collect();
    format!("({})", ways.join("|"))
}

/// The digit strings between two of the same length. The point stands before the last `places` digits.
fn same_length(low: &[u8], high: &[u8], places: usize) -> String {
    let (Some((&l, low_rest)), Some((&h, high_rest))) = (low.split_first(), high.split_first())
    else {
        return String::new();
    };
    let point = if places > 0 && low.len() == places { r"\." } else { "" };
    let rest = low_rest.len();
    if l == h {
        return format!("{point}{}{}", l as char, same_length(low_rest, high_rest, places));
    }
    let (zeros, nines) = (vec![b'0'; rest], vec![b'9'; rest]);
    // The first digit at its lower end, in between, at its upper end; an end whose rest is unbounded joins the middle.
    let from = if low_rest == zeros { l } else { l + 1 };
    let to = if high_rest == nines { h } else { h - 1 };
    let mut ways = Vec::new();
    if from > l {
        ways.push(format!("{}{}", l as char, same_length(low_rest, &nines, places)));
    }
    if from <= to {
        ways.push(format!("{}{}", one_digit(from, to), any_digits(rest, places)));
    }
    if to < h {
        ways.push(format!("{}{}", h as char, same_length(&zeros, high_rest, places)));
    }
    format!("{point}({})", ways.join("|"))
}

fn one_digit(from: u8, to: u8) -> String {
    if from == to {
        (from as char).to_string()
    } else {
        format!("[{}-{}]", from as char, to as char)
    }
}

fn any_digits(count: usize, places: usize) -> String {
    (1..=count).rev().map(|left| if left == places { r"\.[0-9]" } else { "[0-9]" }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(pattern: &str) -> impl Fn(&str) -> bool + use<> {
        let schema = serde_json::json!({ "pattern": format!("^{pattern}$") });
        let validator = jsonschema::validator_for(&schema).unwrap();
        move |text| validator.is_valid(&serde_json::json!(text))
    }

    #[test]
    fn a_strict_integer_range_is_exact() {
        for (min, max) in
            [(0, 0), (0, 7), (3, 12), (-5, 5), (-20, -3), (98, 1002), (-1, 1999), (100, 999)]
        {
            let matches = matcher(&integer(&IntegerSpec { min, max, strict: true }));
            for value in -2100..=2100_i64 {
                assert_eq!(
                    matches(&value.to_string()),
                    (min..=max).contains(&value),
                    "{min}..{max}: {value}"
                );
            }
            for odd in ["", "-0", "00", "01", "-", "1.0", "+1"] {
                assert!(!matches(odd), "{min}..{max}: {odd}");
            }
        }
    }

    #[test]
    fn a_strict_decimal_range_is_exact() {
        for (min, max, digits) in
            [(0.0, 1.0, 1), (-0.35, 2.5, 2), (0.05, 0.12, 2), (9.9, 10.1, 2), (-12.0, -0.5, 1)]
        {
            let spec = DecimalSpec { min, max, digits, strict: true };
            let matches = matcher(&decimal(&spec));
            for hundredths in -1300..=1300_i64 {
                let value = hundredths as f64 / 100.0;
                for places in 0..=3_usize {
                    let text = format!("{value:.places$}");
                    let exact = text.parse::<f64>().unwrap();
                    let minus_zero = text.starts_with('-') && exact == 0.0;
                    let expected = places <= usize::from(digits)
                        && (min..=max).contains(&exact)
                        && !minus_zero;
                    assert_eq!(matches(&text), expected, "{min}..{max} {digits}: {text}");
                }
            }
        }
    }

    #[test]
    fn a_reading_out_of_range_stays_visible() {
        let spec = IntegerSpec { min: 0, max: 40, strict: false };
        let matches = matcher(&integer(&spec));
        for seen in ["0", "7", "40", "45", "450", "-3", "-45"] {
            assert!(matches(seen), "{seen}");
        }
        assert!(!matches("4500") && !matches("-0") && !matches("07"));
        // What the grammar cuts a longer number to is itself out of range.
        assert!(!spec.contains(450));

        let matches =
            matcher(&decimal(&DecimalSpec { min: 0.0, max: 9.5, digits: 2, strict: false }));
        for seen in ["0", "9.5", "9.50", "12.7", "-0.5", "0.00", "99"] {
            assert!(matches(seen), "{seen}");
        }
        for never in ["-0", "100", "1.234", ".5", "1.", "1e2", "007"] {
            assert!(!matches(never), "{never}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        let integer = |min, max| IntegerSpec { min, max, strict: false }.checked("it");
        assert!(integer(-3, 3).is_ok());
        assert_eq!(
            integer(3, 2).unwrap_err().to_string(),
            "answer field `it`: min 3 is above max 2"
        );
        assert!(integer(i64::MIN, 0).is_err());
        let decimal =
            |min, max, digits| DecimalSpec { min, max, digits, strict: false }.checked("it");
        assert!(decimal(-0.5, 99.9, 1).is_ok() && decimal(0.0, 0.1, 6).is_ok());
        assert!(
            decimal(0.05, 1.0, 1).unwrap_err().to_string().contains("must have at most 1 places")
        );
        for (min, max, digits) in [
            (f64::NAN, 1.0, 1),
            (0.0, f64::INFINITY, 1),
            (0.0, 1.0, 7),
            (0.0, 1e15, 0),
            (2.0, 1.0, 0),
        ] {
            assert!(decimal(min, max, digits).is_err(), "{min} {max} {digits}");
        }
    }
}
