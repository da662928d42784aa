//! Files that stand beside the record, and lists of digests and serials.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use inspectd::clock::SystemClock;
use inspectd::expected::kept::{Found, Kept};
use inspectd::provenance::manifest::{Manifest, is_inside};
use inspectd::store::events::{Run, Stop};
use inspectd::store::verify::{BREAKS_MAX, Code, VerifyOptions, verify};
use inspectd::store::{Anchor, Reader, Store, StoreOptions};
use inspectd::verdict::serial::{ENTRIES_MAX, SerialList};

/// A whole log of a few records; made once, as its commits are forced to the disk.
fn log() -> &'static Mutex<PathBuf> {
    static LOG: OnceLock<Mutex<PathBuf>> = OnceLock::new();
    LOG.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder").keep();
        let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::in_dir(&dir) };
        let store = Store::open(&options, Arc::new(SystemClock)).expect("opens");
        for _ in 0..3 {
            store.record_start(&Run::default()).expect("a start");
            store.record_stop(&Stop { records: 0, unsent: 0 }).expect("a stop");
        }
        Mutex::new(options.path)
    })
}

/// The file of heads beside a log: whatever stands in it, the log is looked at to its end, and hostile
/// heads can at most be told as contradicting it.
pub fn anchors(bytes: &[u8]) {
    let database = log().lock().expect("one at a time");
    let mut heads = database.clone().into_os_string();
    heads.push(".heads");
    fs::write(heads, bytes).expect("written");
    let reader = Reader::open(&database).expect("reads");
    let given: Vec<Anchor> = std::str::from_utf8(bytes)
        .iter()
        .flat_map(|text| text.lines().filter_map(|line| Anchor::parse(line).ok()))
        .collect();
    let options = VerifyOptions { anchors: given, ..VerifyOptions::default() };
    let report = verify(&reader, &options, &mut |_, _| {}).expect("it can be read");
    assert_eq!((report.first, report.last), (1, 7));
    assert!(report.breaks.len() <= BREAKS_MAX && report.break_count >= report.breaks.len() as u64);
    let of_anchors =
        [Code::AnchorDiffers, Code::Truncated, Code::BadSignature, Code::ChainReplaced];
    for found in &report.breaks {
        assert!(of_anchors.contains(&found.code), "the log itself is whole: {found:?}");
    }
}

/// The manifest of a model.
pub fn manifest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Manifest::parse(Path::new("manifest"), &text) {
        Err(why) => super::check_message(&why.to_string()),
        Ok(manifest) => {
            assert!(!manifest.files.is_empty());
            assert!(manifest.files.keys().all(|name| is_inside(name)));
            let written = manifest.to_string();
            let again = Manifest::parse(Path::new("manifest"), &written);
            assert_eq!(again.ok(), Some(manifest), "it is read as it is written: {written}");
        }
    }
}

/// The list of expected serials that commands left: a file that a power cut may have torn.
pub fn serial_list(bytes: &[u8]) {
    super::in_folder(|dir| {
        fs::write(dir.join("one.list"), bytes).expect("written");
        let kept = Kept::new(dir, "one");
        let base = SerialList::new(["A7K2".to_owned()]);
        match kept.read(&base) {
            Err(why) => super::check_message(&why),
            Ok(Found::Nothing) => panic!("it is there"),
            Ok(Found::Outdated) => {}
            Ok(Found::List(list)) => {
                assert!(list.len() <= ENTRIES_MAX.min(bytes.len() + 1));
                kept.append(&base, &["NEW-1".to_owned()]).expect("appended");
                let Ok(Found::List(more)) = kept.read(&base) else { panic!("it is a list still") };
                assert!(more.contains("NEW-1") && list.iter().all(|serial| more.contains(serial)));
            }
        }
    });
}
