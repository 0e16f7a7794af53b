//! Places for units that nobody listed: the first spike of such a unit takes one, for the rest of the run, and a network that computes
//! identities has one for it from the next calibration on.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

/// Longest name of a channel whose units can take a place, bytes.
const LONGEST_NAME: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Channel {
    Name(heapless::String<LONGEST_NAME>),
    Number(u32),
}

/// A unit that has taken a place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    channel: Channel,
    unit: u16,
}

/// The places, and who has taken them: by the source's thread, readable from any.
#[derive(Debug)]
pub struct SpareUnits {
    prefix: String,
    places: Box<[OnceLock<Taken>]>,
}

/// A place that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpareUnit {
    /// Id of the place among the run's units.
    pub id: String,
    /// The unit that has it, `CHANNEL:UNIT`.
    pub is: String,
}

impl SpareUnits {
    /// Ids of the places.
    pub fn ids(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.places.len()).map(|place| format!("{}spare:{place}", self.prefix))
    }

    /// The places that were taken, in the order in which they were.
    pub fn taken(&self) -> Vec<SpareUnit> {
        let taken = self.ids().zip(self.places.iter().filter_map(OnceLock::get));
        let spare = |(id, Taken { channel, unit }): (String, &Taken)| SpareUnit {
            id,
            is: match channel {
                Channel::Name(name) => format!("{}{name}:{unit}", self.prefix),
                Channel::Number(number) => format!("{}{number}:{unit}", self.prefix),
            },
        };
        taken.map(spare).collect()
    }
}

/// The source's end: gives the places away. Never allocates after [`Spares::new`].
#[derive(Clone, Debug)]
pub(super) struct Spares {
    shared: Arc<SpareUnits>,
    taken: usize,
    /// Index of the first place among the source's units.
    first: u32,
}

impl Spares {
    /// So many places behind the source's `listed` units, whose ids begin with `prefix`.
    pub(super) fn new(places: usize, listed: usize, prefix: &str) -> Self {
        let shared = SpareUnits {
            prefix: prefix.into(),
            places: (0..places).map(|_| OnceLock::new()).collect(),
        };
        Self {
            shared: Arc::new(shared),
            taken: 0,
            first: listed as u32,
        }
    }

    pub(super) fn shared(&self) -> &Arc<SpareUnits> {
        &self.shared
    }

    /// The place of a unit of the channel with this name, a new one if it has none yet and one is left.
    pub(super) fn of_name(&mut self, channel: &str, unit: u16) -> Option<u32> {
        let has =
            |taken: &Taken| taken.unit == unit && matches!(&taken.channel, Channel::Name(name) if name == channel);
        self.found(has).or_else(|| {
            let channel = Channel::Name(heapless::String::try_from(channel).ok()?);
            self.take(Taken { channel, unit })
        })
    }

    /// The same, of the channel with this number.
    pub(super) fn of_number(&mut self, channel: u32, unit: u16) -> Option<u32> {
        let channel = Channel::Number(channel);
        let has = |taken: &Taken| taken.unit == unit && taken.channel == channel;
        self.found(has).or_else(|| self.take(Taken { channel, unit }))
    }

    fn found(&self, has: impl Fn(&Taken) -> bool) -> Option<u32> {
        let mut taken = self.shared.places[..self.taken].iter();
        let at = taken.position(|place| place.get().is_some_and(&has))?;
        Some(self.first + at as u32)
    }

    fn take(&mut self, unit: Taken) -> Option<u32> {
        // What is sorted as no unit has no identity.
        let place = self.shared.places.get(self.taken).filter(|_| unit.unit > 0)?;
        place.set(unit).ok()?;
        self.taken += 1;
        Some(self.first + self.taken as u32 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_unit_takes_a_place_until_none_is_left() {
        let mut spares = Spares::new(3, 10, "b/");
        let shared = spares.shared().clone();
        assert_eq!(shared.taken(), []);
        assert_eq!(spares.of_number(37, 2), Some(10));
        assert_eq!(spares.of_number(37, 0), None, "what is not sorted is no unit");
        assert_eq!(spares.of_name("A-001", 1), Some(11));
        assert_eq!(spares.of_name(&"x".repeat(65), 1), None);
        assert_eq!((spares.of_number(37, 2), spares.of_number(37, 1)), (Some(10), Some(12)));
        assert_eq!((spares.of_number(38, 1), spares.of_name("A-001", 1)), (None, Some(11)));
        let taken: Vec<_> = shared.taken().into_iter().map(|unit| (unit.id, unit.is)).collect();
        let expected = [
            ("b/spare:1", "b/37:2"),
            ("b/spare:2", "b/A-001:1"),
            ("b/spare:3", "b/37:1"),
        ];
        assert_eq!(taken, expected.map(|(id, is)| (id.to_string(), is.to_string())));
    }
}
