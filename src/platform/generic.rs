//! A machine without a camera connector of its own.

/// What to write in place of `csi`.
pub const NO_CONNECTOR: &str = "this machine has no camera connector that is known; write  device = \
                                \"/dev/video0\", uri, genicam or pipeline  instead";
