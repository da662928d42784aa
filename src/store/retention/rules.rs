//! `[retention]`: how long pictures are kept, and how much of the disk they may take.

use super::decide::Class;

const DAY_MS: i64 = 86_400_000;

/// What may go when space is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderPressure {
    /// Pictures of passes alone.
    #[default]
    Passes,
    /// When those are gone, also those of parts that were not sampled.
    NotSampled,
    /// When those are gone, also those of fails, and of reviews that a person has decided about.
    All,
}

/// When pictures go. The default keeps all of them for ever. Records never go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Days for which the pictures of passes stay; `None` for ever.
    pub pass_days: Option<u32>,
    /// Days for those of parts between the sampled ones.
    pub not_sampled_days: Option<u32>,
    /// Days for those of parts that should have been looked at and were not.
    pub missed_days: Option<u32>,
    /// Days for those of fails.
    pub fail_days: Option<u32>,
    /// Days for those of reviews.
    pub review_days: Option<u32>,
    /// Free bytes that the disk of the pictures is to have.
    pub min_free_bytes: Option<u64>,
    /// Bytes that all pictures together may take.
    pub max_evidence_bytes: Option<u64>,
    /// What may go for these two.
    pub under_pressure: UnderPressure,
}

impl Rules {
    /// Whether nothing is ever removed.
    pub fn is_off(&self) -> bool {
        let no_limit = Class::ALL.iter().all(|class| self.limit_ms(*class).is_none());
        no_limit && self.min_free_bytes.is_none() && self.max_evidence_bytes.is_none()
    }

    /// How old the pictures of `class` may become, in milliseconds.
    pub fn limit_ms(&self, class: Class) -> Option<i64> {
        let days = match class {
            Class::Pass => self.pass_days,
            Class::NotSampled => self.not_sampled_days,
            Class::Missed => self.missed_days,
            Class::Fail => self.fail_days,
            Class::Review => self.review_days,
        };
        days.map(|days| i64::from(days) * DAY_MS)
    }

    /// Bytes that are to be freed, for `evidence_bytes` of pictures and `free_bytes` of free disk.
    pub fn shortage_bytes(&self, evidence_bytes: u64, free_bytes: u64) -> u64 {
        let too_little = self.min_free_bytes.map_or(0, |least| least.saturating_sub(free_bytes));
        let most = self.max_evidence_bytes;
        let too_much = most.map_or(0, |most| evidence_bytes.saturating_sub(most));
        too_little.max(too_much)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_removed_unless_it_is_asked_for() {
        assert!(Rules::default().is_off());
        assert!(!Rules { fail_days: Some(1), ..Rules::default() }.is_off());
        assert!(!Rules { min_free_bytes: Some(1), ..Rules::default() }.is_off());
    }

    #[test]
    fn the_greater_want_counts() {
        let rules =
            Rules { min_free_bytes: Some(100), max_evidence_bytes: Some(1000), ..Rules::default() };
        assert_eq!(rules.shortage_bytes(1000, 100), 0);
        assert_eq!(rules.shortage_bytes(1300, 90), 300);
        assert_eq!(rules.shortage_bytes(1001, 20), 80);
    }
}
