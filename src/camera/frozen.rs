//! Tells a camera that repeats one picture from one that looks at a scene that stands still: noise
//! moves the last bits of every real picture, and a repeated one is equal to the byte.

use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};

use crate::frame::Picture;

/// Of so many bytes one is looked at; a prime, so that columns and colours take turns.
const STRIDE: usize = 97;

/// What was seen last, and since when. It outlives a pipeline: the picture of a camera that was
/// opened anew because it froze is still the old one.
#[derive(Debug)]
pub(super) struct Freshness {
    limit: Duration,
    last: Option<(u64, Instant)>,
    /// For how long the picture has been the same, once that is too long.
    frozen: Option<Duration>,
}

impl Freshness {
    /// A picture that is repeated for longer than `limit` is frozen.
    pub(super) fn new(limit: Duration) -> Freshness {
        Freshness { limit, last: None, frozen: None }
    }

    /// Looks at a picture that came at `now`; `true`: it is frozen.
    pub(super) fn look(&mut self, picture: &Picture, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        hasher.write_u32(picture.width());
        hasher.write_u32(picture.height());
        let sample: Vec<u8> = picture.bytes().iter().step_by(STRIDE).copied().collect();
        hasher.write(&sample);
        let digest = hasher.finish();
        match self.last {
            Some((last, since)) if last == digest => {
                let same = now.duration_since(since);
                self.frozen = (same >= self.limit).then_some(same);
            }
            _ => {
                self.last = Some((digest, now));
                self.frozen = None;
            }
        }
        self.frozen.is_some()
    }

    /// For how long the picture has been the same, if that is too long; told once until the next
    /// picture, so that whoever opens the camera anew is not told of the old one.
    pub(super) fn frozen(&mut self) -> Option<Duration> {
        self.frozen.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Rgb8;

    fn rgb(level: u8) -> Rgb8 {
        let mut picture = Rgb8::new(64, 48);
        picture.data.fill(level);
        picture
    }

    fn picture(level: u8) -> Picture {
        rgb(level).into()
    }

    #[test]
    fn a_picture_is_frozen_when_it_has_been_the_same_for_the_limit() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut freshness = Freshness::new(Duration::from_millis(500));
        assert!(!freshness.look(&picture(10), at(0)));
        assert!(!freshness.look(&picture(10), at(499)));
        assert!(freshness.look(&picture(10), at(500)));
        assert!(freshness.look(&picture(10), at(9_000)), "and stays so");
        assert!(!freshness.look(&picture(11), at(9_100)), "until it changes");
        assert!(!freshness.look(&picture(11), at(9_599)));
    }

    #[test]
    fn one_pixel_that_moves_is_seen_by_somebody_who_looks_at_noise() {
        let mut freshness = Freshness::new(Duration::ZERO);
        let start = Instant::now();
        let mut other = rgb(10);
        other.data[STRIDE * 3] = 11;
        assert!(!freshness.look(&picture(10), start));
        assert!(!freshness.look(&other.into(), start));
    }
}
