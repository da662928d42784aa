//! `[traces]` of `inspectd.toml`.

use std::time::Duration;

use ureq::http::HeaderName;

use super::reader::Reader;
use super::secret;
use crate::remote::{self, Address};
use crate::traces::{KeyHeader, Options};

/// Longest name of a header, in characters.
const HEADER_MAX_CHARS: usize = 64;

/// Headers that belong to the message itself.
const OWN_HEADERS: [&str; 5] = ["content-type", "content-length", "host", "connection", "accept"];

/// Reads the table; `None` if it is not there, or names no collector. The reader has then noted why.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    if !table.is_present() {
        return None;
    }
    let url = table.text("endpoint", Address::MAX_CHARS);
    let example = "endpoint = \"http://collector.plant:4318/v1/traces\"";
    let url = table.required("endpoint", url, example);
    let endpoint = url.as_ref().and_then(|url| {
        let note = |why: remote::AddressError| {
            let title = format!("`endpoint` cannot be used: {why}");
            table.error(url.span(), title, format!("write  {example}"));
        };
        Address::parse(url.get_ref()).map_err(note).ok()
    });
    if let (Some(url), Some(at)) = (&url, &endpoint)
        && at.path().is_empty()
    {
        let title = "`endpoint` has no path: no collector takes traces there";
        let remedy = format!("write  endpoint = \"{}/v1/traces\"", at.origin());
        table.error(url.span(), title, remedy);
    }
    let is_good = endpoint.is_some();
    // Whatever follows is read in any case, so that no key of it is called unknown.
    let place = || Address::parse("http://localhost/v1/traces").expect("an address");
    let mut options = Options::new(endpoint.unwrap_or_else(place));
    read_which(&mut table, &mut options);
    read_key(&mut table, &mut options);
    table.finish();
    is_good.then_some(options)
}

fn read_which(table: &mut Reader<'_>, options: &mut Options) {
    if let Some(share) = table.number("share", 0.0..=1.0) {
        options.share = share.into_inner();
    }
    if let Some(count) = table.whole("queue_parts", 1..=16_384) {
        options.queue_parts = count.into_inner() as usize;
    }
    if let Some(seconds) = table.number("timeout_s", 0.1..=60.0) {
        options.timeout = Duration::from_secs_f64(seconds.into_inner());
    }
    if let Some(seconds) = table.number("give_up_s", 1.0..=3600.0) {
        options.give_up = Duration::from_secs_f64(seconds.into_inner());
    }
    if let Some(flag) = table.flag("serials") {
        options.serials = flag.into_inner();
    }
}

fn read_key(table: &mut Reader<'_>, options: &mut Options) {
    options.key = secret::read(table, &secret::KEY);
    if let Some(header) = table.text("key_header", HEADER_MAX_CHARS) {
        let name = header.get_ref().to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() || OWN_HEADERS.contains(&name.as_str())
        {
            let title = format!("`key_header` cannot be \"{}\"", header.get_ref());
            table.error(
                header.span(),
                title,
                "write \"bearer\", or a header such as \"x-api-key\"",
            );
        } else if name != "bearer" {
            options.key_header = KeyHeader::Named(name);
        }
        if options.key.is_none() {
            let title = "`key_header` has no effect without a key";
            table.error(header.span(), title, "add  key_file = \"collector.key\", or remove it");
        }
    }
    let is_encrypted = options.endpoint.is_encrypted();
    if options.key.is_some() && !is_encrypted && !options.endpoint.is_loopback() {
        let title = "the key of [traces] crosses the network unencrypted";
        let remedy = "write  endpoint = \"https://…\"  and  ca_file = \"plant-ca.pem\"";
        table.warn(table.key_span("endpoint"), title, remedy);
    }
    if let Some(file) = table.path("ca_file") {
        if !is_encrypted {
            let title = "`ca_file` has no effect without TLS";
            table.error(file.span(), title, "write  endpoint = \"https://…\", or remove it");
        } else if let Err(why) = remote::check_ca(file.get_ref()) {
            table.error(file.span(), why, "put the authority's certificate there as PEM");
        }
        options.ca_file = Some(file.into_inner());
    }
}
