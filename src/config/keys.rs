//! Every key that a configuration may have, as the code that reads it asks for it: no list that somebody keeps.
//!
//! Which keys are asked for depends on what stands in a file, as on the kind of a trigger. So files are read that
//! have one thing of each kind; what is wrong with their values does not matter here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::file::{self, Source};
use super::reader::{Reader, Sink};
use super::{main_file, station};

/// One key, and what its value may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The file that it stands in.
    pub file: &'static str,
    /// The table that it stands in, such as `[camera]`; empty at the top of the file.
    pub table: String,
    /// The key.
    pub key: &'static str,
    /// What its value may be.
    pub form: String,
}

/// The main file's name in [`Key::file`].
const MAIN: &str = "inspectd.toml";
/// A station's, and a recipe's.
const STATION: &str = "stations/*.toml";

/// A main file with one of each table that is read only where it stands.
const MAIN_TEXT: &str = "
device.name = 'a'
model.path = '/'
engines.a = { kind = 'openai', url = 'http://127.0.0.1/v1', model = 'a' }
broker = { host = 'a', tls = true }
sparkplug.group_id = 'a'
postgres.host = 'a'
modbus.listen = '127.0.0.1:5020'
web.listen = '127.0.0.1:9480'
traces.endpoint = 'http://127.0.0.1:4318/v1/traces'
retention = {}
database = {}
log = {}
";

/// The top and the tables of a station that do not depend on each other.
const STATION_TEXT: &str = "
name = 'a'
region = [{ name = 'a', pixels = [0, 0, 9, 9], quality = {} }, { name = 'b', within = 'a', zoom = 2 }, { name = 'c', tiles = [2, 2] }]
vote = { frames = 3 }
footage = {}
gpio = { chip = '/dev/gpiochip0', pass_line = 1 }
modbus = { base = 0 }
plc = { recipe = [{ index = 2, file = '/' }] }
quality = { fixed = [{ name = 'a', pixels = [0, 0, 9, 9] }] }
camera = { uri = 'file:a', controls = {} }
engine = 'a'
[rules]
serial = { confusions = ['0O'] }
defect = [{ class = 'a' }]
field = [{ name = 'a' }]
[[question]]
name = 'a'
task = 'serial'
template = '#'
check_digit = { weights = [1] }
examples = [{ ask = 'a', answer = 'a' }]
[[question]]
name = 'b'
task = 'defects'
classes = ['a']
severities = ['a']
[[question]]
name = 'c'
task = 'fields'
field = [
  { name = 'a', kind = 'bool' }, { name = 'b', kind = 'choice' }, { name = 'c', kind = 'integer' },
  { name = 'd', kind = 'decimal' }, { name = 'e', kind = 'text' }, { name = 'f', kind = 'serial', template = '#' },
  { name = 'g', kind = 'objects', field = [{ name = 'h', kind = 'bool' }] },
]
";

/// What else a station can be: one line in place of others.
const TRIGGERS: [&str; 5] = [
    "trigger.kind = 'presence'\n",
    "trigger = { kind = 'photo_eye', chip = '/dev/gpiochip0', line = 1, encoder_line = 2 }\n",
    "trigger.kind = 'command'\n",
    "trigger = { kind = 'interval', every_ms = 100 }\n",
    "trigger.kind = 'every_frame'\n",
];

/// Every key, by file, table and name.
pub fn keys() -> Vec<Key> {
    let mut all = BTreeMap::new();
    let mut note = |file, sink: &Sink| {
        for (table, key, form) in sink.keys() {
            all.entry((file, table, key)).or_insert(form);
        }
    };
    with(MAIN_TEXT.to_owned(), |reader| drop(main_file::read(reader)), |sink| note(MAIN, sink));
    for trigger in TRIGGERS {
        let text = format!("{trigger}{STATION_TEXT}");
        with(text, |reader| drop(station::read(reader)), |sink| note(STATION, sink));
    }
    let key = |((file, table, key), form)| Key { file, table, key, form };
    all.into_iter().map(key).collect()
}

fn with(text: String, read: impl FnOnce(Reader<'_>), mut note: impl FnMut(&Sink)) {
    let source = Arc::new(Source::new("/", text));
    let sink = Sink::default();
    if let Ok(tree) = file::parse(&source) {
        read(Reader::top(&source, &tree, &sink));
    }
    note(&sink);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_their_forms() {
        let all = keys();
        let find = |table: &str, key: &str| {
            let found = all.iter().find(|known| known.table == table && known.key == key);
            found.unwrap_or_else(|| panic!("no {table} {key} in {all:#?}")).form.clone()
        };
        assert_eq!(find("[model]", "threads"), "whole number, 1 to 256");
        assert_eq!(find("[engines.NAME]", "kind"), "\"openai\", \"azure-ml\"");
        assert_eq!(find("[trigger]", "encoder_line"), find("[trigger]", "line"));
        assert_eq!(find("[postgres]", "batch_records"), "whole number, 1 to 5000");
        assert_eq!(find("", "name"), "name of letters, digits, - and _, 64 at most");
    }
}
