//! What came out behind a proxy, beside what went in.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use neurohorizon::acquire::replay::RecordedSpikes;
use neurohorizon::acquire::SpikeEvent;

/// Spikes that were to come, and others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Spikes of undamaged pieces; each has come, once for each time that it was handed on, in this order.
    pub intact: u64,
    /// Spikes that are in a damaged piece as they came out of it.
    pub of_damaged: u64,
    /// Spikes that nobody sent.
    pub wrong: u64,
}

/// Spikes as (time, unit) on the run's clock.
pub struct Sent<'a, F> {
    recorded: &'a RecordedSpikes,
    on_the_wire: F,
    offset: i64,
}

impl<'a, F: Fn(i64) -> i64> Sent<'a, F> {
    /// What was sent, where the first that came is the first that was sent.
    pub fn new(recorded: &'a RecordedSpikes, received: &[SpikeEvent], on_the_wire: F) -> Self {
        let offset = received[0].time_ns - on_the_wire(recorded.times_ns[0]);
        Self {
            recorded,
            on_the_wire,
            offset,
        }
    }

    fn spike(&self, number: u64) -> (i64, u32) {
        let number = number as usize;
        let time = (self.on_the_wire)(self.recorded.times_ns[number]);
        (time + self.offset, self.recorded.units[number])
    }

    /// Checks that every spike of `delivered` has come, in that order, and says what has come between them.
    pub fn judge(
        &self,
        received: &[SpikeEvent],
        delivered: impl IntoIterator<Item = Range<u64>>,
        damaged: impl IntoIterator<Item = Range<u64>>,
    ) -> Judgement {
        let mut left = HashMap::new();
        for number in damaged.into_iter().flatten() {
            *left.entry(self.spike(number)).or_insert(0u64) += 1;
        }
        let mut judgement = Judgement::default();
        let mut received = received.iter().map(|event| (event.time_ns, event.unit));
        let mut other = |spike: (i64, u32), judgement: &mut Judgement| match left.get_mut(&spike) {
            Some(count @ 1..) => {
                *count -= 1;
                judgement.of_damaged += 1;
            }
            _ => judgement.wrong += 1,
        };
        for number in delivered.into_iter().flatten() {
            let wanted = self.spike(number);
            loop {
                match received.next() {
                    Some(spike) if spike == wanted => break,
                    Some(spike) => other(spike, &mut judgement),
                    None => panic!("spike {number}, {wanted:?}, was handed on and has not come: {judgement:?}"),
                }
            }
            judgement.intact += 1;
        }
        received.for_each(|spike| other(spike, &mut judgement));
        judgement
    }
}

/// Of pieces in the order of their arrival, the first of each: what remains where duplicates are told apart.
pub fn first_of_each(delivered: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut seen = HashSet::new();
    delivered
        .iter()
        .filter(move |events| !events.is_empty() && seen.insert(events.start))
        .cloned()
}

/// The numbers that are not in `without`, of `count`, as ranges of one.
pub fn all_but(count: u64, without: impl Fn(u64) -> bool) -> impl Iterator<Item = Range<u64>> {
    (0..count)
        .filter(move |&number| !without(number))
        .map(|number| number..number + 1)
}
