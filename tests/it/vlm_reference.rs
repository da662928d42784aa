//! The engine against tensors made with the publisher's own code, block by block.
//!
//! The small model `tests/fixtures/tiny_gqa` and its three cases always run. Where the whole
//! reference kit lies beside the repository (`../shared/phi3-vision/reference`) its cases run too;
//! where it does not, those tests say so and pass. Tolerances: the f32 reference is itself within
//! 1e-5 of f64, and the mildest known mistake moves embeddings by 8e-4 and logits by 9e-4.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::Deserialize;

use inspectd::vlm::CacheForm;
use inspectd::vlm::config::LongContext;
use inspectd::vlm::encoded::Encoded;
use inspectd::vlm::engine::{Engine, EngineOptions};
use inspectd::vlm::kv_cache::KvCache;
use inspectd::vlm::picture::Picture;
use inspectd::vlm::pixels::{Layout, TILE, Views, hd_image};
use inspectd::vlm::rope::Regime;
use inspectd::vlm::session::Session;

const PIXELS: f32 = 2e-6;
const EMBEDDINGS: f32 = 1e-4;
const LOGITS: f32 = 2e-4;

#[test]
fn fixture_ids_and_pixels() {
    Kit::fixture().each_case(Case::check_ids_and_pixels);
}

#[test]
fn fixture_tower_and_projector() {
    Kit::fixture().each_case(Case::check_tower_and_projector);
}

#[test]
fn fixture_decoder_layers() {
    Kit::fixture().each_case(Case::check_decoder_layers);
}

#[test]
fn fixture_answers() {
    Kit::fixture().each_case(Case::check_answers);
}

#[test]
fn fixture_tokenizer() {
    Kit::fixture().check_tokenizers();
}

#[test]
fn kit_ids_and_pixels() {
    Kit::beside().each_case(Case::check_ids_and_pixels);
}

#[test]
fn kit_tower_and_projector() {
    Kit::beside().each_case(Case::check_tower_and_projector);
}

#[test]
fn kit_decoder_layers() {
    Kit::beside().each_case(Case::check_decoder_layers);
}

#[test]
fn kit_answers() {
    Kit::beside().each_case(Case::check_answers);
}

#[test]
fn kit_tokenizers() {
    Kit::beside().check_tokenizers();
}

/// Size of the padded picture and number of tokens for 800 sizes; a row with zeros is a size the
/// published code fails on.
#[test]
fn kit_sizes() {
    #[derive(Deserialize)]
    struct Sizes {
        rows: Vec<[usize; 6]>,
    }
    let Some(root) = Kit::beside().root else { return };
    let sizes: Sizes = read_json(&root.join("hd_sizes.json"));
    assert_eq!(sizes.rows.len(), 800);
    for row @ [width, height, num_crops, padded_h, padded_w, tokens] in sizes.rows {
        let layout = Layout::of(width as u32, height as u32, num_crops);
        let found = layout.map_or([0; 3], |layout| {
            let (h, w) = layout.padded();
            [h, w, layout.tokens()]
        });
        let possible = padded_h > 0 && padded_w > 0;
        let expected = if possible { [padded_h, padded_w, tokens] } else { [0; 3] };
        assert_eq!(found, expected, "{row:?}");
    }
}

/// Past the switch of factor lists the default is the Phi-3.5-vision revision: everything again
/// with the long list.
#[test]
fn kit_answer_across_the_switch_with_everything_computed_again() {
    Kit::beside().each_case(|case| {
        let Some(expected) = &case.info.greedy_reprefill else { return };
        let (greedy, rows) = case.run(LongContext::Reprefill);
        assert_eq!(&greedy, expected, "{}", case.info.name);
        case.check_steps(&rows, "steps_logits_reprefill_sv");
    });
}

/// Where cases, pictures and numbers lie.
pub(crate) struct Kit {
    /// `None` if the kit is not here.
    root: Option<PathBuf>,
    /// A model's folder, by name.
    models: fn(&Path, &str) -> PathBuf,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<CaseInfo>,
}

