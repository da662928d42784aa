//! The controls of a camera that the kernel drives, by Video4Linux's calls.
//!
//! Three calls on small structures of two and of seventeen words: the crates that wrap them bring a C
//! parser into the build for it. Not tried on a camera: the rules are tested against a scripted one, and
//! the numbers of the calls against the kernel's documentation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::controls::{Controls, ReadBack, Setting};

const EXPOSURE_AUTO: u32 = 0x009a_0901;
/// In steps of 100 µs.
const EXPOSURE_ABSOLUTE: u32 = 0x009a_0902;
const AUTOGAIN: u32 = 0x0098_0912;
const GAIN: u32 = 0x0098_0913;
const AUTO_WHITE_BALANCE: u32 = 0x0098_090c;
const WHITE_BALANCE_TEMPERATURE: u32 = 0x0098_091a;

/// Values of `EXPOSURE_AUTO`.
const EXPOSURE_MANUAL: i32 = 1;
/// What USB cameras call automatic; others take `EXPOSURE_BY_ITSELF`.
const EXPOSURE_BY_TIME: i32 = 3;
const EXPOSURE_BY_ITSELF: i32 = 0;

/// One unit of `EXPOSURE_ABSOLUTE` in microseconds.
const EXPOSURE_STEP_US: f64 = 100.0;

/// The controls of one device.
pub(super) trait Device {
    /// Sets a control.
    fn set(&self, id: u32, value: i32) -> io::Result<()>;
    /// Reads a control.
    fn get(&self, id: u32) -> io::Result<i32>;
    /// The control's step; values between two steps are rounded by the driver.
    fn step(&self, id: u32) -> io::Result<i32>;
}

/// Opens the device for its controls; whoever captures from it is not disturbed.
pub(super) fn open(path: &Path) -> io::Result<impl Device> {
    OpenOptions::new().read(true).write(true).open(path).map(Kernel)
}

/// Sets what is asked for; `Err`: which control was refused, and why.
pub(super) fn apply(device: &impl Device, controls: &Controls) -> Result<(), String> {
    let set = |name: &str, id: u32, value: i32| {
        device.set(id, value).map_err(|why| format!("{name} cannot be set to {value}: {why}"))
    };
    match controls.exposure_us {
        None => {}
        Some(Setting::Auto) => device
            .set(EXPOSURE_AUTO, EXPOSURE_BY_TIME)
            .or_else(|_| set("exposure_auto", EXPOSURE_AUTO, EXPOSURE_BY_ITSELF))?,
        Some(setting) => {
            set("exposure_auto", EXPOSURE_AUTO, EXPOSURE_MANUAL)?;
            if let Setting::Fixed(exposure_us) = setting {
                let steps = (exposure_us / EXPOSURE_STEP_US).round().max(1.0) as i32;
                set("exposure_time_absolute", EXPOSURE_ABSOLUTE, steps)?;
            }
        }
    }
    match controls.gain {
        None => {}
        Some(Setting::Auto) => set("gain_automatic", AUTOGAIN, 1)?,
        Some(setting) => {
            // Many cameras have a gain and nothing that chooses it.
            let has_auto = device.get(AUTOGAIN).is_ok();
            if has_auto {
                set("gain_automatic", AUTOGAIN, 0)?;
            }
            if let Setting::Fixed(gain) = setting {
                set("gain", GAIN, gain.round() as i32)?;
            }
        }
    }
    match controls.white_balance_k {
        None => {}
        Some(Setting::Auto) => set("white_balance_automatic", AUTO_WHITE_BALANCE, 1)?,
        Some(setting) => {
            set("white_balance_automatic", AUTO_WHITE_BALANCE, 0)?;
            if let Setting::Fixed(kelvin) = setting {
                set("white_balance_temperature", WHITE_BALANCE_TEMPERATURE, kelvin as i32)?;
            }
        }
    }
    Ok(())
}

/// Reads back what was set.
pub(super) fn read_back(device: &impl Device, controls: &Controls) -> Vec<ReadBack> {
    let get = |id: u32| device.get(id).map_err(|why| why.to_string());
    let mut read = Vec::new();
    let mut figure = |name: &str, id: u32, asked: f64, unit: f64| {
        let step = f64::from(device.step(id).unwrap_or(1).max(1)) * unit;
        read.push(ReadBack::number(
            name,
            asked,
            get(id).map(|value| f64::from(value) * unit),
            step,
        ));
    };
    if let Some(Setting::Fixed(exposure_us)) = controls.exposure_us {
        figure("exposure_time_absolute", EXPOSURE_ABSOLUTE, exposure_us, EXPOSURE_STEP_US);
    }
    if let Some(Setting::Fixed(gain)) = controls.gain {
        figure("gain", GAIN, gain, 1.0);
    }
    if let Some(Setting::Fixed(kelvin)) = controls.white_balance_k {
        figure("white_balance_temperature", WHITE_BALANCE_TEMPERATURE, kelvin, 1.0);
    }
    let mut choice = |name: &str, id: u32, setting: Option<Setting>, is_auto: fn(i32) -> bool| {
        let Some(setting) = setting else { return };
        let word = |auto: bool| if auto { "automatic" } else { "manual" };
        let found = get(id).map(|value| word(is_auto(value)).to_owned());
        // A control that is not there chooses nothing.
        if found.is_err() && setting != Setting::Auto {
            return;
        }
        read.push(ReadBack::word(name, word(setting == Setting::Auto), found));
    };
    choice("exposure_auto", EXPOSURE_AUTO, controls.exposure_us, |value| {
        [EXPOSURE_BY_TIME, EXPOSURE_BY_ITSELF].contains(&value)
    });
    choice("gain_automatic", AUTOGAIN, controls.gain, |value| value != 0);
    let white = controls.white_balance_k;
    choice("white_balance_automatic", AUTO_WHITE_BALANCE, white, |value| value != 0);
    read
}

