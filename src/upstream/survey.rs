//! Looks for records that are missing between those that were copied, a bounded step at a time.
//!
//! The copy itself leaves no hole. Somebody may have deleted rows, or put back an old table beside a new one.
//! So the whole of it is counted once after a start, in pieces; a piece that lacks something is halved until it
//! is small enough to be copied again.

/// Records that one step counts at most.
const PIECE: i64 = 50_000;

/// What is left to be looked at: pure, its caller counts and copies.
#[derive(Debug)]
pub struct Survey {
    /// Up to here all is whole or stands in `open`.
    from: i64,
    upto: i64,
    open: Vec<(i64, i64)>,
    /// A piece of so many records is copied again and not halved any more.
    small: i64,
}

/// What is to be done about a piece: the records above the first number, up to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// It is whole, or will be looked at in halves.
    Done,
    /// It lacks something and is small: copy it again.
    Copy((i64, i64)),
}

impl Survey {
    /// Of the records up to `upto`; pieces of up to `small` records are copied again.
    pub fn new(upto: i64, small: usize) -> Survey {
        let small = i64::try_from(small).unwrap_or(PIECE).clamp(1, PIECE);
        Survey { from: 0, upto, open: Vec::new(), small }
    }

    /// The next piece to be counted; `None`: all is looked at.
    pub fn next(&mut self) -> Option<(i64, i64)> {
        if let Some(piece) = self.open.pop() {
            return Some(piece);
        }
        let (from, end) = (self.from, self.upto.min(self.from.saturating_add(PIECE)));
        self.from = end;
        (from < end).then_some((from, end))
    }

    /// `count` records of `piece` are there.
    pub fn counted(&mut self, piece: (i64, i64), count: i64) -> Piece {
        let (after, upto) = piece;
        let most = upto - after;
        if count >= most {
            return Piece::Done;
        }
        if most <= self.small {
            return Piece::Copy(piece);
        }
        let middle = after + most / 2;
        // The first half is looked at first.
        self.open.extend([(middle, upto), (after, middle)]);
        Piece::Done
    }

    /// `piece` could not be dealt with now.
    pub fn put_back(&mut self, piece: (i64, i64)) {
        self.open.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What is copied again when `missing` are missing among `upto`, and in how many steps.
    fn found(missing: &BTreeSet<i64>, upto: i64, small: usize) -> (Vec<(i64, i64)>, usize) {
        let mut survey = Survey::new(upto, small);
        let (mut copied, mut steps) = (Vec::new(), 0);
        while let Some(piece) = survey.next() {
            steps += 1;
            let gone = missing.range(piece.0 + 1..=piece.1).count() as i64;
            if let Piece::Copy(range) = survey.counted(piece, piece.1 - piece.0 - gone) {
                copied.push(range);
            }
        }
        (copied, steps)
    }

    #[test]
    fn one_of_a_million_is_found_in_few_steps() {
        let (copied, steps) = found(&[777_777].into(), 1_000_000, 500);
        let [(after, upto)] = copied[..] else { panic!("{copied:?}") };
        assert!(after < 777_777 && 777_777 <= upto && upto - after <= 500);
        assert!(steps <= 20 + 2 * 7, "{steps}");
        assert_eq!(found(&BTreeSet::new(), 0, 500), (vec![], 0));
    }

    proptest! {
        #[test]
        fn every_hole_is_copied_again_and_each_piece_once(
            missing in proptest::collection::btree_set(1_i64..120_000, 0..40),
            upto in 0_i64..120_000,
            small in 1_usize..1000,
        ) {
            let missing: BTreeSet<i64> = missing.into_iter().filter(|it| *it <= upto).collect();
            let (copied, _) = found(&missing, upto, small);
            for one in &missing {
                let holders = copied.iter().filter(|(after, to)| after < one && one <= to).count();
                prop_assert_eq!(holders, 1);
            }
            for (after, to) in copied {
                prop_assert!(missing.range(after + 1..=to).next().is_some(), "nothing missing there");
            }
        }
    }
}
