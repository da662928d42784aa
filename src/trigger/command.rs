//! Pictures for parts that the line's controller asks for: each order gets its frame, or is given
//! back when none came in time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::OptionsError;
use super::Shot;
use super::burst::{BURST_MAX, Burst, Focus};
use crate::clock::Stamp;
use crate::frame::Frame;

/// Which frame, and how long it may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOptions {
    /// Which frame.
    pub frame: WhichFrame,
    /// Longest wait for it; also the greatest age of a frame that was there before.
    pub wait: Duration,
    /// Of so many frames from that one on the sharpest is inspected; 1: that one.
    pub burst_frames: usize,
}

impl Default for CommandOptions {
    fn default() -> CommandOptions {
        let wait = Duration::from_secs(1);
        CommandOptions { frame: WhichFrame::Next, wait, burst_frames: 1 }
    }
}

impl CommandOptions {
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        match self.burst_frames {
            1..=BURST_MAX => Ok(()),
            other => {
                Err(OptionsError { name: "burst_frames", value: other as f64, expected: "1 to 16" })
            }
        }
    }
}

/// Which frame shows the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichFrame {
    /// The first one that was taken at or after the order's arrival.
    Next,
    /// The newest one that is there when the order arrives, else the next.
    Newest,
}

/// Orders that wait for their picture, in the order of their arrival.
#[derive(Debug)]
pub struct Orders<T> {
    options: CommandOptions,
    focus: Focus,
    newest: Option<Arc<Frame>>,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    asked: Stamp,
    order: T,
    burst: Burst,
}

/// The orders that have waited long enough.
#[derive(Debug)]
pub struct Expired<T> {
    /// Those for which fewer frames came than were to be compared: the sharpest of them.
    pub served: Vec<(T, Shot)>,
    /// Those for which none came.
    pub lost: Vec<T>,
}

impl<T> Orders<T> {
    /// None yet. Where there is a choice of frames they are compared in `focus`.
    pub fn new(options: CommandOptions, focus: Focus) -> Orders<T> {
        Orders { options, focus, newest: None, waiting: VecDeque::new() }
    }

    /// Takes an order that arrived at `asked`. It comes back with its frame if that is there already.
    /// How many may wait is bounded by whoever accepts them.
    pub fn ask(&mut self, asked: Stamp, order: T) -> Option<(T, Shot)> {
        let fits = |frame: &&Arc<Frame>| asked.since(&frame.captured) <= self.options.wait;
        let mut waiting = Waiting { asked, order, burst: Burst::new(self.options.burst_frames) };
        if let Some(frame) = self.newest.as_ref().filter(fits) {
            waiting.take(frame, &self.focus);
        }
        match waiting.is_served() {
            true => waiting.choose().ok(),
            false => {
                self.waiting.push_back(waiting);
                None
            }
        }
    }

    /// Looks at the next frame; answers the orders that it serves.
    pub fn see(&mut self, frame: &Arc<Frame>) -> Vec<(T, Shot)> {
        if self.options.frame == WhichFrame::Newest {
            self.newest = Some(Arc::clone(frame));
        }
        for waiting in &mut self.waiting {
            let is_for_it = match self.options.frame {
                WhichFrame::Next => waiting.asked.monotonic_ns <= frame.captured.monotonic_ns,
                WhichFrame::Newest => true,
            };
            if is_for_it {
                waiting.take(frame, &self.focus);
            }
        }
        let mut served = Vec::new();
        while self.waiting.front().is_some_and(Waiting::is_served) {
            served.extend(self.waiting.pop_front().and_then(|waiting| waiting.choose().ok()));
        }
        served
    }

    /// Other options and another focus hold from now on; what waits goes on waiting.
    pub fn adopt(&mut self, options: CommandOptions, focus: Focus) {
        (self.options, self.focus) = (options, focus);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The orders that have waited too long at `now`.
    pub fn expire(&mut self, now: &Stamp) -> Expired<T> {
        let mut expired = Expired { served: Vec::new(), lost: Vec::new() };
        let is_over = |next: &Waiting<T>| now.since(&next.asked) > self.options.wait;
        while self.waiting.front().is_some_and(is_over) {
            match self.waiting.pop_front().map(Waiting::choose) {
                Some(Ok(served)) => expired.served.push(served),
                Some(Err(order)) => expired.lost.push(order),
                None => {}
            }
        }
        expired
    }

    /// The camera is lost: what it showed before is not what is there now.
    pub fn forget_frame(&mut self) {
        self.newest = None;
    }

    /// No frame will come any more: all that wait.
    pub fn give_up(&mut self) -> Vec<T> {
        self.waiting.drain(..).map(|waiting| waiting.order).collect()
    }
}

impl<T> Waiting<T> {
    fn take(&mut self, frame: &Arc<Frame>, focus: &Focus) {
        // Frames come one after the other: of those that are as sharp the first one is the nearest.
        let off = frame.captured.monotonic_ns.abs_diff(self.asked.monotonic_ns);
        self.burst.offer(off as f64, frame, || focus.rect_in(frame));
    }

