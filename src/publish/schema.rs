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

/// All of them.
pub const ALL: &[Schema] = &[
    Schema {
        name: "result.v1",
        about: "the result of one inspection: topics result and last",
        text: include_str!("schema/result.schema.json"),
    },
    Schema {
        name: "status.v1",
        about: "whether the device is there: topic status",
        text: include_str!("schema/status.schema.json"),
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
