//! What a GenICam camera says of its own settings, asked through the library that `aravissrc` has
//! loaded: the element itself only repeats what it was told.

use std::ffi::{CStr, CString, c_char, c_double, c_int, c_void};
use std::ptr;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::glib::translate::FromGlibPtrFull;
use gstreamer::prelude::*;
use libloading::os::unix::{Library, RTLD_NOW};

use super::controls::{Controls, ReadBack, Setting};
use super::spelling::genicam_features;

/// The library's file name; its number stands for a form of calls that does not change.
pub(super) const LIBRARY: &str = "libaravis-0.8.so.0";

/// The camera accepts steps of its own; its exposure and gain are floating-point features.
const STEP: f64 = 0.0;

type GetString =
    unsafe extern "C" fn(*mut c_void, *const c_char, *mut *mut glib::ffi::GError) -> *const c_char;
type GetFigure = unsafe extern "C" fn(*mut c_void, *mut *mut glib::ffi::GError) -> c_double;
type GetChoice = unsafe extern "C" fn(*mut c_void, *mut *mut glib::ffi::GError) -> c_int;

/// The camera behind an `aravissrc` that plays.
pub(super) struct Camera {
    library: Library,
    camera: glib::Object,
}

impl Camera {
    /// The camera of `source`; `Err`: why it cannot be asked.
    pub(super) fn of(source: &gst::Element) -> Result<Camera, String> {
        let camera = source.property_value("camera").get::<glib::Object>();
        let camera = camera.map_err(|_| "the element has no camera open".to_owned())?;
        // SAFETY: the plug-in has loaded this very library; opening it again runs nothing new.
        let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW) };
        Ok(Camera { library: library.map_err(|why| why.to_string())?, camera })
    }

    /// Reads back what was set.
    pub(super) fn read_back(&self, controls: &Controls) -> Vec<ReadBack> {
        let mut read = Vec::new();
        for (name, asked) in genicam_features(controls) {
            read.push(ReadBack::word(name, &asked, self.word(name)));
        }
        let mut setting = |name: &str, auto: &str, function: [&[u8]; 2], asked: Option<Setting>| {
            let Some(asked) = asked else { return };
            let found = self.choice(function[1]);
            // A camera that cannot choose does not.
            if found.is_ok() || asked == Setting::Auto {
                let word = |is_auto: bool| if is_auto { "Continuous" } else { "Off" };
                let found = found.map(|value| word(value != 0).to_owned());
                read.push(ReadBack::word(auto, word(asked == Setting::Auto), found));
            }
            if let Setting::Fixed(value) = asked {
                read.push(ReadBack::number(name, value, self.figure(function[0]), STEP));
            }
        };
        let exposure: [&[u8]; 2] =
            [b"arv_camera_get_exposure_time\0", b"arv_camera_get_exposure_time_auto\0"];
        setting("ExposureTime", "ExposureAuto", exposure, controls.exposure_us);
        let gain: [&[u8]; 2] = [b"arv_camera_get_gain\0", b"arv_camera_get_gain_auto\0"];
        setting("Gain", "GainAuto", gain, controls.gain);
        read
    }

    fn word(&self, feature: &str) -> Result<String, String> {
        let feature = CString::new(feature).map_err(|why| why.to_string())?;
        // SAFETY: the function has this form in every version with this library name.
        let get = unsafe { self.library.get::<GetString>(b"arv_camera_get_string\0") };
        let get = get.map_err(|why| why.to_string())?;
        self.asking(|camera, error| {
            // SAFETY: camera, name and error place are valid for the call.
            let text = unsafe { get(camera, feature.as_ptr(), error) };
            // SAFETY: what is not null is a string that the library keeps until the next question.
            (!text.is_null())
                .then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        })?
        .ok_or_else(|| "the camera answers nothing".to_owned())
    }

    fn figure(&self, function: &[u8]) -> Result<f64, String> {
        // SAFETY: the functions named in `read_back` have this form.
        let get = unsafe { self.library.get::<GetFigure>(function) };
        let get = get.map_err(|why| why.to_string())?;
        // SAFETY: camera and error place are valid for the call.
        self.asking(|camera, error| unsafe { get(camera, error) })
    }

    fn choice(&self, function: &[u8]) -> Result<i32, String> {
        // SAFETY: the functions named in `read_back` have this form.
        let get = unsafe { self.library.get::<GetChoice>(function) };
        let get = get.map_err(|why| why.to_string())?;
        // SAFETY: camera and error place are valid for the call.
        self.asking(|camera, error| unsafe { get(camera, error) })
    }

    fn asking<T>(
        &self,
        ask: impl FnOnce(*mut c_void, *mut *mut glib::ffi::GError) -> T,
    ) -> Result<T, String> {
        let mut error = ptr::null_mut();
        let answer = ask(self.camera.as_ptr().cast(), &mut error);
        if error.is_null() {
            return Ok(answer);
        }
        // SAFETY: the library has made the error and left it to us.
        let error = unsafe { glib::Error::from_glib_full(error) };
        Err(error.message().to_owned())
    }
}
