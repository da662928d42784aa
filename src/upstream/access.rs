//! One connection: its files, its log-in, and the bounds that hold for every statement on it.

use std::future::{Future, poll_fn};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, Config, Connection, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{self, UpstreamError};
use super::options::UpstreamOptions;
use crate::credential;
use crate::publish::tls::client_config;

/// How much longer than the server the device waits for a statement: the server says why it gave up.
const GRACE: Duration = Duration::from_secs(5);

/// How long a connection is silent before it is tried.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A connection that is logged in. When it is dropped it ends.
pub struct Link {
    /// For statements.
    pub client: Client,
    /// What it was made with.
    pub options: UpstreamOptions,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects, and logs in. Passwords and certificates are read anew each time.
    pub async fn open(options: &UpstreamOptions) -> Result<Link, UpstreamError> {
        let config = config(options)?;
        let seconds = options.connect_timeout.as_secs();
        let opened = tokio::time::timeout(options.connect_timeout, async {
            match &options.tls {
                None => connect(&config, NoTls).await,
                Some(tls) => {
                    let tls = MakeRustlsConnect::new(client_config(tls)?);
                    connect(&config, tls).await
                }
            }
            .map_err(|why| error::connecting(&why, options))
        });
        let (client, driver) = opened.await.map_err(|_| UpstreamError::Connect {
            place: options.place(),
            why: format!("no answer within {seconds} s; see address, network and firewall"),
        })??;
        let link = Link { client, options: options.clone(), driver };
        link.prepare_session().await?;
        Ok(link)
    }

    /// Waits for `work`, but not for ever.
    pub async fn within<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, UpstreamError> {
        within(&self.options, doing, work).await
    }

    /// Bounds that the server holds itself, so that what was cut off does not stay open there; and no
    /// name is looked up anywhere but where it is written.
    async fn prepare_session(&self) -> Result<(), UpstreamError> {
        let ms = self.options.statement_timeout.as_millis();
        let set = format!(
            "SET statement_timeout = {ms}; SET lock_timeout = {ms}; \
             SET idle_in_transaction_session_timeout = {ms}; SET search_path = pg_catalog; \
             SET client_min_messages = error"
        );
        self.within("begin a session", self.client.batch_execute(&set)).await?;
        let encoding = "SELECT current_setting('server_encoding')";
        let row = self.within("tell its encoding", self.client.query_one(encoding, &[])).await?;
        let encoding: String = value(&row, 0)?;
        match encoding.as_str() {
            "UTF8" => Ok(()),
            other => Err(UpstreamError::Connect {
                place: self.options.place(),
                why: format!(
                    "the database {} holds texts as {}; make one with  createdb -E UTF8",
                    self.options.database,
                    error::clean(other)
                ),
            }),
        }
    }
}

/// A value of `row`; what has another type than it should have is an error, as anybody may have made the table.
pub fn value<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, UpstreamError> {
    row.try_get(at).map_err(|why| {
        let why = error::clean(&why.to_string());
        UpstreamError::Conflict(format!(
            "PostgreSQL answers in another form than the tables of inspectd have: {why}"
        ))
    })
}

/// Waits for `work` as long as `options` allow a statement, and a little longer.
pub async fn within<T>(
    options: &UpstreamOptions,
    doing: &'static str,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, UpstreamError> {
    let most = options.statement_timeout + GRACE;
    match tokio::time::timeout(most, work).await {
        Ok(done) => done.map_err(|why| error::doing(doing, &why, options)),
        Err(_) => Err(UpstreamError::Late { doing, seconds: most.as_secs() }),
    }
}

fn config(options: &UpstreamOptions) -> Result<Config, UpstreamError> {
    let mut config = Config::new();
    config
        .host(&options.host)
        .port(options.port)
        .dbname(&options.database)
        .user(&options.user)
        .application_name(format!("inspectd {}", options.device))
        .connect_timeout(options.connect_timeout)
        .tcp_user_timeout(options.statement_timeout + GRACE)
        .keepalives_idle(KEEP_ALIVE)
        // What is configured holds: nothing is tried without encryption because it was refused with it.
        .ssl_mode(if options.tls.is_some() { SslMode::Require } else { SslMode::Disable });
    if let Some(source) = &options.password {
        config.password(credential::read(source)?.reveal());
    }
    Ok(config)
}

async fn connect<T>(
    config: &Config,
    tls: T,
) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    Ok((client, tokio::spawn(drive(connection))))
}

/// Moves bytes until the connection ends. Its errors come to whoever waits for an answer. Notices are
/// passed over: they are words of the server, of any length.
async fn drive<S, T>(mut connection: Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(_)) = poll_fn(|context| connection.poll_message(context)).await {}
}
