//! `[web]` of `inspectd.toml`.

use super::reader::Reader;
use crate::web::Options;

/// Reads the table; `None` if it is not there.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    if !table.is_present() {
        return None;
    }
    let mut options = Options::default();
    if let Some(address) = table.listen_address("listen", options.listen) {
        options.listen = address;
    }
    table.finish();
    Some(options)
}
