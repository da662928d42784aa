//! Bytes to a checked header.
//!
//! Everything in it is a claim until it is checked against the file's own length. Nothing is
//! allocated on the word of a number: texts stay ranges of the file, and an array is walked, which
//! ends where the file ends.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::kind::Kind;
use super::{ALIGNMENT, MAGIC};

/// Most metadata entries accepted; files in use have some dozens.
const MAX_ENTRIES: u64 = 65_536;
/// Most tensors accepted; the full model has 576.
const MAX_TENSORS: u64 = 65_536;
/// Longest name of a metadata entry, as the format says.
const MAX_KEY_BYTES: u64 = 65_535;
/// Longest name of a tensor, as the format says.
const MAX_NAME_BYTES: u64 = 64;
/// Most sides of a tensor, as the format says.
const MAX_SIDES: u32 = 4;

/// A header whose claims hold for the file it came from.
#[derive(Debug)]
pub struct Header {
    metadata: BTreeMap<String, Value>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
}

/// One metadata value. Texts and arrays are ranges of the file's bytes.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(Range<usize>),
    Array,
}

/// One tensor: its bytes lie in the file, are as many as shape and storage say, and overlap no
/// other's.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its sides as tensor libraries list them: the row's length last.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: Kind,
    /// Where its bytes lie, from the start of the file.
    pub bytes: Range<usize>,
}

/// What is wrong with a header: the whole of it, or one tensor.
#[derive(Debug, PartialEq)]
pub enum Problem {
    /// The file as a whole.
    File(String),
    /// One tensor, by name.
    Tensor(String, String),
}

/// A tensor as the header lists it, before its claims are checked.
struct Claim {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
}

impl Header {
    /// Reads the header of `file`, the whole file's bytes, and checks every claim in it.
    /// `accept` sees the entries before the tensors are looked at, so that a file of another
    /// model is refused for that and not for a detail.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(
        file: &[u8],
        accept: impl FnOnce(&Header) -> Result<(), Problem>,
    ) -> Result<Header, Problem> {
        let mut cursor = Cursor { file, at: 0 };
        let (tensors, entries) = cursor.start().map_err(Problem::File)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let (key, value) = cursor.entry().map_err(Problem::File)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(Problem::File(format!("the entry `{key}` stands in the header twice")));
            }
        }
        let mut header = Header { metadata, tensors: Vec::new() };
        accept(&header)?;
        let claims = (0..tensors)
            .map(|_| cursor.claim())
            .collect::<Result<Vec<_>, _>>()
            .map_err(Problem::File)?;
        let alignment = header.alignment()?;
        let data_start = cursor
            .at
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| Problem::File("the header is too long".to_string()))?;
        header.tensors = claims
            .into_iter()
            .map(|claim| claim.check(data_start, alignment, file.len()))
            .collect::<Result<_, _>>()?;
        header.check_apart()?;
        Ok(header)
    }

    fn alignment(&self) -> Result<usize, Problem> {
        match self.metadata.get("general.alignment") {
            None => Ok(ALIGNMENT),
            Some(Value::Unsigned(n)) if n.is_power_of_two() && (8..=65_536).contains(n) => {
                Ok(*n as usize)
            }
            Some(other) => Err(Problem::File(format!(
                "general.alignment is {other:?}; expected a power of two from 8 to 65536"
            ))),
        }
    }

    /// No name twice, no byte in two tensors.
    fn check_apart(&self) -> Result<(), Problem> {
        let mut names = HashSet::new();
        if let Some(twice) = self.tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
            let problem = "stands in the header twice".to_string();
            return Err(Problem::Tensor(twice.name.clone(), problem));
        }
        let mut placed: Vec<&TensorInfo> = self.tensors.iter().collect();
        placed.sort_by_key(|tensor| tensor.bytes.start);
        match placed.windows(2).find(|pair| pair[0].bytes.end > pair[1].bytes.start) {
            Some(pair) => {
                let problem = format!("lies partly on the bytes of `{}`", pair[0].name);
                Err(Problem::Tensor(pair[1].name.clone(), problem))
            }
            None => Ok(()),
        }
    }

    /// The text of the entry `key`, a range of `file`, the bytes this header was read from; `None`
    /// if there is no such entry or it is not a text.
    pub fn text<'a>(&self, file: &'a [u8], key: &str) -> Option<&'a [u8]> {
        match self.metadata.get(key)? {
            Value::Text(range) => file.get(range.clone()),
            _ => None,
        }
    }

    /// The whole number of the entry `key`.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The names of all entries, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }
}

