//! What stands in the place of segments when GStreamer is not compiled in: the same names, and a clear
//! answer.

use std::path::Path;
use std::sync::Arc;

use super::index::Look;
use super::{FootageError, Quality};
use crate::frame::Frame;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Pixels(Quality),
    Jpeg,
}

pub(super) fn check(_coding: Coding) -> Result<(), FootageError> {
    Err(FootageError::NotCompiledIn)
}

pub(super) enum Pixels {
    Frame(#[expect(dead_code)] Arc<Frame>),
    Jpeg(#[expect(dead_code)] Arc<[u8]>),
}

#[derive(Debug)]
pub(super) struct Segment;

impl Segment {
    pub(super) fn create(
        _path: &Path,
        _coding: Coding,
        _look: &Look,
    ) -> Result<Segment, FootageError> {
        Err(FootageError::NotCompiledIn)
    }

    pub(super) fn push(&mut self, _pixels: &Pixels, _at_ns: u64) -> Result<(), FootageError> {
        Err(FootageError::NotCompiledIn)
    }

    pub(super) fn finish(self) -> Result<(), FootageError> {
        Err(FootageError::NotCompiledIn)
    }
}
