//! Who is let in, over which connection, with which rights; and what each mistake says.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use inspectd::credential::Source;
use inspectd::publish::TlsOptions;
use inspectd::upstream::check::{self, Found};
use inspectd::upstream::tables::{self, Tables};
use inspectd::upstream::{self, UpstreamOptions};
use tempfile::tempdir;

use super::{assert_copied, commit, copy_all, end, start, wait, write};
use crate::support::certificates::Authority;
use crate::support::postgres::{PASSWORD, Postgres, ROLE};
use crate::support::records::{DEVICE, open};

/// What the operator reads when the log in a folder of its own is copied so.
fn refusal(options: &UpstreamOptions) -> String {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let handle = start(options.clone(), &store);
    let state = wait(&handle, "the refusal", |state| state.last_error.is_some());
    assert!(!state.connected && state.copied == 0);
    end(handle);
    let told = state.last_error.expect("waited for");
    assert!(!told.contains(PASSWORD), "{told}");
    told
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    let mut options = server.options(dir.path());
    let wrong = dir.path().join("wrong");
    fs::write(&wrong, "hunter-2-of-7\n").expect("written");
    options.password = Some(Source::File(wrong.clone()));
    let told = refusal(&options);
    assert!(told.contains("password authentication failed") && told.contains("28P01"), "{told}");
    assert!(told.contains("`password_file`") && !told.contains("hunter"), "{told}");
    assert!(!format!("{options:?}").contains("hunter"));
    options.password = None;
    assert!(refusal(&options).contains("it asks for a password"));
    options.password = Some(Source::File(dir.path().join("none")));
    assert!(refusal(&options).contains("none"));
    options = server.options(dir.path());
    options.database = "other".into();
    let told = refusal(&options);
    assert!(told.contains("createdb -E UTF8 other"), "{told}");

    // A password that was corrected holds without a restart.
    let store = open(dir.path());
    let mut options = server.options(dir.path());
    options.password = Some(Source::File(wrong.clone()));
    let handle = start(options, &store);
    wait(&handle, "the refusal", |state| state.last_error.is_some());
    fs::write(&wrong, PASSWORD).expect("written");
    wait(&handle, "the copy", |state| state.connected && state.waiting == 0);
    end(handle);
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let mut options = server.options(dir.path());
    options.database = "latin".into();
    let told = refusal(&options);
    assert!(told.contains("LATIN1") && told.contains("createdb -E UTF8"), "{told}");
}

#[test]
fn a_connection_is_encrypted_and_a_wrong_authority_is_refused() {
    let ca = Authority::new("plant authority");
    let server = Postgres::configured(|folder| {
        let (crt, key) = ca.sign(folder, "server", "127.0.0.1", false);
        format!("ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'", crt.display(), key.display())
    });
    let dir = tempdir().expect("a folder");
    let tls =
        TlsOptions { ca_file: Some(ca.write(&dir.path().join("ca.crt"))), ..TlsOptions::default() };
    let with = |tls: TlsOptions| UpstreamOptions { tls: Some(tls), ..server.options(dir.path()) };
    let store = open(dir.path());
    let handle = start(with(tls.clone()), &store);
    wait(&handle, "the copy", |state| state.connected && state.waiting == 0);
    let sessions =
        "SELECT s.ssl, a.application_name FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a
                    USING (pid) WHERE a.usename = 'inspectd'";
    assert_eq!(server.sql(sessions), [["t", "inspectd dev7"]]);
    end(handle);
    assert_copied(&server, dir.path());

    let other = Authority::new("somebody else").write(&dir.path().join("other.crt"));
    let told = refusal(&with(TlsOptions { ca_file: Some(other), ..TlsOptions::default() }));
    assert!(told.contains("not signed by an authority in") && told.contains("other.crt"), "{told}");
    let told = refusal(&with(TlsOptions::default()));
    assert!(told.contains("root certificates"), "{told}");
    // The name in the certificate counts, and can be given.
    let told = refusal(&UpstreamOptions { host: "localhost".into(), ..with(tls.clone()) });
    assert!(told.contains("`server_name`"), "{told}");
    let named = TlsOptions { server_name: Some("127.0.0.1".into()), ..tls.clone() };
    let options = UpstreamOptions { host: "localhost".into(), ..with(named) };
    assert!(check::probe(&options).expect("let in").is_encrypted);

    // A server without encryption gets neither log-in nor record from who wants it encrypted.
    let plain = Postgres::start();
    let told = refusal(&UpstreamOptions { tls: Some(tls), ..plain.options(dir.path()) });
    assert!(told.contains("does not offer TLS") && told.contains("ssl = on"), "{told}");
}

