//! Cameras on the real GStreamer: what they deliver, how they fail, how they stop.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::camera::{
    self, CameraError, CameraHandle, Delivery, LossKind, Options, Reconnect, Source,
};
use inspectd::clock::SystemClock;
use inspectd::frame::{Form, Frame};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn try_open(options: &Options) -> Result<CameraHandle, CameraError> {
    camera::open("press", options, Arc::new(SystemClock))
}

fn open(options: &Options) -> CameraHandle {
    try_open(options).expect("the camera opens")
}

fn lossless(source: Source) -> Options {
    Options { realtime: false, ..Options::new(source) }
}

fn pipeline(text: &str) -> Source {
    Source::Pipeline(text.to_owned())
}

fn refused(source: Source) -> String {
    let options = Options::new(source);
    let opened = try_open(&options).expect_err("open refuses it").to_string();
    camera::check("press", &options).expect_err("check refuses what open refuses");
    assert!(opened.contains("\"press\""), "{opened}");
    opened
}

/// The next thing that is not merely the time passing.
fn tell(camera: &CameraHandle) -> Delivery {
    let limit = Instant::now() + PATIENCE;
    loop {
        match camera.next(Duration::from_secs(5)) {
            Delivery::NoFrame if Instant::now() < limit => {}
            delivery => return delivery,
        }
    }
}

fn frame(delivery: Delivery) -> Arc<Frame> {
    match delivery {
        Delivery::Frame(frame) => frame,
        other => panic!("expected a frame, got {other:?}"),
    }
}

fn loss(delivery: Delivery) -> String {
    match delivery {
        Delivery::Lost { reason, .. } => reason,
        other => panic!("expected a loss, got {other:?}"),
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "{what} did not come true");
        std::thread::yield_now();
    }
}

/// Records `text` into a file and waits until it is whole.
fn record(text: &str, path: &Path) {
    use gstreamer::prelude::*;
    gstreamer::init().expect("GStreamer starts");
    let text = format!("{text} ! filesink location=\"{}\"", path.display());
    let pipeline = gstreamer::parse::launch(&text).expect("the recording parses");
    pipeline.set_state(gstreamer::State::Playing).expect("the recording plays");
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let message = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(120), &kinds);
    let kind = message.expect("the recording ends").type_();
    pipeline.set_state(gstreamer::State::Null).expect("the recording closes");
    assert_eq!(kind, gstreamer::MessageType::Eos);
}

fn address(path: &Path) -> Source {
    Source::Uri(format!("file://{}", path.display()))
}

const MJPEG: &str = "videotestsrc num-buffers=30 ! video/x-raw,width=160,height=120,framerate=30/1 \
                     ! jpegenc ! matroskamux";

#[test]
fn every_frame_of_a_file_comes_once_when_nothing_may_be_lost() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a file with spaces.mkv");
    record(MJPEG, &path);
    let uri = format!("file://{}", path.display().to_string().replace(' ', "%20"));
    let camera = open(&lossless(Source::Uri(uri)));
    for sequence in 1..=30 {
        let frame = frame(tell(&camera));
        assert_eq!((frame.sequence, &*frame.camera), (sequence, "press"));
        assert_eq!((frame.picture.width(), frame.picture.height()), (160, 120));
        let expected_ms = (sequence - 1) * 1000 / 30;
        let ms = frame.pipeline_ns.expect("a file has times") / 1_000_000;
        assert!(ms.abs_diff(expected_ms) <= 1, "frame {sequence} at {ms} ms");
    }
    assert!(matches!(tell(&camera), Delivery::Ended));
    assert!(matches!(camera.next(Duration::ZERO), Delivery::Ended));
    assert_eq!(
        (camera.counts().delivered, camera.counts().dropped, camera.counts().lost()),
        (30, 0, 0)
    );
}

