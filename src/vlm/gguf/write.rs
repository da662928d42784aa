//! Metadata and a list of tensors to the bytes of a header.

use super::kind::Kind;
use super::{ALIGNMENT, MAGIC};

/// A metadata value to write.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    U32(u32),
    /// A number.
    F32(f32),
}

/// Collects a header. Tensors lie in the file in the order in which they are given, each on a
/// multiple of 32 bytes.
#[derive(Debug, Default)]
pub struct HeaderWriter {
    entries: Vec<u8>,
    entry_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data_bytes: u64,
}

impl HeaderWriter {
    /// An empty header.
    pub fn new() -> HeaderWriter {
        HeaderWriter::default()
    }

    /// Adds a metadata entry; the caller gives each key once.
    pub fn entry(&mut self, key: &str, value: Entry<'_>) {
        put_text(&mut self.entries, key);
        match value {
            Entry::Text(text) => {
                self.entries.extend(8_u32.to_le_bytes());
                put_text(&mut self.entries, text);
            }
            Entry::U32(number) => {
                self.entries.extend(4_u32.to_le_bytes());
                self.entries.extend(number.to_le_bytes());
            }
            Entry::F32(number) => {
                self.entries.extend(6_u32.to_le_bytes());
                self.entries.extend(number.to_le_bytes());
            }
        }
        self.entry_count += 1;
    }

    /// Adds a tensor and answers where its bytes begin, counted from the first tensor's.
    ///
    /// # Panics
    /// If `shape` is not whole blocks of `kind`, has no or more than 4 sides, or the name has more
    /// than 64 bytes: the plan sees to that.
    pub fn tensor(&mut self, name: &str, shape: &[usize], kind: Kind) -> u64 {
        assert!(name.len() <= 64 && (1..=4).contains(&shape.len()), "{name} {shape:?}");
        let len = kind.tensor_bytes(shape).expect("the plan gives whole blocks");
        let offset = self.data_bytes.next_multiple_of(ALIGNMENT as u64);
        put_text(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        for side in shape.iter().rev() {
            self.tensors.extend((*side as u64).to_le_bytes()); // the row's length first
        }
        self.tensors.extend(kind.id().to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self.data_bytes = offset + len as u64;
        offset
    }

    /// The header's bytes, up to where the first tensor begins.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.entry_count.to_le_bytes());
        bytes.extend(&self.entries);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }

    /// The bytes of the whole file: header and tensors.
    pub fn file_bytes(&self) -> u64 {
        let header = 24 + self.entries.len() + self.tensors.len();
        header.next_multiple_of(ALIGNMENT) as u64 + self.data_bytes
    }
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}
