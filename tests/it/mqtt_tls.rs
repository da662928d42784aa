//! TLS to a real mosquitto, with certificates made here: what works, and what each mistake says.

use std::path::{Path, PathBuf};

use inspectd::publish::{Protocol, PublishOptions, TlsOptions};
use tempfile::{TempDir, tempdir};

use crate::support::certificates::Authority;
use crate::support::delivery::Line;
use crate::support::mosquitto::Mosquitto;
use crate::support::station::Site as Station;

/// A broker that speaks TLS, with what a client needs.
struct Site {
    broker: Mosquitto,
    ca: Authority,
}

impl Site {
    /// The broker's certificate is for `host`; `client` says whether it asks for one.
    fn start(host: &str, expired: bool, client: bool) -> Site {
        let ca = Authority::new("plant authority");
        let broker = Mosquitto::configured(|folder| {
            let authority = ca.write(&folder.join("ca.crt"));
            let (crt, key) = ca.sign(folder, "broker", host, expired);
            let shown = |path: &Path| path.display().to_string();
            format!(
                "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {client}",
                shown(&authority),
                shown(&crt),
                shown(&key)
            )
        });
        Site { broker, ca }
    }

    fn ca_file(&self) -> PathBuf {
        self.broker.folder().join("ca.crt")
    }

    fn tls(&self) -> TlsOptions {
        TlsOptions { ca_file: Some(self.ca_file()), ..TlsOptions::default() }
    }

    fn line(&self, protocol: Protocol, tls: TlsOptions) -> (Line, TempDir) {
        let dir = tempdir().expect("a folder");
        let line = Line::start_with(dir.path(), self.broker.port(), |options| {
            options.protocol = protocol;
            options.tls = Some(tls);
        });
        (line, dir)
    }

    /// Delivers one result over `protocol`.
    async fn delivers(&self, protocol: Protocol, tls: TlsOptions) {
        let (line, _dir) = self.line(protocol, tls);
        line.commit("left", 1);
        line.wait("a result over TLS", |state| state.sent == 1).await;
    }

    /// What the operator reads.
    async fn refusal(&self, protocol: Protocol, tls: TlsOptions) -> String {
        let (line, _dir) = self.line(protocol, tls);
        let state = line.wait("the error", |state| state.last_error.is_some()).await;
        assert!(!state.connected);
        state.last_error.expect("waited for")
    }
}

