//! `adapter_config.json`: which layers are adapted, at which rank and how strongly.
//!
//! PEFT knows many ways of adapting a model beyond plain LoRA, and writes all their fields into
//! every file. One that changes what is computed and is not known here must not be passed over: a
//! field that this engine does not know is accepted only with a value that switches it off.

use std::path::Path;

use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::super::error::LoadError;
use super::super::json_fields::{Fields, shown};
use super::{Target, module};

/// Highest rank accepted; more than any layer of the published model needs.
const RANK_MAX: usize = 4096;

/// Most entries of a list or of a pattern table.
const ENTRIES_MAX: usize = 1024;

/// Longest name or pattern, in bytes.
const PATTERN_MAX_BYTES: usize = 4096;

/// Steps that a pattern may take on one name before it is refused.
const BACKTRACK_MAX: usize = 100_000;

/// Memory that one pattern may take, in bytes: a file may hold a thousand of them.
const PATTERN_MAX_MEMORY_BYTES: usize = 512 << 10;

/// Fields that tell of an adapter's origin or training, and nothing about what it computes.
const INFORMATION: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size", // counts only with use_qalora
    "revision",
    "runtime_config",
    "task_type",
];

/// Fields that are read here.
const READ: &[&str] = &[
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_dora",
    "use_rslora",
];

/// What an adapter's configuration says.
pub(super) struct AdapterConfig {
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    targets: Modules,
    excluded: Option<Modules>,
    /// Only these layers, if it is given.
    layers: Option<Vec<usize>>,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
}

/// Which modules a field names.
enum Modules {
    /// By full name or by its end.
    Names(Vec<String>),
    /// Those whose whole name fits.
    Fitting(Pattern),
    /// Every linear layer.
    All,
}

/// A regular expression as Python understands it, and the field it stands in.
struct Pattern {
    field: &'static str,
    regex: Regex,
}

/// The rank and factor of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strength {
    pub(super) rank: usize,
    pub(super) scale: f64,
}

impl AdapterConfig {
    /// Reads the file's object. `path` is for the messages.
    pub(super) fn read(path: &Path, map: &Map<String, Value>) -> Result<AdapterConfig, LoadError> {
        let fields = Fields::new(path, map);
        refuse_other_methods(&fields)?;
        let targets = modules(&fields, "target_modules")?.ok_or_else(|| {
            fields.refuse("target_modules", "is missing: name the layers that are adapted")
        })?;
        let layers = layers(&fields)?;
        if layers.is_some() && matches!(targets, Modules::Fitting(_)) {
            let problem = "cannot stand beside a pattern in `target_modules`; PEFT refuses it too";
            return Err(fields.refuse("layers_to_transform", problem));
        }
        Ok(AdapterConfig {
            rank: fields.count("r", 1..=RANK_MAX)?,
            alpha: fields.number("lora_alpha", 1e-6..=1e6)?,
            rank_stabilised: fields.flag("use_rslora", false)?,
            targets,
            excluded: modules(&fields, "exclude_modules")?,
            layers,
            ranks: patterns(&fields, "rank_pattern", |entry, name| {
                entry.count(name, 1..=RANK_MAX)
            })?,
            alphas: patterns(&fields, "alpha_pattern", |entry, name| {
                entry.number(name, 1e-6..=1e6)
            })?,
        })
    }

    /// Whether the layer is to be adapted.
    pub(super) fn is_adapted(
        &self,
        path: &Path,
        layer: usize,
        target: Target,
    ) -> Result<bool, LoadError> {
        let name = module(layer, target);
        if let Some(excluded) = &self.excluded
            && excluded.hold(path, &name)?
        {
            return Ok(false);
        }
        // A name that is written out in full counts whatever the list of layers says, as in PEFT.
        if matches!(&self.targets, Modules::Names(names) if names.contains(&name)) {
            return Ok(true);
        }
        let in_layers = self.layers.as_ref().is_none_or(|layers| layers.contains(&layer));
        Ok(in_layers && self.targets.hold(path, &name)?)
    }

    /// The rank of a layer, and the factor of its product: alpha / rank, or alpha / sqrt(rank) for
    /// rank-stabilised adapters. The first pattern that fits counts.
    pub(super) fn strength(
        &self,
        path: &Path,
        layer: usize,
        target: Target,
    ) -> Result<Strength, LoadError> {
        let name = module(layer, target);
        let rank = first(&self.ranks, path, &name)?.unwrap_or(self.rank);
        let alpha = first(&self.alphas, path, &name)?.unwrap_or(self.alpha);
        let over = if self.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
        Ok(Strength { rank, scale: alpha / over })
    }
}

