//! How many events a second one source's ring and the binning take on one core.

use std::sync::Arc;

use serde::Serialize;

use super::bin::{BinAssembler, BinConfig};
use super::clock::monotonic_ns;
use super::ring::{event_ring, WhenFull};
use crate::acquire::{EventSink, Pace, SpikeEvent};

/// Result of [`ingest_benchmark`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IngestReport {
    /// Spikes pushed.
    pub events: u64,
    /// Of them, counted in a closed bin.
    pub binned: u64,
    /// Bins closed.
    pub bins: u64,
    /// Time taken, s.
    pub seconds: f64,
    /// Spikes a second from the source's side of the ring to closed bins.
    pub events_per_s: f64,
}

/// Pushes `events` spikes of one source through the ring into closed bins, source and binning by turns on the calling
/// thread, so that the figure is that of one core doing both.
///
/// 300 units at 1 M spikes a second of device time, a clock marker each ms, bins of 20 ms, a history of 0.5 s.
pub fn ingest_benchmark(events: u64) -> IngestReport {
    const UNITS: u32 = 300;
    const STEP_NS: i64 = 1_000;
    const TICK: usize = 1_000;
    let unit_ids: Vec<String> = (0..UNITS).map(|unit| format!("unit{unit}")).collect();
    let (mut writer, reader) = event_ring(65_536, WhenFull::Refuse, Arc::default());
    let config = BinConfig {
        start_ns: 0,
        bin_ns: 20_000_000,
        history_ns: 500_000_000,
        grace_ns: 0,
        early_ns: 0,
        window_spikes: 600_000,
        pending_spikes: 65_536,
    };
    let mut bins = BinAssembler::new(config, unit_ids.len());
    bins.add_source(reader, Pace::AsFast, &unit_ids, &unit_ids);
    let (mut tick, mut made, mut closed) = (vec![SpikeEvent::default(); TICK], 0u64, 0u64);
    let begin_ns = monotonic_ns();
    while made < events {
        let size = TICK.min((events - made) as usize);
        for (event, number) in tick.iter_mut().zip(made..made + size as u64) {
            // A multiplicative generator spreads the units without a cost of its own.
            let unit = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u32 % UNITS;
            *event = SpikeEvent::spike(number as i64 * STEP_NS, unit);
        }
        writer.spikes(&tick[..size]);
        made += size as u64;
        writer.clock(made as i64 * STEP_NS, 0);
        while bins.ingest() > 0 {
            while bins.close_next().is_some() {
                closed += 1;
            }
        }
    }
    let seconds = (monotonic_ns() - begin_ns) as f64 * 1e-9;
    let binned = bins.totals().binned;
    IngestReport {
        events,
        binned,
        bins: closed,
        seconds,
        events_per_s: binned as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_whole_bins_is_binned() {
        // 100 ms: 5 bins of 20 000 spikes.
        let report = ingest_benchmark(100_000);
        assert_eq!((report.events, report.binned, report.bins), (100_000, 100_000, 5));
    }
}
