//! The program itself as a service manager runs it: with a notify socket, a watchdog and sockets.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::mosquitto::DEADLINE;
use super::station::Site;

/// A running `inspectd run`, killed on drop.
pub struct Service {
    child: Child,
    notify: mpsc::Receiver<String>,
    /// Everything that it has told the service manager.
    pub told: Vec<String>,
    config: PathBuf,
    log: PathBuf,
}

impl Service {
    /// Starts it for `site`; `watchdog`: how long it may be without a sign of life.
    pub fn start(site: &Site, watchdog: Option<Duration>, variables: &[(&str, &str)]) -> Service {
        Service::start_with(site, watchdog, variables, None)
    }

    /// The same without a watchdog, with these arguments.
    pub fn start_as(site: &Site, arguments: &[&str]) -> Service {
        Service::start_all(site, None, &[], None, arguments)
    }

    /// The same, with a listening socket from the service manager.
    pub fn start_with(
        site: &Site,
        watchdog: Option<Duration>,
        variables: &[(&str, &str)],
        web: Option<&TcpListener>,
    ) -> Service {
        Service::start_all(site, watchdog, variables, web, &[])
    }

    fn start_all(
        site: &Site,
        watchdog: Option<Duration>,
        variables: &[(&str, &str)],
        web: Option<&TcpListener>,
        arguments: &[&str],
    ) -> Service {
        let socket = site.dir.path().join("notify.sock");
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a notify socket");
        // Read at once, as a service manager does: a socket that nobody reads holds up whoever tells.
        let (tell, notified) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = notify.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if tell.send(text).is_err() {
                    return;
                }
            }
        });
        let mut command = Command::new("sh");
        // Both name the process that they are for, which only it knows.
        let names = "export WATCHDOG_PID=$$ LISTEN_PID=$$; exec \"$@\"";
        command.args(["-c", names, "sh"]);
        command.args([env!("CARGO_BIN_EXE_inspectd"), "run", "--config"]).arg(&site.file);
        command.args(arguments);
        command.env("NOTIFY_SOCKET", &socket).envs(variables.iter().copied());
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        if let Some(listener) = web {
            command.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")]);
            let fd = listener.as_raw_fd();
            // SAFETY: both calls are async-signal-safe and touch nothing of the parent.
            unsafe {
                command.pre_exec(move || {
                    // A descriptor that is copied onto itself would stay one that ends with exec.
                    let done =
                        if fd == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) };
                    if done == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
                });
            }
        }
        let log = site.dir.path().join("log");
        let stderr = File::create(&log).expect("a file");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().expect("it starts");
        Service { child, notify: notified, told: Vec::new(), config: site.file.clone(), log }
    }

    /// Waits until it has told the service manager a line that begins so; answers that line.
    pub fn wait_for(&mut self, beginning: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let before = self.told.len();
            self.hear(until.saturating_duration_since(Instant::now()));
            if let Some(line) = self.told[before..].iter().find(|it| it.starts_with(beginning)) {
                return line.clone();
            }
            if Instant::now() >= until || self.child.try_wait().expect("known").is_some() {
                let _ = self.child.kill();
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("never told {beginning}; told {:?}\n{log}", self.told);
            }
        }
    }

    /// Hears what it tells next, for as long as that; whether it told anything.
    pub fn hear(&mut self, wait: Duration) -> bool {
        let wait = wait.max(Duration::from_millis(1)).min(Duration::from_secs(1));
        let Ok(text) = self.notify.recv_timeout(wait) else { return false };
        self.told.extend(text.lines().map(str::to_owned));
        true
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid");
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends it in good order.
    pub fn stop(mut self) -> (ExitStatus, Vec<String>) {
        self.signal(libc::SIGTERM);
        let until = Instant::now() + DEADLINE;
        loop {
            self.hear(Duration::from_millis(50));
            if let Some(status) = self.child.try_wait().expect("known") {
                while self.hear(Duration::from_millis(1)) {}
                return (status, std::mem::take(&mut self.told));
            }
            assert!(Instant::now() < until, "it does not end");
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a fault point has killed it.
    #[cfg(feature = "fault-points")]
    pub fn wait_to_be_killed(&mut self) {
        use std::os::unix::process::ExitStatusExt as _;
        let until = Instant::now() + DEADLINE;
        loop {
            self.hear(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().expect("known") {
                assert_eq!(status.signal(), Some(libc::SIGKILL), "{status:?}");
                return;
            }
            assert!(Instant::now() < until, "the point was not met");
        }
    }

    /// Another command of the program about it, with its configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        command(&self.config, arguments)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of the program with the configuration at `config`.
pub fn command(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
    command.args(arguments).arg("--config").arg(config);
    command.output().expect("it runs")
}
