//! Identities that are refined: the reference's own counts say of units what the encoder did not, the same beside a run as offline.

use neurohorizon::data::Interval;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig};
use neurohorizon::model::identity::{set_refine, unidentified, Identities, IdentityError, Reference};
use neurohorizon::model::poisson::negative_log_likelihood;
use neurohorizon::model::traces::{TraceReader, Traces};
use neurohorizon::model::window::{Spikes, WindowShape};
use neurohorizon::model::{build, BuildOptions};
use neurohorizon::pipeline::calibrate::{calibration, Calibration};
use neurohorizon::train::config::TrainConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const UNITS: usize = 12;
const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;
const BIN: i64 = 50 * MS;

fn config(refine: bool) -> ModelConfig {
    ModelConfig {
        sequence_length: 0.4,
        pred_window: 0.2,
        bin_size: 0.05,
        dim: 16,
        dim_head: 8,
        enc_depth: 1,
        dec_depth: 1,
        self_heads: 2,
        num_latents_per_step: 2,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.05, 0.3],
            population_time_constants: 2,
            components: 3,
        }),
        identity: Some(IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 10,
            bin_s: 0.05,
            hidden: 12,
            population: false,
            components: 2,
            refine,
        }),
        ..ModelConfig::default()
    }
}

/// A network that says little of anything yet, whose bins all see the population's components.
fn checkpoint(refine: bool) -> Checkpoint {
    let mut checkpoint = Checkpoint::random(&config(refine), 3, 1);
    for (name, tensor) in &mut checkpoint.tensors {
        match name.as_str() {
            "history.bin_mix" => tensor.data.fill(1.0),
            _ => tensor.data.iter_mut().for_each(|x| *x *= 0.3),
        }
    }
    checkpoint
}

/// Units of two groups that fire by turns, a second or so each, at 4 and 24 spikes a second.
fn activity(seconds: i64) -> (Vec<i64>, Vec<u32>) {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let (mut times_ns, mut units) = (Vec::new(), Vec::new());
    let mut turn = 0;
    for ms in 0..1000 * seconds {
        if random.random_bool(0.001) {
            turn = 1 - turn;
        }
        for unit in 0..UNITS {
            let rate_hz = if unit % 2 == turn { 24.0 } else { 4.0 };
            if random.random_bool(rate_hz * 1e-3) {
                times_ns.push(ms * MS);
                units.push(unit as u32);
            }
        }
    }
    (times_ns, units)
}

fn reference(config: &ModelConfig, spikes: Spikes<'_>, stretches: &[Interval]) -> Reference {
    Reference::of_stretches(&config.identity.unwrap(), BIN, UNITS, spikes, stretches).unwrap()
}

/// Bits per spike over each unit's mean rate, of what comes after `from_ns`, every four bins.
fn gained(checkpoint: &Checkpoint, identities: &Identities, spikes: Spikes<'_>, from_ns: i64, end_ns: i64) -> f64 {
    let ids: Vec<String> = (0..UNITS).map(|unit| unit.to_string()).collect();
    let unknown = unidentified(checkpoint, "new", &ids, identities.log_rates()).unwrap();
    let rows: Vec<usize> = (1..=UNITS).collect();
    let mut network = build(&unknown, &rows, &BuildOptions::default()).unwrap();
    network.identify(identities);
    let shape = WindowShape::new(&checkpoint.config, checkpoint.config.bins());
    let history = checkpoint.config.history.as_ref().unwrap();
    let observed = [Interval { start_ns: 0, end_ns }];
    let traces = Traces::of_path(history, 0.05, identities.log_rates());
    let mut traces = TraceReader::new(traces, 0, BIN, &observed);
    let mut log_rates = vec![0.0; shape.bins * UNITS];
    let mut counts = log_rates.clone();
    let mean = |unit: usize| {
        spikes
            .between(from_ns, end_ns)
            .units
            .iter()
            .filter(|&&u| u as usize == unit)
            .count() as f64
            / ((end_ns - from_ns) / BIN) as f64
    };
    let means: Vec<f64> = (0..UNITS).map(mean).collect();
    let (mut nats, mut seen) = (0.0, 0.0);
    for now_ns in (from_ns..end_ns - shape.horizon_ns).step_by((4 * BIN) as usize) {
        let start_ns = now_ns - shape.history_ns;
        let past = spikes.between(start_ns, now_ns);
        let times_s: Vec<f64> = past
            .times_ns
            .iter()
            .map(|time| (time - start_ns) as f64 * 1e-9)
            .collect();
        let traces = traces.advance(spikes, now_ns);
        network
            .predict(Some(traces), &times_s, past.units, &mut log_rates)
            .unwrap();
        shape.count(spikes, now_ns, UNITS, &mut counts);
        for (at, (&log_rate, &count)) in log_rates.iter().zip(&counts).enumerate() {
            let (null, count) = (means[at % UNITS].ln(), f64::from(count));
            nats += negative_log_likelihood(null, count) - negative_log_likelihood(f64::from(log_rate), count);
            seen += count;
        }
    }
    nats / seen / std::f64::consts::LN_2
}