impl Modules {
    fn hold(&self, path: &Path, name: &str) -> Result<bool, LoadError> {
        match self {
            Modules::All => Ok(true),
            Modules::Fitting(pattern) => pattern.fits(path, name),
            Modules::Names(names) => Ok(names.iter().any(|end| {
                name == end || name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'))
            })),
        }
    }
}

impl Pattern {
    fn fits(&self, path: &Path, name: &str) -> Result<bool, LoadError> {
        self.regex.is_match(name).map_err(|why| {
            LoadError::field(path, self.field, format!("the pattern takes too long: {why}"))
        })
    }
}

fn first<T: Copy>(
    patterns: &[(Pattern, T)],
    path: &Path,
    name: &str,
) -> Result<Option<T>, LoadError> {
    for (pattern, value) in patterns {
        if pattern.fits(path, name)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// Refuses what is not plain LoRA beside unchanged weights.
fn refuse_other_methods(fields: &Fields<'_>) -> Result<(), LoadError> {
    if fields.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        let found = fields.get("peft_type").map_or("nothing".to_owned(), shown);
        let problem = format!("this engine applies \"LORA\", found {found}");
        return Err(fields.refuse("peft_type", problem));
    }
    fields.choice("bias", &["none"])?;
    for (name, problem) in [
        ("use_dora", "DoRA also rescales the weights; train with use_dora=False"),
        ("fan_in_fan_out", "this model stores its weights as (out, in); set it to false"),
    ] {
        if fields.flag(name, false)? {
            return Err(fields.refuse(name, problem));
        }
    }
    if fields.get("modules_to_save").is_some_and(|value| !is_off(value)) {
        let problem = "this engine takes no whole layers from an adapter; train without it";
        return Err(fields.refuse("modules_to_save", problem));
    }
    check_initialisation(fields)?;
    for name in fields.names().filter(|name| !READ.contains(name) && !INFORMATION.contains(name)) {
        if fields.get(name).is_some_and(|value| !is_off(value)) {
            let name = name.chars().take(64).collect::<String>();
            let problem = "this engine does not know it and cannot tell what it changes; \
                           train without it";
            return Err(fields.refuse(&name, problem));
        }
    }
    Ok(())
}

/// Some ways to begin a training change the base's own weights, which the files do not hold.
fn check_initialisation(fields: &Fields<'_>) -> Result<(), LoadError> {
    let harmless = ["gaussian", "orthogonal", "eva"];
    match fields.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::String(word)) if harmless.contains(&word.as_str()) => Ok(()),
        Some(other) => {
            let problem = format!(
                "{} may change the base's weights; convert the adapter on saving \
                 (path_initial_model_for_weight_conversion) or train with true",
                shown(other)
            );
            Err(fields.refuse("init_lora_weights", problem))
        }
    }
}

/// Whether a value means that a feature is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn modules(fields: &Fields<'_>, name: &'static str) -> Result<Option<Modules>, LoadError> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(word)) if word == "all-linear" => Ok(Some(Modules::All)),
        Some(Value::String(text)) => {
            // PEFT asks for the whole name.
            pattern(fields, name, text, &format!(r"\A(?:{text})\z"))
                .map(|pattern| Some(Modules::Fitting(pattern)))
        }
        Some(Value::Array(items)) if items.is_empty() => Ok(None),
        Some(Value::Array(items)) if items.len() <= ENTRIES_MAX => {
            let names: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match names {
                Some(names) if names.iter().all(|name| !name.is_empty()) => {
                    Ok(Some(Modules::Names(names)))
                }
                _ => Err(fields.refuse(name, "expected names of layers")),
            }
        }
        Some(_) => {
            let problem = format!("expected a pattern or a list of up to {ENTRIES_MAX} names");
            Err(fields.refuse(name, problem))
        }
    }
}

