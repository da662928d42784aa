//! `[camera]`: where frames come from.

use std::time::Duration;

use super::super::reader::Reader;
use super::controls;
use crate::camera::{Credentials, HardwareTrigger, Options, Pixels, Source, Transport, file_uri};

/// Longest pipeline text or address, in characters.
const SOURCE_MAX: usize = 4096;

/// The keys of which exactly one is to be there.
const SOURCES: [&str; 7] = ["uri", "device", "csi", "libcamera", "genicam", "pipeline", "folder"];

/// Longest name of a camera or of one of its lines, in characters.
const NAME_MAX: usize = 128;

/// Reads the table. `None` where there is no usable source.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    let source = read_source(&mut table);
    let written: Vec<&str> = SOURCES.into_iter().filter(|key| table.has(key)).collect();
    match written.as_slice() {
        [] => {
            let remedy = "add one of  uri = \"rtsp://…\", device = \"/dev/video0\", csi = 0, \
                          genicam = \"any\", pipeline = \"…\", folder = \"…\"  below [camera]";
            table.error(table.span(), format!("{} has no source", table.name()), remedy);
        }
        [_] => {}
        several => {
            let title = format!("{} has {} sources", table.name(), several.len());
            let remedy = format!("keep one of `{}`", several.join("`, `"));
            table.error(table.key_span(several[1]), title, remedy);
        }
    }
    let mut options = Options::new(source.unwrap_or_else(|| Source::Uri(String::new())));
    read_size(&mut table, &mut options);
    read_stream(&mut table, &mut options);
    read_credentials(&mut table, &mut options);
    controls::read(table.table("controls"), &mut options);
    let waits = matches!(options.controls.trigger, Some(HardwareTrigger::Line(_)));
    if waits && !table.has("silence_limit_ms") {
        // A camera that waits for its trigger is not lost because none comes.
        options.silence_limit = None;
    }
    table.finish();
    (written.len() == 1 && !matches!(&options.source, Source::Uri(uri) if uri.is_empty()))
        .then_some(options)
}

fn read_source(table: &mut Reader<'_>) -> Option<Source> {
    // Each key is asked for, so that none is unknown when two are written.
    let uri = table.text("uri", SOURCE_MAX);
    let device = table.path("device");
    let csi = table.whole("csi", 0..=15);
    let libcamera = table.text("libcamera", NAME_MAX);
    let genicam = table.text("genicam", NAME_MAX);
    let pixels = read_pixels(table);
    let pipeline = table.text("pipeline", SOURCE_MAX);
    let folder = table.path("folder");
    let interval = table.whole("interval_ms", 1..=3_600_000);
    if let (Some(interval), false) = (&interval, table.has("folder")) {
        only_for(table, "interval_ms", interval.span(), "`folder`");
    }
    if let Some(uri) = uri {
        return match absolute(uri.get_ref(), |path| table.beside(path)) {
            Some(absolute) => Some(Source::Uri(absolute)),
            None => {
                let title = format!("\"{}\" is not an address of a camera", uri.get_ref());
                let remedy = "begin it with rtsp://, rtsps:// or file:";
                table.error(uri.span(), title, remedy);
                None
            }
        };
    }
    if let Some(device) = device {
        return Some(Source::Device(device.into_inner()));
    }
    if let Some(sensor) = csi {
        return Some(Source::Csi(sensor.into_inner() as u32));
    }
    if let Some(name) = libcamera {
        return Some(Source::Libcamera(name.into_inner()));
    }
    if let Some(name) = genicam {
        let name = Some(name.into_inner()).filter(|name| name != "any");
        return Some(Source::Genicam { name, pixels });
    }
    if let Some(pipeline) = pipeline {
        return Some(Source::Pipeline(pipeline.into_inner()));
    }
    let folder = folder?;
    if !folder.get_ref().is_dir() {
        let title = format!("there is no folder {} on this machine", folder.get_ref().display());
        table.warn(folder.span(), title, "make it before the service starts");
    }
    let interval = interval.map(|ms| Duration::from_millis(ms.into_inner() as u64));
    Some(Source::Folder { path: folder.into_inner(), interval })
}

/// The pixels of a GenICam camera.
fn read_pixels(table: &mut Reader<'_>) -> Pixels {
    let formats = [
        ("Mono8", Pixels::Mono8),
        ("RGB8", Pixels::Rgb8),
        ("BayerRG8", Pixels::BayerRg8),
        ("BayerGR8", Pixels::BayerGr8),
        ("BayerGB8", Pixels::BayerGb8),
        ("BayerBG8", Pixels::BayerBg8),
    ];
    let Some(format) = table.one_of("pixel_format", &formats) else { return Pixels::default() };
    if !table.has("genicam") {
        only_for(table, "pixel_format", format.span(), "`genicam`");
    }
    format.into_inner()
}

