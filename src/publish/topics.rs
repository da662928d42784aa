//! Names and topics: where a message goes.
//!
//! | topic                                 | sent                         | retained |
//! |---------------------------------------|------------------------------|----------|
//! | `{prefix}/{device}/{station}/result`    | each result                  | no       |
//! | `{prefix}/{device}/{station}/last`      | the newest result            | yes      |
//! | `{prefix}/{device}/{station}/state`     | what the station is doing    | yes      |
//! | `{prefix}/{device}/{station}/pending`   | the oldest result that waits to be acknowledged | yes |
//! | `{prefix}/{device}/{station}/camera`    | how its camera is            | yes      |
//! | `{prefix}/{device}/{station}/event`     | a step of one inspection     | no       |
//! | `{prefix}/{device}/{station}/cmd/{name}` | to us: a command             | –        |
//! | `{prefix}/{device}/heartbeat`           | the program runs             | no       |
//! | `{prefix}/{device}/chain`               | the newest link of the record | yes     |
//! | `{prefix}/{device}/status`              | online, offline, will        | yes      |
//! | `{prefix}/{device}/schema/{name}`       | the JSON Schema of a payload | yes      |
//!
//! State, event, command, heartbeat may stand below a station or below the device.

/// Longest name of a device or a station, and longest level of the prefix, in characters.
pub const NAME_MAX_CHARS: usize = 64;

/// Most levels of the prefix.
const PREFIX_MAX_LEVELS: usize = 8;

/// A name that cannot be a level of a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" cannot be part of a topic: {why}")]
pub struct NameError {
    /// The name, with anything unprintable escaped.
    pub name: String,
    /// What is wrong with it, and what is allowed.
    pub why: String,
}

/// Checks a device's or a station's name: one level of a topic, 1 to [`NAME_MAX_CHARS`] characters,
/// without `/`, `+`, `#`, white space or control characters, and not beginning with `$`.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let chars = name.chars().count();
    let foreign = name.chars().find(|&c| {
        matches!(c, '/' | '+' | '#' | '\u{fffd}') || c.is_whitespace() || c.is_control()
    });
    let why = if chars == 0 {
        "it is empty".to_owned()
    } else if chars > NAME_MAX_CHARS {
        format!("it has {chars} characters, {NAME_MAX_CHARS} at most")
    } else if let Some(found) = foreign {
        format!("it holds {found:?}; use letters, digits, - and _")
    } else if name.starts_with('$') {
        "it begins with $, which brokers keep for themselves".to_owned()
    } else {
        return Ok(());
    };
    let name = name.escape_debug().take(2 * NAME_MAX_CHARS).collect();
    Err(NameError { name, why })
}

/// Checks a station's name: that of a device, and none that the device's own topics use.
pub fn check_station(name: &str) -> Result<(), NameError> {
    check_name(name)?;
    if ["cmd", "schema"].contains(&name) {
        let why = "the device's own topics use it".to_owned();
        return Err(NameError { name: name.to_owned(), why });
    }
    Ok(())
}

/// Checks a prefix: 1 to 8 names with `/` between them.
pub fn check_prefix(prefix: &str) -> Result<(), NameError> {
    let levels = prefix.split('/').count();
    if levels > PREFIX_MAX_LEVELS {
        let why = format!("it has {levels} levels, {PREFIX_MAX_LEVELS} at most");
        return Err(NameError { name: prefix.chars().take(NAME_MAX_CHARS).collect(), why });
    }
    prefix.split('/').try_for_each(check_name)
}