    fn is_served(&self) -> bool {
        self.burst.is_full()
    }

    fn choose(self) -> Result<(T, Shot), T> {
        match self.burst.choose() {
            Some(shot) => Ok((self.order, shot)),
            None => Err(self.order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Rgb8;

    fn at(ms: u64) -> Stamp {
        Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns: ms * 1_000_000 }
    }

    fn frame(ms: u64) -> Arc<Frame> {
        Arc::new(Frame {
            sequence: ms,
            camera: Arc::from("s1"),
            captured: at(ms),
            pipeline_ns: None,
            picture: Rgb8::new(1, 1).into(),
        })
    }

    fn orders(frame: WhichFrame) -> Orders<u32> {
        let wait = Duration::from_millis(100);
        Orders::new(CommandOptions { frame, wait, burst_frames: 1 }, Focus::default())
    }

    fn served(found: Vec<(u32, Shot)>) -> Vec<(u32, u64)> {
        found.into_iter().map(|(order, shot)| (order, shot.frame.sequence)).collect()
    }

    #[test]
    fn the_next_frame_is_never_older_than_the_order() {
        let mut orders = orders(WhichFrame::Next);
        assert!(orders.see(&frame(5)).is_empty());
        assert!(orders.ask(at(10), 1).is_none() && orders.ask(at(20), 2).is_none());
        assert!(orders.see(&frame(9)).is_empty(), "taken before, and late to arrive");
        assert_eq!(served(orders.see(&frame(10))), [(1, 10)]);
        assert_eq!(served(orders.see(&frame(33))), [(2, 33)]);
    }

    #[test]
    fn the_newest_frame_serves_at_once_unless_it_is_old() {
        let mut orders = orders(WhichFrame::Newest);
        assert!(orders.ask(at(1), 1).is_none(), "there is none yet");
        assert_eq!(served(orders.see(&frame(5))), [(1, 5)]);
        let (order, shown) = orders.ask(at(105), 2).expect("just young enough");
        assert_eq!((order, shown.frame.sequence), (2, 5));
        assert!(orders.ask(at(106), 3).is_none());
        assert_eq!(served(orders.see(&frame(107))), [(3, 107)]);
        orders.forget_frame();
        assert!(orders.ask(at(108), 4).is_none());
        assert_eq!(orders.give_up(), [4]);
    }

    #[test]
    fn an_order_without_a_frame_comes_back() {
        let mut orders = orders(WhichFrame::Next);
        orders.ask(at(10), 1);
        orders.ask(at(60), 2);
        assert!(orders.expire(&at(110)).lost.is_empty());
        assert_eq!(orders.expire(&at(111)).lost, [1]);
        assert_eq!(served(orders.see(&frame(112))), [(2, 112)]);
    }

    #[test]
    fn a_burst_waits_for_its_frames_and_is_served_with_fewer_when_time_is_over() {
        let wait = Duration::from_millis(100);
        for (which, first) in [(WhichFrame::Next, 20), (WhichFrame::Newest, 5)] {
            let options = CommandOptions { frame: which, wait, burst_frames: 3 };
            let mut orders = Orders::new(options, Focus::default());
            orders.see(&frame(5));
            assert!(orders.ask(at(10), 1).is_none() && orders.ask(at(12), 2).is_none());
            assert!(orders.see(&frame(20)).is_empty());
            let found = [orders.see(&frame(30)), orders.see(&frame(40))].concat();
            assert_eq!(served(found), [(1, first), (2, if first == 5 { 5 } else { 20 })]);
            assert!(orders.ask(at(48), 3).is_none() && orders.ask(at(95), 4).is_none());
            orders.see(&frame(60));
            let expired = orders.expire(&at(149));
            let nearest = if first == 5 { 40 } else { 60 };
            assert_eq!((served(expired.served), expired.lost.len()), (vec![(3, nearest)], 0));
            assert_eq!(orders.give_up(), [4]);
        }
    }
}
