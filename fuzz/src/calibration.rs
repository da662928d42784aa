//! What was measured of a camera.

use inspectd::calibration::InUse;
use inspectd::calibration::flat::{GAIN_MAX, GainMap};
use inspectd::frame::Rgb8;

/// Frames up to this many pixels a side are corrected, too: larger ones take longer and tell no more.
const SIDE_MAX_PX: u32 = 128;

/// A calibration's file, and behind a zero byte a map of gains.
pub fn calibration(bytes: &[u8]) {
    let [toml, gain] = super::parts(bytes);
    if let Ok(map) = GainMap::from_png(gain, [64, 48]) {
        for place in [[-0.5, -0.5], [63.5, 47.5], [31.0, 0.0], [f64::NAN, 1e300]] {
            let gains = map.at(place);
            assert!(gains.iter().all(|gain| gain.is_nan() || (0.0..=GAIN_MAX).contains(gain)));
        }
    }
    super::in_folder(|dir| {
        let file = dir.join("calibration.toml");
        std::fs::write(&file, toml).expect("written");
        match InUse::load(&file, &[]) {
            Err(why) => super::check_message(&why.to_string()),
            Ok(used) => correct(&used),
        }
    });
}

/// Whatever the numbers are, a frame has as many pixels after the correction as before.
fn correct(used: &InUse) {
    let [width, height] = used.calibration.frame_px;
    assert!(used.px_per_mm().is_none_or(|scale| scale.is_finite() && scale > 0.0));
    if width <= SIDE_MAX_PX && height <= SIDE_MAX_PX {
        let frame = Rgb8::new(width, height);
        let whole = used.whole(&frame).expect("a frame of the right size");
        assert_eq!(whole.data.len(), frame.data.len());
        assert!(used.whole(&Rgb8::new(width + 1, height)).is_err(), "a frame of another size");
    }
}
