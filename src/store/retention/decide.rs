//! Which pictures go: a pure decision, so that it can be tried with every log and every disk.
//!
//! A picture goes by age when each record that names it is past the limit of its own kind. A picture
//! goes for want of space in the order of [`Rank`], oldest first; one that waits for a person never
//! goes so. A picture that several records name is held by the one that holds it best.

use super::rules::{Rules, UnderPressure};

/// What a record needs its pictures for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The part passed.
    Pass,
    /// The part stood between those that are sampled.
    NotSampled,
    /// The part was to be looked at and was not: a full queue, a stop, a lost trigger.
    Missed,
    /// The part failed, or a person said that it should have.
    Fail,
    /// A person is to look.
    Review,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 5] =
        [Class::Pass, Class::NotSampled, Class::Missed, Class::Fail, Class::Review];

    /// The word in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Pass => "pass",
            Class::NotSampled => "not_sampled",
            Class::Missed => "missed",
            Class::Fail => "fail",
            Class::Review => "review",
        }
    }
}

/// How well a picture is held when space is short; the first goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Only passes name it.
    Pass,
    /// A part that was not sampled.
    NotSampled,
    /// A part that was missed, and that a person has decided about.
    MissedDecided,
    /// A failed part.
    Fail,
    /// A review that a person has decided about.
    ReviewDecided,
    /// A missed part that waits for a person.
    MissedOpen,
    /// A review that waits for a person.
    ReviewOpen,
}

impl Rank {
    /// All of them, the one that goes first at the front.
    pub const ALL: [Rank; 7] = [
        Rank::Pass,
        Rank::NotSampled,
        Rank::MissedDecided,
        Rank::Fail,
        Rank::ReviewDecided,
        Rank::MissedOpen,
        Rank::ReviewOpen,
    ];

    /// Whether a picture of this rank may go for want of space.
    pub fn may_go(self, allowed: UnderPressure) -> bool {
        match self {
            Rank::Pass => true,
            Rank::NotSampled => allowed != UnderPressure::Passes,
            Rank::MissedDecided | Rank::Fail | Rank::ReviewDecided => allowed == UnderPressure::All,
            // Nobody has looked yet: no want of space is a reason.
            Rank::MissedOpen | Rank::ReviewOpen => false,
        }
    }
}

/// What one record needs a picture for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What for.
    pub class: Class,
    /// The record's number.
    pub sequence: i64,
    /// When it was decided, in milliseconds since 1970: by a clock that was right then, else by the
    /// next record of such a clock. `None` while there is no such record.
    pub wall_ms: Option<i64>,
    /// A person has decided about the part.
    pub is_decided: bool,
}

impl Need {
    /// How well this record holds its pictures.
    pub fn rank(&self) -> Rank {
        match (self.class, self.is_decided) {
            (Class::Pass, _) => Rank::Pass,
            (Class::NotSampled, _) => Rank::NotSampled,
            (Class::Fail, _) => Rank::Fail,
            (Class::Missed, true) => Rank::MissedDecided,
            (Class::Missed, false) => Rank::MissedOpen,
            (Class::Review, true) => Rank::ReviewDecided,
            (Class::Review, false) => Rank::ReviewOpen,
        }
    }

    /// Past the limit of its kind. What has no age or no limit never is.
    fn is_past(&self, rules: &Rules, now_ms: i64) -> bool {
        match (self.wall_ms, rules.limit_ms(self.class)) {
            (Some(then), Some(limit)) => now_ms.saturating_sub(then) > limit,
            _ => false,
        }
    }
}

/// A picture and the records that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Length of its file.
    pub bytes: u64,
    /// The records that name it; without any it stays.
    pub needs: Vec<Need>,
}

impl Candidate {
    /// How well it is held: as well as by the record that holds it best.
    pub fn rank(&self) -> Rank {
        self.needs.iter().map(Need::rank).max().unwrap_or(Rank::ReviewOpen)
    }

    /// What it counts as in reports: the class of that record.
    pub fn class(&self) -> Class {
        let best = self.needs.iter().max_by_key(|need| need.rank());
        best.map_or(Class::Review, |need| need.class)
    }

    /// The number of the newest record that names it.
    pub fn sequence(&self) -> i64 {
        self.needs.iter().map(|need| need.sequence).max().unwrap_or(i64::MAX)
    }
}

/// Why a picture goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Every record that names it is past its limit.
    Age,
    /// Space is short.
    Space,
}

impl Why {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Age => "age",
            Why::Space => "space",
        }
    }
}

/// Chooses among `candidates` at most `most` that go, those that go first at the front. `now_ms` is
/// `None` while nobody knows the time: nothing goes by age then. `shortage_bytes` are to be freed.
///
/// The candidates must hold at least `most` of those of each rank that come first, or all of that
/// rank: else a picture could go before one that should have gone first.
pub fn decide<'c>(
    candidates: &'c [Candidate],
    rules: &Rules,
    now_ms: Option<i64>,
    shortage_bytes: u64,
    most: usize,
) -> Vec<(&'c Candidate, Why)> {
    let mut order: Vec<&Candidate> =
        candidates.iter().filter(|one| !one.needs.is_empty()).collect();
    order.sort_by_key(|one| (one.rank(), one.sequence()));
    let is_past = |one: &&Candidate| {
        now_ms.is_some_and(|now| one.needs.iter().all(|need| need.is_past(rules, now)))
    };
    let (past, left): (Vec<&Candidate>, Vec<&Candidate>) = order.into_iter().partition(is_past);
    let mut chosen: Vec<_> = past.into_iter().take(most).map(|one| (one, Why::Age)).collect();
    let mut freed: u64 = chosen.iter().map(|(one, _)| one.bytes).sum();
    for one in left {
        if freed >= shortage_bytes || chosen.len() >= most {
            break;
        }
        if one.rank().may_go(rules.under_pressure) {
            freed += one.bytes;
            chosen.push((one, Why::Space));
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
