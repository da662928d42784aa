//! SHA-256 digests: of a picture's pixels (what may be reused) and of a model folder (what the
//! record names).

use std::fmt;
use std::io::{ErrorKind, Read};

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::of_parts(&[bytes])
    }

    /// The digest of the parts one after the other. The caller sees to it that the borders cannot
    /// be confused.
    pub fn of_parts(parts: &[&[u8]]) -> Digest {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Digest(hasher.finalize().into())
    }

    /// The digest of a folder, from its files' names and digests: one line `<hex>  <name>\n` a
    /// file, ascending by name, so that `sha256sum * | sort -k2 | sha256sum` over the same files
    /// says the same.
    pub fn of_files(files: &[(String, Digest)]) -> Digest {
        let mut sorted: Vec<_> = files.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let list: String =
            sorted.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        Digest::of(list.as_bytes())
    }

    /// The digest of all that `reader` gives, and how many bytes that were. `seen` is told each
    /// piece's length.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(
        reader: &mut impl Read,
        mut seen: impl FnMut(u64),
    ) -> std::io::Result<(Digest, u64)> {
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let count = match reader.read(&mut piece) {
                Ok(0) => return Ok((Digest(hasher.finalize().into()), bytes)),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            hasher.update(&piece[..count]);
            bytes += count as u64;
            seen(count as u64);
        }
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
    pub fn parse(hex: &str) -> Option<Digest> {
        let hex = hex.as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Digest(bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_string_has_the_published_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), hex);
        assert_eq!(Digest::parse(&hex.to_uppercase()), Some(Digest::of(b"")));
        for bad in ["", &hex[1..], &hex.replacen('e', "g", 1), &"ü".repeat(32)] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_stream_has_the_digest_of_its_bytes() -> std::io::Result<()> {
        let bytes = vec![7; (2 << 20) + 5];
        let mut seen = 0;
        let found = Digest::of_reader(&mut bytes.as_slice(), |piece| seen += piece)?;
        assert_eq!(found, (Digest::of(&bytes), bytes.len() as u64));
        assert_eq!(seen, bytes.len() as u64);
        Ok(())
    }

    #[test]
    fn a_folder_s_digest_is_that_of_its_sorted_list() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let list = format!("{a}  a.json\n{b}  b.json\n");
        let files = [("b.json".to_string(), b), ("a.json".to_string(), a)];
        assert_eq!(Digest::of_files(&files), Digest::of(list.as_bytes()));
    }
}
