//! The demo station, as the configuration room reads it.

use std::fs;
use std::path::{Path, PathBuf};

use inspectd::frame::Rgb8;
use inspectd::station::Station;
use inspectd::{builtin, config, simulate};

/// A configuration folder with the built-in model and the demo station.
pub struct Site {
    /// The folder; removed on drop.
    pub dir: tempfile::TempDir,
    /// The main file.
    pub file: PathBuf,
}

impl Site {
    /// Writes a site whose demo station looks at `footage`; `broker` is a port on loopback.
    pub fn new(footage: &Path, broker: Option<u16>) -> Site {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path();
        builtin::write_model(&root.join("model")).expect("the model is written");
        let mut main = String::from(
            "[device]\nname = \"box\"\n[model]\npath = \"model\"\n\
             [database]\npath = \"audit.db\"\nevidence = \"evidence\"\nreserve_mib = 1\n",
        );
        if let Some(port) = broker {
            main += &format!("[broker]\nhost = \"127.0.0.1\"\nport = {port}\n");
        }
        fs::write(root.join("inspectd.toml"), main).expect("written");
        fs::create_dir(root.join("stations")).expect("made");
        let station = builtin::demo_station(footage, false);
        fs::write(root.join("stations/demo.toml"), station).expect("written");
        Site { file: root.join("inspectd.toml"), dir }
    }

    /// A site whose station looks at a few pictures again and again, as fast as they are taken.
    pub fn of_pictures(broker: Option<u16>) -> Site {
        let site = Site::new(Path::new("/nowhere/line.mkv"), broker);
        let out = site.dir.path().join("set");
        let mix = simulate::Mix::default();
        let options = simulate::SetOptions { count: 6, seed: 7, dense: false, mix, out };
        simulate::write_set(&options, |_| {}).expect("a set is written");
        site.edit("uri = \"file:///nowhere/line.mkv\"", "folder = \"../set\"");
        site.edit("repeat = false\n", "repeat = true\nrealtime = false\n");
        site.edit("kind = \"presence\"", "kind = \"every_frame\"");
        site.edit("pixels = [152, 72, 336, 336]", "fraction = [0.0, 0.0, 1.0, 1.0]");
        site
    }

    /// Replaces `from` by `to` in the station's file; `from` must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.dir.path().join("stations/demo.toml");
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.contains(from), "\"{from}\" is not in the demo station:\n{text}");
        fs::write(path, text.replacen(from, to, 1)).expect("written");
    }

    /// The audit log.
    pub fn database(&self) -> PathBuf {
        self.dir.path().join("audit.db")
    }
}

/// The demo station as settings.
pub fn demo_station() -> Station {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.stations.into_iter().next().expect("one station")
}

/// A frame of 640x480 that shows something: a black one would go to review.
pub fn some_picture() -> Rgb8 {
    let mut picture = Rgb8::new(640, 480);
    for (at, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
        pixel.fill(40 + (at % 640 / 4) as u8);
    }
    picture
}