#[test]
fn a_file_in_real_time_takes_its_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("line.mkv");
    record(MJPEG, &path);
    let camera = open(&Options::new(address(&path)));
    let mut frames = Vec::new();
    while let Delivery::Frame(frame) = tell(&camera) {
        frames.push(frame);
    }
    let (first, last) = (&frames[0], &frames[frames.len() - 1]);
    // A busy machine makes it longer, nothing makes it shorter than the footage.
    let passed = last.captured.since(&first.captured).as_secs_f64();
    assert!(first.sequence < last.sequence);
    assert!(passed > 0.8 * (last.sequence - first.sequence) as f64 / 30.0, "{passed} s");
    assert_eq!(camera.counts().delivered + camera.counts().dropped, last.sequence);
    assert!(frames.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
}

#[test]
fn the_newest_frame_waits_and_the_camera_does_not() {
    let text = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=100/1";
    let camera = open(&Options::new(pipeline(text)));
    wait_until("frames are replaced", || camera.counts().dropped >= 5);
    let first = frame(tell(&camera)).sequence;
    assert!(first >= 6, "{first}");
    wait_until("more are replaced", || camera.counts().dropped >= first + 5);
    let second = frame(tell(&camera)).sequence;
    assert!(second > first + 1, "{second} after {first}");
    assert_eq!(camera.counts().delivered, 2);
}

/// 637 pixels are 1,911 bytes and GStreamer's rows begin at multiples of four.
#[test]
fn padding_between_rows_does_not_shear_the_picture() {
    let text = "videotestsrc num-buffers=2 pattern=smpte100 \
                ! video/x-raw,format=RGB,width=637,height=479";
    let camera = open(&lossless(pipeline(text)));
    let frame = frame(tell(&camera));
    let picture = frame.picture.rgb();
    assert_eq!((picture.width, picture.height), (637, 479));
    // Seven bars: white, yellow, cyan, green, magenta, red, blue.
    let expected = [
        [255, 255, 255],
        [255, 255, 0],
        [0, 255, 255],
        [0, 255, 0],
        [255, 0, 255],
        [255, 0, 0],
        [0, 0, 255],
    ];
    for y in [0, 1, 2, 100, 200, 300] {
        for (bar, expected) in expected.iter().enumerate() {
            let x = 637 * (2 * bar as u32 + 1) / 14;
            let near = picture.pixel(x, y).iter().zip(expected).all(|(a, b)| a.abs_diff(*b) < 8);
            assert!(near, "bar {bar} at ({x}, {y}) is {:?}", picture.pixel(x, y));
        }
    }
    let row = 637 * 3;
    assert_eq!(picture.data[..row], picture.data[300 * row..301 * row]);
}

/// Each form arrives as the source gives it, and becomes the RGB that GStreamer would have made but
/// for its coarser arithmetic (192 of 255 becomes 189 there).
#[test]
fn frames_are_kept_as_they_come_and_become_the_same_rgb() {
    for (caps, form) in [
        ("format=I420,colorimetry=bt601", Form::I420),
        ("format=I420,colorimetry=1:4:0:0", Form::I420),
        ("format=NV12,colorimetry=bt709", Form::Nv12),
        ("format=Y42B,colorimetry=1:4:0:0", Form::Y42b),
        ("format=YUY2,colorimetry=bt601", Form::Yuy2),
        ("format=GRAY8", Form::Gray8),
        ("format=RGB", Form::Rgb),
    ] {
        // Areas of one colour: how colour is filled in between pixels is another matter.
        let source = format!(
            "videotestsrc num-buffers=1 pattern=smpte75 ! video/x-raw,{caps},width=637,height=479"
        );
        let ours = frame(tell(&open(&lossless(pipeline(&source)))));
        assert_eq!(ours.picture.form(), form, "{caps}");
        let converted = format!("{source} ! videoconvert ! video/x-raw,format=RGB");
        let theirs = frame(tell(&open(&lossless(pipeline(&converted)))));
        assert_eq!(theirs.picture.form(), Form::Rgb);
        for x in (0..7).map(|bar| 637 * (2 * bar + 1) / 14) {
            let [ours, theirs] = [&ours, &theirs].map(|frame| frame.picture.rgb().pixel(x, 100));
            let near = ours.iter().zip(theirs).all(|(a, b)| a.abs_diff(b) <= 6);
            assert!(near, "{caps}: {ours:?} at {x}, and GStreamer makes it {theirs:?}");
        }
    }
}

