//! Encrypted engines: the plant's own authority, and everybody else's.

use inspectd::remote::EngineOptions;

use super::{GOOD, ask, failure, options};
use crate::support::certificates::Authority;
use crate::support::engine_server::{Act, EngineServer};

#[test]
fn only_the_plants_authority_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let plant = Authority::new("plant");
    let ca = plant.write(&folder.path().join("plant.pem"));
    let foreign = Authority::new("foreign").write(&folder.path().join("foreign.pem"));
    let serve = |name: &str, host: &str, expired: bool| {
        let (crt, key) = plant.sign(folder.path(), name, host, expired);
        EngineServer::start_on(0, Some((&crt, &key)), |_, _| Act::Answer(GOOD.to_owned()))
    };
    let trusting = |server: &EngineServer, ca: Option<&std::path::PathBuf>| EngineOptions {
        ca_file: ca.cloned(),
        ..options(&server.url())
    };
    let server = serve("good", "localhost", false);
    let told = ask(&trusting(&server, Some(&ca)));
    assert!(told.answer.is_ok());
    assert!(told.by.origin.starts_with("https://localhost:"));
    for (ca, words) in [(Some(&foreign), "foreign.pem"), (None, "this system's root certificates")]
    {
        // A machine without any roots says that first.
        let options = trusting(&server, ca);
        let Ok(engine) = inspectd::remote::Engine::new(&options, super::quiet()) else { continue };
        drop(engine);
        let (code, text) = failure(ask(&options));
        assert_eq!(code, "engine_unreachable", "{text}");
        assert!(text.contains("not signed by") && text.contains(words), "{text}");
    }
    let expired = serve("expired", "localhost", true);
    let (_, text) = failure(ask(&trusting(&expired, Some(&ca))));
    assert!(text.contains("expired"), "{text}");
    let other = serve("other", "gpu.plant", false);
    let (_, text) = failure(ask(&trusting(&other, Some(&ca))));
    assert!(text.contains("not for \"localhost\""), "{text}");
    assert!(expired.asked().is_empty() && other.asked().is_empty(), "no picture went there");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_without_encryption_is_not_spoken_to_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Authority::new("plant").write(&folder.path().join("plant.pem"));
    let server = EngineServer::start(|_, _| Act::Answer(GOOD.to_owned()));
    let url = server.url().replace("http://", "https://");
    let options = EngineOptions { ca_file: Some(ca), ..options(&url) };
    let (code, _) = failure(ask(&options));
    assert_eq!(code, "engine_unreachable");
    // And the other way round: what answers is no HTTP.
    let (crt, key) = Authority::new("x").sign(folder.path(), "x", "localhost", false);
    let server = EngineServer::start_on(0, Some((&crt, &key)), |_, _| Act::Answer(GOOD.to_owned()));
    let url = server.url().replace("https://", "http://");
    assert!(ask(&super::options(&url)).answer.is_err());
    assert!(server.asked().is_empty());
}
