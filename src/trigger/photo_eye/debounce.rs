//! A photo eye's output without its bounces.
//!
//! A level counts when it has held for a while, and then from its first moment on. The kernel can
//! debounce, too, but stamps an edge when the while is over, by a work queue that may be late.

/// A part's front at the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Front {
    /// When, by the monotonic clock.
    pub(super) at_ns: u64,
    /// What the encoder had counted by then.
    pub(super) pulses: u64,
}

/// The eye's level.
#[derive(Debug)]
pub(super) struct Debounce {
    hold_ns: u64,
    /// Whether a part is before the eye; `None`: not known.
    level: Option<bool>,
    /// A level that has not held long enough, and since when.
    pending: Option<(bool, Front)>,
}

impl Debounce {
    pub(super) fn new(hold_ns: u64) -> Debounce {
        Debounce { hold_ns, level: None, pending: None }
    }

    /// Edges were lost: the level may be any.
    pub(super) fn forget(&mut self) {
        (self.level, self.pending) = (None, None);
    }

    /// The line went to `level` at `front`. Answers the front that counts now, if one does.
    pub(super) fn edge(&mut self, level: bool, front: Front) -> Option<Front> {
        let found = self.pass(front.at_ns);
        // Back where it was: what lay between was a bounce.
        self.pending = (self.level != Some(level)).then_some((level, front));
        found.or_else(|| self.pass(front.at_ns))
    }

    /// All edges up to `until_ns` are known.
    pub(super) fn pass(&mut self, until_ns: u64) -> Option<Front> {
        let (level, front) = self.pending?;
        if until_ns < front.at_ns.saturating_add(self.hold_ns) {
            return None;
        }
        (self.level, self.pending) = (Some(level), None);
        level.then_some(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(hold_ns: u64, edges: &[(bool, u64)], until_ns: u64) -> Vec<u64> {
        let mut debounce = Debounce::new(hold_ns);
        let mut fronts: Vec<Front> = Vec::new();
        for (level, at_ns) in edges {
            fronts.extend(debounce.edge(*level, Front { at_ns: *at_ns, pulses: 0 }));
        }
        fronts.extend(debounce.pass(until_ns));
        fronts.iter().map(|front| front.at_ns).collect()
    }

    #[test]
    fn a_level_counts_from_its_first_moment_when_it_has_held() {
        let part = [(true, 100), (false, 200), (true, 300), (false, 400)];
        assert_eq!(run(0, &part, 400), [100, 300]);
        assert_eq!(run(50, &part, 450), [100, 300]);
        assert!(run(50, &part[..1], 149).is_empty());
        // Bounces at the front, a flash before it, and a hole in the part.
        let bouncing = [(true, 10), (false, 12), (true, 100), (false, 104), (true, 106)];
        assert_eq!(run(20, &bouncing, 200), [106]);
        let holed = [(true, 100), (false, 200), (true, 210), (false, 300), (true, 400)];
        assert_eq!(run(20, &holed, 500), [100, 400]);
    }

    #[test]
    fn one_part_is_no_two_when_an_edge_was_too_short_to_be_told() {
        assert_eq!(run(20, &[(true, 100), (true, 300), (false, 400)], 500), [100]);
        // Its way there was seen twice: it holds since the second.
        assert_eq!(run(20, &[(true, 100), (true, 110)], 500), [110]);
    }
}
