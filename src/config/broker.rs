//! `[broker]`: where results are sent, and how.

use std::path::Path;
use std::time::Duration;

use super::backoff;
use super::reader::Reader;
use super::secret;
use crate::publish::topics::Kind;
use crate::publish::{self, Protocol, PublishOptions, TlsOptions};

/// Longest password file, in bytes: a password is one line.
const PASSWORD_MAX_BYTES: u64 = 4096;

/// The keys that say how long the broker keeps what it could not deliver. A status that expired would
/// leave a dead device unnoticed, and so would a chain: they have none.
const EXPIRY_KEYS: [(&str, Kind); 6] = [
    ("result_expiry_s", Kind::Result),
    ("last_expiry_s", Kind::Last),
    ("state_expiry_s", Kind::State),
    ("event_expiry_s", Kind::Event),
    ("heartbeat_expiry_s", Kind::Heartbeat),
    ("reply_expiry_s", Kind::Reply),
];

/// Reads the table. `None` if the broker is not named; the reader has then noted why.
pub fn read(mut table: Reader<'_>, device: &str) -> Option<PublishOptions> {
    let host = table.text("host", 253);
    let host = table.required("host", host, "host = \"192.168.1.20\"");
    if let Some(host) = &host
        && host.get_ref().contains(|c: char| c == '/' || c == '@' || c.is_whitespace())
    {
        let title = format!("\"{}\" is not a host", host.get_ref());
        table.error(host.span(), title, "write its name or address alone, without mqtt:// or port");
    }
    let tls = read_tls(&mut table);
    let by_custom = if tls.is_some() { 8883 } else { 1883 };
    let port = table.whole("port", 1..=65535).map_or(by_custom, |port| port.into_inner() as u16);
    let host = host.map_or_else(|| "localhost".to_owned(), |host| host.into_inner());
    let mut options = PublishOptions::new(&host, port, device, &[]);
    options.tls = tls;
    let protocols = [Protocol::V5, Protocol::V311].map(|known| (known.as_str(), known));
    if let Some(protocol) = table.one_of("protocol", &protocols) {
        options.protocol = protocol.into_inner();
    }
    read_identity(&mut table, &mut options);
    read_pace(&mut table, &mut options);
    read_backlog(&mut table, &mut options);
    if table.has("host")
        && let Err(why) = options.check()
    {
        table.error(table.span(), why.to_string(), "correct the keys of [broker]");
    } else if table.has("tls")
        && let Err(why) = options.check_tls_files()
    {
        let remedy = "correct the file, or the key of [broker] that names it";
        table.error(table.key_span("tls"), why.to_string(), remedy);
    }
    table.finish();
    Some(options)
}

fn read_identity(table: &mut Reader<'_>, options: &mut PublishOptions) {
    if let Some(id) = table.text("client_id", 128) {
        options.client_id = id.into_inner();
    }
    if let Some(prefix) = table.text("prefix", 200) {
        match publish::topics::check_prefix(prefix.get_ref()) {
            Ok(()) => options.prefix = prefix.into_inner(),
            Err(why) => {
                let remedy = "write levels of letters, digits, - and _, such as \"acme/plant-1\"";
                table.error(prefix.span(), format!("`prefix`: {why}"), remedy);
            }
        }
    }
    let username = table.text("username", 256);
    let password_file = table.path("password_file");
    if let Some(file) = &password_file
        && let Err(why) = check_password(file.get_ref())
    {
        let title = format!("cannot use the password file {}: {why}", file.get_ref().display());
        let remedy = "make it a file of one line that the user of the service can read";
        table.error(file.span(), title, remedy);
    }
    let credential = secret::credential_name(table, "password_credential");
    options.username = username.map(|name| name.into_inner());
    options.password_file = password_file.map(|file| file.into_inner());
    options.password_credential = credential.map(|name| name.into_inner());
}

fn read_tls(table: &mut Reader<'_>) -> Option<TlsOptions> {
    let wanted = table.flag("tls").is_some_and(|flag| flag.into_inner());
    let options = TlsOptions {
        ca_file: table.path("ca_file").map(|file| file.into_inner()),
        client_cert: table.path("client_cert").map(|file| file.into_inner()),
        client_key: table.path("client_key").map(|file| file.into_inner()),
        server_name: table.text("server_name", 253).map(|name| name.into_inner()),
    };
    let named = ["ca_file", "client_cert", "client_key", "server_name"];
    if let (false, Some(key)) = (wanted, named.iter().find(|key| table.has(key))) {
        let title = format!("`{key}` has no effect without `tls = true`");
        table.error(table.key_span(key), title, "add  tls = true, or remove it");
    }
    wanted.then_some(options)
}

fn read_backlog(table: &mut Reader<'_>, options: &mut PublishOptions) {
    if let Some(rate) = table.whole("backlog_per_s", 1..=10_000) {
        options.backlog_per_s = rate.into_inner() as u32;
    }
    if let Some(seconds) = table.whole("live_for_s", 1..=3600) {
        options.live_for = Duration::from_secs(seconds.into_inner() as u64);
    }
    if let Some(px) = table.whole("thumbnail_px", 0..=512) {
        options.thumbnail_px = px.into_inner() as u32;
    }
    for (key, kind) in EXPIRY_KEYS {
        if let Some(seconds) = table.whole(key, 1..=4_294_967_295) {
            options.expiry_s.insert(kind, seconds.into_inner() as u32);
        }
    }
}

fn read_pace(table: &mut Reader<'_>, options: &mut PublishOptions) {
    let mut set = |key, range, target: &mut Duration, unit: fn(u64) -> Duration| {
        if let Some(count) = table.whole(key, range) {
            *target = unit(count.into_inner() as u64);
        }
    };
    set("keep_alive_s", 5..=3600, &mut options.keep_alive, Duration::from_secs);
    set("watchdog_s", 1..=3600, &mut options.watchdog, Duration::from_secs);
    set("connect_timeout_s", 1..=300, &mut options.connect_timeout, Duration::from_secs);
    backoff::read(table, &mut options.backoff_min, &mut options.backoff_max);
    if let Some(count) = table.whole("inflight", 1..=20) {
        options.inflight = count.into_inner() as u16;
    }
    if let Some(kib) = table.whole("max_packet_kib", 2..=65_536) {
        options.max_packet_bytes = (kib.into_inner() as usize) << 10;
    }
    if let Some(rows) = table.whole("keep_sent_rows", 0..=10_000_000) {
        options.keep_sent_rows = rows.into_inner() as usize;
    }
}

fn check_password(path: &Path) -> Result<(), String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    if about.len() == 0 || about.len() > PASSWORD_MAX_BYTES {
        return Err(format!("it has {} bytes", about.len()));
    }
    std::fs::File::open(path).map(drop).map_err(|error| error.to_string())
}
