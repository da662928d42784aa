//! What will be written, before anything is: every tensor with its storage and place, and the sizes
//! that follow from the model's numbers alone.

use super::mix::Mix;
use crate::vlm::config::ModelConfig;
use crate::vlm::gguf::names::{self, Named};
use crate::vlm::gguf::write::{Entry, HeaderWriter};
use crate::vlm::gguf::{self, ARCHITECTURE, FILE_PREFIX, Kind};

/// One tensor of the file to be.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Names, shape and role.
    pub named: Named,
    /// How it will be stored.
    pub kind: Kind,
    /// Where its bytes begin, counted from the first tensor's.
    pub offset_bytes: u64,
    /// Its bytes.
    pub len_bytes: u64,
    /// Whether its rows are not whole blocks of the mix's choice, so that it is stored otherwise.
    pub fell_back: bool,
}

/// The whole file to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mix it follows.
    pub mix: Mix,
    /// The tensors, in the order of the file.
    pub tensors: Vec<Planned>,
}

/// What goes into the header beside the tensors.
pub(super) struct Texts<'a> {
    /// Small files of the folder: name and text.
    pub(super) files: &'a [(String, String)],
    /// Lines `hex  name` of the source files.
    pub(super) source_digests: &'a str,
    /// The SHA-256 of the importance matrix.
    pub(super) imatrix: Option<&'a str>,
    /// The SHA-256 of each tensor's bytes, in the order of the file; zeros hold the place until
    /// they are known.
    pub(super) tensor_digests: &'a [String],
}

impl Planned {
    /// Rows and columns: all sides but the last in one, and the last.
    pub(super) fn matrix(&self) -> (usize, usize) {
        let (columns, rows) = self.named.shape.split_last().expect("every tensor has a side");
        (rows.iter().product(), *columns)
    }

    /// Its numbers.
    pub fn weights(&self) -> u64 {
        let (rows, columns) = self.matrix();
        rows as u64 * columns as u64
    }
}

impl Plan {
    /// Plans the file of a model of these numbers.
    pub fn new(config: &ModelConfig, mix: Mix) -> Plan {
        let (layers, tied) = (config.decoder.layers, config.decoder.tied);
        let mut layout = HeaderWriter::new();
        let tensors = names::tensors(config).into_iter().map(|named| {
            let kind = mix.kind(&named, layers, tied);
            let offset_bytes = layout.tensor(&named.gguf, &named.shape, kind);
            let len = kind.tensor_bytes(&named.shape).expect("the mix gives whole blocks");
            let wide = Named { shape: vec![256], ..named.clone() };
            let fell_back = kind != mix.kind(&wide, layers, tied);
            Planned { named, kind, offset_bytes, len_bytes: len as u64, fell_back }
        });
        Plan { mix, tensors: tensors.collect() }
    }

    /// Bytes from the first tensor's to the last's end.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |last| last.offset_bytes + last.len_bytes)
    }

    /// Bytes of the decoder's tensors, embedding table and head included.
    pub fn decoder_bytes(&self) -> u64 {
        let decoder = |tensor: &&Planned| {
            !tensor.named.gguf.starts_with("v.") && !tensor.named.gguf.starts_with("mm.")
        };
        self.tensors.iter().filter(decoder).map(|tensor| tensor.len_bytes).sum()
    }

    /// Numbers in all tensors.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(Planned::weights).sum()
    }

    /// The header of the file. It has the same length whatever the digests are.
    pub(super) fn header(&self, config: &ModelConfig, texts: &Texts<'_>) -> HeaderWriter {
        let mut header = HeaderWriter::new();
        let config_text = texts.files.iter().find(|(name, _)| name == "config.json");
        let config_text = config_text.map_or("", |(_, text)| text.as_str());
        header.entry("general.architecture", Entry::Text(ARCHITECTURE));
        header.entry("general.type", Entry::Text("model"));
        header.entry("general.name", Entry::Text(&name_of(config_text)));
        header.entry("general.file_type", Entry::U32(self.mix.file_type()));
        header.entry("general.quantization_version", Entry::U32(2));
        header.entry("general.alignment", Entry::U32(gguf::ALIGNMENT as u32));
        if let Some(license) = license_of(config_text, texts.files) {
            header.entry("general.license", Entry::Text(&license));
        }
        numbers(&mut header, config);
        header.entry(gguf::MIX, Entry::Text(self.mix.name()));
        if let Some(imatrix) = texts.imatrix {
            header.entry(gguf::IMATRIX, Entry::Text(imatrix));
        }
        header.entry(gguf::SOURCE_DIGESTS, Entry::Text(texts.source_digests));
        for (name, text) in texts.files {
            header.entry(&format!("{FILE_PREFIX}{name}"), Entry::Text(text));
        }
        header.entry(gguf::TENSOR_DIGESTS, Entry::Text(&self.digest_lines(texts.tensor_digests)));
        for tensor in &self.tensors {
            header.tensor(&tensor.named.gguf, &tensor.named.shape, tensor.kind);
        }
        header
    }

    fn digest_lines(&self, digests: &[String]) -> String {
        let unknown = "0".repeat(64);
        let known = digests.iter().chain(std::iter::repeat(&unknown));
        let lines = self.tensors.iter().zip(known);
        lines.map(|(tensor, digest)| format!("{digest}  {}\n", tensor.named.gguf)).collect()
    }
}

