//! What stands in the place of GStreamer when it is not compiled in: the same names, and a clear
//! answer.

use std::sync::Arc;

use super::slot::Slot;
use super::{CameraError, Options};

pub(super) fn check(name: &str, _options: &Options) -> Result<(), CameraError> {
    Err(CameraError::NotCompiledIn { camera: name.to_owned() })
}

pub(super) fn start(name: &str, options: &Options, _slot: &Arc<Slot>) -> Result<(), CameraError> {
    check(name, options)
}
