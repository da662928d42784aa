//! Patch features to decoder embeddings: 2 x 2 merge, line ends, separator, two linear layers.

use candle_core::{Result, Tensor};

use super::config::ModelConfig;
use super::error::LoadError;
use super::linear::{Linear, Loader};
use super::pixels::Layout;
use super::vision::GRID;
use super::weight_bytes::WeightBytes;

/// Merged patches along one side of a view.
const MERGED: usize = GRID / 2;

/// Projects a picture's patch features into the decoder's embedding space.
pub struct Projector {
    /// Stands between the tiles and the global view: (1, 4 * width). Published name `glb_GN`.
    separator: Tensor,
    /// Ends every row of merged patches: (1, 1, 4 * width). Published name `sub_GN`.
    line_end: Tensor,
    first: Linear,
    second: Linear,
    tiles_first: bool,
}

impl Projector {
    pub(crate) fn load(
        loader: &Loader<'_>,
        config: &ModelConfig,
    ) -> std::result::Result<Projector, LoadError> {
        let merged = 4 * config.vision.hidden;
        let hidden = config.decoder.hidden;
        let name = |part: &str| format!("model.vision_embed_tokens.{part}");
        Ok(Projector {
            separator: loader.tensor(&name("glb_GN"), &[1, 1, merged])?.reshape((1, merged))?,
            line_end: loader
                .tensor(&name("sub_GN"), &[1, 1, 1, merged])?
                .reshape((1, 1, merged))?,
            first: loader.biased(&name("img_projection.0"), hidden, merged)?,
            second: loader.biased(&name("img_projection.2"), hidden, hidden)?, // 1 is the GELU
            tiles_first: config.tiles_first,
        })
    }

    /// `global` and each of `tiles`: (576, width); `tiles` row by row as `layout` says (asserted).
    /// Returns the picture's embeddings: (tokens, hidden), tokens as [`Layout::tokens`].
    /// Source: `Phi3ImageEmbedding.forward`, image_embedding_phi3_v.py.
    pub fn forward(&self, global: &Tensor, tiles: &[Tensor], layout: &Layout) -> Result<Tensor> {
        assert_eq!(tiles.len(), layout.tiles(), "one feature map for each tile");
        let rows_of_tiles = tiles
            .chunks_exact(layout.columns)
            .map(|row| Tensor::cat(&row.iter().map(merge).collect::<Result<Vec<_>>>()?, 1)) // (12, 12 w, 4 width)
            .collect::<Result<Vec<_>>>()?;
        let tiles = self.end_lines(&Tensor::cat(&rows_of_tiles, 0)?)?; // (12 h * (12 w + 1), 4 width)
        let global = self.end_lines(&merge(global)?)?; // (156, 4 width)
        let parts = if self.tiles_first {
            [&tiles, &self.separator, &global]
        } else {
            [&global, &self.separator, &tiles]
        };
        let merged = Tensor::cat(&parts, 0)?; // (tokens, 4 width)
        assert_eq!(merged.dim(0)?, layout.tokens(), "the prompt has reserved this many places");
        let inner = self.first.forward(&merged)?.gelu_erf()?; // (tokens, hidden), the exact GELU
        let embeddings = self.second.forward(&inner)?; // (tokens, hidden)
        [&self.first, &self.second].into_iter().for_each(Linear::release); // as the tower's layers
        Ok(embeddings)
    }

    /// Bytes of the weights, which each picture reads.
    pub fn weight_bytes(&self) -> WeightBytes {
        WeightBytes::of([&self.first, &self.second])
    }

    /// `grid`: (rows, columns, 4 width). Returns (rows * (columns + 1), 4 width).
    fn end_lines(&self, grid: &Tensor) -> Result<Tensor> {
        let (rows, columns, merged) = grid.dims3()?;
        let ends = self.line_end.broadcast_as((rows, 1, merged))?; // (rows, 1, 4 width)
        Tensor::cat(&[grid, &ends], 1)?.reshape((rows * (columns + 1), merged))
    }
}

/// Joins each 2 x 2 block of patches into one vector, in the order left above, right above, left
/// below, right below. `features`: (576, width). Returns (12, 12, 4 width).
fn merge(features: &Tensor) -> Result<Tensor> {
    let width = features.dim(1)?;
    features
        .reshape((MERGED, 2, MERGED, 2, width))? // (row, dr, column, dc, width)
        .permute((0, 2, 1, 3, 4))? // (row, column, dr, dc, width)
        .reshape((MERGED, MERGED, 4 * width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_four_patches_of_a_block_keep_their_order() -> Result<()> {
        let numbered: Vec<f32> = (0..GRID * GRID).map(|i| i as f32).collect();
        let features = Tensor::from_vec(numbered, (GRID * GRID, 1), &Device::Cpu)?;
        let block =
            merge(&features)?.narrow(0, 1, 1)?.narrow(1, 2, 1)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(block, [52.0, 53.0, 76.0, 77.0]); // patches (2, 4), (2, 5), (3, 4), (3, 5)
        Ok(())
    }
}
