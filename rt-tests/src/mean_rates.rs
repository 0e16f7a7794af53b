//! Runs without a network: the mean-rate model behind real sources, for tests of everything around it.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Duration;

use neurohorizon::acquire::Source;
use neurohorizon::pipeline::predictor::{MeanRate, WindowShape};
use neurohorizon::pipeline::{NullModel, PublishConfig, Run, RunConfig};

/// Bin width of these runs, ns.
pub const BIN_NS: i64 = 20_000_000;
/// Bins that they predict.
pub const HORIZON_BINS: usize = 3;

/// Starts a run of all units of these sources, each taken to fire `rate_hz`; it publishes on `endpoint`, where it waits for a
/// subscriber for as long as is said.
///
/// # Panics
/// Where it cannot start.
pub fn start(
    sources: Vec<Box<dyn Source>>,
    rate_hz: f64,
    endpoint: &str,
    wait_for_subscriber: Duration,
    stop: &Arc<AtomicBool>,
) -> Run {
    let ids: Vec<String> = sources.iter().flat_map(|source| source.unit_ids()).cloned().collect();
    let log_rates = vec![(rate_hz * BIN_NS as f64 * 1e-9).ln(); ids.len()];
    let shape = WindowShape {
        bin_ns: BIN_NS,
        history_ns: 5 * BIN_NS,
        horizon_bins: HORIZON_BINS,
        max_spikes: 1 << 18,
    };
    let predictor = MeanRate::new(ids, shape, &log_rates, "the test").expect("rates that are numbers");
    let config = RunConfig {
        ring_events: 1 << 18,
        ..RunConfig::new(PublishConfig {
            high_water_mark: 10_000,
            wait_for_subscriber,
            ..PublishConfig::at(endpoint)
        })
    };
    let null = NullModel {
        log_rates,
        last_bin_ns: BIN_NS,
    };
    Run::start(&config, sources, Box::new(predictor), &null, stop.clone()).expect("a run that starts")
}