#[derive(Deserialize)]
pub(crate) struct CaseInfo {
    pub(crate) name: String,
    model: String,
    num_crops: usize,
    images: Vec<String>,
    prompt: Option<String>,
    #[serde(default)]
    image_sizes: Vec<(usize, usize)>,
    greedy: Vec<u32>,
    greedy_reprefill: Option<Vec<u32>>,
    hidden_pos_stride: usize,
    logits_vocab_stride: usize,
}

pub(crate) struct Case {
    pub(crate) info: CaseInfo,
    folder: PathBuf,
    model: PathBuf,
    pub(crate) engine: Engine,
    pictures: Vec<image::RgbImage>,
}

impl Kit {
    pub(crate) fn fixture() -> Kit {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa/reference");
        Kit { root: Some(root), models: |root, _| root.join("..") }
    }

    fn beside() -> Kit {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/phi3-vision/reference");
        let root = root.join("cases.json").exists().then_some(root);
        if root.is_none() {
            println!("the reference kit is not here: nothing to compare");
        }
        Kit { root, models: |root, name| root.join("models").join(name) }
    }

    pub(crate) fn each_case(&self, check: impl Fn(&Case)) {
        let Some(root) = &self.root else { return };
        let cases: Cases = read_json(&root.join("cases.json"));
        assert!(!cases.cases.is_empty());
        for info in cases.cases {
            let model = (self.models)(root, &info.model);
            let open = |path: &String| image::open(root.join(path)).unwrap().to_rgb8();
            let case = Case {
                folder: root.join("cases").join(&info.name),
                engine: Engine::load(&model, &EngineOptions::default()).unwrap(),
                model,
                pictures: info.images.iter().map(open).collect(),
                info,
            };
            check(&case);
        }
    }

    fn check_tokenizers(&self) {
        #[derive(Deserialize)]
        struct Row {
            model: String,
            text: String,
            ids_with_bos: Vec<u32>,
            ids_no_special: Vec<u32>,
            decode: String,
        }
        let Some(root) = &self.root else { return };
        let rows: Vec<Row> = read_json(&root.join("tokenizer_cases.json"));
        for name in ["tiny_mha", "tiny_gqa"] {
            let of_model: Vec<&Row> = rows.iter().filter(|row| row.model == name).collect();
            if of_model.is_empty() {
                continue;
            }
            assert_eq!(of_model.len(), 27);
            let engine =
                Engine::load(&(self.models)(root, name), &EngineOptions::default()).unwrap();
            for Row { text, ids_with_bos, ids_no_special, decode, .. } in of_model {
                let tokenizer = engine.tokenizer();
                assert_eq!(&tokenizer.encode(text).unwrap(), ids_with_bos, "{name}: {text:?}");
                assert_eq!(
                    &tokenizer.encode_plain(text).unwrap(),
                    ids_no_special,
                    "{name}: {text:?}"
                );
                assert_eq!(
                    &tokenizer.decode_all(ids_no_special).unwrap(),
                    decode,
                    "{name}: {text:?}"
                );
            }
        }
    }
}