fn read_credentials(table: &mut Reader<'_>, options: &mut Options) {
    let file = table.path("credentials_file");
    let name = table.text("credentials", NAME_MAX);
    let span = file.as_ref().map(|file| file.span()).or(name.as_ref().map(|name| name.span()));
    let Some(span) = span else { return };
    if !options.source.is_network() {
        return only_for(table, "credentials", span, "an rtsp:// `uri`");
    }
    if file.is_some() && name.is_some() {
        let title = "both `credentials_file` and `credentials` are there";
        table.error(span.clone(), title, "keep the file, or the credential of systemd");
    }
    let has_password = matches!(&options.source, Source::Uri(uri) if uri.contains('@'));
    if has_password {
        let title = "the address holds a user name, and `credentials` another one";
        table.error(span, title, "take what stands before the @ out of `uri`");
    }
    options.rtsp.credentials = match (file, name) {
        (Some(file), _) => Some(Credentials::File(file.into_inner())),
        (None, name) => name.map(|name| Credentials::Systemd(name.into_inner())),
    };
}

fn read_size(table: &mut Reader<'_>, options: &mut Options) {
    let is_attached = options.source.is_attached();
    let mut set = |key, range, target: &mut Option<u32>| {
        let Some(number) = table.whole(key, range) else { return };
        if !is_attached {
            only_for(table, key, number.span(), "`device`, `csi`, `libcamera` and `genicam`");
        }
        *target = Some(number.into_inner() as u32);
    };
    set("width_px", 16..=16_384, &mut options.width_px);
    set("height_px", 16..=16_384, &mut options.height_px);
    set("frames_per_s", 1..=1000, &mut options.frames_per_s);
}

fn read_stream(table: &mut Reader<'_>, options: &mut Options) {
    let is_rtsp = matches!(&options.source, Source::Uri(uri) if uri.starts_with("rtsp"));
    if let Some(realtime) = table.flag("realtime") {
        options.realtime = realtime.into_inner();
    }
    if let Some(repeat) = table.flag("repeat") {
        options.repeat = repeat.into_inner();
    }
    if let Some(latency) = table.whole("rtsp_latency_ms", 0..=10_000) {
        if !is_rtsp {
            only_for(table, "rtsp_latency_ms", latency.span(), "an rtsp:// `uri`");
        }
        options.rtsp.latency_ms = latency.into_inner() as u32;
    }
    let transports = [("tcp", Transport::Tcp), ("udp", Transport::Udp), ("any", Transport::Any)];
    if let Some(transport) = table.one_of("rtsp_transport", &transports) {
        if !is_rtsp {
            only_for(table, "rtsp_transport", transport.span(), "an rtsp:// `uri`");
        }
        options.rtsp.transport = transport.into_inner();
    }
    let mut set = |key, target: &mut Duration| {
        if let Some(ms) = table.whole(key, 10..=3_600_000) {
            *target = Duration::from_millis(ms.into_inner() as u64);
        }
    };
    set("reconnect_first_ms", &mut options.reconnect.first);
    set("reconnect_ceiling_ms", &mut options.reconnect.ceiling);
    if options.reconnect.first > options.reconnect.ceiling {
        let title = "`reconnect_first_ms` is above `reconnect_ceiling_ms`";
        let remedy = "raise `reconnect_ceiling_ms` (default 10000)";
        table.error(table.key_span("reconnect_first_ms"), title, remedy);
    }
    if let Some(ms) = table.whole("silence_limit_ms", 0..=86_400_000) {
        let limit = Duration::from_millis(ms.into_inner() as u64);
        options.silence_limit = (!limit.is_zero()).then_some(limit);
    }
    if let Some(ms) = table.whole("frozen_limit_ms", 100..=86_400_000) {
        options.frozen_limit = Some(Duration::from_millis(ms.into_inner() as u64));
    }
}

pub(super) fn only_for(table: &Reader<'_>, key: &str, span: std::ops::Range<usize>, what: &str) {
    table.error(span, format!("`{key}` is only for {what}"), "remove it");
}

/// The address with an absolute path; `None` for one of another kind. What follows a bare `file:`
/// is a plain path, so it is taken from the file's folder and its odd bytes are written as %XX.
fn absolute(uri: &str, beside: impl Fn(&str) -> std::path::PathBuf) -> Option<String> {
    let has_host = |rest: &str| !rest.is_empty() && !rest.starts_with('/');
    for scheme in ["rtsp://", "rtsps://"] {
        if let Some(rest) = uri.strip_prefix(scheme) {
            return has_host(rest).then(|| uri.to_owned());
        }
    }
    if uri.len() > "file:///".len() && uri.starts_with("file:///") {
        return Some(uri.to_owned());
    }
    let path = uri.strip_prefix("file:").filter(|path| !path.is_empty())?;
    if path.starts_with("//") {
        return None;
    }
    let path = std::path::absolute(beside(path)).ok()?;
    Some(file_uri(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_relative_file_is_taken_from_the_files_folder() {
        let beside = |path: &str| Path::new("/etc/inspectd/stations").join(path);
        let uri = |uri| absolute(uri, beside);
        assert_eq!(uri("file:a b.mkv").as_deref(), Some("file:///etc/inspectd/stations/a%20b.mkv"));
        assert_eq!(uri("file:/srv/x.mkv").as_deref(), Some("file:///srv/x.mkv"));
        assert_eq!(uri("file:///srv/a%20b.mkv").as_deref(), Some("file:///srv/a%20b.mkv"));
        assert_eq!(uri("rtsp://10.0.0.7/live").as_deref(), Some("rtsp://10.0.0.7/live"));
        for bad in
            ["http://x", "rtsp:///live", "rtsp://", "file:", "file:///", "file://host/x", "x"]
        {
            assert_eq!(uri(bad), None, "{bad}");
        }
    }
}
