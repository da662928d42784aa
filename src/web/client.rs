//! Asks a running daemon over its socket file.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Longest answer, in bytes.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// Why a running daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None runs with this configuration.
    #[error(
        "no daemon answers on {path}: {why}; is it running (`systemctl status inspectd`), with this \
         configuration?"
    )]
    NotRunning {
        /// The socket file.
        path: String,
        /// What the system said.
        why: io::Error,
    },
    /// The socket is somebody else's.
    #[error(
        "{path} may not be opened: {why}; run this as root or as a member of the group inspectd"
    )]
    NotAllowed {
        /// The socket file.
        path: String,
        /// What the system said.
        why: io::Error,
    },
    /// It took too long.
    #[error("the daemon did not answer within {0} s")]
    Late(u64),
    /// The answer broke off.
    #[error("the daemon's answer broke off: {0}")]
    Broken(String),
}

/// Asks for `path` over the socket file `socket`; answers the status and the body.
///
/// # Errors
/// When nobody answers within `timeout`.
pub fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Vec<u8>), ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| ClientError::Broken(why.to_string()))?;
    let asked = async { tokio::time::timeout(timeout, ask_once(socket, method, path)).await };
    runtime.block_on(asked).unwrap_or(Err(ClientError::Late(timeout.as_secs())))
}

async fn ask_once(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<(u16, Vec<u8>), ClientError> {
    let broken = |why: &dyn std::fmt::Display| ClientError::Broken(why.to_string());
    let stream = UnixStream::connect(socket).await.map_err(|why| {
        let path = socket.display().to_string();
        match why.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path, why },
            _ => ClientError::NotRunning { path, why },
        }
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|why| broken(&why))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|why| broken(&why))?;
    let response = sender.send_request(request).await.map_err(|why| broken(&why))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    Ok((status, body.map_err(|why| broken(&why))?.to_bytes().to_vec()))
}
