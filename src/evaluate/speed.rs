//! Times predictions against the floor: counted operations over the machine's measured rate of multiplying matrices.

use std::time::Instant;

use kernels::{Backend, BackendError, LinearArgs, LinearSpec, Matrix, Precision};
use serde::Serialize;

use super::cost::{self, Operations};
use crate::model::Inference;

/// Milliseconds over repetitions.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Timing {
    /// Half of the repetitions took less.
    pub median_ms: f64,
    /// 99 % of them took less.
    pub p99_ms: f64,
}

impl Timing {
    /// Order statistics of durations in milliseconds.
    fn of(mut durations: Vec<f64>) -> Self {
        durations.sort_by(f64::total_cmp);
        let at = |q: f64| durations[((durations.len() - 1) as f64 * q).round() as usize];
        Timing {
            median_ms: at(0.5),
            p99_ms: at(0.99),
        }
    }
}

/// One timed case.
#[derive(Debug, Clone, Serialize)]
pub struct SpeedReport {
    /// What was timed.
    pub name: String,
    /// A whole generation, from spikes to log rates.
    #[serde(flatten)]
    pub whole: Timing,
    /// Spikes to latents.
    pub encode: Timing,
    /// Latents to log rates, all bins.
    pub generate: Timing,
    /// Operations over `gemm_gflops`, where that was measured.
    pub floor_ms: Option<f64>,
    /// Operations of a generation.
    pub operations: Operations,
    /// The measured rate that the floor assumes, 10⁹ operations a second; none on a GPU, which waits for one small kernel after
    /// another rather than multiplies.
    pub gemm_gflops: Option<f64>,
    /// Predicted bins, units, spikes in the window.
    pub bins: usize,
    /// Units.
    pub units: usize,
    /// Spikes in the window.
    pub spikes: usize,
    /// Repetitions.
    pub repetitions: usize,
}

/// The best rate, in 10⁹ operations a second, at which `backend` multiplies matrices that fit its caches:
/// `[512, 512] × [512, 1024]`, best of many.
pub fn gemm_gflops<B: Backend>(backend: &mut B, precision: Precision) -> Result<f64, BackendError> {
    const ROWS: usize = 512;
    const INPUTS: usize = 512;
    const OUTPUTS: usize = 1024;
    let weight = vec![0.25f32; INPUTS * OUTPUTS];
    let layer = backend.linear_layer(&LinearSpec {
        weight: &weight,
        row_stride: INPUTS,
        outputs: OUTPUTS,
        inputs: INPUTS,
        bias: None,
        gated: false,
        precision,
        origin: kernels::Origin::default(),
    });
    let x = backend.tensor(ROWS, INPUTS, &vec![0.5; ROWS * INPUTS]);
    let mut out = backend.zeros(ROWS, OUTPUTS);
    let mut corner = [0.0];
    let mut best = f64::INFINITY;
    for _ in 0..60 {
        let start = Instant::now();
        backend.linear(x.view(), &layer, LinearArgs::default(), out.view_mut());
        backend.download(out.block(0, 1, 0, 1), &mut corner)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (ROWS * INPUTS * OUTPUTS) as f64 / best * 1e-9)
}

/// Times generations of one window, after a tenth as many that are not counted.
pub fn time(
    name: &str,
    network: &mut dyn Inference,
    times_s: &[f64],
    units: &[u32],
    repetitions: usize,
    gemm_gflops: Option<f64>,
) -> Result<SpeedReport, BackendError> {
    let (bins, n) = (network.plan().bins, network.plan().unit_rows.len());
    let mut log_rates = vec![0.0; bins * n];
    let (rows, dim) = network.latent_shape();
    let mut latents = vec![0.0; rows * dim];
    let (mut whole, mut encode, mut generate) = (Vec::new(), Vec::new(), Vec::new());
    let warm_up = repetitions.div_ceil(10);
    for i in 0..warm_up + repetitions {
        // As a live prediction, and once more in two parts: a device that repeats a prediction as a whole has no parts.
        let start = Instant::now();
        network.predict(None, times_s, units, &mut log_rates)?;
        let done = start.elapsed();
        let start = Instant::now();
        network.encode(times_s, units);
        network.latents(&mut latents)?;
        let encoded = start.elapsed();
        network.generate();
        network.log_rates(&mut log_rates)?;
        let generated = start.elapsed();
        if i >= warm_up {
            whole.push(done.as_secs_f64() * 1e3);
            encode.push(encoded.as_secs_f64() * 1e3);
            generate.push((generated - encoded).as_secs_f64() * 1e3);
        }
    }
    let operations = cost::count(network.config(), n, bins, units.len());
    Ok(SpeedReport {
        name: name.to_string(),
        whole: Timing::of(whole),
        encode: Timing::of(encode),
        generate: Timing::of(generate),
        floor_ms: gemm_gflops.map(|gflops| operations.total() as f64 / gflops * 1e-6),
        operations,
        gemm_gflops,
        bins,
        units: n,
        spikes: units.len(),
        repetitions,
    })
}
