//! The lines of a photo eye and its encoder, on a GPIO chip of the kernel.
//!
//! The kernel stamps an edge when it interrupts, by `CLOCK_MONOTONIC`, which is the clock of frames,
//! too: nothing has to be converted. It keeps what nobody has read yet, drops the oldest when that is
//! too much, and numbers all, so that what was dropped is known.

use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind, EventClock};

use super::gpio::CONSUMER;
use crate::clock::{Clock, SystemClock};
use crate::trigger::photo_eye::{Edge, PhotoEyeOptions, Pull, Wire};

/// Edges that the kernel keeps until they are read: the most that it will.
const KEPT_EDGES: u32 = 1024;

/// Edges that are read at once.
const READ_EDGES: usize = 64;

/// An edge that is stamped earlier than so was not stamped by our clock.
const AGE_MAX_NS: u64 = 60_000_000_000;

/// Lines whose edges are told. Dropped, they are given back.
pub trait Edges: Send {
    /// Waits for edges, but not longer than `at_most`; in their order.
    ///
    /// # Errors
    /// Why none will come any more.
    fn read(&mut self, at_most: Duration) -> Result<Vec<Edge>, String>;
}

/// Requests the lines of `options` from the kernel.
///
/// # Errors
/// Why they cannot be had, with the chip's name.
pub(super) fn open(options: &PhotoEyeOptions) -> Result<Box<dyn Edges>, String> {
    let mut builder = Request::builder();
    builder.on_chip(&options.chip).with_consumer(CONSUMER);
    builder.with_kernel_event_buffer_size(KEPT_EDGES);
    let bias = match options.pull {
        Pull::AsIs => None,
        Pull::Up => Some(Bias::PullUp),
        Pull::Down => Some(Bias::PullDown),
        Pull::None => Some(Bias::Disabled),
    };
    let wires = [(Some(options.line), EdgeDetection::BothEdges)]
        .into_iter()
        .chain([(options.encoder_line(), EdgeDetection::RisingEdge)]);
    for (line, edges) in wires {
        let Some(line) = line else { continue };
        builder.with_line(line).as_input().with_bias(bias).with_edge_detection(edges);
        builder.with_event_clock(EventClock::Monotonic);
    }
    let lines: Vec<String> = options.lines().map(|line| line.to_string()).collect();
    let request = builder.request().map_err(|why| {
        format!("line {} of {}: {why}", lines.join(" and "), options.chip.display())
    })?;
    let buffer = vec![0; READ_EDGES * request.edge_event_u64_size()];
    Ok(Box::new(KernelEdges { request, eye: options.line, buffer }))
}

struct KernelEdges {
    request: Request,
    eye: u32,
    buffer: Vec<u64>,
}

impl Edges for KernelEdges {
    fn read(&mut self, at_most: Duration) -> Result<Vec<Edge>, String> {
        let text = |why: gpiocdev::Error| why.to_string();
        if !self.request.wait_edge_event(at_most).map_err(text)? {
            return Ok(Vec::new());
        }
        let words = self.request.read_edge_events_into_slice(&mut self.buffer).map_err(text)?;
        let words = self.buffer.get(..words).unwrap_or_default();
        let now_ns = SystemClock.now().monotonic_ns;
        let edge = |words: &[u64]| {
            let event = self.request.edge_event_from_slice(words).map_err(text)?;
            check_clock(event.timestamp_ns, now_ns)?;
            Ok(Edge {
                wire: if event.offset == self.eye { Wire::Eye } else { Wire::Encoder },
                is_rising: event.kind == EdgeKind::Rising,
                at_ns: event.timestamp_ns,
                sequence: event.line_seqno,
            })
        };
        words.chunks_exact(self.request.edge_event_u64_size()).map(edge).collect()
    }
}

/// Whether an edge's stamp is one of our clock: in a container with a clock of its own it is not, and
/// every part would get a wrong picture.
fn check_clock(at_ns: u64, now_ns: u64) -> Result<(), String> {
    if at_ns <= now_ns && now_ns - at_ns <= AGE_MAX_NS {
        return Ok(());
    }
    let off_s = (i128::from(at_ns) - i128::from(now_ns)) / 1_000_000_000;
    Err(format!(
        "the kernel's edges are stamped {off_s} s off this program's clock: run it without a time \
         namespace of its own"
    ))
}

/// Whether the chip is there and has the lines `lines`; nothing is requested.
///
/// # Errors
/// What is missing.
pub fn check(options: &PhotoEyeOptions) -> Result<(), String> {
    super::gpio::check_chip(&options.chip, options.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_of_another_clock_is_refused() {
        assert_eq!(check_clock(5, 5), Ok(()));
        assert_eq!(check_clock(0, AGE_MAX_NS), Ok(()));
        for (at_ns, now_ns) in [(6, 5), (0, AGE_MAX_NS + 1), (u64::MAX, 0), (1, u64::MAX)] {
            assert!(check_clock(at_ns, now_ns).is_err_and(|why| why.contains("time namespace")));
        }
    }
}
