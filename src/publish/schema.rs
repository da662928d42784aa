//! The JSON Schemas of what is sent, and the AsyncAPI document of the topics. Shipped inside the
//! program; the schemas are also published, retained, on every connection.
//!
//! A schema's name and version (`result.v1`) is what messages carry as the user property `schema`,
//! and the last level of the topic where the schema itself is kept. The version is part of the
//! level, as `+/+/result` would match `DEVICE/schema/result`.

/// The topics, as AsyncAPI 3.0 (YAML).
pub const ASYNCAPI: &str = include_str!("schema/asyncapi.yaml");

/// One JSON Schema (2020-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its name and version, such as `result.v1`.
    pub name: &'static str,
    /// What it describes, in a few words.
    pub about: &'static str,
    /// The document.
    pub text: &'static str,
}

impl Schema {
    /// The file that the AsyncAPI document refers to.
    pub fn file_name(&self) -> String {
        let word = self.name.split_once('.').map_or(self.name, |(word, _)| word);
        format!("{word}.schema.json")
    }
}

/// All of them.
pub const ALL: &[Schema] = &[
    Schema {
        name: "result.v1",
        about: "the result of one inspection: topics result and last",
        text: include_str!("schema/result.schema.json"),
    },
    Schema {
        name: "pending.v1",
        about: "the oldest result that waits to be acknowledged: topic pending",
        text: include_str!("schema/pending.schema.json"),
    },
    Schema {
        name: "status.v1",
        about: "whether the device is there: topic status",
        text: include_str!("schema/status.schema.json"),
    },
    Schema {
        name: "chain.v1",
        about: "the head of the audit log: topic chain",
        text: include_str!("schema/chain.schema.json"),
    },
    Schema {
        name: "camera.v1",
        about: "how a station's camera is: topic camera",
        text: include_str!("schema/camera.schema.json"),
    },
    Schema {
        name: "state.v1",
        about: "what a station is doing: topic state",
        text: include_str!("schema/state.schema.json"),
    },
    Schema {
        name: "event.v1",
        about: "a step of one inspection: topic event",
        text: include_str!("schema/event.schema.json"),
    },
    Schema {
        name: "heartbeat.v1",
        about: "the program runs: topic heartbeat",
        text: include_str!("schema/heartbeat.schema.json"),
    },
    Schema {
        name: "reply.v1",
        about: "the answer to a command: topics cmd/NAME/reply",
        text: include_str!("schema/reply.schema.json"),
    },
    Schema {
        name: "cmd_trigger.v1",
        about: "look at a part: topic cmd/trigger",
        text: include_str!("schema/cmd_trigger.schema.json"),
    },
    Schema {
        name: "cmd_ack.v1",
        about: "a result was taken: topic cmd/ack",
        text: include_str!("schema/cmd_ack.schema.json"),
    },
    Schema {
        name: "cmd_recipe.v1",
        about: "look for another product: topic cmd/recipe",
        text: include_str!("schema/cmd_recipe.schema.json"),
    },
    Schema {
        name: "cmd_line.v1",
        about: "what the machine is doing: topic cmd/line",
        text: include_str!("schema/cmd_line.schema.json"),
    },
    Schema {
        name: "cmd_reset.v1",
        about: "forget that the model failed: topic cmd/reset",
        text: include_str!("schema/cmd_reset.schema.json"),
    },
    Schema {
        name: "cmd_expect.v1",
        about: "change the list of expected serials: topic cmd/expect",
        text: include_str!("schema/cmd_expect.schema.json"),
    },
];

/// The schema called `name`, with or without its version.
pub fn find(name: &str) -> Option<&'static Schema> {
    ALL.iter().find(|known| {
        known.name == name || known.name.split_once(".v").is_some_and(|(word, _)| word == name)
    })
}

/// The document without white space, as it is published.
pub(super) fn compact(schema: &Schema) -> Vec<u8> {
    let document: serde_json::Value =
        serde_json::from_str(schema.text).expect("a test parses every schema");
    serde_json::to_vec(&document).expect("JSON has a JSON form")
}