fn layers(fields: &Fields<'_>) -> Result<Option<Vec<usize>>, LoadError> {
    let name = "layers_to_transform";
    let layers = match fields.get(name) {
        None => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(Value::Array(items)) => Some(items.as_slice()),
        Some(one) => Some(std::slice::from_ref(one)),
    };
    let Some(items) = layers else { return Ok(None) };
    let pattern = fields.get("layers_pattern").filter(|value| !is_off(value));
    let says_layers = |value: &Value| {
        let one = |value: &Value| value.as_str() == Some("layers");
        one(value) || value.as_array().is_some_and(|list| list.iter().any(one))
    };
    if pattern.is_some_and(|value| !says_layers(value) && value.as_str() != Some("")) {
        return Err(fields.refuse("layers_pattern", "this model calls its layers \"layers\""));
    }
    let number = |item: &Value| item.as_u64().filter(|n| *n < ENTRIES_MAX as u64);
    let numbers: Option<Vec<usize>> =
        items.iter().map(|item| number(item).map(|n| n as usize)).collect();
    match numbers {
        Some(numbers) if numbers.len() <= ENTRIES_MAX => Ok(Some(numbers)),
        _ => {
            let problem = format!("expected numbers of layers below {ENTRIES_MAX}");
            Err(fields.refuse(name, problem))
        }
    }
}

