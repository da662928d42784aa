//! GigE Vision and USB3 Vision cameras.
//!
//! GStreamer has an element for them, `aravissrc`. It gives up when no picture comes for two seconds, as
//! is usual where a line triggers the camera; it throws away incomplete pictures and does not say so; and
//! of what was set it repeats what it was told. So its library is called here, and pictures are fed into
//! the pipeline.

mod feeder;
mod library;

use std::ffi::{c_double, c_int, c_void};
use std::ptr;

use gstreamer::glib;
use gstreamer::glib::translate::FromGlibPtrFull;

use super::controls::{Controls, HardwareTrigger, ReadBack, Setting};
use super::options::{Options, Pixels, Source};
pub(super) use feeder::Feeder;
use library::{Api, asking, told};

/// `ARV_AUTO_OFF` and `ARV_AUTO_CONTINUOUS`.
const AUTO_OFF: c_int = 0;
const AUTO_ON: c_int = 2;

/// Names of the cameras that are attached or answer on the network; takes about a second.
pub(super) fn names() -> Result<Vec<String>, String> {
    let api = Api::get()?;
    // SAFETY: the calls have no preconditions; a name lives until the next update.
    let names = unsafe {
        (api.update_device_list)();
        (0..(api.get_n_devices)()).filter_map(|at| told((api.get_device_id)(at))).collect()
    };
    Ok(names)
}

/// The library's file and what to do about it, if it cannot be loaded.
pub(super) fn missing() -> Option<(String, String)> {
    Api::get().err().map(|why| (library::FILE.to_owned(), why))
}

/// GenICam's name of the pixels.
pub(super) fn pixel_format(pixels: Pixels) -> &'static str {
    match pixels {
        Pixels::Mono8 => "Mono8",
        Pixels::Rgb8 => "RGB8",
        Pixels::BayerRg8 => "BayerRG8",
        Pixels::BayerGr8 => "BayerGR8",
        Pixels::BayerGb8 => "BayerGB8",
        Pixels::BayerBg8 => "BayerBG8",
    }
}

/// An open camera.
struct Camera {
    api: &'static Api,
    camera: glib::Object,
}

impl Camera {
    /// Opens a camera, and takes it from nobody: one that another program has is an error.
    fn open(name: Option<&str>) -> Result<Camera, String> {
        let api = Api::get()?;
        let name = name.map(library::text).transpose()?;
        let name = name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        // SAFETY: the name is null or a text that lives for the call.
        let camera = asking("open", |error| unsafe { (api.camera_new)(name, error) })?;
        if camera.is_null() {
            return Err("no GenICam camera answers".to_owned());
        }
        // SAFETY: a new camera is an object of GLib, and its one reference is ours.
        let camera =
            unsafe { glib::Object::from_glib_full(camera.cast::<glib::gobject_ffi::GObject>()) };
        Ok(Camera { api, camera })
    }

    fn pointer(&self) -> *mut c_void {
        use glib::object::ObjectType;
        self.camera.as_ptr().cast()
    }

    /// The device behind the camera, which says when it is gone.
    fn device(&self) -> Option<glib::Object> {
        use glib::translate::FromGlibPtrNone;
        // SAFETY: the camera is open; the device belongs to it, so a reference is taken.
        unsafe {
            let device = (self.api.camera_get_device)(self.pointer());
            (!device.is_null())
                .then(|| glib::Object::from_glib_none(device.cast::<glib::gobject_ffi::GObject>()))
        }
    }

    fn set_word(&self, feature: &str, value: &str) -> Result<(), String> {
        let (name, value) = (library::text(feature)?, library::text(value)?);
        // SAFETY: camera, texts and error place are valid for the call.
        asking(feature, |error| unsafe {
            (self.api.camera_set_string)(self.pointer(), name.as_ptr(), value.as_ptr(), error);
        })
    }

    fn set_whole(&self, feature: &str, value: u32) -> Result<(), String> {
        let name = library::text(feature)?;
        // SAFETY: camera, text and error place are valid for the call.
        asking(feature, |error| unsafe {
            (self.api.camera_set_integer)(self.pointer(), name.as_ptr(), i64::from(value), error);
        })
    }

