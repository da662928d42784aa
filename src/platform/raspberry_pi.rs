//! Raspberry Pi: libcamera drives the connector (read in its documents; not tried on a board).

use super::CsiWish;

/// The camera and its format. libcamera counts no connectors: without a name it takes the first.
pub fn csi(wish: &CsiWish) -> Result<Vec<String>, &'static str> {
    if wish.sensor > 0 {
        return Err(
            "libcamera knows cameras by name; write  libcamera = \"NAME\"  in place of csi: \
                    \"inspectd camera list\" shows the names",
        );
    }
    if wish.exposure_us.is_some() || wish.gain.is_some() || wish.white_balance_auto.is_some() {
        return Err(
            "libcamerasrc of this system takes no exposure, gain or white balance; set them \
                    by a tuning file of libcamera, and remove them here",
        );
    }
    Ok(vec!["libcamerasrc".to_owned(), format!("video/x-raw,format=NV12{}", wish.size())])
}