/// Ten bits a colour, which nothing here reads, is converted to what is nearest.
#[test]
fn a_form_that_is_not_known_is_converted_by_gstreamer() {
    let text = "videotestsrc num-buffers=1 pattern=red ! \
                video/x-raw,format=I420_10LE,width=64,height=48";
    let picture = frame(tell(&open(&lossless(pipeline(text))))).picture.clone();
    let [red, green, blue] = picture.rgb().pixel(10, 10);
    assert!(red > 240 && green < 16 && blue < 16, "{picture:?}: {red} {green} {blue}");
}

#[test]
fn a_pipeline_may_deliver_any_raw_format() {
    let text =
        "videotestsrc num-buffers=1 pattern=red ! video/x-raw,format=NV12,width=64,height=48 !";
    let camera = open(&lossless(pipeline(text)));
    let [red, green, blue] = frame(tell(&camera)).picture.rgb().pixel(10, 10);
    assert!(red > 240 && green < 16 && blue < 16, "{red} {green} {blue}");
    assert!(matches!(tell(&camera), Delivery::Ended));
}

#[test]
fn a_folder_is_shown_in_order_and_bad_pictures_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for (name, level) in [("a.png", 10), ("c.PNG", 30), ("e.bmp", 50), ("g.jpg", 70)] {
        image::RgbImage::from_pixel(33, 21, image::Rgb([level; 3]))
            .save(path(name))
            .expect("saved");
    }
    let torn = |from: &str, to: &str| {
        let bytes = std::fs::read(path(from)).expect("readable");
        std::fs::write(path(to), &bytes[..bytes.len() - 20]).expect("writable");
    };
    torn("a.png", "b.png");
    torn("g.jpg", "h.jpeg");
    std::fs::write(path("d.png"), "this is no picture").expect("writable");
    std::fs::write(path("f.txt"), "nor is this, and nobody asked").expect("writable");

    let interval = Some(Duration::from_millis(1));
    for interval in [None, interval] {
        let camera = open(&Options::new(Source::Folder { path: folder.path().into(), interval }));
        let mut told = Vec::new();
        loop {
            told.push(match tell(&camera) {
                Delivery::Frame(frame) => format!("{}", frame.picture.rgb().pixel(32, 20)[0]),
                Delivery::Lost { reason, .. } => {
                    let name = reason.split(".p").next().and_then(|text| text.chars().last());
                    let name = name.filter(|_| reason.contains(".png")).unwrap_or('h');
                    assert!(reason.contains("passed over"), "{reason}");
                    format!("lost {name}")
                }
                Delivery::Back => "back".to_owned(),
                Delivery::Ended => break,
                Delivery::NoFrame => panic!("nothing came"),
            });
        }
        let expected = ["10", "lost b", "back", "30", "lost d", "back", "50", "70", "lost h"];
        if interval.is_none() {
            assert_eq!(told, expected);
        } else {
            // A picture may have been replaced; what was lost is told whatever happens.
            assert!(told.iter().all(|said| expected.contains(&said.as_str())), "{told:?}");
            assert_eq!(told.iter().filter(|said| said.starts_with("lost")).count(), 3, "{told:?}");
        }
        assert_eq!(camera.counts().lost(), 3);
        assert_eq!(camera.counts().delivered + camera.counts().dropped, 4);
    }
}

#[test]
fn what_is_not_there_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let there = |name: &str| folder.path().join(name);

    let said = refused(address(&there("absent.mkv")));
    assert!(said.contains("absent.mkv") && said.contains("correct the path"), "{said}");
    let said = refused(address(folder.path()));
    assert!(said.contains("is not a file"), "{said}");
    let said = refused(Source::Device("/dev/video-absent".into()));
    assert!(said.contains("/dev/video-absent") && said.contains("plug the camera in"), "{said}");
    std::fs::write(there("video0"), "").expect("writable");
    let said = refused(Source::Device(there("video0")));
    assert!(said.contains("is not a device"), "{said}");
    let said = refused(Source::Folder { path: there("absent"), interval: None });
    assert!(said.contains("absent") && said.contains("create the folder"), "{said}");
    let said = refused(Source::Folder { path: folder.path().into(), interval: None });
    assert!(said.contains("holds no picture"), "{said}");
    let said = refused(Source::Uri("https://example.org/a.mp4".into()));
    assert!(said.contains("rtsp://"), "{said}");
}

