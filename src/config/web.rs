//! `[web]` of `inspectd.toml`.

use super::reader::Reader;
use crate::web::Options;

/// Longest address: an IPv6 address with its scope and port.
const ADDRESS_MAX_CHARS: usize = 80;

/// Reads the table; `None` if it is not there.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    if !table.is_present() {
        return None;
    }
    let mut options = Options::default();
    if let Some(text) = table.text("listen", ADDRESS_MAX_CHARS) {
        match text.get_ref().parse() {
            Ok(address) => options.listen = address,
            Err(_) => {
                let title = format!("`listen` cannot be \"{}\"", text.get_ref());
                let remedy = "write an address of this device and a port, such as \"127.0.0.1:9480\"; \
                              \"0.0.0.0:9480\" is all of its addresses";
                table.error(text.span(), title, remedy);
            }
        }
    }
    table.finish();
    Some(options)
}
