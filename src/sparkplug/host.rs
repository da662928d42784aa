//! The primary host: nothing is told while it does not listen.

use serde::Deserialize;

use super::topics;

/// Longest STATE payload that is looked at, in bytes.
const STATE_MAX_BYTES: usize = 1024;

/// What a host says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct StateMessage {
    online: bool,
    /// Milliseconds since 1970: of its connection, not of this message.
    timestamp: u64,
}

/// What a message on the host's topic means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The host listens.
    Online,
    /// It does not.
    Offline,
    /// An older message than one that was heard before: it says nothing about now.
    Outdated,
}

/// The one host for whom the edge node exists.
///
/// The time of the newest message outlives connections, so that an old message that arrives late is
/// known as one. Whether the host is online must be heard anew on each connection.
#[derive(Clone, Debug)]
pub struct PrimaryHost {
    topic: String,
    newest_ms: Option<u64>,
    online: bool,
}

impl PrimaryHost {
    /// The host of this id, of which nothing was heard.
    pub fn new(id: &str) -> PrimaryHost {
        PrimaryHost { topic: topics::host_state(id), newest_ms: None, online: false }
    }

    /// Where it says whether it is online.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether it was heard to be online on this connection.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// A connection begins or ends: what was heard counts no longer.
    pub fn forget(&mut self) {
        self.online = false;
    }

    /// Takes a message from its topic. An error if it is none; then nothing changes.
    pub fn hear(&mut self, payload: &[u8]) -> Result<Heard, String> {
        if payload.len() > STATE_MAX_BYTES {
            return Err(format!("{} bytes, {STATE_MAX_BYTES} at most", payload.len()));
        }
        let said: StateMessage = serde_json::from_slice(payload).map_err(|why| why.to_string())?;
        if self.newest_ms.is_some_and(|newest| said.timestamp < newest) {
            return Ok(Heard::Outdated);
        }
        self.newest_ms = Some(said.timestamp);
        self.online = said.online;
        Ok(if said.online { Heard::Online } else { Heard::Offline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(online: bool, timestamp: u64) -> Vec<u8> {
        format!("{{\"online\":{online},\"timestamp\":{timestamp}}}").into_bytes()
    }

    #[test]
    fn only_what_is_not_older_than_the_newest_counts() {
        let mut host = PrimaryHost::new("scada");
        assert_eq!(host.topic(), "spBv1.0/STATE/scada");
        for (online, timestamp, heard) in [
            (true, 100, Heard::Online),
            (false, 99, Heard::Outdated),
            (false, 100, Heard::Offline),
            (true, 99, Heard::Outdated),
            (true, 100, Heard::Online),
        ] {
            assert_eq!(host.hear(&said(online, timestamp)), Ok(heard), "{online} {timestamp}");
        }
        assert!(host.is_online());
        host.forget();
        assert!(!host.is_online(), "to be heard anew");
        assert_eq!(host.hear(&said(true, 99)), Ok(Heard::Outdated), "times are remembered");
    }

    #[test]
    fn what_is_no_state_changes_nothing() {
        let mut host = PrimaryHost::new("scada");
        host.hear(&said(true, 5)).expect("good");
        let long = format!("{{\"online\":false,\"timestamp\":6,\"x\":\"{}\"}}", "x".repeat(2000));
        for bad in
            ["ONLINE", "", "{}", r#"{"online":false}"#, r#"{"online":0,"timestamp":6}"#, &long]
        {
            assert!(host.hear(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(host.is_online());
        assert_eq!(host.hear(br#"{"online":true,"timestamp":6,"more":1}"#), Ok(Heard::Online));
    }
}
