//! The GenICam library (Aravis), by name at run time: a link to it would make it a dependency of
//! every machine without such a camera.

use std::ffi::{CStr, CString, c_char, c_double, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use gstreamer::glib;
use gstreamer::glib::translate::FromGlibPtrFull;
use libloading::os::unix::{Library, RTLD_NOW};

/// The library's file name; its number stands for a form of calls that does not change.
pub(super) const FILE: &str = "libaravis-0.8.so.0";

type Object = *mut c_void;
type Error = *mut *mut glib::ffi::GError;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        /// Its functions that we call.
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)*
            // The functions are in it.
            _library: Library,
        }

        impl Api {
            /// The library, loaded once and never unloaded, as its types stay known to GLib; `Err`:
            /// why it cannot be loaded.
            pub(super) fn get() -> Result<&'static Api, String> {
                static LOADED: OnceLock<Api> = OnceLock::new();
                match LOADED.get() {
                    Some(api) => Ok(api),
                    None => Api::load().map(|api| LOADED.get_or_init(|| api)),
                }
            }

            fn load() -> Result<Api, String> {
                // SAFETY: the library sets up its types when it is loaded, and nothing else. That the
                // functions have these forms is what its name and number stand for.
                unsafe {
                    let library = Library::open(Some(FILE), RTLD_NOW).map_err(|why| {
                        format!("install the Debian package libaravis-0.8-0 ({why})")
                    })?;
                    Ok(Api {
                        $($name: *library
                            .get(concat!("arv_", stringify!($name), "\0").as_bytes())
                            .map_err(|why: libloading::Error| why.to_string())?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    update_device_list: fn();
    get_n_devices: fn() -> c_uint;
    get_device_id: fn(c_uint) -> *const c_char;
    camera_new: fn(*const c_char, Error) -> Object;
    camera_get_device: fn(Object) -> Object;
    camera_set_string: fn(Object, *const c_char, *const c_char, Error);
    camera_get_string: fn(Object, *const c_char, Error) -> *const c_char;
    camera_set_integer: fn(Object, *const c_char, i64, Error);
    camera_set_frame_rate: fn(Object, c_double, Error);
    camera_set_exposure_time: fn(Object, c_double, Error);
    camera_get_exposure_time: fn(Object, Error) -> c_double;
    camera_set_exposure_time_auto: fn(Object, c_int, Error);
    camera_get_exposure_time_auto: fn(Object, Error) -> c_int;
    camera_set_gain: fn(Object, c_double, Error);
    camera_get_gain: fn(Object, Error) -> c_double;
    camera_set_gain_auto: fn(Object, c_int, Error);
    camera_get_gain_auto: fn(Object, Error) -> c_int;
    camera_get_payload: fn(Object, Error) -> c_uint;
    camera_create_stream: fn(Object, *const c_void, *const c_void, Error) -> Object;
    camera_start_acquisition: fn(Object, Error);
    camera_stop_acquisition: fn(Object, Error);
    stream_push_buffer: fn(Object, Object);
    stream_timeout_pop_buffer: fn(Object, u64) -> Object;
    buffer_new_allocate: fn(usize) -> Object;
    buffer_get_status: fn(Object) -> c_int;
    buffer_get_data: fn(Object, *mut usize) -> *const u8;
    buffer_get_image_width: fn(Object) -> c_int;
    buffer_get_image_height: fn(Object) -> c_int;
}

/// Calls a function that reports errors; `doing` says what was tried.
pub(super) fn asking<T>(doing: &str, ask: impl FnOnce(Error) -> T) -> Result<T, String> {
    let mut error = ptr::null_mut();
    let answer = ask(&mut error);
    if error.is_null() {
        return Ok(answer);
    }
    // SAFETY: the library has made the error and left it to us.
    let error = unsafe { glib::Error::from_glib_full(error) };
    Err(format!("{doing}: {}", error.message()))
}

/// A text for the library.
pub(super) fn text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} holds a zero"))
}

/// A text that the library keeps; `None` for none.
///
/// # Safety
/// `text` is null, or ends with a zero and lives for the call.
pub(super) unsafe fn told(text: *const c_char) -> Option<String> {
    // SAFETY: as the caller says.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
