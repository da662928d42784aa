//! Listens, and bounds what comes: connections, the time for a request's head, its body.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::{Answers, Shared, control_routes, open_routes};

/// Connections at a time; one more waits to be accepted.
const CONNECTIONS_MAX: usize = 32;

/// Longest wait for the head of a request, on a connection that is kept, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest body, in bytes: nothing that is served takes one.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// How long an answer under way may take when the daemon ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}; {remedy}")]
pub struct WebError {
    what: String,
    why: io::Error,
    remedy: &'static str,
}

impl WebError {
    pub(super) fn new(what: String, why: io::Error, remedy: &'static str) -> WebError {
        WebError { what, why, remedy }
    }
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    socket: Option<PathBuf>,
    runtime: Handle,
}

impl Server {
    /// Serves nothing yet; on `runtime` it will.
    pub fn new(runtime: &Handle) -> Server {
        let stop = watch::Sender::new(false);
        Server { stop, socket: None, runtime: runtime.clone() }
    }

    /// Serves metrics, health and state on `listener`.
    ///
    /// # Errors
    /// A socket that the system cannot watch.
    pub fn serve_open(
        &self,
        listener: TcpListener,
        answers: Arc<dyn Answers>,
    ) -> Result<(), WebError> {
        let failed = |why| WebError {
            what: "metrics and health cannot be served".into(),
            why,
            remedy: "see `listen` in [web]",
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let _inside = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        self.accept(listener, router(open_routes(), answers));
        Ok(())
    }

    /// Serves the same and commands on a socket file at `path`, for its owner and group.
    ///
    /// # Errors
    /// A path that is too long for a socket, or a folder that cannot be written.
    pub fn serve_control(
        &mut self,
        path: &Path,
        answers: Arc<dyn Answers>,
    ) -> Result<(), WebError> {
        let failed = |why| WebError {
            what: format!("commands cannot be taken on {}", path.display()),
            why,
            remedy: "use a folder for the database that can be written, with a path of up to 90 characters",
        };
        // One that is left of a run that was cut off: whoever holds the record's lock owns the path.
        match fs::remove_file(path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
            _ => {}
        }
        let _inside = self.runtime.enter();
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        self.socket = Some(path.to_owned());
        self.accept(listener, router(control_routes(), answers));
        Ok(())
    }

    fn accept<L: Listener>(&self, mut listener: L, router: Router)
    where
        L::Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut stop = self.stop.subscribe();
        self.runtime.spawn(async move {
            let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
                // It waits by itself after what went wrong, such as too many open files.
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.changed() => return,
                };
                serve_one(stream, router.clone(), permit, stop.clone());
            }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(path) = &self.socket {
            // The next run removes what is left.
            let _ = fs::remove_file(path);
        }
    }
}

fn router(routes: Router<Shared>, answers: Arc<dyn Answers>) -> Router {
    routes.layer(DefaultBodyLimit::max(BODY_MAX_BYTES)).with_state(answers)
}

fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    permit: tokio::sync::OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    tokio::spawn(async move {
        let _permit = permit;
        let service = TowerToHyperService::new(router);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // A client that goes away, or speaks no HTTP, is its own business.
            _ = connection.as_mut() => {}
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(LAST_WORDS, connection).await;
            }
        }
    });
}
