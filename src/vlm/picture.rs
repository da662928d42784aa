//! What the model is shown: borrowed RGB pixels whose size has been checked once.

use super::digest::Digest;
use super::error::EngineError;

/// Most pixels along one side. A line camera's longest strip is below it, and products of two sides
/// stay far from overflow.
pub const MAX_SIDE: u32 = 32_768;

/// A still picture: 8-bit RGB, row-major, no padding between the rows.
///
/// Alpha is dropped (not composited), grey is replicated and palettes are expanded by whoever
/// decodes the file: these are the rules under which the reference tensors were made.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    width: u32,
    height: u32,
    rgb: &'a [u8],
}

impl<'a> Picture<'a> {
    /// Borrows `rgb`, which holds `height` rows of `width` pixels of 3 bytes.
    ///
    /// # Errors
    /// [`EngineError::Picture`] if a side is 0 or above [`MAX_SIDE`], or if `rgb` has another
    /// length.
    pub fn new(width: u32, height: u32, rgb: &'a [u8]) -> Result<Picture<'a>, EngineError> {
        let refuse = |problem: String| Err(EngineError::Picture { width, height, problem });
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return refuse(format!("each side must be 1 to {MAX_SIDE} pixels"));
        }
        let expected = width as usize * height as usize * 3;
        if rgb.len() != expected {
            return refuse(format!("{} bytes given, RGB of this size has {expected}", rgb.len()));
        }
        Ok(Picture { width, height, rgb })
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels: (height, width, 3).
    pub fn rgb(&self) -> &'a [u8] {
        self.rgb
    }

    /// The digest of size and pixels: two pictures with the same digest look the same to the model.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(&[&self.width.to_le_bytes(), &self.height.to_le_bytes(), self.rgb])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_the_bytes_are_refused() {
        assert!(Picture::new(2, 1, &[0; 6]).is_ok());
        for (width, height, bytes) in
            [(2, 1, 5), (2, 1, 7), (0, 1, 0), (1, 0, 0), (MAX_SIDE + 1, 1, 0)]
        {
            assert!(
                Picture::new(width, height, &vec![0; bytes]).is_err(),
                "{width} x {height}, {bytes} bytes"
            );
        }
    }

    #[test]
    fn the_digest_knows_the_size() {
        let wide = Picture::new(2, 1, &[7; 6]).unwrap().digest();
        let tall = Picture::new(1, 2, &[7; 6]).unwrap().digest();
        assert_ne!(wide, tall);
    }
}