impl Case {
    pub(crate) fn pictures(&self) -> Vec<Picture<'_>> {
        fn borrow(file: &image::RgbImage) -> Picture<'_> {
            Picture::new(file.width(), file.height(), file.as_raw()).unwrap()
        }
        self.pictures.iter().map(borrow).collect()
    }

    fn stored(&self, name: &str) -> Npy {
        Npy::read(&self.folder.join(format!("{name}.npy")))
    }

    fn stored_if_present(&self, name: &str) -> Option<Npy> {
        let path = self.folder.join(format!("{name}.npy"));
        path.exists().then(|| Npy::read(&path))
    }

    pub(crate) fn encoded(&self) -> Encoded {
        let (pictures, crops) = (self.pictures(), self.info.num_crops);
        match &self.info.prompt {
            Some(prompt) => self.engine.encode(prompt, &pictures, crops).unwrap(),
            None => {
                let ids = self.stored("input_ids").numbers.iter().map(|id| *id as i32).collect();
                Encoded::from_ids(ids, &pictures, crops, self.engine.vocab_size()).unwrap()
            }
        }
    }

    fn views(&self) -> Vec<Views> {
        let views =
            |picture: &Picture<'_>| self.engine.views(picture, self.info.num_crops).unwrap();
        self.pictures().iter().map(views).collect()
    }

    fn check_ids_and_pixels(&self) {
        let name = &self.info.name;
        let ids: Vec<f32> = self.encoded().ids.iter().map(|id| *id as f32).collect();
        assert_eq!(ids, self.stored("input_ids").numbers, "{name}");
        for (number, (picture, size)) in
            self.pictures().iter().zip(&self.info.image_sizes).enumerate()
        {
            let layout =
                Layout::of(picture.width(), picture.height(), self.info.num_crops).unwrap();
            assert_eq!(layout.padded(), *size, "{name}, picture {number}");
            let png = self.folder.join(format!("hd_image_{number}.png"));
            if png.exists() {
                let expected = image::open(png).unwrap().to_rgb8().into_raw();
                let found = hd_image(picture, &layout);
                let differing = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                assert_eq!(
                    (found.len(), differing),
                    (expected.len(), 0),
                    "{name}, picture {number}"
                );
            }
        }
        if self.pictures.is_empty() {
            return;
        }
        let views = self.views();
        let zeros = vec![0.0; 3 * TILE * TILE];
        let stack = views.iter().flat_map(|views| {
            let unused = self.info.num_crops - views.tiles.len();
            let tiles = std::iter::once(&views.global).chain(&views.tiles);
            tiles.chain(std::iter::repeat_n(&zeros, unused))
        });
        let every_7th = |view: &Vec<f32>| -> Vec<f32> {
            let seventh = |at: usize| at.is_multiple_of(7);
            let kept = |i: &usize| seventh(i % TILE) && seventh(i / TILE % TILE);
            (0..view.len()).filter(kept).map(|i| view[i]).collect()
        };
        close(
            name,
            "pixels",
            &stack.flat_map(every_7th).collect::<Vec<_>>(),
            &self.stored("pixel_values_s7"),
            PIXELS,
        );
        if let Some(expected) = self.stored_if_present("global_c0") {
            close(name, "global view, red", &views[0].global[..TILE * TILE], &expected, PIXELS);
        }
        if let Some(expected) = self.stored_if_present("global_full") {
            close(name, "global view", &views[0].global, &expected, PIXELS);
        }
    }

    fn check_tower_and_projector(&self) {
        if self.pictures.is_empty() {
            return;
        }
        let name = &self.info.name;
        let (mut sampled, mut embeddings) = (Vec::new(), Vec::new());
        for views in self.views() {
            let (global, tiles) = self.engine.features(&views).unwrap();
            for features in [&global, &tiles[0]] {
                let width = features.dim(1).unwrap();
                let numbers = numbers(features);
                sampled.extend(numbers.chunks(width).step_by(8).flatten().copied());
            }
            let projected =
                self.engine.projector().forward(&global, &tiles, &views.layout).unwrap();
            embeddings.extend(numbers(&projected));
        }
        close(name, "features", &sampled, &self.stored("clip_feat_s8"), EMBEDDINGS);
        close(name, "embeddings", &embeddings, &self.stored("image_embeds"), EMBEDDINGS);
    }

    /// The decoder in one pass over the whole prompt.
    fn check_decoder_layers(&self) {
        let name = &self.info.name;
        let encoded = self.encoded();
        let decoder = self.engine.decoder();
        let shown: Vec<Tensor> = self
            .pictures()
            .iter()
            .map(|picture| self.engine.show(picture, self.info.num_crops).unwrap().embeddings)
            .collect();
        let runs =
            encoded.ids.chunk_by(|a, b| a == b || (*a >= 0 && *b >= 0)).map(|run| match run[0] {
                k if k < 0 => shown[(-k - 1) as usize].clone(),
                _ => decoder.embed(&run.iter().map(|id| *id as u32).collect::<Vec<_>>()).unwrap(),
            });
        let embeddings = Tensor::cat(&runs.collect::<Vec<_>>(), 0).unwrap(); // (T, hidden)

        let options = self.engine.options();
        let form = CacheForm::Numbers(options.dtype);
        let mut cache = KvCache::new(decoder.config(), encoded.len(), form, &options.device);
        let regime = decoder.rope().regime(encoded.len());
        assert_eq!(regime == Regime::Long, encoded.len() > decoder.rope().original_positions());
        let mut first = None;
        let mut observe = |number: usize, x: &Tensor| {
            if number == 0 {
                first = Some(x.clone());
            }
        };
        let last = decoder.forward_observed(&embeddings, &mut cache, regime, &mut observe).unwrap();
        let sampled = |x: &Tensor| -> Vec<f32> {
            let width = x.dim(1).unwrap();
            numbers(x)
                .chunks(width)
                .step_by(self.info.hidden_pos_stride)
                .flatten()
                .copied()
                .collect()
        };
        close(
            name,
            "after layer 0",
            &sampled(&first.unwrap()),
            &self.stored("hidden_layer0_out_sp"),
            LOGITS,
        );
        close(name, "final hidden", &sampled(&last), &self.stored("hidden_final_sp"), LOGITS);
    }

    /// Greedy steps as the Phi-3-vision revision takes them.
    fn check_answers(&self) {
        let (greedy, rows) = self.run(LongContext::Keep);
        close(&self.info.name, "logits", &rows[0], &self.stored("logits_last"), LOGITS);
        self.check_steps(&rows, "steps_logits_sv");
        assert_eq!(greedy, self.info.greedy, "{}", self.info.name);
    }

    fn check_steps(&self, rows: &[Vec<f32>], stored: &str) {
        let stride = self.info.logits_vocab_stride;
        let sampled: Vec<f32> =
            rows.iter().flat_map(|row| row.iter().step_by(stride).copied()).collect();
        close(&self.info.name, stored, &sampled, &self.stored(stored), LOGITS);
    }

    /// As many greedy steps as are stored, end tokens ignored, and the logits of each.
    fn run(&self, long_context: LongContext) -> (Vec<u32>, Vec<Vec<f32>>) {
        let options = EngineOptions { long_context, ..EngineOptions::default() };
        let engine = Engine::load(&self.model, &options).unwrap();
        let mut session = Session::new(&engine);
        let pass = session.prompt(&engine, &self.encoded(), &self.pictures()).unwrap();
        let (mut ids, mut rows) = (Vec::new(), vec![pass.logits]);
        for _ in 0..self.info.greedy.len() {
            let row = &rows[rows.len() - 1];
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
            ids.push(best);
            rows.push(session.append_last(&engine, &[best]).unwrap());
        }
        rows.pop(); // what follows the last id is not stored
        (ids, rows)
    }
}

/// A NumPy file; integers are read as floats, which hold every id exactly.
struct Npy {
    numbers: Vec<f32>,
}

impl Npy {
    fn read(path: &Path) -> Npy {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
        let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8_lossy(&bytes[10..data]);
        assert!(header.contains("'fortran_order': False"), "{}", path.display());
        let words = bytes[data..].chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        let numbers = if header.contains("'<f4'") {
            words.map(f32::from_le_bytes).collect()
        } else {
            assert!(header.contains("'<i4'"), "{}: {header}", path.display());
            words.map(|word| i32::from_le_bytes(word) as f32).collect()
        };
        Npy { numbers }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
}

fn close(case: &str, block: &str, found: &[f32], expected: &Npy, tolerance: f32) {
    assert_eq!(found.len(), expected.numbers.len(), "{case}: {block}");
    let differences = found.iter().zip(&expected.numbers).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, |worst: f32, d| if d <= worst { worst } else { d }); // keeps a NaN
    println!("{case}: {block}: {worst:.1e}");
    assert!(worst <= tolerance, "{case}: {block} differs by {worst:e}, allowed are {tolerance:e}");
}
