//! The online score's windows are those of the offline protocol: `checkpoints/README.md` gives their number and spikes.

use std::sync::Arc;
use std::time::Duration;

use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::Pace;
use neurohorizon::cli::run_config::{Position, ReplaySection};
use neurohorizon::cli::run_source::replay_interval;
use neurohorizon::data::Recording;
use neurohorizon::pipeline::predictor::{mean_log_rates, MeanRate, WindowShape};
use neurohorizon::pipeline::{NullModel, PublishConfig, Run, RunConfig};

const BIN: i64 = 20_000_000;

#[test]
fn windows_and_spikes_are_those_of_the_offline_protocol() {
    let Some(path) = rt_tests::shared("data/neuropixels.npz") else {
        return;
    };
    let recording = Recording::load(&path).unwrap();
    let section = ReplaySection {
        from: Some(Position::Fraction(0.8)),
        ..ReplaySection::of(path)
    };
    let (start_ns, end_ns) = replay_interval(&recording, &section, BIN).unwrap();
    let first_ns = recording.first_spike_ns().unwrap();
    assert_eq!(start_ns - first_ns, 96_000_000_000);
    let model_units = recording.units_at_or_above(0.5);
    assert_eq!(model_units.len(), 173);

    let known = recording.select_units(&model_units).unwrap();
    let rates = mean_log_rates(&known.spike_times_ns, &known.spike_units, 173, first_ns, start_ns, BIN);
    let shape = WindowShape {
        bin_ns: BIN,
        history_ns: 500_000_000,
        horizon_bins: 12,
        max_spikes: 10_000,
    };
    let model = MeanRate::new(model_units, shape, &rates, "the first 80 %").unwrap();
    let spikes = RecordedSpikes {
        times_ns: recording.spike_times_ns.into(),
        units: recording.spike_units.into(),
        unit_ids: recording.unit_ids.into(),
    };
    let source = Replay::new("neuropixels", spikes, start_ns, end_ns, Pace::AsFast, 1_000_000).unwrap();
    let config = RunConfig {
        start_ns,
        grace_ns: 0,
        deadline_ns: None,
        ring_events: 65_536,
        publish: PublishConfig {
            endpoint: "tcp://127.0.0.1:*".into(),
            latest_endpoint: None,
            high_water_mark: 1_000,
            wait_for_subscriber: Duration::ZERO,
        },
    };
    let null = NullModel {
        log_rates: rates,
        last_bin_ns: BIN,
    };
    let run = Run::start(&config, vec![Box::new(source)], Box::new(model), &null, Arc::default()).unwrap();
    let summary = run.join();
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    assert_eq!(
        (summary.score.windows.n_windows, summary.score.windows.n_spikes),
        (97, 23_871)
    );
    assert!(summary.score.windows.fp_bps.unwrap().abs() < 1e-6);
}
