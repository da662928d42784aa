//! Pictures for parts that the line's controller asks for: each order gets its frame, or is given
//! back when none came in time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Stamp;
use crate::frame::Frame;

/// Which frame, and how long it may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOptions {
    /// Which frame.
    pub frame: WhichFrame,
    /// Longest wait for it; also the greatest age of a frame that was there before.
    pub wait: Duration,
}

impl Default for CommandOptions {
    fn default() -> CommandOptions {
        CommandOptions { frame: WhichFrame::Next, wait: Duration::from_secs(1) }
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
    newest: Option<Arc<Frame>>,
    waiting: VecDeque<(Stamp, T)>,
}

impl<T> Orders<T> {
    /// None yet.
    pub fn new(options: CommandOptions) -> Orders<T> {
        Orders { options, newest: None, waiting: VecDeque::new() }
    }

    /// Takes an order that arrived at `asked`. It comes back with its frame if that is there already.
    /// How many may wait is bounded by whoever accepts them.
    pub fn ask(&mut self, asked: Stamp, order: T) -> Option<(T, Arc<Frame>)> {
        let fits = |frame: &&Arc<Frame>| asked.since(&frame.captured) <= self.options.wait;
        match self.newest.as_ref().filter(fits) {
            Some(frame) => Some((order, Arc::clone(frame))),
            None => {
                self.waiting.push_back((asked, order));
                None
            }
        }
    }

    /// Looks at the next frame; answers the orders that it serves.
    pub fn see(&mut self, frame: &Arc<Frame>) -> Vec<(T, Arc<Frame>)> {
        if self.options.frame == WhichFrame::Newest {
            self.newest = Some(Arc::clone(frame));
        }
        let is_served = |asked: &Stamp| match self.options.frame {
            WhichFrame::Next => asked.monotonic_ns <= frame.captured.monotonic_ns,
            WhichFrame::Newest => true,
        };
        let mut served = Vec::new();
        while self.waiting.front().is_some_and(|(asked, _)| is_served(asked)) {
            let order = self.waiting.pop_front();
            served.extend(order.map(|(_, order)| (order, Arc::clone(frame))));
        }
        served
    }

    /// The orders that have waited too long at `now`.
    pub fn expire(&mut self, now: &Stamp) -> Vec<T> {
        let mut expired = Vec::new();
        while self.waiting.front().is_some_and(|(asked, _)| now.since(asked) > self.options.wait) {
            expired.extend(self.waiting.pop_front().map(|(_, order)| order));
        }
        expired
    }

    /// The camera is lost: what it showed before is not what is there now.
    pub fn forget_frame(&mut self) {
        self.newest = None;
    }

    /// No frame will come any more: all that wait.
    pub fn give_up(&mut self) -> Vec<T> {
        self.waiting.drain(..).map(|(_, order)| order).collect()
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
        Orders::new(CommandOptions { frame, wait: Duration::from_millis(100) })
    }

    fn served(found: Vec<(u32, Arc<Frame>)>) -> Vec<(u32, u64)> {
        found.into_iter().map(|(order, frame)| (order, frame.sequence)).collect()
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
        assert_eq!((order, shown.sequence), (2, 5));
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
        assert!(orders.expire(&at(110)).is_empty());
        assert_eq!(orders.expire(&at(111)), [1]);
        assert_eq!(served(orders.see(&frame(112))), [(2, 112)]);
    }
}