/// Of two references: one stretch, and one that is cut into pieces of two seconds with gaps of one.
#[test]
fn what_a_reference_shows_predicts_what_comes_after_it() {
    let (times_ns, units) = activity(90);
    let spikes = Spikes {
        times_ns: &times_ns,
        units: &units,
    };
    let whole = [Interval {
        start_ns: 0,
        end_ns: 40 * S,
    }];
    let pieces: Vec<Interval> = (0..15)
        .map(|piece| Interval {
            start_ns: 3 * piece * S,
            end_ns: (3 * piece + 2) * S,
        })
        .collect();
    for stretches in [&whole[..], &pieces] {
        let [refined, plain] = [true, false].map(|refine| {
            let checkpoint = checkpoint(refine);
            let identities =
                Identities::compute(&checkpoint, &reference(&checkpoint.config, spikes, stretches)).unwrap();
            (gained(&checkpoint, &identities, spikes, 45 * S, 90 * S), identities)
        });
        println!("bits per spike: one pass {:.3}, refined {:.3}", plain.0, refined.0);
        // A regression on these numbers reaches about 0.2; the random network alone nothing.
        assert!(refined.0 > 0.1 && plain.0 < 0.0, "{} {}", refined.0, plain.0);
        // Only weights of recent history are moved.
        assert_eq!(refined.1.embeddings(), plain.1.embeddings());
        let (refined, plain) = (refined.1.history().unwrap(), plain.1.history().unwrap());
        assert_eq!(refined.read, plain.read);
        assert_ne!(refined.write, plain.write);
    }
}

#[test]
fn beside_a_run_they_are_those_of_the_same_seconds_offline() {
    let checkpoint = checkpoint(true);
    let (times_ns, units) = activity(10);
    let spikes = Spikes {
        times_ns: &times_ns,
        units: &units,
    };
    let wanted = Calibration {
        reference_s: 4.0,
        every_s: Some(3.0),
        in_step: false,
    };
    let (mut port, mut calibrator) = calibration(&checkpoint, UNITS, wanted).unwrap();
    let mut made = Vec::new();
    for end_ns in (1..=200).map(|bin| bin * BIN) {
        let bin = spikes.between(end_ns - BIN, end_ns);
        port.bin_closed(end_ns, bin.times_ns, bin.units);
        calibrator.look().unwrap();
        port.take_new(|identities| made.push((end_ns, identities.clone())));
    }
    let ends: Vec<i64> = made.iter().map(|(end_ns, _)| end_ns / S).collect();
    assert_eq!(ends, [4, 7, 10]);
    for (end_ns, identities) in made {
        let last = [Interval {
            start_ns: end_ns - 4 * S,
            end_ns,
        }];
        let offline = Identities::compute(&checkpoint, &reference(&checkpoint.config, spikes, &last)).unwrap();
        assert!(identities == offline, "at {end_ns}");
    }
}

#[test]
fn without_a_path_of_recent_history_there_is_nothing_to_refine() {
    let text = "[data.simulate]\nunits = 2\nseed = 0\ntrain_s = 1.0\nvalidate_s = 1.0\n[model]\n[model.identity]\nrefine = true\n";
    let problem = TrainConfig::parse("new.toml", text).unwrap_err().to_string();
    assert!(
        problem.contains("new.toml") && problem.contains("identity.refine"),
        "{problem}"
    );
    let with_path = format!("{text}[model.recent_history]\n");
    assert!(TrainConfig::parse("new.toml", &with_path).is_ok());
}

#[test]
fn a_checkpoint_can_be_told_otherwise_where_there_is_something_to_refine() {
    let (times_ns, units) = activity(5);
    let spikes = Spikes {
        times_ns: &times_ns,
        units: &units,
    };
    let whole = [Interval {
        start_ns: 0,
        end_ns: 5 * S,
    }];
    let identities = |checkpoint: &Checkpoint| {
        Identities::compute(checkpoint, &reference(&checkpoint.config, spikes, &whole)).unwrap()
    };
    let asked_for = checkpoint(true);
    let mut told = checkpoint(false);
    assert!(identities(&told) != identities(&asked_for));
    set_refine(&mut told, None).unwrap();
    assert!(identities(&told) == identities(&checkpoint(false)));
    set_refine(&mut told, Some(true)).unwrap();
    assert!(identities(&told) == identities(&asked_for));
    set_refine(&mut told, Some(false)).unwrap();
    assert!(identities(&told) == identities(&checkpoint(false)));

    let of = |config: ModelConfig, refine| set_refine(&mut Checkpoint::random(&config, 3, 1), refine);
    let plain = ModelConfig {
        history: None,
        ..config(false)
    };
    assert!(of(plain.clone(), Some(false)).is_ok());
    assert!(matches!(of(plain, Some(true)), Err(IdentityError::NothingToRefine)));
    let looked_up = ModelConfig {
        identity: None,
        ..config(false)
    };
    assert!(matches!(of(looked_up, Some(true)), Err(IdentityError::NoEncoder)));
}