struct Kernel(File);

/// `struct v4l2_control`.
#[repr(C)]
struct Control {
    id: u32,
    value: i32,
}

/// `struct v4l2_queryctrl`.
#[repr(C)]
struct QueryControl {
    id: u32,
    kind: u32,
    name: [u8; 32],
    minimum: i32,
    maximum: i32,
    step: i32,
    default_value: i32,
    flags: u32,
    reserved: [u32; 2],
}

/// `_IOWR('V', number, T)`.
const fn call<T>(number: u64) -> u64 {
    (3 << 30) | ((size_of::<T>() as u64) << 16) | ((b'V' as u64) << 8) | number
}

const GET_CONTROL: u64 = call::<Control>(27);
const SET_CONTROL: u64 = call::<Control>(28);
const QUERY_CONTROL: u64 = call::<QueryControl>(36);

impl Kernel {
    fn ask<T>(&self, call: u64, about: &mut T) -> io::Result<()> {
        // SAFETY: the file is open, and `about` is the structure whose size the call's number names.
        let told = unsafe { libc::ioctl(self.0.as_raw_fd(), call as _, about as *mut T) };
        if told == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Device for Kernel {
    fn set(&self, id: u32, value: i32) -> io::Result<()> {
        self.ask(SET_CONTROL, &mut Control { id, value })
    }

    fn get(&self, id: u32) -> io::Result<i32> {
        let mut control = Control { id, value: 0 };
        self.ask(GET_CONTROL, &mut control).map(|()| control.value)
    }

    fn step(&self, id: u32) -> io::Result<i32> {
        let mut query = QueryControl {
            id,
            kind: 0,
            name: [0; 32],
            minimum: 0,
            maximum: 0,
            step: 0,
            default_value: 0,
            flags: 0,
            reserved: [0; 2],
        };
        self.ask(QUERY_CONTROL, &mut query).map(|()| query.step)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::camera::controls::difference;

    /// A camera with these controls, which rounds exposure to steps of 5.
    struct Scripted(RefCell<BTreeMap<u32, i32>>);

    impl Device for Scripted {
        fn set(&self, id: u32, value: i32) -> io::Result<()> {
            let mut controls = self.0.borrow_mut();
            let slot = controls.get_mut(&id).ok_or(io::ErrorKind::InvalidInput)?;
            *slot = if id == EXPOSURE_ABSOLUTE { (value + 2) / 5 * 5 } else { value };
            Ok(())
        }

        fn get(&self, id: u32) -> io::Result<i32> {
            self.0.borrow().get(&id).copied().ok_or(io::ErrorKind::InvalidInput.into())
        }

        fn step(&self, id: u32) -> io::Result<i32> {
            Ok(if id == EXPOSURE_ABSOLUTE { 5 } else { 1 })
        }
    }

    fn camera(ids: &[u32]) -> Scripted {
        Scripted(RefCell::new(ids.iter().map(|&id| (id, 0)).collect()))
    }

    fn fixed() -> Controls {
        Controls {
            exposure_us: Some(Setting::Fixed(4200.0)),
            gain: Some(Setting::Fixed(12.0)),
            white_balance_k: Some(Setting::Fixed(4600.0)),
            trigger: None,
        }
    }

    const ALL: [u32; 6] = [
        EXPOSURE_AUTO,
        EXPOSURE_ABSOLUTE,
        AUTOGAIN,
        GAIN,
        AUTO_WHITE_BALANCE,
        WHITE_BALANCE_TEMPERATURE,
    ];

    #[test]
    fn the_kernels_own_numbers() {
        assert_eq!(GET_CONTROL, 0xc008_561b);
        assert_eq!(SET_CONTROL, 0xc008_561c);
        assert_eq!(QUERY_CONTROL, 0xc044_5624);
    }

    #[test]
    fn what_was_set_is_read_back_within_the_drivers_step() {
        let camera = camera(&ALL);
        apply(&camera, &fixed()).expect("it takes all");
        assert_eq!(camera.get(EXPOSURE_ABSOLUTE).expect("there"), 40, "42 rounds to 40");
        let read = read_back(&camera, &fixed());
        assert_eq!(difference(&read), None, "{read:?}");
        camera.set(EXPOSURE_AUTO, EXPOSURE_BY_TIME).expect("there");
        let told = difference(&read_back(&camera, &fixed())).expect("it chooses by itself again");
        assert!(told.contains("exposure_auto is automatic"), "{told}");
    }

    #[test]
    fn a_camera_without_automatic_gain_can_have_a_fixed_one() {
        let camera = camera(&[GAIN]);
        let gain = |setting| Controls { gain: Some(setting), ..Controls::default() };
        apply(&camera, &gain(Setting::Fixed(7.0))).expect("it has a gain");
        assert_eq!(difference(&read_back(&camera, &gain(Setting::Fixed(7.0)))), None);
        let told = apply(&camera, &gain(Setting::Auto)).expect_err("nothing chooses it");
        assert!(told.contains("gain_automatic"), "{told}");
    }

    #[test]
    fn automatic_exposure_takes_the_name_that_the_camera_knows() {
        let camera = camera(&ALL);
        let auto = Controls { exposure_us: Some(Setting::Auto), ..Controls::default() };
        camera.set(EXPOSURE_AUTO, EXPOSURE_MANUAL).expect("there");
        assert!(difference(&read_back(&camera, &auto)).is_some());
        apply(&camera, &auto).expect("taken");
        assert_eq!(difference(&read_back(&camera, &auto)), None);
    }
}