#[test]
fn a_pipeline_that_cannot_be_built_is_said_at_once() {
    let said = refused(pipeline("videotestsrc ! ! videoscale"));
    assert!(said.contains("cannot be built"), "{said}");
    let said = refused(pipeline("v4l9src ! videoscale"));
    assert!(said.contains("\"v4l9src\" is missing"), "{said}");
    let said = refused(pipeline("nvarguscamerasrc sensor-id=0"));
    assert!(said.contains("NVIDIA Jetson only"), "{said}");
    let said = refused(pipeline("audiotestsrc ! audioconvert"));
    assert!(said.contains("could not link"), "{said}");
    let said = refused(pipeline("videotestsrc colour=red"));
    assert!(said.contains("colour"), "{said}");
    refused(pipeline(""));
}

#[test]
fn a_file_that_is_no_footage_is_lost_and_then_ended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let noise = folder.path().join("noise.mkv");
    std::fs::write(&noise, [0x5a; 5000]).expect("writable");
    let sound = folder.path().join("sound.wav");
    record("audiotestsrc num-buffers=20 ! wavenc", &sound);
    for (path, expected) in [(noise, ""), (sound, "holds no video")] {
        for realtime in [true, false] {
            let camera = open(&Options { realtime, ..Options::new(address(&path)) });
            let reason = loss(tell(&camera));
            assert!(reason.contains(expected), "{reason}");
            assert!(matches!(tell(&camera), Delivery::Ended));
        }
    }
}

