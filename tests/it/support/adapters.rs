//! Adapter folders, made by the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// A tensor of an adapter as it will be written.
#[derive(Clone, Debug)]
pub struct Stored {
    /// How its bytes are to be read.
    pub dtype: Dtype,
    /// Its sides.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Stored {
    /// Numbers in f32.
    pub fn floats(shape: &[usize], number: impl Fn(usize) -> f32) -> Stored {
        let count = shape.iter().product();
        let data = (0..count).flat_map(|at| number(at).to_le_bytes()).collect();
        Stored { dtype: Dtype::F32, shape: shape.to_vec(), data }
    }
}

/// An adapter that a test may change before it writes it.
pub struct Draft {
    /// `adapter_config.json`.
    pub config: serde_json::Value,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Stored>,
}

impl Draft {
    /// One of the fixtures of the small model: `plain` or `patterned`.
    pub fn fixture(name: &str) -> Draft {
        let dir = fixture(name);
        let bytes = fs::read(dir.join("adapter_model.safetensors")).expect("readable");
        let read = SafeTensors::deserialize(&bytes).expect("safetensors");
        let stored = |view: TensorView<'_>| Stored {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        };
        let tensors = read.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect();
        let config = fs::read(dir.join("adapter_config.json")).expect("readable");
        Draft { config: serde_json::from_slice(&config).expect("JSON"), tensors }
    }

    /// An adapter for the built-in model: every target of its four layers, rank 2. Another seed
    /// gives other numbers.
    pub fn builtin(seed: usize) -> Draft {
        let mut draft = Draft::fixture("plain");
        draft.config["r"] = 2.into();
        draft.tensors.clear();
        let sides = [
            ("self_attn.qkv_proj", 192, 576),
            ("self_attn.o_proj", 192, 192),
            ("mlp.gate_up_proj", 192, 1024),
            ("mlp.down_proj", 512, 192),
        ];
        let number = move |at: usize| ((at * 37 + seed * 101) % 199) as f32 / 2000.0 - 0.05;
        for layer in 0..4 {
            for (target, inputs, out) in sides {
                let name = format!("base_model.model.model.layers.{layer}.{target}");
                let a = Stored::floats(&[2, inputs], number);
                let b = Stored::floats(&[out, 2], number);
                draft.tensors.insert(format!("{name}.lora_A.weight"), a);
                draft.tensors.insert(format!("{name}.lora_B.weight"), b);
            }
        }
        draft
    }

    /// Writes both files into `dir`, which is made if it is not there.
    pub fn write(&self, dir: &Path) -> PathBuf {
        fs::create_dir_all(dir).expect("made");
        fs::write(dir.join("adapter_config.json"), self.config.to_string()).expect("written");
        let views = self.tensors.iter().map(|(name, stored)| {
            let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.data);
            (name.as_str(), view.expect("bytes of this shape"))
        });
        let bytes = safetensors::serialize(views, None).expect("safetensors");
        fs::write(dir.join("adapter_model.safetensors"), bytes).expect("written");
        dir.to_path_buf()
    }
}

/// The folder of a fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa/adapters").join(name)
}