impl Claim {
    fn check(
        self,
        data_start: usize,
        alignment: usize,
        file: usize,
    ) -> Result<TensorInfo, Problem> {
        let Claim { name, shape, kind, offset } = self;
        let refuse = |problem| Problem::Tensor(name.clone(), problem);
        let kind = Kind::from_id(kind).map_err(refuse)?;
        let len = kind.tensor_bytes(&shape).ok_or_else(|| {
            refuse(format!("shape {shape:?} does not make whole blocks of {}", kind.name()))
        })?;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(refuse(format!("begins at {offset}, which is no multiple of {alignment}")));
        }
        let range = usize::try_from(offset)
            .ok()
            .and_then(|offset| data_start.checked_add(offset))
            .and_then(|begin| Some(begin..begin.checked_add(len)?));
        match range {
            Some(bytes) if bytes.end <= file => Ok(TensorInfo { name, shape, kind, bytes }),
            Some(bytes) => {
                Err(refuse(format!("ends at byte {}, the file has {file} (truncated?)", bytes.end)))
            }
            None => Err(refuse(format!("begins at {offset}, beyond any file"))),
        }
    }
}

/// A place in the file. Every method says what is wrong as a text, without a panic.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Magic, version and the two counts: tensors, entries.
    fn start(&mut self) -> Result<(u64, u64), String> {
        if self.take(4).ok() != Some(&MAGIC) {
            return Err("is not a GGUF file".to_string());
        }
        match self.u32()? {
            2 | 3 => {}
            version if (2..=3).contains(&version.swap_bytes()) => {
                return Err("was written for a big-endian machine".to_string());
            }
            version => {
                return Err(format!("has GGUF version {version}; this engine reads 2 and 3"));
            }
        }
        let (tensors, entries) = (self.u64()?, self.u64()?);
        if tensors > MAX_TENSORS || entries > MAX_ENTRIES {
            return Err(format!(
                "the header claims {tensors} tensors and {entries} entries; at most \
                 {MAX_TENSORS} and {MAX_ENTRIES} are accepted"
            ));
        }
        Ok((tensors, entries))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        match end.and_then(|end| self.file.get(self.at..end)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(format!(
                "the header goes on for {len} bytes after byte {}, the file has {} (truncated?)",
                self.at,
                self.file.len()
            )),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("take gives as many bytes as asked for"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.number().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.number().map(u64::from_le_bytes)
    }

    /// A length and as many bytes: where they lie.
    fn text(&mut self, most: u64) -> Result<Range<usize>, String> {
        let len = self.u64()?;
        if len > most {
            return Err(format!("a text before byte {} claims {len} bytes", self.at));
        }
        let start = self.at;
        self.take(len)?;
        Ok(start..self.at)
    }

    fn name(&mut self, most: u64) -> Result<String, String> {
        let range = self.text(most)?;
        match std::str::from_utf8(&self.file[range.clone()]) {
            Ok(name) if !name.is_empty() => Ok(name.to_string()),
            _ => Err(format!("the name at byte {} is empty or not UTF-8", range.start)),
        }
    }

    fn entry(&mut self) -> Result<(String, Value), String> {
        let key = self.name(MAX_KEY_BYTES)?;
        let kind = self.u32()?;
        let value = self.value(kind).map_err(|problem| format!("entry `{key}`: {problem}"))?;
        Ok((key, value))
    }

    fn value(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.number::<1>()?[0])),
            1 => Value::Signed(i64::from(self.number::<1>()?[0] as i8)),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.number()?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.number()?))),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.number()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.number()?))),
            7 => Value::Flag(self.number::<1>()?[0] != 0),
            8 => Value::Text(self.text(u64::MAX)?),
            9 => self.array()?,
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.number()?)),
            12 => Value::Float(f64::from_le_bytes(self.number()?)),
            other => return Err(format!("has type {other}, which GGUF does not know")),
        })
    }

    /// Walks over an array; this engine needs none, but what stands behind it.
    fn array(&mut self) -> Result<Value, String> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let width: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                for _ in 0..count {
                    self.text(u64::MAX)?; // at least 8 bytes each: the file's end bounds the loop
                }
                return Ok(Value::Array);
            }
            other => return Err(format!("is an array of type {other}, which GGUF does not allow")),
        };
        self.take(count.saturating_mul(width))?;
        Ok(Value::Array)
    }

    fn claim(&mut self) -> Result<Claim, String> {
        let name = self.name(MAX_NAME_BYTES)?;
        let sides = self.u32()?;
        if !(1..=MAX_SIDES).contains(&sides) {
            return Err(format!("tensor `{name}` has {sides} sides; expected 1 to {MAX_SIDES}"));
        }
        let mut shape = Vec::new();
        for _ in 0..sides {
            let side = usize::try_from(self.u64()?).ok().filter(|side| *side > 0);
            shape.push(side.ok_or_else(|| format!("tensor `{name}` has a side of no length"))?);
        }
        shape.reverse(); // the file lists the row's length first
        Ok(Claim { name, shape, kind: self.u32()?, offset: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::write::{Entry, HeaderWriter};
    use super::*;

    /// A small file: some entries, three tensors, and their bytes.
    fn small() -> Vec<u8> {
        let mut writer = HeaderWriter::new();
        writer.entry("general.architecture", Entry::Text("phi3v"));
        writer.entry("general.file_type", Entry::U32(15));
        writer.entry("phi3v.rope.freq_base", Entry::F32(10_000.0));
        writer.entry("inspectd.file.config.json", Entry::Text("{}"));
        writer.tensor("token_embd.weight", &[3, 256], Kind::Blocks(crate::vlm::quant::Format::Q4K));
        writer.tensor("output_norm.weight", &[7], Kind::F32);
        writer.tensor("v.class_embd", &[2, 1, 5], Kind::F16);
        let len = writer.file_bytes() as usize;
        let mut file = writer.bytes();
        file.resize(len, 0x55);
        file
    }

    fn read(file: &[u8]) -> Result<Header, Problem> {
        Header::read(file, |_| Ok(()))
    }

    #[test]
    fn what_was_written_is_read() {
        let file = small();
        let header = read(&file).unwrap();
        assert_eq!(header.text(&file, "general.architecture"), Some(b"phi3v".as_slice()));
        assert_eq!(header.number("general.file_type"), Some(15));
        assert_eq!(header.text(&file, "general.file_type"), None);
        let shapes: Vec<_> = header.tensors.iter().map(|t| t.shape.clone()).collect();
        assert_eq!(shapes, [vec![3, 256], vec![7], vec![2, 1, 5]]);
        assert!(header.tensors.iter().all(|t| t.bytes.start.is_multiple_of(ALIGNMENT)));
        assert_eq!(header.tensors[0].bytes.len(), 3 * 144);
    }

    #[test]
    fn a_file_that_ends_early_is_refused_wherever_it_ends() {
        let file = small();
        let needed = read(&file).unwrap().tensors.iter().map(|t| t.bytes.end).max().unwrap();
        for len in 0..needed {
            assert!(read(&file[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn claims_beyond_the_file_are_refused_without_allocating() {
        let claim = |at: usize, bytes: &[u8]| {
            let mut file = small();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            format!("{:?}", read(&file).err())
        };
        let huge = u64::MAX.to_le_bytes();
        assert!(claim(8, &huge).contains("claims 18446744073709551615 tensors"));
        assert!(claim(16, &huge).contains("entries"));
        assert!(claim(24, &huge).contains("claims 18446744073709551615 bytes"));
        assert!(claim(4, &[0, 0, 0, 3]).contains("big-endian"));
        assert!(claim(4, &[1]).contains("version 1"));
        assert!(claim(0, b"JUNK").contains("is not a GGUF file"));
    }

    /// A header that holds nothing but one array of `count` elements of `kind`.
    fn array(kind: u32, count: u64) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.extend(1_u64.to_le_bytes());
        file.extend(1_u64.to_le_bytes());
        file.push(b'a');
        file.extend(9_u32.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file
    }

    #[test]
    fn arrays_end_where_the_file_ends() {
        for kind in 0..=12 {
            assert!(read(&array(kind, u64::MAX)).is_err(), "{kind}");
        }
        assert!(format!("{:?}", read(&array(9, 1))).contains("does not allow"));
        assert!(read(&array(8, 0)).is_ok());
    }

    #[test]
    fn tensors_on_each_other_and_names_twice_are_refused() {
        let file = small();
        let place = |name: &[u8]| file.windows(name.len()).position(|w| w == name).unwrap();
        // the offset of output_norm: after the name, one side, and the kind
        let offset = place(b"output_norm.weight") + 18 + 4 + 8 + 4;
        let mut overlapping = file.clone();
        overlapping[offset..offset + 8].copy_from_slice(&32_u64.to_le_bytes());
        assert!(format!("{:?}", read(&overlapping)).contains("lies partly on the bytes of"));
        let mut odd = file.clone();
        odd[offset..offset + 8].copy_from_slice(&33_u64.to_le_bytes());
        assert!(format!("{:?}", read(&odd)).contains("no multiple of 32"));
        let mut far = file.clone();
        far[offset..offset + 8].copy_from_slice(&(u64::MAX - 31).to_le_bytes());
        assert!(read(&far).is_err());
        let mut kind = file.clone();
        kind[offset - 4] = 2;
        assert!(format!("{:?}", read(&kind)).contains("Q4_0"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let mut file = MAGIC.to_vec();
            file.extend(3_u32.to_le_bytes());
            file.extend(bytes);
            let _ = read(&file);
        }

        #[test]
        fn a_changed_file_gives_an_answer_within_its_bytes(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            end in any::<prop::sample::Index>(),
        ) {
            let mut file = small();
            for (index, byte) in changes {
                let at = index.index(file.len());
                file[at] = byte;
            }
            file.truncate(end.index(file.len()) + 1);
            if let Ok(header) = read(&file) {
                for tensor in &header.tensors {
                    prop_assert!(tensor.bytes.end <= file.len());
                    prop_assert_eq!(tensor.kind.tensor_bytes(&tensor.shape), Some(tensor.bytes.len()));
                }
            }
        }
    }
}
