//! A real PostgreSQL on loopback that a test may crash and start again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use inspectd::credential::Source;
use inspectd::upstream::UpstreamOptions;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::mosquitto::{DEADLINE, free_port};
use super::records::DEVICE;

/// The password of every role.
pub const PASSWORD: &str = "correct-horse-7";

/// The role that copies.
pub const ROLE: &str = "inspectd";

/// A server of its own, with a database and a role that may make tables in it.
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Postgres {
    /// Starts one without encryption.
    pub fn start() -> Postgres {
        Postgres::configured(|_| String::new())
    }

    /// As [`Postgres::start`], with more lines in its configuration; `lines` may put files beside it.
    pub fn configured(lines: impl FnOnce(&Path) -> String) -> Postgres {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("password"), PASSWORD).expect("written");
        let lines = lines(folder.path());
        give_away(folder.path());
        let data = folder.path().join("data");
        let made = program("initdb")
            .args(["-A", "scram-sha-256", "-U", "postgres", "-E", "UTF8", "--no-locale", "-N"])
            .arg("--pwfile")
            .arg(folder.path().join("password"))
            .arg("-D")
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Another process may take the port between here and the server's start: try again then.
        for _ in 0..10 {
            let port = free_port();
            let text = format!(
                "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
                 fsync = off\nfull_page_writes = off\nshared_buffers = 16MB\nmax_connections = 20\n{lines}\n",
                folder.path().display()
            );
            fs::write(data.join("postgresql.conf"), text).expect("written");
            if let Some(child) = launch(folder.path(), port) {
                let server = Postgres { folder, port, child };
                server.sql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"));
                server.sql("CREATE DATABASE inspectd");
                server.sql(&format!("GRANT CREATE ON DATABASE inspectd TO {ROLE}"));
                return server;
            }
        }
        panic!("PostgreSQL did not start on any of 10 ports");
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder: that of its socket file, too.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it as a crash does: nothing is taken into the database, and nobody is told.
    pub fn crash(&mut self) {
        end(&mut self.child);
    }

    /// Starts it again on the same port, with what it had.
    pub fn restart(&mut self) {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(child) = launch(self.folder.path(), self.port) {
                self.child = child;
                return;
            }
        }
        panic!("PostgreSQL did not start again on port {}", self.port);
    }

    /// Runs SQL as the administrator; answers the rows, each value as text, `NULL` for none.
    pub fn sql(&self, text: &str) -> Vec<Vec<String>> {
        self.ask("postgres", text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    /// The first value of the first row.
    pub fn value(&self, text: &str) -> String {
        self.sql(text).first().and_then(|row| row.first()).cloned().unwrap_or_default()
    }

    /// Runs SQL as `role`.
    pub fn ask(&self, role: &str, text: &str) -> Result<Vec<Vec<String>>, String> {
        let folder = self.folder.path().display();
        // The database of the administrator, until there is ours.
        let database = if text.contains("DATABASE") || text.contains("ROLE") {
            "postgres"
        } else {
            "inspectd"
        };
        let with = format!(
            "host={folder} port={} user={role} password={PASSWORD} dbname={database}",
            self.port
        );
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let told = |why: tokio_postgres::Error| match why.as_db_error() {
            Some(told) => told.message().to_owned(),
            None => why.to_string(),
        };
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&with, NoTls).await.map_err(told)?;
            tokio::spawn(connection);
            let messages = client.simple_query(text).await.map_err(told)?;
            let rows = messages.into_iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let texts = rows.map(|row| {
                let value = |at| row.get(at).unwrap_or("NULL").to_owned();
                (0..row.len()).map(value).collect()
            });
            Ok(texts.collect())
        })
    }

    /// How to copy the log in `dir` there, quick to try again; without encryption.
    pub fn options(&self, dir: &Path) -> UpstreamOptions {
        let file = dir.join("pg.password");
        fs::write(&file, format!("{PASSWORD}\n")).expect("written");
        let mut options = UpstreamOptions::new("127.0.0.1", DEVICE, &dir.join("inspectd.db"));
        options.port = self.port;
        options.password = Some(Source::File(file));
        options.backoff_min = Duration::from_millis(50);
        options.backoff_max = Duration::from_millis(200);
        options
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// SIGQUIT is its immediate end: its processes end with it, which SIGKILL would leave alive for a while.
fn end(child: &mut Child) {
    if child.try_wait().is_ok_and(|status| status.is_some()) {
        return;
    }
    let pid = libc::pid_t::try_from(child.id()).expect("a process number");
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(pid, libc::SIGQUIT) };
    let _ = child.wait();
}

/// A program of the server, as somebody that it agrees to run as: it refuses root.
fn program(name: &str) -> Command {
    let newest = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = newest.map(|entry| entry.path().join("bin").join(name)).filter(|it| it.exists());
    let mut command = Command::new(newest.max().unwrap_or_else(|| PathBuf::from(name)));
    if let Some((uid, gid)) = other_user() {
        command.uid(uid).gid(gid);
    }
    // Its folder may be one that the other user cannot enter.
    command.current_dir("/");
    command
}

/// `nobody`, if these tests run as root.
fn other_user() -> Option<(u32, u32)> {
    // SAFETY: it only asks.
    let is_root = unsafe { libc::geteuid() } == 0;
    is_root.then_some((65534, 65534))
}

/// Gives the folder and the files in it to the user that the server runs as.
fn give_away(folder: &Path) {
    let Some((uid, gid)) = other_user() else { return };
    chown(folder, Some(uid), Some(gid)).expect("root may");
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        chown(entry.path(), Some(uid), Some(gid)).expect("root may");
        // A private key that others may read is refused.
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600)).expect("root may");
    }
}

/// `None` if it ended before it took connections.
fn launch(folder: &Path, port: u16) -> Option<Child> {
    let log = fs::File::options().create(true).append(true).open(folder.join("log"));
    let mut child = program("postgres")
        .arg("-D")
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(log.expect("a file"))
        .spawn()
        .expect("these tests need PostgreSQL: install the package postgresql");
    let until = Instant::now() + DEADLINE;
    let ready = |folder: &Path| {
        let line = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        line.lines().nth(7).is_some_and(|state| state.trim() == "ready")
            && line.lines().nth(3) == Some(&port.to_string())
    };
    while Instant::now() < until {
        if child.try_wait().expect("a child can be asked").is_some() {
            return None;
        }
        if ready(folder) {
            return Some(child);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    end(&mut child);
    panic!("PostgreSQL does not listen on port {port}:\n{log}");
}
