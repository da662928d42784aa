//! NVIDIA Jetson: `nvarguscamerasrc` drives the connector, `nvvidconv` brings pictures out of the
//! memory that the video hardware shares (read in NVIDIA's Accelerated GStreamer guide; not tried on
//! a board).

use super::CsiWish;

/// The camera, its format, and the way into the processor's memory.
pub fn csi(wish: &CsiWish) -> Vec<String> {
    let mut source = format!("nvarguscamerasrc sensor-id={}", wish.sensor);
    if let Some(exposure_us) = wish.exposure_us {
        // Nanoseconds, and a range: one of a single value fixes it.
        let ns = (exposure_us * 1000.0).round();
        source.push_str(&format!(" exposuretimerange=\"{ns} {ns}\""));
    }
    if let Some(gain) = wish.gain {
        source.push_str(&format!(" gainrange=\"{gain} {gain}\" ispdigitalgainrange=\"1 1\""));
    }
    if wish.exposure_us.is_some() && wish.gain.is_some() {
        source.push_str(" aelock=true");
    }
    match wish.white_balance_auto {
        Some(true) => source.push_str(" wbmode=1"),
        Some(false) => source.push_str(" wbmode=0"),
        None => {}
    }
    let format = format!("video/x-raw(memory:NVMM),format=NV12{}", wish.size());
    [vec![source, format], to_processor_memory()].concat()
}

/// From the video hardware's memory; pictures that are in the processor's already pass through it.
pub fn to_processor_memory() -> Vec<String> {
    vec!["nvvidconv".to_owned(), "video/x-raw,format=BGRx".to_owned()]
}