fn patterns<T>(
    fields: &Fields<'_>,
    name: &'static str,
    value: impl Fn(&Fields<'_>, &str) -> Result<T, LoadError>,
) -> Result<Vec<(Pattern, T)>, LoadError> {
    let Some(entries) = fields.object(name)? else { return Ok(Vec::new()) };
    if entries.names().count() > ENTRIES_MAX {
        return Err(fields.refuse(name, format!("has more than {ENTRIES_MAX} entries")));
    }
    // PEFT fits a name's end, at a dot. The first entry that fits counts, so their order is kept.
    let one = |text: &str| -> Result<(Pattern, T), LoadError> {
        let pattern = pattern(fields, name, text, &format!(r"\A(?:.*\.)?(?:{text})\z"))?;
        Ok((pattern, value(&entries, text)?))
    };
    entries.names().map(one).collect()
}

fn pattern(
    fields: &Fields<'_>,
    field: &'static str,
    written: &str,
    whole: &str,
) -> Result<Pattern, LoadError> {
    if written.is_empty() || written.len() > PATTERN_MAX_BYTES {
        let problem = format!("a pattern has 1 to {PATTERN_MAX_BYTES} bytes");
        return Err(fields.refuse(field, problem));
    }
    let built = RegexBuilder::new(whole)
        .backtrack_limit(BACKTRACK_MAX)
        .delegate_size_limit(PATTERN_MAX_MEMORY_BYTES)
        .build();
    let regex = built.map_err(|why| {
        let why: String = why.to_string().chars().take(200).collect();
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        let written = shown(&Value::String(written.to_owned()));
        fields.refuse(field, format!("{written} is not a pattern: {why}"))
    })?;
    Ok(Pattern { field, regex })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: Value) -> Result<AdapterConfig, LoadError> {
        let mut whole = json!({
            "peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["qkv_proj"]
        });
        let map = whole.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        AdapterConfig::read(Path::new("a.json"), map)
    }

    #[track_caller]
    fn refused(more: Value) -> String {
        read(more).err().expect("refused").to_string()
    }

    fn adapted(more: Value) -> Vec<String> {
        let config = read(more).unwrap();
        let all = (0..3).flat_map(|layer| Target::ALL.map(|target| (layer, target)));
        all.filter(|(layer, target)| config.is_adapted(Path::new("a"), *layer, *target).unwrap())
            .map(|(layer, target)| module(layer, target))
            .collect()
    }

    #[test]
    fn a_pattern_that_would_fill_the_memory_is_refused() {
        let told = refused(json!({ "rank_pattern": { "\\w{80}": 4 } }));
        assert!(told.contains("is not a pattern"), "{told}");
        read(json!({ "rank_pattern": { "\\w+\\.\\d+\\.mlp\\..*": 4 } })).unwrap();
    }

    #[test]
    fn targets_are_names_patterns_or_all() {
        let qkv = |layer| module(layer, Target::Qkv);
        assert_eq!(adapted(json!({})), [qkv(0), qkv(1), qkv(2)]);
        assert_eq!(adapted(json!({"target_modules": "all-linear"})).len(), 12);
        assert_eq!(adapted(json!({"target_modules": ["v_proj", "kv_proj"]})), [""; 0]);
        let ahead = r"^(?!.*vision)(?!.*layers\.0\.).*(qkv|o)_proj";
        assert_eq!(adapted(json!({"target_modules": ahead})).len(), 4);
        // A pattern must fit the whole name.
        assert_eq!(adapted(json!({"target_modules": "qkv_proj"})), [""; 0]);
        assert_eq!(adapted(json!({"exclude_modules": ["layers.1.self_attn.qkv_proj"]})).len(), 2);
        assert_eq!(adapted(json!({"exclude_modules": r".*\.[12]\..*"})), [qkv(0)]);
        assert_eq!(adapted(json!({"layers_to_transform": 2})), [qkv(2)]);
        assert_eq!(adapted(json!({"layers_to_transform": [0, 1]})), [qkv(0), qkv(1)]);
        assert_eq!(adapted(json!({"layers_to_transform": []})).len(), 3);
    }

    #[test]
    fn patterns_change_rank_and_alpha_and_the_first_one_counts() {
        let config = read(json!({
            "rank_pattern": {"layers.0.self_attn.qkv_proj": 2, "qkv_proj": 4, "^model.layers.1.mlp.*": 6},
            "alpha_pattern": {"self_attn.*": 32}
        }))
        .unwrap();
        let found = |layer, target| {
            let Strength { rank, scale } = config.strength(Path::new("a"), layer, target).unwrap();
            (rank, scale)
        };
        assert_eq!(found(0, Target::Qkv), (2, 16.0));
        assert_eq!(found(1, Target::Qkv), (4, 8.0));
        assert_eq!(found(1, Target::Down), (6, 16.0 / 6.0));
        assert_eq!(found(2, Target::Down), (8, 2.0));
        let stable = read(json!({"use_rslora": true, "r": 4})).unwrap();
        let strength = stable.strength(Path::new("a"), 0, Target::Qkv).unwrap();
        assert_eq!(strength, Strength { rank: 4, scale: 8.0 });
    }

    #[test]
    fn what_is_not_plain_lora_is_refused_by_field() {
        for (field, value) in [
            ("peft_type", json!("LOHA")),
            ("bias", json!("all")),
            ("use_dora", json!(true)),
            ("fan_in_fan_out", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("r", json!(0)),
            ("r", json!(8.5)),
            ("lora_alpha", json!(0)),
            ("lora_alpha", json!("16")),
            ("target_modules", json!(null)),
            ("target_modules", json!([])),
            ("target_modules", json!([1])),
            ("target_modules", json!("(qkv")),
            ("rank_pattern", json!({"qkv": 0})),
            ("rank_pattern", json!(["qkv"])),
            ("alpha_pattern", json!({"(": 1})),
            ("layers_to_transform", json!([-1])),
            ("use_rslora", json!("yes")),
            ("use_qalora", json!(true)),
            ("lora_bias", json!(true)),
            ("layer_replication", json!([[0, 2]])),
            ("alora_invocation_tokens", json!([1])),
            ("trainable_token_indices", json!([1])),
            ("some_new_method", json!({"on": 1})),
        ] {
            let mut more = Map::new();
            more.insert(field.to_owned(), value.clone());
            let message = refused(Value::Object(more));
            assert!(message.starts_with(&format!("a.json: field `{field}")), "{value}: {message}");
        }
        let both = json!({"target_modules": ".*qkv_proj", "layers_to_transform": [0]});
        assert!(refused(both).contains("layers_to_transform"));
        read(json!({"some_new_method": false, "other": null, "more": {}, "lora_dropout": 0.1}))
            .unwrap();
    }

    /// What PEFT writes today for plain LoRA, every field of it.
    #[test]
    fn a_file_of_a_recent_peft_is_read() {
        let config = read(json!({
            "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
            "auto_mapping": null, "base_model_name_or_path": "a/model", "bias": "none",
            "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
            "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
            "init_lora_weights": true, "layer_replication": null, "layers_pattern": null,
            "layers_to_transform": null, "loftq_config": {}, "lora_bias": false,
            "lora_dropout": 0.05, "megatron_config": null, "megatron_core": "megatron.core",
            "modules_to_save": null, "peft_version": "0.18.0", "qalora_group_size": 16,
            "rank_pattern": {}, "revision": null, "target_parameters": null,
            "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_dora": false,
            "use_qalora": false, "use_rslora": false
        }));
        assert!(config.is_ok(), "{:?}", config.err());
    }

    #[test]
    fn a_pattern_that_would_take_for_ever_is_an_error() {
        let config = read(json!({"target_modules": r"(?:(?=.)(.*)*)*\1x"}));
        let told = match config {
            Err(why) => why.to_string(),
            Ok(config) => match config.is_adapted(Path::new("a.json"), 0, Target::Qkv) {
                Ok(found) => format!("{found}"),
                Err(why) => why.to_string(),
            },
        };
        assert!(told == "false" || told.contains("target_modules"), "{told}");
    }
}