    /// Sets all that `options` ask for. The trigger comes last: setting a frame rate ends it.
    fn set_up(&self, options: &Options) -> Result<(), String> {
        let Source::Genicam { pixels, .. } = &options.source else { return Ok(()) };
        self.set_word("AcquisitionMode", "Continuous")?;
        self.set_word("PixelFormat", pixel_format(*pixels))?;
        for (feature, value) in [("Width", options.width_px), ("Height", options.height_px)] {
            value.map_or(Ok(()), |value| self.set_whole(feature, value))?;
        }
        if let Some(rate) = options.frames_per_s {
            // SAFETY: camera and error place are valid for the call.
            asking("AcquisitionFrameRate", |error| unsafe {
                (self.api.camera_set_frame_rate)(self.pointer(), f64::from(rate), error);
            })?;
        }
        let controls = &options.controls;
        let (api, camera) = (self.api, self.pointer());
        let set = |name, setting, choose: Choose, fix: Fix| set(camera, name, setting, choose, fix);
        let exposure = controls.exposure_us;
        set(
            "ExposureTime",
            exposure,
            api.camera_set_exposure_time_auto,
            api.camera_set_exposure_time,
        )?;
        set("Gain", controls.gain, api.camera_set_gain_auto, api.camera_set_gain)?;
        features(controls).iter().try_for_each(|(name, value)| self.set_word(name, value))
    }

    /// Reads back what was set.
    fn read_back(&self, controls: &Controls) -> Vec<ReadBack> {
        let mut read: Vec<ReadBack> = features(controls)
            .into_iter()
            .map(|(name, asked)| ReadBack::word(name, &asked, self.word(name)))
            .collect();
        let api = self.api;
        let settings = [
            (
                ["ExposureAuto", "ExposureTime"],
                controls.exposure_us,
                api.camera_get_exposure_time_auto,
                api.camera_get_exposure_time,
            ),
            (["GainAuto", "Gain"], controls.gain, api.camera_get_gain_auto, api.camera_get_gain),
        ];
        for ([auto, name], setting, choice, figure) in settings {
            let Some(asked) = setting else { continue };
            // SAFETY: camera and error place are valid for the call.
            let found = asking(auto, |error| unsafe { choice(self.pointer(), error) });
            // A camera that cannot choose does not.
            if found.is_ok() || asked == Setting::Auto {
                let word = |is_auto: bool| if is_auto { "Continuous" } else { "Off" };
                let found = found.map(|value| word(value != AUTO_OFF).to_owned());
                read.push(ReadBack::word(auto, word(asked == Setting::Auto), found));
            }
            if let Setting::Fixed(value) = asked {
                // SAFETY: as above.
                let found = asking(name, |error| unsafe { figure(self.pointer(), error) });
                read.push(ReadBack::number(name, value, found, 0.0));
            }
        }
        read
    }

    fn word(&self, feature: &str) -> Result<String, String> {
        let name = library::text(feature)?;
        // SAFETY: camera, name and error place are valid for the call; the answer lives until the next.
        asking(feature, |error| unsafe {
            told((self.api.camera_get_string)(self.pointer(), name.as_ptr(), error))
        })?
        .ok_or_else(|| "the camera answers nothing".to_owned())
    }
}

type Choose = unsafe extern "C" fn(*mut c_void, c_int, *mut *mut glib::ffi::GError);
type Fix = unsafe extern "C" fn(*mut c_void, c_double, *mut *mut glib::ffi::GError);

fn set(
    camera: *mut c_void,
    name: &str,
    setting: Option<Setting>,
    choose: Choose,
    fix: Fix,
) -> Result<(), String> {
    let Some(setting) = setting else { return Ok(()) };
    let auto = if setting == Setting::Auto { AUTO_ON } else { AUTO_OFF };
    // SAFETY: camera and error place are valid for the call.
    let chosen = asking(name, |error| unsafe { choose(camera, auto, error) });
    match setting {
        Setting::Auto => chosen,
        // A camera without a choice is not asked to give it up.
        Setting::Hold => Ok(()),
        // SAFETY: as above.
        Setting::Fixed(value) => asking(name, |error| unsafe { fix(camera, value, error) }),
    }
}

/// What is set by the names of the standard feature list, in order.
fn features(controls: &Controls) -> Vec<(&'static str, String)> {
    let mut features = Vec::new();
    match &controls.trigger {
        Some(HardwareTrigger::Line(line)) => {
            features.push(("TriggerSelector", "FrameStart".to_owned()));
            features.push(("TriggerMode", "On".to_owned()));
            features.push(("TriggerSource", line.clone()));
        }
        Some(HardwareTrigger::FreeRunning) => {
            features.push(("TriggerSelector", "FrameStart".to_owned()));
            features.push(("TriggerMode", "Off".to_owned()));
        }
        None => {}
    }
    match controls.white_balance_k {
        Some(Setting::Auto) => features.push(("BalanceWhiteAuto", "Continuous".to_owned())),
        Some(Setting::Hold | Setting::Fixed(_)) => {
            features.push(("BalanceWhiteAuto", "Off".to_owned()));
        }
        None => {}
    }
    features
}
