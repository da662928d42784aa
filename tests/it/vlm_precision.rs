//! The 16-bit forms against the engine's own f32, which `vlm_reference` holds to the published code.

use std::path::Path;

use candle_core::DType;

use inspectd::vlm::engine::{Engine, EngineOptions};
use inspectd::vlm::picture::Picture;

/// The embeddings of the fixture's pictures, computed in `dtype`.
fn embeddings(dtype: DType) -> Vec<f32> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa");
    let engine =
        Engine::load(&model, &EngineOptions { dtype, ..EngineOptions::default() }).unwrap();
    let mut all = Vec::new();
    for name in ["sq336.png", "tall300x500.png"] {
        let file = image::open(model.join("reference/images").join(name)).unwrap().to_rgb8();
        let picture = Picture::new(file.width(), file.height(), file.as_raw()).unwrap();
        let shown = engine.show(&picture, 1).unwrap().embeddings.to_dtype(DType::F32).unwrap();
        all.extend(shown.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    all
}

/// A softmax summed in 16 bits moves them by 0.6 (bf16) and 0.06 (f16); the rounding of weights and
/// activations by a tenth of that, which is what the published code shows, too.
#[test]
fn the_tower_in_16_bits_loses_what_its_numbers_lose_and_no_more() {
    let exact = embeddings(DType::F32);
    for (dtype, allowed) in [(DType::BF16, 0.15), (DType::F16, 0.02)] {
        let found = embeddings(dtype);
        assert_eq!(found.len(), exact.len());
        let worst = exact.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.iter().all(|x| x.is_finite()) && worst <= allowed, "{dtype:?}: {worst}");
    }
}