/// What a message is. Decides its topic, its schema, and whether the broker keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The result of one inspection.
    Result,
    /// The newest result of a station.
    Last,
    /// Whether the device is there.
    Status,
    /// What a station or the device is doing.
    State,
    /// A step of one inspection, as it happens.
    Event,
    /// The oldest result that its controller has not acknowledged.
    Pending,
    /// How a station's camera is.
    Camera,
    /// The program runs.
    Heartbeat,
    /// The newest link of the record's chain.
    Chain,
    /// The answer to a command.
    Reply,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::Result,
        Kind::Last,
        Kind::Status,
        Kind::State,
        Kind::Event,
        Kind::Pending,
        Kind::Camera,
        Kind::Heartbeat,
        Kind::Chain,
        Kind::Reply,
    ];

    /// The last level of its topic.
    pub fn level(self) -> &'static str {
        match self {
            Kind::Result => "result",
            Kind::Last => "last",
            Kind::Status => "status",
            Kind::State => "state",
            Kind::Event => "event",
            Kind::Pending => "pending",
            Kind::Camera => "camera",
            Kind::Heartbeat => "heartbeat",
            Kind::Chain => "chain",
            Kind::Reply => "reply",
        }
    }

    /// Whether the broker keeps it for those who come late.
    pub fn is_retained(self) -> bool {
        matches!(
            self,
            Kind::Last | Kind::Status | Kind::State | Kind::Pending | Kind::Camera | Kind::Chain
        )
    }

    /// The schema of its payload and its version, as the user property `schema` names it.
    pub fn schema(self) -> &'static str {
        match self {
            Kind::Result | Kind::Last => "result.v1",
            Kind::Status => "status.v1",
            Kind::State => "state.v1",
            Kind::Event => "event.v1",
            Kind::Pending => "pending.v1",
            Kind::Camera => "camera.v1",
            Kind::Heartbeat => "heartbeat.v1",
            Kind::Chain => "chain.v1",
            Kind::Reply => "reply.v1",
        }
    }
}

/// The topics of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    root: String,
}

impl Topics {
    /// The topics under `{prefix}/{device}`; an error if either cannot be part of a topic.
    pub fn new(prefix: &str, device: &str) -> Result<Topics, NameError> {
        check_prefix(prefix)?;
        check_name(device)?;
        Ok(Topics { root: format!("{prefix}/{device}") })
    }

    /// The topic of a message of `kind`, of a station or of the device. A station's name must have
    /// been checked.
    pub fn of(&self, kind: Kind, station: Option<&str>) -> String {
        match station {
            Some(station) => format!("{}/{station}/{}", self.root, kind.level()),
            None => format!("{}/{}", self.root, kind.level()),
        }
    }

    /// The JSON Schema of a payload, kept by the broker.
    pub fn schema(&self, name: &str) -> String {
        format!("{}/schema/{name}", self.root)
    }

    /// Where the command `name` to a station, or to the device, comes in.
    pub fn command(&self, station: Option<&str>, name: &str) -> String {
        match station {
            Some(station) => format!("{}/{station}/cmd/{name}", self.root),
            None => format!("{}/cmd/{name}", self.root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_open_other_topics_are_refused() {
        for bad in ["", "a/b", "a+", "#", "a b", "a\u{0}", "a\n", "$SYS", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["s1", "Löten-2", "a.b_c", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let told = check_name("a\u{7}b").expect_err("a bell").to_string();
        assert!(!told.contains('\u{7}'), "{told}");
    }

    #[test]
    fn a_prefix_is_names_between_slashes() {
        assert_eq!(check_prefix("acme/plant1/line-2"), Ok(()));
        for bad in ["", "/acme", "acme/", "a//b", "a/+/b", "a/b/c/d/e/f/g/h/i"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
        let topics = Topics::new("acme/plant1", "dev7").expect("good names");
        assert_eq!(topics.of(Kind::Result, Some("s1")), "acme/plant1/dev7/s1/result");
        assert_eq!(topics.of(Kind::Status, None), "acme/plant1/dev7/status");
        assert_eq!(topics.command(Some("s1"), "trigger"), "acme/plant1/dev7/s1/cmd/trigger");
        assert_eq!(topics.command(None, "reset"), "acme/plant1/dev7/cmd/reset");
    }
}
