//! What the daemon serves over HTTP: metrics, health and its state on an address, and the same with
//! commands on a socket file that only its own user and group can open.
//!
//! Nothing of a part's picture or serial is served on the address; whoever may reach it may read it.

pub mod client;
mod server;
pub mod status;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

pub use server::{Server, WebError};
use status::Status;

/// Where metrics and health are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The address, or one that any interface has (`0.0.0.0`).
    pub listen: SocketAddr,
}

impl Default for Options {
    fn default() -> Options {
        Options { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9480)) }
    }
}

/// What is wrong now; nothing: the daemon inspects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Threads that make no progress.
    pub hung: Vec<String>,
    /// Why parts are not inspected, or not as they should be: a station in fault, a lost camera.
    pub not_ready: Vec<String>,
    /// What a person should see to while inspection goes on: a broker that is away, a disk that fills.
    pub degraded: Vec<String>,
}

impl Health {
    /// Every thread makes progress.
    pub fn is_alive(&self) -> bool {
        self.hung.is_empty()
    }

    /// Every station inspects.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.not_ready.is_empty()
    }
}

/// Answers what is asked. Calls may block on the disk.
pub trait Answers: Send + Sync + 'static {
    /// What is wrong.
    fn health(&self) -> Health;
    /// Everything at this moment.
    fn status(&self) -> Status;
    /// Metrics, as Prometheus reads them (OpenMetrics text 1.0).
    fn metrics(&self) -> String;
    /// Reads the configuration again; answers what is another now.
    ///
    /// # Errors
    /// Why it was refused.
    fn reload(&self) -> Result<Vec<String>, String>;
}

/// Opens the address of `options`.
///
/// # Errors
/// An address that is not this machine's, or taken.
pub fn listen(options: &Options) -> Result<TcpListener, WebError> {
    TcpListener::bind(options.listen).map_err(|why| {
        let what = format!("metrics and health cannot be served on {}", options.listen);
        WebError::new(
            what,
            why,
            "write a `listen` in [web] that is an address of this device and a free port",
        )
    })
}

/// The file of the socket that takes commands, for the daemon with this database.
pub fn control_path(database: &Path) -> PathBuf {
    database.parent().unwrap_or(Path::new("")).join("control.sock")
}

type Shared = Arc<dyn Answers>;

/// What anybody may ask.
fn open_routes() -> Router<Shared> {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/status", get(state))
}

/// What the service's own user and group may ask, too.
fn control_routes() -> Router<Shared> {
    open_routes().route("/reload", post(reload))
}

async fn index() -> &'static str {
    "inspectd\n\n/metrics       for Prometheus\n/health/live   200 while every thread makes progress\n\
     /health/ready  200 while every station inspects\n/status        the state, as JSON\n"
}

/// Asks on a thread that may block.
async fn ask<T: Send + 'static>(
    answers: Shared,
    question: impl FnOnce(&dyn Answers) -> T + Send + 'static,
) -> Result<T, Response> {
    let asked = tokio::task::spawn_blocking(move || question(&*answers)).await;
    asked.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the answer failed\n").into_response())
}

async fn metrics(State(answers): State<Shared>) -> Result<Response, Response> {
    let text = ask(answers, |it| it.metrics()).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn live(State(answers): State<Shared>) -> Result<Response, Response> {
    let health = ask(answers, |it| it.health()).await?;
    Ok(told(health.is_alive(), health))
}

async fn ready(State(answers): State<Shared>) -> Result<Response, Response> {
    let health = ask(answers, |it| it.health()).await?;
    Ok(told(health.is_ready(), health))
}

fn told(good: bool, health: Health) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn state(State(answers): State<Shared>) -> Result<Response, Response> {
    Ok(Json(ask(answers, |it| it.status()).await?).into_response())
}

/// The answer to `POST /reload`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is another now; empty: nothing differed.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Why the old configuration goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

async fn reload(State(answers): State<Shared>) -> Result<Response, Response> {
    let answer = match ask(answers, |it| it.reload()).await? {
        Ok(changed) => (StatusCode::OK, Reloaded { changed, refused: None }),
        Err(why) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Reloaded { changed: Vec::new(), refused: Some(why) })
        }
    };
    Ok((answer.0, Json(answer.1)).into_response())
}
