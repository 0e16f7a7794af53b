use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

use super::*;
use crate::data::{Interval, Recording, Series};
use crate::evaluate::behaviour::DecodingScore;
use crate::model::config::ReadoutKind;

const BIN_NS: i64 = 50_000_000;
const UNITS: usize = 20;

/// A velocity of two channels that wanders, and units whose rates follow it `lead` bins ahead; a gap after a third.
fn wandering(bins: usize, lead: usize, seed: u64) -> Recording {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut velocity = vec![[0.0f64; 2]; bins + lead];
    for bin in 1..bins + lead {
        velocity[bin] = velocity[bin - 1].map(|before| 0.93 * before + 0.5 * random.random_range(-1.0..1.0));
    }
    let tuning: Vec<[f64; 2]> = (0..UNITS)
        .map(|_| [random.random_range(-0.8..0.8), random.random_range(-0.8..0.8)])
        .collect();
    let gap_ns = |bin: usize| if bin >= bins / 3 { 10 * BIN_NS } else { 0 };
    let start_ns = |bin: usize| bin as i64 * BIN_NS + gap_ns(bin);
    let (mut spikes, mut times_ns, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for bin in 0..bins {
        for (unit, tuning) in tuning.iter().enumerate() {
            let ahead = velocity[bin + lead];
            let rate = (0.5 + tuning[0] * ahead[0] + tuning[1] * ahead[1]).exp();
            let count = Poisson::new(rate).unwrap().sample(&mut random) as usize;
            spikes.extend((0..count).map(|_| (start_ns(bin) + random.random_range(0..BIN_NS), unit as u32)));
        }
        times_ns.push(start_ns(bin) + BIN_NS / 2);
        values.extend(velocity[bin].map(|x| x as f32));
    }
    spikes.sort_unstable();
    let end_ns = start_ns(bins - 1) + BIN_NS;
    let middle_ns = bins as i64 / 3 * BIN_NS;
    Recording {
        name: "wandering".into(),
        unit_ids: (0..UNITS).map(|unit| format!("u{unit}")).collect(),
        spike_times_ns: spikes.iter().map(|spike| spike.0).collect(),
        spike_units: spikes.iter().map(|spike| spike.1).collect(),
        start_ns: 0,
        end_ns,
        intervals: vec![
            Interval {
                start_ns: 0,
                end_ns: middle_ns,
            },
            Interval {
                start_ns: middle_ns + 10 * BIN_NS,
                end_ns,
            },
        ],
        count_bin_ns: None,
        behaviour: vec![Series {
            name: "vel".into(),
            unit: "m/s".into(),
            times_ns,
            channels: 2,
            channel_names: Vec::new(),
            values,
        }],
        trials: Vec::new(),
        epochs: Vec::new(),
        notes: Vec::new(),
    }
}

fn binned(recording: &Recording, from: f64, to: f64) -> BinnedBehaviour {
    let at = |share: f64| (share * recording.end_ns as f64) as i64 / BIN_NS * BIN_NS;
    BinnedBehaviour::of(recording, &recording.unit_ids, "vel", (at(from), at(to)), BIN_NS).unwrap()
}

fn r2(decoder: &mut dyn BinDecoder, data: &BinnedBehaviour) -> Vec<f64> {
    let decoded = decode(decoder, data);
    let mut score = DecodingScore::new(ReadoutKind::Regression, data.channels());
    for (bin, row) in decoded.chunks_exact(data.channels()).enumerate() {
        if let Some(target) = data.target(bin) {
            score.add(1.0, row, target);
        }
    }
    let decoded = score.decoded("vel", decoder.name());
    decoded.r2.iter().map(|r2| r2.value).collect()
}

#[test]
fn bins_hold_their_counts_and_gaps_are_told() {
    let recording = wandering(60, 0, 1);
    let data = binned(&recording, 0.0, 1.0);
    assert_eq!((data.bins(), data.units(), data.channels()), (60, UNITS, 2));
    let begins: Vec<usize> = (0..60).filter(|&bin| data.begins(bin)).collect();
    assert_eq!(begins, [0, 20]);
    let counted: u32 = (0..60).flat_map(|bin| data.counts(bin)).sum();
    assert_eq!(counted as usize, recording.n_spikes());
    assert_eq!(data.target(20).unwrap(), recording.behaviour[0].row(20));
}

#[test]
fn what_was_planted_is_decoded_and_the_delay_is_found() {
    let recording = wandering(3000, 2, 2);
    let (fit, held) = (binned(&recording, 0.0, 0.8), binned(&recording, 0.8, 1.0));
    let mut kalman = Kalman::fit(&fit, 4);
    assert_eq!(kalman.delay(), 2);
    let (wiener, kalman) = (r2(&mut Wiener::fit(&fit, 6), &held), r2(&mut kalman, &held));
    // Without the bins of the past neither knows which of them the behaviour followed.
    let (short, undelayed) = (
        r2(&mut Wiener::fit(&fit, 1), &held),
        r2(&mut Kalman::fit(&fit, 0), &held),
    );
    println!("Wiener {wiener:?} of one bin {short:?}; Kalman {kalman:?} without delay {undelayed:?}");
    for channel in 0..2 {
        assert!(wiener[channel] > 0.8 && kalman[channel] > 0.8);
        assert!(wiener[channel] > short[channel] && kalman[channel] > undelayed[channel]);
    }
}

#[test]
fn a_decoder_depends_on_nothing_from_before_a_restart() {
    let recording = wandering(300, 0, 3);
    let data = binned(&recording, 0.0, 1.0);
    let (mut wiener, mut kalman) = (Wiener::fit(&data, 4), Kalman::fit(&data, 2));
    let decoders: [&mut dyn BinDecoder; 2] = [&mut wiener, &mut kalman];
    for decoder in decoders {
        let first = decode(decoder, &data);
        assert_eq!(first, decode(decoder, &data), "{}", decoder.name());
    }
}

#[test]
fn nothing_to_fit_is_said() {
    let recording = wandering(60, 0, 1);
    let of = |series: &str, end_ns| BinnedBehaviour::of(&recording, &recording.unit_ids, series, (0, end_ns), BIN_NS);
    assert!(of("pos", 60 * BIN_NS).unwrap_err().to_string().contains("\"pos\""));
    let short = of("vel", 10 * BIN_NS).unwrap_err().to_string();
    assert!(short.contains("10 bins") && short.contains("at least 20"), "{short}");
}

/// Ten lags of √counts decode the hand of the monkey as the data's own description has it, on the last fifth: position 0.88 and
/// 0.83, velocity 0.81 and 0.70.
#[test]
fn a_monkeys_hand_is_decoded_as_is_known() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/m1_reaching.npz");
    let recording = Recording::load(std::path::Path::new(path)).unwrap();
    let bin_ns = recording.count_bin_ns.unwrap();
    let first_ns = recording.intervals[0].start_ns;
    let bins = (recording.end_ns - first_ns) / bin_ns;
    let from_ns = first_ns + bins * 4 / 5 * bin_ns;
    for (series, known) in [("hand_pos", [0.88, 0.83]), ("hand_vel", [0.81, 0.70])] {
        let of = |interval| BinnedBehaviour::of(&recording, &recording.unit_ids, series, interval, bin_ns).unwrap();
        let found = r2(
            &mut Wiener::fit(&of((first_ns, from_ns)), 10),
            &of((from_ns, first_ns + bins * bin_ns)),
        );
        println!("{series} {found:?}");
        for (found, known) in found.iter().zip(known) {
            assert!((found - known).abs() < 0.02, "{series}: {found} where {known} is known");
        }
    }
}
