//! A measured stage: its runs, what they cost, and the figures that follow.

use serde::{Deserialize, Serialize};

use super::count::Work;
use super::probe::Limits;

/// What one run of a stage does so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Views of 336 px through the tower.
    Views,
    /// Tokens, of a picture or of text.
    Tokens,
    /// Whole inspections.
    Parts,
}

/// With which kind of product a stage is done, for the most part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// Of floating-point numbers.
    Float,
    /// Of 8-bit integers: the weights are quantised.
    Int8,
}

/// One stage of the engine, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, with the length it was measured at: `tower`, `prefill-512`.
    pub id: String,
    /// What `units` counts.
    pub unit: Unit,
    /// Units of one run.
    pub units: u64,
    /// Operations of one run; over different inputs, their mean.
    pub flop: u64,
    /// Bytes of weights, keys and values that one run reads; absent where they are not known.
    pub bytes: Option<u64>,
    /// The kind of product, which names the limit it is held against.
    pub product: Product,
    /// Seconds of each run, in order, without those before the first that counts.
    pub runs_s: Vec<f64>,
    /// What follows from the above.
    pub figures: Figures,
}

/// What follows from a stage's runs and the machine's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The middle run, in seconds.
    pub median_s: f64,
    /// The distance between the quartiles, in seconds: half of the runs lie within it.
    pub spread_s: f64,
    /// Units a second of the middle run.
    pub units_per_s: f64,
    /// Thousand million operations a second.
    pub gflop_per_s: f64,
    /// The same as a share of the machine's limit; absent without a measured limit.
    pub compute_share: Option<f64>,
    /// Thousand million bytes a second.
    pub gbyte_per_s: Option<f64>,
    /// The same as a share of the machine's limit; above 1 where the weights fit into a cache.
    pub memory_share: Option<f64>,
}

impl Stage {
    /// A stage with these runs, at least one, each of `units` units and `work`.
    pub fn new(
        id: String,
        (units, unit): (u64, Unit),
        work: Work,
        product: Product,
        runs_s: Vec<f64>,
    ) -> Stage {
        let Work { flop, bytes } = work;
        let figures = Figures::default();
        let mut stage = Stage { id, unit, units, flop, bytes, product, runs_s, figures };
        stage.figure(None);
        stage
    }

    /// Works the figures out again, as shares of `limits` if there are any.
    pub fn figure(&mut self, limits: Option<&Limits>) {
        let [low, median_s, high] = quartiles(&self.runs_s);
        let a_second = |count: u64| count as f64 / median_s;
        let compute = limits.map(|limits| match self.product {
            Product::Float => limits.all.float_op_per_s,
            Product::Int8 => limits.all.int8_op_per_s,
        });
        let share = |rate: f64, limit: Option<f64>| {
            limit.filter(|limit| *limit > 0.0).map(|limit| rate / limit)
        };
        let reading = limits.map(|limits| limits.all.read_bytes_per_s);
        self.figures = Figures {
            median_s,
            spread_s: high - low,
            units_per_s: a_second(self.units),
            gflop_per_s: a_second(self.flop) / 1e9,
            compute_share: share(a_second(self.flop), compute),
            gbyte_per_s: self.bytes.map(|bytes| a_second(bytes) / 1e9),
            memory_share: self.bytes.and_then(|bytes| share(a_second(bytes), reading)),
        };
    }
}

/// The lower quartile, the median and the upper quartile, between two runs in proportion. `runs`:
/// at least one.
pub fn quartiles(runs: &[f64]) -> [f64; 3] {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = (sorted.len() - 1) as f64;
    [0.25, 0.5, 0.75].map(|share| {
        let at = last * share;
        let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        below + (above - below) * at.fract()
    })
}

#[cfg(test)]
mod tests {
    use super::super::probe::Rates;
    use super::*;

    #[test]
    fn quartiles_lie_between_the_runs() {
        assert_eq!(quartiles(&[7.0]), [7.0; 3]);
        assert_eq!(quartiles(&[1.0, 3.0]), [1.5, 2.0, 2.5]);
        assert_eq!(quartiles(&[5.0, 1.0, 4.0, 2.0, 3.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(&[1.0, 1.0, 1.0, 100.0]), [1.0, 1.0, 25.75]);
    }

    #[test]
    fn figures_follow_from_runs_and_limits() {
        let work = Work { flop: 4_000_000_000, bytes: Some(1_000_000_000) };
        let runs = vec![0.5, 0.4, 0.6];
        let units = (8, Unit::Tokens);
        let mut stage = Stage::new("decode-512".to_owned(), units, work, Product::Int8, runs);
        assert_eq!((stage.figures.units_per_s, stage.figures.gflop_per_s), (16.0, 8.0));
        assert_eq!((stage.figures.gbyte_per_s, stage.figures.memory_share), (Some(2.0), None));
        assert!((stage.figures.spread_s - 0.1).abs() < 1e-9);
        let all = Rates { read_bytes_per_s: 8e9, float_op_per_s: 16e9, int8_op_per_s: 32e9 };
        let limits = Limits { all, ..Limits::default() };
        stage.figure(Some(&limits));
        assert_eq!(stage.figures.compute_share, Some(0.25));
        assert_eq!(stage.figures.memory_share, Some(0.25));
        stage.product = Product::Float;
        stage.figure(Some(&limits));
        assert_eq!(stage.figures.compute_share, Some(0.5));
        stage.bytes = None;
        stage.figure(Some(&Limits::default()));
        let Figures { compute_share, gbyte_per_s, memory_share, .. } = stage.figures;
        assert_eq!((compute_share, gbyte_per_s, memory_share), (None, None, None));
    }
}
