//! A recording that is played again and again.

use std::path::PathBuf;

use neurohorizon::data::Recording;

use super::schedule::Packet;

/// A recording's spikes.
#[derive(Clone, Debug, PartialEq)]
pub struct Looped {
    /// Time since the first, ns, and unit, in order of time.
    spikes: Vec<(i64, u32)>,
    /// Number of units.
    pub units: u32,
    /// From one beginning to the next, ns.
    length_ns: i64,
}

impl Looped {
    /// The neuropixels recording of the shared data.
    ///
    /// # Errors
    /// Where it is absent or cannot be read.
    pub fn neuropixels() -> Result<Self, String> {
        let shared = std::env::var_os("NEUROHORIZON_SHARED");
        let shared = shared.map_or_else(|| crate::root().join("../shared"), PathBuf::from);
        let recording = Recording::load(shared.join("data/neuropixels.npz")).map_err(|error| error.to_string())?;
        let units = recording.unit_ids.len() as u32;
        let spikes = recording.spike_times_ns.into_iter().zip(recording.spike_units);
        Self::new(spikes.collect(), units)
    }

    /// Of these spikes, in order of time.
    ///
    /// # Errors
    /// Where there are none.
    pub fn new(mut spikes: Vec<(i64, u32)>, units: u32) -> Result<Self, String> {
        let (Some(&(first, _)), Some(&(last, _))) = (spikes.first(), spikes.last()) else {
            return Err("a recording without spikes cannot be played".into());
        };
        spikes.iter_mut().for_each(|(time, _)| *time -= first);
        // As far apart as spikes are on average.
        let length_ns = (last - first) + ((last - first) / spikes.len() as i64).max(1);
        Ok(Self {
            spikes,
            units,
            length_ns,
        })
    }

    /// Mean rate, spikes/s.
    pub fn rate_hz(&self) -> f64 {
        self.spikes.len() as f64 / (self.length_ns as f64 * 1e-9)
    }

    /// A packet a spike, without end, from `begin_ns` on.
    pub fn packets(&self, begin_ns: i64) -> impl Iterator<Item = Packet> + '_ {
        let rounds = (0..).map(move |round: i64| begin_ns + round * self.length_ns);
        rounds.flat_map(move |begin_ns| {
            self.spikes.iter().map(move |&(time_ns, unit)| Packet {
                at_ns: begin_ns + time_ns,
                spikes: 1,
                unit: Some(unit),
                closing: false,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_again_where_it_ended() {
        let looped = Looped::new(vec![(100, 0), (150, 1), (190, 0)], 2).unwrap();
        let times: Vec<(i64, Option<u32>)> = looped
            .packets(1_000)
            .take(5)
            .map(|packet| (packet.at_ns, packet.unit))
            .collect();
        let expected = [(1_000, 0), (1_050, 1), (1_090, 0), (1_120, 0), (1_170, 1)];
        assert_eq!(times, expected.map(|(time, unit)| (time, Some(unit))));
        assert!(Looped::new(Vec::new(), 2).is_err());
    }
}