/// Something that takes connections, and says `words` at most.
fn somebody_else(words: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("known").port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(words);
            open.push(stream);
        }
    });
    port
}

#[test]
fn what_is_no_postgresql_is_left_in_time() {
    let (dir, words) = (tempdir().expect("a folder"), b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[31m");
    for tls in [None, Some(TlsOptions::default())] {
        let mut options = UpstreamOptions::new("127.0.0.1", DEVICE, &dir.path().join("x.db"));
        (options.tls, options.connect_timeout) = (tls, Duration::from_secs(1));
        (options.backoff_min, options.port) = (Duration::from_millis(50), somebody_else(b""));
        let told = refusal(&options);
        assert!(told.contains("no answer within 1 s"), "{told}");
        options.port = somebody_else(words);
        let told = refusal(&options);
        assert!(told.contains("no connection to PostgreSQL"), "{told}");
        assert!(!told.contains(char::is_control) && told.len() < 500, "{told}");
    }
}

#[test]
fn a_socket_file_is_a_way_too() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write(dir.path(), 3);
    let host = server.folder().display().to_string();
    let mut options = UpstreamOptions::new(&host, "dev7", &dir.path().join("inspectd.db"));
    assert!(options.tls.is_none());
    options.port = server.port();
    options.password = server.options(dir.path()).password;
    let reader = inspectd::store::Reader::open(&dir.path().join("inspectd.db")).expect("reads");
    let handle = upstream::start(options, reader).expect("it starts");
    wait(&handle, "the copy", |state| state.connected && state.waiting == 0);
    end(handle);
    assert_copied(&server, dir.path());
}

#[test]
fn least_rights_are_enough_and_missing_ones_are_told() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write(dir.path(), 5);
    server.sql(&format!("REVOKE CREATE ON DATABASE inspectd FROM {ROLE}"));
    let options = server.options(dir.path());
    let told = refusal(&options);
    assert!(told.contains("42501") && told.contains("`inspectd upstream schema`"), "{told}");
    let told = refusal(&UpstreamOptions { create_tables: false, ..options.clone() });
    assert!(
        told.contains("there are no tables") && told.contains("`inspectd upstream schema`"),
        "{told}"
    );
    let found = check::probe(&options).expect("let in");
    assert_eq!((found.tables, found.rights), (Tables::Absent, None));

    // An administrator makes the tables; the role may not even look at first.
    server.sql(&tables::ddl("inspectd"));
    let told = refusal(&options);
    assert!(told.contains("42501") && told.contains("SELECT and INSERT"), "{told}");
    server.sql(&format!(
        "GRANT USAGE ON SCHEMA inspectd TO {ROLE}; GRANT SELECT, INSERT ON inspectd.records TO {ROLE};
         GRANT SELECT ON inspectd.format TO {ROLE}"
    ));
    let Found { rights, version, .. } = check::probe(&options).expect("let in");
    let rights = rights.expect("there are tables");
    assert!(rights.may_copy && !rights.may_change && !version.is_empty());
    copy_all(&server, dir.path());
    assert_copied(&server, dir.path());
    // The manual's policy: a role adds what is its device's, and nothing else.
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/postgres.md"));
    let text = text.expect("there");
    let policy = text.split("-- By device").nth(1).and_then(|rest| rest.split("```").next());
    server.sql(policy.expect("the manual has it"));
    let store = open(dir.path());
    commit(&store, 6, 8);
    let handle = start(options.clone(), &store);
    let told = wait(&handle, "the refusal", |state| state.last_error.is_some()).last_error;
    assert!(told.is_some_and(|why| why.contains("row-level security")));
    server.sql(&format!(
        "ALTER POLICY own_add ON inspectd.records WITH CHECK (device IN ('{DEVICE}', 'unnamed'))"
    ));
    wait(&handle, "the rest", |state| state.connected && state.waiting == 0);
    end(handle);
    assert_copied(&server, dir.path());
    for forbidden in
        ["UPDATE inspectd.records SET verdict = 'pass'", "DELETE FROM inspectd.records"]
    {
        let told = server.ask(ROLE, forbidden).expect_err("it may not");
        assert!(told.contains("permission denied"), "{told}");
    }
}