/// The numbers that other programs look for, under the keys that llama.cpp uses.
fn numbers(header: &mut HeaderWriter, config: &ModelConfig) {
    let decoder = &config.decoder;
    let whole = [
        ("context_length", decoder.max_positions),
        ("embedding_length", decoder.hidden),
        ("feed_forward_length", decoder.intermediate),
        ("block_count", decoder.layers),
        ("attention.head_count", decoder.heads),
        ("attention.head_count_kv", decoder.kv_heads),
        ("rope.dimension_count", decoder.head_dim),
        ("rope.scaling.original_context_length", config.rope.original_positions),
        ("vocab_size", decoder.vocab),
        ("vision.embedding_length", config.vision.hidden),
        ("vision.feed_forward_length", config.vision.intermediate),
        ("vision.block_count", config.vision.used_layers),
        ("vision.attention.head_count", config.vision.heads),
        ("vision.image_size", 336),
        ("vision.patch_size", 14),
    ];
    for (key, number) in whole {
        let number = u32::try_from(number).expect("the configuration's bounds are far below");
        header.entry(&format!("{ARCHITECTURE}.{key}"), Entry::U32(number));
    }
    let fractions = [
        ("attention.layer_norm_rms_epsilon", decoder.rms_eps),
        ("rope.freq_base", config.rope.theta),
        ("vision.attention.layer_norm_epsilon", config.vision.layer_norm_eps),
    ];
    for (key, number) in fractions {
        header.entry(&format!("{ARCHITECTURE}.{key}"), Entry::F32(number as f32));
    }
}

/// The model's name as `config.json` has it, or the kind of model.
fn name_of(config: &str) -> String {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let name = config.get("_name_or_path").and_then(|name| name.as_str()).unwrap_or_default();
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if last.is_empty() { "Phi-3 Vision".to_string() } else { last.chars().take(200).collect() }
}

/// The licence by its short name, where the configuration or the first lines of LICENSE say it.
fn license_of(config: &str, files: &[(String, String)]) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    if let Some(license) = config.get("license").and_then(|license| license.as_str()) {
        return Some(license.chars().take(200).collect());
    }
    let text = files.iter().find(|(name, _)| name == "LICENSE").map(|(_, text)| text)?;
    let start: String = text.chars().take(600).collect::<String>().to_lowercase();
    // Without its title the MIT licence is known by its first sentence.
    let known = [
        ("apache license", "apache-2.0"),
        ("mit license", "mit"),
        ("permission is hereby granted, free of charge", "mit"),
    ];
    known.iter().find(|(words, _)| start.contains(words)).map(|(_, name)| (*name).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::mix::MIXES;
    use super::*;
    use crate::vlm::gguf::names::published_sizes;

    /// Worked out a second time by hand from the published numbers, without the header; the limits are those that the plant's board sets.
    #[test]
    fn the_published_model_has_these_sizes() {
        let config = published_sizes();
        let sizes = MIXES.map(|mix| {
            let plan = Plan::new(&config, mix);
            (plan.decoder_bytes(), plan.data_bytes())
        });
        assert_eq!(
            sizes,
            [
                (4_060_483_584, 4_396_236_800),
                (3_135_114_240, 3_470_867_456),
                (2_814_537_216, 3_150_290_432),
                (2_392_493_568, 2_728_246_784)
            ]
        );
        assert!(sizes[0].1 <= 4_500_000_000);
        assert!(sizes[3].1 <= 2_750_000_000 && sizes[3].0 <= 2_450_000_000);
        // 4,134,003,712 numbers: the published 4,146,621,440 less the unused tower layer and norm.
        assert_eq!(Plan::new(&config, Mix::Q4KM).weights(), 4_146_621_440 - 12_596_224 - 2_048);
    }

    #[test]
    fn a_header_keeps_its_length_when_the_digests_are_known() {
        let config = published_sizes();
        let plan = Plan::new(&config, Mix::Q4KM);
        let files = [("config.json".to_string(), "{}".to_string())];
        let known = vec!["a".repeat(64); plan.tensors.len()];
        let header = |tensor_digests| {
            let texts = Texts { files: &files, source_digests: "x", imatrix: None, tensor_digests };
            plan.header(&config, &texts).bytes().len()
        };
        assert_eq!(header(&[]), header(&known));
    }

    #[test]
    fn names_and_licences_are_found() {
        assert_eq!(name_of(r#"{"_name_or_path": "a/Phi-3-vision/"}"#), "Phi-3-vision");
        assert_eq!(name_of("not JSON"), "Phi-3 Vision");
        let files = [("LICENSE".to_string(), "  MIT License\n...".to_string())];
        assert_eq!(license_of("{}", &files).as_deref(), Some("mit"));
        assert_eq!(license_of(r#"{"license": "x"}"#, &[]).as_deref(), Some("x"));
        assert_eq!(license_of("{}", &[]), None);
    }
}
