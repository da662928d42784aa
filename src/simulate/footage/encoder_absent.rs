//! What stands in the place of the encoder when GStreamer is not compiled in.

use std::path::Path;

use super::{Container, FootageError};
use crate::simulate::belt::Belt;

pub(super) fn encode(
    _belt: &Belt,
    _container: Container,
    _path: &Path,
    _progress: &mut dyn FnMut(u64, u64),
) -> Result<(), FootageError> {
    Err(FootageError::NotCompiledIn)
}
