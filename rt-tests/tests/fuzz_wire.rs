//! The parsers of acquisition systems on bytes that nobody meant: never a panic, and every byte and message accounted for.
//!
//! The short form runs with the other tests. The long form: `NEUROHORIZON_FUZZ_CASES=10000000 cargo test --release -p rt-tests
//! --test fuzz_wire`.

use neurohorizon::acquire::blackrock::{self, PacketParser, Protocol, TimeUnit};
use neurohorizon::acquire::intan::{self, SpikeParser};
use neurohorizon::acquire::open_ephys::encode::Spike;
use neurohorizon::acquire::open_ephys::{Form, MessageParser};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn cases() -> u32 {
    std::env::var("NEUROHORIZON_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(30_000)
}

/// Inputs that are well formed, well formed but for a few changes, or arbitrary.
struct Fuzzer {
    random: ChaCha8Rng,
    golden: Vec<Vec<u8>>,
    input: Vec<u8>,
}

impl Fuzzer {
    fn new(seed: u64, golden: Vec<Vec<u8>>) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            golden,
            input: Vec::new(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn next(&mut self) -> &[u8] {
        self.input.clear();
        if self.below(8) == 0 {
            let length = self.below(120);
            self.input.resize(length, 0);
            self.random.fill_bytes(&mut self.input);
            return &self.input;
        }
        for _ in 0..=self.below(3) {
            let which = self.below(self.golden.len());
            self.input.extend_from_slice(&self.golden[which]);
        }
        let changes = self.below(5);
        for _ in 0..changes {
            let at = self.below(self.input.len().max(1));
            let byte = self.random.next_u32() as u8;
            match self.below(4) {
                0 if at < self.input.len() => self.input[at] = byte,
                1 if at < self.input.len() => self.input[at] ^= 1 << (byte % 8),
                2 => self.input.insert(at.min(self.input.len()), byte),
                _ => self.input.truncate(at),
            }
        }
        &self.input
    }
}

#[test]
fn intan_streams() {
    let mut golden = Vec::new();
    for (channel, samples) in [(0, 0), (300, u32::MAX), (1_023, 0x3AE2_710F)] {
        let mut bytes = Vec::new();
        intan::encode::spike(
            &mut bytes,
            intan::encode::channel_name(channel),
            samples,
            intan::encode::SpikeId::Unit(1),
        );
        golden.push(bytes);
    }
    let mut fuzzer = Fuzzer::new(1, golden);
    let (mut parser, mut bytes, mut spikes) = (SpikeParser::default(), 0, 0u64);
    for _ in 0..cases() {
        let input = fuzzer.next();
        bytes += input.len() as u64;
        parser.push(input, |spike| {
            spikes += 1;
            assert!(!spike.name().is_empty());
        });
        assert_eq!(
            14 * parser.records() + parser.discarded() + parser.waiting() as u64,
            bytes
        );
        assert!(parser.records() == spikes && parser.waiting() < 14);
    }
    assert!(spikes > u64::from(cases()) / 4, "hardly a record was whole: {spikes}");
}

#[test]
fn blackrock_datagrams() {
    for (known, seed) in [
        (None, 2),
        (Some(Protocol::V311), 3),
        (Some(Protocol::V400), 4),
        (Some(Protocol::V410), 5),
    ] {
        let mut golden = Vec::new();
        for protocol in Protocol::ALL
            .into_iter()
            .filter(|&protocol| known.is_none_or(|known| known == protocol))
        {
            for (time, channel, samples) in [(7, 1, 0), (1 << 40, 272, 4), (u64::MAX, 17, 48)] {
                let mut bytes = Vec::new();
                blackrock::encode::heartbeat(&mut bytes, protocol, time);
                blackrock::encode::spike(&mut bytes, protocol, time, channel, 1, samples);
                blackrock::encode::monitor(&mut bytes, protocol, time, 3, 1);
                golden.push(bytes);
            }
        }
        let mut fuzzer = Fuzzer::new(seed, golden);
        let mut parser = PacketParser::new(known, known.map(|_| TimeUnit::Ticks));
        let (mut spikes, mut bytes, count) = (0u64, 0, cases() / 4);
        for case in 0..count {
            let input = fuzzer.next();
            bytes += input.len() as u64;
            parser.push(input, i64::from(case) * 1_000_000, |spike| {
                spikes += 1;
                assert!((1..=272).contains(&spike.channel) && spike.unit <= 255);
            });
            let counts = parser.counts();
            assert_eq!(counts.spikes, spikes);
            assert!(counts.spikes + counts.undecided <= counts.packets && counts.discarded <= bytes);
            assert!(counts.malformed + counts.ambiguous <= u64::from(case) + 1);
        }
        let whole = if known.is_some() { count / 4 } else { 1 };
        assert!(spikes >= u64::from(whole), "hardly a packet was whole: {spikes}");
    }
}

#[test]
fn open_ephys_messages() {
    let mut golden = Vec::new();
    for form in [
        Form::Json,
        Form::Raw,
        Form::LegacyJson,
        Form::LegacyRaw,
        Form::ZmqInterface,
    ] {
        let spike = Spike {
            electrode: 3,
            sample: 1 << 33,
            sample_rate_hz: 30_000,
            number: 4,
        };
        golden.push(spike.frames(form));
    }
    let parts: Vec<Vec<u8>> = golden.concat();
    let mut fuzzer = Fuzzer::new(6, parts);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut parser, mut spikes) = (MessageParser::new(true), 0u64);
    for case in 0..cases() {
        // A whole message with one frame changed, or frames of several.
        let mut frames = golden[random.random_range(0..golden.len())].clone();
        if random.random_range(0..3) > 0 {
            let at = random.random_range(0..frames.len());
            frames[at] = fuzzer.next().to_vec();
        }
        if random.random_range(0..8) == 0 {
            frames.push(fuzzer.next().to_vec());
        }
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        if let Some(spike) = parser.push(&frames) {
            spikes += 1;
            assert!(spike.sample_rate_hz.is_none_or(|hz| (1.0..=1e6).contains(&hz)));
        }
        let counts = parser.counts();
        assert_eq!((counts.messages, counts.spikes), (u64::from(case) + 1, spikes));
        assert_eq!(
            counts.messages,
            counts.spikes + counts.other + counts.malformed + counts.duplicates
        );
    }
    assert!(spikes > u64::from(cases()) / 4, "hardly a message was whole: {spikes}");
}
