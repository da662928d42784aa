//! `[postgres]`: where the audit log is copied to.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::backoff;
use super::reader::Reader;
use super::secret;
use crate::publish::TlsOptions;
use crate::publish::tls::client_config;
use crate::upstream::options::{SCHEMA_MAX_CHARS, is_here, is_schema_name};
use crate::upstream::{UpstreamError, UpstreamOptions};

/// The keys that have no effect without TLS.
const TLS_KEYS: [&str; 4] = ["ca_file", "client_cert", "client_key", "server_name"];

/// Reads the table; `None` if it is not there. `log` is the audit log's database file.
pub fn read(mut table: Reader<'_>, device: &str, log: &Path) -> Option<UpstreamOptions> {
    if !table.is_present() {
        return None;
    }
    let host = table.text("host", 253);
    let host = table.required("host", host, "host = \"db.plant\"");
    if let Some(host) = &host
        && (host.get_ref().contains(|c: char| c == '@' || c == ',' || c.is_whitespace())
            || host.get_ref().contains("://"))
    {
        let title = format!("\"{}\" is not a host", host.get_ref());
        let remedy = "write its name or address alone, without postgres:// or port, or the folder of its socket";
        table.error(host.span(), title, remedy);
    }
    let host = host.map_or_else(|| "localhost".to_owned(), |host| host.into_inner());
    let mut options = UpstreamOptions::new(&host, device, log);
    if let Some(port) = table.whole("port", 1..=65535) {
        options.port = port.into_inner() as u16;
    }
    if let Some(database) = table.text("database", SCHEMA_MAX_CHARS) {
        options.database = database.into_inner();
    }
    if let Some(user) = table.text("user", SCHEMA_MAX_CHARS) {
        options.user = user.into_inner();
    }
    if let Some(schema) = table.text("schema", SCHEMA_MAX_CHARS) {
        if is_schema_name(schema.get_ref()) {
            options.schema = schema.into_inner();
        } else {
            let title = format!("`schema` cannot be \"{}\"", schema.get_ref());
            let remedy = "use a-z, 0-9 and _, a letter first, such as \"inspectd\"; not pg_…";
            table.error(schema.span(), title, remedy);
        }
    }
    if let Some(flag) = table.flag("create_tables") {
        options.create_tables = flag.into_inner();
    }
    options.password = secret::read(&mut table, &secret::PASSWORD);
    options.tls = read_tls(&mut table, &options);
    read_bounds(&mut table, &mut options);
    table.finish();
    Some(options)
}

/// Encrypted unless the server is on this machine, or `tls = false` says that it is not to be.
fn read_tls(table: &mut Reader<'_>, options: &UpstreamOptions) -> Option<TlsOptions> {
    let flag = table.flag("tls");
    let tls = TlsOptions {
        ca_file: table.path("ca_file").map(|file| file.into_inner()),
        client_cert: table.path("client_cert").map(|file| file.into_inner()),
        client_key: table.path("client_key").map(|file| file.into_inner()),
        server_name: table.text("server_name", 253).map(|name| name.into_inner()),
    };
    let wanted = flag.as_ref().map_or(options.tls.is_some(), |flag| *flag.get_ref());
    if wanted && options.is_socket() {
        let remedy = "remove `tls`, or write the server's name as `host`";
        table.error(table.key_span("tls"), "a socket file of this machine has no TLS", remedy);
        return None;
    }
    if !wanted {
        if let Some(key) = TLS_KEYS.iter().find(|key| table.has(key)) {
            let title = format!("`{key}` has no effect without `tls = true`");
            table.error(table.key_span(key), title, "add  tls = true, or remove it");
        } else if !is_here(&options.host) {
            let title = "the records, and the log-in, cross the network unencrypted";
            let remedy = "switch TLS on at the server, and write  tls = true  and  ca_file = \"plant-ca.pem\"";
            table.warn(table.key_span("tls"), title, remedy);
        }
        return None;
    }
    check_tls(table, &tls);
    Some(tls)
}

fn check_tls(table: &Reader<'_>, tls: &TlsOptions) {
    if tls.client_cert.is_some() != tls.client_key.is_some() {
        let key = if tls.client_cert.is_some() { "client_cert" } else { "client_key" };
        let title = "`client_cert` and `client_key` belong together";
        table.error(table.key_span(key), title, "set both or none");
    } else if let Some(name) = &tls.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        let title = format!("`server_name` cannot be \"{name}\"");
        let remedy = "write a host name or an IP address, as in the server's certificate";
        table.error(table.key_span("server_name"), title, remedy);
    } else if let Err(why) = client_config(tls) {
        let remedy = "correct the file, or the key of [postgres] that names it";
        let key = TLS_KEYS.iter().find(|key| table.has(key)).unwrap_or(&"host");
        table.error(table.key_span(key), UpstreamError::from(why).to_string(), remedy);
    }
}

fn read_bounds(table: &mut Reader<'_>, options: &mut UpstreamOptions) {
    if let Some(count) = table.whole("batch_records", 1..=5000) {
        options.batch_records = count.into_inner() as usize;
    }
    if let Some(kib) = table.whole("batch_kib", 16..=65_536) {
        options.batch_bytes = (kib.into_inner() as usize) << 10;
    }
    let mut set = |key, range, target: &mut Duration, unit: fn(u64) -> Duration| {
        if let Some(count) = table.whole(key, range) {
            *target = unit(count.into_inner() as u64);
        }
    };
    set("connect_timeout_s", 1..=300, &mut options.connect_timeout, Duration::from_secs);
    set("statement_timeout_s", 1..=3600, &mut options.statement_timeout, Duration::from_secs);
    backoff::read(table, &mut options.backoff_min, &mut options.backoff_max);
}