const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_go_over_tls_and_a_wrong_authority_is_named() {
    let site = Site::start("127.0.0.1", false, false);
    for protocol in BOTH {
        site.delivers(protocol, site.tls()).await;
    }
    let files = tempdir().expect("a folder");
    let other = Authority::new("somebody else").write(&files.path().join("other.crt"));
    for protocol in BOTH {
        let told = site
            .refusal(protocol, TlsOptions { ca_file: Some(other.clone()), ..TlsOptions::default() })
            .await;
        assert!(told.contains("not signed by") && told.contains("other.crt"), "{told}");
        assert!(told.contains("`ca_file`"), "{told}");
    }
    // The plant's authority is none of this system's.
    let told = site.refusal(Protocol::V5, TlsOptions::default()).await;
    assert!(told.contains("root certificates"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_and_a_wrong_name_say_what_to_do() {
    let expired = Site::start("127.0.0.1", true, false);
    let told = expired.refusal(Protocol::V5, expired.tls()).await;
    assert!(told.contains("has expired: renew it"), "{told}");
    let named = Site::start("broker.plant", false, false);
    let told = named.refusal(Protocol::V5, named.tls()).await;
    assert!(told.contains("not for \"127.0.0.1\"") && told.contains("`server_name`"), "{told}");
    let server_name = Some("broker.plant".to_owned());
    named.delivers(Protocol::V5, TlsOptions { server_name, ..named.tls() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_asks_for_a_certificate_gets_ours_even_renewed() {
    let site = Site::start("127.0.0.1", false, true);
    for protocol in BOTH {
        let told = site.refusal(protocol, site.tls()).await;
        assert!(told.contains("`client_cert`"), "{told}");
    }
    // A certificate of somebody else first; then the right one under the same name, without a restart.
    let files = tempdir().expect("a folder");
    let (crt, key) = Authority::new("other").sign(files.path(), "client", "line-1", false);
    let tls = TlsOptions { client_cert: Some(crt), client_key: Some(key), ..site.tls() };
    let (line, _dir) = site.line(Protocol::V5, tls);
    let told = line.wait("the refusal", |state| state.last_error.is_some()).await;
    let told = told.last_error.expect("waited for");
    assert!(told.contains("client.crt") || told.contains("`client_cert`"), "{told}");
    line.commit("left", 1);
    site.ca.sign(files.path(), "client", "line-1", false);
    line.wait("a result", |state| state.sent == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_speaks_otherwise_is_told() {
    let site = Site::start("127.0.0.1", false, false);
    let dir = tempdir().expect("a folder");
    let plain = Line::start(dir.path(), site.broker.port());
    let told = plain.wait("the error", |state| state.last_error.is_some()).await;
    assert!(told.last_error.as_ref().is_some_and(|why| why.contains("`tls = true`")), "{told:?}");
    let broker = Mosquitto::start();
    let dir = tempdir().expect("a folder");
    let line =
        Line::start_with(dir.path(), broker.port(), |options| options.tls = Some(site.tls()));
    let told = line.wait("the error", |state| state.last_error.is_some()).await;
    assert!(!told.connected, "{told:?}");
}

#[test]
fn files_that_cannot_be_used_are_named_before_a_dial() {
    let dir = tempdir().expect("a folder");
    let ca = Authority::new("plant");
    let (crt, _) = ca.sign(dir.path(), "client", "line-1", false);
    let (_, other_key) = ca.sign(dir.path(), "other", "line-2", false);
    let empty = dir.path().join("empty.crt");
    std::fs::write(&empty, "no certificate here").expect("written");
    let told = |tls: TlsOptions| {
        let mut options = PublishOptions::new("broker", 8883, "d", &[]);
        options.tls = Some(tls);
        let checked = options.check().and_then(|()| options.check_tls_files());
        checked.expect_err("refused").to_string()
    };
    let missing = TlsOptions { ca_file: Some("/nowhere/ca.crt".into()), ..TlsOptions::default() };
    assert!(told(missing).contains("/nowhere/ca.crt"));
    let bad = told(TlsOptions { ca_file: Some(empty), ..TlsOptions::default() });
    assert!(bad.contains("empty.crt") && bad.contains("holds no certificate"), "{bad}");
    let alone = told(TlsOptions { client_cert: Some(crt.clone()), ..TlsOptions::default() });
    assert!(alone.contains("client_cert and client_key"), "{alone}");
    let ca_file = Some(ca.write(&dir.path().join("ca.crt")));
    let mixed = TlsOptions {
        ca_file,
        client_cert: Some(crt),
        client_key: Some(other_key),
        ..TlsOptions::default()
    };
    let mixed = told(mixed);
    assert!(mixed.contains("other.key") && mixed.contains("client.crt"), "{mixed}");
}

#[test]
fn the_configuration_names_protocol_certificates_and_pace() {
    let site = Station::new(Path::new("/nowhere/line.mkv"), Some(8883));
    let main = std::fs::read_to_string(&site.file).expect("readable");
    let load = |lines: &str| {
        std::fs::write(&site.file, format!("{main}{lines}\n")).expect("written");
        inspectd::config::load(&site.file)
            .map(|loaded| loaded.settings.broker.expect("there is one"))
            .map_err(|problems| problems.to_string())
    };
    Authority::new("plant").write(&site.dir.path().join("ca.pem"));
    let broker = load(
        "protocol = \"5\"\ntls = true\nca_file = \"ca.pem\"\nserver_name = \"broker.plant\"\n\
         live_for_s = 3\nbacklog_per_s = 7\nresult_expiry_s = 60\nthumbnail_px = 64",
    );
    let broker = broker.expect("good");
    let tls = broker.tls.expect("encrypted");
    assert!(tls.ca_file.is_some_and(|path| path.ends_with("ca.pem")));
    assert_eq!(tls.server_name.as_deref(), Some("broker.plant"));
    assert_eq!((broker.backlog_per_s, broker.thumbnail_px), (7, 64));
    assert_eq!(broker.expiry_s.values().collect::<Vec<_>>(), [&60]);
    for (lines, part) in [
        ("ca_file = \"ca.pem\"", "without `tls = true`"),
        ("tls = true\nca_file = \"none.pem\"", "none.pem"),
        ("tls = true\nclient_cert = \"ca.pem\"", "client_cert and client_key"),
        ("protocol = \"3.1\"", "protocol"),
        ("protocol = \"3.1.1\"\nresult_expiry_s = 60", "knows no expiry"),
    ] {
        let told = load(lines).expect_err("refused");
        assert!(told.contains(part), "{part} in: {told}");
    }
}
