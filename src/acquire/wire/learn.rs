//! A device's units, learned from what it sends before the run.

use super::super::host_time::monotonic_ns;
use super::super::{EventSink, Poll, Source, SourceError, SpikeEvent};
use super::device::{Device, DeviceLink};

/// What was heard of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Spikes of each unit, in the order of the source's units.
    pub spikes: Vec<u64>,
    /// In so many seconds, from the first spike on.
    pub seconds: f64,
}

/// Counts spikes by unit.
#[derive(Default)]
struct Counts(Vec<u64>);

impl EventSink for Counts {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        for spike in spikes {
            let unit = spike.unit as usize;
            self.0.resize(self.0.len().max(unit + 1), 0);
            self.0[unit] += 1;
        }
    }

    fn sample(&mut self, _: usize, _: i64, _: &[f32]) {}

    fn clock(&mut self, _: i64, _: i64) {}
}

impl<L: DeviceLink> Device<L> {
    /// Listens for `seconds` after the first spike, and lists every unit of which one came; `waiting` is called now and then
    /// until that first spike, and may give up by saying false.
    ///
    /// # Errors
    /// What the source fails with; no spike.
    pub fn learn(&mut self, seconds: f64, mut waiting: impl FnMut() -> bool) -> Result<Learned, SourceError> {
        let mut counts = Counts::default();
        let begin_ns = monotonic_ns();
        self.start(begin_ns);
        let (mut first_ns, mut now_ns) = (None, begin_ns);
        while first_ns.is_none_or(|first| now_ns < first + (seconds * 1e9) as i64) {
            let poll = self.poll(now_ns, &mut counts)?;
            now_ns = monotonic_ns();
            if first_ns.is_none() && !counts.0.is_empty() {
                first_ns = Some(now_ns);
            }
            if poll == Poll::Finished || first_ns.is_none() && !waiting() {
                break;
            }
        }
        let order = self.collector.units_mut().learned();
        if order.is_empty() {
            return Err(SourceError::Invalid {
                name: self.name().to_string(),
                problem: "no spike came that units could be learned from".into(),
            });
        }
        let had = |&old: &u32| counts.0.get(old as usize).copied().unwrap_or(0);
        let learned = Learned {
            spikes: order.iter().map(had).collect(),
            seconds: (now_ns - first_ns.unwrap_or(begin_ns)) as f64 * 1e-9,
        };
        self.collector.begin_anew();
        Ok(learned)
    }
}
