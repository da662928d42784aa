//! Why the daemon cannot start or go on, by what the operator has to look at.

use crate::camera::CameraError;
use crate::inspector::PrepareError;
use crate::store::StoreError;

/// Why the daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The model cannot be loaded, or a question does not fit it.
    #[error("{0}")]
    Model(String),
    /// The configuration asks for more than this machine gives.
    #[error("{0}")]
    Capacity(String),
    /// The audit log cannot be opened or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A camera cannot be opened.
    #[error("station \"{station}\": {source}")]
    Camera {
        /// The station.
        station: String,
        /// What the camera said.
        source: CameraError,
    },
    /// A hard output cannot be had as it is configured.
    #[error("{0}")]
    Output(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl DaemonError {
    /// An error of the model, as text.
    pub fn model(error: impl std::fmt::Display) -> DaemonError {
        DaemonError::Model(error.to_string())
    }
}

impl From<PrepareError> for DaemonError {
    fn from(error: PrepareError) -> DaemonError {
        DaemonError::model(error)
    }
}
