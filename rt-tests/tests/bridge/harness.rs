//! A device's packets, sent by the emulator, and everything that a source hands on.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, BridgeEmulator, Carrier};
use neurohorizon::acquire::replay::{RecordedSeries, RecordedSpikes, Replay};
use neurohorizon::acquire::wire::ClockConfig;
use neurohorizon::acquire::{EventSink, Pace, SampledSeries, Source, SpikeEvent};
use neurohorizon::pipeline::clock::monotonic_ns;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const MS: i64 = 1_000_000;
pub const UNITS: u32 = 40;

/// Everything that a source hands on.
#[derive(Default)]
pub struct Kept {
    pub spikes: Vec<SpikeEvent>,
    pub samples: Vec<(usize, i64, Vec<f32>)>,
    pub clock_ns: i64,
}

impl EventSink for Kept {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        assert!(
            spikes.iter().all(|spike| spike.time_ns >= self.clock_ns),
            "the clock had passed them"
        );
        self.spikes.extend_from_slice(spikes);
    }
    fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]) {
        self.samples.push((series, time_ns, values.to_vec()));
    }
    fn clock(&mut self, device_ns: i64, _host_ns: i64) {
        self.clock_ns = device_ns;
    }
}

/// Datagrams to a free port.
pub fn udp() -> Carrier {
    Carrier::Udp {
        listen: "127.0.0.1:0".parse().unwrap(),
        predictions_back: false,
    }
}

/// A source of these units and series; it asks for the device's time.
pub fn listening(carrier: &Carrier, units: &[&str], series: &[&str], lateness_ms: i64) -> Bridge {
    let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
    Bridge::new(&BridgeConfig {
        carrier: carrier.clone(),
        device_id: None,
        clock_exchange: true,
        units: owned(units),
        series: owned(series),
        clock: ClockConfig {
            speed: 1.0,
            lateness_ns: lateness_ms * MS,
            end_ns: None,
        },
    })
    .unwrap()
}

/// The carrier that a source can be reached by: where it listens on any port, the one that it has.
pub fn reached(carrier: &Carrier, bridge: &Bridge) -> Carrier {
    match (carrier, bridge.address()) {
        (Carrier::Udp { .. }, Some(listen)) => Carrier::Udp {
            listen,
            predictions_back: false,
        },
        _ => carrier.clone(),
    }
}

/// Spikes of all units at random times of `length_ns`.
pub fn recorded(spikes: usize, length_ns: i64, seed: u64) -> RecordedSpikes {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut times_ns: Vec<i64> = (0..spikes).map(|_| random.random_range(0..length_ns)).collect();
    times_ns.sort_unstable();
    let units: Vec<u32> = (0..spikes).map(|_| random.random_range(0..UNITS)).collect();
    RecordedSpikes {
        times_ns: times_ns.into(),
        units: units.into(),
        unit_ids: (0..UNITS).map(|unit| format!("u{unit}")).collect::<Vec<_>>().into(),
    }
}

/// A replay of these spikes at the speed of life.
pub fn replay(spikes: RecordedSpikes, length_ns: i64) -> Replay {
    Replay::new("sent", spikes, 0, length_ns, Pace::Clocked(1.0), MS).unwrap()
}

/// A series of samples at these times.
pub fn series(name: &str, channels: usize, times_ns: &[i64], values: Vec<f32>) -> RecordedSeries {
    RecordedSeries {
        series: SampledSeries {
            name: name.into(),
            unit: String::new(),
            channels,
        },
        times_ns: times_ns.to_vec().into(),
        values: values.into(),
    }
}

/// Lets a device play a replay, and says how many spikes left it, and the host's time at its start.
pub fn play(to: Carrier, mut replay: Replay) -> std::thread::JoinHandle<(u64, i64)> {
    std::thread::spawn(move || {
        let mut emulator = BridgeEmulator::new(&to).unwrap();
        let begin_ns = monotonic_ns();
        let played = emulator.play(&mut replay, &AtomicBool::new(false)).unwrap();
        assert_eq!(played.unsent, 0);
        (played.sent, begin_ns)
    })
}

/// Polls until `done`, with a patience of 20 s.
pub fn poll_until(bridge: &mut Bridge, kept: &mut Kept, mut done: impl FnMut(&Kept) -> bool) {
    let begin = Instant::now();
    while !done(kept) {
        bridge.poll(monotonic_ns(), kept).unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{}",
            bridge.counters().report()
        );
    }
}
