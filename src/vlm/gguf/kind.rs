//! How a tensor's numbers are stored in a GGUF file.

use candle_core::DType;

use crate::vlm::quant::Format;

/// The storage of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number.
    F16,
    /// 2 bytes a number, with the range of f32.
    Bf16,
    /// Blocks of small integers along a row.
    Blocks(Format),
}

impl Kind {
    /// The number that stands for it in the file (ggml's `ggml_type`).
    pub const fn id(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::F16 => 1,
            Kind::Blocks(Format::Q8_0) => 8,
            Kind::Blocks(Format::Q4K) => 12,
            Kind::Blocks(Format::Q5K) => 13,
            Kind::Blocks(Format::Q6K) => 14,
            Kind::Bf16 => 30,
        }
    }

    /// The storage with the number `id`.
    ///
    /// # Errors
    /// The name of one that this engine does not read.
    pub fn from_id(id: u32) -> Result<Kind, String> {
        const ALL: [Kind; 7] = [
            Kind::F32,
            Kind::F16,
            Kind::Bf16,
            Kind::Blocks(Format::Q8_0),
            Kind::Blocks(Format::Q6K),
            Kind::Blocks(Format::Q5K),
            Kind::Blocks(Format::Q4K),
        ];
        ALL.into_iter().find(|kind| kind.id() == id).ok_or_else(|| {
            let other = match id {
                2 => "Q4_0",
                3 => "Q4_1",
                6 => "Q5_0",
                7 => "Q5_1",
                10 => "Q2_K",
                11 => "Q3_K",
                _ => "unknown here",
            };
            format!(
                "is stored as type {id} ({other}); this engine reads F32, F16, BF16, Q8_0, Q6_K, \
                 Q5_K and Q4_K"
            )
        })
    }

    /// Its name in messages and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::F32 => "f32",
            Kind::F16 => "f16",
            Kind::Bf16 => "bf16",
            Kind::Blocks(format) => format.name(),
        }
    }

    /// The tensor library's type, where the numbers are stored one by one.
    pub const fn dtype(self) -> Option<DType> {
        match self {
            Kind::F32 => Some(DType::F32),
            Kind::F16 => Some(DType::F16),
            Kind::Bf16 => Some(DType::BF16),
            Kind::Blocks(_) => None,
        }
    }

    /// Bytes of a row of `columns` numbers; `None` if that is not whole blocks or too many.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        match self {
            Kind::F32 => columns.checked_mul(4),
            Kind::F16 | Kind::Bf16 => columns.checked_mul(2),
            // First the check that the product below cannot overflow: a block has at most 256 bytes.
            Kind::Blocks(_) if columns > usize::MAX / 256 => None,
            Kind::Blocks(format) => format.row_bytes(columns),
        }
    }

    /// Bytes of a tensor of `shape`; `None` if its rows are not whole blocks or it is too large.
    pub fn tensor_bytes(self, shape: &[usize]) -> Option<usize> {
        let (columns, rows) = shape.split_last()?;
        let row = self.row_bytes(*columns)?;
        rows.iter().try_fold(row, |bytes: usize, side| bytes.checked_mul(*side))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_whole_blocks() {
        let q4 = Kind::Blocks(Format::Q4K);
        assert_eq!(q4.tensor_bytes(&[3, 512]), Some(3 * 2 * 144));
        assert_eq!(q4.tensor_bytes(&[3, 100]), None);
        assert_eq!(Kind::F16.tensor_bytes(&[1, 3, 5]), Some(30));
        assert_eq!(Kind::F32.tensor_bytes(&[usize::MAX, 8]), None);
        assert_eq!(q4.tensor_bytes(&[1 << 40, 1 << 60]), None);
        assert_eq!(Kind::F32.tensor_bytes(&[]), None);
    }

    #[test]
    fn numbers_of_storages_go_there_and_back() {
        for id in 0..64 {
            match Kind::from_id(id) {
                Ok(kind) => assert_eq!(kind.id(), id),
                Err(problem) => assert!(problem.contains(&format!("type {id} "))),
            }
        }
    }
}