#[test]
fn a_live_source_that_ends_is_lost_and_opened_again() {
    let text =
        "videotestsrc is-live=true num-buffers=2 ! video/x-raw,width=64,height=48,framerate=100/1";
    let quick = Duration::from_millis(1);
    let reconnect = Reconnect { first: quick, ceiling: quick };
    let camera = open(&Options { reconnect, ..Options::new(pipeline(text)) });
    let (mut losses, mut last) = (0, 0);
    while losses < 20 {
        match tell(&camera) {
            Delivery::Frame(frame) => {
                assert!(frame.sequence > last);
                last = frame.sequence;
            }
            Delivery::Lost { reason, .. } => {
                assert!(reason.contains("ended its stream"), "{reason}");
                losses += 1;
            }
            Delivery::Back => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(camera.counts().lost() >= 20);
}

#[test]
fn silence_is_a_loss_only_where_a_limit_is_set() {
    // All frames vanish within the pipeline, as with a camera whose trigger does not come.
    let text = "videotestsrc is-live=true ! identity drop-probability=1";
    let patient = open(&Options::new(pipeline(text)));
    assert!(matches!(patient.next(Duration::from_millis(300)), Delivery::NoFrame));
    let silence_limit = Some(Duration::from_millis(100));
    let camera = open(&Options { silence_limit, ..Options::new(pipeline(text)) });
    let reason = loss(tell(&camera));
    assert!(reason.starts_with("no frame for"), "{reason}");
    assert!(matches!(patient.next(Duration::ZERO), Delivery::NoFrame));
}

/// A camera that sends a few whole pictures, and then others without their end for ever.
fn torn_pictures(folder: &Path) -> String {
    record(
        "videotestsrc num-buffers=1 ! video/x-raw,format=I420,width=64,height=48 ! jpegenc",
        &folder.join("whole.jpg"),
    );
    let whole = std::fs::read(folder.join("whole.jpg")).expect("readable");
    std::fs::write(folder.join("torn.jpg"), &whole[..whole.len() / 2]).expect("writable");
    let source = |name: &str, how: &str| {
        let path = folder.join(name).display().to_string();
        format!("multifilesrc location=\"{path}\" {how} caps=image/jpeg,framerate=50/1 ! c. ")
    };
    source("whole.jpg", "num-buffers=5") + &source("torn.jpg", "") + "concat name=c ! jpegdec"
}

#[test]
fn half_a_picture_is_counted_and_a_camera_that_sends_nothing_else_is_lost() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = torn_pictures(folder.path());
    let silence_limit = Some(Duration::from_millis(400));
    let camera = open(&Options { silence_limit, ..Options::new(pipeline(&text)) });
    frame(tell(&camera));
    loop {
        match tell(&camera) {
            Delivery::Frame(_) => {}
            Delivery::Lost { kind, reason } => {
                assert_eq!(kind, LossKind::Garbled, "{reason}");
                assert!(reason.contains("torn or damaged"), "{reason}");
                break;
            }
            other => panic!("expected a loss, got {other:?}"),
        }
    }
    assert!(camera.counts().partial > 5, "{:?}", camera.counts());
}

#[test]
fn a_camera_that_repeats_one_picture_is_frozen_where_that_is_asked() {
    let still = "videotestsrc is-live=true pattern=blue \
                 ! video/x-raw,width=64,height=48,framerate=50/1";
    let frozen_limit = Some(Duration::from_millis(200));
    let camera = open(&Options { frozen_limit, ..Options::new(pipeline(still)) });
    frame(tell(&camera));
    loop {
        match tell(&camera) {
            Delivery::Frame(_) => {}
            Delivery::Lost { kind, .. } => break assert_eq!(kind, LossKind::Frozen),
            other => panic!("expected a loss, got {other:?}"),
        }
    }
    // What it sends after it was opened anew is the old picture still.
    let before = camera.counts().brought;
    wait_until("it is tried again", || camera.counts().lost() >= 1);
    assert!(matches!(camera.next(Duration::from_secs(1)), Delivery::NoFrame));
    assert_eq!(camera.counts().brought, before);
    let moving = still.replace("blue", "ball");
    let camera = open(&Options { frozen_limit, ..Options::new(pipeline(&moving)) });
    for _ in 0..20 {
        frame(tell(&camera));
    }
}

#[test]
fn a_device_that_fails_to_start_is_sought_again() {
    let text = "v4l2src device=/dev/video-absent";
    let quick = Duration::from_millis(1);
    let reconnect = Reconnect { first: quick, ceiling: quick };
    let camera = open(&Options { reconnect, ..Options::new(pipeline(text)) });
    let reason = loss(tell(&camera));
    assert!(reason.contains("/dev/video-absent"), "{reason}");
    // Told once however often it is tried.
    assert!(matches!(camera.next(Duration::from_millis(200)), Delivery::NoFrame));
    assert_eq!(camera.counts().lost(), 1);
}

#[test]
fn stop_works_in_every_state() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("line.mkv");
    record(MJPEG, &path);
    let still = pipeline("videotestsrc is-live=true ! identity drop-probability=1");
    let live = pipeline("videotestsrc is-live=true ! video/x-raw,width=64,height=48");
    let at_once = open(&Options::new(live.clone()));
    let silent = open(&Options::new(still));
    let unread = open(&lossless(address(&path)));
    wait_until("a frame waits", || matches!(unread.next(Duration::ZERO), Delivery::Frame(_)));
    let ended = open(&lossless(address(&path)));
    while !matches!(tell(&ended), Delivery::Ended) {}
    for camera in [at_once, silent, unread, ended] {
        let before = Instant::now();
        camera.stop();
        camera.stop();
        assert!(matches!(camera.next(PATIENCE), Delivery::Ended));
        assert!(before.elapsed() < PATIENCE);
    }
    // While another thread waits for a frame that does not come.
    let camera =
        Arc::new(open(&Options::new(pipeline("videotestsrc ! identity drop-probability=1"))));
    let reader = Arc::clone(&camera);
    let thread = std::thread::spawn(move || reader.next(PATIENCE));
    camera.stop();
    assert!(matches!(thread.join().expect("no panic"), Delivery::Ended));
    // And dropped while it plays.
    frame(tell(&open(&Options::new(live))));
}
