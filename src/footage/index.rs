//! `index.jsonl`: a header, then one line for each thing that happened.
//!
//! A line is one JSON object, written by one call. What is read may have been written by anybody:
//! lines are bounded, numbers are checked against what came before, and no line names a path.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FootageError, INDEX, Quality, Subject};
use crate::clock::Stamp;
use crate::frame::{Colours, Form, Matrix, Picture};
use crate::trigger::photo_eye::{Edge, Signal, Wire};

/// The version of this form; a change that a reader must know of raises it.
pub const VERSION: u64 = 1;

/// Longest line, in bytes.
const LINE_MAX_BYTES: u64 = 16 * 1024;

/// Most pixels a side that a segment may claim.
const SIDE_MAX_PX: u32 = 16_384;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`] when it was written; stands first, so that a reader of another version finds it.
    pub footage: u64,
    /// The version of the program that wrote it.
    pub program: String,
    /// The device's name.
    pub device: String,
    /// The station's name.
    pub station: String,
    /// The camera's name.
    pub camera: String,
    /// SHA-256 of the station's configuration.
    pub config_sha256: String,
    /// How its pictures are kept.
    pub quality: Quality,
    /// How the bytes of the first picture lay at the camera, under GStreamer's name.
    pub pixels: String,
    /// Pixels across of the first picture. Each segment names its own.
    pub width: u32,
    /// Pixels down, likewise.
    pub height: u32,
}

impl Header {
    pub(super) fn new(subject: &Subject, quality: Quality, look: &Look) -> Header {
        let (width, height) = look.size;
        Header {
            footage: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            device: subject.device.clone(),
            station: subject.station.clone(),
            camera: subject.station.clone(),
            config_sha256: subject.config_sha256.clone(),
            quality,
            pixels: look.form.name().to_owned(),
            width,
            height,
        }
    }
}

/// What happened, in the order in which the station met it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The frames that follow are in this segment.
    Segment {
        /// Counts from 1; names the file.
        number: u32,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// How the camera's bytes lay, where they are kept; without it a picture is what its decoder
        /// makes of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pixels: Option<PixelForm>,
    },
    /// A frame.
    Frame {
        /// Its segment.
        segment: u32,
        /// Its place in the segment, from 0.
        position: u32,
        /// What the station knew of it.
        #[serde(flatten)]
        shot: FrameFacts,
    },
    /// A frame that the station saw and that could not be kept.
    Dropped(FrameFacts),
    /// The camera was lost.
    Lost {
        /// In which way, by the word of `camera::LossKind`.
        kind: String,
        /// What happened.
        reason: String,
        /// When.
        at: Stamp,
    },
    /// It came back; a frame follows.
    Back {
        /// When.
        at: Stamp,
    },
    /// Its pictures came to their end. Others may follow, where it plays them again.
    Ended {
        /// When.
        at: Stamp,
    },
    /// The controller asked for a part.
    Order(Order),
    /// The lines of a photo eye told something.
    Eye(Heard),
    /// A verdict for which this footage was kept.
    Verdict(Mark),
    /// The last line of footage that was ended in good order.
    End {
        /// Why it ended.
        why: String,
        /// When.
        at: Stamp,
    },
}

/// How the bytes of pictures lie, and what they stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelForm {
    /// Its name in GStreamer.
    pub form: String,
    /// Which colours brightness is mixed of: `bt601`, `bt709` or `bt2020`; nothing for RGB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<String>,
    /// Brightness goes from 0 to 255; otherwise from 16 to 235.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_full_range: bool,
}

/// The names of the mixtures of brightness.
const MATRICES: [(&str, Matrix); 3] =
    [("bt601", Matrix::Bt601), ("bt709", Matrix::Bt709), ("bt2020", Matrix::Bt2020)];

/// What a camera's pictures have in common as long as nobody changes its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) size: (u32, u32),
    pub(super) form: Form,
    pub(super) colours: Option<Colours>,
}

impl Look {
    pub(super) fn of(picture: &Picture) -> Look {
        let size = (picture.width(), picture.height());
        Look { size, form: picture.form(), colours: picture.colours() }
    }

    /// That of a JPEG.
    pub(super) fn jpeg(size: (u32, u32)) -> Look {
        Look { size, form: Form::I420, colours: Some(Colours::JPEG) }
    }

    pub(super) fn written(&self) -> PixelForm {
        let name = |matrix| MATRICES.iter().find(|(_, known)| *known == matrix);
        PixelForm {
            form: self.form.name().to_owned(),
            matrix: self.colours.and_then(|it| name(it.matrix)).map(|(name, _)| (*name).to_owned()),
            is_full_range: self.colours.is_some_and(|it| it.is_full_range),
        }
    }

    /// What `written` says; `None`: nothing that is known.
    pub(super) fn read(size: (u32, u32), written: &PixelForm) -> Option<Look> {
        let form = Form::ALL.into_iter().find(|form| form.name() == written.form)?;
        let known = |word: &String| MATRICES.iter().find(|(name, _)| name == word);
        let colours = match (form, &written.matrix) {
            (Form::Rgb, _) => None,
            (_, Some(word)) => {
                let is_full_range = written.is_full_range;
                Some(Colours { matrix: known(word)?.1, is_full_range })
            }
            (_, None) => return None,
        };
        Some(Look { size, form, colours })
    }
}

/// What is known of a frame without its pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameFacts {
    /// Its number at its camera; a hole is a frame that nobody looked at.
    pub sequence: u64,
    /// When it reached the station.
    pub captured: Stamp,
    /// The pipeline's own time stamp, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_ns: Option<u64>,
}

/// A part that the controller asked for by MQTT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// When it arrived.
    pub asked: Stamp,
    /// The command's payload: its ids, and its deadline. At most 4 KiB that a controller sent.
    pub trigger: serde_json::Value,
}

/// What the lines of a photo eye told, and when the station heard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// When it was heard.
    pub at: Stamp,
    /// What was told; edges have their own times.
    pub signal: Signal,
}

impl Heard {
    /// Whether it is an edge of the eye, and not of its encoder.
    pub fn is_of_eye(&self) -> bool {
        matches!(self.signal, Signal::Edge(Edge { wire: Wire::Eye, .. }))
    }
}

/// A verdict for which footage is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The record.
    pub result_id: String,
    /// The station's number of the look.
    pub job_id: u64,
    /// The part.
    pub part_id: String,
    /// `fail`, `review` or `pass`.
    pub verdict: String,
    /// The frame that was judged by, if it was not lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_sequence: Option<u64>,
    /// When its picture was taken, or the part triggered where there is none.
    pub at: Stamp,
}

/// The file of a segment.
pub fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.mkv"))
}

/// Appends lines. Nothing waits in this process: what was written survives a kill.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    path: PathBuf,
}

impl Index {
    /// Makes the index of `dir`, which must have none.
    pub(super) fn create(dir: &Path, header: &Header) -> Result<Index, FootageError> {
        let path = dir.join(INDEX);
        let file = File::create_new(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FootageError::Exists { path: dir.to_owned() },
            _ => FootageError::File { verb: "make", path: path.clone(), source },
        })?;
        let mut index = Index { file, path };
        index.append(header)?;
        Ok(index)
    }

    /// Appends one line.
    pub(super) fn append(&mut self, line: &impl Serialize) -> Result<(), FootageError> {
        let mut text = serde_json::to_vec(line).expect("lines have a JSON form");
        text.push(b'\n');
        self.file.write_all(&text).map_err(FootageError::file("write", &self.path))
    }

    /// Forces what was appended to the disk.
    pub(super) fn sync(&self) -> Result<(), FootageError> {
        self.file.sync_data().map_err(FootageError::file("write", &self.path))
    }
}

/// Reads an index line by line.
#[derive(Debug)]
pub(super) struct IndexReader {
    lines: BufReader<File>,
    path: PathBuf,
    number: u64,
    segment: u32,
    position: u32,
    /// The last line was cut off.
    pub(super) is_torn: bool,
}

impl IndexReader {
    /// Opens the index of `dir` and reads its header.
    pub(super) fn open(dir: &Path) -> Result<(IndexReader, Header), FootageError> {
        let path = dir.join(INDEX);
        if !path.is_file() {
            return Err(FootageError::NoFootage { path: dir.to_owned() });
        }
        let file = File::open(&path).map_err(FootageError::file("read", &path))?;
        let lines = BufReader::new(file);
        let mut reader =
            IndexReader { lines, path, number: 0, segment: 0, position: 0, is_torn: false };
        let no_header = || "it has no header".to_owned();
        let text = reader.text()?.ok_or_else(|| reader.bad(no_header()))?;
        #[derive(Deserialize)]
        struct Version {
            footage: u64,
        }
        let version: Version = reader.parse(&text)?;
        if version.footage != VERSION {
            return Err(FootageError::Version { path: reader.path, found: version.footage });
        }
        let header: Header = reader.parse(&text)?;
        reader.check_size(header.width, header.height)?;
        Ok((reader, header))
    }

    /// The next line. `None`: there is no more, or only a torn one ([`IndexReader::is_torn`]).
    pub(super) fn next(&mut self) -> Result<Option<Line>, FootageError> {
        let Some(text) = self.text()? else { return Ok(None) };
        let line = match self.parse(&text) {
            Ok(line) => line,
            // A power cut leaves zeros or half a page at the end, with or without a line's end.
            Err(_) if self.is_at_end()? => {
                self.is_torn = true;
                return Ok(None);
            }
            Err(why) => return Err(why),
        };
        self.check(&line)?;
        Ok(Some(line))
    }

    /// A line's text; `None` at the end and where the last line has none.
    fn text(&mut self) -> Result<Option<Vec<u8>>, FootageError> {
        let mut text = Vec::new();
        let mut bounded = self.lines.by_ref().take(LINE_MAX_BYTES);
        bounded.read_until(b'\n', &mut text).map_err(FootageError::file("read", &self.path))?;
        self.number += 1;
        if text.pop_if(|byte| *byte == b'\n').is_some() {
            return Ok(Some(text));
        }
        if text.len() as u64 >= LINE_MAX_BYTES {
            return Err(self.bad(format!("it is longer than {LINE_MAX_BYTES} bytes")));
        }
        self.is_torn |= !text.is_empty();
        Ok(None)
    }

    fn is_at_end(&mut self) -> Result<bool, FootageError> {
        let rest = self.lines.fill_buf().map_err(FootageError::file("read", &self.path))?;
        Ok(rest.is_empty())
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, text: &[u8]) -> Result<T, FootageError> {
        serde_json::from_slice(text).map_err(|why| self.bad(why.to_string()))
    }

    /// Whether it follows from the lines before it.
    fn check(&mut self, line: &Line) -> Result<(), FootageError> {
        match line {
            Line::Segment { number, width, height, pixels } => {
                if *number != self.segment + 1 {
                    let expected = self.segment + 1;
                    return Err(self.bad(format!("segment {number} where {expected} is due")));
                }
                self.check_size(*width, *height)?;
                let strange = pixels.as_ref().filter(|it| Look::read((1, 1), it).is_none());
                if let Some(pixels) = strange {
                    return Err(self.bad(format!("pixels of the unknown form {pixels:?}")));
                }
                (self.segment, self.position) = (*number, 0);
            }
            Line::Frame { segment, position, .. } => {
                if (*segment, *position) != (self.segment, self.position) || self.segment == 0 {
                    let due = (self.segment, self.position);
                    let why = format!(
                        "frame {position} of segment {segment} where {} of {} is due",
                        due.1, due.0
                    );
                    return Err(self.bad(why));
                }
                self.position += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_size(&self, width: u32, height: u32) -> Result<(), FootageError> {
        if [width, height].iter().any(|side| !(1..=SIDE_MAX_PX).contains(side)) {
            return Err(self.bad(format!("a picture of {width}x{height} px")));
        }
        Ok(())
    }

    fn bad(&self, why: String) -> FootageError {
        FootageError::Line { path: self.path.clone(), line: self.number, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = r#"{"wall":"2026-01-01T00:00:00Z","monotonic_ns":5}"#;

    fn written(lines: &[String]) -> (tempfile::TempDir, Result<Vec<Line>, FootageError>, bool) {
        let dir = tempfile::tempdir().expect("a folder");
        let subject =
            Subject { device: "box".into(), station: "s".into(), config_sha256: "c".into() };
        let header = Header::new(&subject, Quality::High, &Look::jpeg((640, 480)));
        let header = serde_json::to_string(&header).expect("JSON");
        let text = [vec![header + "\n"], lines.to_vec()].concat().concat();
        std::fs::write(dir.path().join(INDEX), text).expect("written");
        let read = || {
            let (mut reader, _) = IndexReader::open(dir.path())?;
            let mut lines = Vec::new();
            while let Some(line) = reader.next()? {
                lines.push(line);
            }
            Ok((lines, reader.is_torn))
        };
        let read = read();
        let is_torn = read.as_ref().is_ok_and(|(_, is_torn)| *is_torn);
        (dir, read.map(|(lines, _)| lines), is_torn)
    }

    fn segment(number: u32) -> String {
        format!("{{\"segment\":{{\"number\":{number},\"width\":640,\"height\":480}}}}\n")
    }

    fn frame(segment: u32, position: u32) -> String {
        format!(
            "{{\"frame\":{{\"segment\":{segment},\"position\":{position},\"sequence\":7,\
             \"captured\":{AT}}}}}\n"
        )
    }

    #[test]
    fn a_torn_end_is_no_error_and_a_torn_middle_is() {
        let good = [segment(1), frame(1, 0), frame(1, 1)];
        let (_dir, read, is_torn) = written(&good);
        assert_eq!((read.expect("whole").len(), is_torn), (3, false));
        for end in ["{\"frame\":{\"segm", "\0\0\0\0", "\0\0\0\0\n", "{\"frame\"\n"] {
            let torn = [good.to_vec(), vec![end.to_owned()]].concat();
            let (_dir, read, is_torn) = written(&torn);
            assert_eq!((read.expect("all but the last").len(), is_torn), (3, true), "{end:?}");
        }
        let (_dir, read, _) =
            written(&[segment(1), "{\"frame\":\n".to_owned(), frame(1, 0), frame(1, 1)]);
        let said = read.expect_err("damaged").to_string();
        assert!(said.contains("index.jsonl line 3"), "{said}");
    }

    #[test]
    fn what_does_not_follow_is_refused_by_its_line() {
        let huge = "{\"segment\":{\"number\":1,\"width\":4000000000,\"height\":2}}\n".to_owned();
        let pixels = "{\"segment\":{\"number\":1,\"width\":2,\"height\":2,\"pixels\":{\"form\":\"P010\"}}}\n".to_owned();
        let strange = "{\"portal\":{}}\n".to_owned();
        let long = format!("{{\"back\":{{\"at\":{AT}, \"x\":\"{}\"}}}}\n", "x".repeat(20_000));
        for (lines, expected) in [
            (vec![frame(1, 0), segment(1)], "line 2"),
            (vec![segment(2), segment(3)], "line 2"),
            (vec![segment(1), frame(1, 1), frame(1, 2)], "line 3"),
            (vec![huge, segment(2)], "4000000000x2 px"),
            (vec![pixels, segment(2)], "unknown form"),
            (vec![strange, segment(1)], "portal"),
            (vec![long], "longer than"),
        ] {
            let (_dir, read, _) = written(&lines);
            let said = read.expect_err("refused").to_string();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(INDEX), "{\"footage\":2,\"new\":true}\n").expect("written");
        let said = IndexReader::open(dir.path()).expect_err("newer").to_string();
        assert!(said.contains("version 2") && said.contains("version 1"), "{said}");
        let none = IndexReader::open(&dir.path().join("no")).expect_err("none").to_string();
        assert!(none.contains("holds no footage"), "{none}");
    }
}
