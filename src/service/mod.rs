//! What the service manager is told, and what it gives: readiness, state, watchdog, sockets.
//!
//! Without a service manager (`NOTIFY_SOCKET` is not set) nothing is told and nothing goes wrong.
//! The protocol is that of sd_notify(3) and sd_listen_fds(3).

mod restarts;

use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use sd_notify::NotifyState;

pub use restarts::Starts;

/// Longest status that is told, in bytes: one line of `systemctl status`.
const STATUS_MAX_BYTES: usize = 200;

/// All that can be done is done: units that wait for this one may start.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; ends with [`ready`].
pub fn reloading() {
    // The moment lets a newer systemd tell this answer from one to an earlier request.
    match NotifyState::monotonic_usec_now() {
        Ok(moment) => tell(&[NotifyState::Reloading, moment]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The end is near.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// What `systemctl status` shows of it: one line.
pub fn status(text: &str) {
    let mut line = text.replace(char::is_control, " ");
    while line.len() > STATUS_MAX_BYTES {
        line.pop();
    }
    tell(&[NotifyState::Status(&line)]);
}

/// The start goes on and needs up to `longer` from now.
pub fn needs_longer(longer: Duration) {
    let us = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(us)]);
}

/// Everything makes progress.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// After how long without [`alive`] the service manager ends this process; `None`: it does not watch.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "The service manager could not be told.");
    }
}

/// The TCP socket that the service manager opened under `name`, where it opened one. Each is handed out
/// once.
///
/// # Errors
/// A descriptor of that name that is no listening TCP socket.
pub fn take_listener(name: &str) -> Result<Option<TcpListener>, String> {
    let Some(fd) = take_fd(name) else { return Ok(None) };
    let listener = TcpListener::from(fd);
    listener.local_addr().map_err(|why| {
        format!("the service manager's socket \"{name}\" is no TCP socket ({why}); see ListenStream= in the socket unit")
    })?;
    Ok(Some(listener))
}

fn take_fd(name: &str) -> Option<OwnedFd> {
    static GIVEN: Mutex<Option<Vec<(OwnedFd, String)>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_with(|| {
        let Ok(all) = sd_notify::listen_fds_with_names() else { return Vec::new() };
        // SAFETY: the protocol hands these descriptors to this process, and they are taken here alone, once.
        all.map(|(fd, name)| (unsafe { OwnedFd::from_raw_fd(fd) }, name)).collect()
    });
    let at = given.iter().position(|(_, of)| of == name)?;
    Some(given.swap_remove(at).0)
}
