//! When packets are to be sent, decided before any is: an open loop. What the runtime does with one packet changes nothing about
//! when the next is sent, so that a runtime that stands still has all its delay counted.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Most packets a second at the mean rate; above it packets hold several spikes.
const MOST_PACKETS_HZ: f64 = 1_000.0;
/// Most spikes in a packet.
pub const MOST_SPIKES: u32 = 128;
/// A burst is so many times the mean rate …
pub const BURST: f64 = 50.0;
/// … for so long, ns, …
const BURST_NS: i64 = 100_000_000;
/// … once in this time, ns.
const BURST_EVERY_NS: i64 = 1_500_000_000;

/// Spikes that come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Intended time, monotonic ns.
    pub at_ns: i64,
    /// Spikes.
    pub spikes: u32,
    /// The unit of all of them; each in its turn where there is none.
    pub unit: Option<u32>,
    /// Whether it is the first of a bin: what closes the bin before it.
    pub closing: bool,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Mean rate of the background, spikes/s.
    pub hz: f64,
    /// Whether there are bursts of [`BURST`] times that.
    pub bursts: bool,
}

/// The background: packets at random times, and bursts. Without end.
pub struct Background {
    random: ChaCha8Rng,
    rate: Rate,
    begin_ns: i64,
    now_ns: f64,
}

impl Background {
    /// From `begin_ns` on, monotonic.
    pub fn new(rate: Rate, begin_ns: i64, seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            rate,
            begin_ns,
            now_ns: 0.0,
        }
    }

    fn in_a_burst(&self) -> bool {
        self.rate.bursts && (self.now_ns as i64) % BURST_EVERY_NS >= BURST_EVERY_NS - BURST_NS
    }
}

impl Iterator for Background {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        let hz = self.rate.hz * if self.in_a_burst() { BURST } else { 1.0 };
        let packets_hz = hz.min(MOST_PACKETS_HZ);
        // An exponential interval, by the inverse of its distribution.
        let interval_s = -(1.0 - self.random.random::<f64>()).ln() / packets_hz;
        self.now_ns += interval_s * 1e9;
        let mean = hz / packets_hz;
        let fraction = self.random.random::<f64>() < mean.fract();
        Some(Packet {
            at_ns: self.begin_ns + self.now_ns as i64,
            spikes: (mean as u32 + u32::from(fraction)).clamp(1, MOST_SPIKES),
            unit: None,
            closing: false,
        })
    }
}

/// The packets that close bins: one at the end of each, from a number on. Without end.
pub struct Closing {
    /// Intended time of the next.
    pub next_ns: i64,
    /// Bin width.
    pub bin_ns: i64,
}

impl Iterator for Closing {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        let at_ns = self.next_ns;
        self.next_ns += self.bin_ns;
        Some(Packet {
            at_ns,
            spikes: 1,
            unit: None,
            closing: true,
        })
    }
}

/// Both, in order of time.
pub fn merged(background: impl Iterator<Item = Packet>, closing: Closing) -> impl Iterator<Item = Packet> {
    let (mut background, mut closing) = (background.peekable(), closing.peekable());
    std::iter::from_fn(move || match (background.peek(), closing.peek()) {
        (Some(one), Some(other)) if other.at_ns < one.at_ns => closing.next(),
        _ => background.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn spikes_in(rate: Rate, seconds: i64) -> (u64, u64) {
        let all = Background::new(rate, 0, 1).take_while(|packet| packet.at_ns < seconds * S);
        all.fold((0, 0), |(packets, spikes), packet| {
            (packets + 1, spikes + u64::from(packet.spikes))
        })
    }

    #[test]
    fn the_mean_rate_is_that_asked_for_at_one_spike_a_packet_and_at_many() {
        for hz in [50.0, 1_000.0, 12_345.0] {
            let rate = Rate { hz, bursts: false };
            let (packets, spikes) = spikes_in(rate, 100);
            let expected = hz * 100.0;
            assert!(
                (spikes as f64 / expected - 1.0).abs() < 0.05,
                "{hz}: {spikes} of {expected}"
            );
            assert!(packets as f64 <= MOST_PACKETS_HZ * 105.0);
        }
    }

    #[test]
    fn bursts_are_fifty_times_the_mean_rate() {
        let rate = Rate {
            hz: 1_000.0,
            bursts: true,
        };
        let (mut within, mut outside) = (0u64, 0u64);
        for packet in Background::new(rate, 0, 2).take_while(|packet| packet.at_ns < 30 * S) {
            let count = if packet.at_ns % BURST_EVERY_NS >= BURST_EVERY_NS - BURST_NS {
                &mut within
            } else {
                &mut outside
            };
            *count += u64::from(packet.spikes);
        }
        // Twenty bursts of 0.1 s.
        let (within_hz, outside_hz) = (within as f64 / 2.0, outside as f64 / 28.0);
        assert!(
            (within_hz / outside_hz / BURST - 1.0).abs() < 0.1,
            "{within_hz} {outside_hz}"
        );
    }

    #[test]
    fn every_bin_has_its_closing_packet_and_time_runs_forward() {
        let rate = Rate {
            hz: 2_000.0,
            bursts: false,
        };
        let closing = Closing {
            next_ns: S,
            bin_ns: 5_000_000,
        };
        let all: Vec<Packet> = merged(Background::new(rate, 0, 3), closing)
            .take_while(|packet| packet.at_ns < 2 * S)
            .collect();
        assert!(all.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
        let closes: Vec<i64> = all
            .iter()
            .filter(|packet| packet.closing)
            .map(|packet| packet.at_ns)
            .collect();
        assert_eq!(closes, (0..200).map(|bin| S + bin * 5_000_000).collect::<Vec<_>>());
    }
}
