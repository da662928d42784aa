//! SHA-256 digests: of a picture's pixels (what may be reused) and of a model folder (what the
//! record names).

use std::fmt;

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
    }

    #[test]
    fn a_folder_s_digest_is_that_of_its_sorted_list() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let list = format!("{a}  a.json\n{b}  b.json\n");
        let files = [("b.json".to_string(), b), ("a.json".to_string(), a)];
        assert_eq!(Digest::of_files(&files), Digest::of(list.as_bytes()));
    }
}
